"""Instances are made of a file and what is known of it: what the file says is taken from it, and never contradicted."""

from __future__ import annotations

import base64
import email
import email.policy
import io
import json
from datetime import UTC, date, datetime, time
from pathlib import Path
from typing import Any

import pydicom
import pytest
import yaml

from airflow_dicomweb.dicomweb.bulk_source import find_bulk_data
from airflow_dicomweb.dicomweb.composing import compose
from airflow_dicomweb.dicomweb.creation import metadata_body
from airflow_dicomweb.dicomweb.described import Description, describe, same_instance
from airflow_dicomweb.dicomweb.sources import Entry, Source
from airflow_dicomweb.errors import ConfigurationError
from tests.dicomweb.pictures import PDF, frame_of, jpeg, mp4, mpeg2

VECTOR = yaml.safe_load((Path(__file__).parent.parent / "data" / "emulator.yaml").read_text())["multipart_json_jpeg"]
EXAMPLE = VECTOR["example"]
JPEG = base64.b64decode(EXAMPLE["jpeg_base64"])
PATIENT = {"PatientID": "id-1"}
VIDEO_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
VL_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4"


def described(metadata: Any, content: bytes = JPEG, namespace: str = "") -> Description:
    return describe(metadata, find_bulk_data(content, None), namespace)


def part10_of(metadata: Any, content: bytes = JPEG) -> bytes:
    made, bulk = described(metadata, content), find_bulk_data(content, None)
    composed = compose(made.data_set, made.transfer_syntax, made.tag, bulk)
    with composed.open() as stream:
        whole = stream.read()
    assert len(whole) == composed.source.size
    return whole


def read(metadata: Any, content: bytes = JPEG) -> pydicom.Dataset:
    return pydicom.dcmread(io.BytesIO(part10_of(metadata, content)))


def test_the_bytes_on_the_wire_are_those_of_the_printed_example() -> None:
    metadata = json.loads(EXAMPLE["instance_json"])
    made, bulk = described([metadata[0] | {"00100020": {"vr": "LO"}}]), find_bulk_data(JPEG, None)
    body = metadata_body(made, bulk, "DICOMwebBoundary")
    sent = b"".join(body)
    assert len(sent) == len(body)
    assert body.content_type == VECTOR["content_type_header"]
    opening, _, middle, _, closing = (
        part and part.encode().decode("unicode_escape").encode() for part in VECTOR["layout"]
    )
    assert sent.startswith(opening)
    assert sent.endswith(middle + JPEG + closing)
    (written,) = json.loads(sent[len(opening) : -len(middle + JPEG + closing)])
    assert written.items() >= metadata[0].items()


def test_the_standard_library_reads_the_parts() -> None:
    made = described({"PatientID": "1", "PatientName": "Müller^Jörg=ミュラー^イェルク"})
    body = metadata_body(made, find_bulk_data(JPEG, None))
    message = email.message_from_bytes(
        f"Content-Type: {body.content_type}\r\n\r\n".encode() + b"".join(body), policy=email.policy.HTTP
    )
    assert not message.defects
    first, second = message.iter_parts()
    (metadata,) = json.loads(first.get_payload(decode=True))
    assert metadata["00100010"]["Value"] == [{"Alphabetic": "Müller^Jörg", "Ideographic": "ミュラー^イェルク"}]
    assert metadata["7FE00010"] == {"vr": "OB", "BulkDataURI": second["Content-Location"]}
    assert second.get_payload(decode=True) == JPEG
    assert second.get_param("transfer-syntax") == metadata["00020010"]["Value"][0]


@pytest.mark.parametrize(
    ("name", "bits", "photometric", "lossy"),
    [
        ("JPGExtended.dcm", 12, "MONOCHROME2", True),
        ("SC_rgb_jpeg_gdcm.dcm", 8, "RGB", False),
        ("SC_rgb_jpeg_dcmtk.dcm", 8, "YBR_FULL", True),
        ("SC_rgb_jpeg_app14_dcmd.dcm", 8, "RGB", True),
    ],
)
def test_an_image_is_described_as_its_file_has_it(name: str, bits: int, photometric: str, *, lossy: bool) -> None:
    content, original = frame_of(name)
    found = read(PATIENT, content)
    for keyword in ("Rows", "Columns", "SamplesPerPixel", "BitsAllocated"):
        assert found[keyword].value == original[keyword].value
    assert found.file_meta.TransferSyntaxUID == original.file_meta.TransferSyntaxUID
    assert (found.BitsStored, found.HighBit, found.PixelRepresentation) == (bits, bits - 1, 0)
    assert found.PhotometricInterpretation == photometric
    assert ("PlanarConfiguration" in found) == (found.SamplesPerPixel == 3)
    assert (found.get("LossyImageCompression"), found.get("LossyImageCompressionMethod")) == (
        ("01", "ISO_10918_1") if lossy else (None, None)
    )
    assert ("LossyImageCompressionRatio" in found) == lossy


def test_the_pixels_are_those_of_the_file() -> None:
    found = read(PATIENT, content := jpeg("L", (16, 16), quality=90))
    assert next(pydicom.encaps.generate_frames(found.PixelData, number_of_frames=1)).rstrip(b"\0") == content
    assert found.pixel_array.shape == (16, 16)


def test_what_the_standard_requires_is_there() -> None:
    found = read({"PatientID": None, "SOPClassUID": VL_PHOTOGRAPHIC, "PatientName": "Doe^Jane"})
    assert (found.Modality, list(found.ImageType)) == ("XC", ["ORIGINAL", "PRIMARY"])
    assert (found.PatientID, found.PatientName, found.StudyDate) == ("", "Doe^Jane", "")
    secondary = read(PATIENT)
    assert (secondary.SOPClassUID.name, secondary.Modality) == ("Secondary Capture Image Storage", "OT")
    assert secondary.ConversionType == "WSD"
    assert read({**PATIENT, "ConversionType": "DI", "Modality": "OP"}).ConversionType == "DI"


def test_values_of_every_kind_are_written() -> None:
    found = read(
        {
            "00100020": {"vr": "LO", "Value": ["id-1"]},
            "StudyDate": date(2026, 1, 31),
            "ContentTime": time(12, 30),
            "AcquisitionDateTime": datetime(2026, 1, 31, 12, 30, tzinfo=UTC),
            "ImageType": ["DERIVED", "SECONDARY"],
            "OtherPatientNames": "Doe^Jane\\Roe^Jane",
            "SeriesNumber": "3",
            "PixelSpacing": [0.1, "0.25"],
            "PatientWeight": 1 / 3,
            "ReferencedImageSequence": [{"ReferencedSOPClassUID": VL_PHOTOGRAPHIC, "ReferencedSOPInstanceUID": "1.2"}],
            "(0008,103E)": "Wound, left",
            "00091001": {"vr": "LO", "Value": ["private"]},
            "ImageComments": "one \\ two",
            "SmallestImagePixelValue": 3,
            "ICCProfile": b"profile",
            "PatientSex": "",
        }
    )
    assert (found.StudyDate, found.ContentTime) == ("20260131", "123000.000000")
    assert found.AcquisitionDateTime == "20260131123000.000000+0000"
    assert (list(found.ImageType), len(found.OtherPatientNames)) == (["DERIVED", "SECONDARY"], 2)
    assert (found.SeriesNumber, list(found.PixelSpacing)) == (3, [0.1, 0.25])
    assert found.PatientWeight == pytest.approx(1 / 3)
    assert found.ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2"
    assert (found.SeriesDescription, found[0x00091001].value) == ("Wound, left", "private")
    assert (found.ImageComments, found.SmallestImagePixelValue) == ("one \\ two", 3)
    assert (found.ICCProfile, found.PatientSex) == (b"profile\0", "")


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({}, "PatientID is missing"),
        ({"PatientName": "Doe^Jane"}, "PatientID is missing"),
        ({**PATIENT, "PatientsName": "x"}, "not an attribute"),
        ({**PATIENT, "00100020": "x"}, "given twice"),
        ({**PATIENT, 8: "x"}, "a key is of type int"),
        ([PATIENT, PATIENT], "mapping of keywords"),
        ("PatientID=1", "mapping of keywords"),
        ({**PATIENT, "Rows": 9}, "Rows in the metadata contradicts the JPEG file, which says 8"),
        ({**PATIENT, "Rows": [8, 8]}, "contradicts"),
        ({**PATIENT, "Columns": {"vr": "US", "Value": [7]}}, "Columns .* which says 8"),
        ({**PATIENT, "PhotometricInterpretation": "RGB"}, "which says YBR_FULL_422 or YBR_FULL"),
        ({**PATIENT, "SamplesPerPixel": 1}, "which says 3"),
        ({**PATIENT, "BitsStored": 7}, "which says 8"),
        ({**PATIENT, "PixelRepresentation": 1}, "which says 0"),
        ({**PATIENT, "NumberOfFrames": 2}, "which says 1"),
        ({**PATIENT, "LossyImageCompression": "00"}, "which says 01"),
        ({**PATIENT, "LossyImageCompressionMethod": "ISO_15444_1"}, "which says ISO_10918_1"),
        ({**PATIENT, "TransferSyntaxUID": "1.2.840.10008.1.2.4.70"}, r"which says 1\.2\.840\.10008\.1\.2\.4\.50"),
        ({**PATIENT, "MediaStorageSOPClassUID": "1.2"}, "not part of a data set"),
        ({**PATIENT, "SpecificCharacterSet": "ISO_IR 100"}, "ISO_IR 192"),
        ({**PATIENT, "StudyInstanceUID": "1.2.x"}, "not a DICOM UID"),
        ({**PATIENT, "SeriesInstanceUID": "1.2.3"}, "without StudyInstanceUID"),
        ({**PATIENT, "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2"}, "Modality is missing"),
        ({**PATIENT, "PixelData": {"vr": "OB", "InlineBinary": "AA=="}}, "give it as bulk_data"),
        ({**PATIENT, "PixelData": {"vr": "OB", "BulkDataURI": "a\r\nb"}}, "printable ASCII"),
        ({**PATIENT, "ICCProfile": {"vr": "OB", "BulkDataURI": "x"}}, "cannot be bulk data"),
        ({**PATIENT, "00091001": "x"}, "its VR is needed"),
        ({**PATIENT, "StudyDate": {"vr": "LO", "Value": ["x"]}}, "must have the VR DA"),
        ({**PATIENT, "StudyDate": {"vr": "DA", "Value": "x"}}, "must be a list"),
        ({**PATIENT, "StudyDate": {"vr": "DA", "Valve": ["x"]}}, "no element of DICOM JSON"),
        ({**PATIENT, "StudyDate": "31.01.2026"}, "StudyDate is none of its VR, DA: a date YYYYMMDD"),
        ({**PATIENT, "StudyDate": datetime(2026, 1, 1, tzinfo=UTC)}, "type datetime"),
        ({**PATIENT, "StudyTime": "noon"}, "StudyTime is none of its VR, TM"),
        ({**PATIENT, "PatientSex": "unknown to us today"}, "PatientSex is none of its VR, CS"),
        ({**PATIENT, "AccessionNumber": "12345678901234567"}, "AccessionNumber is none of its VR, SH"),
        ({**PATIENT, "SeriesNumber": "three"}, "no number"),
        ({**PATIENT, "SeriesNumber": 1.5}, "no number"),
        ({**PATIENT, "SmallestImagePixelValue": 70000}, "SmallestImagePixelValue is none of its VR, US"),
        ({**PATIENT, "PatientWeight": True}, "type bool"),
        ({**PATIENT, "PatientName": 7}, "type int"),
        ({**PATIENT, "ReferencedImageSequence": "1.2"}, "list of mappings"),
        ({**PATIENT, "ReferencedImageSequence": [{"SOPUID": "1.2"}]}, "not an attribute"),
    ],
)
def test_metadata_that_cannot_be_meant_is_refused_with_the_reason(
    metadata: Any, words: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(ConfigurationError, match=words) as refused:
        part10_of(metadata)
    for private in ("Doe", "31.01", "unknown to us", "12345678901234567", "three", "noon"):
        assert private not in str(refused.value) + caplog.text


def test_only_where_a_file_does_not_say_it_the_author_does() -> None:
    signed = read({**PATIENT, "PixelRepresentation": 1}, frame_of("SC_rgb_jpeg_gdcm.dcm")[0])
    assert signed.PixelRepresentation == 1
    assert read({**PATIENT, "PhotometricInterpretation": "MONOCHROME1"}, jpeg("L")).PhotometricInterpretation == (
        "MONOCHROME1"
    )
    unmarked = frame_of("SC_jpeg_no_color_transform.dcm")[0]
    assert read(PATIENT, unmarked).PhotometricInterpretation == "YBR_FULL"
    assert read({**PATIENT, "PhotometricInterpretation": "RGB"}, unmarked).PhotometricInterpretation == "RGB"


def uids(metadata: Any, content: bytes = JPEG, namespace: str = "") -> tuple[str, ...]:
    made = described(metadata, content, namespace).data_set
    return made.StudyInstanceUID, made.SeriesInstanceUID, made.SOPInstanceUID


def test_missing_uids_are_the_same_for_the_same_input_and_differ_otherwise() -> None:
    first = uids(PATIENT)
    assert uids({"00100020": {"vr": "LO", "Value": ["id-1"]}}) == first
    assert all(uid.startswith("2.25.") and len(uid) <= 44 for uid in first)
    assert len({*first, *uids({"PatientID": "id-2"}), *uids(PATIENT, jpeg())}) == 9
    assert uids(PATIENT, namespace="run/task/0") != uids(PATIENT, namespace="run/task/1")
    assert uids(PATIENT, namespace="run/task/0") == uids({"PatientID": "id-2"}, namespace="run/task/0")


def test_given_uids_are_kept_and_the_others_derived() -> None:
    study, series, instance = uids({**PATIENT, "StudyInstanceUID": "1.2", "SOPInstanceUID": None})
    assert (study, series[:5], instance[:5]) == ("1.2", "2.25.", "2.25.")
    given = {**PATIENT, "StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}
    assert uids(given) == ("1.2", "1.2.3", "1.2.3.4")


def test_the_same_input_makes_the_same_bytes() -> None:
    assert part10_of(PATIENT) == part10_of(PATIENT)


def test_a_document_is_encapsulated_byte_for_byte() -> None:
    content = PDF + b"\n" * (len(PDF) % 2 + 1)
    assert len(content) % 2
    found = read({**PATIENT, "DocumentTitle": "Letter"}, content)
    assert found.SOPClassUID.name == "Encapsulated PDF Storage"
    assert found.EncapsulatedDocument[: found.EncapsulatedDocumentLength] == content
    assert found.MIMETypeOfEncapsulatedDocument == "application/pdf"
    assert (found.Modality, found.BurnedInAnnotation, found.InstanceNumber) == ("DOC", "YES", 1)
    assert (found.DocumentTitle, len(found.ConceptNameCodeSequence)) == ("Letter", 0)
    assert "PixelData" not in found


def test_a_video_is_described_as_its_file_has_it() -> None:
    content = mp4(frames=75, size=(1280, 720), payload=b"x" * 1001)
    found = read(PATIENT, content)
    assert found.file_meta.TransferSyntaxUID == "1.2.840.10008.1.2.4.102"
    assert (found.SOPClassUID, found.Modality) == (VIDEO_PHOTOGRAPHIC, "XC")
    assert (found.Rows, found.Columns, found.NumberOfFrames, found.CineRate) == (720, 1280, 75, 25)
    assert (found.FrameTime, found.FrameIncrementPointer) == (40, 0x00181063)
    assert (found.PhotometricInterpretation, found.LossyImageCompressionMethod) == ("YBR_PARTIAL_420", "ISO_14496_10")
    (fragment,) = list(pydicom.encaps.generate_fragments(found.PixelData))[1:]
    assert fragment[: len(content)] == content


@pytest.mark.parametrize(
    ("content", "syntax"),
    [
        (mp4(level=41), "102"),
        (mp4(level=42), "104"),
        (mp4(coding=b"hvc1", configuration=b"\0\0\0\x1bhvcC" + b"\1\1" + b"\0" * 10 + b"\x99" + b"\0" * 6), "107"),
        (mp4(coding=b"hev1", configuration=b"\0\0\0\x1bhvcC" + b"\1\2" + b"\0" * 10 + b"\x99" + b"\0" * 6), "108"),
        (mp4(tracks=b"videsoun"), "102"),
    ],
)
def test_the_coding_of_a_video_is_its_transfer_syntax(content: bytes, syntax: str) -> None:
    assert read(PATIENT, content).file_meta.TransferSyntaxUID == f"1.2.840.10008.1.2.4.{syntax}"


@pytest.mark.parametrize(("level", "syntax"), [(0x48, "100"), (0x44, "101")])
def test_an_mpeg_2_video_needs_its_number_of_frames(level: int, syntax: str) -> None:
    content = mpeg2(profile_and_level=level, size=(1440, 1080) if level == 0x44 else (720, 576))
    with pytest.raises(ConfigurationError, match="NumberOfFrames must be in the metadata"):
        read(PATIENT, content)
    found = read({**PATIENT, "NumberOfFrames": 100}, content)
    assert found.file_meta.TransferSyntaxUID == f"1.2.840.10008.1.2.4.{syntax}"
    assert (found.Columns, found.Rows, found.CineRate) == ((1440, 1080, 25) if level == 0x44 else (720, 576, 25))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (mp4(profile=77), "profile 77"),
        (mp4(level=51), "level 5.1"),
        (mp4(coding=b"vp09", configuration=b"\0\0\0\x08vpcC"), "neither H.264"),
        (mp4().replace(b"ftypisom", b"ftypqt  "), "QuickTime"),
        (mp4(tracks=b"soun"), "0 video tracks"),
        (mp4(tracks=b"videvide"), "2 video tracks"),
        (mp4(frames=0), "number of frames"),
        (mp4()[:-20], "damaged or cut"),
        (mp4()[:100], "damaged or cut"),
        (mp4()[: -len(mp4()) + 40], "damaged or cut|no tables"),
        (mpeg2(profile_and_level=0x41), "main profile"),
        (mpeg2(rate=0), "frame rate"),
        (b"\0\0\1\xb3" + b"\x2c" * 40, "no MPEG-2 video"),
        (b"\x89PNG\r\n\x1a\n", "a PNG image"),
        (b"plain text", "of no known kind"),
        (b"\0" * 128 + b"DICM", "a DICOM file already"),
        (PDF[:-8], "cut"),
    ],
)
def test_a_file_that_no_instance_can_be_made_of_is_refused_with_the_reason(content: bytes, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read({**PATIENT, "NumberOfFrames": 3}, content)


def test_bulk_data_may_be_what_opens_it() -> None:
    found = find_bulk_data(Entry("s3://bucket/x.jpg", "x.jpg", len(JPEG), lambda: io.BytesIO(JPEG)), None)
    assert described_rows(found) == 8


def described_rows(bulk: Source) -> int:
    rows: int = describe(PATIENT, bulk).data_set.Rows
    return rows


@pytest.mark.parametrize("name", ["", None, 7, ["a", "b"], "missing.jpg", "folder", "empty.jpg"])
def test_bulk_data_that_is_no_file_is_refused_without_its_name(name: Any, tmp_path: Path) -> None:
    (tmp_path / "empty.jpg").touch()
    (tmp_path / "folder").mkdir()
    for number in range(2):
        (tmp_path / "folder" / f"{number}.jpg").write_bytes(JPEG)
    given = tmp_path / name if isinstance(name, str) and name else name
    with pytest.raises(ConfigurationError) as refused:
        find_bulk_data(given, None)
    assert str(tmp_path) not in str(refused.value)


def test_instances_are_the_same_if_their_attributes_and_pixels_are() -> None:
    ours = part10_of(PATIENT)
    theirs = pydicom.dcmread(io.BytesIO(ours))
    theirs.file_meta.ImplementationVersionName = "OTHER"
    stream = io.BytesIO()
    theirs.save_as(stream)
    assert same_instance(stream.getvalue(), ours)
    theirs.PatientID = "id-2"
    stream = io.BytesIO()
    theirs.save_as(stream)
    assert not same_instance(stream.getvalue(), ours)
    assert not same_instance(b"", ours)
