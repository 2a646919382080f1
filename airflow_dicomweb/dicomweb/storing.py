"""Storing many instances: what is sent when, and by whom.

Every source gets exactly one outcome (``settling.py`` says what it rests on).

- Existence is asked before an instance is sent, by one search a study: ``created`` and ``identical`` differ in that. For
  a server that does not report conflicts, an instance that exists is not sent but compared.
- Two instances of one SOP Instance UID are never under way together: the later one in the listing waits for the next
  round. So the first wins, whatever the threads do.
- Batches are sent by a few threads while the next ones are listed and read: nothing waits in memory but what is being
  sent next.
- A study that the server cannot search fails alone; if the server protects what it has, its instances are sent all the
  same.
- When the server cannot be reached, or refuses the sender, the rest fails without being sent. The error itself is raised
  only if no answer was read at all.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import groupby
from typing import Any

from airflow_dicomweb.dicomweb.batches import Item, batches
from airflow_dicomweb.dicomweb.lost_answers import Lookup
from airflow_dicomweb.dicomweb.part10 import NotDicom, read_header
from airflow_dicomweb.dicomweb.settling import (
    InstanceIds,
    LostAnswer,
    Sender,
    StoreOptions,
    StoreServer,
    is_unusable,
    outcome_of,
    unreadable,
)
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreResult
from airflow_dicomweb.errors import DicomWebError

_log = logging.getLogger(__name__)

_CACHED_STUDIES = 64
_CANNOT_BE_ASKED = "the server cannot be asked whether it has it"

OnOutcome = Callable[[InstanceOutcome], object]


def store_all(
    server: StoreServer, sources: Iterable[Source], options: StoreOptions, on_outcome: OnOutcome | None = None
) -> StoreResult:
    """Store what can be stored, and say what became of each source.

    :param sources: Consumed as they are needed.
    :param on_outcome: Called in the caller's thread with each outcome, as soon as it is final.
    :raises DicomWebError: If the server could not be asked about a single instance.
    """
    start = time.monotonic()
    with ThreadPoolExecutor(options.workers, "dicomweb-store") as pool:
        run = _Run(server, options, pool, on_outcome or (lambda _: None))
        try:
            outcomes = run.run(sources)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    result = StoreResult(tuple(outcomes), time.monotonic() - start)
    _log.info(
        "stored %d sources in %.1f s: %d created, %d identical, %d conflict, %d failed, %d skipped",
        len(result.outcomes),
        result.seconds,
        result.created,
        result.identical,
        result.conflict,
        result.failed,
        result.skipped,
    )
    return result


class _Run:
    """One call; everything but the sending itself happens in the caller's thread."""

    def __init__(
        self, server: StoreServer, options: StoreOptions, pool: ThreadPoolExecutor, on_outcome: OnOutcome
    ) -> None:
        self._server, self._options, self._pool, self._on_outcome = server, options, pool, on_outcome
        self._sender = Sender(server, options)
        self._outcomes: list[InstanceOutcome] = []
        self._pending: set[Future[list[InstanceOutcome]]] = set()
        self._known: OrderedDict[str, InstanceIds | DicomWebError] = OrderedDict()
        self._verified = options.verify == "response"

    def run(self, sources: Iterable[Source]) -> list[InstanceOutcome]:
        lookup = Lookup(self._server)
        waiting = self._round(self._readable(sources))
        self._look_for_lost(lookup)
        while waiting:
            waiting = self._round(waiting)
            self._look_for_lost(lookup)
        if self._sender.error is not None and not self._sender.answered:
            raise self._sender.error
        if not self._verified:
            self._verify()
        return sorted(self._outcomes, key=lambda outcome: outcome.ordinal)

    def _round(self, items: Iterable[Item]) -> list[Item]:
        """Send what can be sent together; give what has to wait for the next round."""
        waiting: list[Item] = []
        for batch in batches(self._sendable(items, waiting), self._options.batch_bytes, self._options.batch_count):
            self._start(self._sender.send, batch)
        self._collect(0)
        return waiting

    def _readable(self, sources: Iterable[Source]) -> Iterator[Item]:
        for source in sources:
            try:
                with source.open() as stream:
                    item = Item(source, read_header(stream))
            except NotDicom as finding:
                self._record(unreadable(source, "skipped", str(finding)))
            except DicomWebError as finding:
                self._record(unreadable(source, "failed", str(finding)))
            except OSError as error:
                self._record(unreadable(source, "failed", f"it cannot be read: {error.strerror or error}"))
            else:
                yield item

    def _sendable(self, items: Iterable[Item], waiting: list[Item]) -> Iterator[Item]:
        claimed: set[str] = set()
        for item in items:
            if self._options.study not in {None, item.path.study}:
                self._record(
                    outcome_of(item, "failed", reason="it belongs to another study than the one to store into")
                )
            elif item.path.instance in claimed:
                waiting.append(item)
            else:
                claimed.add(item.path.instance)
                known = self._instances_of(item.path.study)
                if isinstance(known, DicomWebError):
                    self._record(outcome_of(item, "failed", reason=f"{_CANNOT_BE_ASKED}: {known}"))
                    continue
                item.existed = (item.path.series, item.path.instance) in known
                if item.existed and not self._server.habits.reports_conflicts:
                    self._start(self._sender.compare, item)
                else:
                    yield item

    def _instances_of(self, study: str) -> InstanceIds | DicomWebError:
        """Give what the server has of a study, or why that cannot be known."""
        if study not in self._known and self._sender.stop is None:
            self._known[study] = self._search(study)
            while len(self._known) > _CACHED_STUDIES:
                self._known.popitem(last=False)
        return self._known.get(study, set())

    def _search(self, study: str) -> InstanceIds | DicomWebError:
        try:
            return self._server.instances_of(study)
        except DicomWebError as error:
            if is_unusable(error):
                self._sender.note(error, stop=True)
            elif self._server.habits.reports_conflicts:
                _log.warning("new and identical instances of study %s will not be told apart: %s", study, error)
            else:
                self._sender.error = self._sender.error or error
                return error
        return set()

    def _start(self, job: Callable[[Any], list[InstanceOutcome]], argument: object) -> None:
        """Have something done by the pool; wait first if it has enough to do."""
        self._collect(2 * self._options.workers - 1)
        self._pending.add(self._pool.submit(job, argument))

    def _collect(self, most: int) -> None:
        """Take the outcomes of what is done, until no more than so much is under way."""
        while len(self._pending) > most:
            done, self._pending = wait(self._pending, return_when=FIRST_COMPLETED)
            for future in done:
                for outcome in future.result():
                    self._record(outcome)

    def _record(self, outcome: InstanceOutcome) -> None:
        self._outcomes.append(outcome)
        known = self._known.get(outcome.path.study) if outcome.path is not None else None
        if outcome.path is not None and outcome.outcome == "created" and isinstance(known, set):
            known.add((outcome.path.series, outcome.path.instance))
        if self._verified or not outcome.is_stored:
            self._on_outcome(outcome)

    def _look_for_lost(self, lookup: Lookup) -> None:
        """Look for what was sent without a readable answer, study by study."""
        lost, before = sorted(self._sender.lost, key=_study_of_lost), len(self._outcomes)
        self._sender.lost.clear()
        for study, group in groupby(lost, key=_study_of_lost):
            # What waits for the next round may have the identity of one that is there after all.
            self._known.pop(study, None)
            self._start(lookup.look_for, list(group))
        self._collect(0)
        if any(each.outcome != "failed" for each in self._outcomes[before:]):
            self._sender.answered = True

    def _verify(self) -> None:
        """Look again for everything that the server accepted."""
        accepted = sorted((each for each in self._outcomes if each.is_stored), key=_study_of)
        self._outcomes = [each for each in self._outcomes if not each.is_stored]
        self._verified = True
        for _, group in groupby(accepted, key=_study_of):
            if self._options.verify == "exists":
                self._start(self._sender.verify_existence, list(group))
            else:
                for outcome in group:
                    self._start(self._sender.verify_bytes, outcome)
        self._collect(0)


def _study_of_lost(lost: LostAnswer) -> str:
    return lost[0].path.study


def _study_of(outcome: InstanceOutcome) -> str:
    return outcome.path.study if outcome.path else ""
