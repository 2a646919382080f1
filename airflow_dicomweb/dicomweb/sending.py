"""One sending of a request body: from its beginning, in blocks, with a length that holds.

Source: RFC 9112 section 6.3 (Content-Length).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE, exactly
from airflow_dicomweb.dicomweb.whole_files import WholeFile
from airflow_dicomweb.errors import ConfigurationError


class SendableBody(Protocol):
    """A body that has a length and can be iterated over afresh for every attempt; ``multipart.Body`` is one.

    If it has a method ``pieces`` too, a connection iterates over that: there may be whole files among its blocks.
    """

    def __len__(self) -> int: ...

    def __iter__(self) -> Iterator[bytes]: ...


class Sending:
    """One sending of a body: blocks of bounded size, and a note of how far it came.

    :param body: Whole, or a recipe that is followed anew.
    """

    def __init__(self, body: bytes | SendableBody) -> None:
        self._body, self._size = body, len(body)
        self.complete = self._size == 0

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes | WholeFile]:
        problem = ""
        try:
            yield from exactly(self._blocks(), self._size)
        except OSError as error:
            # Here it is the source that failed; in urllib3's hands it would pass for a broken connection.
            problem = error.strerror or type(error).__name__
        if problem:
            raise ConfigurationError(f"a source could not be read while it was sent: {problem}")
        self.complete = True

    def _blocks(self) -> Iterator[bytes | WholeFile]:
        if not isinstance(self._body, bytes):
            yield from getattr(self._body, "pieces", self._body.__iter__)()
            return
        view = memoryview(self._body)
        for start in range(0, len(view), BLOCK_SIZE):
            yield bytes(view[start : start + BLOCK_SIZE])
