"""A prefix of a bucket as a place for retrieved files.

A file is held here until it is whole, in memory while it is small and on the disk otherwise, and is then uploaded: an
object appears whole or not at all, and Cloud Storage compares its checksum. The object says of itself what it holds and
with which bytes, so that a later retrieval knows it again; another version under its name has no such words.

Source: https://cloud.google.com/storage/docs/metadata (custom metadata); https://cloud.google.com/storage/docs/consistency
"""

from __future__ import annotations

import base64
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import BinaryIO, Protocol, Self, cast

from airflow_dicomweb.dicomweb.folders import Kept
from airflow_dicomweb.dicomweb.incoming import Incoming, writing
from airflow_dicomweb.dicomweb.marks import Mark
from airflow_dicomweb.errors import NotFoundError
from airflow_dicomweb.healthcare.bodies import GcsPrefix
from airflow_dicomweb.healthcare.gcs_objects import GcsObject

IN_MEMORY = 2**20
"""Bytes up to which a file is held in memory until it is uploaded."""

_CONTENT_TYPES = {
    ".dcm": "application/dicom",
    ".png": "image/png",
    ".jpg": "image/jpeg",
    ".json": "application/dicom+json",
}


class Objects(Protocol):
    """What is asked of Cloud Storage; ``Buckets`` has it."""

    def list_prefix(self, prefix: GcsPrefix) -> Iterator[GcsObject]:
        """List a folder."""
        ...

    def upload(self, bucket: str, name: str, source: BinaryIO, content_type: str, *, mark: str) -> None:
        """Write an object."""
        ...

    def exists_bucket(self, name: str) -> bool:
        """Tell whether a bucket is there."""
        ...


class BucketPlace:
    """Where files go below a prefix of a bucket.

    :param buckets: Cloud Storage.
    :param prefix: The prefix.
    :param workers: Files uploaded at the same time.
    """

    def __init__(self, buckets: Objects, prefix: GcsPrefix, workers: int) -> None:
        self._buckets, self._prefix = buckets, prefix
        self._pool = ThreadPoolExecutor(workers, "upload")
        # So many wait for their upload at most: more would only be held.
        self._slots = threading.BoundedSemaphore(2 * workers)
        # The library holds several blocks of a large upload.
        self._large = threading.Lock()
        self._lock = threading.Lock()
        self._kept: dict[str, Kept] = {}
        self._uploads: list[Future[None]] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def check(self, names: Iterable[str]) -> None:
        """See that the bucket is there; whether objects may be written to it, only writing tells.

        :raises NotFoundError: If it is not.
        """
        if not self._buckets.exists_bucket(self._prefix.bucket):
            raise NotFoundError(404, "GET", f"gs://{self._prefix.bucket}", "the bucket of the destination is not there")

    def may_hold(self, folder: str) -> bool:
        """Tell whether there are objects below this name."""
        prefix = GcsPrefix(self._prefix.bucket, f"{self._prefix.prefix}{folder}/")
        return next(self._buckets.list_prefix(prefix), None) is not None

    def look(self, candidates: Iterable[tuple[str, str]]) -> None:
        """Find what an earlier retrieval brought, and is whole: objects that say so of themselves."""
        keys = {f"{self._prefix.prefix}{name}": (key, name) for key, name in candidates}
        for folder in sorted({name.partition("/")[0] for _, name in keys.values()}):
            for found in self._buckets.list_prefix(GcsPrefix(self._prefix.bucket, f"{self._prefix.prefix}{folder}/")):
                key, name = keys.get(found.name, ("", ""))
                mark = Mark.parse(found.mark)
                if key and mark is not None and mark == Mark(key, found.size, _hexadecimal(found.crc32c)):
                    self._kept[key] = self._entry(name, found.size)

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the files that are whole."""
        with self._lock:
            return frozenset(self._kept)

    def begin(self) -> Incoming:
        """Begin a file."""
        with writing():
            return Incoming(cast("BinaryIO", tempfile.SpooledTemporaryFile(IN_MEMORY)))

    def keep(self, incoming: Incoming, key: str, name: str) -> None:
        """Upload a file: it is whole. Waits if too many are waiting already."""
        self._slots.acquire()
        future = self._pool.submit(self._upload, incoming, key, name)
        future.add_done_callback(lambda _: self._done(incoming))
        with self._lock:
            self._uploads.append(future)

    def drop(self, keys: Collection[str]) -> None:
        """Do nothing: an object has its name when it is there, and is whole."""

    def settle(self) -> None:
        """Wait for the uploads.

        :raises DicomWebError: If one failed.
        """
        with self._lock:
            waiting, self._uploads = self._uploads, []
        for failed in [error for future in waiting if (error := future.exception()) is not None]:
            raise failed

    def finish(self) -> dict[str, Kept]:
        """Give the files, which have their names."""
        self.settle()
        return dict(self._kept)

    def _upload(self, incoming: Incoming, key: str, name: str) -> None:
        kind = _CONTENT_TYPES.get(f".{name.rpartition('.')[2]}", "application/octet-stream")
        with self._large if incoming.size > IN_MEMORY else nullcontext():
            self._buckets.upload(
                self._prefix.bucket,
                f"{self._prefix.prefix}{name}",
                incoming.rewound(),
                kind,
                mark=str(incoming.mark(key)),
            )
        with self._lock:
            self._kept[key] = self._entry(name, incoming.size)

    def _done(self, incoming: Incoming) -> None:
        incoming.discard()
        self._slots.release()

    def _entry(self, name: str, size: int) -> Kept:
        return Kept(name, f"gs://{self._prefix.bucket}/{self._prefix.prefix}{name}", size)


def _hexadecimal(crc32c: str) -> str:
    """Write a checksum of Cloud Storage as marks have it."""
    return base64.b64decode(crc32c).hex() if crc32c else ""
