"""Datasets and DICOM stores."""

from __future__ import annotations

import secrets

import pytest

from tests.emulator.api import VECTORS, envelope, instance

CASES = {case["id"]: case for case in VECTORS["crud"]["cases"]}


@pytest.fixture
def location(api):
    """URL of a location of the test's own, and its name."""
    name = f"projects/p-{secrets.token_hex(4)}/locations/l"
    return f"{api.root}/{name}", name


@pytest.fixture
def dataset(api, location):
    """URL and name of an empty dataset."""
    url, name = location
    operation = api.run(api.ask("POST", f"{url}/datasets?datasetId=D", json={}))
    assert operation["response"]["name"] == f"{name}/datasets/D"
    return f"{url}/datasets/D", f"{name}/datasets/D"


def test_the_cases_of_the_contract_one_after_the_other(api, location):
    url, name = location

    def send(case):
        method, path = CASES[case]["request"].replace("/v1/projects/P/locations/L", url).split(" ")
        return api.ask(method, path, json=CASES[case].get("body"))

    def wanted(case):
        return eval_names(CASES[case]["response"], name)

    operation = api.run(send("CR1"))
    assert operation["metadata"]["apiMethodName"].endswith("DatasetService.CreateDataset")
    assert send("CR2").json()["name"] == wanted("CR2")["name"]
    assert api.ask("GET", f"{url}/datasets/D/dicomStores").json() == CASES["CR5"]["empty"]
    assert send("CR3").json() == wanted("CR3")
    again = send("CR3")
    envelope(again, CASES["CR4"]["status"], CASES["CR4"]["error_status"])
    assert send("CR5").json() == wanted("CR5")
    assert send("CR6").json() == wanted("CR6")
    changed = send("CR7").json()
    assert {key: changed[key] for key in ("name", "streamConfigs")} == {
        **wanted("CR7"),
        "streamConfigs": CASES["CR7"]["body"]["streamConfigs"],
    }
    for case in ("CR8", "CR9"):
        assert (send(case).status_code, send(case).status_code) == (200, 404)
    envelope(send("CR2"), 404)


def eval_names(value, location):
    """Put the names of this test into an answer of the vectors."""
    if isinstance(value, dict):
        return {key: eval_names(item, location) for key, item in value.items()}
    if isinstance(value, list):
        return [eval_names(item, location) for item in value]
    return value.replace("projects/P/locations/L", location)


def test_a_dataset_that_is_there_cannot_be_made_again(api, dataset):
    url, _ = dataset
    envelope(api.ask("POST", f"{url.rpartition('/')[0]}?datasetId=D", json={}), 409)


def test_of_two_makings_of_one_dataset_one_fails(api, location):
    url, _ = location
    api.emulator.set_operation_seconds(0.5)
    names = [api.ask("POST", f"{url}/datasets?datasetId=D", json={}).json()["name"] for _ in range(2)]
    ended = [api.ended(name) for name in names]
    assert sorted("error" in operation for operation in ended) == [False, True]
    assert next(operation["error"]["code"] for operation in ended if "error" in operation) == 6


@pytest.mark.parametrize("identifier", ["", "..", "a b", "a/b", "x" * 257, "a:b", "ü?"])
def test_an_id_that_cannot_be_is_a_bad_request(api, dataset, identifier):
    url, _ = dataset
    envelope(api.ask("POST", f"{url}/dicomStores", params={"dicomStoreId": identifier}, json={}), 400)
    envelope(api.ask("POST", url.rpartition("/")[0], params={"datasetId": identifier}, json={}), 400)


def test_a_store_keeps_what_it_was_made_with(api, dataset):
    url, name = dataset
    body = {
        "labels": {"env": "test"},
        "notification_configs": [{"pubsub_topic": "projects/p/topics/t"}],
        "streamConfigs": [],
        "name": "ignored",
    }
    made = api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json=body).json()
    assert made == {
        "name": f"{name}/dicomStores/S",
        "labels": {"env": "test"},
        "notificationConfigs": [{"pubsubTopic": "projects/p/topics/t"}],
    }
    assert api.ask("GET", f"{url}/dicomStores/S").json() == made


def test_lists_come_in_pages(api, dataset):
    url, name = dataset
    for number in range(5):
        body = {"labels": {"odd": str(number % 2)}}
        api.ask("POST", f"{url}/dicomStores?dicomStoreId=S{number}", json=body)
    first = api.ask("GET", f"{url}/dicomStores?pageSize=3").json()
    second = api.ask("GET", f"{url}/dicomStores?pageSize=3&pageToken={first['nextPageToken']}").json()
    assert "nextPageToken" not in second
    names = [store["name"] for page in (first, second) for store in page["dicomStores"]]
    assert names == [f"{name}/dicomStores/S{number}" for number in range(5)]
    odd = api.ask("GET", f"{url}/dicomStores", params={"filter": "labels.odd=1"}).json()["dicomStores"]
    assert len(odd) == 2
    envelope(api.ask("GET", f"{url}/dicomStores", params={"filter": "name=x"}), 400)
    assert [found["name"] for found in api.ask("GET", url.rpartition("/")[0]).json()["datasets"]] == [name]


def test_stores_of_a_dataset_that_is_not_there_are_not_found(api, location):
    url, _ = location
    envelope(api.ask("GET", f"{url}/datasets/D/dicomStores"), 404)
    envelope(api.ask("POST", f"{url}/datasets/D/dicomStores?dicomStoreId=S", json={}), 404)
    assert api.ask("GET", f"{url}/datasets").json() == {}


def test_a_deleted_store_takes_its_instances_with_it(api, dataset):
    url, _ = dataset
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json={})
    api.web = f"{url}/dicomStores/S/dicomWeb"
    api.store(instance())
    assert api.ask("DELETE", f"{url}/dicomStores/S").json() == {}
    envelope(api.get("studies"), 404)
    envelope(api.store(instance()), 404)
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json={})
    assert api.tuples() == []


def test_a_deleted_dataset_stops_its_operations(api, dataset):
    url, name = dataset
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json={})
    api.web = f"{url}/dicomStores/S/dicomWeb"
    api.store(instance())
    api.emulator.set_operation_seconds(60)
    operation = api.ask("DELETE", "studies/1.1").json()["name"]
    assert api.ask("DELETE", url).json() == {}
    envelope(api.ask("GET", f"{api.root}/{operation}"), 404)
    api.emulator.set_operation_seconds(0)
    api.run(api.ask("POST", f"{url.rpartition('/')[0]}?datasetId=D", json={}))
    operations = api.ask("GET", f"{api.root}/{name}/operations").json()["operations"]
    assert len(operations) == 1


def test_names_may_be_written_with_escapes(api, dataset):
    url, _ = dataset
    assert api.ask("GET", url.replace("/datasets/D", "/datasets/%44")).status_code == 200
    envelope(api.ask("GET", url.replace("/datasets/D", "/datasets%2FD")), 404)


def test_a_mask_says_what_is_changed_and_what_is_removed(api, dataset):
    url, name = dataset
    body = {"labels": {"a": "b"}, "notificationConfigs": [{"pubsubTopic": "projects/p/topics/t"}]}
    store = f"{url}/dicomStores/S"
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json=body)
    changed = api.ask("PATCH", f"{store}?updateMask=labels", json={"labels": {"c": "d"}, "streamConfigs": []}).json()
    assert changed == {"name": f"{name}/dicomStores/S", **body, "labels": {"c": "d"}}
    assert api.ask("GET", store).json() == changed
    removed = api.ask("PATCH", f"{store}?updateMask=labels,notification_configs", json={}).json()
    assert removed == {"name": f"{name}/dicomStores/S"}
    assert api.ask("PATCH", f"{url}?updateMask=timeZone", json={"timeZone": "Europe/Berlin"}).json()["timeZone"] == (
        "Europe/Berlin"
    )
    assert api.ask("GET", url).json()["timeZone"] == "Europe/Berlin"


def test_a_change_without_a_mask_is_for_v1beta1(api, dataset):
    url, _ = dataset
    envelope(api.ask("PATCH", url, json={"timeZone": "UTC"}), 400)
    assert api.ask("PATCH", url.replace("/v1/", "/v1beta1/"), json={"timeZone": "UTC"}).json()["timeZone"] == "UTC"


@pytest.mark.parametrize(("query", "body"), [("updateMask=colour", {}), ("updateMask=timeZone", {"colour": "red"})])
def test_a_change_of_unknown_fields_is_refused(api, dataset, query, body):
    url, _ = dataset
    envelope(api.ask("PATCH", f"{url}?{query}", json=body), 400)
    envelope(api.ask("PATCH", f"{url}x?updateMask=timeZone", json={}), 404)


def test_policies_are_kept_and_guarded_by_their_etag(api, dataset):
    url, _ = dataset
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json={})
    for resource in (url, f"{url}/dicomStores/S"):
        empty = api.ask("GET", f"{resource}:getIamPolicy").json()
        assert set(empty) == {"etag"}
        policy = {"bindings": [{"role": "roles/healthcare.dicomEditor", "members": ["user:a@example.com"]}]}
        kept = api.ask("POST", f"{resource}:setIamPolicy", json={"policy": {**policy, **empty}}).json()
        assert kept["bindings"] == policy["bindings"]
        assert kept["etag"] != empty["etag"]
        assert api.ask("GET", f"{resource}:getIamPolicy").json() == kept
        envelope(api.ask("POST", f"{resource}:setIamPolicy", json={"policy": {**policy, **empty}}), 409, "ABORTED")
        asked = {"permissions": ["healthcare.dicomStores.get"]}
        assert api.ask("POST", f"{resource}:testIamPermissions", json=asked).json() == asked
        envelope(api.ask("POST", f"{resource}:testIamPermissions", json={"permissions": ["*"]}), 400)
    envelope(api.ask("GET", f"{url}/dicomStores/T:getIamPolicy"), 404)
    api.ask("DELETE", f"{url}/dicomStores/S")
    api.ask("POST", f"{url}/dicomStores?dicomStoreId=S", json={})
    assert set(api.ask("GET", f"{url}/dicomStores/S:getIamPolicy").json()) == {"etag"}
