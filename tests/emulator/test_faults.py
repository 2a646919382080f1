"""Faults that were asked for happen, as often as was asked, and are counted."""

from __future__ import annotations

import time

import pytest
import requests

from tests.emulator.api import envelope, instance

STUDIES = "/dicomWeb/studies$"


def test_a_status_is_answered_as_often_as_asked_and_the_request_not_handled(api):
    api.emulator.faults(
        {"method": "POST", "match": STUDIES, "status": 503, "headers": {"Retry-After": "7"}, "times": 2}
    )
    for _ in range(2):
        answer = api.store(instance())
        envelope(answer, 503, "UNAVAILABLE")
        assert answer.headers["Retry-After"] == "7"
    assert api.tuples() == []
    assert api.store(instance()).status_code == 200
    assert [(fault["times"], fault["fired"]) for fault in api.emulator.faults()] == [(2, 2)]


def test_other_requests_do_not_suffer(api):
    api.emulator.faults({"method": "POST", "match": STUDIES, "status": 500})
    assert api.get("studies").status_code == 204
    assert api.store(instance(), study="1.1").status_code == 200
    assert [fault["fired"] for fault in api.emulator.faults()] == [0]


def test_a_cut_answer_ends_after_so_many_bytes(api):
    body = instance(ImageComments="x" * 5000)
    api.store(body)
    path = "studies/1.1/series/1.1.1/instances/1.1.1.1"
    api.emulator.faults({"match": "/instances/", "cut": 1000})
    answer = api.ask("GET", path, headers={"Accept": "application/dicom; transfer-syntax=*"}, stream=True)
    received = []
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        received.extend(answer.iter_content(1))
    assert b"".join(received) == body[:1000]
    assert api.get(path, "application/dicom; transfer-syntax=*").content == body
    assert [entry["sent"] for entry in api.emulator.requests()][-2:] == [1000, len(body)]


@pytest.mark.parametrize(("drop", "stored"), [("before", 0), ("after", 1)])
def test_a_dropped_connection_has_handled_the_request_or_not(api, drop, stored):
    api.emulator.faults({"method": "POST", "match": STUDIES, "drop": drop})
    with pytest.raises(requests.exceptions.ConnectionError):
        api.store(instance())
    assert len(api.tuples()) == stored
    entry = api.emulator.requests()[0]
    assert (entry["method"], entry["status"], entry["fault"]) == ("POST", None, True)
    assert [fault["fired"] for fault in api.emulator.faults()] == [1]


def test_a_large_upload_can_be_dropped_too(api):
    api.emulator.faults({"method": "POST", "match": STUDIES, "drop": "before"})
    with pytest.raises(requests.exceptions.ConnectionError):
        api.store(bytes(5_000_000))
    assert api.store(instance()).status_code == 200


def test_a_delay_comes_before_the_answer(api):
    api.emulator.faults({"match": "/dicomWeb/studies", "delay": 0.4})
    began = time.monotonic()
    assert api.get("studies").status_code == 204
    assert time.monotonic() - began >= 0.4
    assert api.emulator.requests()[0]["seconds"] >= 0.4


def test_faults_are_played_in_order(api):
    api.emulator.faults({"match": STUDIES, "status": 429}, {"match": STUDIES, "status": 500})
    assert [api.get("studies").status_code for _ in range(3)] == [429, 500, 204]


def test_a_reset_takes_them_away(api):
    api.emulator.faults({"match": ".", "status": 500, "times": 1000})
    api.emulator.reset()
    assert api.get("studies").status_code == 204
    assert api.emulator.faults() == []


@pytest.mark.parametrize(
    "fault",
    [
        {},
        {"match": "x"},
        {"status": 99},
        {"status": "500"},
        {"status": 500, "times": 0},
        {"status": 500, "unknown": 1},
        {"status": 500, "match": "("},
        {"cut": -1},
        {"delay": -1},
        {"delay": True},
        {"drop": "during"},
        {"status": 500, "headers": []},
        {"status": 500, "method": 1},
        [],
        "x",
    ],
)
def test_a_fault_that_cannot_be_is_refused_with_all_that_came_with_it(api, fault):
    url = f"{api.emulator.base_url}/_emulator/faults"
    envelope(requests.post(url, json=[{"status": 500}, fault], timeout=30), 400)
    assert requests.get(url, timeout=30).json() == []
    envelope(requests.post(url, data="no JSON", timeout=30), 400)
    if fault != []:  # A list of no faults is one.
        envelope(requests.post(url, json=fault, timeout=30), 400)
    assert requests.get(url, timeout=30).json() == []


def test_one_fault_is_taken_without_a_list_too(api):
    url = f"{api.emulator.base_url}/_emulator/faults"
    assert requests.post(url, json={"match": STUDIES, "status": 503}, timeout=30).ok
    assert requests.post(url, json=[{"match": STUDIES, "status": 500}], timeout=30).ok
    assert [api.get("studies").status_code for _ in range(3)] == [503, 500, 204]
