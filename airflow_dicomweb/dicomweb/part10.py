"""The header of a Part 10 file: which instance it is, and how it is encoded.

Only the beginning of a file is read, however large the file is. Identity comes from the data set: group 0002 repeats
the SOP Instance UID, but files whose group 0002 names another one are common.

Source: DICOM PS3.10 section 7.1 (file meta information), PS3.5 annex A (transfer syntaxes); the first bytes of archives are
in RFC 1952 (gzip), POSIX.1 pax (tar), APPNOTE 6.3.10 section 4.3 (ZIP), and the format descriptions of the others.
"""

from __future__ import annotations

import logging
import os
import struct
import threading
import warnings
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import BinaryIO

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.uids import has_leading_zero, is_uid
from airflow_dicomweb.errors import DicomWebError

_log = logging.getLogger(__name__)

_filters = threading.Lock()

_PREFIX = slice(128, 132)
_SOP_CLASS, _INSTANCE, _STUDY, _SERIES = 0x00080016, 0x00080018, 0x0020000D, 0x0020000E
_META_SOP_CLASS, _META_SYNTAX = 0x00020002, 0x00020010
_WANTED = frozenset({_META_SOP_CLASS, _META_SYNTAX, _SOP_CLASS, _INSTANCE, _STUDY, _SERIES})
_DICOM_DIRECTORY = "1.2.840.10008.1.3.10"
_IMPLICIT, _BIG_ENDIAN, _DEFLATED = "1.2.840.10008.1.2", "1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"

# VRs whose length has two bytes in explicit VR, and those with four; any other one is for the thorough reader.
_SHORT = frozenset(b"AE AS AT CS DA DS DT FD FL IS LO LT PN SH SL SS ST TM UI UL US".split())
_LONG = frozenset(b"OB OD OF OL OV OW SQ SV UC UN UR UT UV".split())
_ELEMENT, _LENGTH = struct.Struct("<HH2sH"), struct.Struct("<I")

_TAR_MAGIC = slice(257, 262)
_BZIP2_MAGIC = slice(4, 10)  # behind the level
_ARCHIVE_MAGIC = {
    b"\x1f\x8b\x08": "gzip",
    b"\xfd7zXZ\0": "xz",
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"PK\x03\x04": "ZIP",
    b"PK\x05\x06": "ZIP",
    b"PK\x07\x08": "ZIP",
}
# Documents and programs, as CDs have them beside the images, are ZIP files as well: their first member tells.
_FIRST_MEMBER = slice(30, None)
_NO_ARCHIVES = (b"[Content_Types].xml", b"_rels/", b"docProps/", b"mimetype", b"META-INF/")

# The UIDs are nearly always in the first 4 KiB; private elements before them may be large.
HEAD_SIZE = 4 * 1024
_HEAD_SIZES = (HEAD_SIZE, 32 * 1024, 1024 * 1024, 64 * 1024 * 1024)


class UnusableFile(DicomWebError):  # noqa: N818 - a finding about a file, named as one
    """A file that cannot be stored as it is. The message names neither the file nor a value of it."""


class NotDicom(UnusableFile):
    """Not DICOM at all: passed over."""


class DicomDirectory(NotDicom):
    """A DICOMDIR: an index of files, not an instance. Passed over."""


class ClosedArchive(UnusableFile):
    """An archive or a compressed file that is not opened: nobody knows which instances are in it."""


class EmptyFile(UnusableFile):
    """A file without a byte in it: what a copy that broke off leaves behind. Nobody knows what it should have been."""


class NoPart10Header(UnusableFile):
    """A DICOM data set without preamble and file meta information: no server takes it as it is."""


class UnreadableHeader(UnusableFile):
    """A Part 10 file whose data set cannot be read as far as its UIDs."""


class BadIdentity(UnusableFile):
    """A Part 10 file in which a UID is missing, or is not a UID."""


@dataclass(frozen=True, slots=True)
class Header:
    """What must be known of an instance before it is sent.

    :param path: Study, series and instance UID, from the data set.
    :param sop_class: SOP Class UID, or an empty string.
    :param transfer_syntax: Transfer Syntax UID of group 0002, or an empty string.
    """

    path: InstancePath
    sop_class: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class _Head:
    """The elements found in the first bytes; ``conclusive`` if more bytes could not add to them.

    ``archive`` is the format of an archive, as :func:`_archive_kind` gives it.
    """

    part10: bool
    meta: Mapping[int, str]
    elements: Mapping[int, str]
    conclusive: bool
    archive: str


def read_header(source: str | os.PathLike[str] | BinaryIO) -> Header:
    """Read the header of a file.

    :param source: Path, or a stream at its start; it need not be seekable and is read as far as needed, at most 64 MiB.
    :raises UnusableFile: One of its subclasses says why the file is no storable instance.
    :raises OSError: If it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:  # noqa: PTH123 - a path of any kind
            return read_header(stream)
    content = b""
    for size in _HEAD_SIZES:
        content += source.read(size - len(content))
        if not content:
            raise EmptyFile("an empty file")
        header = ordinary_header(content)
        if header is not None:
            return header
        whole = len(content) < size
        if size == _HEAD_SIZES[0] and not whole:
            continue  # the thorough reader takes its time, each time
        head = _parse(content, whole=whole)
        if head.conclusive:
            break
    return _judge(head)


def ordinary_header(content: bytes) -> Header | None:
    """Read the header of an ordinary file from its first bytes; None leaves it to the thorough reader.

    That one takes fifty times as long. Ordinary: little endian, no sequence of undefined length before the UIDs, nothing to refuse and nothing to warn of.
    """
    if content[_PREFIX] != b"DICM":
        return None
    meta, start = _walk(content, _PREFIX.stop, 0x0002FFFF, implicit=False)
    syntax = _text(meta.get(_META_SYNTAX))
    if not syntax or syntax in {_DEFLATED, _BIG_ENDIAN} or _text(meta.get(_META_SOP_CLASS)) == _DICOM_DIRECTORY:
        return None
    implicit = syntax == _IMPLICIT
    if implicit and content[start + 4 : start + 6].isalpha():  # it seems to have VRs all the same
        return None
    found, _ = _walk(content, start, _SERIES, implicit=implicit)
    sop_class = _text(found.get(_SOP_CLASS))
    study, series, instance = (
        _shared_uid(found.get(_STUDY)),
        _shared_uid(found.get(_SERIES)),
        _uid(found.get(_INSTANCE)),
    )
    if sop_class == _DICOM_DIRECTORY or study is None or series is None or instance is None:
        return None
    return Header(InstancePath(study, series, instance), sop_class, syntax)


def _uid(value: bytes | None) -> str | None:
    """Give a UID; None if there is something to say about it."""
    uid = _text(value)
    return uid if is_uid(uid) and not has_leading_zero(uid) else None


# Of a study and its series there are few, and very many instances.
_shared_uid = lru_cache(256)(_uid)


def _walk(content: bytes, at: int, last: int, *, implicit: bool) -> tuple[dict[int, bytes], int]:
    """Give the wanted elements up to a tag, and where a later one begins; nothing if anything is out of the ordinary."""
    found: dict[int, bytes] = {}
    unpack, end = _ELEMENT.unpack_from, len(content) - 12
    while at <= end:
        group, number, vr, length = unpack(content, at)
        tag = group << 16 | number
        if tag > last:
            return found, at
        value = at + 8
        if implicit:
            (length,) = _LENGTH.unpack_from(content, at + 4)
        elif vr in _LONG:
            (length,) = _LENGTH.unpack_from(content, value)
            value += 4
        elif vr not in _SHORT:
            break
        at = value + length
        if tag in _WANTED:
            found[tag] = content[value:at]
    return {}, at


def _judge(head: _Head) -> Header:
    if not head.part10:
        if is_uid(head.elements.get(_STUDY)) or is_uid(head.elements.get(_INSTANCE)):
            raise NoPart10Header("a DICOM data set without a Part 10 header (preamble and file meta information)")
        if head.archive:
            raise ClosedArchive(f"an archive ({head.archive}) that is not opened here: unpack it, or name a ZIP .zip")
        raise NotDicom("not a DICOM file")
    if head.meta.get(_META_SOP_CLASS) == _DICOM_DIRECTORY or head.elements.get(_SOP_CLASS) == _DICOM_DIRECTORY:
        raise DicomDirectory("a DICOMDIR, which is an index and not an instance")
    if not head.conclusive:
        raise UnreadableHeader("a Part 10 file whose data set cannot be read as far as its UIDs")
    uids = [_checked(head.elements, *named) for named in ((_STUDY, "Study"), (_SERIES, "Series"), (_INSTANCE, "SOP"))]
    return Header(InstancePath(*uids), head.elements.get(_SOP_CLASS, ""), head.meta.get(_META_SYNTAX, ""))


def _archive_kind(content: bytes) -> str:
    """Name the format of an archive; an empty string if it is none."""
    if content[_TAR_MAGIC] == b"ustar":
        return "tar"
    if content.startswith(b"BZh") and content[_BZIP2_MAGIC] in {b"1AY&SY", b"\x17rE8P\x90"}:
        return "bzip2"
    kind = next((kind for magic, kind in _ARCHIVE_MAGIC.items() if content.startswith(magic)), "")
    return "" if kind == "ZIP" and content[_FIRST_MEMBER].startswith(_NO_ARCHIVES) else kind


def _checked(elements: Mapping[int, str], tag: int, kind: str) -> str:
    uid = elements.get(tag, "")
    if not uid:
        raise BadIdentity(f"its {kind} Instance UID is missing")
    if not is_uid(uid):
        raise BadIdentity(f"its {kind} Instance UID is not a UID: at most 64 characters, digits joined by single dots")
    if has_leading_zero(uid):
        _log.warning(
            "%s Instance UID %s has a component with a leading zero, against PS3.5: it is used as it is", kind, uid
        )
    return uid


def _parse(content: bytes, *, whole: bool) -> _Head:
    """Read group 0002 and the UIDs from the first bytes of a file.

    :param whole: These bytes are the whole file.
    """
    part10 = content[_PREFIX] == b"DICM"
    stream = BytesIO(content)
    stream.seek(_PREFIX.stop if part10 else 0)
    meta, _, _ = _read_elements(stream, 0x0002FFFF, implicit=False, little_endian=True)
    syntax = meta.get(_META_SYNTAX, "")
    if syntax == _DEFLATED:
        stream = BytesIO(_inflated(stream.read()))
    implicit, little_endian = _encoding(syntax, stream)
    elements, passed, readable = _read_elements(stream, _SERIES, implicit=implicit, little_endian=little_endian)
    # Without a preamble it is a guess from the start: a large text file is not worth 64 MiB of guessing.
    conclusive = passed or (whole and readable) or not part10 or _SERIES in elements
    return _Head(part10, meta, elements, conclusive, _archive_kind(content))


def _read_elements(
    stream: BytesIO, last: int, *, implicit: bool, little_endian: bool
) -> tuple[dict[int, str], bool, bool]:
    """Read the wanted elements up to a tag; tell too whether a later one was seen, and whether all could be read."""
    from pydicom.filereader import read_dataset  # costs a quarter of a second, and only readers need it

    passed = False

    def stop(tag: int, _vr: str | None, _length: int) -> bool:
        nonlocal passed
        passed = tag > last
        return passed

    # Warnings about values are for whoever reads the instances. The filters belong to the process, hence the lock:
    # threads that leave out of turn would leave them changed.
    with _filters, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            found = read_dataset(stream, implicit, little_endian, stop_when=stop, specific_tags=[*_WANTED])
        except Exception:  # noqa: BLE001 - bytes from anywhere: pydicom raises whatever they lead it to
            return {}, passed, False
    # Raw elements: a converted one would have been validated, and replaced where it does not please.
    return {tag: _text(found.get_item(tag).value) for tag in _WANTED if tag in found}, passed, True


def _text(value: object) -> str:
    return value.decode("latin-1").strip("\0 ") if isinstance(value, bytes) else ""


def _encoding(syntax: str, stream: BytesIO) -> tuple[bool, bool]:
    """Give (implicit VR, little endian) of the data set; without a transfer syntax it is guessed from its first element."""
    if syntax:
        return syntax == _IMPLICIT, syntax != _BIG_ENDIAN
    first = stream.read(6)
    stream.seek(-len(first), os.SEEK_CUR)
    explicit = first[4:6].isalpha() and first[4:6].isupper()
    # A group is far below 0x0400 where the UIDs are: a larger one is a small one in the other byte order.
    return not explicit, not (explicit and int.from_bytes(first[:2], "little") >= 0x0400)


def _inflated(content: bytes) -> bytes:
    try:
        return zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, _HEAD_SIZES[-1])
    except zlib.error:
        return b""
