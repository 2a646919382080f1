"""Long-running operations: their time, counters, cancellation, lists."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_dicomweb.healthcare.operations import Operation, parse_time
from tests.emulator.api import PATIENCE, SHARED_VECTORS, VECTORS, envelope, instance

EMPTY = "type.googleapis.com/google.protobuf.Empty"


def until(condition):
    """Wait for something; fail if it does not come."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not come")


def fill(api, count):
    api.store(*(instance(uid=f"1.1.1.{number}") for number in range(1, count + 1)))


def test_a_study_is_deleted_by_an_operation(api):
    fill(api, 3)
    api.store(instance(study="1.2"))
    operation = api.run(api.ask("DELETE", "studies/1.1"))
    assert operation["response"] == {"@type": EMPTY}
    assert operation["metadata"]["counter"] == {"success": "3"}
    assert operation["metadata"]["apiMethodName"] == "google.cloud.healthcare.v1.dicomweb.DicomWebService.DeleteStudy"
    assert [study for study, _, _ in api.tuples()] == ["1.2"]


def test_a_series_is_deleted_by_an_operation(api):
    fill(api, 2)
    api.store(instance(series="1.1.2", uid="1.1.2.1"))
    operation = api.run(api.ask("DELETE", "studies/1.1/series/1.1.1"))
    assert operation["metadata"]["apiMethodName"].endswith("DicomWebService.DeleteSeries")
    assert [series for _, series, _ in api.tuples()] == ["1.1.2"]


def test_an_instance_is_deleted_at_once(api):
    fill(api, 2)
    answer = api.ask("DELETE", "studies/1.1/series/1.1.1/instances/1.1.1.1")
    assert (answer.status_code, answer.json()) == (200, {})
    assert [uid for _, _, uid in api.tuples()] == ["1.1.1.2"]
    envelope(api.ask("DELETE", "studies/1.1/series/1.1.1/instances/1.1.1.1"), 404)
    envelope(api.ask("DELETE", "studies/9.9"), 404)


def test_an_operation_takes_its_time_and_its_counters_move(api):
    fill(api, 20)
    api.emulator.set_operation_seconds(1.5)
    name = api.ask("DELETE", "studies/1.1").json()["name"]
    seen = []
    while not (operation := api.operation(name)).get("done"):
        counter = operation["metadata"].get("counter", {})
        if counter:  # At first it is not known how much there is to do.
            seen.append((int(counter.get("success", 0)), int(counter.get("pending", 0))))
        assert "endTime" not in operation["metadata"]
        assert "done" not in operation
        assert "logsUrl" not in operation["metadata"]
        time.sleep(0.05)
    assert len(set(seen)) >= 4
    assert seen == sorted(seen, key=lambda pair: (pair[0], -pair[1]))
    assert all(done + left == 20 for done, left in seen)
    times = [parse_time(operation["metadata"][key]) for key in ("createTime", "endTime")]
    assert times[1] - times[0] >= 1.5


def test_an_operation_reads_as_the_client_reads_it(api):
    fill(api, 2)
    body = api.run(api.ask("DELETE", "studies/1.1"))
    operation = Operation.from_json(body)
    assert (operation.verdict, operation.success, operation.short_method) == ("success", 2, "DeleteStudy")
    assert operation.to_json() == body
    # The shapes are those of the contract's own samples.
    sample = next(state for state in SHARED_VECTORS["lro"]["states"] if state["id"] == "OP-setblob")["operation"]
    assert set(body) == set(sample)
    assert set(body["metadata"]) == {*sample["metadata"], "logsUrl"}


def test_a_cancelled_operation_stops_and_says_so(api):
    fill(api, 20)
    api.emulator.set_operation_seconds(60)
    name = api.ask("DELETE", "studies/1.1").json()["name"]
    until(lambda: api.operation(name)["metadata"].get("counter"))
    answer = api.ask("POST", f"{api.root}/{name}:cancel", data="{}")
    assert (answer.status_code, answer.json()) == (200, {})
    operation = api.ended(name)
    assert operation["error"] == {"code": 1, "message": "CANCELLED"}
    assert operation["metadata"]["cancelRequested"] is True
    assert "response" not in operation
    assert len(api.tuples()) >= 19
    again = api.ask("POST", f"{api.root}/{name}:cancel", data="{}")
    assert (again.status_code, again.json()) == (200, {})
    assert api.operation(name) == operation


def test_nothing_is_stored_into_a_study_while_it_is_deleted(api):
    fill(api, 1)
    api.emulator.set_operation_seconds(60)
    name = api.ask("DELETE", "studies/1.1").json()["name"]
    answer = api.store(instance(uid="1.1.1.9"), instance(study="1.2"))
    assert answer.status_code == 409
    assert "deletion" in answer.json()["00081198"]["Value"][0]["00091097"]["Value"][0]
    api.ask("POST", f"{api.root}/{name}:cancel")
    api.ended(name)
    assert api.store(instance(uid="1.1.1.9")).status_code == 200


def test_the_version_of_the_call_is_kept_and_either_version_shows_it(api):
    fill(api, 1)
    beta = api.web.replace("/v1/", "/v1beta1/")
    operation = api.run(api.ask("DELETE", f"{beta}/studies/1.1"))
    assert operation["metadata"]["@type"].endswith("healthcare.v1beta1.OperationMetadata")
    assert operation["metadata"]["apiMethodName"].startswith("google.cloud.healthcare.v1beta1.")


@pytest.fixture
def several(api):
    """Five operations that have ended, oldest first, in a dataset of their own."""
    root, location = api.root, api.dataset.rpartition("/datasets/")[0]
    dataset = f"{location}/datasets/{api.emulator.dicom_store.rpartition('/')[2]}"
    names = [api.run(api.ask("POST", f"{root}/{location}/datasets?datasetId={dataset.rpartition('/')[2]}"))["name"]]
    store = api.emulator.create_store(f"{dataset}/dicomStores/s")
    api.web = store.dicom_web_url
    for number in range(1, 5):
        api.store(instance(study=f"1.{number}"))
        names.append(api.run(api.ask("DELETE", f"studies/1.{number}"))["name"])
    yield f"{root}/{dataset}/operations", names
    assert api.ask("DELETE", f"{root}/{dataset}").json() == {}


def test_operations_are_listed_page_by_page_newest_first(api, several):
    url, names = several
    found, token = [], ""
    for _ in range(3):
        page = api.ask("GET", url, params={"pageSize": 2, "pageToken": token}).json()
        found += [operation["name"] for operation in page["operations"]]
        token = page.get("nextPageToken", "")
    assert found == names[::-1]
    assert token == ""
    assert len(api.ask("GET", url).json()["operations"]) == 5
    for query in ({"pageToken": "nonsense"}, {"pageSize": "-1"}, {"pageSize": "x"}):
        envelope(api.ask("GET", url, params=query), 400)


@pytest.mark.parametrize(
    ("expression", "count"),
    [
        ("", 5),
        ("done=true", 5),
        ("done=false", 0),
        ("metadata.apiMethodName:DeleteStudy", 4),
        ('metadata.api_method_name:"DeleteStudy" AND done = true', 4),
        ('metadata.createTime > "2020-01-01T00:00:00Z"', 5),
        ('metadata.createTime < "2020-01-01T00:00:00Z"', 0),
        ("metadata.counter.success>=1", 4),
        ("metadata.counter.success!=1", 1),
    ],
)
def test_a_filter_selects_operations(api, several, expression, count):
    url, _ = several
    answer = api.ask("GET", url, params={"filter": expression})
    assert len(answer.json().get("operations", [])) == count
    assert answer.json() == {} or count


def test_a_filter_that_cannot_be_read_is_a_bad_request(api, several):
    envelope(api.ask("GET", several[0], params={"filter": "done OR (x"}), 400)


def test_operations_of_what_is_not_there_are_not_found(api):
    envelope(api.ask("GET", f"{api.root}/{api.dataset}/operations/1"), 404)
    envelope(api.ask("POST", f"{api.root}/{api.dataset}/operations/1:cancel"), 404)
    envelope(api.ask("GET", f"{api.root}/{api.dataset}x/operations"), 404)
    assert VECTORS["google_error"]["http_to_status"][404] == "NOT_FOUND"


def test_the_logs_url_opens_without_a_token(api):
    fill(api, 1)
    operation = api.run(api.ask("DELETE", "studies/1.1"))
    answer = requests.get(operation["metadata"]["logsUrl"], timeout=PATIENCE)
    assert (answer.status_code, answer.json()) == (200, [])
    page = requests.get(operation["metadata"]["logsUrl"], headers={"Accept": "text/html"}, timeout=PATIENCE)
    assert page.headers["Content-Type"].startswith("text/html")
    assert operation["name"] in page.text
