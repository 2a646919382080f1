"""ZIP files as folders: their members are listed, and read out of the archive. Nothing is ever extracted.

The name of a member is a label in reports and nothing else, so it cannot lead anywhere. Every member has an outcome:
one that is encrypted, compressed in a way that cannot be read, damaged, or not as long as the archive says fails with
that reason. Of a damaged member the last bytes are never given, so that no server takes it for whole. A ZIP inside of a ZIP is
not opened, and fails: somebody has to unpack the outer one.

The central directory is held while an archive is listed, some hundred bytes for a member.

Source: ZIP file format specification (APPNOTE 6.3.10) sections 4.3 and 4.4.
"""

from __future__ import annotations

import errno
import heapq
import io
import re
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, BinaryIO, cast

from airflow_dicomweb.dicomweb.dicomdir import fold, index_entries, is_dicomdir, parts_of
from airflow_dicomweb.dicomweb.entries import Entry, UnreadableSourceError, reason_of
from airflow_dicomweb.dicomweb.inflating import Inflated, Readable
from airflow_dicomweb.errors import DicomWebError

_LOCAL_HEADER = 30
_LARGEST_FILE = 2**63  # of any operating system: a 64-bit offset of a damaged archive may be larger
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_STORED, _DEFLATED = 0, 8
_BLOCK = 1 << 16
_NESTED = "a ZIP file inside of a ZIP file, which is not opened: unpack the outer one"
_CHANGED = "the archive is damaged there, or changed since it was listed"


def is_archive(name: str) -> bool:
    """Tell whether a name is that of a ZIP file."""
    return name.lower().endswith(".zip")


def expanded(entries: Iterator[Entry]) -> Iterator[Entry]:
    """Put the members of each archive in its place."""
    for entry in entries:
        if is_archive(entry.name):
            yield from members(entry)
        else:
            yield entry


def members(archive: Entry) -> Iterator[Entry]:
    """List the files in an archive by name; one that cannot be listed is a single entry that says so when it is opened.

    :param archive: Its stream must be able to seek.
    """
    try:
        with archive.open() as stream:
            found = _central_directory(stream)
    except (OSError, DicomWebError) as error:
        # Its own relative name is taken by nobody else; the slash says that more may be below it.
        return iter([Entry.unlisted(archive.name, f"{archive.relative}/", reason_of(error))])
    if not found:
        return iter([Entry.unlisted(archive.name, f"{archive.relative}/", "a ZIP file with no file in it")])
    indexes = sorted(_indexes(archive, found), key=lambda entry: entry.name)
    others = (_entry(archive, each) for each in found if not _is_index(each))
    return heapq.merge(others, indexes, key=lambda entry: entry.name)


@dataclass(frozen=True, slots=True)
class _Member:
    name: str
    offset: int
    compressed: int
    size: int
    crc: int
    method: int
    flags: int


def _central_directory(stream: BinaryIO) -> list[_Member]:
    if not stream.seekable():
        raise UnreadableSourceError("a ZIP file in a place where it can only be read from the beginning")
    try:
        with zipfile.ZipFile(stream) as archive:
            found = [
                _Member(i.filename, i.header_offset, i.compress_size, i.file_size, i.CRC, i.compress_type, i.flag_bits)
                for i in archive.infolist()
                # Folders; some writers close their names with a backslash. What has bytes is a file, whatever its name.
                if i.file_size or not i.filename.endswith(("/", "\\"))
            ]
    except DicomWebError:
        raise
    except Exception as error:  # bytes from anywhere: zipfile raises whatever they lead it to
        # A place before the beginning is nothing that the disk could not read.
        if isinstance(error, OSError) and error.errno not in {None, errno.EINVAL}:
            raise
        raise UnreadableSourceError("a ZIP file that is damaged or not whole") from None
    return sorted(found, key=lambda member: (member.name, member.offset))


def _entry(archive: Entry, member: _Member) -> Entry:
    return Entry(
        f"{archive.name}/{member.name}",
        f"{archive.relative}/{member.name}",
        member.size,
        partial(_open, archive, member),
        f"{archive.version}-{member.crc:08x}",
    )


def _indexes(archive: Entry, found: list[_Member]) -> Iterator[Entry]:
    """List the DICOMDIRs in an archive, and what they name and is not in it."""
    folded: set[tuple[str, ...]] = set()
    for member in filter(_is_index, found):
        folded = folded or {tuple(map(fold, parts_of(each.name))) for each in found}
        above = tuple(map(fold, parts_of(member.name)[:-1]))
        yield from index_entries(_entry(archive, member), partial(_is_in, folded, above))


def _is_index(member: _Member) -> bool:
    return is_dicomdir(re.split(r"[\\/]", member.name)[-1])


def _is_in(folded: set[tuple[str, ...]], above: tuple[str, ...], parts: tuple[str, ...]) -> bool:
    return (*above, *map(fold, parts)) in folded


def _open(archive: Entry, member: _Member) -> BinaryIO:
    if is_archive(member.name):
        raise UnreadableSourceError(_NESTED)
    if member.flags & _ENCRYPTED:
        raise UnreadableSourceError("it is encrypted in its ZIP file")
    if member.method not in {_STORED, _DEFLATED}:
        raise UnreadableSourceError(
            f"it is compressed by method {member.method} of ZIP files; 0 (stored) and 8 (deflate) can be read"
        )
    stream = archive.open()
    try:
        _go_to(stream, member)
    except BaseException:
        stream.close()
        raise
    return cast("BinaryIO", io.BufferedReader(_MemberReader(stream, member), _BLOCK))


def _go_to(stream: BinaryIO, member: _Member) -> None:
    if not 0 <= member.offset < _LARGEST_FILE:
        raise UnreadableSourceError(_CHANGED)
    stream.seek(member.offset)
    header = stream.read(_LOCAL_HEADER)
    if len(header) < _LOCAL_HEADER or header[:4] != b"PK\x03\x04":
        raise UnreadableSourceError(_CHANGED)
    # How long the name and the rest of this header are need not be what the central directory says.
    stream.seek(int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little"), io.SEEK_CUR)


class _Stored:
    """The bytes of a member as they are in the archive."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._left = stream, size

    def read(self, size: int, /) -> bytes:
        block = self._stream.read(min(size, self._left))
        self._left -= len(block)
        return block


class _MemberReader(io.RawIOBase):
    """Reads a member; its last bytes come only after all of it has proved to be what the archive says.

    :param stream: Where its bytes begin; closed with this.
    :param member: What the central directory says of it.
    """

    def __init__(self, stream: BinaryIO, member: _Member) -> None:
        super().__init__()
        self._stream, self._left, self._wanted = stream, member.size, member.crc
        self._crc, self._proved = 0, False
        stored: Readable = _Stored(stream, member.compressed)
        self._part: Readable = stored if member.method == _STORED else Inflated(stored, UnreadableSourceError)

    def readable(self) -> bool:
        """Yes."""
        return True

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as it goes."""
        block = self._part.read(min(len(buffer), self._left))
        if not block and self._left and len(buffer):
            raise UnreadableSourceError("it is shorter than its ZIP file says")
        self._left -= len(block)
        self._crc = zlib.crc32(block, self._crc)
        if not self._left and not self._proved:
            self._prove()
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the archive's stream too."""
        self._stream.close()
        super().close()

    def _prove(self) -> None:
        if self._part.read(1):
            raise UnreadableSourceError("it is longer than its ZIP file says")
        if self._crc != self._wanted:
            raise UnreadableSourceError("its checksum (CRC-32) is not the one in its ZIP file")
        self._proved = True
