"""What a new instance is: the caller's metadata, what its file says of itself, and what follows from both.

Source: DICOM PS3.3 sections A.8 (Secondary Capture), A.32 (Visible Light), A.45.1 (Encapsulated PDF), C.7.6.3 (Image
Pixel) and C.7.6.1 (lossy compression); PS3.5 annex B.2 (UIDs derived from UUIDs).
"""

from __future__ import annotations

import hashlib
import json
import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.attributes import data_set_of, read_metadata
from airflow_dicomweb.dicomweb.bulk_source import blocks_of
from airflow_dicomweb.dicomweb.composing import PIXEL_DATA
from airflow_dicomweb.dicomweb.dicom_json import element, tag_of, values
from airflow_dicomweb.dicomweb.file_facts import FileFacts, read_facts
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.errors import ConfigurationError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NAMESPACE = uuid.UUID("6b4844c5-6e1c-5d1f-8f3b-3f3b8a0c1e57")
_UTF_8 = "ISO_IR 192"
_SYNTAX_TAG = "00020010"
_UIDS = {"study": "0020000D", "series": "0020000E", "instance": "00080018"}
_VISIBLE_LIGHT = "1.2.840.10008.5.1.4.1.1.77.1."
_SECONDARY_CAPTURE, _PDF = "1.2.840.10008.5.1.4.1.1.7", "1.2.840.10008.5.1.4.1.1.104.1"
_MODALITIES = {
    _SECONDARY_CAPTURE: "OT",
    _PDF: "DOC",
    f"{_VISIBLE_LIGHT}1": "ES",
    f"{_VISIBLE_LIGHT}1.1": "ES",
    f"{_VISIBLE_LIGHT}2": "GM",
    f"{_VISIBLE_LIGHT}2.1": "GM",
    f"{_VISIBLE_LIGHT}4": "XC",
    f"{_VISIBLE_LIGHT}4.1": "XC",
}
# Attributes that must be there, and may be empty (type 2).
_MAY_BE_EMPTY = (
    *("PatientName", "PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "StudyID", "AccessionNumber"),
    *("ReferringPhysicianName", "SeriesNumber", "InstanceNumber", "Manufacturer"),
)
_BULK_NAME = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Description:
    """Everything of an instance but its bulk data.

    :param data_set: Its attributes, without group 0002.
    :param transfer_syntax: Transfer Syntax UID.
    :param tag: Where the bulk data goes.
    :param is_image: The bulk data is one JPEG image.
    :param bulk_name: By what name metadata refers to the bulk data.
    """

    data_set: Dataset
    transfer_syntax: str
    tag: str
    is_image: bool
    bulk_name: str

    @property
    def has_binary_values(self) -> bool:
        """Whether there is binary data besides the bulk data."""
        return '"InlineBinary"' in json.dumps(self.data_set.to_json_dict())

    def to_json(self) -> dict[str, Any]:
        """Give the metadata as DICOM JSON, group 0002 and the reference to the bulk data included."""
        return {
            _SYNTAX_TAG: element("UI", self.transfer_syntax),
            **self.data_set.to_json_dict(),
            self.tag: {"vr": "OB", "BulkDataURI": self.bulk_name},
        }


def describe(metadata: object, bulk: Source, namespace: str = "") -> Description:
    """Say what a new instance is.

    :param metadata: What the caller says of it.
    :param bulk: Its file.
    :param namespace: What missing UIDs are derived from, together with the file; without one, with the metadata.
    :raises ConfigurationError: If something is missing, cannot be used, or contradicts the file.
    """
    given = dict(read_metadata(metadata))
    facts = read_facts(bulk)
    bulk_name = _bulk_name(given.pop(facts.tag, None))
    _refuse_others(given, facts)
    seed = _seed(given, bulk, namespace)
    _require_patient(given)
    _complete(given, facts)
    _name(given, seed)
    return Description(
        data_set_of(dict(sorted(given.items()))), facts.transfer_syntax, facts.tag, facts.is_image, bulk_name
    )


def _bulk_name(reference: Mapping[str, Any] | None) -> str:
    name = "jpeg-image" if reference is None else reference.get("BulkDataURI")
    if not isinstance(name, str) or not _BULK_NAME.fullmatch(name):
        raise ConfigurationError(
            "metadata must not hold the bulk data itself: give it as bulk_data (a BulkDataURI of printable ASCII without "
            "blanks may refer to it)"
        )
    return name


def _refuse_others(given: dict[str, Any], facts: FileFacts) -> None:
    syntax = given.pop(_SYNTAX_TAG, None)
    if syntax is not None and syntax.get("Value", [facts.transfer_syntax]) != [facts.transfer_syntax]:
        raise _contradiction("TransferSyntaxUID", (facts.transfer_syntax,), facts)
    for tag, found in given.items():
        if tag < "00080000":
            raise ConfigurationError(f"({tag[:4]},{tag[4:]}) is not part of a data set: leave it away")
        if "BulkDataURI" in found or tag == PIXEL_DATA:
            raise ConfigurationError(f"({tag[:4]},{tag[4:]}) cannot be bulk data of this {facts.kind}: leave it away")


def _require_patient(given: Mapping[str, Any]) -> None:
    if tag_of("PatientID") not in given:
        raise ConfigurationError("PatientID is missing in the metadata: give it, or None for an instance without one")


def _seed(given: Mapping[str, Any], bulk: Source, namespace: str) -> str:
    if all(values(given, tag) for tag in _UIDS.values()):
        return ""
    summed = hashlib.sha256()
    for block in blocks_of(bulk):
        summed.update(block)
    # One file may be made an instance of several patients.
    rest = namespace or json.dumps(given, sort_keys=True)
    return f"{summed.hexdigest()}/{rest}"


def _complete(given: dict[str, Any], facts: FileFacts) -> None:
    """Add what the file says and what is obvious."""
    if values(given, "SpecificCharacterSet") not in ([], [_UTF_8]):
        raise ConfigurationError(f"SpecificCharacterSet is always {_UTF_8}: leave it away, text is converted")
    _set(given, "SpecificCharacterSet", _UTF_8)
    _agree(given, facts)
    sop_class = values(given, "SOPClassUID") or [facts.sop_class]
    for keyword, value in {**facts.usual, "SOPClassUID": facts.sop_class, **_of_class(sop_class[0])}.items():
        if not values(given, keyword):
            _set(given, keyword, *(value if isinstance(value, tuple) else (value,)))
    if not values(given, "Modality"):
        raise ConfigurationError("Modality is missing in the metadata: its SOP class does not say it")
    missing = [keyword for keyword in facts.needed if not values(given, keyword)]
    if missing:
        raise ConfigurationError(f"{', '.join(missing)} must be in the metadata: this {facts.kind} does not say it")
    for keyword in (*_MAY_BE_EMPTY, *facts.may_be_empty):
        if tag_of(keyword) not in given:
            _set(given, keyword)


def _agree(given: dict[str, Any], facts: FileFacts) -> None:
    for keyword, allowed in facts.fixed.items():
        found = values(given, keyword)
        if found and (len(found) > 1 or found[0] not in allowed):
            raise _contradiction(keyword, allowed, facts)
        if not found:
            _set(given, keyword, allowed[0])


def _of_class(sop_class: str) -> dict[str, Any]:
    """Give the usual values of what a SOP class requires."""
    usual: dict[str, Any] = {}
    if sop_class in _MODALITIES:
        usual["Modality"] = _MODALITIES[sop_class]
    if sop_class in {_SECONDARY_CAPTURE, _PDF}:
        usual["ConversionType"] = "WSD"
    if sop_class.startswith(_VISIBLE_LIGHT):
        usual["ImageType"] = ("ORIGINAL", "PRIMARY")
    return usual


def _name(given: dict[str, Any], seed: str) -> None:
    """Derive the UIDs that are missing."""
    if values(given, _UIDS["series"]) and not values(given, _UIDS["study"]):
        raise ConfigurationError("SeriesInstanceUID is given without StudyInstanceUID: both are needed then")
    for kind, tag in _UIDS.items():
        if not values(given, tag):
            given[tag] = element("UI", f"2.25.{uuid.uuid5(_NAMESPACE, f'{kind}/{seed}').int}")


def _set(given: dict[str, Any], keyword: str, *found: Any) -> None:
    from pydicom.datadict import dictionary_VR

    given[tag_of(keyword)] = element(dictionary_VR(keyword), *found)


def _contradiction(keyword: str, allowed: tuple[Any, ...], facts: FileFacts) -> ConfigurationError:
    said = " or ".join(map(str, allowed))
    return ConfigurationError(f"{keyword} in the metadata contradicts the {facts.kind}, which says {said}")


def same_instance(one: bytes, other: bytes) -> bool:
    """Tell whether two Part 10 files hold the same data set and the same pixels, however they were written."""
    from io import BytesIO

    from pydicom import dcmread

    try:
        first, second = dcmread(BytesIO(one)), dcmread(BytesIO(other))
        same = first.file_meta.TransferSyntaxUID == second.file_meta.TransferSyntaxUID
        return same and _frames(first) == _frames(second) and first.to_json_dict() == second.to_json_dict()
    except Exception:  # noqa: BLE001 - what cannot be read is not the same
        return False


def _frames(data_set: Dataset) -> list[bytes]:
    """Take the fragments out of a data set; offset tables and padding may differ."""
    from pydicom.encaps import generate_fragments, parse_basic_offsets

    pixels = data_set.PixelData
    parse_basic_offsets(pixels)
    del data_set.PixelData
    return [fragment.rstrip(b"\0") for fragment in list(generate_fragments(pixels))[1:]]
