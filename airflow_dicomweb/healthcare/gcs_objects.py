"""One version of a Cloud Storage object, and reading it as a file.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects/get; https://cloud.google.com/storage/docs/hashes-etags
"""

from __future__ import annotations

import base64
import io
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_dicomweb.errors import TransportError

FIRST_BLOCK = 1024 * 1024
"""Bytes of an object's first request: whole for most slices, little more than needed for a header."""

BLOCK = 8 * 1024 * 1024
"""Bytes of every further request."""


MARK = "airflow-dicomweb"
"""Key of an object's metadata."""


@dataclass(frozen=True, slots=True)
class GcsObject:
    """One version of an object.

    :param bucket: Bucket name.
    :param name: Object name.
    :param size: Stored bytes.
    :param generation: Version; reading gives this one or nothing.
    :param crc32c: Checksum in base64, or an empty string if it is not known.
    :param mark: What :meth:`Buckets.upload` was told to say of it, or an empty string.
    """

    bucket: str
    name: str
    size: int
    generation: int
    crc32c: str = ""
    mark: str = ""

    @property
    def uri(self) -> str:
        """``gs://bucket/name``."""
        return f"gs://{self.bucket}/{self.name}"


class ObjectReader(io.RawIOBase):
    """Reads one version of an object by ranges.

    :param item: What to read.
    :param fetch: Gives the bytes from a start to an end.
    """

    def __init__(self, item: GcsObject, fetch: Callable[[int, int], bytes]) -> None:
        super().__init__()
        self._item, self._fetch = item, fetch
        self._position = self._block_start = self._summed = self._crc32c = 0
        self._block = b""

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Yes: a position costs nothing until it is read from."""
        return True

    def tell(self) -> int:
        """Give the position."""
        return self._position

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position; the size is known, so the end is a place as well."""
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._position, io.SEEK_END: self._item.size}[whence]
        if base + offset < 0:
            raise ValueError("a position before the beginning")
        self._position = base + offset
        return self._position

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer, with one request at most."""
        if self._position >= self._item.size or not len(buffer):
            return 0
        if not self._block_start <= self._position < self._block_start + len(self._block):
            self._next_block()
        start = self._position - self._block_start
        data = memoryview(self._block)[start : start + len(buffer)]
        buffer[: len(data)] = data
        self._position += len(data)
        return len(data)

    def _next_block(self) -> None:
        start = self._position
        end = min(start + (BLOCK if start else FIRST_BLOCK), self._item.size)
        block = self._fetch(start, end)
        if len(block) != end - start:
            raise TransportError(
                f"an object of gs://{self._item.bucket} was cut short: {len(block)} of {end - start} bytes came"
            )
        self._block, self._block_start = block, start
        if start == self._summed:
            self._add_to_checksum(block)

    def _add_to_checksum(self, block: bytes) -> None:
        import google_crc32c

        self._summed += len(block)
        self._crc32c = google_crc32c.extend(self._crc32c, block)
        found = base64.b64encode(self._crc32c.to_bytes(4, "big")).decode("ascii")
        if self._summed == self._item.size and self._item.crc32c not in {"", found}:
            raise TransportError(f"an object of gs://{self._item.bucket} came with other bytes than its checksum says")
