"""Touches a patient's data in every way there is, often in vain: what must not show is in templates and in errors.

Who the patient is stands in a variable that is set in the environment of the workers: of that Airflow keeps nothing by
itself. What is in ``params`` it does keep.
"""

from __future__ import annotations

import logging
from typing import Any

from airflow.sdk import DAG, Variable, task

from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import (
    DicomWebDeleteStudyOperator,
    DicomWebExportToGcsOperator,
    DicomWebImportFromGcsOperator,
    DicomWebSearchOperator,
    DicomWebStoreInstancesOperator,
)
from airflow_dicomweb.sensors import DicomWebOperationSensor

log = logging.getLogger("airflow.task")

BROKEN = "gs://{{ params.bucket }}/broken/**"


def private(name: str) -> str:
    """Give the template of an entry of the variable."""
    return f"{{{{ var.json.recall.{name} }}}}"


@task
def search_in_code(store: str) -> int:
    """Search with the hook's client."""
    recall = Variable.get("recall", deserialize_json=True)
    with DicomWebHook(dicom_store=store).get_conn() as client:
        found = list(client.search_instances({"PatientName": recall["name"]}, include_fields=["all"]))
        found += list(client.search_studies({"PatientName": recall["stranger"]}, fuzzy_matching=True))
    return len(found)


@task
def say_canary(params: dict[str, Any]) -> str:
    """Leave something in the log and in XCom that is meant to be found there."""
    log.info("The canary is called %s", params["canary"])
    return str(params["canary"])


with DAG(
    dag_id="privacy_probe",
    schedule=None,
    max_active_tasks=3,
    params={"dataset": "", "bucket": "", "study": "", "canary": ""},
    default_args={"dicom_store": "{{ params.dataset }}/dicomStores/recall", "retries": 0},
) as dag:
    store = DicomWebStoreInstancesOperator(
        task_id="store", source=private("folder"), verify="bytes", report_uri=private("report")
    )
    search = DicomWebSearchOperator(
        task_id="search",
        filters={"PatientID": private("id"), "PatientName": private("name")},
        return_fields=["PatientBirthDate", "ReferringPhysicianName"],
        report_uri=private("results"),
    )
    export = DicomWebExportToGcsOperator(
        task_id="export",
        gcs_uri_prefix="gs://{{ params.bucket }}/export",
        query={"PatientID": private("id")},
        deferrable=True,
    )
    unknown_store = DicomWebSearchOperator(
        task_id="search_in_unknown_store",
        dicom_store="{{ params.dataset }}/dicomStores/unknown",
        filters={"PatientID": private("id")},
    )
    no_answer = DicomWebSearchOperator(
        task_id="search_without_answer",
        dicom_store="{{ params.dataset }}/dicomStores/silent",
        filters={"PatientName": private("stranger")},
    )
    no_date = DicomWebSearchOperator(task_id="search_for_no_date", filters={"PatientBirthDate": private("stranger")})
    no_keyword = DicomWebSearchOperator(task_id="search_by_no_keyword", filters={"PatientAlias": private("stranger")})
    refused = DicomWebStoreInstancesOperator(task_id="store_refused", source=private("refused_folder"))
    no_folder = DicomWebStoreInstancesOperator(task_id="store_missing_folder", source=private("missing_folder"))
    unexpected = DicomWebDeleteStudyOperator(task_id="delete_unexpected", study="{{ params.study }}", expected=999)
    broken = DicomWebImportFromGcsOperator(task_id="import_broken", gcs_uri=BROKEN, verify="instances", deferrable=True)
    started = DicomWebImportFromGcsOperator(task_id="start_import", gcs_uri=BROKEN, wait=False)
    watched = DicomWebOperationSensor(
        task_id="watch_import", operation=started.output["operation"], poke_interval=5.0, deferrable=True
    )
    store >> [search, export, unknown_store, no_answer, no_date, no_keyword, refused, no_folder, unexpected]
    store >> [broken, started, search_in_code("{{ params.dataset }}/dicomStores/recall"), say_canary()]
    started >> watched
