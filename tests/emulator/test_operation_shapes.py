"""Operations in every state that the contract shows, under every name that it gives; and storage classes, way by way."""

from __future__ import annotations

import pytest

from airflow_dicomweb.healthcare.operations import Operation
from tests.emulator.api import SHARED_VECTORS, VECTORS, instance
from tests.emulator.test_import_export import export, import_, objects
from tests.emulator.test_operations import until
from tests.emulator.test_store_metadata import body_of, data_set, send

__all__ = ["objects"]  # The fixture, which is of the tests of import and export.
STATES = {state["id"]: state for state in SHARED_VECTORS["lro"]["states"]}
NAMES = SHARED_VECTORS["lro"]["api_method_names"]
INSTANCE = "studies/1.1/series/1.1.1/instances/1.1.1.1"
CLASSES = VECTORS["storage_class"]["stow_header"]["Storage-Class"].split(" | ")


@pytest.fixture
def fifteen(objects):
    """Objects of which twelve can be imported."""
    for number in range(1, 16):
        objects.put(f"in/{number}", instance(uid=f"1.1.1.{number}") if number <= 12 else b"no DICOM")
    return f"gs://{objects.name}/in/*"


def check(api, name, operation):
    """Compare an operation with the one that the contract shows."""
    state = STATES[name]
    shown = state["operation"]
    assert set(operation) == set(shown)
    # The emulator tells the counters and the log in all cases.
    assert set(operation["metadata"]) | {"logsUrl", "counter"} == set(shown["metadata"]) | {"logsUrl", "counter"}
    assert operation["metadata"].get("counter", {}).keys() == shown["metadata"].get("counter", {}).keys()
    read = Operation.from_json(operation)
    assert read.verdict == state["verdict"]
    assert [read.success, read.failure] == state.get("counts", [read.success, read.failure])
    if "error" in shown:
        assert operation["error"] == shown["error"]


@pytest.mark.parametrize(
    ("name", "setting"), [("OP-partial-as-error", "error"), ("OP-partial-as-response", "response")]
)
def test_an_import_that_fails_in_part_is_as_the_contract_shows_it(api, fifteen, name, setting):
    api.emulator.settings(partial_failure=setting)
    check(api, name, api.run(import_(api, fifteen)))


def test_running_and_cancelled_operations_are_as_the_contract_shows_them(api, fifteen):
    api.emulator.set_operation_seconds(30)
    name = import_(api, fifteen).json()["name"]

    def counted():
        operation = api.operation(name)
        return operation if set(operation["metadata"].get("counter", {})) == {"success", "pending"} else None

    check(api, "OP-running", until(counted))
    api.ask("POST", f"{api.root}/{name}:cancel")
    operation = api.ended(name)
    operation["metadata"].pop("counter", None)
    check(api, "OP-cancelled", operation)


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_operations_have_the_documented_method_names(api, objects, version):
    api.store(instance(), instance(series="1.1.2", uid="1.1.2.1"))
    objects.put("a", instance())
    api.root, api.web = (url.replace("/v1", f"/{version}") for url in (api.root, api.web))
    api.store_url = api.store_url.replace("/v1/", f"/{version}/")
    body = VECTORS["storage_class"]["instance"]["body"]
    location = f"projects/names-{version}/locations/l"
    started = {
        "import": import_(api, f"gs://{objects.name}/a"),
        "export": export(api, f"gs://{objects.name}/out"),
        "set_blob": api.ask("POST", f"{INSTANCE}:setBlobStorageSettings", json=body),
        "create_dataset": api.ask("POST", f"{api.root}/{location}/datasets?datasetId=D"),
        "delete_series": api.ask("DELETE", "studies/1.1/series/1.1.2"),
    }
    ended = {key: api.run(answer) for key, answer in started.items()}
    ended["delete_study"] = api.run(api.ask("DELETE", "studies/1.1"))
    for key, operation in ended.items():
        wanted = NAMES[key].partition(" ")[0].replace(".v1.", f".{version}.")
        assert operation["metadata"]["apiMethodName"] == NAMES.get(f"{key}_{version}", wanted)
        assert operation["metadata"]["@type"].endswith(f".{version}.OperationMetadata")
    api.ask("DELETE", f"{api.root}/{location}/datasets/D")


def by_header(api, _objects, wanted):
    api.store(instance(), **{"Storage-Class": wanted})


def by_header_with_parts(api, _objects, wanted):
    api.store(instance(), instance(uid="1.1.1.2"), **{"Storage-Class": wanted})


def by_import(api, objects, wanted):
    objects.put("a", instance())
    api.run(import_(api, f"gs://{objects.name}/a", blobStorageSettings={"blobStorageClass": wanted}))


def by_import_in_snake_case(api, objects, wanted):
    objects.put("a", instance())
    api.run(import_(api, f"gs://{objects.name}/a", blob_storage_settings={"blob_storage_class": wanted}))


def by_path(api, _objects, wanted):
    api.store(instance())
    body = {"blobStorageSettings": {"blobStorageClass": wanted}}
    api.run(api.ask("POST", f"{INSTANCE}:setBlobStorageSettings", json=body))


def by_filter(api, objects, wanted):
    api.store(instance())
    objects.put("filter.txt", b"/studies/1.1/series/1.1.1\n")
    body = {
        "blobStorageSettings": {"blobStorageClass": wanted},
        "filterConfig": {"resourcePathsGcsUri": f"gs://{objects.name}/filter.txt"},
    }
    api.run(api.ask("POST", f"{api.store_url}:setBlobStorageSettings", json=body))


def storage_class(api):
    return api.get(f"{INSTANCE}:getStorageInfo").json()["blobStorageInfo"]["storageClass"]


@pytest.mark.parametrize("wanted", CLASSES)
@pytest.mark.parametrize(
    "give", [by_header, by_header_with_parts, by_import, by_import_in_snake_case, by_path, by_filter]
)
def test_a_storage_class_is_read_back_however_it_was_given(api, objects, give, wanted):
    give(api, objects, wanted)
    assert storage_class(api) == wanted


def test_without_a_wish_the_storage_class_is_the_default(api, objects):
    send(api, body_of([data_set()]))
    assert storage_class(api) == VECTORS["storage_class"]["default"]
    api.ask("DELETE", INSTANCE)
    objects.put("a", instance())
    api.run(import_(api, f"gs://{objects.name}/a"))
    assert storage_class(api) == VECTORS["storage_class"]["default"]
