"""What a client deletes, where it does not, and that it never deletes twice."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.habits import SERVERS
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, TransportError, UnavailableError
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.scripted import NOTHING, QUICK, STUDY, found, sop
from tests.servers.faulty import Fault, FaultyServer, faulty

SERIES = f"{STUDY}.1"
STORE = "projects/p/locations/l/datasets/d/dicomStores/s"
DONE = Fault(204, body=b"")
LEVELS: dict[str, tuple[tuple[str, ...], str]] = {
    "delete_study": ((STUDY,), f"/studies/{STUDY}"),
    "delete_series": ((STUDY, SERIES), f"/studies/{STUDY}/series/{SERIES}"),
    "delete_instance": ((STUDY, SERIES, sop(0)), f"/studies/{STUDY}/series/{SERIES}/instances/{sop(0)}"),
}


def deleting(server: FaultyServer, name: str | None = "standard-with-delete", **more: Any) -> DicomWebClient:
    return DicomWebClient(f"{server.url}/dicom-web", retry_policy=QUICK, server=name, **more)


def lines(server: FaultyServer) -> list[str]:
    return [each.line.partition("?")[0] for each in server.received]


@pytest.mark.parametrize("level", LEVELS)
def test_a_server_that_deletes_gets_one_delete_of_the_path_of_what_was_meant(level):
    uids, path = LEVELS[level]
    with faulty(DONE) as server, deleting(server, stow_prefix="rs") as client:
        assert getattr(client, level)(*uids) is None
        assert lines(server) == [f"DELETE /dicom-web/rs{path}"]


@pytest.mark.parametrize("name", [None, *(name for name, habits in SERVERS.items() if not habits.deletes)])
@pytest.mark.parametrize("level", LEVELS)
def test_a_server_that_does_not_delete_is_not_asked_and_its_own_way_is_said(level, name):
    words = SERVERS[name or "standard"].own_way
    with faulty() as server, deleting(server, name) as client:
        with pytest.raises(ConfigurationError) as refusal:
            getattr(client, level)(*LEVELS[level][0])
        assert server.received == []
    assert words in str(refusal.value)
    assert len(words) > 40


@pytest.mark.parametrize("level", ["delete_study", "delete_series"])
def test_operations_are_for_the_client_that_can_wait_for_them(level):
    with faulty() as server, deleting(server, "google") as client:
        with pytest.raises(ConfigurationError, match="HealthcareClient"):
            getattr(client, level)(*LEVELS[level][0])
        assert server.received == []


@pytest.mark.parametrize(
    "uid", ["..", "", " ", None, ".", "1.2/..", "1.2/../3", "%2e%2e", "1.2\n", 12, "1.2?x", "1." * 33]
)
@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("healthcare", [True, False])
def test_what_is_no_uid_deletes_nothing_wherever_it_stands(healthcare, level, uid):
    with faulty() as server:
        client: DicomWebClient = (
            HealthcareClient(STORE, base_url=server.url, credentials=Bearer("t")) if healthcare else deleting(server)
        )
        uids = LEVELS[level][0]
        with client:
            for place in range(len(uids)):
                with pytest.raises(ConfigurationError, match="UID"):
                    getattr(client, level)(*uids[:place], uid, *uids[place + 1 :])
        assert server.received == []


def test_what_is_not_there_is_an_error_that_says_so():
    with faulty(Fault(404, body=b"")) as server, deleting(server) as client, pytest.raises(NotFoundError):
        client.delete_study(STUDY)


LOST: dict[str, Fault] = {
    "reset": Fault(drop="reset"),
    "closed": Fault(drop="close"),
    "500": Fault(500),
    "504": Fault(504),
    "cut": Fault(body=b"{}" * 50, cut=3, then="drop"),
}


@pytest.mark.parametrize("lost", LOST.values(), ids=LOST)
@pytest.mark.parametrize(
    ("level", "search", "gone"),
    [
        ("delete_study", NOTHING, True),
        ("delete_study", found(0), False),
        ("delete_series", NOTHING, True),
        ("delete_series", found(0), False),
        ("delete_instance", found(1), True),
        ("delete_instance", found(0, 1), False),
    ],
)
def test_a_deletion_whose_answer_was_lost_is_looked_up_and_not_sent_again(level, search, gone, lost):
    with faulty(lost, search) as server, deleting(server) as client:
        delete: Callable[[], object] = lambda: getattr(client, level)(*LEVELS[level][0])  # noqa: E731
        if gone:
            assert delete() is None
        else:
            with pytest.raises((TransportError, UnavailableError), match="not sent again"):
                delete()
        assert [line.partition(" ")[0] for line in lines(server)] == ["DELETE", "GET"]


def test_a_deletion_that_was_turned_away_is_sent_again():
    with faulty(Fault(503), Fault(429), DONE) as server, deleting(server) as client:
        client.delete_instance(STUDY, SERIES, sop(0))
        assert len(server.received) == 3


def test_where_not_even_a_search_is_answered_the_error_is_the_one_of_the_deletion():
    with (
        faulty(Fault(drop="reset"), Fault(500), Fault(500), Fault(500)) as server,
        deleting(server) as client,
        pytest.raises(TransportError, match="DELETE"),
    ):
        client.delete_study(STUDY)


def test_a_dicom_store_is_not_asked_twice_for_an_operation():
    with (
        faulty(Fault(drop="reset"), DONE) as server,
        HealthcareClient(STORE, base_url=server.url, credentials=Bearer("t"), retry_policy=QUICK) as client,
    ):
        with pytest.raises(TransportError, match="not sent again"):
            client.delete_study(STUDY)
        assert len(server.received) == 1
