"""DICOM JSON: reading and writing by keyword or tag.

Source: DICOM PS3.18 annex F (DICOM JSON model), PS3.6 (keywords).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any

from airflow_dicomweb.errors import ConfigurationError, ProtocolError

DicomJson = Mapping[str, Any]
"""One data set: ``{"0020000D": {"vr": "UI", "Value": ["1.2.3"]}, ...}``."""

_TAG = re.compile(r"[0-9A-Fa-f]{8}")

# What storing and retrieving ask for: pydicom's dictionary, a quarter of a second and 30 MiB, is for the others.
_KNOWN = {
    "SOPClassUID": "00080016",
    "SOPInstanceUID": "00080018",
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "NumberOfStudyRelatedInstances": "00201208",
    "NumberOfSeriesRelatedInstances": "00201209",
}


@lru_cache(maxsize=4096)
def tag_of(name: str) -> str:
    """Give the 8-digit upper-case tag of a keyword or tag.

    :param name: ``StudyDate``, ``00080020`` or ``0008,0020`` in parentheses or not.
    :raises ConfigurationError: If it is neither; the value itself is not repeated in the message.
    """
    if name in _KNOWN:
        return _KNOWN[name]
    plain = name.strip("()").replace(",", "")
    if _TAG.fullmatch(plain):
        return plain.upper()
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(name) if name else None
    if tag is None:
        raise ConfigurationError(
            f"{name!r} is not an attribute: a DICOM keyword such as 'StudyDate' or a tag such as '00080020' is accepted"
        )
    return f"{tag:08X}"


@lru_cache(maxsize=4096)
def keyword_of(tag: str) -> str:
    """Give the keyword of an 8-digit tag, or the tag itself if it has none of its own.

    Private elements have none, and those of repeating groups, such as overlays, share theirs.
    """
    from pydicom.datadict import dictionary_has_tag, keyword_for_tag

    number = int(tag, 16) if _TAG.fullmatch(tag) else None
    return keyword_for_tag(number) or tag if number is not None and dictionary_has_tag(number) else tag


def values(data_set: DicomJson, name: str) -> list[Any]:
    """Give all values of an attribute; a missing or empty one gives an empty list."""
    element = data_set.get(name if name in data_set else tag_of(name))
    if not isinstance(element, Mapping):
        return []
    found = element.get("Value")
    return list(found) if isinstance(found, Sequence) and not isinstance(found, str) else []


def text(data_set: DicomJson, name: str) -> str:
    """Give the first value of an attribute as text; a person name gives its alphabetic group, nothing gives ``""``."""
    first = next(iter(values(data_set, name)), None)
    if isinstance(first, Mapping):
        first = first.get("Alphabetic")
    return "" if first is None else str(first)


def items(data_set: DicomJson, name: str) -> Iterator[DicomJson]:
    """Give the items of a sequence."""
    return (item for item in values(data_set, name) if isinstance(item, Mapping))


def element(vr: str, *found: object) -> dict[str, Any]:
    """Write one element; without a value it has no ``Value`` (PS3.18 F.2.5)."""
    return {"vr": vr, "Value": list(found)} if found else {"vr": vr}


def flat(data_set: DicomJson) -> dict[str, Any]:
    """Give a data set as a plain dictionary by keyword.

    One value stands alone, several are a list, none is None. Numbers are numbers, and everything else is text: dates too,
    and of person names the alphabetic group. Sequences are lists of dictionaries, however many items they have. Binary
    values are left out, whether they came along or there is only a URI of them.
    """
    return {keyword_of(tag): _plain(data_set, tag) for tag, found in data_set.items() if not _is_binary(found)}


def _is_binary(found: Any) -> bool:
    return isinstance(found, Mapping) and ("BulkDataURI" in found or "InlineBinary" in found)


def _plain(data_set: DicomJson, tag: str) -> Any:
    found = values(data_set, tag)
    plain = [_plain_value(value) for value in found]
    is_sequence = data_set[tag].get("vr") == "SQ" if found else False
    return plain[0] if len(plain) == 1 and not is_sequence else plain or None


def _plain_value(value: Any) -> Any:
    if not isinstance(value, Mapping):
        return value
    # A person name has groups where a sequence item has tags (PS3.18 F.2.2).
    if value and set(value) <= {"Alphabetic", "Ideographic", "Phonetic"}:
        return value.get("Alphabetic")
    return flat(value)


def check_answer(answer: object) -> list[DicomJson]:
    """Return an answer that should be an array of data sets.

    :raises ProtocolError: If it is anything else.
    """
    if isinstance(answer, list) and all(isinstance(item, Mapping) for item in answer):
        return answer
    raise ProtocolError("a DICOM JSON answer must be an array of objects")
