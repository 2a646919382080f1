"""Sending instances, and judging what became of each.

What an outcome rests on:

- A server that reports conflicts is believed. For one that does not (``habits.py``), the stored bytes are
  fetched: they are the same or not.
- What was sent and is in an answer neither as referenced nor as failed was not stored. It is sent once more, alone, so
  that a bad neighbour does not decide over it.
- What is not named alone either, or is named as stored and as refused, is looked for.
- An instance that a search names and that cannot be fetched is not sent: what is there could be lost.
- What was sent and got no answer, or one that cannot be read, may be stored: it is looked for (``lost_answers.py``).
- Other bytes under an identity are replaced only if that was asked for (``replacing.py``).

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any, Protocol

from airflow_dicomweb.dicomweb.answers import Answer, server_words
from airflow_dicomweb.dicomweb.batches import Item, SourceFailed, outcome_of
from airflow_dicomweb.dicomweb.habits import ServerHabits
from airflow_dicomweb.dicomweb.replacing import Replacing
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.retries import is_in_doubt
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreOptions
from airflow_dicomweb.dicomweb.stow_answers import PROCESSING_FAILURE, Failure, read_answer
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    DicomWebError,
    ProtocolError,
    ResponseError,
    TransportError,
)

__all__ = ["InstanceIds", "LostAnswer", "Sender", "StoreOptions", "StoreServer", "is_unusable"]

# An instance over which a server breaks must not stop the others; a server that breaks over each of them must be left alone.
_CRASHES = frozenset({500, 501})
_MOST_CRASHES = 3
# Statuses that come when a request was taken up and its answer was lost on the way, or within the server.
_TAKEN_UP = frozenset({500, 502, 504})
_TOO_LARGE = 413

InstanceIds = set[tuple[str, str]]
"""Series and SOP Instance UIDs of the instances of a study."""


class StoreServer(Protocol):
    """What storing needs of a server; each method is called from several threads."""

    @property
    def habits(self) -> ServerHabits:
        """In what it differs from others."""
        ...

    def post(self, batch: Sequence[Item], options: StoreOptions) -> Answer:
        """Send instances in one request; what a server says about instances comes with error statuses too."""
        ...

    def instances_of(self, study: str) -> InstanceIds:
        """Search for the instances of a study; a study that is not there has none."""
        ...

    def digest_of(self, path: InstancePath) -> str | None:
        """Fetch an instance and give the SHA-256 of its bytes; None if it is not there."""
        ...

    def has_same(self, item: Item) -> bool | None:
        """Fetch an instance and tell whether it is what would be sent; None if it is not there."""
        ...


class UnclearAnswerError(ProtocolError):
    """An answer that can be read, and leaves open what became of an instance.

    :param status: HTTP status.
    :param finding: What it says of the instance.
    """

    def __init__(self, status: int, finding: str) -> None:
        self.status = status
        super().__init__(f"the server answered {status} and {finding}")


LostAnswer = tuple[Item, DicomWebError]
"""An instance that was sent, and what came instead of an answer from which its fate could be read."""


class Sender:
    """Sends instances from any number of threads, and gives the outcome of each.

    :param server: Where to.
    :param options: How.
    :param replacing: Replaces other bytes of the same identity; None to leave them.
    """

    def __init__(self, server: StoreServer, options: StoreOptions, replacing: Replacing | None = None) -> None:
        self._server, self._options, self._replacing = server, options, replacing
        self.answered = False
        """An instance's fate was read from an answer."""
        self.stop: DicomWebError | None = None
        """Why nothing more is sent: the server cannot be reached, or refuses the sender."""
        self.error: DicomWebError | None = None
        """The first error of all."""
        self.lost: list[LostAnswer] = []
        """What was sent and may be stored: it has no outcome yet."""
        self._crashes = 0
        self._too_large: int | None = None

    def send(self, batch: Sequence[Item]) -> list[InstanceOutcome]:
        """Send instances of different SOP Instance UIDs in one request, and again alone where that leaves questions."""
        # What was deleted for it must not be missing because others could not be sent.
        if self.stop is not None and not any(item.replaces for item in batch):
            return self.failed(batch, f"not sent: {self.stop}")
        if len(batch) > 1 and self._too_large is not None and _size_of(batch) >= self._too_large:
            return self._halves(batch)
        now = time.monotonic()
        for item in batch:
            item.began = item.began or now
        try:
            return self._judged(batch, self._server.post(batch, self._options))
        except SourceFailed as failed:
            rest = [item for item in batch if item is not failed.item]
            return self.failed([failed.item], failed.reason) + (self.send(rest) if rest else [])
        except DicomWebError as error:
            return self._unanswered(batch, error)

    def _unanswered(self, batch: Sequence[Item], error: DicomWebError) -> list[InstanceOutcome]:
        status = error.status if isinstance(error, ResponseError) else None
        if status in _CRASHES and self._crashes < _MOST_CRASHES:
            if len(batch) > 1:
                return self._each_alone(batch, error)
            self._crashes += 1
        else:
            self.note(error)
        if isinstance(error, TransportError | ProtocolError) or status in _TAKEN_UP or is_in_doubt(error):
            self.lost += [(item, error) for item in batch]
            return []
        return self.failed(batch, str(error), code=status)

    def _each_alone(self, batch: Sequence[Item], error: DicomWebError) -> list[InstanceOutcome]:
        """Send again what was sent together; what nothing more is sent of may be stored from then."""
        outcomes: list[InstanceOutcome] = []
        for item in batch:
            if self.stop is None:
                outcomes += self.send([item])
            else:
                self.lost.append((item, error))
        return outcomes

    def _halves(self, batch: Sequence[Item]) -> list[InstanceOutcome]:
        middle = len(batch) // 2
        return self.send(batch[:middle]) + self.send(batch[middle:])

    def note(self, error: DicomWebError, *, stop: bool = False) -> None:
        """Keep an error; all but unreadable answers stop what has not been sent yet."""
        self.error = self.error or error
        if stop or not isinstance(error, ProtocolError):
            self.stop = self.stop or error

    def failed(self, items: Sequence[Item], reason: str, **more: Any) -> list[InstanceOutcome]:
        """Give the same failure for several instances."""
        return [outcome_of(item, "failed", reason=reason, **more) for item in items]

    def _judged(self, batch: Sequence[Item], answer: Answer) -> list[InstanceOutcome]:
        said = read_answer(answer.content, answer.media_type)
        if said is None and answer.status < 300:
            named = answer.media_type.name or "no Content-Type"
            raise ProtocolError(
                f"{answer.request} was answered with {answer.status}, {named}, and no word on instances"
            )
        if said is None and answer.status == _TOO_LARGE:
            return self._larger_than_taken(batch, answer)
        referenced, failed = (said.referenced, said.failed) if said is not None else ({}, {})
        outcomes: list[InstanceOutcome] = []
        open_questions = []
        for item in batch:
            # One that the server could not read has no name there; alone, it is known which one that is.
            failure = failed.get(item.path.instance) or (failed.get("") if len(batch) == 1 else None)
            if failure is not None and item.path.instance in referenced:
                self.lost.append((item, UnclearAnswerError(answer.status, "names it as stored and as refused")))
            elif failure is not None:
                outcomes += self._refused(item, failure)
            elif item.path.instance in referenced:
                outcomes += self._accepted(item, referenced[item.path.instance])
            else:
                open_questions.append(item)
        self.answered = self.answered or bool(outcomes) or len(batch) == 1
        self._crashes = 0
        words = server_words(answer) if said is None else ""
        unnamed = UnclearAnswerError(answer.status, f"does not name it{f': {words}' if words else ''}")
        if len(batch) > 1:
            return outcomes + self._each_alone(open_questions, unnamed)
        self.lost += [(item, unnamed) for item in open_questions]
        return outcomes

    def _larger_than_taken(self, batch: Sequence[Item], answer: Answer) -> list[InstanceOutcome]:
        self.answered, size = True, _size_of(batch)
        if len(batch) > 1:
            self._too_large = min(size, self._too_large or size)
            return self._halves(batch)
        words = server_words(answer)
        reason = f"its {size} bytes are more than the server takes (413){f': {words}' if words else ''}"
        return self.failed(batch, reason, code=_TOO_LARGE)

    def _accepted(self, item: Item, warning: int | None) -> list[InstanceOutcome]:
        if self._replacing is not None:
            if item.replaces and (finding := self._replacing.finding(item)):
                return self.failed([item], finding)
            self._replacing.keep(item.path)
        return [outcome_of(item, "identical" if item.existed else "created", warning=warning)]

    def _refused(self, item: Item, failure: Failure) -> list[InstanceOutcome]:
        conflict = failure.is_conflict
        if self._server.habits.reports_conflicts:
            conflict = conflict or (item.existed and failure == Failure(PROCESSING_FAILURE))
        else:
            # An answer that was lost is enough for the next attempt to be refused as a duplicate of the first.
            same = self._has_same(item)
            if same:
                return self._accepted(item, None)
            conflict = conflict or same is not None
        if conflict:
            return self._conflicting(item, code=failure.code, detail=failure.detail)
        reason = f"the server refused it: {failure}"
        return [outcome_of(item, "failed", reason=reason, code=failure.code, detail=failure.detail)]

    def _conflicting(self, item: Item, **more: Any) -> list[InstanceOutcome]:
        """Replace what the server has, or leave it."""
        if self._replacing is None or item.replaces:
            return [outcome_of(item, "conflict", reason=CONFLICT, **more)]
        refusal = self._replacing.make_way(item)
        if refusal is not None:
            return [outcome_of(item, refusal.outcome, reason=refusal.reason)]
        return self.send([item])

    def _has_same(self, item: Item) -> bool | None:
        try:
            return self._server.has_same(item)
        except DicomWebError:
            return None

    def compare(self, item: Item) -> list[InstanceOutcome]:
        """Compare an instance that the server has with what it has; nothing is sent unless it is gone, or replaced."""
        if self.stop is not None:
            return self.failed([item], f"not sent: {self.stop}")
        item.began = time.monotonic()
        try:
            same = self._server.has_same(item)
            if same is None:
                # A server that finds two of them, in two studies, gives neither; only what a search does not name is gone.
                if (item.path.series, item.path.instance) in self._server.instances_of(item.path.study):
                    self.answered = True
                    return self.failed([item], NOT_GIVEN)
                item.existed = False
                return self.send([item])
        except SourceFailed as failed:
            return self.failed([item], failed.reason)
        except DicomWebError as error:
            # What is wrong with this instance need not be wrong with others.
            self._crashes += 1
            self.error = self.error or error
            if is_unusable(error) and (not error.retryable or self._crashes > _MOST_CRASHES):
                self.note(error)
            return self.failed([item], f"the server has it already, and it cannot be compared: {error}")
        self.answered, self._crashes = True, 0
        return self._accepted(item, None) if same else self._conflicting(item)


def is_unusable(error: DicomWebError) -> bool:
    """Tell whether an error is about the server as a whole, not about what was asked."""
    return error.retryable or isinstance(error, AuthorizationError | ConfigurationError)


def _size_of(batch: Sequence[Item]) -> int:
    return sum(item.source.size for item in batch)


NOT_GIVEN = "the server names it in a search but does not give it: it cannot be compared"
CONFLICT = "the server has other bytes under this identity, and keeps them"
