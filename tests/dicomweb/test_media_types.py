"""Media types are parsed, not compared as strings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.media_types import MediaType, parse_accept


@pytest.mark.parametrize(
    ("text", "name", "parameters"),
    [
        ("application/dicom+json; charset=utf-8", "application/dicom+json", {"charset": "utf-8"}),
        ("Application/DICOM+JSON", "application/dicom+json", {}),
        (
            'multipart/related; type="application/dicom"; boundary="a;b"',
            "multipart/related",
            {"type": "application/dicom", "boundary": "a;b"},
        ),
        (
            "multipart/related;type=application/dicom;Boundary=x",
            "multipart/related",
            {"type": "application/dicom", "boundary": "x"},
        ),
        (
            'multipart/related; type="application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"; boundary=x',
            "multipart/related",
            {"type": "application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1", "boundary": "x"},
        ),
        ("", "", {}),
        (None, "", {}),
    ],
)
def test_a_content_type_is_read(text, name, parameters):
    media_type = MediaType.parse(text)
    assert media_type.name == name
    assert dict(media_type.parameters) == parameters
    assert MediaType.parse(str(media_type)) == media_type


def test_the_type_parameter_of_orthanc_is_read_to_its_name():
    text = 'multipart/related; type="application/octet-stream; transfer-syntax=1.2.840.10008.1.2.1"; boundary=x'
    assert MediaType.parse(text).type_parameter == "application/octet-stream"


def test_an_accept_header_is_sorted_by_preference():
    accept = parse_accept('image/png;q=0.5, multipart/related; type="a,b", */*;q=0.1, image/gif;q=0')
    assert [t.name for t in accept] == ["multipart/related", "image/png", "*/*"]
    assert accept[0].parameters["type"] == "a,b"


def test_no_accept_header_accepts_everything():
    assert parse_accept(None)[0].accepts("application/dicom+xml")
    assert parse_accept("image/*")[0].accepts("image/png")
    assert not parse_accept("image/*")[0].accepts("imagex/png")


def test_an_encoded_parameter_is_decoded():
    assert MediaType.parse("multipart/related; boundary*=utf-8''a%20b").parameters["boundary"] == "a b"


@given(st.text(max_size=40) | st.text(alphabet="ab/;=\"\\,*'%2 \r\n", max_size=40))
def test_no_header_a_server_may_send_breaks_the_parser(text):
    media_type = MediaType.parse(text)
    assert all(isinstance(value, str) for value in (media_type.name, *media_type.parameters.values()))
    assert all(0 <= t.quality <= 1 for t in parse_accept(text))
