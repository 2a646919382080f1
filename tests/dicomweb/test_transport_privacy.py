"""What must not be told is told nowhere: not in messages, not in tracebacks, not in log lines at DEBUG."""

from __future__ import annotations

import json
import logging
import pickle
import traceback

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer, Credentials
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import DicomWebError, ResponseError
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.dicomweb.transports import transport
from tests.servers.faulty import Fault, FaultyServer, faulty

PATIENT, PATIENT_ID, SECRET = "SENTINEL^JANE", "4711-0815", "hunter2-secret"
QUERY = [("PatientName", PATIENT), ("PatientID", PATIENT_ID), ("StudyDate", "20240229"), ("limit", "5")]
TWICE = RetryPolicy(attempts=2, first_wait=0.01)


def echo(status: int) -> Fault:
    """A server that repeats what it was asked, as servers do."""
    message = f"no match for PatientName={PATIENT} ({PATIENT.lower()}), PatientID={PATIENT_ID}, StudyDate=20240229"
    return Fault(status, body=json.dumps({"error": {"message": message, "status": "INVALID"}}).encode())


FAULTS = [
    *(echo(status) for status in (400, 401, 403, 404, 409, 500, 503)),
    Fault(302, headers=(("Location", f"https://user:{SECRET}@other.example/studies?PatientName={PATIENT}"),)),
    Fault(drop="reset"),
    Fault(drop="close"),
    Fault(body=b"x" * 10, cut=5),
    Fault(raw=b"HTTP/1.1 200 OK\r\nnot a header\r\nContent-Length: 2\r\n\r\n{}", then="close"),
    Fault(raw=b"no http at all\r\n\r\n", then="close"),
    Fault(headers=(("Content-Encoding", "gzip"),), body=b"no gzip"),
]


def assert_told_nothing(text: str) -> None:
    for sentinel in ("SENTINEL", "sentinel", "JANE", PATIENT_ID, "20240229", SECRET, "aHVudGVy", "dXNlcj"):
        assert sentinel not in text


@pytest.mark.parametrize("credentials", [Basic("user", SECRET), Bearer(SECRET)])
@pytest.mark.parametrize("fault", FAULTS, ids=range(len(FAULTS)))
def test_a_failure_tells_neither_what_was_searched_nor_who_asked(
    fault: Fault, credentials: Credentials, caplog: pytest.LogCaptureFixture
):
    caplog.set_level(logging.DEBUG)
    with faulty(*[fault] * 3) as server, transport(server, credentials=credentials, retry_policy=TWICE) as client:
        told = [repr(client), repr(credentials)]
        for ask in (
            lambda: client.send("GET", "studies", query=QUERY).json(),
            lambda: list(client.stream("GET", "studies", query=QUERY).__enter__().blocks()),
        ):
            try:
                ask()
            except DicomWebError as error:
                told += [str(error), repr(error), "".join(traceback.format_exception(error))]
                told += [repr(vars(pickle.loads(pickle.dumps(error))))]
    assert server.received
    assert "PatientName=SENTINEL%5EJANE" in server.received[0].line
    assert_told_nothing("\n".join(told))
    assert_told_nothing(caplog.text)
    assert "/studies" in caplog.text  # the HTTP library did write its lines


def test_a_search_that_succeeds_is_not_in_the_log_either(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with faulty() as server, transport(server, credentials=Basic("user", SECRET)) as client:
        client.send("GET", "studies/1.2.3/series", query=QUERY)
    assert "GET /studies/1.2.3/series?... HTTP/1.1" in caplog.text
    assert_told_nothing(caplog.text)


def test_a_repetition_is_logged_with_its_cause(caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.INFO)
    with faulty(Fault(503)) as server, transport(server) as client:
        client.send("GET", "studies", query=QUERY)
    (record,) = [record for record in caplog.records if record.name.startswith("airflow_dicomweb")]
    assert record.getMessage().startswith(
        f"GET {server.url}/studies was answered with 503; attempt 1 of 8, the next in "
    )


def test_names_of_objects_are_not_in_the_log(bucket: str, caplog: pytest.LogCaptureFixture):
    caplog.set_level(logging.DEBUG)
    with Buckets() as buckets:
        buckets.write(bucket, f"incoming/{PATIENT}/1.dcm", b"content")
        assert buckets.read(bucket, f"incoming/{PATIENT}/1.dcm") == b"content"
        assert [item.size for item in buckets.find(f"gs://{bucket}/incoming/{PATIENT}/**")] == [7]
    assert f"/b/{bucket}/o/... HTTP/1.1" in caplog.text.replace("?...", "")
    assert_told_nothing(caplog.text)


def test_the_address_of_the_server_and_the_resource_are_told():
    with faulty(echo(404)) as server, transport(server) as client, pytest.raises(ResponseError) as caught:
        client.send("GET", "studies/1.2.3", query=QUERY)
    assert str(caught.value) == (
        f"GET {server.url}/studies/1.2.3 was answered with 404: "
        "INVALID: no match for PatientName=*** (***), PatientID=***, StudyDate=***"
    )


def url_of(server: FaultyServer) -> str:
    return f"{server.url.replace('://', f'://user:{SECRET}@')}/dicom-web"


def test_a_password_in_a_base_url_is_refused_without_being_shown():
    with faulty() as server, pytest.raises(DicomWebError) as caught:
        Transport(url_of(server), credentials=Anonymous())
    assert_told_nothing(str(caught.value))
