"""Operators: what DAG authors call."""

from __future__ import annotations

from airflow_dicomweb.operators.create import DicomWebCreateInstanceOperator
from airflow_dicomweb.operators.delete import (
    DicomWebDeleteInstanceOperator,
    DicomWebDeleteSeriesOperator,
    DicomWebDeleteStudyOperator,
)
from airflow_dicomweb.operators.gcs import DicomWebExportToGcsOperator, DicomWebImportFromGcsOperator
from airflow_dicomweb.operators.retrieve import DicomWebRetrieveOperator
from airflow_dicomweb.operators.search import DicomWebSearchOperator
from airflow_dicomweb.operators.store import DicomWebStoreInstancesOperator

__all__ = [
    "DicomWebCreateInstanceOperator",
    "DicomWebDeleteInstanceOperator",
    "DicomWebDeleteSeriesOperator",
    "DicomWebDeleteStudyOperator",
    "DicomWebExportToGcsOperator",
    "DicomWebImportFromGcsOperator",
    "DicomWebRetrieveOperator",
    "DicomWebSearchOperator",
    "DicomWebStoreInstancesOperator",
]
