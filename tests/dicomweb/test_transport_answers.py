"""What is made of answers: early ones, cut ones, slow ones, refusals."""

from __future__ import annotations

import gzip
import threading

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    ConflictError,
    DicomWebError,
    NotFoundError,
    ProtocolError,
    ResponseError,
    TransportError,
    UnavailableError,
)
from tests.dicomweb.transports import CONTENT, ONCE, transport
from tests.servers.faulty import Fault, faulty


@pytest.mark.parametrize("then", ["linger", "drop", "stall"])
def test_an_answer_that_comes_before_the_body_is_sent_is_read(then: str):
    words = b'{"error": {"code": 413, "message": "too large", "status": "FAILED_PRECONDITION"}}'
    fault = Fault(413, read=1000, body=words, then=then)
    with faulty(fault) as server, transport(server, request_timeout=1.0) as client:
        with pytest.raises(ResponseError, match="413: FAILED_PRECONDITION: too large"):
            client.send("POST", "studies", body=CONTENT * 10)
        assert client.send("GET", "studies").status == 200
    assert [request.connection for request in server.received] == [1, 2]


@pytest.mark.parametrize("then", ["drop", "stall"])
def test_success_before_the_whole_body_was_sent_is_no_success(then: str):
    options = {"retry_policy": ONCE, "request_timeout": 1.0}
    with (
        faulty(Fault(200, read=1000, then=then)) as server,
        transport(server, **options) as client,
        pytest.raises(TransportError, match="said success before the whole request was sent"),
    ):
        client.send("POST", "studies", body=CONTENT * 10)


@pytest.mark.parametrize(
    "fault",
    [
        Fault(body=b'{"a": 1}', declared=20, then="drop"),
        Fault(body=b'{"a": 1}', cut=3),
        Fault(headers=(("Transfer-Encoding", "chunked"),), declared=-1, body=b"8\r\n{", then="drop"),
        Fault(body=b'{"a": 1}', declared=20, then="reset"),
    ],
)
def test_a_cut_answer_is_asked_for_again(fault: Fault):
    with faulty(fault) as server, transport(server) as client:
        assert client.send("GET", "studies").content == b"{}"
    assert len(server.received) == 2


@pytest.mark.parametrize(
    "fault", [Fault(body=b"x" * 1000, declared=1001, then="drop"), Fault(body=b"x" * 1000, cut=999)]
)
def test_a_streamed_answer_that_is_cut_is_an_error(fault: Fault):
    with (
        faulty(fault) as server,
        transport(server) as client,
        client.stream("GET", "studies/1.2") as answer,
        pytest.raises(TransportError, match=r"the answer to GET \S+/studies/1.2 broke off: .*cut short"),
    ):
        list(answer.blocks())
    assert len(server.received) == 1


def test_bytes_beyond_the_declared_length_belong_to_no_answer():
    with faulty(Fault(body=b'{"a": 1}HTTP/1.1 500 x\r\n\r\n', declared=8)) as server, transport(server) as client:
        assert client.send("GET", "studies").json() == {"a": 1}
        assert client.send("GET", "studies").json() == {}
    assert len(server.received) == 2


def test_a_chunked_answer_is_read():
    chunks = b'3\r\n{"a\r\n5\r\n": 1}\r\n0\r\n\r\n'
    fault = Fault(headers=(("Transfer-Encoding", "chunked"),), declared=-1, body=chunks)
    with faulty(fault, fault) as server, transport(server) as client:
        assert client.send("GET", "studies").json() == {"a": 1}
        with client.stream("GET", "studies") as answer:
            assert b"".join(answer.blocks()) == b'{"a": 1}'
    assert server.connections == 1


def test_a_large_answer_is_streamed_in_blocks():
    with (
        faulty(Fault(body=CONTENT)) as server,
        transport(server) as client,
        client.stream("GET", "studies/1.2", headers={"Accept": "multipart/related"}) as answer,
    ):
        blocks = list(answer.blocks())
    assert b"".join(blocks) == CONTENT
    assert {len(block) for block in blocks[:-1]} == {256 * 1024}
    assert server.received[0].header("accept") == ["multipart/related"]


def test_an_answer_that_is_not_read_to_its_end_does_not_disturb_the_next_request():
    with faulty(Fault(body=CONTENT)) as server, transport(server) as client:
        with client.stream("GET", "studies/1.2") as answer:
            next(answer.blocks())
        assert client.send("GET", "studies").content == b"{}"


def test_a_compressed_answer_is_decoded_although_none_was_asked_for():
    fault = Fault(headers=(("Content-Encoding", "gzip"),), body=gzip.compress(b'{"a": 1}'))
    with faulty(fault, fault) as server, transport(server) as client:
        assert client.send("GET", "studies").json() == {"a": 1}
        with client.stream("GET", "studies") as answer:
            assert b"".join(answer.blocks()) == b'{"a": 1}'
    assert {tuple(request.header("accept-encoding")) for request in server.received} == {("identity",)}


def test_a_broken_compression_is_a_broken_answer():
    fault = Fault(headers=(("Content-Encoding", "gzip"),), body=b"no gzip")
    with faulty(fault) as server, transport(server) as client:
        assert client.send("GET", "studies").status == 200
    assert len(server.received) == 2


@pytest.mark.parametrize("body", [b"x" * 100_001, gzip.compress(bytes(100_001))])
def test_an_answer_larger_than_can_be_held_is_an_error(body: bytes):
    headers = (("Content-Encoding", "gzip"),) if len(body) < 1000 else ()
    with (
        faulty(Fault(headers=headers, body=body)) as server,
        transport(server, max_answer_bytes=100_000) as client,
        pytest.raises(ProtocolError, match="larger than 100000 bytes"),
    ):
        client.send("GET", "studies")
    assert len(server.received) == 1


def test_an_answer_has_a_media_type_whatever_the_case_of_the_headers_name():
    fault = Fault(headers=(("content-TYPE", "application/dicom+json; charset=utf-8"),), body=b"[]")
    with faulty(fault) as server, transport(server) as client:
        answer = client.send("GET", "studies")
    assert (answer.media_type.name, answer.json()) == ("application/dicom+json", [])
    assert answer.headers["CONTENT-type"].startswith("application/dicom+json")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (300, ResponseError),
        (304, ResponseError),
        (400, ResponseError),
        (401, AuthorizationError),
        (403, AuthorizationError),
        (404, NotFoundError),
        (409, ConflictError),
        (410, NotFoundError),
        (501, ResponseError),
    ],
)
def test_a_status_is_an_error_of_its_class_and_is_not_repeated(status: int, kind: type[DicomWebError]):
    with faulty(Fault(status), Fault(status)) as server, transport(server) as client:
        with pytest.raises(ResponseError) as caught:
            client.send("GET", "studies")
        assert len(server.received) == 1
        with pytest.raises(ResponseError), client.stream("GET", "studies"):
            pass
    assert type(caught.value) is kind
    assert caught.value.status == status
    assert len(server.received) == 2


def test_an_error_whose_body_is_wanted_is_an_answer():
    fault = Fault(409, headers=(("Content-Type", "application/dicom+json"),), body=b'{"00081198": {}}')
    with faulty(fault, Fault(404)) as server, transport(server) as client:
        answer = client.send("POST", "studies", body=b"x", accept_errors={400, 409})
        assert (answer.status, answer.json()) == (409, {"00081198": {}})
        with pytest.raises(NotFoundError):
            client.send("POST", "studies", body=b"x", accept_errors={400, 409})
    assert len(server.received) == 2


def test_the_status_counts_where_the_body_of_an_error_is_broken():
    with (
        faulty(Fault(404, body=b"not here", declared=100, then="drop")) as server,
        transport(server) as client,
        pytest.raises(NotFoundError),
    ):
        client.send("GET", "studies/1.2")
    assert len(server.received) == 1


def test_retry_after_is_kept_in_the_error():
    fault = Fault(429, headers=(("Retry-After", "7"),))
    with (
        faulty(fault) as server,
        transport(server, retry_policy=ONCE) as client,
        pytest.raises(UnavailableError) as caught,
    ):
        client.send("GET", "studies")
    assert caught.value.retry_after == 7.0


def test_a_streamed_request_is_sent_once_and_repeated_by_whoever_knows_how():
    with faulty(Fault(503), Fault(body=b"x" * 10, cut=5)) as server, transport(server) as client:

        def retrieve() -> bytes:
            with client.stream("GET", "studies/1.2") as answer:
                return b"".join(answer.blocks())

        with pytest.raises(UnavailableError):
            retrieve()
        assert len(server.received) == 1
        assert client.retry_policy.run(retrieve) == b"{}"
    assert len(server.received) == 3


def test_a_server_that_does_not_answer_is_given_up():
    never = threading.Event()
    with faulty(Fault(hold=never)) as server, transport(server, request_timeout=0.2, retry_policy=ONCE) as client:
        try:
            with pytest.raises(TransportError, match=r"no progress for 0\.2 s"):
                client.send("GET", "studies")
        finally:
            never.set()


def test_the_time_to_connect_is_no_limit_for_sending_a_body():
    with faulty(Fault(pause=1.5)) as server, transport(server, connect_timeout=0.3, retry_policy=ONCE) as client:
        assert client.send("POST", "studies", body=CONTENT * 10).status == 200
    assert len(server.received[0].body) == len(CONTENT) * 10


@pytest.mark.parametrize("name", ["connect_timeout", "request_timeout"])
@pytest.mark.parametrize("value", [0, -1, float("nan"), None, "5"])
def test_a_timeout_that_is_none_is_refused(name: str, value: object):
    with pytest.raises(ConfigurationError, match=name):
        Transport("https://server.example", credentials=Anonymous(), **{name: value})
