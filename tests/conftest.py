"""What every test can rely on: no installation, credentials or proxy of the user, and real servers on 127.0.0.1."""

from __future__ import annotations

import os
import shutil
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.cloud_storage import running_cloud_storage
from tests.servers import missing
from tests.servers.orthanc import Orthanc, OrthancMissingError, running_orthanc
from tests.servers.tiny_pacs import TinyPacs, TinyPacsMissingError, running_tiny_pacs
from tests.servers.token_server import TokenServer

# Set when this file is read, not in a fixture: Airflow and google-auth read these when they are imported.
_HOME = Path(tempfile.mkdtemp(prefix="airflow-dicomweb-tests-"))
_TOKEN_SERVER = TokenServer()
for _name in list(os.environ):
    if _name.startswith(("AIRFLOW_", "GOOGLE_", "GCE_", "CLOUDSDK_", "STORAGE_EMULATOR_")) or _name.lower().endswith(
        "_proxy"
    ):
        del os.environ[_name]
os.environ.update(_TOKEN_SERVER.environment(_HOME / "gcloud"))
os.environ["AIRFLOW_HOME"] = str(_HOME / "airflow")
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"


def pytest_configure() -> None:
    """Start what all tests share."""
    _TOKEN_SERVER.start()


def pytest_unconfigure() -> None:
    """Leave nothing behind."""
    _TOKEN_SERVER.stop()
    shutil.rmtree(_HOME, ignore_errors=True)


@pytest.fixture
def token_server() -> TokenServer:
    """The stand-in for Google's token endpoints, with nothing asked so far."""
    _TOKEN_SERVER.reset()
    return _TOKEN_SERVER


@pytest.fixture(scope="session")
def orthanc(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Orthanc]:
    """A running Orthanc, the same for all tests: what one stores the next may find."""
    try:
        with running_orthanc(tmp_path_factory.mktemp("orthanc")) as server:
            yield server
    except OrthancMissingError as error:
        missing(str(error))


@pytest.fixture
def empty_orthanc(orthanc: Orthanc) -> Orthanc:
    """The running Orthanc, emptied."""
    orthanc.clear()
    return orthanc


@pytest.fixture(scope="session")
def tiny_pacs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TinyPacs]:
    """A running tiny-pacs-dicomweb, the same for all tests: it deletes nothing, so studies must be a test's own."""
    try:
        with running_tiny_pacs(tmp_path_factory.mktemp("tiny-pacs")) as server:
            yield server
    except TinyPacsMissingError as error:
        missing(str(error))


@pytest.fixture(scope="session")
def fake_gcs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Base URL of a running Cloud Storage emulator, the same for all tests."""
    with running_cloud_storage(tmp_path_factory.mktemp("cloud-storage") / "server.log") as base_url:
        yield base_url


@pytest.fixture
def bucket(fake_gcs: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Name of a new, empty bucket; google-cloud-storage finds the emulator during this test."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", fake_gcs)
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    client = storage.Client(project="project", credentials=AnonymousCredentials())
    with client:
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        client.create_bucket(name)
    return name


@pytest.fixture(scope="session")
def dicomweb_emulator_options(fake_gcs: str) -> dict[str, object]:
    """Let the emulator of the Healthcare API find the one of Cloud Storage."""
    return {"env": {"STORAGE_EMULATOR_HOST": fake_gcs}}
