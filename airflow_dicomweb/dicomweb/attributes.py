"""Attributes that a caller gives for a new instance: by keyword or tag, plain or as DICOM JSON, checked.

No message repeats a value: it may be a patient's name.

Source: DICOM PS3.18 annex F (DICOM JSON model), PS3.5 section 6.2 (value representations), PS3.6 (data dictionary).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, tag_of
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

_NUMBERS = frozenset({"DS", "FD", "FL", "IS", "SL", "SS", "SV", "UL", "US", "UV"})
_WHOLE = _NUMBERS - {"DS", "FD", "FL"}
_BINARY = frozenset({"OB", "OD", "OF", "OL", "OV", "OW", "UN"})
_ONE_TEXT = frozenset({"LT", "ST", "UR", "UT"})
_NAME_GROUPS = ("Alphabetic", "Ideographic", "Phonetic")
_MOMENTS = {"DA": "a date YYYYMMDD", "TM": "a time HHMMSS", "DT": "YYYYMMDDHHMMSS", "UI": "a UID"}
_ACCEPTED = (
    "metadata must be a mapping of keywords or tags to values, such as {'PatientID': '123'}, or DICOM JSON, such as "
    "{'00100020': {'vr': 'LO', 'Value': ['123']}}"
)


def read_metadata(given: object) -> DicomJson:
    """Give attributes as DICOM JSON by tag.

    :param given: Mapping by keyword or tag, of plain values or of elements of DICOM JSON; or an array of one of these.
    :raises ConfigurationError: If an attribute does not exist, is given twice, or has a value that cannot be meant.
    """
    if isinstance(given, list) and len(given) == 1:
        given = given[0]
    if not isinstance(given, Mapping):
        raise ConfigurationError(f"{_ACCEPTED}; it is of type {type(given).__name__}")
    found: dict[str, Any] = {}
    for name, value in given.items():
        if not isinstance(name, str):
            raise ConfigurationError(f"{_ACCEPTED}; a key is of type {type(name).__name__}")
        tag = tag_of(name)
        if tag in found:
            raise ConfigurationError(f"{name} is given twice: by its keyword and by its tag")
        found[tag] = _element(name, tag, value)
    return dict(sorted(found.items()))


def data_set_of(attributes: DicomJson) -> Dataset:
    """Make a data set of attributes.

    :param attributes: As :func:`read_metadata` gives them, without bulk data.
    :raises ConfigurationError: If a value is not one of its VR.
    """
    from pydicom.dataset import Dataset

    # Before pydicom makes a data set of them: it would log the values that it takes for wrong.
    _check_values(attributes)
    try:
        made = Dataset.from_json(dict(attributes))
        made.to_json_dict()
    except Exception:  # noqa: BLE001 - whatever pydicom makes of values that are none; some are converted when used
        raise ConfigurationError(f"a value is none of its VR: {_ACCEPTED}") from None
    return made


def _check_values(attributes: DicomJson) -> None:
    from pydicom.config import RAISE
    from pydicom.valuerep import validate_value

    for tag, element in attributes.items():
        vr = element["vr"]
        for value in element.get("Value", []):
            if vr == "SQ":
                _check_values(value)
                continue
            plain = "=".join(value.get(group, "") for group in _NAME_GROUPS) if isinstance(value, Mapping) else value
            try:
                validate_value(vr, str(plain) if vr in {"DS", "IS"} else plain, RAISE)
            except (ValueError, TypeError):
                raise _unfit(tag, vr) from None


def _unfit(name: str, vr: str) -> ConfigurationError:
    from pydicom.datadict import keyword_for_tag

    known = keyword_for_tag(tag_of(name))
    wanted = f"{_MOMENTS[vr]} is accepted" if vr in _MOMENTS else f"PS3.5 section 6.2 says what VR {vr} may hold"
    return ConfigurationError(f"the value of {known or name} is none of its VR, {vr}: {wanted}")


def _element(name: str, tag: str, value: object) -> dict[str, Any]:
    """Give one element of DICOM JSON."""
    allowed = _vrs(tag)
    if isinstance(value, Mapping) and "vr" in value:
        return _checked(name, value, allowed)
    if not allowed:
        raise ConfigurationError(
            f"{name} is private or unknown: its VR is needed, as in {{'vr': 'LO', 'Value': [...]}}"
        )
    vr = allowed[0]
    if len(allowed) > 1:
        if set(allowed) != {"US", "SS"}:
            raise ConfigurationError(f"{name} may have several VRs: it is needed, as in {{'vr': '{vr}', ...}}")
        vr = "SS" if isinstance(value, int) and value < 0 else "US"
    if vr in _BINARY and isinstance(value, bytes):
        return {"vr": vr, "InlineBinary": base64.b64encode(value).decode("ascii")}
    if vr == "SQ":
        return _with_values(vr, [_item(name, each) for each in _listed(value)])
    return _with_values(vr, [_plain(name, vr, each) for each in _split(vr, value)])


def _checked(name: str, element: Mapping[str, Any], allowed: tuple[str, ...]) -> dict[str, Any]:
    vr = element["vr"]
    if not isinstance(vr, str) or (allowed and vr not in allowed) or len(vr) != 2:
        raise ConfigurationError(f"{name} must have the VR {' or '.join(allowed) or 'of PS3.5 section 6.2'}")
    kinds = {"Value", "InlineBinary", "BulkDataURI"} & element.keys()
    if len(kinds) > 1 or set(element) - kinds != {"vr"}:
        raise ConfigurationError(f"{name} is no element of DICOM JSON: vr, and one of Value, InlineBinary, BulkDataURI")
    if "Value" not in element:
        return dict(element)
    if not isinstance(element["Value"], list):
        raise ConfigurationError(f"the Value of {name} must be a list")
    if vr == "SQ":
        return _with_values(vr, [_item(name, each) for each in element["Value"]])
    return _with_values(vr, [each if each is None else _plain(name, vr, each) for each in element["Value"]])


def _with_values(vr: str, values: list[Any]) -> dict[str, Any]:
    return {"vr": vr, "Value": values} if values else {"vr": vr}


def _vrs(tag: str) -> tuple[str, ...]:
    from pydicom.datadict import dictionary_VR

    try:
        return tuple(dictionary_VR(tag).split(" or "))
    except KeyError:  # private
        return ()


def _listed(value: object) -> list[object]:
    if value is None or value == "":
        return []
    return list(value) if isinstance(value, list | tuple) else [value]


def _split(vr: str, value: object) -> list[object]:
    # A backslash stands between values wherever text may have several (PS3.5 section 6.4).
    if isinstance(value, str) and vr not in _ONE_TEXT:
        return list(value.split("\\")) if value else []
    return _listed(value)


def _item(name: str, value: object) -> DicomJson:
    if not isinstance(value, Mapping):
        raise ConfigurationError(f"{name} is a sequence: a list of mappings is accepted")
    return read_metadata(value)


def _plain(name: str, vr: str, value: object) -> Any:
    """Give one value as DICOM JSON has it."""
    text = _moment(vr, value) if isinstance(value, date | time) else value
    if vr == "PN":
        if isinstance(text, Mapping) and set(text) <= set(_NAME_GROUPS):
            return dict(text)
        if isinstance(text, str):
            return {group: part for group, part in zip(_NAME_GROUPS, text.split("="), strict=False) if part}
    elif vr in _NUMBERS:
        if isinstance(text, int | float | str) and not isinstance(text, bool):
            return _number(name, vr, text)
    elif isinstance(text, str) and vr not in _BINARY:
        if vr == "UI" and text:
            check_uid(text, name)
        return text
    raise ConfigurationError(f"the value of {name} is of type {type(value).__name__}, which its VR {vr} does not take")


def _number(name: str, vr: str, value: float | str) -> Any:
    try:
        number = float(value)
        if vr in _WHOLE:
            return int(value) if isinstance(value, str) or int(value) == value else int("not whole")
        return value if isinstance(value, str) else _decimal(vr, number)
    except (ValueError, OverflowError):
        raise ConfigurationError(f"the value of {name} is no number that its VR {vr} takes") from None


def _decimal(vr: str, number: float) -> float | str:
    from pydicom.valuerep import format_number_as_ds

    return number if vr != "DS" else format_number_as_ds(number)  # at most 16 characters


def _moment(vr: str, value: date | time) -> object:
    if isinstance(value, datetime):
        return f"{value:%Y%m%d%H%M%S.%f%z}" if vr == "DT" else value
    if isinstance(value, time):
        return f"{value:%H%M%S.%f}" if vr == "TM" else value
    return f"{value:%Y%m%d}" if vr in {"DA", "DT"} else value
