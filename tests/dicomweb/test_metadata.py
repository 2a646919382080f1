"""Metadata is read data set by data set, however it is cut, and is well formed or an error."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.metadata import data_sets
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, TransportError
from tests.dicomweb.instances import PYDICOM_FILES, series_of
from tests.dicomweb.scripted import NOTHING, QUICK, STUDY, answer, found, sop, storing
from tests.servers.faulty import Fault

SETS = [{"00100010": {"vr": "PN", "Value": [{"Alphabetic": 'Müller^[]{},"\\'}]}}, {}, {"a": {"b": [1, 2.5, None]}}]
JSON = "application/dicom+json"


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize("indent", [None, 1])
def test_data_sets_are_the_same_wherever_the_text_is_cut(size: int, indent: int | None) -> None:
    text = json.dumps(SETS, indent=indent, ensure_ascii=False).encode()
    assert list(data_sets(pieces(text, size))) == SETS
    assert list(data_sets(pieces(b"\xef\xbb\xbf\n " + text + b" \n", size))) == SETS
    assert list(data_sets(pieces(b" [ ] ", size))) == []


VALUES = st.text(max_size=9) | st.integers() | st.lists(st.text(max_size=9), max_size=3)


@settings(max_examples=100, deadline=None)
@given(st.lists(st.dictionaries(st.text(max_size=9), VALUES, max_size=3), max_size=5), st.integers(1, 50))
def test_any_array_of_objects_is_read_as_the_library_reads_it(found: list[dict[str, Any]], size: int) -> None:
    assert list(data_sets(pieces(json.dumps(found).encode(), size))) == found


@settings(max_examples=100, deadline=None)
@given(st.binary(max_size=200), st.integers(1, 50))
def test_whatever_comes_is_read_as_the_library_reads_it_or_is_an_error(content: bytes, size: int) -> None:
    try:
        found = list(data_sets(pieces(content, size)))
    except ProtocolError:
        return
    assert found == json.loads(content)


@pytest.mark.parametrize(
    "text",
    [
        *(b"", b"[", b"{}", b"null", b"[1]", b"[[]]", b'["a"]', b"[{}", b"[{},", b"[{},]", b"[{} {}]", b"[{}]]"),
        *(b"[{}] x", b'[{"a":1]', b'[{"a"', b"\xff", b"[{}]\xff", b"<html>", b"[" * 100_000),
    ],
)
def test_what_is_no_array_of_objects_is_an_error(text: bytes) -> None:
    for size in (1, 1000):
        with pytest.raises(ProtocolError, match="metadata"):
            list(data_sets(pieces(text, size) if size > 1 or len(text) < 100 else iter([text])))


def test_the_first_data_set_is_there_before_the_last_has_come() -> None:
    def endless() -> Iterator[bytes]:
        yield b'[{"a": 1}'
        while True:
            yield b',{"a": 2}'

    found = data_sets(endless())
    assert [next(found)["a"] for _ in range(10_000)][:2] == [1, 2]


def test_metadata_that_was_cut_is_asked_for_again_but_not_while_it_is_iterated() -> None:
    whole = answer(SETS, content_type=JSON)
    cut = Fault(whole.status, whole.headers, whole.body, cut=60)
    with storing(cut, whole, cut, policy=QUICK) as (client, server):
        assert client.retrieve_metadata(STUDY) == SETS
        found = client.iterate_metadata(STUDY)
        assert len(server.received) == 2
        with pytest.raises(TransportError):
            list(found)
    assert {request.header("accept")[0] for request in server.received} == {JSON}
    assert server.received[0].line == f"GET /dicom-web/studies/{STUDY}/metadata"


def test_metadata_in_a_file_is_what_the_server_sent_and_is_checked(tmp_path: Path) -> None:
    whole = answer(SETS, content_type=JSON)
    cut = Fault(whole.status, whole.headers, whole.body, cut=60)
    with storing(NOTHING, cut, whole, NOTHING, policy=QUICK) as (client, server):
        (file,) = client.retrieve(STUDY, "1.2.3", destination=tmp_path, media_type=JSON)
        assert file.path == tmp_path / STUDY / "1.2.3" / "metadata.json"
        assert file.path.read_bytes() == whole.body
        # It is there and whole.
        assert client.retrieve(STUDY, "1.2.3", destination=tmp_path, media_type=JSON) == [file]
        assert len(server.received) == 4
    for said, error in [(answer([]), ProtocolError), (answer({}), ProtocolError), (NOTHING, NotFoundError)]:
        with storing(NOTHING, said) as (client, _), pytest.raises(error):
            client.retrieve(STUDY, destination=tmp_path / "other", media_type=JSON)
    assert [path for path in (tmp_path / "other").rglob("*") if path.is_file()] == []


def test_metadata_in_a_file_is_of_all_instances_that_the_search_names(tmp_path: Path) -> None:
    of = [{"00080018": {"vr": "UI", "Value": [sop(number)]}} for number in (1, 2)]
    both, one = answer(of, content_type=JSON), answer(of[:1], content_type=JSON)
    with storing(found(1, 2), one, found(1, 2)) as (client, _):
        with pytest.raises(ProtocolError, match="lacks 1 instances"):
            client.retrieve(STUDY, destination=tmp_path, media_type=JSON)
        assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
    with storing(found(1, 2), one, found(1), Fault(400), both) as (client, server):  # one was deleted meanwhile
        (file,) = client.retrieve(STUDY, destination=tmp_path, media_type=JSON)
        assert file.path.read_bytes() == one.body
        # A server that cannot be searched is believed.
        client.retrieve(STUDY, destination=tmp_path / "other", media_type=JSON)
        assert len(server.received) == 5


def test_metadata_of_what_was_there_before_is_not_taken_for_that_of_today(
    server: DicomWebClient, tmp_path: Path
) -> None:
    series_of(tmp_path / "in", 2)
    server.store(tmp_path / "in")
    wanted = {"destination": tmp_path / "out", "media_type": JSON}
    (file,) = server.retrieve(STUDY, **wanted)
    before = file.path.stat()
    server.retrieve(STUDY, **wanted)
    assert file.path.stat() == before
    series_of(tmp_path / "in", 3)
    server.store(tmp_path / "in")
    server.retrieve(STUDY, **wanted)
    assert len(json.loads(file.path.read_bytes())) == 3


def xml(*documents: bytes) -> Fault:
    body = b"".join(b"--x\r\nContent-Type: application/dicom+xml\r\n\r\n" + each + b"\r\n" for each in documents)
    return answer(body + b"--x--", content_type='multipart/related; type="application/dicom+xml"; boundary=x')


def test_xml_comes_as_one_document_for_each_instance() -> None:
    one, two = b"<NativeDicomModel/>", b'<?xml version="1.0"?><m:NativeDicomModel xmlns:m="urn:x"></m:NativeDicomModel>'
    with storing(xml(one, two)) as (client, server):
        assert client.retrieve_metadata_xml(STUDY) == [one, two]
    assert server.received[0].header("accept") == ['multipart/related; type="application/dicom+xml"']
    assert server.received[0].header("accept-encoding") == ["identity"]


@pytest.mark.parametrize(
    "document",
    [
        *(b"", b"<NativeDicomModel>", b"<html/>", b"[]", b"<a><NativeDicomModel/></a>"),
        b'<!DOCTYPE NativeDicomModel [<!ENTITY a "b">]><NativeDicomModel>&a;</NativeDicomModel>',
    ],
)
def test_what_is_no_such_document_is_an_error(document: bytes) -> None:
    with storing(xml(b"<NativeDicomModel/>", document)) as (client, _), pytest.raises(ProtocolError, match="XML"):
        client.retrieve_metadata_xml(STUDY)


def test_a_bad_uid_is_refused_at_once() -> None:
    with storing() as (client, server):
        for method in (client.iterate_metadata, client.retrieve_metadata_xml):
            with pytest.raises(ConfigurationError):
                method("..")
        assert server.received == []


def test_real_servers_give_metadata_in_both_forms(server: DicomWebClient, tmp_path: Path) -> None:
    series_of(tmp_path / "in", 3, PatientName="Doe^Jane")
    server.store(tmp_path / "in")
    listed = server.retrieve_metadata(STUDY)
    assert list(server.iterate_metadata(STUDY)) == listed
    found = {data_set["00080018"]["Value"][0] for data_set in listed}
    documents = [ET.fromstring(document) for document in server.retrieve_metadata_xml(STUDY)]
    assert {_value(document, "00080018") for document in documents} == found
    (file,) = server.retrieve(STUDY, destination=tmp_path / "out", media_type=JSON)
    assert json.loads(file.path.read_bytes()) == listed


def test_metadata_is_what_pydicom_reads_in_the_file(server: DicomWebClient) -> None:
    path = PYDICOM_FILES / "CT_small.dcm"
    (outcome,) = server.store(path).outcomes
    assert outcome.path is not None
    (data_set,) = server.retrieve_metadata(outcome.path.study, outcome.path.series, outcome.path.instance)
    for keyword in ("PatientName", "Rows", "SliceThickness", "ImagePositionPatient", "StudyDate"):
        tag = f"{pydicom.datadict.tag_for_keyword(keyword):08X}"
        expected = pydicom.dcmread(path)[keyword].to_json_dict(None, 1024)
        assert data_set[tag] == expected


def _value(document: ET.Element, tag: str) -> str | None:
    for element in document.iter():
        if element.get("tag") == tag:
            return next((value.text for value in element.iter() if value.tag.rpartition("}")[2] == "Value"), None)
    return None
