"""Data sets as DICOM JSON, however odd the file is.

An attribute that breaks the rules (letters in a number, a date with dots, bytes of another character set) is returned
as the text that stands in the file; it never costs the caller the other attributes.

Source: DICOM PS3.18 annex F; Cloud Healthcare API, DICOM conformance statement, "Bulkdata" (what is returned by URI).
"""

from __future__ import annotations

import base64
import json
import logging
import math
import warnings
from collections.abc import Callable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any, Final

import pydicom
from pydicom import config
from pydicom.datadict import dictionary_VR
from pydicom.dataelem import DataElement, RawDataElement
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag
from pydicom.uid import DeflatedExplicitVRLittleEndian
from pydicom.valuerep import VR, PersonName

UNREADABLE_MESSAGE: Final = "invalid DICOM file"

_UNDEFINED_LENGTH = 0xFFFFFFFF
_DEFERRED_FROM = 64 * 1024
_LARGEST_SEQUENCE = 1024 * 1024
_LARGEST_INLINE = 2 * 1024
_MOST_VALUES = 512
_KNOWN_VRS = frozenset(map(str, VR))
_ALWAYS_BULK = {"OB", "OW", "UN", "OB or OW"}
_NUMBER_BYTES = {"AT": 4, "FD": 8, "FL": 4, "UL": 4, "US": 2, "SV": 8, "UV": 8}
WORD_BYTES = {"OD": 8, "OF": 4, "OL": 4, "OV": 8, "OW": 2, "OB": 1, "UN": 1, **_NUMBER_BYTES, "AT": 2}
_INTEGERS = {"IS", "SL", "SS", "SV", "UL", "US", "UV"}
_REALS = {"DS", "FD", "FL"}
_TEXTS = {"CS", "DA", "LO", "SH", "TM", "UI"}
# The file's own business: length of the group, version, and what Google does not return of group 0002.
_META_LEFT_OUT = {"00020000", "00020001"}

BulkUri = Callable[[str], str]
"""Gives the URL of an element's bytes from its path: ``7FE00010``, or ``YYYYYYYY/i/XXXXXXXX`` inside a sequence."""


class UnreadableFileError(Exception):
    """A file that is no DICOM Part 10 file, or is damaged."""


def read_leniently() -> None:
    """Let this process read files as they are: what breaks a rule is stored, searched and returned all the same."""
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    # They would be printed for each odd file, and name its values.
    warnings.filterwarnings("ignore", module="pydicom")
    logging.getLogger("pydicom").setLevel(logging.CRITICAL)


def read_data_set(file: Path) -> FileDataset:
    """Read a stored file; large values stay on the disk until they are asked for.

    :raises UnreadableFileError: If it cannot be read.
    """
    try:
        data_set = pydicom.dcmread(str(file), defer_size=_DEFERRED_FROM)
        if data_set.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
            # Positions in the inflated stream are no positions in the file: nothing can be read later.
            data_set = pydicom.dcmread(str(file))
    except Exception as error:
        raise UnreadableFileError(UNREADABLE_MESSAGE) from error
    return data_set


def metadata(data_set: FileDataset, bulk_uri: BulkUri) -> dict[str, Any]:
    """Give all attributes of an instance as DICOM JSON: group 0002 first, bulk data by URI."""
    meta = to_json(data_set.file_meta, bulk_uri)
    found = {tag: element for tag, element in meta.items() if tag not in _META_LEFT_OUT}
    found.update(to_json(data_set, bulk_uri))
    return found


def to_json(data_set: Dataset, bulk_uri: BulkUri, tags: AbstractSet[BaseTag] | None = None) -> dict[str, Any]:
    """Give a data set as DICOM JSON, in the order of its tags.

    :param bulk_uri: Gives the URL of an element's bytes.
    :param tags: Which elements; None for all.
    """
    found = {}
    for tag in sorted(data_set.keys() if tags is None else data_set.keys() & tags):
        # Group lengths are of the encoding; the model has no place for them (PS3.18 F.2).
        if tag.element == 0 and tag.group != 0:
            continue
        element = element_json(data_set, tag, bulk_uri)
        if element is not None:
            found[f"{tag:08X}"] = element
    return found


def element_json(data_set: Dataset, tag: BaseTag, bulk_uri: BulkUri) -> dict[str, Any] | None:
    """Give one element as DICOM JSON; None for a sequence that is too large, which the service leaves out."""
    raw = data_set.get_item(tag, keep_deferred=True)
    vr, length = _encoding(raw, tag)
    if length and _is_bulk(vr, length):
        return {"vr": "OW" if " or " in vr else vr, "BulkDataURI": bulk_uri(f"{tag:08X}")}
    if vr in _TEXTS and isinstance(raw, RawDataElement) and isinstance(raw.value, bytes) and _is_plain(raw.value):
        return _element(vr, _plain_texts(raw.value, vr))
    try:
        element = data_set[tag]
        if element.VR == "SQ":
            return _sequence(element, tag, bulk_uri)
        if isinstance(element.value, bytes):
            return _binary(element, data_set)
        values = [_plain(value, element.VR) for value in _values(element)]
    except Exception:  # noqa: BLE001 - whatever is wrong with a value, its text is returned and the others are
        vr, values = _as_text(raw, vr)
        return _element(vr, values)
    return _element(element.VR, values)


def _is_plain(data: bytes) -> bool:
    """Tell whether a text is the same in every character set."""
    return data.isascii() and b"\x1b" not in data


def _plain_texts(data: bytes, vr: str) -> list[Any]:
    """Split a plain text as pydicom does, which takes ten times as long."""
    text = data.decode("ascii").rstrip("\0 ")
    parts = text.split("\\")
    return [(part.rstrip("\0 ") if vr in {"LO", "SH"} else part) or None for part in parts]


def _element(vr: str, values: list[Any]) -> dict[str, Any]:
    kind = "US" if " or " in vr else vr
    return {"vr": kind, "Value": values} if any(value is not None for value in values) else {"vr": kind}


def _encoding(raw: DataElement | RawDataElement | Any, tag: BaseTag) -> tuple[str, int]:
    """Give VR and length as they stand in the file."""
    if isinstance(raw, RawDataElement):
        vr = raw.VR
        # A known attribute written as UN, as some tools do with all of them, is what the dictionary says.
        if vr is None or (vr == "UN" and raw.length != _UNDEFINED_LENGTH):
            try:
                vr = dictionary_VR(tag)
            except KeyError:
                vr = "LO" if tag.is_private_creator else "UN"
        # Where a damaged file has no VR at all, its bytes are of none that is known.
        return vr if vr in _KNOWN_VRS else "UN", raw.length
    value = raw.value
    return raw.VR, len(value) if isinstance(value, bytes) else 0


def is_bulk(element: DataElement | RawDataElement) -> bool:
    """Tell whether metadata name an element by URI, instead of giving its value."""
    vr, length = _encoding(element, BaseTag(element.tag))
    return bool(length) and _is_bulk(vr, length)


def _is_bulk(vr: str, length: int) -> bool:
    if vr in _ALWAYS_BULK:
        return True
    if length == _UNDEFINED_LENGTH:
        return vr != "SQ"
    if vr in _NUMBER_BYTES:
        return length > _MOST_VALUES * _NUMBER_BYTES[vr]
    return vr in {"OD", "OF", "OL", "OV"} and length > _LARGEST_INLINE


def _sequence(element: DataElement, tag: BaseTag, bulk_uri: BulkUri) -> dict[str, Any] | None:
    items = []
    for index, item in enumerate(element.value or ()):
        items.append(to_json(item, lambda path, at=index: bulk_uri(f"{tag:08X}/{at}/{path}")))  # type: ignore[misc]
    if len(json.dumps(items)) > _LARGEST_SEQUENCE:
        return None
    return {"vr": "SQ", "Value": items} if items else {"vr": "SQ"}


def _binary(element: DataElement, data_set: Dataset) -> dict[str, Any]:
    if not element.value:
        return {"vr": element.VR}
    width = WORD_BYTES.get(element.VR, 1)
    data = element.value if data_set.original_encoding[1] is not False else swapped(element.value, width)
    return {"vr": element.VR, "InlineBinary": base64.b64encode(data).decode("ascii")}


def swapped(data: bytes, width: int) -> bytes:
    """Give binary data with the bytes of each word in the other order."""
    if width == 1 or len(data) % width:
        return data
    turned = bytearray(len(data))
    for offset in range(width):
        turned[offset::width] = data[width - 1 - offset :: width]
    return bytes(turned)


def _values(element: DataElement) -> list[Any]:
    value = element.value
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, MultiValue | list | tuple) else [value]


def _plain(value: Any, vr: str) -> Any:
    if value is None or value == "":
        return None
    if vr == "PN":
        return _person_name(PersonName(value))
    if vr == "AT":
        return f"{int(value):08X}"
    if vr in _INTEGERS or " or " in vr:
        return int(value)
    if vr in _REALS:
        real = float(value)
        # JSON has no such numbers: their names are written (PS3.18 F.2.3.1).
        return real if math.isfinite(real) else {math.inf: "Infinity", -math.inf: "-Infinity"}.get(real, "NaN")
    return str(value)


def _person_name(name: PersonName) -> dict[str, str] | None:
    groups = {"Alphabetic": name.alphabetic, "Ideographic": name.ideographic, "Phonetic": name.phonetic}
    return {key: str(group) for key, group in groups.items() if group} or None


def _as_text(raw: Any, vr: str) -> tuple[str, list[Any]]:
    """Give a value that breaks its VR's rules as the text that stands in the file."""
    data = raw.value if isinstance(getattr(raw, "value", None), bytes) else b""
    texts: list[Any] = [part.strip(" \0") or None for part in data.decode("latin-1").split("\\")]
    if vr == "PN":
        texts = [text and {"Alphabetic": text} for text in texts]
    if vr in _NUMBER_BYTES or vr in {"SL", "SS", "SQ"} or vr in WORD_BYTES:
        return vr, []
    return vr, texts


def first_text(attributes: Mapping[str, Any], tag: str) -> str:
    """Give the first value of an attribute as a search compares it: a person name whole, with all its groups."""
    values = attributes.get(tag, {}).get("Value") or [""]
    value = values[0]
    if isinstance(value, Mapping):
        groups = [value.get(key, "") for key in ("Alphabetic", "Ideographic", "Phonetic")]
        return "=".join(groups).rstrip("=")
    return "" if value is None else str(value)
