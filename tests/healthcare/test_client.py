"""The Healthcare client sends what the contract has, and follows operations to their end."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import yaml

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.media_types import MediaType
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.errors import (
    ConfigurationError,
    OperationTimeoutError,
    ProtocolError,
    TransportError,
    UnavailableError,
)
from airflow_dicomweb.healthcare.client import HealthcareClient
from airflow_dicomweb.healthcare.operations import Operation
from tests.dicomweb.instances import SECONDARY_CAPTURE, part10
from tests.servers.faulty import Fault, FaultyServer, faulty
from tests.servers.token_server import TokenServer

DATA = yaml.safe_load((Path(__file__).parent.parent / "data" / "exchanges.yaml").read_text())
STORE = "projects/my-project/locations/us-central1/datasets/my-dataset/dicomStores/my-dicom-store"
OPERATION = "projects/my-project/locations/us-central1/datasets/my-dataset/operations/1234567890123456789"
STUDY, SERIES, INSTANCE = (f"1.2.826.0.1.3680043.10.1{rest}" for rest in ("", ".1", ".1.1"))
QUICK = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.01)
NOTHING = Fault(204, body=b"")


def filled(value: Any) -> Any:
    """A vector with its placeholders replaced, where they stand alone, longest first."""
    if isinstance(value, dict):
        return {key: filled(each) for key, each in value.items()}
    if not isinstance(value, str):
        return value
    for name in sorted(DATA["placeholders"], key=len, reverse=True):
        value = re.sub(rf"(?<![A-Za-z0-9_]){name}(?![A-Za-z0-9_])", DATA["placeholders"][name], value)
    return value


def json_answer(body: object, status: int = 200) -> Fault:
    return Fault(status, (("Content-Type", "application/json; charset=UTF-8"),), json.dumps(body).encode())


def connect(server: FaultyServer, **options: Any) -> HealthcareClient:
    options = {"credentials": Bearer("test-token"), "retry_policy": QUICK, **options}
    return HealthcareClient(STORE, base_url=server.url, **options)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """The instance of the contract's placeholders."""
    path = tmp_path / "instance.dcm"
    path.write_bytes(part10(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=INSTANCE))
    return path


def success() -> Fault:
    item = {"00081150": {"vr": "UI", "Value": [SECONDARY_CAPTURE]}, "00081155": {"vr": "UI", "Value": [INSTANCE]}}
    body = {"00081199": {"vr": "SQ", "Value": [item]}}
    return Fault(200, (("Content-Type", "application/dicom+json"),), json.dumps(body).encode())


def dicom(path: Path) -> Fault:
    return Fault(200, (("Content-Type", "application/dicom"),), path.read_bytes())


OPERATION_ANSWER = json_answer({"name": OPERATION})
CALLS: dict[str, tuple[Callable[[HealthcareClient, Path], object], list[Callable[[Path], Fault]]]] = {
    "S000-store-curl": (lambda client, file: client.store(file), [lambda _: NOTHING, lambda _: success()]),
    "S000-store-storageclass-curl": (
        lambda client, file: client.store(file, storage_class="NEARLINE"),
        [lambda _: NOTHING, lambda _: success()],
    ),
    "S000-search-instances-curl": (lambda client, _: list(client.search_instances()), [lambda _: NOTHING]),
    "S000-search-studies-curl": (
        lambda client, _: list(client.search_studies({"PatientName": "Sally Zhang"})),
        [lambda _: NOTHING],
    ),
    "S000-retrieve-study-curl": (
        lambda client, file: client.retrieve(STUDY, destination=file.parent / "out"),
        [
            lambda _: Fault(
                body=json.dumps([{"0020000E": {"Value": [SERIES]}, "00080018": {"Value": [INSTANCE]}}]).encode()
            ),
            dicom,
        ],
    ),
    "S000-retrieve-instance-curl": (
        lambda client, file: client.retrieve(STUDY, SERIES, INSTANCE, destination=file.parent / "out"),
        [dicom],
    ),
    "S000-rendered-curl": (
        lambda client, _: client.retrieve_rendered(STUDY, SERIES, INSTANCE),
        [lambda _: Fault(200, (("Content-Type", "image/png"),), b"png")],
    ),
    "S000-metadata-curl": (
        lambda client, _: client.retrieve_metadata(STUDY, SERIES, INSTANCE),
        [lambda _: Fault(body=b"[{}]")],
    ),
    "S000-delete-study-curl": (lambda client, _: client.delete_study(STUDY), [lambda _: OPERATION_ANSWER]),
    "S000-delete-op-curl": (lambda client, _: client.get_operation(OPERATION), [lambda _: OPERATION_ANSWER]),
    "S000-delete-instance-body": (
        lambda client, _: client.delete_instance(STUDY, SERIES, INSTANCE),
        [lambda _: json_answer({})],
    ),
    "S002-import-curl": (
        lambda client, _: client.import_from_gcs("gs://my-bucket/*.dcm"),
        [lambda _: OPERATION_ANSWER],
    ),
    "S002-import-op-curl": (lambda client, _: client.get_operation(OPERATION), [lambda _: OPERATION_ANSWER]),
    "S002-export-curl": (
        lambda client, _: client.export_to_gcs("gs://my-bucket/my-directory"),
        [lambda _: OPERATION_ANSWER],
    ),
    "S002-filter-curl": (
        lambda client, _: client.export_to_gcs(
            "gs://my-bucket/my-directory", filter_gcs_uri="gs://my-bucket/my-directory/filter.txt"
        ),
        [lambda _: OPERATION_ANSWER],
    ),
}


@pytest.mark.parametrize("sample", DATA["requests"], ids=lambda sample: sample["id"])
def test_each_request_is_the_one_of_the_contract(sample: dict[str, Any], file: Path) -> None:
    call, answers = CALLS[sample["id"]]
    with faulty(*(each(file) for each in answers)) as server:
        with connect(server, api_version=sample["path"].split("/")[1]) as client:
            call(client, file)
        request = server.received[-1]
    method, target = request.line.split(" ", 1)
    assert (method, urlsplit(target).path) == (sample["method"], filled(sample["path"]))
    for field in sample.get("query", []):
        assert f"{field['name']}={field['value_raw']}" in urlsplit(target).query.split("&")
    for name, value in filled(sample["headers"]).items():
        (sent,) = request.header(name.lower())
        assert MediaType.parse(sent) == MediaType.parse(value)
    if "json" in sample:
        assert json.loads(request.body) == filled(sample["json"])
    elif method == "POST":
        assert request.body == file.read_bytes()
    else:
        assert (request.body, request.header("content-type")) == (b"", [])


def test_every_request_of_the_contract_is_tried() -> None:
    assert {sample["id"] for sample in DATA["requests"]} == set(CALLS)


# Operations on scripted answers


def running(**metadata: Any) -> Fault:
    return json_answer({"name": OPERATION, "metadata": metadata})


DONE = json_answer({"name": OPERATION, "done": True, "metadata": {"counter": {"success": "3"}}, "response": {}})


def test_waiting_looks_until_the_operation_has_ended() -> None:
    looks: list[int] = []
    script = [running(), Fault(503), running(counter={"success": "1", "pending": "2"}), DONE]
    with faulty(*script) as server, connect(server) as client:
        operation = client.wait_for_operation(
            OPERATION, poll_interval=0.01, on_look=lambda look: looks.append(look.success)
        )
    assert (operation.verdict, operation.success, looks) == ("success", 3, [0, 1, 3])
    assert len(server.received) == 4


def test_a_wait_ends_at_its_time_limit_and_the_operation_goes_on() -> None:
    refused = pytest.raises(OperationTimeoutError, match=r"running.*not ended within 0.05 s")
    with faulty(*[running()] * 50) as server, connect(server) as client, refused:
        client.wait_for_operation(Operation(name=OPERATION), poll_interval=0.02, wait_timeout=0.05)
    assert {request.line.split()[0] for request in server.received} == {"GET"}


def test_a_failed_operation_is_given_and_not_judged() -> None:
    failed = json_answer({"name": OPERATION, "done": True, "error": {"code": 3, "message": "bad"}})
    with faulty(failed) as server, connect(server) as client:
        assert client.wait_for_operation(OPERATION).verdict == "failed"


@pytest.mark.parametrize("method", ["import_from_gcs", "export_to_gcs"])
@pytest.mark.parametrize("fault", [Fault(drop="reset"), Fault(drop="close"), Fault(500), Fault(504)])
def test_a_start_that_may_have_happened_is_not_repeated(method: str, fault: Fault) -> None:
    refused = pytest.raises((TransportError, UnavailableError), match="may have carried it out")
    with faulty(fault) as server, connect(server) as client, refused:
        getattr(client, method)("gs://bucket/folder")
    assert len(server.received) == 1


@pytest.mark.parametrize("status", [429, 503])
def test_a_start_that_was_turned_away_is_repeated(status: int) -> None:
    with faulty(Fault(status), OPERATION_ANSWER) as server, connect(server) as client:
        assert client.import_from_gcs("gs://bucket/folder/**").name == OPERATION
    assert len(server.received) == 2


def test_operations_are_listed_page_by_page_as_they_are_needed() -> None:
    pages = [
        json_answer({"operations": [{"name": f"{OPERATION}{number}"}], "nextPageToken": f"t{number}"})
        for number in (1, 2)
    ]
    with faulty(*pages, json_answer({})) as server, connect(server) as client:
        listed = client.list_operations(filter="done=false")
        assert server.received == []
        assert [operation.name[-1] for operation in listed] == ["1", "2"]
    dataset = STORE.rpartition("/dicomStores/")[0]
    assert [request.line for request in server.received] == [
        f"GET /v1/{dataset}/operations?filter=done%3Dfalse",
        f"GET /v1/{dataset}/operations?filter=done%3Dfalse&pageToken=t1",
        f"GET /v1/{dataset}/operations?filter=done%3Dfalse&pageToken=t2",
    ]


@pytest.mark.parametrize("page", [[], {"operations": {}}, {"operations": [{}]}])
def test_what_is_no_list_of_operations_is_an_error(page: object) -> None:
    with faulty(json_answer(page)) as server, connect(server) as client, pytest.raises(ProtocolError):
        list(client.list_operations())


def test_a_list_that_begins_again_is_an_error() -> None:
    page = json_answer({"nextPageToken": "same"})
    with faulty(page, page) as server, connect(server) as client, pytest.raises(ProtocolError, match="page token"):
        list(client.list_operations())


@pytest.mark.parametrize("body", [b"{}", b""])
def test_a_deletion_that_is_done_already_has_no_operation(body: bytes) -> None:
    with faulty(Fault(body=body)) as server, connect(server) as client:
        assert client.delete_series(STUDY, SERIES) is None
    assert server.received[0].line.endswith(f"/dicomWeb/studies/{STUDY}/series/{SERIES}")


def test_a_cancellation_is_posted() -> None:
    with faulty(json_answer({})) as server, connect(server, api_version="v1beta1") as client:
        client.cancel_operation(OPERATION)
    (request,) = server.received
    assert (request.line, request.body) == (f"POST /v1beta1/{OPERATION}:cancel", b"{}")


# What is refused before anything is sent


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.delete_study(".."),
        lambda client: client.delete_study(""),
        lambda client: client.delete_series("1.2", ".."),
        lambda client: client.delete_series("1.2", "a"),
        lambda client: client.delete_instance("1.2", "1.2", "1" * 65),
        lambda client: client.get_operation("operations/1"),
        lambda client: client.get_operation(f"{STORE}/operations/.."),
        lambda client: client.cancel_operation(""),
        lambda client: client.wait_for_operation("x"),
        lambda client: client.wait_for_operation(OPERATION, poll_interval=-1),
        lambda client: client.import_from_gcs("bucket/*"),
        lambda client: client.import_from_gcs("gs://bucket/**/x*"),
        lambda client: client.import_from_gcs("gs://bucket/a", storage_class="FROZEN"),
        lambda client: client.export_to_gcs("gs://bucket/*"),
        lambda client: client.export_to_gcs("gs://bucket/a", media_type="image/gif"),
        lambda client: client.store(__file__, storage_class="FROZEN"),
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(call: Callable[[HealthcareClient], object]) -> None:
    with faulty() as server, connect(server) as client:
        with pytest.raises(ConfigurationError):
            call(client)
        assert server.received == []


@pytest.mark.parametrize(
    "arguments",
    [
        {"dicom_store": "my-store"},
        {"dicom_store": STORE, "api_version": "v2"},
        {"dicom_store": STORE, "base_url": "http://healthcare.example", "credentials": Bearer("t")},
        {"dicom_store": STORE, "base_url": "ftp://x"},
        {"dicom_store": STORE, "request_timeout": 0},
    ],
)
def test_a_client_that_cannot_be_meant_is_refused(arguments: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        HealthcareClient(**arguments)


def test_application_default_credentials_are_the_default(token_server: TokenServer) -> None:
    assert token_server is not None
    with faulty(NOTHING) as server, HealthcareClient(STORE, base_url=server.url) as client:
        list(client.search_studies(limit=1))
    assert server.received[0].header("authorization")[0].startswith("Bearer ")
