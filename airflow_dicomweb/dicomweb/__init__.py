"""The DICOMweb protocol (DICOM PS3.18): pure values, and a client. No Airflow inside."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer, Google
    from airflow_dicomweb.dicomweb.bulk_data import BulkData
    from airflow_dicomweb.dicomweb.client import DicomWebClient
    from airflow_dicomweb.dicomweb.entries import Entry, Opener
    from airflow_dicomweb.dicomweb.frames import Frame
    from airflow_dicomweb.dicomweb.resources import InstancePath, SeriesPath, StudyPath
    from airflow_dicomweb.dicomweb.retries import RetryPolicy
    from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreResult
    from airflow_dicomweb.dicomweb.wado import RetrievedFile

# Loaded at first use: the names stay cheap to import where no client is needed (operators, triggers, DAG files).
_ROOMS = {
    "Anonymous": "auth",
    "Basic": "auth",
    "Bearer": "auth",
    "BulkData": "bulk_data",
    "DicomWebClient": "client",
    "Entry": "entries",
    "Frame": "frames",
    "Google": "auth",
    "InstanceOutcome": "stow",
    "InstancePath": "resources",
    "Opener": "entries",
    "RetrievedFile": "wado",
    "RetryPolicy": "retries",
    "SeriesPath": "resources",
    "StoreResult": "stow",
    "StudyPath": "resources",
}

__all__ = [
    "Anonymous",
    "Basic",
    "Bearer",
    "BulkData",
    "DicomWebClient",
    "Entry",
    "Frame",
    "Google",
    "InstanceOutcome",
    "InstancePath",
    "Opener",
    "RetrievedFile",
    "RetryPolicy",
    "SeriesPath",
    "StoreResult",
    "StudyPath",
]


def __getattr__(name: str) -> object:
    if name in _ROOMS:
        return getattr(import_module(f"{__name__}.{_ROOMS[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
