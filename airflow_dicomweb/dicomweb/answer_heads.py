"""Heads of answers, read more strictly than ``http.client`` reads them.

It takes the end of the connection for the end of the headers, so that an answer which was cut in its head looks like one
without a body: a search like one that found nothing. And of interim answers it knows 100 alone, and takes another for the
answer itself.

Source: RFC 9112 sections 2.1 and 8, RFC 9110 section 15.2.
"""

from __future__ import annotations

import http.client
from typing import Any

_SWITCHING_PROTOCOLS = 101
_MOST_INTERIM = 100


class WholeHead(http.client.HTTPResponse):
    """An answer whose head came to its end."""

    def begin(self) -> None:
        """Read the head.

        :raises http.client.HTTPException: If it is cut.
        """
        stream = self.fp
        lines: Any = _Lines(stream)
        self.fp = lines
        super().begin()
        if self.fp is lines:  # not closed, as it is for an answer without a body
            self.fp = stream
        if lines.last not in {b"\r\n", b"\n"}:
            self.close()
            raise http.client.IncompleteRead(b"")

    def _read_status(self) -> tuple[str, int, str]:
        for _ in range(_MOST_INTERIM):
            version, status, reason = super()._read_status()  # type: ignore[misc]
            if not _SWITCHING_PROTOCOLS < status < 200:
                return version, status, reason
            http.client.parse_headers(self.fp)
        raise http.client.HTTPException("interim answers and no other")


class _Lines:
    """A stream that remembers the last line that was read from it."""

    def __init__(self, stream: Any) -> None:
        self._stream, self.last = stream, b""

    def readline(self, limit: int = -1) -> bytes:
        self.last = self._stream.readline(limit)
        return self.last

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)
