"""Operations go wrong as they are asked to, as often as was asked, and are counted."""

from __future__ import annotations

import os
import signal

import pytest
import requests

from airflow_dicomweb.emulator import running_emulator
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.healthcare.operations import parse_time
from tests.emulator.api import PATIENCE, Api, instance
from tests.emulator.test_operations import until

STORE = "projects/p/locations/l/datasets/d/dicomStores/s"
DELETION = {"method": "DELETE", "match": "/studies/"}


def fill(api, count):
    api.store(*(instance(uid=f"1.1.1.{number}") for number in range(1, count + 1)))


def start(api):
    answer = api.ask("DELETE", "studies/1.1")
    assert answer.status_code == 200, answer.text
    return answer.json()["name"]


def imported(api, bucket, count):
    buckets = Buckets()
    for number in range(1, count + 1):
        buckets.write(bucket, f"in/{number}.dcm", instance(uid=f"1.1.1.{number}"))
    body = {"gcsSource": {"uri": f"gs://{bucket}/in/*.dcm"}}
    return api.run(api.ask("POST", f"{api.store_url}:import", json=body))


def test_a_slow_operation_takes_its_time_and_the_next_one_does_not(api):
    fill(api, 2)
    api.store(instance("1.2"))
    api.emulator.faults({**DELETION, "operation": "slow", "seconds": 0.7})
    slow = api.run(api.ask("DELETE", "studies/1.1"))
    assert slow["metadata"]["counter"] == {"success": "2"}
    times = [parse_time(slow["metadata"][key]) for key in ("createTime", "endTime")]
    assert times[1] - times[0] >= 0.7
    # A fault that was used up is not met again: this one is not awaited for seconds.
    assert "response" in api.run(api.ask("DELETE", "studies/1.2"))
    assert [(fault["operation"], fault["seconds"], fault["fired"]) for fault in api.emulator.faults()] == [
        ("slow", 0.7, 1)
    ]


def test_an_operation_fails_with_the_code_and_message_that_were_asked_for(api):
    fill(api, 3)
    api.emulator.faults({**DELETION, "operation": "fail", "code": 14, "message": "the network was busy"})
    operation = api.ended(start(api))
    assert operation["error"] == {"code": 14, "message": "the network was busy"}
    assert "response" not in operation
    assert len(api.tuples()) == 3
    assert api.ended(start(api))["response"]


def test_an_operation_fails_after_some_items_and_its_counters_say_so(api):
    fill(api, 5)
    api.emulator.faults({**DELETION, "operation": "fail", "items": 2})
    operation = api.ended(start(api))
    assert operation["error"] == {"code": 13, "message": "a fault was asked for"}
    assert operation["metadata"]["counter"] == {"success": "2"}
    assert len(api.tuples()) == 3


def test_a_failing_import_needs_no_bucket(api):
    api.emulator.faults({"match": ":import$", "operation": "fail", "code": 7, "message": "no right"})
    body = {"gcsSource": {"uri": "gs://there-is-no-such-bucket/**"}}
    operation = api.run(api.ask("POST", f"{api.store_url}:import", json=body))
    assert operation["error"] == {"code": 7, "message": "no right"}


def test_some_files_of_an_import_fail_and_the_log_names_them(api, bucket):
    api.emulator.faults(
        {"match": ":import$", "operation": "fail_partly", "items": 2, "message": "empty DICOM instance found"}
    )
    operation = imported(api, bucket, 5)
    assert operation["metadata"]["counter"] == {"success": "3", "failure": "2"}
    assert operation["error"]["code"] == 3
    assert "one or more resources failed" in operation["error"]["message"]
    log = requests.get(operation["metadata"]["logsUrl"], timeout=PATIENCE).json()
    assert [entry["jsonPayload"] for entry in log] == [
        {"error": {"code": 3, "message": "empty DICOM instance found"}, "source": f"gs://{bucket}/in/{number}.dcm"}
        for number in (1, 2)
    ]
    page = requests.get(operation["metadata"]["logsUrl"], headers={"Accept": "text/html"}, timeout=PATIENCE)
    assert f"gs://{bucket}/in/2.dcm" in page.text
    assert sorted(uid for _, _, uid in api.tuples()) == ["1.1.1.3", "1.1.1.4", "1.1.1.5"]
    # What failed is imported by the next one, and what was is there already.
    assert imported(api, bucket, 5)["metadata"]["counter"] == {"success": "5"}


def test_an_operation_that_fails_partly_ends_as_the_settings_say(api):
    fill(api, 3)
    api.emulator.settings(partial_failure="response")
    api.emulator.faults({**DELETION, "operation": "fail_partly"})
    operation = api.ended(start(api))
    assert operation["metadata"]["counter"] == {"success": "2", "failure": "1"}
    assert "response" in operation
    assert "error" not in operation
    (entry,) = requests.get(operation["metadata"]["logsUrl"], timeout=PATIENCE).json()
    assert entry["jsonPayload"]["source"] == "studies/1.1/series/1.1.1/instances/1.1.1.1"


@pytest.mark.parametrize("items", [None, 0, 2, 99])
def test_a_stuck_operation_ends_when_it_is_cancelled(api, items):
    fill(api, 3)
    api.emulator.faults({**DELETION, "operation": "stuck", **({} if items is None else {"items": items})})
    name = start(api)
    if items is not None:
        done = min(items, 3)
        expected = {key: str(value) for key, value in (("success", done), ("pending", 3 - done)) if value}
        assert until(lambda: api.operation(name)["metadata"].get("counter") == expected)
    assert "done" not in api.operation(name)
    assert api.ask("POST", f"{api.root}/{name}:cancel").json() == {}
    operation = api.ended(name)
    assert operation["error"] == {"code": 1, "message": "CANCELLED"}
    assert len(api.tuples()) == 3 - min(items or 0, 3)


def test_somebody_else_cancels_an_operation(api):
    fill(api, 4)
    api.emulator.faults({**DELETION, "operation": "cancel", "items": 1})
    operation = api.ended(start(api))
    assert operation["error"] == {"code": 1, "message": "CANCELLED"}
    assert operation["metadata"]["cancelRequested"] is True
    assert operation["metadata"]["counter"] == {"success": "1", "pending": "3"}
    assert len(api.tuples()) == 3
    # Nobody here asked for it.
    assert not [entry for entry in api.emulator.requests() if entry["path"].endswith(":cancel")]


def test_the_creation_of_a_dataset_fails_too(api):
    location = api.dataset.rpartition("/")[0].rpartition("/")[0]
    api.emulator.faults({"match": "/datasets$", "operation": "fail", "items": 0})
    operation = api.run(api.ask("POST", f"{api.root}/{location}/datasets?datasetId=never", json={}))
    assert operation["error"]["code"] == 13
    assert api.ask("GET", f"{api.root}/{location}/datasets/never").status_code == 404


def test_a_request_that_starts_no_operation_uses_no_fault_up(api):
    fill(api, 1)
    api.emulator.faults({"operation": "fail"})
    assert api.ask("DELETE", "studies/9.9").status_code == 404
    assert api.get("studies").status_code == 200
    assert [fault["fired"] for fault in api.emulator.faults()] == [0]
    assert "error" in api.ended(start(api))
    assert [fault["fired"] for fault in api.emulator.faults()] == [1]


def test_a_request_and_its_operation_suffer_faults_of_their_own(api):
    fill(api, 1)
    api.emulator.faults({**DELETION, "operation": "fail"}, {**DELETION, "status": 503})
    assert api.ask("DELETE", "studies/1.1").status_code == 503
    assert "error" in api.ended(start(api))
    assert [fault["fired"] for fault in api.emulator.faults()] == [1, 1]


def test_the_faults_of_operations_outlive_a_restart(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        fill(api, 3)
        emulator.faults({**DELETION, "operation": "stuck", "items": 1})
        name = start(api)
        until(lambda: api.operation(name)["metadata"].get("counter") == {"success": "1", "pending": "2"})
        os.kill(emulator.process.pid, signal.SIGKILL)
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        # It goes on with what is left, and is stuck again.
        until(lambda: api.operation(name)["metadata"].get("counter") == {"success": "2", "pending": "1"})
        assert "done" not in api.operation(name)
        api.ask("POST", f"{api.root}/{name}:cancel")
        assert api.ended(name)["error"]["code"] == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"operation": "explode"},
        {"operation": "slow"},
        {"operation": "slow", "seconds": -1},
        {"operation": "fail", "code": 0},
        {"operation": "fail", "code": 17},
        {"operation": "fail", "code": True},
        {"operation": "fail", "message": ""},
        {"operation": "fail_partly", "items": -1},
        {"operation": "fail", "status": 503},
        {"operation": ["fail"]},
        {"seconds": 5},
        {"status": 503, "message": "no"},
        {"drop": []},
    ],
)
def test_a_fault_that_cannot_be_is_refused(api, fault):
    with pytest.raises(ConfigurationError, match=r"fault|operation"):
        api.emulator.faults(fault)
    assert api.emulator.faults() == []
