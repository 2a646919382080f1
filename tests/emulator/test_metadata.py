"""The short way from bytes to DICOM JSON gives what pydicom gives."""

from __future__ import annotations

import pydicom
import pytest
from pydicom.dataelem import RawDataElement
from pydicom.multival import MultiValue

from airflow_dicomweb.emulator.metadata import element_json
from tests.emulator.api import PYDICOM_FILES

TEXTS = {"CS", "DA", "LO", "SH", "TM", "UI"}


def read(name):
    try:
        return pydicom.dcmread(PYDICOM_FILES / name, stop_before_pixels=True)
    except Exception:  # noqa: BLE001 - what pydicom cannot read has no values to compare
        return pydicom.Dataset()


def test_texts_of_all_of_pydicoms_files_are_what_pydicom_reads():
    compared = 0
    for path in sorted(PYDICOM_FILES.glob("*.dcm")):
        raw, converted = read(path.name), read(path.name)
        for tag in list(raw.keys()):
            element = raw.get_item(tag)
            if not (isinstance(element, RawDataElement) and element.VR in TEXTS):
                continue
            value = converted[tag].value
            values = list(value) if isinstance(value, MultiValue) else [value]
            expected = [str(each) if each not in (None, "") else None for each in values]
            found = element_json(raw, tag, str)
            assert found.get("Value", [None] * len(expected)) == expected, (path.name, tag)
            compared += 1
    assert compared > 1000


@pytest.mark.parametrize(
    ("vr", "data", "value"),
    [
        ("LO", b" a \\ b \\", [" a", " b", None]),
        ("CS", b"A\\\\B ", ["A", None, "B"]),
        ("UI", b"1.2\0", ["1.2"]),
        ("SH", b"  ", None),
        ("DA", b"", None),
    ],
)
def test_padding_is_removed_and_empty_values_are_null(vr, data, value):
    data_set = pydicom.Dataset()
    tag = pydicom.tag.Tag(0x00081030)
    data_set._dict[tag] = RawDataElement(tag, vr, len(data), data, 0, False, True)
    found = element_json(data_set, tag, str)
    assert found == ({"vr": vr, "Value": value} if value else {"vr": vr})
    assert data_set[tag].value == ("" if value is None else value[0] if len(value) == 1 else [v or "" for v in value])
