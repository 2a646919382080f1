"""What cannot be meant is refused by every operator, in the task, before anything is sent."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import AirflowFailException

from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.operators import (
    DicomWebCreateInstanceOperator,
    DicomWebDeleteInstanceOperator,
    DicomWebDeleteSeriesOperator,
    DicomWebDeleteStudyOperator,
    DicomWebExportToGcsOperator,
    DicomWebImportFromGcsOperator,
    DicomWebRetrieveOperator,
    DicomWebSearchOperator,
    DicomWebStoreInstancesOperator,
)
from airflow_dicomweb.sensors import DicomWebOperationSensor
from tests.airflow.files import write_study
from tests.airflow.task_state import StateStore, context

NAME = "projects/p/locations/l/datasets/d/operations/1"
BAD_UIDS = {
    "dots": "..",
    "a letter": "1.2.x",
    "empty": "",
    "blank": " ",
    "too long": "1." * 32 + "1",
    "a path": "1.2/../3",
    "a trailing newline": "1.2\n",
    "none": None,
}


def refused(task: Any, words: str, error: type[Exception] = ConfigurationError) -> None:
    state = StateStore()
    with pytest.raises(error, match=words):
        task.execute(context(state))
    assert state.written == []


@pytest.mark.parametrize("uid", BAD_UIDS.values(), ids=BAD_UIDS)
def test_a_bad_uid_is_refused_by_every_operator_that_takes_one(store, uid):
    refused(DicomWebDeleteStudyOperator(task_id="a", study=uid), "DICOM UID")
    refused(DicomWebDeleteStudyOperator(task_id="b", study=uid, dry_run=True), "DICOM UID")
    for number, (study, series) in enumerate([(uid, "1.2"), ("1.2", uid)]):
        for dry_run in (True, False):
            uids = {"study": study, "series": series, "dry_run": dry_run}
            refused(DicomWebDeleteSeriesOperator(task_id=f"s{number}{dry_run}", **uids), "DICOM UID")
            refused(DicomWebDeleteInstanceOperator(task_id=f"i{number}{dry_run}", instance="1.2", **uids), "DICOM UID")
    for dry_run in (True, False):
        uids = {"study": "1.2", "series": "1.2", "instance": uid, "dry_run": dry_run}
        refused(DicomWebDeleteInstanceOperator(task_id=f"j{dry_run}", **uids), "DICOM UID")
    for number, (study, series, instance) in enumerate([(uid, None, None), ("1.2", uid, "1.2"), ("1.2", "1.2", uid)]):
        task = DicomWebRetrieveOperator(
            task_id=f"r{number}", study=study, series=series, instance=instance, destination="/srv/dicom/out"
        )
        if number < 2 or uid is not None:
            refused(task, "DICOM UID|without its series")
    refused(DicomWebSearchOperator(task_id="c", filters={"StudyInstanceUID": uid}), "UID")
    for number, resources in enumerate(
        ([uid], [{"StudyInstanceUID": uid}], [{"StudyInstanceUID": "1", "SOPInstanceUID": uid}])
    ):
        export = DicomWebExportToGcsOperator(
            task_id=f"d{number}", gcs_uri_prefix="gs://bucket/out", resources=resources
        )
        if number < 2 or uid is not None:
            refused(export, "UID|resource path")
    export = DicomWebExportToGcsOperator(task_id="e", gcs_uri_prefix="gs://bucket/out", query={"StudyInstanceUID": uid})
    refused(export, "UID")
    assert store.requests() == []


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "gs://",
        "gs://bucket",
        "gs://bucket/",
        "/incoming",
        "s3://bucket/incoming",
        "gs://bucket/**/x.dcm",
        "gs://bucket/**.dcm/*",
        "gs://bucket/a**b*",
        "gs://Bucket/a",
        None,
    ],
)
def test_an_import_that_the_service_would_refuse_is_not_sent(store, uri):
    refused(DicomWebImportFromGcsOperator(task_id="import", gcs_uri=uri), "gs://")
    assert store.requests() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"storage_class": "COLD"}, "STANDARD"),
        ({"max_failures": -1}, "whole number"),
        ({"max_failures": "some"}, "whole number"),
        ({"verify": "all"}, "'none', 'counts', 'instances'"),
        ({"poll_interval": 0}, "poll_interval"),
        ({"inline_wait": -1}, "inline_wait"),
        ({"wait_timeout": "a day"}, "wait_timeout"),
    ],
)
def test_an_import_with_an_argument_out_of_range_is_not_sent(store, arguments, words):
    refused(DicomWebImportFromGcsOperator(task_id="import", gcs_uri="gs://bucket/in/**", **arguments), words)
    assert store.requests() == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"gcs_uri_prefix": ""}, "gs://BUCKET"),
        ({"gcs_uri_prefix": "gs://bucket/*"}, "without wildcards"),
        ({"gcs_uri_prefix": "/out"}, "gs://BUCKET"),
        ({"gcs_uri_prefix": None}, "gs://BUCKET"),
        ({"media_type": "image/gif"}, "image/png"),
        ({"filter_gcs_uri": "gs://bucket/*.txt"}, "no wildcards"),
        ({"filter_gcs_uri": ""}, "gs://"),
        ({"resources": []}, "at least one"),
        ({"resources": "1.2.3"}, "a list"),
        ({"resources": ["studies/1.2/series"]}, "resource path"),
        ({"resources": [{"Modality": "CT"}]}, "StudyInstanceUID"),
        ({"query": {}}, "at least one"),
        ({"query": "StudyDate=20260101"}, "a mapping"),
        ({"query": {"StudyDate": ""}}, "empty"),
        ({"query": {"StudyDay": "20260101"}}, "not an attribute"),
        ({"query": {"PatientID": "1"}, "resources": ["1.2"]}, "only one of resources, query"),
        ({"query": {"PatientID": "1"}, "filter_gcs_uri": "gs://bucket/f"}, "only one of filter_gcs_uri, query"),
    ],
)
def test_an_export_that_cannot_be_meant_is_not_sent(store, arguments, words):
    """Above all: an empty selection is never taken for the whole store."""
    refused(DicomWebExportToGcsOperator(task_id="export", **{"gcs_uri_prefix": "gs://bucket/out", **arguments}), words)
    assert store.requests() == []


@pytest.fixture
def every_task(tmp_path) -> list[Any]:
    """One of each, with good arguments."""
    write_study(tmp_path / "in", series=1, instances=1)
    (tmp_path / "letter.pdf").write_bytes(b"%PDF-1.7\n%%EOF")
    return [
        DicomWebCreateInstanceOperator(
            task_id="create", bulk_data=str(tmp_path / "letter.pdf"), metadata={"PatientID": None}
        ),
        DicomWebDeleteStudyOperator(task_id="delete", study="1.2"),
        DicomWebDeleteSeriesOperator(task_id="delete_series", study="1.2", series="1.3"),
        DicomWebDeleteInstanceOperator(task_id="delete_instance", study="1.2", series="1.3", instance="1.4"),
        DicomWebImportFromGcsOperator(task_id="import", gcs_uri="gs://bucket/in/**"),
        DicomWebExportToGcsOperator(task_id="export", gcs_uri_prefix="gs://bucket/out", resources=["1.2"]),
        DicomWebRetrieveOperator(task_id="retrieve", study="1.2", destination=str(tmp_path / "out")),
        DicomWebSearchOperator(task_id="search"),
        DicomWebStoreInstancesOperator(task_id="store", source=str(tmp_path / "in")),
        DicomWebOperationSensor(task_id="wait", operation=NAME),
    ]


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "neither a host nor a dicom_store"),
        (
            {
                "host": "http://pacs.example",
                "password": "token",
                "extra": {"dicom_store": "projects/p/locations/l/datasets/d/dicomStores/s", "auth": "bearer"},
            },
            "plain http|unencrypted|http",
        ),
    ],
    ids=["without a host", "credentials over plain http"],
)
def test_every_task_refuses_a_connection_that_must_not_be_used(set_connection, every_task, fields, words):
    set_connection(**fields)
    for task in every_task:
        error = AirflowFailException if isinstance(task, DicomWebOperationSensor) else ConfigurationError
        refused(task, words, error)


def test_what_needs_the_healthcare_api_says_so_of_another_server(store, set_connection, every_task):
    set_connection(host=store.dicom_web_url)
    for task in every_task:
        if task.task_id in {"create", "retrieve", "search", "store"}:
            continue
        error = AirflowFailException if isinstance(task, DicomWebOperationSensor) else ConfigurationError
        refused(task, "not known to delete" if "delete" in task.task_id else "needs a DICOM store", error)
    assert store.requests() == []


@pytest.mark.parametrize("dicom_store", ["", "..", "a/b", "projects/p/datasets/d/dicomStores/s"])
def test_every_task_refuses_a_store_name_that_is_none(store, every_task, dicom_store):
    for task in every_task:
        task.dicom_store = dicom_store
        error = AirflowFailException if isinstance(task, DicomWebOperationSensor) else ConfigurationError
        refused(task, "DICOM store name", error)
    assert store.requests() == []
