"""An Airflow of the tests' own, and connections to the servers that the tests start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from airflow_dicomweb.emulator import Emulator

SetConnection = Callable[..., str]


@pytest.fixture(scope="session")
def airflow_database() -> None:
    """The database of the tests' own AIRFLOW_HOME, with all its tables."""
    subprocess.run(
        [sys.executable, "-m", "airflow", "db", "migrate"], check=True, capture_output=True, timeout=120, env=os.environ
    )


@pytest.fixture
def set_connection(monkeypatch: pytest.MonkeyPatch) -> SetConnection:
    """Define an Airflow connection for this test: gives its id."""

    def define(conn_id: str = "dicomweb_default", *, extra: dict[str, Any] | None = None, **fields: Any) -> str:
        fields = {"conn_type": "dicomweb", **fields, "extra": extra or {}}
        monkeypatch.setenv(f"AIRFLOW_CONN_{conn_id.upper()}", json.dumps(fields))
        return conn_id

    return define


@pytest.fixture
def store(dicomweb_emulator: Emulator, set_connection: SetConnection) -> Emulator:
    """An empty DICOM store, which the default connection leads to."""
    set_connection(host=dicomweb_emulator.base_url, extra={"dicom_store": dicomweb_emulator.dicom_store, "auth": "none"})
    return dicomweb_emulator
