"""Part 10 files out of JSON metadata and bulk data.

What the service derives from pixel data is nothing: rows, columns and the rest stand in the metadata or nowhere. The
same request makes the same bytes, so that a repeat finds the instance stored already.

Source: Cloud Healthcare API, DICOM conformance statement, "Store transaction" (JSON metadata and bulk data); "Using the
DICOMweb standard", "Store a DICOM instance from JSON metadata and JPEG files"; DICOM PS3.18 sections 8.7.3 and F.2.2.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import IO, Any

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate_buffer
from pydicom.filewriter import dcmwrite
from pydicom.uid import UID, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from airflow_dicomweb.dicomweb.dicom_json import keyword_of
from airflow_dicomweb.dicomweb.media_types import OCTET_STREAM, MediaType
from airflow_dicomweb.emulator.media import STORED
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.receiving import Incoming

_TRANSFER_SYNTAX, _CHARACTER_SET, _PIXEL_DATA, _FRAMES = "00020010", "00080005", "7FE00010", "00280008"
_REQUIRED = (_CHARACTER_SET, _TRANSFER_SYNTAX, "00080016", "00080018", "0020000D", "0020000E")
_UTF_8 = "ISO_IR 192"
_BIG_ENDIAN_AND_DEFLATED = {"1.2.840.10008.1.2.2", "1.2.840.10008.1.2.1.99"}
_NATIVE = {str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)}
_BULK_VRS = {"OB", "OW", "UN"}
_TAG = re.compile(r"[0-9A-Fa-f]{8}")
_BLOCK_SIZE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BulkPart:
    """One part of bulk data.

    :param location: Its Content-Location: what a BulkDataURI of the metadata names it by.
    :param media_type: Its Content-Type.
    :param content: Its bytes.
    """

    location: str
    media_type: MediaType
    content: Incoming


def compose(
    text: bytes, json_type: MediaType, bulk: Sequence[BulkPart], receive: Callable[[], Incoming]
) -> Iterator[Incoming]:
    """Make the file of each instance, one after the other.

    :param text: The metadata: a JSON array of data sets.
    :param json_type: Content-Type of the metadata.
    :param receive: Begins a new file.
    :raises ApiError: 400 if metadata and bulk data do not make instances; no file was begun then.
    """
    described = _described(text)
    parts = _by_location(bulk)
    used: list[str] = []
    for data_set in described:
        _check_required(data_set)
        named = _check_bulk(data_set, json_type)
        missing = [location for location in named.values() if location not in parts]
        if missing:
            raise ApiError(400, "A BulkDataURI of the metadata is the Content-Location of no part.")
        for path, location in named.items():
            _check_part(parts[location].media_type, path, data_set)
        used += named.values()
    if len(set(used)) < len(used):
        raise ApiError(400, "A BulkDataURI occurs more than once in the metadata.")
    if set(parts) - set(used):
        raise ApiError(400, "The Content-Location of a part is the BulkDataURI of no element of the metadata.")
    for data_set in described:
        yield _file(data_set, parts, receive)


def _described(text: bytes) -> list[dict[str, Any]]:
    try:
        parsed = json.loads(text.decode("utf-8"))
    except (ValueError, RecursionError):
        raise ApiError(400, "The metadata are no JSON in UTF-8.") from None
    if not isinstance(parsed, list) or not parsed or not all(isinstance(each, dict) for each in parsed):
        raise ApiError(400, "The metadata must be a JSON array of data sets.")
    return parsed


def _by_location(bulk: Sequence[BulkPart]) -> dict[str, BulkPart]:
    parts = {part.location: part for part in bulk}
    if "" in parts:
        raise ApiError(400, "A part of bulk data has no Content-Location.")
    if len(parts) < len(bulk):
        raise ApiError(400, "Two parts have the same Content-Location.")
    return parts


def _check_required(data_set: Mapping[str, Any]) -> None:
    missing = [keyword_of(tag) for tag in _REQUIRED if not _first(data_set, tag)]
    if missing:
        raise ApiError(400, f"The metadata of an instance lack {', '.join(missing)}.")
    if _first(data_set, _CHARACTER_SET) != _UTF_8:
        raise ApiError(400, f"SpecificCharacterSet must be {_UTF_8}.")
    if _first(data_set, _TRANSFER_SYNTAX) in _BIG_ENDIAN_AND_DEFLATED:
        raise ApiError(400, "The TransferSyntaxUID must be neither big endian nor deflated.")


def _first(data_set: Mapping[str, Any], tag: str) -> str:
    element = data_set.get(tag)
    values = element.get("Value") if isinstance(element, Mapping) else None
    return str(values[0]) if isinstance(values, list) and values and values[0] is not None else ""


def _check_bulk(data_set: Mapping[str, Any], json_type: MediaType) -> dict[str, str]:
    """Give the one element that is given as bulk data: its path, and where it is."""
    found = list(_binary_elements(data_set))
    for path, element in found:
        if "InlineBinary" in element and path == _PIXEL_DATA:
            raise ApiError(400, "PixelData must be given as bulk data, not as InlineBinary.")
        if "InlineBinary" in element and not json_type.transfer_syntax:
            raise ApiError(400, "Metadata with an InlineBinary need a transfer-syntax in their Content-Type.")
    named = {path: element["BulkDataURI"] for path, element in found if "BulkDataURI" in element}
    if len(named) > 1:
        raise ApiError(400, "More than one element of an instance has a BulkDataURI.")
    if any(element.get("vr") not in _BULK_VRS for _, element in found if "BulkDataURI" in element):
        raise ApiError(400, f"Only elements of VR {', '.join(sorted(_BULK_VRS))} can have a BulkDataURI.")
    if not all(isinstance(location, str) for location in named.values()):
        raise ApiError(400, "A BulkDataURI must be a string.")
    return named


def _binary_elements(data_set: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Give all elements that have no plain values, with their paths through sequences."""
    for tag, element in data_set.items():
        if not (isinstance(element, Mapping) and _TAG.fullmatch(tag)):
            raise ApiError(400, "An element of the metadata is no JSON object with a tag of eight digits as its name.")
        if "BulkDataURI" in element or "InlineBinary" in element:
            yield before + tag.upper(), element
        values = element.get("Value")
        for index, value in enumerate(values if element.get("vr") == "SQ" and isinstance(values, list) else ()):
            if isinstance(value, Mapping):
                yield from _binary_elements(value, f"{before}{tag}/{index}/")


def _check_part(media_type: MediaType, path: str, data_set: Mapping[str, Any]) -> None:
    stored = _first(data_set, _TRANSFER_SYNTAX)
    if media_type.name == OCTET_STREAM:
        if path == _PIXEL_DATA and stored not in _NATIVE:
            raise ApiError(400, f"PixelData of transfer syntax {stored} cannot be {OCTET_STREAM}.")
        return
    if path != _PIXEL_DATA:
        raise ApiError(400, "Only PixelData can be given compressed.")
    if media_type.transfer_syntax != stored or stored not in STORED[media_type.name]:
        raise ApiError(400, "The transfer-syntax of a part is not the TransferSyntaxUID of its instance.")
    if _first(data_set, _FRAMES) not in {"", "1"}:
        raise ApiError(400, "A part of compressed pixel data is one frame: NumberOfFrames must be 1.")


def _file(described: Mapping[str, Any], parts: Mapping[str, BulkPart], receive: Callable[[], Incoming]) -> Incoming:
    incoming = receive()
    draft = receive()
    try:
        _write(described, parts, draft.path)
        with draft.path.open("rb") as file:
            while block := file.read(_BLOCK_SIZE):
                incoming.write(block)
    except ApiError:
        incoming.discard()
        raise
    finally:
        draft.discard()
    incoming.close()
    return incoming


def _write(described: Mapping[str, Any], parts: Mapping[str, BulkPart], target: Path) -> None:
    transfer_syntax = _first(described, _TRANSFER_SYNTAX)
    with ExitStack() as opened:

        def value(_tag: str, vr: str, location: str) -> bytes | BufferedIOBase:
            path = parts[location].content.path
            file: IO[bytes] = opened.enter_context(path.open("rb"))
            if parts[location].media_type.name in STORED:
                return encapsulate_buffer([file])  # type: ignore[list-item]  # opened to be read, it is one
            _make_even(path)
            # pydicom keeps no files open for values of an unknown kind.
            return file.read() if vr == "UN" else file  # type: ignore[return-value]

        body = {tag: element for tag, element in described.items() if not tag.startswith("0002")}
        try:
            data_set = Dataset.from_json(body, value)  # type: ignore[arg-type]  # open files are values, too
            data_set.file_meta, data_set.preamble = FileMetaDataset(), bytes(128)
            data_set.file_meta.TransferSyntaxUID = UID(transfer_syntax)
            if "PixelData" in data_set and transfer_syntax not in _NATIVE:
                data_set["PixelData"].is_undefined_length = True
            implicit = transfer_syntax == ImplicitVRLittleEndian
            with target.open("wb") as file:
                dcmwrite(file, data_set, implicit_vr=implicit, little_endian=True, enforce_file_format=True)
        except Exception as error:
            raise ApiError(400, "The metadata are no DICOM JSON of an instance that can be written.") from error


def _make_even(path: Path) -> None:
    """Add the byte that makes a value's length even (PS3.5 section 7.1.1)."""
    if path.stat().st_size % 2:
        with path.open("ab") as file:
            file.write(b"\0")
