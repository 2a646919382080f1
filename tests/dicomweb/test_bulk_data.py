"""Bulk data comes from the server that the credentials are for, from below its root, and whole."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.bulk_data import resolve
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, TransportError
from tests.dicomweb.instances import PYDICOM_FILES
from tests.dicomweb.scripted import NOTHING, QUICK, Reporting, answer, storing
from tests.servers.faulty import Fault

ROOT = "https://pacs.example:8443/dicom-web"
OF = InstancePath("1.2", "1.2.3", "1.2.3.4")
URI = f"{OF}/bulkdata/7FE00010"


def part(content: bytes, content_type: str = "application/octet-stream") -> bytes:
    return f"--x\r\nContent-Type: {content_type}\r\n\r\n".encode() + content


def multipart(*parts: bytes) -> Fault:
    return answer(b"\r\n".join(parts) + b"\r\n--x--", content_type="multipart/related; boundary=x")


@pytest.mark.parametrize(
    ("uri", "of", "expected"),
    [
        (f"{ROOT}/{URI}", None, f"{ROOT}/{URI}"),
        (f"HTTPS://PACS.example:8443/dicom-web/{URI}", None, f"{ROOT}/{URI}"),
        (f"{ROOT}/{URI}/?offset=1&length=2", None, f"{ROOT}/{URI}/?offset=1&length=2"),
        (f"//pacs.example:8443/dicom-web/{URI}", None, f"{ROOT}/{URI}"),
        (f"/dicom-web/{URI}", None, f"{ROOT}/{URI}"),
        (URI, None, f"{ROOT}/{URI}"),
        ("bulkdata/7FE00010", OF, f"{ROOT}/{URI}"),
        ("bulkdata/00081140/1/00420011", OF, f"{ROOT}/{OF}/bulkdata/00081140/1/00420011"),
        ("bulk/a%20b", OF, f"{ROOT}/{OF}/bulk/a%20b"),
    ],
)
def test_a_uri_of_the_server_is_followed(uri: str, of: InstancePath | None, expected: str) -> None:
    assert resolve(uri, ROOT, of) == expected


@pytest.mark.parametrize(
    "uri",
    [
        *("", None, 3, b"studies/1", " ", "studies/1 2", "studies/1\n", "studies/ä", "#", "?", "/", "."),
        *(f"http://pacs.example:8443/dicom-web/{URI}", f"https://pacs.example/dicom-web/{URI}"),
        *(f"https://pacs.example:8444/dicom-web/{URI}", f"https://evil.example:8443/dicom-web/{URI}"),
        *(f"https://pacs.example.evil:8443/dicom-web/{URI}", f"https://user@pacs.example:8443/dicom-web/{URI}"),
        *(f"https://pacs.example:8443@evil.example/dicom-web/{URI}", f"//evil.example/dicom-web/{URI}"),
        *(f"https://pacs.example:8443\\@evil.example/{URI}", f"https:///pacs.example:8443/dicom-web/{URI}"),
        *("file:///etc/passwd", "ftp://pacs.example:8443/dicom-web/x", "urn:x", "javascript:x", "data:,x"),
        *(f"{ROOT}", f"{ROOT}/", "https://pacs.example:8443/", "https://pacs.example:8443/instances/1/file"),
        *("/instances/1/file", "/dicom-webs/x", "/dicom-web", "https://pacs.example:8443/dicom-web?x=/dicom-web/y"),
        *("../x", "..", "./x", "studies/../../x", "studies/./x", f"{ROOT}/../x", "/dicom-web/../x"),
        *("%2e%2e/x", "studies/%2E./x", "studies/.%2e/x", "%252e%252e/x", "%25252e%25252e/x", "%2e/x"),
        *("studies%2f..%2fx", "..%2fx", "%2e%2e%2fx", "..%252fx", "..\\x", "..%5cx", "%2e%2e%5cx", "..%255cx"),
        *("https://[evil/x", "https://pacs.example:evil/dicom-web/x", "https://pacs.example:99999/dicom-web/x"),
        *("studies//x", "studies/%0d%0aHost:x", "studies/%00", "studies/x#y", f"{ROOT}//x", "studies/..;/x/.."),
    ],
)
def test_a_uri_that_leads_elsewhere_is_refused_before_anything_is_sent(uri: Any) -> None:
    for of in (None, OF):
        with pytest.raises(ConfigurationError) as refusal:
            resolve(uri, ROOT, of)
        assert "evil" not in str(refusal.value)


def test_what_is_refused_reaches_no_server() -> None:
    with storing() as (client, server), storing() as (_, other):
        for uri in (
            f"{other.url}/dicom-web/{URI}",
            "../x",
            "/elsewhere",
            f"{server.url}/x",
            f"{server.url}/dicom-web/%2e./x",
        ):
            with pytest.raises(ConfigurationError):
                client.retrieve_bulkdata(uri)
        assert server.received == other.received == []
        # The same server is asked, with its credentials.
        server.script.append(multipart(part(b"value")))
        assert client.retrieve_bulkdata(f"{server.url}/dicom-web/{URI}?x=1").data == b"value"
        (request,) = server.received
        assert request.line == f"GET /dicom-web/{URI}?x=1"
        assert request.header("accept") == ['multipart/related; type="application/octet-stream"; transfer-syntax=*']
        assert request.header("accept-encoding") == ["identity"]
        assert request.header("authorization") == ["Bearer t"]


@pytest.mark.parametrize(
    ("said", "media_type", "syntax"),
    [
        (multipart(part(b"value")), "application/octet-stream", ""),
        (multipart(part(b"value", "image/jpeg; transfer-syntax=1.2.3")), "image/jpeg", "1.2.3"),
        (answer(b"value", content_type="application/octet-stream"), "application/octet-stream", ""),
        (answer(b"value", content_type="application/pdf"), "application/pdf", ""),
        (
            answer(b"value", content_type='application/octet-stream; transfer-syntax="1.2.4"'),
            "application/octet-stream",
            "1.2.4",
        ),
    ],
)
def test_one_value_comes_in_one_part_or_alone(said: Fault, media_type: str, syntax: str, tmp_path: Path) -> None:
    with storing(said, said) as (client, _):
        found = client.retrieve_bulkdata(URI)
        assert (found.data, found.size, found.media_type, found.transfer_syntax) == (b"value", 5, media_type, syntax)
        found = client.retrieve_bulkdata(URI, destination=tmp_path / "value")
    assert (found.data, found.size, found.media_type) == (None, 5, media_type)
    assert (tmp_path / "value").read_bytes() == b"value"
    assert stat.S_IMODE((tmp_path / "value").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (multipart(part(b"a"), part(b"b")), ProtocolError),
        (answer(b"--x--", content_type="multipart/related; boundary=x"), ProtocolError),
        (answer(b"<html>", content_type="text/html"), ProtocolError),
        (answer(b"{}", content_type="application/json"), ProtocolError),
        (answer(b"x", content_type=None), ProtocolError),
        (answer(b"x", 206, content_type="application/octet-stream"), ProtocolError),
        (NOTHING, NotFoundError),
        (Fault(404), NotFoundError),
        (answer(part(b"cut"), content_type="multipart/related; boundary=x"), TransportError),
        (answer(b"cut", content_type="application/octet-stream", declared=9, then="close"), TransportError),
    ],
)
def test_what_is_not_one_whole_value_is_an_error_and_leaves_nothing(
    said: Fault, error: type[Exception], tmp_path: Path
) -> None:
    (tmp_path / "value").write_bytes(b"older")
    for destination in (None, tmp_path / "value"):
        with storing(said) as (client, _), pytest.raises(error):
            client.retrieve_bulkdata(URI, destination=destination)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"older"]


def test_a_cut_value_is_asked_for_again(tmp_path: Path) -> None:
    cut = answer(b"cut", content_type="application/octet-stream", declared=9, then="close")
    whole = answer(b"cut whole", content_type="application/octet-stream")
    with storing(cut, whole, cut, whole, policy=QUICK, client=Reporting) as (client, server):
        assert client.retrieve_bulkdata(URI).data == b"cut whole"
        client.retrieve_bulkdata(URI, destination=str(tmp_path / "value"))
        assert server.received[0].header("accept") == ["application/octet-stream; transfer-syntax=*"]
    assert (tmp_path / "value").read_bytes() == b"cut whole"


def test_memory_is_bounded() -> None:
    with storing(*[multipart(part(bytes(100)))] * 2) as (client, _):
        assert client.retrieve_bulkdata(URI, max_bytes=100).size == 100
        with pytest.raises(ProtocolError, match="larger than 99 bytes"):
            client.retrieve_bulkdata(URI, max_bytes=99)


@pytest.mark.parametrize(
    "destination", ["", "Doe\0", b"x", 3, "gs://bucket/x", "s3:/bucket/x", "{folder}", "{folder}/Doe/x"]
)
def test_a_file_that_cannot_be_written_is_refused_before_anything_is_sent(tmp_path: Path, destination: Any) -> None:
    if isinstance(destination, str):
        destination = destination.replace("{folder}", str(tmp_path))
    with storing() as (client, server):
        with pytest.raises(ConfigurationError, match="destination") as refusal:
            client.retrieve_bulkdata(URI, destination=destination)
        with pytest.raises(ConfigurationError, match="max_bytes"):
            client.retrieve_bulkdata(URI, max_bytes=0)
        assert server.received == []
    assert "Doe" not in str(refusal.value)


def test_the_uris_of_a_server_s_metadata_give_the_values(server: DicomWebClient, tmp_path: Path) -> None:
    import pydicom

    file = PYDICOM_FILES / "CT_small.dcm"
    (outcome,) = server.store(file).outcomes
    assert outcome.path is not None
    (data_set,) = server.retrieve_metadata(outcome.path.study, outcome.path.series, outcome.path.instance)
    stored = pydicom.dcmread(file)
    uris = {tag: element["BulkDataURI"] for tag, element in data_set.items() if "BulkDataURI" in element}
    assert "7FE00010" in uris
    for tag, uri in uris.items():
        found = server.retrieve_bulkdata(uri, of=outcome.path, destination=tmp_path / tag)
        assert found.size == (tmp_path / tag).stat().st_size
        assert (tmp_path / tag).read_bytes() == stored[int(tag, 16)].value
        assert server.retrieve_bulkdata(uri).data == stored[int(tag, 16)].value
