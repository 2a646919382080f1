"""What goes over the wire in each transaction: paths, headers, and what is read from the answers.

Source: DICOM PS3.18 chapter 10 (Studies service), section 8.3.4.4 (paging and its Warning header).
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO

from airflow_dicomweb.dicomweb.answers import Answer, StreamedAnswer
from airflow_dicomweb.dicomweb.batches import Item, SingleBody, body_of
from airflow_dicomweb.dicomweb.comparing import same_data_set
from airflow_dicomweb.dicomweb.dicom_json import DicomJson, check_answer, text
from airflow_dicomweb.dicomweb.habits import STANDARD, ServerHabits, recognise
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON
from airflow_dicomweb.dicomweb.multipart import Body, Event
from airflow_dicomweb.dicomweb.paging import all_pages
from airflow_dicomweb.dicomweb.qido import FIELDS, Level, Page, Query, search_path, search_query
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.settling import InstanceIds
from airflow_dicomweb.dicomweb.stow import StoreOptions
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.dicomweb.uids import is_uid
from airflow_dicomweb.dicomweb.wado import (
    ACCEPT_STORED,
    ACCEPT_STORED_SINGLE,
    check_whole,
    digest,
    only_part,
    parts,
)
from airflow_dicomweb.errors import NotFoundError, ProtocolError, ResponseError, UnavailableError

# Answers with these may say of each instance what became of it; with others nothing was taken up.
_ABOUT_INSTANCES = frozenset({400, 406, 409, 411, 412, 413, 415, 422})


@dataclass(frozen=True, slots=True)
class Places:
    """Where the services are, relative to the transport's base URL.

    :param qido: Prefix of searches.
    :param wado: Prefix of retrievals.
    :param stow: Prefix of stores.
    """

    qido: str = ""
    wado: str = ""
    stow: str = ""


class Exchanges:
    """The requests of a client; safe for several threads.

    :param transport: Sends them.
    :param places: Where to.
    :param habits: What the server does differently from others; None if that is to be learned from its answers.
    """

    def __init__(self, transport: Transport, places: Places, habits: ServerHabits | None) -> None:
        self._transport, self._places = transport, places
        self.habits = STANDARD if habits is None else habits
        self._learning = habits is None
        self._lock = threading.RLock()

    def search(self, path: str, query: Query, limit: int, offset: int) -> Page:
        """Ask for one page of a search."""
        page = (("limit", str(limit)), *((("offset", str(offset)),) if offset else ()))
        answer = self._send(
            "GET", _join(self._places.qido, path), query=(*query, *page), headers={"Accept": DICOM_JSON}
        )
        found = [] if answer.status == 204 or not answer.content.strip() else check_answer(answer.json())
        # Another warning with the same number says that fuzzy matching is not supported.
        return found, "additional results" in answer.headers.get("Warning", "")

    def post(self, batch: Sequence[Item], options: StoreOptions) -> Answer:
        """Send instances in one request; such that are to replace others, with the method for that."""
        replacing = self.habits.takes_put and any(item.replaces for item in batch)
        body = body_of(batch, single_part=self.habits.single_part)
        return self.post_body(body, options, method="PUT" if replacing else "POST")

    def post_body(self, body: Body | SingleBody, options: StoreOptions, *, method: str = "POST") -> Answer:
        """Send the body of a store request."""
        headers = {"Content-Type": body.content_type, "Accept": DICOM_JSON}
        if options.storage_class is not None:
            headers["Storage-Class"] = options.storage_class
        path = "studies" if options.study is None else str(StudyPath(options.study))
        return self._send(
            method, _join(self._places.stow, path), headers=headers, body=body, accept_errors=_ABOUT_INSTANCES
        )

    def instances_of(self, study: str) -> InstanceIds:
        """Search for the instances of a study: series and SOP Instance UID of each."""
        try:
            return {(path.series, path.instance) for path in self.named(StudyPath(study))}
        except NotFoundError:
            return set()

    def digest_of(self, path: InstancePath) -> str | None:
        """Fetch an instance as it is stored and give the SHA-256 of its bytes; None if it is not there."""

        def attempt() -> str:
            with self.stored(path) as events:
                return digest(only_part(events))

        try:
            return self._transport.retry_policy.run(attempt)
        except NotFoundError:
            return None

    def has_same(self, item: Item) -> bool | None:
        """Fetch an instance and tell whether it is what would be sent, as far as the server keeps that.

        :return: None if it is not there.
        :raises SourceFailed: If what would be sent cannot be read.
        """
        if self.habits.keeps_bytes:
            stored = self.digest_of(item.path)
            return None if stored is None else stored == item.digest()
        with tempfile.TemporaryFile() as theirs, item.opened() as ours:
            if self.copy(item.path, theirs) is None:
                return None
            return same_data_set(ours, theirs, rewritten=not self.habits.keeps_data_set)

    def copy(self, path: InstancePath, target: BinaryIO) -> str | None:
        """Fetch an instance as it is stored into a file, and give the SHA-256 of its bytes; None if it is not there."""

        def attempt() -> str:
            target.seek(0)
            target.truncate()
            with self.stored(path) as events:
                return digest(_through(target, only_part(events)))

        try:
            return self._transport.retry_policy.run(attempt)
        except NotFoundError:
            return None

    @property
    def retry_policy(self) -> RetryPolicy:
        """How often a retrieval that is read as it comes is repeated."""
        return self._transport.retry_policy

    @property
    def retrieve_root(self) -> str:
        """URL below which everything is that can be retrieved."""
        return _join(self._transport.base.text, self._places.wado)

    @contextmanager
    def stored(self, wanted: ResourcePath) -> Iterator[Iterator[Event]]:
        """Ask once for instances as they are stored, and give the parts of the answer."""
        single = isinstance(wanted, InstancePath) and self.habits.single_part
        with self.stream(str(wanted), ACCEPT_STORED_SINGLE if single else ACCEPT_STORED) as answer:
            yield parts(answer.blocks(), answer.headers.get("Content-Type"))

    @contextmanager
    def stream(self, path: str, accept: str, query: Query = ()) -> Iterator[StreamedAnswer]:
        """Ask once for something that is read as it comes.

        :param path: Below the prefix of retrievals, or a whole URL of the server.
        """
        where = path if "://" in path else _join(self._places.wado, path)
        with self._turn(), self._transport.stream("GET", where, query=query, headers={"Accept": accept}) as answer:
            self._learn(answer.headers)
            check_whole(answer.status, path)
            yield answer

    def get(self, path: str, accept: str, query: Query = ()) -> Answer:
        """Ask for something below an instance, series or study that is read whole."""
        answer = self._send("GET", _join(self._places.wado, path), query=query, headers={"Accept": accept})
        check_whole(answer.status, path)
        return answer

    def delete(self, path: ResourcePath) -> None:
        """Delete, at once; what is not there is deleted."""
        with suppress(NotFoundError):
            self.request_deletion(path)

    def request_deletion(self, path: ResourcePath) -> Answer:
        """Ask for a deletion, once: not sent again if it is not known whether the server got it."""
        place = _join(self._places.stow, str(path))
        return self._send("DELETE", place, headers={"Accept": "application/json"}, idempotent=False)

    def _send(self, method: str, path: str, **how: Any) -> Answer:
        with self._turn():
            answer = self._transport.send(method, path, **how)
        self._learn(answer.headers)
        return answer

    def _turn(self) -> AbstractContextManager[object]:
        """Wait for one's turn, if the server can do only one thing at a time."""
        return self._lock if self.habits.one_at_a_time else nullcontext()

    def _learn(self, headers: Mapping[str, str]) -> None:
        if self._learning and (found := recognise(headers)):
            self.habits, self._learning = found, False

    def named(self, wanted: ResourcePath) -> frozenset[InstancePath]:
        """Find the instances of a study or series by the server's own search."""
        if isinstance(wanted, InstancePath):
            return frozenset({wanted})
        if isinstance(wanted, SeriesPath):
            return self._instances(wanted.study, wanted.series)
        # A study that is not found is not there, or the server knows searches for the instances of a series only.
        with suppress(NotFoundError):
            if self.habits.searches_instances_of_study:
                return self._instances(wanted.study)
        found = [text(series, "SeriesInstanceUID") for series in self._found("series", wanted.study)]
        return frozenset(path for uid in found if is_uid(uid) for path in self._instances(wanted.study, uid))

    def counted(self, wanted: StudyPath | SeriesPath) -> int | None:
        """Ask how many instances a study or series has: of many, that takes a server far less than to name them.

        :return: None if it does not say so in a way that can only be meant so.
        """
        level: Level = "series" if isinstance(wanted, SeriesPath) else "studies"
        name = f"{'Series' if level == 'series' else 'Study'}InstanceUID"
        counter = f"NumberOf{name.removesuffix('InstanceUID')}RelatedInstances"
        path, uid = search_path(level, wanted.study if level == "series" else None), str(wanted).rpartition("/")[2]
        try:
            found, more = self.search(path, ((name, uid), (FIELDS, counter)), 2, 0)
        except (ProtocolError, ResponseError) as error:
            # It may know other searches.
            if isinstance(error, UnavailableError) and error.status != 500:
                raise
            return None
        count = text(found[0], counter) if len(found) == 1 and not more and text(found[0], name) == uid else ""
        return int(count) or None if count.isascii() and count.isdigit() else None

    def _instances(self, study: str, series: str | None = None) -> frozenset[InstancePath]:
        found = self._found("instances", study, series)
        uids = {(series or text(each, "SeriesInstanceUID"), text(each, "SOPInstanceUID")) for each in found}
        if any(not all(pair) for pair in uids):
            raise ProtocolError("a search for instances gave one without its SeriesInstanceUID or SOPInstanceUID")
        # A server may hold what has no usable UID; it is none of the instances that are looked for.
        return frozenset(InstancePath(study, *pair) for pair in uids if all(map(is_uid, pair)))

    def _found(self, level: Level, study: str, series: str | None = None) -> Iterator[DicomJson]:
        path, query = search_path(level, study, series), search_query(None, ["SeriesInstanceUID"])
        return all_pages(partial(self.search, path, query), limit=None)


def _join(prefix: str, path: str) -> str:
    return f"{prefix.strip('/')}/{path}" if prefix.strip("/") else path


def _through(target: BinaryIO, blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Write what passes to a file."""
    for block in blocks:
        target.write(block)
        yield block
