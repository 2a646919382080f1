"""What arrives at a server when requests fail and are repeated."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import urllib3

from airflow_dicomweb.dicomweb.auth import Anonymous
from airflow_dicomweb.dicomweb.multipart import Body, Part
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import (
    ConfigurationError,
    TransportError,
    UnavailableError,
)
from tests.dicomweb.transports import CONTENT, ONCE, Renewable, transport
from tests.servers.faulty import Fault, faulty


def multipart_body(folder: Path) -> Body:
    """A multipart body out of a file, as the store makes it."""
    path = folder / "instance"
    path.write_bytes(CONTENT)

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(65536):
                yield block

    return Body([Part("application/dicom", len(CONTENT), read)] * 2, "application/dicom")


@pytest.mark.parametrize("kind", ["bytes", "multipart"])
def test_every_attempt_carries_the_whole_body(tmp_path: Path, kind: str):
    body = CONTENT if kind == "bytes" else multipart_body(tmp_path)
    whole = body if isinstance(body, bytes) else b"".join(body)
    script = [
        Fault(503),
        Fault(drop="reset"),
        Fault(drop="close", read=100_000),
        Fault(drop="reset", read=0),
        Fault(429, headers=(("Retry-After", "0"),)),
        Fault(502, body=b"<html>"),
        Fault(raw=b"not http\r\n\r\n", then="close"),
    ]
    with faulty(*script) as server, transport(server) as client:
        assert client.send("POST", "studies", body=body).status == 200
    received = server.received
    assert len(received) >= 8
    assert server.script == []
    for request in received:
        assert request.header("content-length") == [str(len(whole))]
        assert request.header("transfer-encoding") == []
        assert request.header("accept-encoding") == ["identity"]
        assert whole.startswith(request.body)
    complete = [request for request in received if len(request.body) == len(whole)]
    assert len(complete) >= 6
    assert {request.sha256 for request in complete} == {hashlib.sha256(whole).hexdigest()}


def test_a_request_without_a_body_says_so_where_one_is_usual():
    with faulty() as server, transport(server) as client:
        client.send("POST", "operations:cancel")
        client.send("POST", "operations:cancel", body=b"")
        client.send("GET", "studies")
    assert [request.header("content-length") for request in server.received] == [["0"], ["0"], []]
    assert [request.header("transfer-encoding") for request in server.received] == [[], [], []]


def test_a_source_that_cannot_be_read_is_not_taken_for_a_broken_connection():
    def read() -> Iterator[bytes]:
        yield b"x" * 10
        raise FileNotFoundError(2, "No such file or directory", "/data/DOE^JANE/1.dcm")

    body = Body([Part("application/dicom", 20, read)], "application/dicom")
    with faulty() as server, transport(server) as client:
        with pytest.raises(ConfigurationError, match="could not be read while it was sent: No such file") as caught:
            client.send("POST", "studies", body=body)
        assert client.send("GET", "studies").status == 200
    assert "DOE" not in str(caught.value)
    assert [request.line for request in server.received if request.body] in ([], ["POST /studies"])


def test_a_source_that_changed_its_size_breaks_the_request_off():
    body = Body([Part("application/dicom", 20, lambda: [b"x" * 19])], "application/dicom")
    with faulty() as server, transport(server) as client:
        with pytest.raises(ConfigurationError, match="20 bytes expected, 19 read"):
            client.send("POST", "studies", body=body)
        assert client.send("GET", "studies").status == 200


def test_the_errors_of_a_source_of_our_own_are_repeated_with_the_request():
    readings: list[int] = []

    def read() -> Iterator[bytes]:
        readings.append(1)
        if len(readings) == 1:
            raise UnavailableError(503, "GET", "gs://bucket")
        yield b"x" * 20

    body = Body([Part("application/dicom", 20, read)], "application/dicom")
    with faulty() as server, transport(server) as client:
        client.send("POST", "studies", body=body)
    assert server.received[-1].body == b"".join(body)


AMBIGUOUS = [
    Fault(drop="reset"),
    Fault(drop="close"),
    Fault(drop="reset", read=0),
    Fault(500),
    Fault(502),
    Fault(504),
    Fault(cut=3, body=b"{} and more"),
    Fault(raw=b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{}", then="close"),
    Fault(raw=b"gibberish\r\n\r\n", then="close"),
]


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_what_must_not_happen_twice_is_not_sent_again_when_it_may_have_happened(fault: Fault):
    with faulty(fault) as server, transport(server) as client:
        with pytest.raises(
            (TransportError, UnavailableError), match="may have carried it out, so it was not sent again"
        ):
            client.send("POST", "dicomStores/S:import", body=b"{}", idempotent=False)
        assert len(server.received) == 1


@pytest.mark.parametrize("fault", AMBIGUOUS)
def test_the_same_failures_are_repeated_where_repeating_is_safe(fault: Fault):
    with faulty(fault, fault) as server, transport(server) as client:
        assert client.send("POST", "studies", body=b"{}").content == b"{}"
    assert len(server.received) == 3


@pytest.mark.parametrize("status", [408, 425, 429, 503])
def test_what_the_server_did_not_take_up_is_sent_again(status: int):
    with faulty(Fault(status), Fault(status)) as server, transport(server) as client:
        assert client.send("POST", "dicomStores/S:import", body=b"{}", idempotent=False).status == 200
    assert len(server.received) == 3


@pytest.mark.parametrize("idempotent", [True, False])
def test_a_refused_connection_is_tried_again(idempotent: bool):
    class Listening(Renewable):
        def headers(self) -> dict[str, str]:
            if len(self.asked) == 2:
                server.listen()
            return super().headers()

    with faulty(listening=False) as server, transport(server, credentials=Listening()) as client:
        assert client.send("POST", "dicomStores/S:import", body=b"{}", idempotent=idempotent).status == 200
        assert len(client.credentials.asked) == 3
    assert len(server.received) == 1


def test_an_error_that_the_caller_is_handling_says_nothing_about_this_request():
    # Python hangs it on; "not sent", true of the other request, must not be believed of this one.
    other = urllib3.exceptions.NewConnectionError(urllib3.connection.HTTPConnection("other"), "refused")
    with faulty(Fault(drop="reset")) as server, transport(server) as client:
        try:
            raise other
        except urllib3.exceptions.NewConnectionError:
            with pytest.raises(TransportError, match=r"connection reset; .* it was not sent again"):
                client.send("POST", "S:import", body=b"{}", idempotent=False)
        assert len(server.received) == 1


def test_a_server_that_nobody_can_reach_is_named_with_the_attempts_and_the_cause():
    policy = RetryPolicy(attempts=3, first_wait=0.01)
    with (
        Transport("http://127.0.0.1:1/dicom-web", credentials=Anonymous(), retry_policy=policy) as client,
        pytest.raises(TransportError) as caught,
    ):
        client.send("GET", "studies", query=[("PatientName", "DOE^JANE")])
    assert str(caught.value) == (
        "no answer from http://127.0.0.1:1 to GET /dicom-web/studies: connection refused; "
        "gave up after 3 attempts in 0 s"
    )
    assert caught.value.__cause__ is caught.value.__context__ is None


def test_an_unknown_host_is_said_to_be_one():
    with (
        Transport("http://nowhere.invalid", credentials=Anonymous(), retry_policy=ONCE) as client,
        pytest.raises(TransportError, match="host name cannot be resolved"),
    ):
        client.send("GET", "studies")


def test_a_thread_keeps_its_connection():
    with faulty() as server, transport(server) as client:
        for _ in range(5):
            client.send("POST", "studies", body=b"x")
            with client.stream("GET", "studies") as answer:
                assert b"".join(answer.blocks()) == b"{}"
    assert server.connections == 1


def test_each_thread_has_a_connection_of_its_own():
    barrier = threading.Barrier(4)

    def work(_: int) -> None:
        barrier.wait(timeout=30)
        for _ in range(3):
            client.send("GET", "studies")

    with faulty() as server, transport(server) as client, ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
        assert server.connections == 4
    assert len(server.received) == 12


def test_a_connection_that_was_closed_in_the_meantime_costs_no_attempt():
    # The second request is already on its way when the server closes the connection that was kept for it.
    with faulty(Fault(), Fault(drop="close", read=0)) as server, transport(server, retry_policy=ONCE) as client:
        client.send("GET", "studies")
        assert client.send("POST", "studies", body=CONTENT).status == 200
    assert [request.connection for request in server.received] == [1, 1, 2]
    assert server.received[-1].sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_server_that_always_closes_costs_one_repetition_and_no_more():
    script = [Fault(), *[Fault(drop="close")] * 5]
    with faulty(*script) as server, transport(server, retry_policy=ONCE) as client:
        client.send("GET", "studies")
        with pytest.raises(TransportError, match="closed the connection without an answer"):
            client.send("GET", "studies")
    assert len(server.received) == 3


def test_what_must_not_happen_twice_gets_a_new_connection():
    with faulty() as server, transport(server) as client:
        client.send("GET", "studies")
        client.send("POST", "dicomStores/S:import", body=b"{}", idempotent=False)
    assert [request.connection for request in server.received] == [1, 2]


def test_closing_ends_the_connections_of_all_threads_although_an_answer_is_held():
    with faulty() as server, transport(server) as client:
        with client.stream("GET", "studies") as answer:
            assert b"".join(answer.blocks()) == b"{}"
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: client.send("GET", "studies"), range(2)))
            assert server.connections >= 2
            client.close()
            assert server.wait_until_left()
        assert answer.status == 200


def test_a_request_may_be_sent_while_an_answer_is_read():
    with faulty(Fault(body=CONTENT)) as server, transport(server) as client:
        with client.stream("GET", "studies/1.2") as answer:
            blocks = answer.blocks()
            first = next(blocks)
            assert client.send("GET", "studies").content == b"{}"
            assert client.send("POST", "S:import", body=b"{}", idempotent=False).content == b"{}"
            assert first + b"".join(blocks) == CONTENT
        assert client.send("GET", "studies").content == b"{}"
    assert len(server.received) == 4
