"""Instances that are made of files arrive whole on real servers, once however often they are made, and are judged as others."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import generate_fragments

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.stow import StoreResult
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError, TransportError
from airflow_dicomweb.healthcare.client import HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.dicomweb.pictures import PDF, frame_of, jpeg, mp4, mpeg2
from tests.dicomweb.scripted import NOTHING, Reporting, answer, posts, storing
from tests.servers.faulty import Fault

METADATA = {"PatientID": "id-1", "PatientName": "Müller^Jörg", "StudyDate": "20260131"}
VIDEO = {**METADATA, "NumberOfFrames": 25}


@pytest.fixture
def store(dicomweb_emulator: Emulator) -> Iterator[HealthcareClient]:
    with HealthcareClient(
        dicomweb_emulator.dicom_store, base_url=dicomweb_emulator.base_url, credentials=Bearer("any")
    ) as client:
        yield client


def outcome(result: StoreResult) -> str:
    (only,) = result.outcomes
    return only.outcome


def fetched(client: DicomWebClient, result: StoreResult, folder: Path) -> pydicom.Dataset:
    (only,) = result.outcomes
    assert only.path is not None
    client.retrieve(only.path.study, destination=folder)
    (path,) = folder.rglob("*.dcm")
    return pydicom.dcmread(path)


@pytest.mark.parametrize(
    "content",
    [jpeg(), jpeg("L", (8, 8)), frame_of("JPGExtended.dcm")[0], frame_of("SC_rgb_jpeg_gdcm.dcm")[0]],
    ids=["colour", "grey", "twelve bits", "lossless"],
)
def test_an_image_is_created_once_and_holds_the_file(server: DicomWebClient, content: bytes, tmp_path: Path) -> None:
    (tmp_path / "image.jpg").write_bytes(content)
    result = server.create_instance(METADATA, tmp_path / "image.jpg")
    assert (outcome(result), len(result.studies)) == ("created", 1)
    assert outcome(server.create_instance(METADATA, content)) == "identical"
    found = fetched(server, result, tmp_path / "out")
    (_, fragment) = generate_fragments(found.PixelData)
    assert fragment.rstrip(b"\0") == content.rstrip(b"\0")
    assert (found.PatientName, found.PatientID) == ("Müller^Jörg", "id-1")
    assert found.SOPInstanceUID.startswith("2.25.")


@pytest.mark.parametrize(
    ("metadata", "content"),
    [(METADATA, PDF), (METADATA, mp4(payload=b"x" * 300_001)), (VIDEO, mpeg2() + b"\0" * 1000)],
    ids=["pdf", "mp4", "mpeg2"],
)
def test_documents_and_videos_are_created_byte_for_byte(
    server: DicomWebClient, metadata: dict[str, Any], content: bytes, tmp_path: Path
) -> None:
    (tmp_path / "file").write_bytes(content)
    result = server.create_instance(metadata, tmp_path / "file", verify="bytes")
    assert outcome(result) == "created"
    assert outcome(server.create_instance(metadata, tmp_path / "file", verify="bytes")) == "identical"
    found = fetched(server, result, tmp_path / "out")
    held = (
        found.EncapsulatedDocument if "EncapsulatedDocument" in found else list(generate_fragments(found.PixelData))[1]
    )
    assert held[: len(content)] == content
    assert len(held) - len(content) in {0, 1}


def test_other_contents_under_the_same_identity_are_a_conflict(server: DicomWebClient) -> None:
    uids = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}
    assert outcome(server.create_instance({**METADATA, **uids}, jpeg())) == "created"
    for metadata, content in (({**METADATA, "PatientID": "id-2"}, jpeg()), (METADATA, jpeg("L"))):
        assert outcome(server.create_instance({**metadata, **uids}, content)) == "conflict"


def test_the_store_gets_metadata_and_bulk_data_and_others_part_10_files(
    dicomweb_emulator: Emulator, store: HealthcareClient
) -> None:
    assert store.create_instance(METADATA, jpeg(), verify="exists").created == 1
    assert store.create_instance({**METADATA, "PatientID": "2"}, jpeg(), as_part10=True, verify="bytes").created == 1
    with_profile = {**METADATA, "PatientID": "3", "ICCProfile": b"profile"}
    assert store.create_instance(with_profile, jpeg()).created == 1
    with storing(NOTHING, answer({}, 400)) as (client, server):
        client.create_instance(METADATA, jpeg())
    (request,) = posts(server)
    assert 'type="application/dicom";' in request.header("content-type")[0]


def test_what_was_sent_as_metadata_is_compared_by_its_data_set(store: HealthcareClient) -> None:
    assert outcome(store.create_instance(METADATA, jpeg(), verify="bytes")) == "created"
    assert outcome(store.create_instance(METADATA, jpeg(), verify="bytes")) == "identical"


def test_a_lost_answer_is_looked_for(store: HealthcareClient, tmp_path: Path) -> None:
    """The answer to the request is lost, and so is every repeat of it; the store has the instance all the same."""
    result = store.create_instance(METADATA, jpeg())
    (made,) = result.outcomes
    assert made.path is not None
    study, series, instance = made.path.study, made.path.series, made.path.instance
    (kept,) = store.retrieve(study, destination=tmp_path)
    there = {"0020000E": {"vr": "UI", "Value": [series]}, "00080018": {"vr": "UI", "Value": [instance]}}
    script = (
        NOTHING,
        Fault(drop="reset"),
        answer([there]),
        answer(kept.path.read_bytes(), content_type="application/dicom"),
    )
    with storing(*script, client=Reporting) as (client, server):
        assert outcome(client.create_instance(METADATA, jpeg())) == "created"
        assert len(server.received) == 4


def test_a_file_in_a_bucket_is_made_an_instance(store: HealthcareClient, bucket: str) -> None:
    Buckets().write(bucket, "in/wound.jpg", jpeg())
    assert (
        outcome(store.create_instance(METADATA, f"gs://{bucket}/in/wound.jpg", storage_class="COLDLINE")) == "created"
    )


@pytest.mark.parametrize(
    "arguments",
    [
        {"metadata": {}},
        {"metadata": {**METADATA, "Rows": 3}},
        {"bulk_data": b"no image"},
        {"bulk_data": jpeg(progressive=True)},
        {"bulk_data": PDF, "as_part10": False},
        {"as_part10": "yes"},
        {"namespace": 7},
        {"storage_class": "COLD"},
        {"on_conflict": "replace"},
        {"verify": "all"},
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(arguments: dict[str, Any]) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError):
            client.create_instance(**{"metadata": METADATA, "bulk_data": jpeg(), **arguments})
        assert server.received == []


def test_a_server_that_is_gone_is_said() -> None:
    with storing() as (client, _):
        pass
    with pytest.raises(TransportError):
        client.create_instance(METADATA, jpeg())


def test_a_large_video_is_sent_from_its_file(server: DicomWebClient, tmp_path: Path) -> None:
    (tmp_path / "video.mp4").write_bytes(mp4(payload=bytes(range(256)) * 40_000))
    result = server.create_instance(METADATA, tmp_path / "video.mp4", verify="bytes")
    assert outcome(result) == "created"
    assert result.bytes > 10_000_000
