"""What a server says of the instances of one store request.

That an instance is referenced does not prove that it was stored: Orthanc answers 200 and keeps the old bytes of an
instance that it knows. And an answer may be silent about instances that were sent. So an answer is only read here; it
is judged where it is known what was sent (``storing.py``).

Source: DICOM PS3.18 section 10.5 and annex I (Tables I.2-1 and I.2-2), annex F (JSON); PS3.19 annex A (Native DICOM
Model).
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from xml.etree import ElementTree as ET

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, items, text
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MediaType
from airflow_dicomweb.errors import ProtocolError

PROCESSING_FAILURE = 0x0110
DUPLICATE = 0x0111

_REFERENCED, _FAILED = "00081199", "00081198"
_STORE_TAGS = frozenset({"00081190", _REFERENCED, _FAILED, "0008119A"})
_SOP_CLASS, _SOP_INSTANCE, _FAILURE_REASON, _WARNING_REASON = "00081150", "00081155", "00081197", "00081196"
# Google's own: FailureDetail in XML, FailureDetailJSON in JSON.
_FAILURE_DETAILS = ("00090097", "00091097")

_REASONS = {
    0x0105: "no such attribute",
    0x0106: "invalid attribute value",
    PROCESSING_FAILURE: "processing failure",
    DUPLICATE: "duplicate SOP instance",
    0x0112: "no such SOP instance",
    0x0115: "invalid argument value",
    0x0117: "invalid SOP instance",
    0x0118: "no such SOP class",
    0x0119: "class and instance conflict",
    0x0120: "missing attribute",
    0x0121: "missing attribute value",
    0x0122: "SOP class not supported",
    0x0124: "not authorized",
    0x0131: "transaction identifier not consistent",
    0x0213: "resource limitation",
    0xC122: "transfer syntax not supported",
    0xB000: "some data elements were coerced",
    0xB006: "some data elements were discarded",
    0xB007: "the data set does not match its SOP class",
}
_REASON_RANGES = {0xA7: "out of resources", 0xA9: "the data set does not match its SOP class"}


def reason_of(code: int) -> str:
    """Say a failure or warning reason in words, with its code."""
    words = _REASONS.get(code) or _REASON_RANGES.get(code >> 8)
    if words is None:
        words = "cannot understand" if 0xC000 <= code <= 0xCFFF else "unknown reason"
    return f"{words} (0x{code:04X})"


@dataclass(frozen=True, slots=True)
class Failure:
    """What a server said of an instance that it did not store.

    :param code: FailureReason, or None.
    :param detail: Further words of the server, or an empty string. Private: they may repeat a value of the data set.
    """

    code: int | None
    detail: str = ""

    @property
    def is_conflict(self) -> bool:
        """Whether the server has other bytes under this identity."""
        return self.code == DUPLICATE or (self.code == PROCESSING_FAILURE and "already exists" in self.detail.lower())

    def __str__(self) -> str:
        return "no reason given" if self.code is None else reason_of(self.code)


@dataclass(frozen=True, slots=True)
class StoreAnswer:
    """What a server said of the instances of one store request, by SOP Instance UID.

    :param referenced: Instances that it accepted, with their WarningReason or None.
    :param failed: Instances that it refused. One that is in both was not stored.
    """

    referenced: Mapping[str, int | None]
    failed: Mapping[str, Failure]


def read_answer(content: bytes, media_type: MediaType) -> StoreAnswer | None:
    """Read the body of an answer to a store request, whatever its status.

    :param media_type: As declared; an answer without one is looked into, because Orthanc's error answers have none.
    :return: None if the body is readable and says nothing about instances, as an error page does.
    :raises ProtocolError: If it is declared to be DICOM and cannot be read.
    """
    declared = media_type.name in {DICOM_JSON, DICOM_XML}
    start = content.lstrip()[:1]
    try:
        if media_type.name in {DICOM_JSON, JSON} or (not media_type.name and start in {b"{", b"["}):
            data_set = _from_json(json.loads(content))
        elif media_type.name == DICOM_XML or (start == b"<" and b"NativeDicomModel" in content[:4096]):
            data_set = _from_xml(content)
        else:
            return None
    except (ValueError, RecursionError, ET.ParseError):
        data_set = None
    if data_set is None:
        if declared:
            raise ProtocolError(f"the answer to a store request is declared {media_type.name} and cannot be read as it")
        return None
    return StoreAnswer(
        MappingProxyType({uid: _code(item, _WARNING_REASON) for uid, item in _listed(data_set, _REFERENCED)}),
        MappingProxyType({uid: _failure(item) for uid, item in _listed(data_set, _FAILED)}),
    )


def _from_json(body: object) -> DicomJson | None:
    if isinstance(body, list) and len(body) == 1:  # annex F wraps data sets in an array, the store response does not
        body = body[0]
    is_answer = isinstance(body, Mapping) and (not body or bool(_STORE_TAGS & body.keys()))
    return body if is_answer and isinstance(body, Mapping) else None


def _from_xml(content: bytes) -> DicomJson | None:
    if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
        return None
    root = ET.fromstring(content)  # noqa: S314 - entities, the danger, were refused
    return _element_items(root) if _local(root) == "NativeDicomModel" else None


def _element_items(node: ET.Element) -> dict[str, Any]:
    """Read the attributes below a data set or item as DICOM JSON; namespaces do not matter."""
    found: dict[str, Any] = {}
    for attribute in node:
        values: list[Any] = [_element_items(child) for child in attribute if _local(child) == "Item"]
        values += [child.text.strip() for child in attribute if _local(child) == "Value" and child.text]
        found[attribute.get("tag", "").upper()] = {"vr": attribute.get("vr", ""), "Value": values}
    return found


def _local(node: ET.Element) -> str:
    return node.tag.rpartition("}")[2]


def _listed(data_set: DicomJson, sequence: str) -> Iterator[tuple[str, DicomJson]]:
    return ((text(item, _SOP_INSTANCE).strip("\0 "), item) for item in items(data_set, sequence))


def _code(item: DicomJson, tag: str) -> int | None:
    try:
        return int(text(item, tag))
    except ValueError:
        return None


def _failure(item: DicomJson) -> Failure:
    details = (text(item, tag) for tag in _FAILURE_DETAILS)
    return Failure(_code(item, _FAILURE_REASON), next((" ".join(each.split())[:200] for each in details if each), ""))
