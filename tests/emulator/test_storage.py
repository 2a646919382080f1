"""Metrics, storage information, and storage classes."""

from __future__ import annotations

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from tests.emulator.api import VECTORS, envelope, instance, picture

METRICS = VECTORS["metrics"]
INSTANCE = "studies/1.1/series/1.1.1/instances/1.1.1.1"


@pytest.fixture
def filled(api):
    """Two studies, three series, four instances."""
    api.store(picture(), instance(uid="1.1.1.2"), instance(series="1.1.2", uid="1.1.2.1"))
    api.store(instance(study="1.2", series="1.2.1", uid="1.2.1.1"))
    return api


def storage_class_of(api, path=INSTANCE):
    return api.get(f"{path}:getStorageInfo").json()["blobStorageInfo"]["storageClass"]


def counts(body):
    return {key: value for key, value in body.items() if key.endswith("Count")}


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("getDICOMStoreMetrics", ""),
        ("getStudyMetrics", "/dicomWeb/studies/1.1"),
        ("getSeriesMetrics", "/dicomWeb/studies/1.1/series/1.1.1"),
    ],
)
def test_metrics_count_as_the_contract_prints_them(filled, name, path):
    found = filled.ask("GET", f"{filled.store_url}{path}:{name}").json()
    printed = METRICS[name]["body"]
    assert list(found) == list(printed)
    assert counts(found) == counts(printed)
    assert next(iter(found.values())) == f"{filled.emulator.dicom_store}{path}"
    assert all(isinstance(value, str) and value.isdigit() for key, value in found.items() if key.endswith("Bytes"))


def test_an_empty_store_has_no_counts(api):
    assert api.ask("GET", f"{api.store_url}:getDICOMStoreMetrics").json() == {"name": api.emulator.dicom_store}
    envelope(api.get("studies/9.9:getStudyMetrics"), 404)
    envelope(api.get("studies/9.9/series/9:getSeriesMetrics"), 404)
    envelope(api.get("studies/9.9/series/9/instances/9:getStorageInfo"), 404)


def test_storage_information_is_as_the_contract_prints_it(api):
    api.store(picture(), **{"Storage-Class": "NEARLINE"})
    found, printed = api.get(f"{INSTANCE}:getStorageInfo").json(), METRICS["getStorageInfo"]["body"]
    assert list(found) == list(printed)
    assert list(found["blobStorageInfo"]) == list(printed["blobStorageInfo"])
    assert found["referencedResource"] == f"{api.emulator.dicom_store}/dicomWeb/{INSTANCE}"
    assert found["blobStorageInfo"]["storageClass"] == "NEARLINE"
    assert found["blobStorageInfo"]["sizeBytes"] == str(len(picture()))


@pytest.mark.parametrize(("path", "count"), [("studies/1.1", "3"), ("studies/1.1/series/1.1.1", "2"), (INSTANCE, "1")])
def test_the_storage_class_of_a_study_series_or_instance_is_changed(filled, path, count):
    body = VECTORS["storage_class"]["instance"]["body"]
    operation = filled.run(filled.ask("POST", f"{path}:setBlobStorageSettings", json=body))
    assert operation["metadata"]["counter"] == {"success": count}
    assert operation["metadata"]["apiMethodName"].endswith("StorageInfoService.SetBlobStorageSettings")
    assert operation["response"] == {"@type": "type.googleapis.com/google.protobuf.Empty"}
    assert storage_class_of(filled) == "NEARLINE"
    assert storage_class_of(filled, "studies/1.2/series/1.2.1/instances/1.2.1.1") == "STANDARD"


def test_a_filter_file_names_what_changes_its_storage_class(filled, bucket):
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        lines = f"/{INSTANCE}\r\n/studies/1.2\n/studies/9.9\n"
        client.bucket(bucket).blob("filter").upload_from_string(lines)
    body = VECTORS["storage_class"]["filter"]["body"] | {
        "filterConfig": {"resourcePathsGcsUri": f"gs://{bucket}/filter"}
    }
    operation = filled.run(filled.ask("POST", f"{filled.store_url}:setBlobStorageSettings", json=body))
    assert operation["metadata"]["counter"] == {"success": "2", "failure": "1"}
    assert operation["error"]["code"] == 3
    assert storage_class_of(filled) == "COLDLINE"
    assert storage_class_of(filled, INSTANCE[:-1] + "2") == "STANDARD"


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/dicomWeb/studies/9.9", {"blobStorageSettings": {"blobStorageClass": "ARCHIVE"}}, 404),
        ("/dicomWeb/studies/1.1", {"blobStorageSettings": {"blobStorageClass": "COLD"}}, 400),
        ("/dicomWeb/studies/1.1", {}, 400),
        ("", {"blobStorageSettings": {"blobStorageClass": "ARCHIVE"}}, 400),
        (
            "",
            {
                "blobStorageSettings": {"blobStorageClass": "ARCHIVE"},
                "filterConfig": {"resourcePathsGcsUri": "gs://b/*"},
            },
            400,
        ),
    ],
)
def test_what_cannot_be_changed_is_refused_at_once(filled, path, body, status):
    envelope(filled.ask("POST", f"{filled.store_url}{path}:setBlobStorageSettings", json=body), status)
    assert storage_class_of(filled) == "STANDARD"
