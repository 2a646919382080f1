"""Store transactions of JSON metadata and bulk data, by the printed example of the contract."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import subprocess

import pydicom
import pytest

from tests.emulator.api import PYDICOM_FILES, SECONDARY_CAPTURE, VECTORS, envelope

VECTOR = VECTORS["multipart_json_jpeg"]
EXAMPLE = VECTOR["example"]
TEXT = EXAMPLE["instance_json"]
JPEG = base64.b64decode(EXAMPLE["jpeg_base64"])
BASELINE = "1.2.840.10008.1.2.4.50"
PLACE = "studies/1.2.826.0.1.3680043.10.1/series/1.2.826.0.1.3680043.10.1.1/instances/1.2.826.0.1.3680043.10.1.1.1"
JPEG_TYPE = f"image/jpeg; transfer-syntax={BASELINE}"


def printed():
    """Give the body as Google's page has it put together."""
    opening, _, middle, _, closing = (
        part and part.encode().decode("unicode_escape").encode() for part in VECTOR["layout"]
    )
    return opening + TEXT.encode() + middle + JPEG + closing


def data_set(uid="1.1.1.1", *, syntax="1.2.840.10008.1.2.1", **elements):
    """Give the metadata of an instance; keywords are tags after an ``x``."""
    described = {
        "00020010": {"vr": "UI", "Value": [syntax]},
        "00080005": {"vr": "CS", "Value": ["ISO_IR 192"]},
        "00080016": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
        "00080018": {"vr": "UI", "Value": [uid]},
        "0020000D": {"vr": "UI", "Value": ["1.1"]},
        "0020000E": {"vr": "UI", "Value": ["1.1.1"]},
    }
    return {**described, **{tag.removeprefix("x"): element for tag, element in elements.items()}}


def body_of(metadata, *bulk, json_type="application/dicom+json"):
    """Put a body together: metadata, and triples of location, type and content."""
    text = metadata if isinstance(metadata, bytes) else json.dumps(metadata).encode()
    parts = [f"--XX\r\nContent-Type: {json_type}\r\n\r\n".encode() + text]
    for location, media_type, content in bulk:
        place = f"Content-Location: {location}\r\n" if location is not None else ""
        parts.append(f"\r\n--XX\r\nContent-Type: {media_type}\r\n{place}\r\n".encode() + content)
    return b"".join([*parts, b"\r\n--XX--"])


def send(api, body, content_type='multipart/related; type="application/dicom+json"; boundary=XX', study=""):
    headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
    return api.ask("POST", f"studies/{study}".rstrip("/"), data=body, headers=headers)


def stored(api, place="studies/1.1/series/1.1.1/instances/1.1.1.1"):
    answer = api.get(place, "application/dicom; transfer-syntax=*")
    assert answer.status_code == 200, answer.text
    return pydicom.dcmread(io.BytesIO(answer.content)), answer.content


def test_the_printed_example_is_put_together_as_printed():
    assert len(printed()) == EXAMPLE["body_length"]
    assert hashlib.sha256(printed()).hexdigest() == EXAMPLE["body_sha256"]


def test_the_printed_example_is_stored(api):
    answer = send(api, printed(), VECTOR["content_type_header"])
    assert answer.status_code == 200
    (item,) = answer.json()["00081199"]["Value"]
    assert item["00081190"]["Value"] == [f"{api.web}/{PLACE}"]
    found, content = stored(api, PLACE)
    assert content[128:132] == b"DICM"
    assert found.file_meta.TransferSyntaxUID == BASELINE
    assert found.file_meta.MediaStorageSOPInstanceUID == found.SOPInstanceUID == PLACE.rpartition("/")[2]
    assert (found.Rows, found.Columns, found.SamplesPerPixel) == (8, 8, 3)
    (frame,) = pydicom.encaps.generate_frames(found.PixelData, number_of_frames=1)
    assert frame.rstrip(b"\0") == JPEG.rstrip(b"\0")
    assert len(frame) % 2 == 0
    assert found.pixel_array.shape == (8, 8, 3)
    assert api.get(f"{PLACE}/rendered", "image/png").status_code == 200


def test_the_printed_example_is_answered_in_xml_by_default(api):
    headers = {"Content-Type": VECTOR["content_type_header"], "Accept": None}
    answer = api.ask("POST", "studies", data=printed(), headers=headers)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, "application/dicom+xml")
    assert answer.text.startswith("<NativeDicomModel>")


def test_the_same_metadata_and_bulk_data_again_are_stored_already(api):
    first, second = (send(api, printed(), VECTOR["content_type_header"]) for _ in range(2))
    assert first.status_code == second.status_code == 200
    assert first.content == second.content
    other = printed().replace(b'"Value":["YBR_FULL_422"]', b'"Value":["YBR_FULL"]')
    answer = send(api, other, VECTOR["content_type_header"])
    assert answer.status_code == 409
    assert answer.json()["00081198"]["Value"][0]["00091097"]["Value"] == ["already exists"]


def test_curl_stores_the_printed_example(api, tmp_path):
    (tmp_path / "body").write_bytes(printed())
    command = ["curl", "-sS", "-X", "POST", "-H", "Authorization: Bearer token", f"{api.web}/studies"]
    command += ["-H", f"Content-Type: {VECTOR['content_type_header']}", "--data-binary", f"@{tmp_path / 'body'}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "ReferencedSOPSequence" in done.stdout
    assert len(api.tuples()) == 1


NEGATIVE = {
    "MP-N1": lambda body: body.replace(b"Content-Location: jpeg-image", b"Content-Location: other-name"),
    "MP-N2": lambda body: body.replace(b' "00020010":{"vr":"UI","Value":["1.2.840.10008.1.2.4.50"]},', b""),
    "MP-N4": lambda body: body.replace(
        b' "7FE00010"', b' "00420011":{"vr":"OB","BulkDataURI":"document"},\n "7FE00010"'
    ),
    "MP-N6": lambda body: body.replace(b'"BulkDataURI":"jpeg-image"', b'"InlineBinary":"AAAA"'),
}


@pytest.mark.parametrize("case", VECTOR["negative"], ids=lambda case: case["id"])
def test_what_the_contract_refuses_is_refused(api, case):
    changed = NEGATIVE[case["id"]](printed())
    assert changed != printed()
    envelope(send(api, changed, VECTOR["content_type_header"]), case["expect"]["status"])
    assert api.tuples() == []


PIXELS = {"vr": "OB", "BulkDataURI": "image"}
IMAGE = ("image", JPEG_TYPE, JPEG)
BYTES = ("image", "application/octet-stream", b"1234")

REFUSED = {
    "no JSON": body_of(b"[{", IMAGE),
    "not UTF-8": body_of(b'[{"x": "\xff"}]', IMAGE),
    "no array": body_of(data_set(syntax=BASELINE, x7FE00010=PIXELS), IMAGE),
    "an empty array": body_of([]),
    "no data sets": body_of(["text"]),
    "no elements": body_of([{"00080018": "1.2"}]),
    "deeply nested": body_of(b"[" * 100_000),
    "another character set": body_of([data_set(x00080005={"vr": "CS", "Value": ["ISO_IR 100"]})]),
    "no character set": body_of([data_set(x00080005={"vr": "CS"})]),
    "no SOP class": body_of([data_set(x00080016={"vr": "UI", "Value": []})]),
    "big endian": body_of([data_set(syntax="1.2.840.10008.1.2.2")]),
    "deflated": body_of([data_set(syntax="1.2.840.10008.1.2.1.99")]),
    "an unused part": body_of([data_set()], BYTES),
    "no such part": body_of([data_set(x7FE00010=PIXELS)]),
    "a part without a place": body_of([data_set(x7FE00010=PIXELS)], (None, *BYTES[1:])),
    "two parts in one place": body_of([data_set(x7FE00010=PIXELS)], BYTES, BYTES),
    "one part for two instances": body_of([data_set(x7FE00010=PIXELS), data_set("1.1.1.2", x7FE00010=PIXELS)], BYTES),
    "a reference of another VR": body_of([data_set(x00280009={"vr": "FL", "BulkDataURI": "image"})], BYTES),
    "a reference that is no text": body_of([data_set(x7FE00010={"vr": "OB", "BulkDataURI": 7})], BYTES),
    "inline without a transfer syntax": body_of([data_set(x00282000={"vr": "OB", "InlineBinary": "AAAA"})]),
    "compressed and not said so": body_of([data_set(syntax=BASELINE, x7FE00010=PIXELS)], ("image", "image/jpeg", JPEG)),
    "compressed otherwise": body_of([data_set(syntax="1.2.840.10008.1.2.4.70", x7FE00010=PIXELS)], IMAGE),
    "compressed, but native metadata": body_of([data_set(x7FE00010=PIXELS)], IMAGE),
    "native, but compressed metadata": body_of([data_set(syntax=BASELINE, x7FE00010=PIXELS)], BYTES),
    "of another type": body_of(
        [data_set(syntax=BASELINE, x7FE00010=PIXELS)], ("image", f"image/jp2; transfer-syntax={BASELINE}", JPEG)
    ),
    "compressed, but no pixels": body_of(
        [data_set(syntax=BASELINE, x00420011={"vr": "OB", "BulkDataURI": "image"})], IMAGE
    ),
    "compressed frames in one part": body_of(
        [data_set(syntax=BASELINE, x7FE00010=PIXELS, x00280008={"vr": "IS", "Value": ["2"]})], IMAGE
    ),
    "an unsupported part": body_of([data_set(x7FE00010=PIXELS)], ("image", "image/png", b"1234")),
    "no metadata": body_of([data_set()], json_type="application/dicom"),
    "values of another kind": body_of([data_set(x00280010={"vr": "US", "Value": ["many"]})]),
    "values in no list": body_of([data_set(x00280010={"vr": "US", "Value": 7})]),
    "an unknown VR": body_of([data_set(x00280010={"vr": "??", "Value": [7]})]),
    "no tag": body_of([data_set(xRows={"vr": "US", "Value": [7]})]),
    "an element of a command": body_of([data_set(x00000002={"vr": "UI", "Value": ["1.2"]})]),
    "bad base64": body_of(
        [data_set(x00282000={"vr": "OB", "InlineBinary": "A"})],
        json_type="application/dicom+json; transfer-syntax=1.2.840.10008.1.2.1",
    ),
    "no parts": b"--XX--",
    "a cut body": body_of([data_set(x7FE00010=PIXELS)], BYTES)[:-3],
}


@pytest.mark.parametrize("what", REFUSED)
def test_metadata_that_make_no_instance_store_nothing(api, what):
    envelope(send(api, REFUSED[what]), 400)
    assert api.tuples() == []


def test_native_pixels_are_stored_as_they_are(api):
    for number, syntax in enumerate(("1.2.840.10008.1.2", "1.2.840.10008.1.2.1"), 1):
        metadata = [data_set(f"1.1.1.{number}", syntax=syntax, x7FE00010=PIXELS)]
        assert send(api, body_of(metadata, ("image", "application/octet-stream", b"odd"))).status_code == 200
        found, _ = stored(api, f"studies/1.1/series/1.1.1/instances/1.1.1.{number}")
        assert found.file_meta.TransferSyntaxUID == syntax
        assert found.PixelData == b"odd\0"


def test_a_document_and_values_of_all_kinds_are_stored(api):
    metadata = data_set(
        x00080008={"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
        x00100010={"vr": "PN", "Value": [{"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎"}]},
        x00101030={"vr": "DS", "Value": [71.5]},
        x00200013={"vr": "IS", "Value": [7]},
        x00081115={"vr": "SQ", "Value": [{"0020000E": {"vr": "UI", "Value": ["1.5"]}}]},
        x00282000={"vr": "OB", "InlineBinary": "AAECAw=="},
        x00420011={"vr": "OB", "BulkDataURI": "document"},
        x00091010={"vr": "UN", "InlineBinary": "AAAA"},
    )
    part = ("document", "application/octet-stream", b"%PDF-1.7 \r\n--X")
    sent = body_of([metadata], part, json_type='application/dicom+json; transfer-syntax="1.2.840.10008.1.2.1"')
    assert send(api, sent).status_code == 200
    found, _ = stored(api)
    assert found.ImageType == ["ORIGINAL", "", "AXIAL"]
    assert found.PatientName.ideographic == "山田^太郎"
    assert (found.PatientWeight, found.InstanceNumber) == (71.5, 7)
    assert found.ReferencedSeriesSequence[0].SeriesInstanceUID == "1.5"
    assert found.ICCProfile == b"\0\1\2\3"
    assert found.EncapsulatedDocument.rstrip(b"\0") == part[2]


def test_several_instances_are_stored_together_each_with_its_bulk_data(api):
    metadata = [data_set(f"1.1.1.{n}", x7FE00010={"vr": "OW", "BulkDataURI": f"../{n}"}) for n in range(1, 4)]
    parts = [(f"../{n}", "application/octet-stream", bytes([n]) * 1000 * n) for n in (3, 1, 2)]
    assert len(send(api, body_of(metadata, *parts)).json()["00081199"]["Value"]) == 3
    for n in range(1, 4):
        found, _ = stored(api, f"studies/1.1/series/1.1.1/instances/1.1.1.{n}")
        assert found.PixelData == bytes([n]) * 1000 * n


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("MR_small_RLE.dcm", "image/dicom-rle"),
        ("MR_small_jp2klossless.dcm", "image/jp2"),
        ("MR_small_jpeg_ls_lossless.dcm", "image/jls"),
        ("SC_rgb_jpeg_gdcm.dcm", "image/jpeg"),
    ],
)
def test_every_compression_that_the_contract_names_is_taken(api, name, media_type):
    original = pydicom.dcmread(PYDICOM_FILES / name)
    frame = next(pydicom.encaps.generate_frames(original.PixelData, number_of_frames=1))
    syntax = str(original.file_meta.TransferSyntaxUID)
    sent = body_of(
        [data_set(syntax=syntax, x7FE00010=PIXELS)], ("image", f"{media_type}; transfer-syntax={syntax}", frame)
    )
    assert send(api, sent).status_code == 200
    found, _ = stored(api)
    assert found.file_meta.TransferSyntaxUID == syntax
    assert next(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=1)) == frame


def test_an_instance_without_a_usable_identity_or_of_another_study_is_named_as_failed(api):
    answer = send(api, body_of([data_set("1..2")]))
    assert answer.status_code == 409
    assert "SOPInstanceUID" in answer.json()["00081198"]["Value"][0]["00091097"]["Value"][0]
    assert send(api, body_of([data_set()]), study="1.2").status_code == 409
    assert api.tuples() == []
    assert send(api, body_of([data_set()]), study="1.1").status_code == 200


def test_metadata_in_xml_are_no_supported_media_type(api):
    content_type = 'multipart/related; type="application/dicom+xml"; boundary=XX'
    envelope(send(api, body_of([data_set()], json_type="application/dicom+xml"), content_type), 400)
