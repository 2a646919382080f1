"""What answers say."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest

from airflow_dicomweb.dicomweb.answers import MAX_WORDS, Answer, server_words
from airflow_dicomweb.errors import ProtocolError


def answer(content: bytes | str, content_type: str = "", status: int = 400) -> Answer:
    body = content.encode() if isinstance(content, str) else content
    return Answer(status, {"Content-Type": content_type} if content_type else {}, body, "GET http://pacs/studies")


@pytest.mark.parametrize(
    ("content", "content_type", "words"),
    [
        (
            '{"error": {"code": 400, "message": "bad", "status": "INVALID_ARGUMENT"}}',
            "application/json",
            "INVALID_ARGUMENT: bad",
        ),
        ('[{"error": {"code": 400, "message": "bad"}}]', "application/json; charset=UTF-8", "bad"),
        (
            '{"Message": "Unknown resource", "HttpStatus": 404, "Details": "no study", "Uri": "/x"}',
            "",
            "Unknown resource: no study",
        ),
        ('{"error": "invalid_grant", "error_description": "revoked"}', "application/json", "invalid_grant: revoked"),
        ('{"errorMessage": "no such AE"}', "application/json", "no such AE"),
        (
            "<html><head><title>502 Bad Gateway</title></head><body><h1>x</h1></body></html>",
            "text/html",
            "502 Bad Gateway",
        ),
        ("<error><message>too <b>large</b></message></error>", "application/xml", "too large"),
        ("<html><body>nothing that helps</body></html>", "text/html", ""),
        ("plain\r\n words\t\x00here", "text/plain", "plain words here"),
        ("plain words", "", "plain words"),
        ("", "text/plain", ""),
        ("[]", "application/json", ""),
        ('"text"', "application/json", ""),
        ("{broken", "application/json", ""),
        (b"\xff\xfe\x00", "application/octet-stream", ""),
    ],
)
def test_the_servers_words_are_found(content: str, content_type: str, words: str):
    assert server_words(answer(content, content_type)) == words


@pytest.mark.parametrize(
    "content_type",
    [
        "application/dicom+json",
        "application/dicom",
        "application/dicom+xml",
        'multipart/related; type="application/dicom"',
        "image/png",
    ],
)
def test_a_body_of_dicom_has_no_words(content_type: str):
    assert server_words(answer('{"00100010": {"vr": "PN"}, "message": "DOE^JANE"}', content_type)) == ""


def test_words_are_shortened():
    words = server_words(answer("x" * 5000, "text/plain"))
    assert (len(words), words[-4:]) == (MAX_WORDS, "x...")


def test_what_was_asked_for_is_masked_and_uids_are_not():
    query = [("PatientName", "doe^jane"), ("StudyInstanceUID", "1.2.3"), ("limit", "10"), ("PatientID", "")]
    words = server_words(answer("DOE^JANE in 1.2.3, limit 10", "text/plain"), query)
    assert words == "*** in 1.2.3, limit 10"


@pytest.mark.parametrize("name", ["O'Neil^Zoë & Co", "DOE^JANE MARY", "<D/O+E>=*", "Ünal^Ş", "50%5E"])
@pytest.mark.parametrize(
    "form",
    [
        str,
        quote,
        quote_plus,
        lambda text: quote(text, safe=""),
        lambda text: quote(text).lower(),
        lambda text: quote_plus(text).lower(),
        lambda text: quote(quote(text)),
        lambda text: quote(text, safe="^/"),
        html.escape,
        lambda text: html.escape(text, quote=False),
        lambda text: html.escape(html.escape(text)),
        lambda text: html.escape(text).replace("&#x27;", "&#39;"),
        lambda text: html.escape(text).replace("&#x27;", "&apos;"),
        lambda text: "".join(f"&#{ord(char)};" for char in text),
        lambda text: "".join(f"&#x{ord(char):04X};" for char in text),
        lambda text: quote(text.upper()),
    ],
    ids=range(16),
)
def test_what_was_asked_for_is_masked_in_every_form_in_which_servers_repeat_it(form: Callable[[str], str], name: str):
    shown = json.dumps({"message": f"cannot parse PatientName={form(name)}, limit=5"})
    words = server_words(answer(shown), [("PatientName", name), ("limit", "5")])
    assert words == "cannot parse PatientName=***, limit=5"


def test_a_short_value_does_not_break_up_a_longer_one():
    query = [("PatientSex", "O"), ("PatientName", "DOE")]
    assert server_words(answer("DOE, O", "text/plain"), query) == "***, ***"


@pytest.mark.parametrize(
    "name", ["StudyInstanceUID", "FrameOfReferenceUID", "0020000D", "0020000E", "00080018", "00080016"]
)
def test_uids_of_uid_attributes_stay_visible(name: str):
    assert server_words(answer("no 1.2.3,1.2.4", "text/plain"), [(name, "1.2.3,1.2.4")]) == "no 1.2.3,1.2.4"


@pytest.mark.parametrize(
    ("name", "value"), [("AccessionNumber", "12.34"), ("00100020", "1.2.3"), ("StudyInstanceUID", "DOE")]
)
def test_what_merely_looks_like_a_uid_or_stands_in_its_place_is_masked(name: str, value: str):
    assert server_words(answer(f"no {value}", "text/plain"), [(name, value)]) == "no ***"


def test_json_is_read_whatever_the_type_says():
    assert answer('{"a": [1]}', "text/plain").json() == {"a": [1]}
    assert answer("[]").json() == []


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b"<html>", b"[" * 100_000])
def test_what_is_no_json_is_said_without_its_content(content: bytes):
    with pytest.raises(ProtocolError) as caught:
        answer(content, "text/html; charset=x").json()
    assert str(caught.value) == (
        f"the answer to GET http://pacs/studies is not JSON: status 400, text/html, {len(content)} bytes"
    )


def test_an_answer_without_a_type_has_an_empty_one():
    assert answer(b"").media_type.name == ""
