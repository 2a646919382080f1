"""Imports, exports, deletions and stores from a bucket, with the emulator and a Cloud Storage that is not ours."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.emulator import Emulator, running_emulator
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    NotFoundError,
)
from airflow_dicomweb.healthcare.client import HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.healthcare.operations import Operation
from tests.dicomweb.instances import part10, series_of


@pytest.fixture(scope="module")
def emulator(tmp_path_factory: pytest.TempPathFactory, fake_gcs: str) -> Iterator[Emulator]:
    folder = tmp_path_factory.mktemp("emulator") / "data"
    with running_emulator(folder, env={"STORAGE_EMULATOR_HOST": fake_gcs}) as server:
        yield server


@pytest.fixture
def client(emulator: Emulator) -> Iterator[HealthcareClient]:
    credentials = Bearer("any")
    with HealthcareClient(emulator.dicom_store, base_url=emulator.base_url, credentials=credentials) as connected:
        yield connected
        for study in {found["StudyInstanceUID"] for found in connected.search_studies()}:
            operation = connected.delete_study(study)
            if operation is not None:
                connected.wait_for_operation(operation, poll_interval=0.05, wait_timeout=30)


def finish(client: HealthcareClient, operation: Operation | None) -> Operation:
    assert operation is not None
    return client.wait_for_operation(operation, poll_interval=0.05, wait_timeout=30)


def test_import_export_and_deletion_go_round(client: HealthcareClient, bucket: str, tmp_path: Path) -> None:
    files = series_of(tmp_path / "in", 3)
    with Buckets() as buckets:
        for file in files:
            buckets.upload(bucket, f"incoming/{file.name}", file, "application/dicom")
        imported = finish(client, client.import_from_gcs(f"gs://{bucket}/incoming/**"))
        assert (imported.verdict, imported.success, imported.short_method) == ("success", 3, "ImportDicomData")
        assert len(list(client.search_instances(study="1.2.840.1"))) == 3
        exported = finish(client, client.export_to_gcs(f"gs://{bucket}/out"))
        assert (exported.verdict, exported.success) == ("success", 3)
        contents = [buckets.read(bucket, found.name) for found in buckets.find(f"gs://{bucket}/out/**")]
    assert sorted(contents) == sorted(file.read_bytes() for file in files)
    assert client.delete_instance("1.2.840.1", "1.2.840.1.1", "1.2.840.1.1.0") is None
    deleted = finish(client, client.delete_study("1.2.840.1"))
    assert (deleted.verdict, deleted.short_method) == ("success", "DeleteStudy")
    assert list(client.search_studies()) == []
    names = {operation.name for operation in client.list_operations()}
    assert {imported.name, exported.name, deleted.name} <= names


def test_objects_of_a_bucket_are_stored_like_files(client: HealthcareClient, bucket: str, tmp_path: Path) -> None:
    files = series_of(tmp_path / "in", 3)
    with Buckets() as buckets:
        for file in files:
            buckets.upload(bucket, f"incoming/{file.stem}", file)
        buckets.write(bucket, "incoming/notes.txt", b"not DICOM")
    result = client.store([f"gs://{bucket}/incoming/**", tmp_path / "in" / "0001.dcm"], verify="bytes")
    assert [(each.outcome, each.source.rpartition("/")[2]) for each in result.outcomes] == [
        ("created", "0001.dcm"),
        ("created", "0000"),
        ("identical", "0001"),
        ("created", "0002"),
        ("skipped", "notes.txt"),
    ]
    with pytest.raises(ConfigurationError, match="matches no file"):
        client.store(f"gs://{bucket}/nothing/**")


@pytest.mark.parametrize("ending", ["", "/"])
def test_a_folder_in_a_bucket_without_a_wildcard_is_refused_with_how_to_write_it(
    client: HealthcareClient, bucket: str, ending: str
) -> None:
    with Buckets() as buckets:
        buckets.write(bucket, "night/0001", part10())
    with pytest.raises(ConfigurationError, match=r"matches no file: .* what is in a folder is gs://BUCKET/NAME/\*\*"):
        client.store(f"gs://{bucket}/night{ending}")
    (outcome,) = client.store(iter([f"gs://{bucket}/night{ending}"])).outcomes
    assert "gs://BUCKET/NAME/**" in outcome.reason
    with pytest.raises(ConfigurationError) as refused:
        client.store(f"gs://{bucket}/nothing/**")
    assert "without a wildcard" not in str(refused.value)


def test_a_running_operation_can_be_cancelled(client: HealthcareClient, emulator: Emulator, bucket: str) -> None:
    with Buckets() as buckets:
        buckets.write(bucket, "a/1", part10())
    emulator.set_operation_seconds(60)
    try:
        operation = client.import_from_gcs(f"gs://{bucket}/a/**")
    finally:
        emulator.set_operation_seconds(0)
    assert not client.get_operation(operation.name).done
    client.cancel_operation(operation.name)
    assert finish(client, operation).verdict == "cancelled"


def test_a_storage_class_is_taken(client: HealthcareClient, tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    assert client.store(tmp_path, storage_class="NEARLINE").created == 1


def test_what_is_not_there_and_who_may_not_see_it_are_different_errors(
    client: HealthcareClient, emulator: Emulator
) -> None:
    dataset = emulator.dicom_store.rpartition("/dicomStores/")[0]
    with pytest.raises(NotFoundError):
        client.get_operation(f"{dataset}/operations/404")
    stranger = HealthcareClient(emulator.dicom_store, base_url=emulator.base_url, credentials=Basic("u", "p"))
    with stranger, pytest.raises(AuthorizationError, match="basic user 'u'"):
        list(stranger.search_studies())
