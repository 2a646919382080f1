"""Two servers that hold state, started once, and a record of what was proved."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import ProxyHandler, Request, build_opener

import pytest

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.faults.servers import Server
from tests.servers.orthanc import Orthanc

RECORD = Path(__file__).parent.parent.parent / "build" / "faults.json"


@dataclass
class Row:
    """What a case came to.

    :param fired: How often its faults happened.
    :param requests: How many requests there were.
    :param ended: Outcomes and their numbers, or the error.
    """

    transaction: str
    case: str
    server: str
    shape: str
    fired: int
    requests: int
    ended: str


@pytest.fixture(scope="session")
def matrix() -> Iterator[list[Row]]:
    """The rows that were proved, written down in the end."""
    rows: list[Row] = []
    yield rows
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps([asdict(row) for row in rows], indent=1) + "\n")


@pytest.fixture(scope="session")
def servers(request: pytest.FixtureRequest) -> dict[str, Server]:
    """Those that were asked for so far."""
    return {}


@pytest.fixture
def server(request: pytest.FixtureRequest, servers: dict[str, Server]) -> Server:
    """The server that the test's parameter names."""
    name = request.param
    if name not in servers:
        servers[name] = {"emulator": _emulator, "orthanc": _orthanc}[name](request)
    return servers[name]


def _emulator(request: pytest.FixtureRequest) -> Server:
    running: Emulator = request.getfixturevalue("dicomweb_emulator_server")
    dataset = running.dicom_store.rpartition("/dicomStores/")[0]
    store = running.create_store(f"{dataset}/dicomStores/faults").dicom_store
    credentials = Bearer("any")

    def client(root: str, **options) -> DicomWebClient:
        return HealthcareClient(store, base_url=root, **{"credentials": credentials, **options})

    def forget(study: str) -> None:
        with client(running.base_url) as direct:
            operation = direct.delete_study(study)
            if operation is not None:
                direct.wait_for_operation(operation, poll_interval=0.05)

    path = f"/v1/{store}/dicomWeb"
    return Server("emulator", running.base_url, path, credentials, client, forget)


def _orthanc(request: pytest.FixtureRequest) -> Server:
    running: Orthanc = request.getfixturevalue("orthanc")
    credentials = Basic(running.user, running.password)
    ask = partial(_ask_orthanc, running.url, credentials.headers())

    def client(root: str, **options) -> DicomWebClient:
        return DicomWebClient(f"{root}/dicom-web", **{"credentials": credentials, **options})

    def forget(study: str) -> None:
        for found in ask("POST", "/tools/lookup", study.encode()):
            ask("DELETE", found["Path"])

    root = f"http://{urlsplit(running.url).netloc}"
    return Server("orthanc", root, "/dicom-web", credentials, client, forget)


def _ask_orthanc(url: str, headers: dict[str, str], method: str, path: str, body: bytes | None = None):
    request = Request(f"{url}{path}", body, headers, method=method)
    with build_opener(ProxyHandler({})).open(request, timeout=30) as answer:
        return json.loads(answer.read() or b"null")
