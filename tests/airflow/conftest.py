"""An Airflow of the tests' own, and connections to the servers that the tests start."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest

from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.hooks import DicomWebHook
from tests.airflow.files import write_study

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
    """An empty DICOM store in a dataset of its own, which the default connection leads to."""
    location = dicomweb_emulator.dicom_store.partition("/datasets/")[0]
    dataset = f"test-{uuid.uuid4().hex[:12]}"
    url = f"{dicomweb_emulator.base_url}/v1/{location}/datasets?datasetId={dataset}"
    headers = {"Content-Type": "application/json", "Authorization": "Bearer any"}
    urlopen(Request(url, b"{}", headers, method="POST"), timeout=30).close()
    store_name = f"{location}/datasets/{dataset}/dicomStores/images"
    emulator = _when_there(lambda: dicomweb_emulator.create_store(store_name))
    emulator.reset()
    set_connection(
        host=emulator.base_url, password="loopback-token", extra={"dicom_store": store_name, "auth": "bearer"}
    )
    return emulator


@pytest.fixture
def client(store: Emulator) -> HealthcareClient:
    """A client for the store, to look at it from the side."""
    return DicomWebHook().get_healthcare_conn()


@pytest.fixture
def study(store: Emulator, client: HealthcareClient, tmp_path: Path) -> str:
    """A study of two series with two instances each, in the store; the log of requests is empty."""
    paths = write_study(tmp_path / "stored")
    result = client.store(paths)
    assert result.created == len(paths)
    store.reset()
    return result.studies[0]


def _when_there(step: Callable[[], Emulator]) -> Emulator:
    """Try again until the dataset is there: making it is an operation."""
    deadline = time.monotonic() + 10.0
    while True:
        try:
            return step()
        except ValueError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


@pytest.fixture
def run_dag(airflow_database: None) -> Callable[[Any], Any]:
    """Run a DAG with ``dag.test()``: gives the DAG run."""
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    def run(dag: Any) -> Any:
        (Path(os.environ["AIRFLOW_HOME"]) / "dags").mkdir(exist_ok=True)
        DagBundlesManager().sync_bundles_to_db()
        bag = DagBag(dag_folder=os.devnull)
        bag.bag_dag(dag)
        sync_bag_to_db(bag, "dags-folder", None)
        return dag.test()

    return run
