"""What a broken client gets: the documented status and Google's envelope, never a traceback."""

from __future__ import annotations

import json
import re
import socket
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
import requests
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_dicomweb.emulator.routes import NOT_EMULATED, ROUTES
from tests.emulator.api import VECTORS, envelope, instance

PLACES = {
    "version": "v1",
    "project": "p",
    "location": "l",
    "dataset": "d",
    "store": "s",
    "study": "1.1",
    "series": "1.1.1",
    "instance": "1.1.1.1",
    "operation": "1",
    "frames": "1",
    "any": "x",
    "other": "fhir",
    "topic": "topic",
    "subscription": "subscription",
    "pubsub": "snapshots",
}


def raw(api, head, body=b""):
    """Send bytes as they are; give status and body of the answer."""
    address = urlsplit(api.emulator.base_url)
    with socket.create_connection((address.hostname, address.port), timeout=30) as connection:
        answer = b""
        # The answer may come, and the connection be closed, before everything was sent.
        with suppress(ConnectionError):
            connection.sendall(head + body)
        with suppress(ConnectionError):
            while block := connection.recv(65536):
                answer += block
    start, _, content = answer.partition(b"\r\n\r\n")
    return int(start.split()[1]), content


def request(path, *headers, method="GET"):
    lines = [f"{method} {path} HTTP/1.1", "Host: x", "Connection: close", "Authorization: Bearer x", *headers, "", ""]
    return "\r\n".join(lines).encode("latin-1")


@pytest.mark.parametrize("path", ["v1/projects", "v2/projects/p/locations/l/datasets", "v1//", "nothing", "%2e%2e/x"])
def test_an_unknown_path_is_not_found(api, path):
    envelope(api.ask("GET", f"{api.emulator.base_url}/{path}"), 404)


def test_a_known_path_says_which_methods_it_takes(api):
    message = envelope(api.ask("PUT", f"{api.web}/series"), 405)
    assert "GET" in message
    envelope(api.ask("PATCH", f"{api.store_url}/dicomWeb/studies"), 405)


@pytest.mark.parametrize(("method", "template", "what"), NOT_EMULATED, ids=lambda value: str(value)[-40:])
def test_what_is_not_emulated_says_so(api, method, template, what):
    path = template.format(**PLACES)
    answer = api.ask("GET" if method == "*" else method, f"{api.emulator.base_url}{path}")
    assert what in envelope(answer, 501)
    page = requests.get(api.emulator.base_url, timeout=30).text
    assert what.partition(":")[0].partition("(")[0].strip() in page


@pytest.mark.parametrize("status", VECTORS["google_error"]["http_to_status"])
def test_every_documented_status_has_its_name_in_the_envelope(api, status):
    api.emulator.faults({"match": "/studies$", "status": status})
    answer = api.get("studies")
    assert set(answer.json()["error"]) <= set(VECTORS["google_error"]["shape"]["error"])
    envelope(answer, status, VECTORS["google_error"]["http_to_status"][status])


def test_no_route_answers_without_a_token(api):
    for route in ROUTES:
        path = re.sub(r"\(\?P<(\w+)>[^)]*\)", lambda match: PLACES[match[1]], route.pattern.pattern)
        answer = requests.request(route.method, api.emulator.base_url + path.replace("\\", ""), timeout=30)
        envelope(answer, 401)


@pytest.mark.parametrize("uid", ["..", "1.2.x", "1..2", ".1", "1" * 65, "1.2%20", "%00", "1.2;x", "*"])
def test_a_uid_that_is_none_is_refused_before_anything_is_looked_for(api, uid):
    api.store(instance())
    web = urlsplit(api.web).path
    for path in (f"/studies/{uid}", f"/studies/1.1/series/{uid}", f"/studies/1.1/series/1.1.1/instances/{uid}"):
        for method in ("GET", "DELETE"):
            status, content = raw(api, request(web + path, method=method))
            assert status in {400, 404}
            assert json.loads(content)["error"]["code"] == status
    assert len(api.tuples()) == 1


def test_two_dots_in_a_path_are_never_resolved(api):
    api.store(instance())
    web = urlsplit(api.web).path
    for path in ("/studies/1.1/series/..", "/studies/1.1/series/../", "/studies/1.1/series/%2e%2e"):
        status, _ = raw(api, request(web + path, method="DELETE"))
        assert status in {400, 404}
    assert len(api.tuples()) == 1


@pytest.mark.parametrize(
    "head",
    [
        b"nonsense\r\n\r\n",
        b"GET\r\n\r\n",
        b"GET / HTTP/x\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: a\r\nContent-Length: x\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: x\r\nbad header\r\n\r\n",
        b"GET /v1/x HTTP/1.1\r\nHost: x\r\nX-Large: " + b"x" * 1_000_000 + b"\r\n\r\n",
        b"POST /v1/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_gets_the_envelope_too(api, head):
    status, content = raw(api, head)
    assert status in {400, 401, 404}
    assert json.loads(content)["error"]["code"] == status


def test_a_body_that_is_too_large_is_refused(api):
    answer = api.ask("POST", f"{api.store_url}:import", data=b" " * (10 * 1024 * 1024 + 1))
    envelope(answer, 413)


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": ";;;,,,"},
        {"Accept": 'multipart/related; type="application/dicom'},
        {"Accept": "*/*; q=nonsense"},
        {"Accept": "application/dicom; transfer-syntax*=utf-8''%ff"},
        {"Host": "["},
        {"Accept": "\xff\xfe"},
    ],
)
def test_odd_headers_break_nothing(api, headers):
    api.store(instance())
    for path in ("studies", "studies/1.1", "studies/1.1/metadata"):
        lines = [f"{name}: {value}" for name, value in headers.items()]
        start = request(f"{urlsplit(api.web).path}/{path}", *lines)
        status, content = raw(api, start.replace(b"Host: x\r\n", b"") if "Host" in headers else start)
        assert status in {200, 400, 406}
        assert status == 200 or json.loads(content)["error"]["code"] == status


TEXT = st.text(alphabet="0123456789.aZ*?%/:;,=&+-_ü\"'{}[]\\ ", max_size=12)


WORDS = st.sampled_from(
    ["studies", "series", "instances", "metadata", "rendered", "frames", "bulkdata", "1.1", "1.1.1", "1.1.1.1"]
)
REQUESTS = st.fixed_dictionaries(
    {
        "method": st.sampled_from(["GET", "POST", "DELETE", "PUT", "PATCH", "HEAD"]),
        "segments": st.lists(TEXT | WORDS, max_size=7),
        "query": st.dictionaries(
            TEXT | st.sampled_from(["limit", "offset", "includefield", "StudyDate", "viewport"]), TEXT
        ),
        "accept": TEXT | st.sampled_from(["*/*", "application/dicom+json", "image/png", "application/dicom"]),
        "content_type": TEXT | st.sampled_from(["application/dicom", "multipart/related; boundary=a"]),
        "body": st.binary(max_size=60),
    }
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(sent=REQUESTS)
def test_no_request_whatever_is_an_internal_error(api, sent):
    headers = {"Accept": sent["accept"].encode(), "Content-Type": sent["content_type"].encode()}
    method, path = sent["method"], "/".join(sent["segments"])
    try:
        answer = api.ask(method, path, params=sent["query"], headers=headers, data=sent["body"])
    except (requests.exceptions.InvalidHeader, requests.exceptions.InvalidURL):
        return
    assert answer.status_code in {200, 204, 400, 404, 405, 406, 409, 501}
    if answer.status_code >= 400 and method != "HEAD" and answer.status_code != 409:
        assert answer.json()["error"]["code"] == answer.status_code
