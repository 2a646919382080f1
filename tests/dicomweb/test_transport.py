"""The transport against servers that fail: what arrives at them, and what is said about it."""

from __future__ import annotations

import gzip
import hashlib
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer
from airflow_dicomweb.dicomweb.multipart import Body, Part
from airflow_dicomweb.dicomweb.retries import RetryPolicy
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
from tests.servers.faulty import Fault, FaultyServer, faulty

QUICK = RetryPolicy(attempts=8, first_wait=0.01, longest_wait=0.02, total_timeout=60.0)
ONCE = RetryPolicy(attempts=1)
CONTENT = os.urandom(3_000_001)


def transport(server: FaultyServer, **options) -> Transport:
    return Transport(server.url, **{"credentials": Anonymous(), "retry_policy": QUICK, **options})


def multipart_body(folder: Path) -> Body:
    """A multipart body out of a file, as the store makes it."""
    path = folder / "instance"
    path.write_bytes(CONTENT)

    def read() -> Iterator[bytes]:
        with path.open("rb") as file:
            while block := file.read(65536):
                yield block

    return Body([Part("application/dicom", len(CONTENT), read)] * 2, "application/dicom")


@dataclass
class Renewable:
    """Credentials that count how often they are asked, and change with each renewal."""

    works: bool = True
    renewals: int = 0
    asked: list[str] = field(default_factory=list)
    identity: str = "somebody@project"

    def headers(self) -> dict[str, str]:
        self.asked.append(f"Bearer secret-{self.renewals}")
        return {"Authorization": self.asked[-1]}

    def refresh(self) -> bool:
        self.renewals += 1
        return self.works


Ask = Callable[[Transport, str, str], object]


def ask_whole(client: Transport, method: str, path: str) -> bytes:
    return client.send(method, path).content


def ask_streamed(client: Transport, method: str, path: str) -> bytes:
    with client.stream(method, path) as answer:
        return b"".join(answer.blocks())


# Bodies and attempts


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


# What may be sent again


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


# Kept-alive connections


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


# Answers


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


# Time-outs


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


# Credentials


def test_credentials_are_renewed_once_after_a_401():
    credentials = Renewable()
    with faulty(Fault(401)) as server, transport(server, credentials=credentials) as client:
        assert client.send("POST", "studies", body=CONTENT, idempotent=False).status == 200
    assert [request.header("authorization") for request in server.received] == [
        ["Bearer secret-0"],
        ["Bearer secret-1"],
    ]
    assert server.received[1].sha256 == hashlib.sha256(CONTENT).hexdigest()


@pytest.mark.parametrize("ask", [ask_whole, ask_streamed])
def test_a_second_401_is_final_and_names_the_identity(ask: Ask):
    with (
        faulty(*[Fault(401)] * 5) as server,
        transport(server, credentials=Renewable()) as client,
        pytest.raises(AuthorizationError, match=r"401 \(sent as somebody@project\)"),
    ):
        ask(client, "GET", "studies")
    assert len(server.received) == 2


def test_credentials_are_renewed_once_for_all_attempts_of_a_request():
    credentials = Renewable()
    script = [Fault(401), Fault(503), Fault(401), Fault()]
    with (
        faulty(*script) as server,
        transport(server, credentials=credentials) as client,
        pytest.raises(AuthorizationError),
    ):
        client.send("GET", "studies")
    assert (len(server.received), credentials.renewals) == (3, 1)


@pytest.mark.parametrize(
    "credentials", [Anonymous(), Basic("user", "password"), Bearer("token"), Renewable(works=False)]
)
def test_credentials_that_cannot_be_renewed_are_refused_once(credentials):
    with (
        faulty(*[Fault(401)] * 3) as server,
        transport(server, credentials=credentials) as client,
        pytest.raises(AuthorizationError) as caught,
    ):
        client.send("GET", "studies")
    assert len(server.received) == 1
    assert caught.value.identity == credentials.identity


def test_a_401_that_comes_while_the_body_is_sent_is_understood():
    credentials = Renewable()
    with (
        faulty(Fault(401, read=1000, then="linger")) as server,
        transport(server, credentials=credentials, retry_policy=ONCE) as client,
    ):
        assert client.send("POST", "studies", body=CONTENT * 10).status == 200
    assert credentials.renewals == 1
    assert server.received[-1].sha256 == hashlib.sha256(CONTENT * 10).hexdigest()


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_redirect_is_not_followed_and_the_other_server_gets_nothing(status: int, method: str):
    with faulty() as other, faulty() as server, transport(server, credentials=Basic("user", "password")) as client:
        server.script.append(Fault(status, headers=(("Location", f"{other.url}/studies?PatientName=DOE"),)))
        with pytest.raises(ResponseError, match=f"not followed; this one leads to {other.url}/studies$") as caught:
            client.send(method, "studies", body=b"x" if method == "POST" else None)
        assert caught.value.status == status
        assert (len(server.received), other.connections) == (1, 0)


def test_a_url_of_another_server_is_not_requested():
    with faulty() as other, faulty() as server, transport(server, credentials=Bearer("token")) as client:
        for url in (
            f"{other.url}/studies",
            server.url.replace("http:", "https:"),
            "http://user@127.0.0.1/x",
            "ftp://x/y",
        ):
            with pytest.raises(ConfigurationError):
                client.send("GET", url)
        assert client.send("GET", f"{server.url}/bulkdata/7FE00010/?accept=x").status == 200
        assert (server.received[0].line, other.connections) == ("GET /bulkdata/7FE00010/?accept=x", 0)


def test_netrc_is_not_asked_for_credentials(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login intruder password intruder\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with faulty() as server:
        for credentials in (Anonymous(), Bearer("token")):
            with transport(server, credentials=credentials) as client:
                client.send("GET", "studies")
    assert [request.header("authorization") for request in server.received] == [[], ["Bearer token"]]


@pytest.mark.parametrize("host", ["pacs.example", "10.0.0.1", "[fd00::1]", "127.0.0.1.example", "localhost.example"])
def test_credentials_do_not_go_over_plain_http_to_another_machine(host: str):
    url = f"http://{host}:8042/dicom-web"
    for credentials in (Basic("user", "password"), Bearer("token"), Renewable()):
        with pytest.raises(ConfigurationError, match=r"plain http.*https.*allow_insecure_auth"):
            Transport(url, credentials=credentials)
        Transport(url, credentials=credentials, allow_insecure_auth=True)
        Transport(url.replace("http:", "https:"), credentials=credentials)
    Transport(url, credentials=Anonymous())


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST", "127.0.0.1", "127.9.9.9", "[::1]", "pacs.localhost"])
def test_credentials_may_go_over_plain_http_to_this_machine(host: str):
    Transport(f"http://{host}:8042", credentials=Basic("user", "password"))


def test_an_ipv6_address_is_a_host_like_another():
    with faulty(host="::1") as server, transport(server, credentials=Basic("user", "password")) as client:
        assert client.send("GET", "studies").status == 200
        assert server.received[0].header("host") == [f"[::1]:{server.port}"]


# URLs


@pytest.mark.parametrize(
    "path",
    [
        "studies/1.2/series/..",
        "studies/1.2/series/../",
        "studies/./1.2",
        "studies//series",
        "studies/%2e%2e/x",
        "studies/%2E%2e",
        "studies/1.2?x=1",
        "studies/1.2#x",
        "studies\\1.2",
        "studies/1.2\r\nX: y",
        "..",
        "studies/%zz",
    ],
)
def test_a_path_that_could_mean_another_resource_is_refused_before_anything_is_sent(path: str):
    with faulty() as server, transport(server) as client:
        for ask in (ask_whole, ask_streamed):
            with pytest.raises(ConfigurationError):
                ask(client, "DELETE", path)
    assert server.connections == 0


@pytest.mark.parametrize("path", ["studies/1.2/series/..", "studies//series", "studies/%2e%2e/x", "x#y", "x y", "x\\y"])
def test_a_whole_url_that_could_mean_another_resource_is_refused_too(path: str):
    with faulty() as server, transport(server) as client, pytest.raises(ConfigurationError):
        client.send("DELETE", f"{server.url}/{path}")
    assert server.connections == 0


def test_paths_and_queries_arrive_as_they_were_meant():
    with faulty() as server, Transport(f"{server.url}/base//", credentials=Anonymous()) as client:
        client.send("GET", "/studies", query=[("PatientName", "DÖE^J*"), ("includefield", "all"), ("a", "b&c=d/ e~")])
        client.send("POST", "v1/projects/p/datasets/ä b/dicomStores/S:import")
        client.send("GET", "")
        client.send("GET", "studies/1.2/bulkdata/7FE00010/", query=[("x", "")])
    assert [request.line for request in server.received] == [
        "GET /base/studies?PatientName=D%C3%96E%5EJ%2A&includefield=all&a=b%26c%3Dd%2F%20e~",
        "POST /base/v1/projects/p/datasets/%C3%A4%20b/dicomStores/S:import",
        "GET /base",
        "GET /base/studies/1.2/bulkdata/7FE00010/?x=",
    ]


def test_a_header_that_http_cannot_carry_is_a_bad_argument():
    with faulty() as server, transport(server) as client, pytest.raises(ConfigurationError, match="header"):
        client.send("GET", "studies", headers={"X-Note": "a\r\nAuthorization: b"})
    assert server.received == []


def test_a_proxy_of_the_environment_is_used(monkeypatch: pytest.MonkeyPatch):
    with faulty() as proxy, Transport("http://pacs.example/dicom-web", credentials=Anonymous()) as client:
        monkeypatch.setenv("http_proxy", proxy.url)
        assert client.send("POST", "studies", body=CONTENT).status == 200
    assert proxy.received[0].line == "POST http://pacs.example/dicom-web/studies"
    assert proxy.received[0].sha256 == hashlib.sha256(CONTENT).hexdigest()


def test_a_proxy_that_refuses_is_named_as_the_cause_without_its_password(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("http_proxy", "http://user:hunter2@127.0.0.1:1")
    with (
        Transport("http://pacs.example", credentials=Anonymous(), retry_policy=ONCE) as client,
        pytest.raises(TransportError, match="the proxy: connection refused") as caught,
    ):
        client.send("GET", "studies")
    assert "hunter2" not in str(caught.value)
