"""The elements of a Part 10 file, one after the other, without holding the file or any large value.

What a file must be for this: each element ends within what holds it, each undefined length has its delimiter. Anything
else is a finding about the file. Values are passed over: a large one costs no more than a small one where the stream
can seek.

Source: DICOM PS3.5 chapter 7 (data set, nesting), annex A (transfer syntaxes); PS3.10 section 7.1.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO, Protocol

from airflow_dicomweb.dicomweb.inflating import Inflated
from airflow_dicomweb.dicomweb.part10 import NoPart10Header, UnusableFile

UNDEFINED = 0xFFFFFFFF
ITEM = 0xFFFEE000
PIXEL_DATA = frozenset({0x7FE00010, 0x7FE00008, 0x7FE00009})

_ITEM_END, _SEQUENCE_END = 0xFFFEE00D, 0xFFFEE0DD
_TRANSFER_SYNTAX = 0x00020010
_IMPLICIT, _BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2"
# Explicit VR little endian, and the two of JPIP, each deflated as a whole.
_DEFLATED = frozenset({"1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.4.95", "1.2.840.10008.1.2.4.205"})
_LONG = frozenset({b"OB", b"OD", b"OF", b"OL", b"OV", b"OW", b"SQ", b"SV", b"UC", b"UN", b"UR", b"UT", b"UV"})
_SHORT = frozenset(
    {
        *(b"AE", b"AS", b"AT", b"CS", b"DA", b"DS", b"DT", b"FD", b"FL", b"IS", b"LO"),
        *(b"LT", b"PN", b"SH", b"SL", b"SS", b"ST", b"TM", b"UI", b"UL", b"US"),
    }
)
_MOST_OF_A_VALUE = 1024
_DEEPEST = 64
_BLOCK = 1 << 20


class BrokenStructure(UnusableFile):
    """A Part 10 file whose elements do not end where they should."""


@dataclass(frozen=True, slots=True)
class Element:
    """An element that was asked for, before what follows its header is passed over.

    :param tag: Group and element number.
    :param depth: In how many sequences it is.
    :param length: As its header says; ``UNDEFINED`` if it ends with a delimiter.
    :param value: The first 1,024 bytes of its value; nothing of pixel data, items and undefined lengths.
    :param little_endian: The order of its bytes.
    :param transfer_syntax: Transfer Syntax UID of the file, or an empty string.
    """

    tag: int
    depth: int
    length: int
    value: bytes
    little_endian: bool
    transfer_syntax: str

    def number(self) -> int | None:
        """Read a value of VR US."""
        return int.from_bytes(self.value, "little" if self.little_endian else "big") if len(self.value) == 2 else None

    def text(self) -> str:
        """Read a value of digits, letters and backslashes."""
        return self.value.decode("latin-1").strip("\0 ")


class _Readable(Protocol):
    def read(self, size: int, /) -> bytes: ...


class _Input:
    """Bytes that are taken or passed over, and where they are; backwards only by what was just taken."""

    def __init__(self, stream: BinaryIO | _Readable) -> None:
        self._stream, self._ahead = stream, b""
        self.position = 0
        self._seek = getattr(stream, "seek", None)
        self._start, self._size = 0, 0
        if self._seek is None or not getattr(stream, "seekable", bool)():
            self._seek = None
        else:
            self._start = self._seek(0, os.SEEK_CUR)
            self._size = self._seek(0, os.SEEK_END) - self._start
            self._seek(self._start)

    def take(self, size: int) -> bytes:
        """Give the next bytes; fewer only at the end."""
        taken, self._ahead = self._ahead[:size], self._ahead[size:]
        while len(taken) < size and (block := self._stream.read(size - len(taken))):
            taken += block
        self.position += len(taken)
        return taken

    def give_back(self, taken: bytes) -> None:
        """Have bytes taken again."""
        self._ahead = taken + self._ahead
        self.position -= len(taken)

    def skip(self, size: int) -> int:
        """Pass over so many bytes, and tell over how many: fewer only at the end."""
        if self._seek is not None and not self._ahead:
            size = min(size, max(self._size - self.position, 0))
            self.position += size
            self._seek(self._start + self.position)
            return size
        skipped = 0
        while skipped < size and (block := self.take(min(size - skipped, _BLOCK))):
            skipped += len(block)
        return skipped

    def read(self, size: int, /) -> bytes:
        return self.take(size)


@dataclass(slots=True)
class _Level:
    """A data set, a sequence or the fragments of pixel data, on the way down from the file.

    ``end`` is where it ends if that is known; ``limit`` where whatever holds it ends.
    """

    kind: str
    end: int | None
    limit: int | None
    implicit: bool = False
    little_endian: bool = True
    fresh: bool = True


def elements(stream: BinaryIO, wanted: frozenset[int], sequences: frozenset[int] = frozenset()) -> Iterator[Element]:
    """Give the elements of a Part 10 file that are asked for; the others are passed over.

    :param stream: At its start. One that cannot seek is read to its end.
    :param wanted: Tags; with ``ITEM``, each item of a sequence is given when it begins.
    :param sequences: Tags that are sequences, whatever the file says: without VRs it does not say.
    :raises UnusableFile: BrokenStructure when the walk comes to where the structure ends; NoPart10Header if there is none.
    :raises OSError: If it cannot be read.
    """
    source = _Input(stream)
    if source.take(132)[128:] != b"DICM":
        raise NoPart10Header("a DICOM data set without a Part 10 header (preamble and file meta information)")
    return _Walk(source, wanted, sequences).run()


class _Walk:
    def __init__(self, source: _Input, wanted: frozenset[int], sequences: frozenset[int]) -> None:
        self._source, self._wanted, self._sequences = source, wanted, sequences
        self._syntax = ""
        self._levels: list[_Level] = []

    def run(self) -> Iterator[Element]:
        yield from self._meta()
        syntax = self._syntax
        if syntax in _DEFLATED:
            self._source = _Input(Inflated(self._source, BrokenStructure))
        self._levels = [_Level("data set", None, None, syntax == _IMPLICIT, syntax != _BIG_ENDIAN)]
        while self._levels:
            level = self._levels[-1]
            if level.end is not None and self._source.position >= level.end:
                self._levels.pop()
                continue
            header = self._header(level)
            if header is None:
                return
            step = self._element if level.kind == "data set" else self._item
            yield from step(level, header)

    def _meta(self) -> Iterator[Element]:
        """Read group 0002, which is explicit VR little endian whatever follows."""
        level = _Level("data set", None, None, fresh=False)
        self._levels = [level]
        while header := self._source.take(8):
            if header[:2] != b"\x02\x00" or len(header) < 8:
                self._source.give_back(header)
                return
            tag, _, length = self._parse(level, header)
            value = self._value(tag, length, keep=True)
            if tag == _TRANSFER_SYNTAX:
                self._syntax = value.decode("latin-1").strip("\0 ")
            if tag in self._wanted:
                yield self._found(level, tag, length, value)

    def _header(self, level: _Level) -> bytes | None:
        """Take the next 8 bytes; None where the file ends and may."""
        header = self._source.take(8)
        if level.limit is not None and self._source.position > level.limit:
            raise BrokenStructure("an element ends outside of the sequence item that holds it")
        top = len(self._levels) == 1
        # Files are padded with zeros up to full sectors, and to an even length.
        if top and not header.strip(b"\0") and (len(header) < 8 or self._only_zeros_left()):
            return None
        if len(header) == 8:
            return header
        if level.kind == "fragments":
            raise BrokenStructure("its pixel data ends early: it has no end delimiter")
        raise BrokenStructure("it ends in the middle of an element" if top else "it ends in the middle of a sequence")

    def _only_zeros_left(self) -> bool:
        while block := self._source.take(_BLOCK):
            if block.strip(b"\0"):
                raise BrokenStructure("there is something else than elements in it")
        return True

    def _element(self, level: _Level, header: bytes) -> Iterator[Element]:
        if level.fresh:
            # The file, or an unknown sequence, may be encoded in another way than it should be.
            level.fresh, level.implicit = False, header[4:6] not in _LONG | _SHORT
        tag, vr, length = self._parse(level, header)
        if tag >> 16 == 0xFFFE:
            if tag != _ITEM_END or level.end is not None or len(self._levels) == 1:
                raise BrokenStructure("an item or a delimiter is where an element should be")
            self._levels.pop()
        elif length == UNDEFINED:
            if tag in self._wanted:
                yield self._found(level, tag, length)
            fragments = tag in PIXEL_DATA or vr in {b"OB", b"OW"}
            if not fragments and vr not in {b"", b"SQ", b"UN"}:
                raise BrokenStructure(f"element {_name(tag)} has no length, and is no sequence")
            self._enter("fragments" if fragments else "sequence", None, level, unknown=vr == b"UN")
        elif vr == b"SQ" or tag in self._sequences:
            self._enter("sequence", self._end_of(level, tag, length), level)
        else:
            self._end_of(level, tag, length)
            wanted = tag in self._wanted
            if wanted and tag in PIXEL_DATA:
                yield self._found(level, tag, length)
            value = self._value(tag, length, keep=wanted and tag not in PIXEL_DATA)
            if wanted and tag not in PIXEL_DATA:
                yield self._found(level, tag, length, value)

    def _item(self, level: _Level, header: bytes) -> Iterator[Element]:
        order = "little" if level.little_endian else "big"
        tag, length = _tag(header, level), int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        if tag == _SEQUENCE_END and (level.end is None or level.end == self._source.position):
            self._levels.pop()
        elif tag != ITEM:
            what = "its pixel data has" if level.kind == "fragments" else "a sequence has"
            raise BrokenStructure(f"{what} something else than items in it, or no end delimiter")
        elif level.kind == "fragments":
            if length == UNDEFINED:
                raise BrokenStructure("a fragment of its pixel data has no length")
            self._end_of(level, 0x7FE00010, length)
            self._value(0x7FE00010, length, keep=False)
        else:
            end = None if length == UNDEFINED else self._end_of(level, tag, length)
            self._enter("data set", end, level)
            if tag in self._wanted:
                yield self._found(level, tag, length)

    def _parse(self, level: _Level, header: bytes) -> tuple[int, bytes, int]:
        """Give tag, VR and length of an element; the VR is empty where none is written."""
        tag = _tag(header, level)
        order = "little" if level.little_endian else "big"
        if level.implicit or tag >> 16 == 0xFFFE:
            return tag, b"", int.from_bytes(header[4:], order)  # type: ignore[arg-type]
        vr, length = header[4:6], header[6:]
        if vr in _LONG:
            length = self._source.take(4)
            if len(length) < 4:
                raise BrokenStructure("it ends in the middle of an element")
        elif vr not in _SHORT:
            raise BrokenStructure(f"element {_name(tag)} has no known VR")
        return tag, vr, int.from_bytes(length, order)  # type: ignore[arg-type]

    def _end_of(self, level: _Level, tag: int, length: int) -> int:
        end = self._source.position + length
        if level.limit is not None and end > level.limit:
            raise BrokenStructure(f"element {_name(tag)} ends outside of the sequence item that holds it")
        return end

    def _value(self, tag: int, length: int, *, keep: bool) -> bytes:
        value = self._source.take(min(length, _MOST_OF_A_VALUE)) if keep else b""
        came = len(value) + self._source.skip(length - len(value))
        if came < length:
            what = (
                "its pixel data ends early" if tag in PIXEL_DATA else f"it ends in the middle of element {_name(tag)}"
            )
            raise BrokenStructure(f"{what}: {came} of {length} bytes")
        return value

    def _enter(self, kind: str, end: int | None, parent: _Level, *, unknown: bool = False) -> None:
        if len(self._levels) > 2 * _DEEPEST:
            raise BrokenStructure(f"its sequences are nested more than {_DEEPEST} deep")
        limit = parent.limit if end is None else end
        # An unknown sequence is implicit VR little endian; writers that do not know that are common.
        implicit, little_endian = (True, True) if unknown else (parent.implicit, parent.little_endian)
        self._levels.append(_Level(kind, end, limit, implicit, little_endian, fresh=parent.fresh or unknown))

    def _found(self, level: _Level, tag: int, length: int, value: bytes = b"") -> Element:
        depth = (len(self._levels) - 1) // 2
        return Element(tag, depth, length, value, level.little_endian, self._syntax)


def _tag(header: bytes, level: _Level) -> int:
    order = "little" if level.little_endian else "big"
    return int.from_bytes(header[:2], order) << 16 | int.from_bytes(header[2:4], order)  # type: ignore[arg-type]


def _name(tag: int) -> str:
    return f"({tag >> 16:04X},{tag & 0xFFFF:04X})"
