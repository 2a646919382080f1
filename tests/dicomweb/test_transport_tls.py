"""TLS as the transport uses it, against a server with a certificate of its own."""

from __future__ import annotations

import datetime as dt
import ipaddress
import ssl
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import ConfigurationError, ResponseError, TransportError
from tests.dicomweb.transports import CONTENT, ONCE, transport
from tests.servers.faulty import Fault, faulty


@dataclass(frozen=True)
class Certificate:
    """A self-signed certificate for 127.0.0.1, and its key, in files."""

    certificate: Path
    key: Path

    def server(self, clients: Path | None = None) -> ssl.SSLContext:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=clients)
        context.load_cert_chain(self.certificate, self.key)
        context.verify_mode = ssl.CERT_REQUIRED if clients else ssl.CERT_NONE
        return context


@pytest.fixture
def own(tmp_path: Path) -> Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "127.0.0.1")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (tmp_path / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (tmp_path / "key.pem").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return Certificate(tmp_path / "certificate.pem", tmp_path / "key.pem")


def test_an_unknown_certificate_is_refused_at_once_and_nothing_is_sent(own: Certificate):
    with faulty(tls=own.server()) as server, transport(server, credentials=Basic("user", "password")) as client:
        with pytest.raises(ConfigurationError, match=r"not trusted; name its CA file as verify \(self.signed"):
            client.send("POST", "studies", body=b"x")
        assert (server.received, server.connections) == ([], 1)


def test_a_certificate_is_checked_with_the_ca_file_that_is_named(own: Certificate):
    for verify in (str(own.certificate), own.certificate):
        with faulty(tls=own.server()) as server, transport(server, verify=verify) as client:
            assert client.send("POST", "studies", body=CONTENT).status == 200
            with client.stream("GET", "studies") as answer:
                assert b"".join(answer.blocks()) == b"{}"
            assert server.connections == 1


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_certificates_are_not_checked_only_where_that_is_asked_for(
    own: Certificate, monkeypatch: pytest.MonkeyPatch, variable: str
):
    monkeypatch.delenv("REQUESTS_CA_BUNDLE", raising=False)
    monkeypatch.setenv(variable, "/nowhere/ca.pem")
    with faulty(tls=own.server()) as server, transport(server, verify=False) as client:
        assert client.send("GET", "studies").status == 200
    monkeypatch.setenv(variable, str(own.certificate))
    with faulty(tls=own.server()) as server, transport(server) as client:
        assert client.send("GET", "studies").status == 200


def test_a_ca_file_that_is_not_there_is_a_bad_argument_without_its_path(own: Certificate):
    with (
        faulty(tls=own.server()) as server,
        transport(server, verify="/nowhere/ca.pem") as client,
        pytest.raises(ConfigurationError, match="CA or client certificate cannot be used") as caught,
    ):
        client.send("GET", "studies")
    assert "nowhere" not in str(caught.value)


def test_a_client_certificate_is_shown_to_the_server(own: Certificate):
    pair = (str(own.certificate), str(own.key))
    with faulty(tls=own.server(clients=own.certificate)) as server:
        with transport(server, verify=own.certificate, client_cert=pair) as client:
            assert client.send("GET", "studies").status == 200
        with transport(server, verify=own.certificate, retry_policy=ONCE) as client, pytest.raises(TransportError):
            client.send("GET", "studies")
    assert len(server.received) == 1


def test_a_server_that_speaks_no_tls_is_not_connected_to():
    with faulty() as server:
        server_url = server.url.replace("http:", "https:")
        with (
            Transport(server_url, credentials=Anonymous(), retry_policy=ONCE, connect_timeout=0.5) as client,
            pytest.raises(TransportError, match=r"no connection within 0\.5 s$"),
        ):
            client.send("POST", "S:import", body=b"{}", idempotent=False)
        assert server.received == []


def test_a_handshake_that_fails_has_sent_nothing_and_is_tried_again(own: Certificate):
    context = own.server(clients=own.certificate)
    context.maximum_version = ssl.TLSVersion.TLSv1_2  # where a missing client certificate ends the handshake
    policy = RetryPolicy(attempts=3, first_wait=0.01)
    with faulty(tls=context) as server, transport(server, verify=own.certificate, retry_policy=policy) as client:
        with pytest.raises(TransportError, match=r"the TLS connection broke; gave up after 3 attempts"):
            client.send("POST", "S:import", body=b"{}", idempotent=False)
        assert (server.connections, server.received) == (3, [])


@pytest.mark.parametrize("then", ["linger", "stall"])
def test_an_early_answer_is_read_over_tls_too(own: Certificate, then: str):
    with (
        faulty(Fault(413, read=1000, then=then), tls=own.server()) as server,
        transport(server, verify=own.certificate, request_timeout=1.0) as client,
        pytest.raises(ResponseError, match="413"),
    ):
        client.send("POST", "studies", body=CONTENT * 10)
    assert len(server.received) == 1


def test_every_attempt_over_tls_carries_the_whole_body(own: Certificate):
    script = [Fault(503), Fault(drop="reset", read=100_000), Fault(drop="close")]
    with faulty(*script, tls=own.server()) as server, transport(server, verify=own.certificate) as client:
        client.send("POST", "studies", body=CONTENT)
    assert [request.body for request in server.received if len(request.body) == len(CONTENT)][-1] == CONTENT
    assert server.received[-1].body == CONTENT
