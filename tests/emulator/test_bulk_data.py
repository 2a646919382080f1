"""Bulk data: what the URIs in metadata lead to."""

from __future__ import annotations

import numpy as np
import pydicom
import pytest

from airflow_dicomweb.dicomweb.dicom_json import tag_of
from tests.emulator.api import PYDICOM_FILES, VECTORS, envelope, instance, picture
from tests.emulator.test_retrieve import INSTANCE, parts, put

OCTETS = "application/octet-stream; transfer-syntax=*"
BULK = f"{INSTANCE}/bulkdata"


def uris(found):
    """Give the URIs of a data set's bulk data, sequences included, with their tags."""
    for tag, element in found.items():
        if "BulkDataURI" in element:
            yield tag, element["BulkDataURI"]
        for item in element.get("Value", ()) if element["vr"] == "SQ" else ():
            yield from uris(item)


@pytest.mark.parametrize("case", [case for case in VECTORS["accept"] if case["op"] == "bulkdata"], ids=str)
def test_the_contracts_accept_headers_are_answered(api, case):
    api.store(picture())
    answer = api.get(f"{BULK}/7FE00010", case["accept"])
    assert answer.headers["Content-Type"].startswith(case["returns"])
    if case["returns"].startswith("multipart"):
        assert parts(answer) == [("application/octet-stream", bytes(range(16)))]
    else:
        assert answer.content == bytes(range(16))
        assert answer.headers["Content-Length"] == "16"


@pytest.mark.parametrize(
    "accept",
    [
        "image/jpeg",
        "application/dicom",
        f"{OCTETS}; q=0",
        "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.4.50",
    ],
)
def test_other_forms_are_not_acceptable(api, accept):
    api.store(picture())
    envelope(api.get(f"{BULK}/7FE00010", accept), 406)


def test_every_uri_of_metadata_leads_to_the_value(api):
    item = pydicom.Dataset()
    item.EncapsulatedDocument = b"%PDF-x"
    values = {
        "RedPaletteColorLookupTableData": bytes(range(256)),
        "ICCProfile": b"ICC!",
        "PointCoordinatesData": bytes(range(256)) * 16,
        "PixelData": bytes(100_000),
    }
    numbers = {"SelectorUSValue": list(range(600)), "SelectorFDValue": [n / 3 for n in range(600)]}
    api.store(picture(**values, **numbers, ReferencedImageSequence=[pydicom.Dataset(), item]))
    (found,) = api.get(f"{INSTANCE}/metadata").json()
    fetched = {tag: api.get(uri, OCTETS).content for tag, uri in uris(found)}
    expected = {tag_of(keyword): value for keyword, value in values.items()}
    expected |= {
        tag_of("SelectorUSValue"): np.array(numbers["SelectorUSValue"], "<u2").tobytes(),
        tag_of("SelectorFDValue"): np.array(numbers["SelectorFDValue"], "<f8").tobytes(),
        "00420011": b"%PDF-x",
    }
    assert fetched == expected


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("rtdose_rle.dcm", "rtdose.dcm"),
        ("rtdose_expb.dcm", "rtdose.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
    ],
)
def test_pixel_data_come_uncompressed_and_in_little_endian(api, name, original):
    _, path = put(api, name)
    wanted = pydicom.dcmread(PYDICOM_FILES / original).PixelData
    assert api.get(f"{path}/bulkdata/7FE00010", OCTETS).content == wanted[: len(wanted)]


def test_the_path_may_end_in_a_slash_and_have_small_letters(api):
    api.store(picture())
    for path in ("7FE00010/", "7fe00010"):
        assert api.get(f"{BULK}/{path}", OCTETS).content == bytes(range(16))


@pytest.mark.parametrize("name", ["image_dfl.dcm", "waveform_ecg.dcm", "badVR.dcm", "test-SR.dcm", "MR_truncated.dcm"])
def test_odd_files_give_what_their_metadata_promise(api, name):
    _, path = put(api, name)
    (found,) = api.get(f"{path}/metadata").json()
    for _, uri in uris(found):
        answer = api.get(uri, OCTETS)
        assert answer.status_code in ({200, 404} if name == "MR_truncated.dcm" else {200})


def test_what_cannot_be_decompressed_is_not_acceptable(api):
    _, path = put(api, "JPGExtended.dcm")
    envelope(api.get(f"{path}/bulkdata/7FE00010", OCTETS), 406)


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("00100010", 404),
        ("00420011", 404),
        ("00081140/7/00420011", 404),
        ("00081140/0", 400),
        ("00100010/0/00420011", 404),
        ("PixelData", 400),
        ("7FE0001", 400),
        ("", 400),
        ("7FE00010//", 400),
    ],
)
def test_other_paths_lead_nowhere(api, path, status):
    api.store(instance(PatientName="A", ReferencedImageSequence=[pydicom.Dataset()]))
    envelope(api.get(f"{BULK}/{path}", OCTETS), status)
