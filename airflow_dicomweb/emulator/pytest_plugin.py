"""Fixtures for tests of your own DAGs: a DICOM store that is fresh for each test, on an emulator that starts once.

Installed with the package; nothing is started, and nothing heavy imported, before a test asks for a fixture.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from airflow_dicomweb.emulator.server import Emulator


@pytest.fixture(scope="session")
def dicomweb_emulator_options() -> Mapping[str, Any]:
    """Give the arguments for ``running_emulator``; override it in your ``conftest.py`` to change them."""
    return {}


@pytest.fixture(scope="session")
def dicomweb_emulator_server(
    tmp_path_factory: pytest.TempPathFactory, dicomweb_emulator_options: Mapping[str, Any]
) -> Iterator[Emulator]:
    """Run one emulator for all tests of the session."""
    from airflow_dicomweb.emulator.server import running_emulator

    with running_emulator(tmp_path_factory.mktemp("dicomweb_emulator") / "data", **dicomweb_emulator_options) as server:
        yield server


@pytest.fixture
def dicomweb_emulator(dicomweb_emulator_server: Emulator) -> Iterator[Emulator]:
    """Give the emulator with an empty DICOM store of the test's own, an empty log of requests, and no faults."""
    server = dicomweb_emulator_server
    server.reset()
    dataset = server.dicom_store.rpartition("/dicomStores/")[0]
    emulator = server.create_store(f"{dataset}/dicomStores/test-{secrets.token_hex(6)}")
    emulator.reset()
    yield emulator
    server.reset()
    server.restore_settings()
    emulator.delete_store()
