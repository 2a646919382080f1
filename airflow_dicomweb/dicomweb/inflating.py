"""Deflated bytes, inflated as they are read, a bounded block at a time: nobody knows how much comes out of how little.

Source: RFC 1951 (deflate), DICOM PS3.5 section A.5, ZIP file format specification (APPNOTE) section 4.4.5.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Protocol

_BLOCK = 64 * 1024


class Readable(Protocol):
    """Something that gives bytes, and none at its end."""

    def read(self, size: int, /) -> bytes:
        """Give up to so many bytes."""
        ...


class Inflated:
    """Reads what is inside of deflated bytes.

    :param source: The deflated bytes, without a header; what follows them is not read further than a block.
    :param error: Made with the reason, and raised, if they are damaged or end early.
    """

    def __init__(self, source: Readable, error: Callable[[str], Exception]) -> None:
        self._source, self._error = source, error
        self._inflate = zlib.decompressobj(-zlib.MAX_WBITS)

    def read(self, size: int, /) -> bytes:
        """Give the next bytes, at most so many; none at the end."""
        while not self._inflate.eof and size > 0:
            deflated = self._inflate.unconsumed_tail or self._source.read(_BLOCK)
            try:
                block = self._inflate.decompress(deflated, size)
            except zlib.error:
                raise self._error("its deflated bytes are damaged") from None
            if block:
                return block
            if not deflated:
                raise self._error("its deflated bytes end early")
        return b""
