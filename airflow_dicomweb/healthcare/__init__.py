"""The DICOM part of Google's Cloud Healthcare API, on top of DICOMweb. No Airflow inside."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.auth import Basic, Bearer, Google
    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.names import DatasetName, DicomStoreName, OperationName
    from airflow_dicomweb.healthcare.operations import Operation

# Loaded at first use: the names stay cheap to import where no client is needed (operators, triggers, DAG files).
_ROOMS = {
    "Basic": "airflow_dicomweb.dicomweb.auth",
    "Bearer": "airflow_dicomweb.dicomweb.auth",
    "DatasetName": "airflow_dicomweb.healthcare.names",
    "DicomStoreName": "airflow_dicomweb.healthcare.names",
    "Google": "airflow_dicomweb.dicomweb.auth",
    "HealthcareClient": "airflow_dicomweb.healthcare.client",
    "Operation": "airflow_dicomweb.healthcare.operations",
    "OperationName": "airflow_dicomweb.healthcare.names",
}

__all__ = [
    "Basic",
    "Bearer",
    "DatasetName",
    "DicomStoreName",
    "Google",
    "HealthcareClient",
    "Operation",
    "OperationName",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(_ROOMS[name]), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
