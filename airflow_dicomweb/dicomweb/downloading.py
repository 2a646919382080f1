"""Retrieving instances to files: what is asked for, in which order, and when all of it is there.

What is not there yet is asked for as a whole while nothing of it is there, which is the fastest way, and instance by
instance, several at a time, once something is. As long as instances arrive it goes on; an answer that is always cut at
the same place ends all the same, because what came whole is not asked for again.

A part of an answer counts as whole when the next part's headers, or the end, were seen behind it: a boundary inside an
instance, which would cut it short, is noticed by then. One whose elements or pixel data do not end inside it is asked for
again: what comes so twice is stored so.

Source: DICOM PS3.18 sections 10.4 (retrieve transaction) and 8.7.1 (multipart).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.folders import Place, arriving
from airflow_dicomweb.dicomweb.incoming import Incoming
from airflow_dicomweb.dicomweb.marks import Mark
from airflow_dicomweb.dicomweb.multipart import Event, PartData, PartEnd, PartStart
from airflow_dicomweb.dicomweb.part10 import UnusableFile, read_header
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.structure import check_structure
from airflow_dicomweb.dicomweb.wado import RetrievedFile, is_part_of
from airflow_dicomweb.errors import (
    AuthorizationError,
    DicomWebError,
    ProtocolError,
    ResponseError,
    TransportError,
)

T = TypeVar("T")

_log = logging.getLogger(__name__)


def name_of(instance: InstancePath) -> str:
    """Give the name of an instance's file below the destination."""
    return f"{instance.study}/{instance.series}/{instance.instance}.dcm"


def _folder_of(wanted: ResourcePath) -> str:
    return f"{wanted.study}/{wanted.series}" if isinstance(wanted, SeriesPath) else wanted.study


def download(
    exchanges: Exchanges, wanted: ResourcePath, place: Place, *, workers: int, resume: bool
) -> list[RetrievedFile]:
    """Write what is stored to files.

    :param resume: Whether what is there and whole is left as it is.
    """
    work = _Download(exchanges, wanted, place, workers)
    with place:
        if resume and (isinstance(wanted, InstancePath) or place.may_hold(_folder_of(wanted))):
            place.look((str(instance), name_of(instance)) for instance in sorted(work.named or ()))
        else:
            work.count()
        while_more_comes(exchanges.retry_policy, place, work.attempt)
        work.judge()
        kept = place.finish()
    found = sorted(work.instances(kept))
    return [RetrievedFile(kept[str(path)].location, path, kept[str(path)].size) for path in found]


def while_more_comes(policy: RetryPolicy, place: Place, attempt: Callable[[], None]) -> None:
    """Repeat an attempt by a policy, and that again as long as files arrive: then nothing is gained by giving up."""
    while True:
        before = len(place.keys)
        try:
            return policy.run(attempt)
        except DicomWebError as error:
            if not error.retryable or len(place.keys) <= before:
                raise
            _log.info("%s; %d files are whole by now: going on with the others", error, len(place.keys))


def in_parallel(
    items: Sequence[T], step: Callable[[T], None], workers: int, stop: threading.Event | None = None
) -> None:
    """Do something with each item, so many at a time; after the first error nothing more is begun.

    :param stop: Set when all of it ends from outside, such as by a signal: what has begun need not go on.
    """
    if len(items) <= 1 or workers == 1:
        for item in items:
            step(item)
        return
    with ThreadPoolExecutor(min(workers, len(items)), "retrieve") as pool:
        begun = [pool.submit(step, item) for item in items]
        try:
            for done in as_completed(begun):
                done.result()
        except DicomWebError:
            raise
        except BaseException:
            if stop is not None:
                stop.set()
            raise
        finally:
            for future in begun:
                future.cancel()


@dataclass(slots=True)
class _Arrival:
    incoming: Incoming
    instance: InstancePath
    flaw: str
    """Why it seems to be cut, or an empty string."""


class _Download:
    def __init__(self, exchanges: Exchanges, wanted: ResourcePath, place: Place, workers: int) -> None:
        self._exchanges, self._wanted, self._place, self._workers = exchanges, wanted, place, workers
        self._answered: set[ResourcePath] = set()
        self._came: set[InstancePath] = set()
        self._refusals: list[DicomWebError] = []
        # What seems to be cut, as it came last; and what of it was asked for again, alone.
        self._doubtful: dict[InstancePath, Mark] = {}
        self._repeated: set[ResourcePath] = set()
        self._lock, self._stop = threading.Lock(), threading.Event()
        self._count: int | None = None
        self._searched = False
        self._named: frozenset[InstancePath] | None = None
        self._problem = ""

    @property
    def named(self) -> frozenset[InstancePath] | None:
        """What the server's own search names, asked for once it is needed; None if it cannot be searched."""
        if not self._searched:
            self._search()
        return self._named

    def count(self) -> None:
        """Ask how many there are; where the server does not say that, which ones."""
        if not isinstance(self._wanted, InstancePath):
            self._count = self._exchanges.counted(self._wanted)
        if self._count is None:
            self._search()

    def instances(self, keys: Iterable[str]) -> frozenset[InstancePath]:
        """Give the instances of these keys."""
        found = set(keys)
        return frozenset(path for path in self._came | (self._named or set()) if str(path) in found)

    def attempt(self) -> None:
        """Ask for all that is missing, in ever smaller pieces."""
        while pieces := self._pieces():
            again = self._doubtful.keys() & set(pieces)
            try:
                in_parallel(pieces, self._fetch, self._workers, self._stop)
            finally:
                # What came before something failed counts when it is asked what is missing.
                self._place.settle()
            self._answered.update(pieces)
            self._repeated.update(again)

    def judge(self) -> None:
        """Compare what came with what the server's own search names.

        :raises ProtocolError: If there is a difference.
        """
        if self._is_counted():
            return
        if self.named is None:
            _log.warning(
                "the server's search for the instances of %s cannot be used (%s): whether all of them came is known "
                "from the answer alone",
                self._wanted,
                self._problem,
            )
            return
        here = self.instances(self._place.keys)
        missing, unnamed = self.named - here, here - self.named
        if missing or unnamed:
            # What is stored meanwhile may have come, and what is deleted meanwhile need not.
            now = self._exchanges.named(self._wanted)
            missing, unnamed = missing & now, unnamed - now
        if missing or unnamed:
            self._place.drop([str(path) for path in unnamed])
            first = f"; {self._refusals[0]}" if missing and self._refusals else ""
            raise ProtocolError(
                f"what came of {self._wanted} is not what the server's own search names: "
                f"{len(missing)} instances are missing, {len(unnamed)} are not named{first}"
            )

    def _search(self) -> None:
        try:
            self._named = self._exchanges.named(self._wanted)
        except ResponseError as error:
            if error.retryable or isinstance(error, AuthorizationError):
                raise
            self._problem = f"status {error.status}"
        self._searched = True

    def _is_counted(self) -> bool:
        """Tell whether as many are here as the server says that there are."""
        return self._count is not None and self._count == len(self.instances(self._place.keys))

    def _pieces(self) -> list[ResourcePath]:
        """Give what to ask for next."""
        if doubtful := self._doubtful.keys() - self._repeated:
            return sorted(doubtful, key=str)
        here = self.instances(self._place.keys)
        if not here and self._wanted not in self._answered:
            return [self._wanted]
        if self._is_counted():
            return []
        if not self.named:  # the answer tells what there is
            return [] if self._wanted in self._answered else [self._wanted]
        started = {path.series for path in here}
        pieces: set[ResourcePath] = set()
        for path in self.named - here:
            series = SeriesPath(path.study, path.series)
            pieces.add(path if path.series in started or series in {*self._answered, self._wanted} else series)
        return sorted(pieces - self._answered, key=str)

    def _fetch(self, piece: ResourcePath) -> None:
        """Ask for something; what the search named and the server does not give alone is judged in the end."""
        try:
            self._fetch_once(piece)
        except (ProtocolError, ResponseError) as error:
            if piece == self._wanted or error.retryable or isinstance(error, AuthorizationError):
                raise
            self._refusals.append(error)

    def _fetch_once(self, piece: ResourcePath) -> None:
        kept: list[str] = []
        try:
            with self._exchanges.stored(piece) as events, closing(self._arrivals(events, piece)) as arrivals:
                for each in arrivals:
                    if each.flaw and not self._came_twice(each):
                        continue
                    with self._lock:
                        self._came.add(each.instance)
                    kept.append(str(each.instance))
                    self._place.keep(each.incoming, str(each.instance), name_of(each.instance))
        except ProtocolError:
            # An answer of which something cannot be right is not believed in the rest either.
            self._place.drop(kept)
            raise

    def _came_twice(self, each: _Arrival) -> bool:
        """Tell whether something that seems to be cut came so before: then that is how it is stored."""
        path, mark = each.instance, each.incoming.mark(str(each.instance))
        with self._lock:
            before = self._doubtful.get(path)
            self._doubtful[path] = mark
        if mark == before:
            _log.warning("%s is incomplete, and that is how the server has it: %s", path, each.flaw)
            return True
        each.incoming.discard()
        if before is not None:
            raise TransportError(f"an instance came cut, each time elsewhere: {each.flaw}")
        return False

    def _arrivals(self, events: Iterator[Event], piece: ResourcePath) -> Generator[_Arrival]:
        """Give the instances of an answer, each when what follows it was seen to be in order."""
        held: _Arrival | None = None
        seen: set[InstancePath] = set()
        try:
            for event in events:
                if not isinstance(event, PartStart):
                    continue
                if held is not None:
                    ready, held = held, None
                    yield ready
                held = self._receive(event, events)
                if not is_part_of(held.instance, piece):
                    raise ProtocolError(f"{piece} was asked for, the answer holds {held.instance}")
                if held.instance in seen:
                    raise ProtocolError(f"the answer holds {held.instance} twice")
                seen.add(held.instance)
            if held is not None:
                ready, held = held, None
                yield ready
        finally:
            if held is not None:
                held.incoming.discard()

    def _receive(self, start: PartStart, events: Iterator[Event]) -> _Arrival:
        with arriving(self._place) as incoming:
            self._write(incoming, events)
            try:
                path = read_header(incoming.beginning()).path
            except UnusableFile as reason:
                raise ProtocolError(f"a part of the answer is not an instance: {reason}") from None
            # A part that says how long it is was compared with that; of others only the content tells.
            return _Arrival(incoming, path, "" if "content-length" in start.headers else _flaw(incoming))

    def _write(self, incoming: Incoming, events: Iterator[Event]) -> None:
        """Write the rest of a part to a file."""
        for event in events:
            if isinstance(event, PartEnd):
                return
            if self._stop.is_set():
                raise TransportError("the retrieval was stopped")
            if isinstance(event, PartData):
                incoming.write(event.data)


def _flaw(incoming: Incoming) -> str:
    try:
        check_structure(incoming.rewound())
    except UnusableFile as reason:
        return str(reason)
    return ""
