"""Sending instances, and judging what became of each.

What an outcome rests on:

- A server that reports conflicts is believed. For one that does not (``habits.py``), the stored bytes are
  fetched: they are the same or not.
- What was sent and is in an answer neither as referenced nor as failed was not stored. It is sent once more, alone, so
  that a bad neighbour does not decide over it.
- An instance that is both referenced and failed was not stored.
- An instance that a search names and that cannot be fetched is not sent: what is there could be lost.
- What was sent and got no answer, or one that cannot be read, may be stored: it is looked for (``lost_answers.py``).

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from airflow_dicomweb.dicomweb.answers import Answer, server_words
from airflow_dicomweb.dicomweb.batches import Item, SourceFailed
from airflow_dicomweb.dicomweb.habits import ServerHabits
from airflow_dicomweb.dicomweb.qido import check_count
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import ON_CONFLICT, VERIFY, InstanceOutcome, Outcome, check_choice
from airflow_dicomweb.dicomweb.stow_answers import PROCESSING_FAILURE, Failure, read_answer
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.dicomweb.wado import digest
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    DicomWebError,
    ProtocolError,
    ResponseError,
    TransportError,
)

# An instance over which a server breaks must not stop the others; a server that breaks over each of them must be left alone.
_CRASHES = frozenset({500, 501})
_MOST_CRASHES = 3
# Statuses that come when a request was taken up and its answer was lost on the way, or within the server.
_TAKEN_UP = frozenset({500, 502, 504})

InstanceIds = set[tuple[str, str]]
"""Series and SOP Instance UIDs of the instances of a study."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreOptions:
    """How to store; see ``DicomWebClient.store``.

    :raises ConfigurationError: If a value is out of its range.
    """

    study: str | None = None
    workers: int = 4
    batch_bytes: int = 64 * 2**20
    batch_count: int = 50
    storage_class: str | None = None
    on_conflict: str = "fail"
    verify: str = "response"

    def __post_init__(self) -> None:
        if self.study is not None:
            check_uid(self.study, "StudyInstanceUID")
        for name in ("workers", "batch_bytes", "batch_count"):
            check_count(getattr(self, name), name, least=1)
        check_choice(self.on_conflict, "on_conflict", ON_CONFLICT)
        check_choice(self.verify, "verify", VERIFY)


class StoreServer(Protocol):
    """What storing needs of a server; each method is called from several threads."""

    habits: ServerHabits

    def post(self, batch: Sequence[Item], options: StoreOptions) -> Answer:
        """Send instances in one request; what a server says about instances comes with error statuses too."""
        ...

    def instances_of(self, study: str) -> InstanceIds:
        """Search for the instances of a study; a study that is not there has none."""
        ...

    def digest_of(self, path: InstancePath) -> str | None:
        """Fetch an instance and give the SHA-256 of its bytes; None if it is not there."""
        ...


LostAnswer = tuple[Item, DicomWebError]
"""An instance that was sent, and what came instead of an answer from which its fate could be read."""


class Sender:
    """Sends instances from any number of threads, and gives the outcome of each.

    :param server: Where to.
    :param options: How.
    """

    def __init__(self, server: StoreServer, options: StoreOptions) -> None:
        self._server, self._options = server, options
        self.answered = False
        """An instance's fate was read from an answer."""
        self.stop: DicomWebError | None = None
        """Why nothing more is sent: the server cannot be reached, or refuses the sender."""
        self.error: DicomWebError | None = None
        """The first error of all."""
        self.lost: list[LostAnswer] = []
        """What was sent and may be stored: it has no outcome yet."""
        self._crashes = 0

    def send(self, batch: Sequence[Item]) -> list[InstanceOutcome]:
        """Send instances of different SOP Instance UIDs in one request, and again alone where that leaves questions."""
        if self.stop is not None:
            return self.failed(batch, f"not sent: {self.stop}")
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
                return self._each_alone(batch)
            self._crashes += 1
        else:
            self.note(error)
        if isinstance(error, TransportError | ProtocolError) or status in _TAKEN_UP:
            self.lost += [(item, error) for item in batch]
            return []
        return self.failed(batch, str(error), code=status)

    def _each_alone(self, batch: Sequence[Item]) -> list[InstanceOutcome]:
        return [outcome for item in batch for outcome in self.send([item])]

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
        referenced, failed = (said.referenced, said.failed) if said is not None else ({}, {})
        outcomes, open_questions = [], []
        for item in batch:
            # One that the server could not read has no name there; alone, it is known which one that is.
            failure = failed.get(item.path.instance) or (failed.get("") if len(batch) == 1 else None)
            if failure is not None:
                outcomes.append(self._refused(item, failure))
            elif item.path.instance in referenced:
                outcome: Outcome = "identical" if item.existed else "created"
                outcomes.append(outcome_of(item, outcome, warning=referenced[item.path.instance]))
            else:
                open_questions.append(item)
        self.answered = self.answered or bool(outcomes) or len(batch) == 1
        self._crashes = 0
        if len(batch) > 1:
            return outcomes + self._each_alone(open_questions)
        words = server_words(answer) if said is None else ""
        reason = f"the server answered {answer.status} and does not name it{f': {words}' if words else ''}"
        return outcomes + self.failed(open_questions, reason, code=answer.status)

    def _refused(self, item: Item, failure: Failure) -> InstanceOutcome:
        conflict = failure.is_conflict
        if self._server.habits.reports_conflicts:
            conflict = conflict or (item.existed and failure == Failure(PROCESSING_FAILURE))
        else:
            # An answer that was lost is enough for the next attempt to be refused as a duplicate of the first.
            stored = self._stored_digest(item)
            if stored is not None and stored == (item.sha256 or digest(item.read())):
                return outcome_of(item, "identical" if item.existed else "created")
            conflict = conflict or stored is not None
        reason = CONFLICT if conflict else f"the server refused it: {failure}"
        outcome: Outcome = "conflict" if conflict else "failed"
        return outcome_of(item, outcome, reason=reason, code=failure.code, detail=failure.detail)

    def _stored_digest(self, item: Item) -> str | None:
        try:
            return self._server.digest_of(item.path)
        except DicomWebError:
            return None

    def compare(self, item: Item) -> list[InstanceOutcome]:
        """Compare an instance that the server has with what it has; nothing is sent unless it is gone."""
        if self.stop is not None:
            return self.failed([item], f"not sent: {self.stop}")
        try:
            stored = self._server.digest_of(item.path)
            if stored is None:
                # A server that finds two of them, in two studies, gives neither; only what a search does not name is gone.
                if (item.path.series, item.path.instance) in self._server.instances_of(item.path.study):
                    self.answered = True
                    return self.failed([item], NOT_GIVEN)
                item.existed = False
                return self.send([item])
            same = digest(item.read()) == stored
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
        return [outcome_of(item, "identical") if same else outcome_of(item, "conflict", reason=CONFLICT)]

    def verify_existence(self, accepted: Sequence[InstanceOutcome]) -> list[InstanceOutcome]:
        """Search again for accepted instances of one study, and fail those that are not found."""
        paths = [outcome.path for outcome in accepted if outcome.path]
        try:
            found = self._server.instances_of(paths[0].study)
        except DicomWebError as error:
            return [_not_verified(outcome, f"it cannot be searched for: {error}") for outcome in accepted]
        return [
            outcome
            if (path.series, path.instance) in found
            else _not_verified(outcome, "a search afterwards does not find it")
            for outcome, path in zip(accepted, paths, strict=True)
        ]

    def verify_bytes(self, outcome: InstanceOutcome) -> list[InstanceOutcome]:
        """Fetch an accepted instance, and fail it if its bytes are not the ones that were sent."""
        try:
            stored = self._server.digest_of(outcome.path) if outcome.path else None
        except DicomWebError as error:
            return [_not_verified(outcome, f"it cannot be fetched: {error}")]
        if stored == outcome.sha256:
            return [outcome]
        finding = "is not there afterwards" if stored is None else "has other bytes now"
        return [_not_verified(outcome, f"it {finding}")]


def is_unusable(error: DicomWebError) -> bool:
    """Tell whether an error is about the server as a whole, not about what was asked."""
    return error.retryable or isinstance(error, AuthorizationError | ConfigurationError)


NOT_GIVEN = "the server names it in a search but does not give it: it cannot be compared"
CONFLICT = "the server has other bytes under this identity, and keeps them"


def outcome_of(item: Item, outcome: Outcome, **more: Any) -> InstanceOutcome:
    """Give the outcome of an instance."""
    source = item.source
    return InstanceOutcome(
        source=source.name,
        ordinal=source.ordinal,
        path=item.path,
        outcome=outcome,
        bytes=source.size,
        sha256=item.sha256,
        **more,
    )


def unreadable(source: Source, outcome: Outcome, reason: str) -> InstanceOutcome:
    """Give the outcome of a source whose identity is not known."""
    return InstanceOutcome(
        source=source.name, ordinal=source.ordinal, path=None, outcome=outcome, reason=reason, bytes=source.size
    )


def _not_verified(outcome: InstanceOutcome, finding: str) -> InstanceOutcome:
    return replace(outcome, outcome="failed", reason=f"the server accepted it, but {finding}")
