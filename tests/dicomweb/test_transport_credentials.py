"""Whom credentials go to, and when they are renewed."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    ResponseError,
    TransportError,
)
from tests.dicomweb.transports import CONTENT, ONCE, Ask, Renewable, ask_streamed, ask_whole, transport
from tests.servers.faulty import Fault, faulty


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
        "GET /base/studies?PatientName=D%C3%96E%5EJ*&includefield=all&a=b%26c%3Dd%2F%20e~",
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


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY", "all_proxy"])
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "pacs.localhost", "[::1]"])
def test_what_is_meant_for_this_machine_does_not_go_to_a_proxy(
    host: str, variable: str, monkeypatch: pytest.MonkeyPatch
):
    with faulty() as proxy, faulty(host="::1" if host == "[::1]" else "127.0.0.1") as server:
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(variable, proxy.url)
        url = f"http://{host}:{server.port}"
        with Transport(url, credentials=Bearer("token"), retry_policy=ONCE) as client:
            if host == "pacs.localhost":  # not every resolver knows the name: what counts is what the proxy sees
                with suppress(TransportError):
                    client.send("GET", "studies")
            else:
                assert client.send("GET", "studies").status == 200
                assert server.received[0].header("authorization") == ["Bearer token"]
        assert proxy.connections == 0


def test_credentials_over_plain_http_need_the_authors_word_behind_a_proxy_too(monkeypatch: pytest.MonkeyPatch):
    with faulty() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        with pytest.raises(ConfigurationError, match="plain http"):
            Transport("http://pacs.example", credentials=Bearer("token"))
        assert proxy.connections == 0
        with Transport("http://pacs.example", credentials=Bearer("token"), allow_insecure_auth=True) as client:
            assert client.send("GET", "studies").status == 200
    assert proxy.received[0].header("authorization") == ["Bearer token"]
