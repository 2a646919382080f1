"""Operators do on every server what the client does: the connection says which server it is, or its answers do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.habits import SERVERS
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import (
    DicomWebDeleteStudyOperator,
    DicomWebRetrieveOperator,
    DicomWebSearchOperator,
    DicomWebStoreInstancesOperator,
)
from tests.airflow.task_state import StateStore, context
from tests.servers.every import data_set_bytes, new_uid, write_study


@pytest.fixture(params=["orthanc", "tiny-pacs"])
def server(request: pytest.FixtureRequest, set_connection: Any) -> str:
    """Name of the server that the default connection leads to."""
    running = request.getfixturevalue(request.param.replace("-", "_"))
    fields = {"login": running.user, "password": running.password} if request.param == "orthanc" else {}
    set_connection(host=running.dicomweb_url, extra={"server": request.param}, **fields)
    return request.param


@pytest.fixture
def study(tmp_path: Path) -> str:
    """A study in files below ``in``."""
    uid = new_uid()
    write_study(tmp_path / "in", uid)
    return uid


def test_a_study_goes_there_is_found_comes_back_and_is_found_identical(server, study, tmp_path):
    def store(state: StateStore) -> dict[str, Any]:
        return DicomWebStoreInstancesOperator(task_id="store", source=str(tmp_path / "in")).execute(context(state))

    first = store(StateStore())
    assert (first["created"], first["failed"], first["studies"]) == (4, 0, [study])
    again = store(StateStore())
    assert (again["created"], again["identical"], again["conflict"]) == (0, 4, 0)
    search = DicomWebSearchOperator(task_id="search", filters={"StudyInstanceUID": study})
    (found,) = search.execute(context())
    assert found["StudyInstanceUID"] == study
    retrieve = DicomWebRetrieveOperator(task_id="retrieve", study=study, destination=str(tmp_path / "out"))
    assert retrieve.execute(context())["files"] == 4
    for came in (tmp_path / "out").rglob("*.dcm"):
        sent = (tmp_path / "in" / came.name).read_bytes()
        assert data_set_bytes(came.read_bytes()) == data_set_bytes(sent)
        assert (came.read_bytes() == sent) is SERVERS[server].keeps_bytes


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_deletion_is_refused_with_the_servers_own_way(server, study, dry_run):
    delete = DicomWebDeleteStudyOperator(task_id="delete", study=study, dry_run=dry_run)
    with pytest.raises(ConfigurationError) as refusal:
        delete.execute(context())
    assert SERVERS[server].own_way in str(refusal.value)


def test_the_hook_gives_the_same_client_and_tests_the_connection(server):
    with DicomWebHook().get_conn() as client:
        assert client.habits is SERVERS[server]
    ok, message = DicomWebHook().test_connection()
    assert ok, message
