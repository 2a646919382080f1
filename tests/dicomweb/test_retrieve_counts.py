"""While nothing is there yet, the number that the server gives says whether all came; its list of names if that does not fit."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.auth import Basic
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.errors import ProtocolError, TransportError, UnavailableError
from tests.dicomweb.instances import series_of
from tests.dicomweb.scripted import NOTHING, QUICK, STUDY, answer, found, instance, sop
from tests.dicomweb.test_retrieve import SERIES, content, left, multipart, named, paths
from tests.servers.fault_proxy import FaultProxy
from tests.servers.faulty import Fault, FaultyServer, faulty
from tests.servers.orthanc import Orthanc

WHOLE = f"studies/{STUDY}"
COUNT, SEARCH = "studies", f"{WHOLE}/instances"


def counted(number: object, vr: str = "IS", uid: str = STUDY) -> Fault:
    return answer([{"0020000D": {"vr": "UI", "Value": [uid]}, "00201208": {"vr": vr, "Value": [number]}}])


@contextmanager
def counting(*script: Fault) -> Iterator[tuple[DicomWebClient, FaultyServer]]:
    with (
        faulty(*script, counts=True) as server,
        DicomWebClient(f"{server.url}/dicom-web", retry_policy=QUICK) as client,
    ):
        yield client, server


@pytest.mark.parametrize("number", [2, "2"])
def test_as_many_as_the_server_counts_are_all(tmp_path: Path, number: object) -> None:
    with counting(counted(number), multipart(content(0), content(1))) as (client, server):
        files = client.retrieve(STUDY, destination=tmp_path)
    assert [file.path.read_bytes() for file in files] == [content(0), content(1)]
    assert paths(server) == [COUNT, WHOLE]
    query = server.received[0].line.partition("?")[2].split("&")
    assert {f"StudyInstanceUID={STUDY}", "includefield=NumberOfStudyRelatedInstances"} <= set(query)


def test_of_a_series_the_instances_of_the_series_are_counted(tmp_path: Path) -> None:
    number = answer([{"0020000E": {"vr": "UI", "Value": [SERIES]}, "00201209": {"vr": "IS", "Value": [1]}}])
    with counting(number, multipart(content(0))) as (client, server):
        assert len(client.retrieve(STUDY, SERIES, destination=tmp_path)) == 1
    assert paths(server) == [f"{WHOLE}/series", f"{WHOLE}/series/{SERIES}"]


def test_of_one_instance_nothing_is_counted(tmp_path: Path) -> None:
    with counting(instance(content(0))) as (client, server):
        assert len(client.retrieve(STUDY, SERIES, sop(0), destination=tmp_path)) == 1
    assert len(server.received) == 1


@pytest.mark.parametrize(
    "said",
    [
        NOTHING,
        answer([]),
        Fault(400),
        Fault(403),
        Fault(501),
        answer({}, 200),
        answer(b"<html>", content_type="text/html"),
        counted(0),
        counted(-2),
        counted("two"),
        counted(2.5),
        counted(2, uid="1.2.3"),
        answer([{"0020000D": {"vr": "UI", "Value": [STUDY]}}]),
        answer([{"0020000D": {"vr": "UI", "Value": [STUDY]}, "00201208": {"vr": "IS", "Value": [2]}}] * 2),
    ],
)
def test_without_a_number_the_names_are_asked_for(tmp_path: Path, said: Fault) -> None:
    with counting(said, found(0, 1), multipart(content(0), content(1))) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert paths(server) == [COUNT, SEARCH, WHOLE]


def test_a_server_that_is_busy_is_not_asked_for_names_instead(tmp_path: Path) -> None:
    with counting(*[Fault(503)] * 9) as (client, server), pytest.raises(UnavailableError):
        client.retrieve(STUDY, destination=tmp_path)
    assert paths(server) == [COUNT] * 3
    assert left(tmp_path) == []


def test_fewer_than_counted_are_completed_by_their_names(tmp_path: Path) -> None:
    with counting(counted(2), multipart(content(0)), found(0, 1), instance(content(1))) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert paths(server) == [COUNT, WHOLE, SEARCH, f"{WHOLE}/series/{SERIES}/instances/{sop(1)}"]


def test_what_was_deleted_after_it_was_counted_need_not_come(tmp_path: Path) -> None:
    with counting(counted(2), multipart(content(0)), found(0)) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 1
    assert paths(server) == [COUNT, WHOLE, SEARCH]


@pytest.mark.parametrize(
    ("number", "came", "found_then", "finding"),
    [(3, (0, 1), (0, 1, 2), "1 instances are missing, 0 are"), (1, (0, 1), (0,), "0 instances are missing, 1 are")],
)
def test_what_does_not_fit_the_names_either_is_an_error(
    tmp_path: Path, number: int, came: Any, found_then: Any, finding: str
) -> None:
    alone = [Fault(404)] if number > len(came) else []
    script = [counted(number), multipart(*map(content, came)), found(*found_then), *alone, found(*found_then)]
    with counting(*script) as (client, server), pytest.raises(ProtocolError, match=finding):
        client.retrieve(STUDY, destination=tmp_path)
    assert len(server.received) == len(script)
    assert named(tmp_path) == []


def test_a_cut_answer_is_completed_by_the_names(tmp_path: Path) -> None:
    whole = multipart(content(0), content(1))
    cut = Fault(whole.status, whole.headers, whole.body, cut=len(whole.body) - 100)
    with counting(counted(2), cut, found(0, 1), instance(content(1))) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert paths(server) == [COUNT, WHOLE, SEARCH, f"{WHOLE}/series/{SERIES}/instances/{sop(1)}"]


def test_where_something_is_there_the_names_are_asked_for_at_once(tmp_path: Path) -> None:
    with counting(counted(1), multipart(content(0)), found(0)) as (client, server):
        files = client.retrieve(STUDY, destination=tmp_path)
        assert client.retrieve(STUDY, destination=tmp_path) == files
        assert paths(server) == [COUNT, WHOLE, SEARCH]


def test_what_waits_for_the_rest_of_an_answer_is_not_asked_for_again(tmp_path: Path) -> None:
    whole = multipart(content(0), content(1))
    cut = Fault(whole.status, whole.headers, whole.body, cut=len(whole.body) - 100)
    with counting(counted(2), cut, found(0, 1), *[Fault(drop="reset")] * 9) as (client, server):
        with pytest.raises(TransportError):
            client.retrieve(STUDY, destination=tmp_path)
        del server.received[:], server.script[:]
        server.script += [found(0, 1), instance(content(1))]
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert paths(server) == [SEARCH, f"{WHOLE}/series/{SERIES}/instances/{sop(1)}"]


def test_orthanc_counts_the_instances_of_a_study_and_of_a_series(empty_orthanc: Orthanc, tmp_path: Path) -> None:
    series_of(tmp_path / "a", 3)
    series_of(tmp_path / "b", 2, SeriesInstanceUID=f"{STUDY}.2", StudyInstanceUID=STUDY, study="1.9")
    with (
        FaultProxy(empty_orthanc.url) as proxy,
        DicomWebClient(
            f"{proxy.url}/dicom-web", credentials=Basic(empty_orthanc.user, empty_orthanc.password)
        ) as client,
    ):
        client.store([tmp_path / "a", tmp_path / "b"]).raise_for_failures()
        del proxy.requests[:]
        assert len(client.retrieve(STUDY, destination=tmp_path / "study")) == 5
        assert len(client.retrieve(STUDY, SERIES, destination=tmp_path / "series")) == 3
    asked = [path.partition("/dicom-web/")[2] for _, path in proxy.requests]
    assert asked == [COUNT, WHOLE, f"{WHOLE}/series", f"{WHOLE}/series/{SERIES}"]
    assert proxy.problems == []
