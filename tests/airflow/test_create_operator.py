"""Making instances: once for every task of a run, and nothing about the patient where Airflow shows or keeps it."""

from __future__ import annotations

import json
import logging
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pydicom
import pytest
from airflow.sdk import DAG, ObjectStoragePath
from PIL import Image

from airflow_dicomweb.dicomweb.stow import StoreResult
from airflow_dicomweb.errors import ConfigurationError, DicomWebError, StoreRefusedError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import DicomWebCreateInstanceOperator, DicomWebSearchOperator

METADATA = {"PatientID": "sentinel-id", "PatientName": "Sentinel^Patient", "StudyDescription": "sentinel words"}
PDF = b"%PDF-1.7\ntrailer<<>>\n%%EOF\n"


class Task(NamedTuple):
    """What an instance is named after."""

    dag_id: str = "dag"
    run_id: str = "run"
    task_id: str = "create"
    map_index: int = -1


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "Sentinel^Patient.jpg"
    Image.new("RGB", (32, 16), "red").save(path)
    return path


def create(bulk_data: Any, task: Task | None = None, **arguments: Any) -> dict[str, Any]:
    if "metadata_uri" not in arguments:
        arguments.setdefault("metadata", METADATA)
    operator = DicomWebCreateInstanceOperator(task_id="create", bulk_data=bulk_data, **arguments)
    return operator.execute({"ti": task or Task()})


def stored(client: Any, study: str, folder: Path) -> pydicom.Dataset:
    client.retrieve(study, destination=folder)
    (path,) = folder.rglob("*.dcm")
    return pydicom.dcmread(path)


def test_an_image_becomes_an_instance(store, client, picture, tmp_path, caplog):
    with caplog.at_level(logging.DEBUG):
        result = create(str(picture), verify="exists")
    assert list(result) == list(StoreResult(()).to_xcom())
    assert (result["created"], result["study_count"]) == (1, 1)
    made = stored(client, result["studies"][0], tmp_path / "out")
    assert (made.PatientID, made.Rows, made.Columns) == ("sentinel-id", 16, 32)
    assert "entinel" not in caplog.text + json.dumps(result)


def test_a_retry_finds_what_the_first_try_made(store, picture):
    first = create(picture)
    again = create(picture)
    assert (first["created"], again["identical"], again["studies"]) == (1, 1, first["studies"])


@pytest.mark.parametrize(
    "other", [Task(dag_id="other"), Task(run_id="other"), Task(task_id="other"), Task(map_index=0)], ids=repr
)
def test_another_task_or_run_makes_another_instance(store, picture, other):
    assert create(picture)["studies"] != create(picture, other)["studies"]


def test_a_study_is_given_by_the_author_and_instances_join_it(store, client, picture, tmp_path):
    document = tmp_path / "letter.pdf"
    document.write_bytes(PDF)
    for source in (picture, document):
        result = create(source, metadata={**METADATA, "StudyInstanceUID": "1.2.3"}, storage_class="NEARLINE")
        assert (result["created"], result["studies"]) == (1, ["1.2.3"])
    assert len(list(client.search_series(study="1.2.3"))) == 2


@pytest.mark.parametrize("kind", ["file", "gs", "dicom json"])
@pytest.mark.usefixtures("store")
def test_metadata_may_be_in_a_file(client, picture, tmp_path, bucket, kind):
    content = [{"00100020": {"vr": "LO", "Value": ["sentinel-id"]}}] if kind == "dicom json" else METADATA
    if kind == "gs":
        uri = f"gs://{bucket}/metadata.json"
        Buckets().write(bucket, "metadata.json", json.dumps(content).encode())
    else:
        path = tmp_path / "metadata.json"
        path.write_text(json.dumps(content))
        uri = str(path)
    result = create(picture, metadata_uri=uri)
    assert stored(client, result["studies"][0], tmp_path / "out").PatientID == "sentinel-id"


def test_both_files_may_be_in_a_bucket(store, bucket, picture):
    buckets = Buckets()
    buckets.write(bucket, "in/metadata.json", json.dumps(METADATA).encode())
    buckets.write(bucket, "in/image.jpg", picture.read_bytes())
    assert create(f"gs://{bucket}/in/image.jpg", metadata_uri=f"gs://{bucket}/in/metadata.json")["created"] == 1


@pytest.mark.usefixtures("store")
def test_the_file_may_be_where_airflow_opens_it(picture):
    assert create(ObjectStoragePath(f"file://{picture}"))["created"] == 1
    assert create(f"file://{picture}")["identical"] == 1


def test_another_server_gets_a_part_10_file(empty_orthanc, set_connection, picture):
    set_connection(host=empty_orthanc.dicomweb_url, login=empty_orthanc.user, password=empty_orthanc.password)
    assert create(picture)["created"] == 1
    assert create(picture)["identical"] == 1


def test_another_instance_of_the_same_identity_fails_the_task_unless_it_may_stay(store, picture, tmp_path):
    uids = {"StudyInstanceUID": "1.2.3", "SeriesInstanceUID": "1.2.3.4", "SOPInstanceUID": "1.2.3.4.5"}
    create(picture, metadata={**METADATA, **uids})
    other = {**METADATA, **uids, "PatientID": "another"}
    with pytest.raises(StoreRefusedError, match="1 conflict") as refused:
        create(picture, metadata=other)
    assert "entinel" not in str(refused.value)
    assert create(picture, metadata=other, on_conflict="keep")["conflict"] == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"metadata": None}, "one of metadata and metadata_uri"),
        ({"metadata_uri": "/x.json", "metadata": METADATA}, "one of metadata and metadata_uri"),
        ({"metadata": ["PatientID"]}, "mapping of keywords"),
        ({"metadata": {"PatientName": "Sentinel"}}, "PatientID is missing"),
        ({"metadata": {**METADATA, "PatientsID": "x"}}, "not an attribute"),
        ({"metadata": {**METADATA, "Rows": 3}}, "Rows in the metadata contradicts"),
        ({"metadata": {**METADATA, "StudyInstanceUID": ".."}}, "not a DICOM UID"),
        ({"metadata_uri": ""}, "path of a JSON file"),
        ({"metadata_uri": "/nowhere/Sentinel.json"}, "No such file"),
        ({"metadata_uri": "gs://bucket/*.json"}, "without wildcards"),
        ({"bulk_data": ""}, "path of a file"),
        ({"bulk_data": None}, "path of a file"),
        ({"bulk_data": "/nowhere/Sentinel.jpg"}, "existing file"),
        ({"storage_class": "COLD"}, "STANDARD"),
        ({"on_conflict": "replace"}, "'fail', 'keep'"),
        ({"verify": "all"}, "'response'"),
        ({"as_part10": "yes"}, "True, False or None"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(store, picture, arguments, words):
    arguments = {"bulk_data": str(picture), **arguments}
    with pytest.raises(ConfigurationError, match=words) as refused:
        create(**arguments)
    assert "Sentinel" not in str(refused.value)
    assert store.requests() == []


def test_metadata_that_is_no_json_is_said_without_its_content(store, picture, tmp_path):
    (tmp_path / "metadata.json").write_text('{"PatientName": "Sentinel^Patient"')
    with pytest.raises(ConfigurationError, match="no JSON") as refused:
        create(picture, metadata_uri=str(tmp_path / "metadata.json"))
    assert "Sentinel" not in str(refused.value)


def test_metadata_that_is_not_in_the_bucket_is_said(store, picture, bucket):
    with pytest.raises(DicomWebError):
        create(picture, metadata_uri=f"gs://{bucket}/nothing.json")
    assert store.requests() == []


def test_airflow_shows_neither_metadata_nor_file_names(store, picture):
    operator = DicomWebCreateInstanceOperator(task_id="create", bulk_data=str(picture), metadata=METADATA)
    operator.render_template_fields({"ti": Task()})
    for name in ("bulk_data", "metadata", "metadata_uri"):
        value = getattr(operator, name)
        shown = json.dumps(value.serialize() if value is not None else None) + repr(value)
        assert "entinel" not in shown
    assert operator.execute({"ti": Task()})["created"] == 1


def test_values_are_templates(store, client, picture, tmp_path):
    operator = DicomWebCreateInstanceOperator(
        task_id="create",
        bulk_data="{{ file }}",
        metadata={"PatientID": "{{ patient }}", "StudyInstanceUID": "1.2.{{ n }}"},
    )
    operator.render_template_fields({"ti": Task(), "file": str(picture), "patient": "id-9", "n": 3})
    assert operator.execute({"ti": Task()})["studies"] == ["1.2.3"]
    assert stored(client, "1.2.3", tmp_path / "out").PatientID == "id-9"


@pytest.mark.usefixtures("store")
def test_a_dag_with_python_dates_runs_and_a_mapped_task_makes_an_instance_for_each_file(
    run_dag, client, picture, tmp_path
):
    other = tmp_path / "other.jpg"
    Image.new("L", (8, 8)).save(other)
    with DAG("photos", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
        DicomWebCreateInstanceOperator.partial(
            task_id="create", metadata={"PatientID": "id-1", "StudyDate": date(2026, 1, 31)}
        ).expand(bulk_data=[str(picture), str(other)]) >> DicomWebSearchOperator(
            task_id="search", filters={"StudyDate": (date(2026, 1, 31), None)}
        )
    assert run_dag(dag).state == "success"
    assert len(list(client.search_studies({"StudyDate": (None, date(2026, 1, 31))}))) == 2
