"""``multipart/related``: streaming out, incremental in.

Out: a :class:`Body` is a recipe that can be opened again, so a retry sends the whole body again (a well-known client
retries with an empty one). Its length is known before the first byte, because a server may be four times slower
without Content-Length.

In: :class:`Parser` is fed whatever arrives and gives events. It finds boundaries wherever the input is cut, requires
the closing delimiter, and holds back only what might be the start of a boundary.

Source: RFC 2046 section 5.1, RFC 2387; DICOM PS3.18 section 8.7.1.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass, field
from itertools import chain
from types import MappingProxyType
from typing import TYPE_CHECKING, TypeVar

from airflow_dicomweb.dicomweb.media_types import MULTIPART, MediaType
from airflow_dicomweb.errors import ConfigurationError, ProtocolError

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.whole_files import WholeFile

BLOCK_SIZE = 256 * 1024
"""Bytes read at a time; measured: larger gains little, smaller costs much."""

MAX_HEADER_BYTES = 64 * 1024
Block = TypeVar("Block", bound=Sized)
_MAX_PADDING = 1024  # most bytes of blanks and line end behind a boundary


@dataclass(frozen=True, slots=True)
class Part:
    """One body part, as a recipe that can be followed more than once.

    :param media_type: Content-Type of the part.
    :param size: Length in bytes; one reading must add up to exactly this.
    :param read: Starts a fresh reading of the bytes.
    :param headers: Further headers of the part, such as Content-Location.
    :param pieces: Does the same as ``read`` for a connection, which takes whole files too.
    """

    media_type: str
    size: int
    read: Callable[[], Iterable[bytes]]
    headers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    pieces: Callable[[], Iterable[bytes | WholeFile]] | None = None


def new_boundary() -> str:
    """Choose a boundary at random for one body.

    A constant one is a hazard here: a stored object may hold a captured DICOMweb answer, boundary and all. With 160
    random bits chosen after the content was fixed, it does not occur in what it frames.
    """
    return f"airflow-dicomweb-{secrets.token_hex(20)}"


class Body:
    """A multipart body: has a length, and each iteration reads every part afresh.

    :param parts: The parts, in order.
    :param type_parameter: Media type of the parts, named in the body's own type.
    :param boundary: For tests that compare bytes; random when not given.
    :raises ConfigurationError: If there is no part: an empty multipart is answered with success by some servers.
    """

    def __init__(self, parts: Sequence[Part], type_parameter: str, boundary: str | None = None) -> None:
        if not parts:
            raise ConfigurationError("a multipart body needs at least one part")
        self.parts = tuple(parts)
        self.boundary = boundary or new_boundary()
        self.content_type = f'{MULTIPART}; type="{type_parameter}"; boundary={self.boundary}'
        self._heads = [self._head("\r\n" if index else "", part) for index, part in enumerate(self.parts)]
        self._closing = f"\r\n--{self.boundary}--".encode("ascii")
        self._size = sum(map(len, [*self._heads, self._closing])) + sum(part.size for part in self.parts)

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        for head, part in zip(self._heads, self.parts, strict=True):
            yield head
            yield from exactly(part.read(), part.size)
        yield self._closing

    def pieces(self) -> Iterator[bytes | WholeFile]:
        """Read every part afresh, for a connection; what stands before a whole file goes with it."""
        for head, part in zip(self._heads, self.parts, strict=True):
            contents = exactly((part.pieces or part.read)(), part.size)
            first = next(contents, b"")
            if isinstance(first, bytes):
                yield head
            else:
                first.head = head
            yield from chain([first], contents)
        yield self._closing

    def _head(self, before: str, part: Part) -> bytes:
        lines = "".join(f"{name}: {value}\r\n" for name, value in part.headers.items())
        return f"{before}--{self.boundary}\r\n{lines}Content-Type: {part.media_type}\r\n\r\n".encode("ascii")


def exactly(blocks: Iterable[Block], size: int) -> Iterator[Block]:
    """Pass blocks through and make sure that they add up to ``size`` bytes.

    :raises ConfigurationError: If they do not: the source changed after its size was taken. The request is then
        broken off before its end, so that a server cannot take it for whole.
    """
    left = size
    for block in blocks:
        left -= len(block)
        if left < 0:
            break
        yield block
    if left:
        raise ConfigurationError(f"a source changed while it was sent: {size} bytes expected, {size - left} read")


@dataclass(frozen=True, slots=True)
class PartStart:
    """A part begins.

    :param headers: Names in lower case.
    """

    headers: Mapping[str, str]

    @property
    def media_type(self) -> MediaType:
        """Content-Type of the part."""
        return MediaType.parse(self.headers.get("content-type"))


@dataclass(frozen=True, slots=True)
class PartData:
    """Some bytes of the part's content."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PartEnd:
    """The part is complete: the next boundary was seen, and its Content-Length, if it had one, was right."""


Event = PartStart | PartData | PartEnd


class Parser:
    """Incremental reader of one multipart body.

    :param boundary: The ``boundary`` parameter, unquoted.
    :param max_header_bytes: Most bytes that the headers of one part may have.
    :param max_parts: Most parts, or None for no limit.
    :param max_bytes: Most bytes in the whole body, or None for no limit.
    """

    def __init__(
        self,
        boundary: str,
        *,
        max_header_bytes: int = MAX_HEADER_BYTES,
        max_parts: int | None = None,
        max_bytes: int | None = None,
    ) -> None:
        if not 0 < len(boundary) <= 70 or not boundary.isascii():
            raise ProtocolError("the answer's multipart boundary is missing, longer than 70 characters or not ASCII")
        self._delimiter = b"\r\n--" + boundary.encode("ascii")
        # Expressions, because content may be full of what almost is a delimiter: a loop takes seconds for each MiB.
        start, blanks = re.escape(self._delimiter), b"[ \\t]{0,%d}" % (_MAX_PADDING - 2)
        self._whole = re.compile(start + b"(?:--|" + blanks + b"\r\n)")
        self._begun = re.compile(start + b"(?:-|" + blanks + b"\r?)\\Z")
        self._max_header_bytes, self._max_parts, self._max_bytes = max_header_bytes, max_parts, max_bytes
        # A body may open with its first boundary, so the line end that belongs to every delimiter is supplied.
        self._buffer = b"\r\n"
        self._at = 0
        self._state: Callable[[], Sequence[Event] | None] = self._preamble
        self._parts = self._bytes = self._part_bytes = 0
        self._expected: int | None = None

    @property
    def parts(self) -> int:
        """Number of parts that began."""
        return self._parts

    def feed(self, data: bytes) -> Iterator[Event]:
        """Take the next bytes, however they were cut, and give what they complete.

        :raises ProtocolError: If a limit is passed, a header cannot be read or a part has not the length it declares.
        """
        self._bytes += len(data)
        if self._max_bytes is not None and self._bytes > self._max_bytes:
            raise ProtocolError(f"the multipart answer is larger than {self._max_bytes} bytes")
        # Mostly nothing was held back, and then nothing is copied.
        self._buffer, self._at = self._buffer[self._at :] + data, 0
        while (event := self._state()) is not None:
            yield from event

    def close(self) -> None:
        """Say that no more bytes come.

        :raises ProtocolError: If the closing delimiter was not seen: the answer was cut.
        """
        if self._state != self._epilogue:
            raise ProtocolError(f"the multipart answer ends without its closing delimiter, after {self._parts} parts")

    # Each state gives the events of one step, or None when it needs more input.

    def _preamble(self) -> Sequence[Event] | None:
        at, ending = self._find_delimiter()
        self._drop(at)
        if ending is None:
            return None
        self._pass_delimiter(ending)
        return ()

    def _find_delimiter(self) -> tuple[int, bytes | None]:
        """Look for a delimiter: how many bytes lie before it, and what it ends in: ``--``, a line end or nothing yet.

        A boundary that goes on with other characters is content: another body's boundary may begin like this one's.
        """
        length, at = len(self._buffer), self._buffer.find(self._delimiter, self._at)
        if at >= 0:
            if match := self._whole.search(self._buffer, at):
                return match.start() - self._at, b"--" if match[0].endswith(b"--") else b"\r\n"
            # What could be the start of a delimiter is held back.
            if match := self._begun.search(self._buffer, max(length - len(self._delimiter) - _MAX_PADDING, at)):
                return match.start() - self._at, None
        held = self._buffer.find(b"\r", max(length - len(self._delimiter) + 1, self._at))
        return (length if held < 0 else held) - self._at, None

    def _pass_delimiter(self, ending: bytes) -> None:
        """Drop the delimiter at the start of the buffer and enter what follows it."""
        if ending == b"--":
            self._drop(len(self._delimiter) + 2)
            self._state = self._epilogue
            return
        # The line end stays: a part without headers begins with the empty line that follows it.
        self._at = self._buffer.index(b"\r\n", self._at + len(self._delimiter))
        self._state = self._headers

    def _headers(self) -> Sequence[Event] | None:
        end = self._buffer.find(b"\r\n\r\n", self._at)
        if (end if end >= 0 else len(self._buffer)) - self._at > self._max_header_bytes:
            raise ProtocolError(f"the headers of a multipart part are longer than {self._max_header_bytes} bytes")
        if end < 0:
            return None
        headers = _parse_headers(self._buffer[self._at : end])
        self._at = end + 4
        self._parts += 1
        if self._max_parts is not None and self._parts > self._max_parts:
            raise ProtocolError(f"the multipart answer has more than {self._max_parts} parts")
        length = headers.get("content-length", "").strip()
        self._expected = int(length) if length.isascii() and length.isdigit() else None
        self._part_bytes = 0
        self._state = self._content
        return (PartStart(MappingProxyType(headers)),)

    def _content(self) -> Sequence[Event] | None:
        at, ending = self._find_delimiter()
        events = self._give(at)
        if ending is None:
            return events or None
        if self._expected is not None and self._part_bytes != self._expected:
            raise ProtocolError(f"a part declares {self._expected} bytes and has {self._part_bytes}")
        self._pass_delimiter(ending)
        return (*events, PartEnd())

    def _epilogue(self) -> Sequence[Event] | None:
        """Drop what follows. A further delimiter there says that the closing one was in a part's content."""
        at, ending = self._find_delimiter()
        if ending is not None:
            raise ProtocolError("the multipart answer goes on behind its closing delimiter")
        self._drop(at)
        return None

    def _give(self, count: int) -> Sequence[Event]:
        if not count:
            return ()
        data = self._buffer[self._at : self._at + count]
        self._drop(count)
        self._part_bytes += count
        return (PartData(data),)

    def _drop(self, count: int) -> None:
        self._at += count


def _parse_headers(block: bytes) -> dict[str, str]:
    headers: dict[str, str] = {}
    for line in block.split(b"\r\n"):
        if not line:
            continue
        name, colon, value = line.partition(b":")
        if not colon or not name.strip():
            raise ProtocolError("a multipart part has a header line without a name")
        headers[name.strip().lower().decode("latin-1")] = value.strip().decode("latin-1")
    return headers


def parse(blocks: Iterable[bytes], content_type: str | None, **limits: int) -> Iterator[Event]:
    """Read a multipart body from blocks of bytes.

    :param content_type: The answer's Content-Type.
    :param limits: As the limits of :class:`Parser`.
    :raises ProtocolError: If it is no multipart body, is cut, or passes a limit.
    """
    media_type = MediaType.parse(content_type)
    if media_type.name != MULTIPART:
        raise ProtocolError(f"{MULTIPART} was expected, the answer is {media_type.name or 'without a Content-Type'}")
    parser = Parser(media_type.parameters.get("boundary", ""), **limits)
    for block in blocks:
        yield from parser.feed(block)
    parser.close()
