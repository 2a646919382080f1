"""Storing many instances: what is sent when, and by whom.

Every source gets exactly one outcome (``settling.py`` says what it rests on).

- Existence is asked before an instance is sent, by one search a study: ``created`` and ``identical`` differ in that. For
  a server that does not report conflicts, an instance that exists is not sent but compared.
- Two instances of one SOP Instance UID are never under way together: the later one in the listing waits for the next
  round. So the first wins, whatever the threads do.
- Batches are sent by a few threads while the next ones are listed and read: nothing waits in memory but what is being
  sent next, and outcomes are kept only if they are wanted.
- A study that the server cannot search fails alone; if the server protects what it has, its instances are sent all the
  same.
- When the server cannot be reached, or refuses the sender, the rest fails without being sent. The error itself is raised
  only if no answer was read at all.
- What an earlier try of the same call has stored is not sent again, as long as the server's search names it. Where other
  bytes are replaced that is not enough: another source of the call may have taken its place since, or be about to.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from airflow_dicomweb.dicomweb.batches import Item, batches, outcome_of, unreadable
from airflow_dicomweb.dicomweb.entries import PlainFile
from airflow_dicomweb.dicomweb.known_studies import KnownStudies
from airflow_dicomweb.dicomweb.lost_answers import Lookup
from airflow_dicomweb.dicomweb.part10 import HEAD_SIZE, Header, NotDicom, ordinary_header, read_header
from airflow_dicomweb.dicomweb.replacing import Replacing
from airflow_dicomweb.dicomweb.settling import LostAnswer, Sender, StoreOptions, StoreServer
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreResult, Tally
from airflow_dicomweb.dicomweb.structure import check_structure
from airflow_dicomweb.dicomweb.verifying import Verifier
from airflow_dicomweb.errors import ConfigurationError, DicomWebError

_log = logging.getLogger(__name__)

_CANNOT_BE_ASKED = "the server cannot be asked whether it has it"
_VERIFIED_TOGETHER = 1000
_KEPT_REFUSALS = 1000

OnOutcome = Callable[[InstanceOutcome], object]
Earlier = Callable[[Source], InstanceOutcome | None]
"""Gives the outcome that a source had in an earlier try, if its bytes are still the same and were stored."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreHooks:
    """What a store call has to do with its caller.

    :param on_outcome: Called in the caller's thread with each outcome, as soon as it is final.
    :param earlier: What an earlier try has stored.
    """

    on_outcome: OnOutcome | None = None
    earlier: Earlier | None = None


def store_all(
    server: StoreServer,
    sources: Iterable[Source],
    options: StoreOptions,
    hooks: StoreHooks = StoreHooks(),
    replacing: Replacing | None = None,
) -> StoreResult:
    """Store what can be stored, and say what became of each source.

    :param sources: Consumed as they are needed.
    :param replacing: Replaces other bytes of the same identity; None to leave them.
    :raises ConfigurationError: If others are to be replaced, and there is nothing that does it.
    :raises DicomWebError: If the server could not be asked about a single instance.
    """
    if options.on_conflict == "replace" and replacing is None:
        raise ConfigurationError("on_conflict='replace' is not possible here: 'fail' or 'keep' is accepted")
    start = time.monotonic()
    with ThreadPoolExecutor(options.workers, "dicomweb-store") as pool:
        run = _Run(server, options, pool, hooks, replacing)
        try:
            run.run(sources)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
    result = StoreResult(run.outcomes(), time.monotonic() - start, run.tally)
    _log.info(
        "stored %d sources in %.1f s: %d created, %d identical, %d conflict, %d failed, %d skipped",
        result.total,
        result.seconds,
        result.created,
        result.identical,
        result.conflict,
        result.failed,
        result.skipped,
    )
    if run.tally.earlier:
        _log.info("%d of them were stored by an earlier try", run.tally.earlier)
    return result


class _Run:
    """One call; everything but the sending itself happens in the caller's thread."""

    def __init__(
        self,
        server: StoreServer,
        options: StoreOptions,
        pool: ThreadPoolExecutor,
        hooks: StoreHooks,
        replacing: Replacing | None,
    ) -> None:
        self._server, self._options, self._pool, self._hooks = server, options, pool, hooks
        self._sender = Sender(server, options, replacing)
        self._verifier = Verifier(server)
        self._known = KnownStudies(server, self._sender)
        self._pending: dict[Future[list[InstanceOutcome]], OnOutcome] = {}
        # SOP Instance UIDs under way, each with the position of its source, and those that others wait for.
        self._busy: dict[str, int] = {}
        self._awaited: set[str] = set()
        self._accepted: list[InstanceOutcome] = []
        self._outcomes: list[InstanceOutcome] = []
        self.tally = Tally()

    def run(self, sources: Iterable[Source]) -> None:
        lookup = Lookup(self._server)
        waiting = self._round(self._readable(sources))
        self._look_for_lost(lookup)
        while waiting:
            waiting = self._round(waiting)
            self._look_for_lost(lookup)
        if self._sender.error is not None and not self._sender.answered:
            raise self._sender.error
        self._verify()
        self._collect(0)

    def outcomes(self) -> tuple[InstanceOutcome, ...]:
        """Give what is kept, in the order of the listing."""
        return tuple(sorted(self._outcomes, key=lambda outcome: outcome.ordinal))

    def _round(self, items: Iterable[Item]) -> list[Item]:
        """Send what can be sent together; give what has to wait for the next round."""
        waiting: list[Item] = []
        self._busy, self._awaited = {}, set()
        for batch in batches(self._sendable(items, waiting), self._options.batch_bytes, self._options.batch_count):
            self._start(self._sender.send, batch)
            if len(self._accepted) >= _VERIFIED_TOGETHER:
                self._verify()
        self._collect(0)
        return waiting

    def _readable(self, sources: Iterable[Source]) -> Iterator[Item]:
        for source in sources:
            if self._was_stored(source):
                continue
            try:
                item = Item(source, _header_of(source), summed=self._summed)
            except NotDicom as finding:
                self._record(unreadable(source, "skipped", str(finding)))
            except DicomWebError as finding:
                self._record(unreadable(source, "failed", str(finding)))
            except OSError as error:
                self._record(unreadable(source, "failed", f"it cannot be read: {error.strerror or error}"))
            else:
                if flaw := self._flaw(source):
                    self._record(outcome_of(item, "failed", reason=flaw))
                else:
                    yield item

    def _flaw(self, source: Source) -> str:
        """Say why a file is not whole, if that was asked; an empty string if nothing is known against it."""
        if self._options.check != "structure":
            return ""
        try:
            with source.open() as stream:
                check_structure(stream)
        except DicomWebError as finding:
            return str(finding)
        except OSError as error:
            return f"it cannot be read: {error.strerror or error}"
        return ""

    @property
    def _summed(self) -> bool:
        return self._options.checksums or self._options.verify == "bytes"

    def _was_stored(self, source: Source) -> bool:
        """Take over what an earlier try has stored, if it is still there."""
        known = self._hooks.earlier if self._options.on_conflict != "replace" else None
        outcome = known(source) if known is not None else None
        if outcome is None or outcome.path is None or self._known.has(outcome.path) is not True:
            return False
        self._settle(outcome)
        return True

    def _sendable(self, items: Iterable[Item], waiting: list[Item]) -> Iterator[Item]:
        for item in items:
            uid = item.path.instance
            if self._options.study not in {None, item.path.study}:
                self._record(
                    outcome_of(item, "failed", reason="it belongs to another study than the one to store into")
                )
            elif uid in self._busy:
                waiting.append(item)
                self._awaited.add(uid)
            else:
                self._busy[uid] = item.source.ordinal
                existed = self._known.has(item.path)
                if isinstance(existed, DicomWebError):
                    self._record(outcome_of(item, "failed", reason=f"{_CANNOT_BE_ASKED}: {existed}"))
                    continue
                item.existed = existed
                if item.existed and not self._server.habits.reports_conflicts:
                    self._start(self._sender.compare, item)
                else:
                    yield item

    def _start(
        self, job: Callable[[Any], list[InstanceOutcome]], argument: object, then: OnOutcome | None = None
    ) -> None:
        """Have something done by the pool; wait first if it has enough to do."""
        self._collect(2 * self._options.workers - 1)
        self._pending[self._pool.submit(job, argument)] = then or self._record

    def _collect(self, most: int) -> None:
        """Take the outcomes of what is done, until no more than so much is under way."""
        while len(self._pending) > most:
            for future in wait(self._pending, return_when=FIRST_COMPLETED).done:
                then = self._pending.pop(future)
                for outcome in future.result():
                    then(outcome)

    def _record(self, outcome: InstanceOutcome) -> None:
        """Take what the server's answer made of a source."""
        path = outcome.path
        if path is not None:
            if self._busy.get(path.instance) == outcome.ordinal and path.instance not in self._awaited:
                del self._busy[path.instance]
            if outcome.outcome == "created":
                self._known.add(path)
        if outcome.is_stored and self._options.verify != "response":
            self._accepted.append(outcome)
        else:
            self._settle(outcome)

    def _settle(self, outcome: InstanceOutcome) -> None:
        """Take a final outcome."""
        self.tally.add(outcome)
        if self._options.keep_outcomes or (not outcome.is_stored and len(self._outcomes) < _KEPT_REFUSALS):
            self._outcomes.append(outcome)
        if self._hooks.on_outcome is not None:
            self._hooks.on_outcome(outcome)

    def _look_for_lost(self, lookup: Lookup) -> None:
        """Look for what was sent without a readable answer, study by study."""
        lost = sorted(self._sender.lost, key=_study_of_lost)
        self._sender.lost.clear()
        for study, group in groupby(lost, key=_study_of_lost):
            # What waits for the next round may have the identity of one that is there after all.
            self._known.forget(study)
            self._start(lookup.look_for, list(group))
        self._collect(0)
        self._sender.answered = self._sender.answered or lookup.answered

    def _verify(self) -> None:
        """Look again for what the server accepted since the last time."""
        accepted, self._accepted = sorted(self._accepted, key=_study_of), []
        for _, group in groupby(accepted, key=_study_of):
            if self._options.verify == "exists":
                self._start(self._verifier.existence, list(group), self._settle)
            else:
                for outcome in group:
                    self._start(self._verifier.bytes, outcome, self._settle)


def _header_of(source: Source) -> Header:
    """Read a header; that of an ordinary file without a stream, which costs more than the reading."""
    if isinstance(source.open, PlainFile):
        header = ordinary_header(source.open.beginning(HEAD_SIZE))
        if header is not None:
            return header
    with source.open() as stream:
        return read_header(stream)


def _study_of_lost(lost: LostAnswer) -> str:
    return lost[0].path.study


def _study_of(outcome: InstanceOutcome) -> str:
    return outcome.path.study if outcome.path else ""
