"""DICOM JSON as Native DICOM Model XML, the way the service writes it: no declaration, no namespace.

Source: DICOM PS3.19 annex A.1; Cloud Healthcare API, "Using the DICOMweb standard" (printed answers).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from xml.etree import ElementTree as ET

from pydicom.datadict import keyword_for_tag

# XML 1.0 has no place for these, not even escaped.
_FORBIDDEN = dict.fromkeys((*range(9), 11, 12, *range(14, 32), 65534, 65535), " ")
_NAME_PARTS = ("FamilyName", "GivenName", "MiddleName", "NamePrefix", "NameSuffix")

PRIVATE = {"00090097": ("FailureDetail", "GOOGLE"), "00091097": ("FailureDetailJSON", "GOOGLE")}
"""Private elements of the service's own: keyword and creator."""


def native_xml(data_set: Mapping[str, Any]) -> bytes:
    """Write one data set."""
    root = ET.Element("NativeDicomModel")
    _attributes(root, data_set)
    return ET.tostring(root, encoding="unicode").encode("utf-8", "replace")


def _attributes(parent: ET.Element, data_set: Mapping[str, Any]) -> None:
    for tag, element in data_set.items():
        described = {"tag": tag, "vr": element["vr"]}
        keyword, creator = PRIVATE.get(tag) or (keyword_for_tag(int(tag, 16)), "")
        described |= {key: value for key, value in (("keyword", keyword), ("privateCreator", creator)) if value}
        node = ET.SubElement(parent, "DicomAttribute", described)
        if "BulkDataURI" in element:
            ET.SubElement(node, "BulkData", {"uri": element["BulkDataURI"]})
        elif "InlineBinary" in element:
            ET.SubElement(node, "InlineBinary").text = element["InlineBinary"]
        for number, value in enumerate(element.get("Value", ()), 1):
            _value(node, element["vr"], str(number), value)


def _value(node: ET.Element, vr: str, number: str, value: Any) -> None:
    if vr == "SQ":
        _attributes(ET.SubElement(node, "Item", {"number": number}), value)
    elif vr == "PN":
        _person_name(ET.SubElement(node, "PersonName", {"number": number}), value or {})
    elif value is not None:
        ET.SubElement(node, "Value", {"number": number}).text = str(value).translate(_FORBIDDEN)


def _person_name(node: ET.Element, groups: Mapping[str, str]) -> None:
    for group, name in groups.items():
        parent = ET.SubElement(node, group)
        for part, text in zip(_NAME_PARTS, name.split("^"), strict=False):
            if text:
                ET.SubElement(parent, part).text = text.translate(_FORBIDDEN)
