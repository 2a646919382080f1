"""Retrieval: bytes, transfer syntaxes, metadata."""

from __future__ import annotations

import base64
import hashlib
import io
from email import message_from_bytes, policy

import numpy as np
import pydicom
import pytest

from airflow_dicomweb.dicomweb.dicom_json import tag_of
from tests.emulator.api import PYDICOM_FILES, VECTORS, envelope, instance, picture

AS_STORED = 'multipart/related; type="application/dicom"; transfer-syntax=*'
SINGLE = "application/dicom; transfer-syntax=*"
INSTANCE = "studies/1.1/series/1.1.1/instances/1.1.1.1"
EXPLICIT = "1.2.840.10008.1.2.1"
RETRIEVALS = [case for case in VECTORS["accept"] if case["op"].startswith("retrieve")]


def parts(answer):
    """Read a multipart answer with the standard library's parser; give each part's type and content."""
    assert answer.status_code == 200, answer.text
    head = f"Content-Type: {answer.headers['Content-Type']}\r\n\r\n".encode()
    # HTTP's messages have bare bytes where mail has lines: the parser is told not to touch them.
    message = message_from_bytes(head + answer.content, policy=policy.HTTP)
    assert message.get_content_type() == "multipart/related"
    assert not message.defects
    return [(part["Content-Type"], part.get_payload(decode=True)) for part in message.iter_parts()]


def put(api, name):
    """Store one of pydicom's files; give its bytes and its path."""
    body = (PYDICOM_FILES / name).read_bytes()
    assert api.store(body).status_code == 200
    (identity,) = api.tuples()
    return body, "studies/{}/series/{}/instances/{}".format(*identity)


@pytest.mark.parametrize("case", RETRIEVALS, ids=lambda case: f"{case['op']}-{case['accept']}")
def test_the_accept_header_decides_form_and_transfer_syntax(api, case):
    body, path = put(api, "MR_small_RLE.dcm")
    answer = api.get(path.partition("/series/")[0] if case["op"] == "retrieveStudy" else path, case["accept"])
    if case["returns"] == 406:
        envelope(answer, 406)
        return
    assert answer.headers["Content-Type"].startswith(case["returns"])
    content = answer.content if case["returns"] == "application/dicom" else parts(answer)[0][1]
    if case["transfer_syntax"] == "as stored":
        assert content == body
    else:
        assert pydicom.dcmread(io.BytesIO(content)).file_meta.TransferSyntaxUID == case["transfer_syntax"]


def test_stored_bytes_come_back_as_they_were(api):
    bodies = [instance(uid=f"1.1.1.{n}", ImageComments="\r\n--" * n) for n in range(1, 6)]
    bodies += [instance(series="1.1.2", uid="1.1.2.1"), instance(study="1.2", uid="1.2.1")]
    for body in bodies:
        api.store(body)
    digests = [hashlib.sha256(body).digest() for body in bodies]
    for path, wanted in (
        ("studies/1.1", digests[:6]),
        ("studies/1.1/series/1.1.1", digests[:5]),
        (INSTANCE, digests[:1]),
    ):
        answer = api.get(path, AS_STORED)
        found = parts(answer)
        assert [hashlib.sha256(content).digest() for _, content in found] == wanted
        assert {media_type for media_type, _ in found} == {"application/dicom"}
        assert int(answer.headers["Content-Length"]) == len(answer.content)
    assert api.get(INSTANCE, SINGLE).content == bodies[0]


@pytest.mark.parametrize(
    ("name", "original"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm"),
        ("MR_small_implicit.dcm", "MR_small.dcm"),
        ("MR_small_bigendian.dcm", "MR_small.dcm"),
        ("rtdose_expb_1frame.dcm", "rtdose_1frame.dcm"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm"),
        ("image_dfl.dcm", "image_dfl.dcm"),
    ],
)
def test_without_a_wish_instances_come_decompressed_in_explicit_little_endian(api, name, original):
    _, path = put(api, name)
    ((_, content),) = parts(api.get(path))
    found, wanted = pydicom.dcmread(io.BytesIO(content)), pydicom.dcmread(PYDICOM_FILES / original)
    assert found.file_meta.TransferSyntaxUID == EXPLICIT
    assert np.array_equal(found.pixel_array, wanted.pixel_array)
    assert found.SOPInstanceUID == path.rpartition("/")[2]
    assert found.PatientName == wanted.PatientName


@pytest.mark.parametrize("syntax", ["1.2.840.10008.1.2", EXPLICIT, "1.2.840.10008.1.2.1.99"])
def test_every_plain_encoding_can_be_asked_for(api, syntax):
    _, path = put(api, "MR_small_RLE.dcm")
    found = pydicom.dcmread(io.BytesIO(api.get(path, f"application/dicom; transfer-syntax={syntax}").content))
    assert found.file_meta.TransferSyntaxUID == syntax
    assert found.PixelData == pydicom.dcmread(PYDICOM_FILES / "MR_small.dcm").PixelData


def test_what_is_in_the_wanted_syntax_is_not_written_anew(api):
    body, path = put(api, "MR_small.dcm")
    assert api.get(path, "application/dicom").content == body
    assert api.get(path, f"application/dicom; transfer-syntax={EXPLICIT}").content == body


@pytest.mark.parametrize(
    "accept",
    [
        "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90",
        "application/dicom; transfer-syntax=1.2.3",
        "image/jpeg",
        "application/json",
        "text/html",
        'multipart/related; type="application/octet-stream"',
        "application/dicom; transfer-syntax=*; q=0",
    ],
)
def test_what_cannot_be_made_is_not_acceptable(api, accept):
    _, path = put(api, "MR_small.dcm")
    envelope(api.get(path, accept), 406)


def test_the_best_form_that_can_be_made_is_chosen(api):
    body, path = put(api, "MR_small.dcm")
    accept = "application/dicom; transfer-syntax=1.2.840.10008.1.2.4.90, application/dicom; transfer-syntax=*; q=0.5"
    assert api.get(path, accept).content == body


def test_what_cannot_be_decompressed_is_given_only_as_it_is(api):
    body, path = put(api, "JPGExtended.dcm")
    envelope(api.get(path), 406)
    assert api.get(path, SINGLE).content == body


@pytest.mark.parametrize(
    "path",
    [
        "studies/9.9",
        "studies/1.1/series/9.9",
        "studies/1.1/series/1.1.1/instances/9.9",
        "studies/1.1/series/1.1.1/instances/9.9/metadata",
    ],
)
def test_what_is_not_there_is_not_found(api, path):
    api.store(instance())
    assert "no access" in envelope(api.get(path, AS_STORED if "metadata" not in path else None), 404)


def test_metadata_begins_with_group_2_and_leaves_bulk_data_to_its_url(api):
    api.store(picture(PatientName="Doe^John", SpecificCharacterSet="ISO_IR 100"))
    answer = api.get(f"{INSTANCE}/metadata")
    assert answer.headers["Content-Type"] == "application/dicom+json"
    (found,) = answer.json()
    tags = list(found)
    assert tags == sorted(tags)
    assert tags[:5] == ["00020002", "00020003", "00020010", "00020012", "00020013"][: len(tags)]
    assert "00020000" not in found
    assert "00020001" not in found
    assert found["7FE00010"] == {"vr": "OW", "BulkDataURI": f"{api.web}/{INSTANCE}/bulkdata/7FE00010"}
    assert found["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^John"}]}
    assert found["00280010"] == {"vr": "US", "Value": [4]}


def test_metadata_of_a_study_and_series_are_one_array(api):
    api.store(instance(), instance(uid="1.1.1.2"), instance(series="1.1.2", uid="1.1.2.1"))
    assert len(api.get("studies/1.1/metadata").json()) == 3
    assert len(api.get("studies/1.1/series/1.1.1/metadata").json()) == 2


def test_metadata_can_be_xml(api):
    api.store(picture())
    answer = api.get(f"{INSTANCE}/metadata", 'multipart/related; type="application/dicom+xml"')
    ((media_type, content),) = parts(answer)
    assert media_type == "application/dicom+xml"
    assert f'<BulkData uri="{api.web}/{INSTANCE}/bulkdata/7FE00010" />' in content.decode()


def test_large_values_are_bulk_data_and_small_ones_are_not(api):
    values = {
        "RedPaletteColorLookupTableData": (bytes(512), "BulkDataURI"),
        "ICCProfile": (bytes(10), "BulkDataURI"),
        "PointCoordinatesData": (bytes(4096), "BulkDataURI"),
        "VectorGridData": (bytes(16), "InlineBinary"),
        "PixelIntensityRelationshipSign": (1, "Value"),
        "SelectorUSValue": ([7] * 600, "BulkDataURI"),
        "SelectorSSValue": ([7] * 600, "Value"),
        "SelectorFDValue": ([7.5] * 500, "Value"),
        "SelectorUIValue": (["1.2"] * 600, "Value"),
    }
    api.store(instance(**{keyword: value for keyword, (value, _) in values.items()}))
    (found,) = api.get(f"{INSTANCE}/metadata").json()
    for keyword, (value, key) in values.items():
        element = found[tag_of(keyword)]
        assert set(element) == {"vr", key}, keyword
        if key == "InlineBinary":
            assert base64.b64decode(element[key]) == value


def test_bulk_data_inside_a_sequence_has_a_path_through_it(api):
    item = pydicom.Dataset()
    item.EncapsulatedDocument = b"%PDF"
    api.store(instance(ReferencedImageSequence=[pydicom.Dataset(), item]))
    (found,) = api.get(f"{INSTANCE}/metadata").json()
    uri = found["00081140"]["Value"][1]["00420011"]["BulkDataURI"]
    assert uri == f"{api.web}/{INSTANCE}/bulkdata/00081140/1/00420011"


def test_numbers_that_json_has_not_are_written_by_name(api):
    api.store(instance(RecommendedDisplayFrameRateInFloat=float("nan"), ExaminedBodyThickness=float("-inf")))
    (found,) = api.get(f"{INSTANCE}/metadata").json()
    assert found["00089459"]["Value"] == ["NaN"]
    assert found["00109431"]["Value"] == ["-Infinity"]


def test_values_that_break_the_rules_are_returned_as_they_stand(api):
    body = instance(Manufacturer="X" * 80, SeriesNumber="7", PatientAge="about 40")
    # A number with letters, as damaged and careless files have them.
    api.store(body.replace(b"\x20\x00\x11\x00IS\x02\x007 ", b"\x20\x00\x11\x00IS\x02\x007x"))
    (found,) = api.get(f"{INSTANCE}/metadata").json()
    assert found["00200011"] == {"vr": "IS", "Value": ["7x"]}
    assert found["00101010"]["Value"] == ["about 40"]
    assert found["00080070"]["Value"] == ["X" * 80]
