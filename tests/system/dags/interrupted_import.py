"""An import whose first try is meant to be killed while it waits in its worker."""

from __future__ import annotations

from datetime import timedelta

from airflow.sdk import DAG

from airflow_dicomweb.operators import DicomWebImportFromGcsOperator

with DAG(dag_id="interrupted_import", schedule=None, params={"dicom_store": "", "gcs_uri": ""}) as dag:
    DicomWebImportFromGcsOperator(
        task_id="import",
        dicom_store="{{ params.dicom_store }}",
        gcs_uri="{{ params.gcs_uri }}",
        inline_wait=120.0,
        retries=1,
        retry_delay=timedelta(seconds=1),
    )
