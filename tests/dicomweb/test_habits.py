"""A server's habits are named, or show in its answers; and the client keeps to them."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb import DicomWebClient
from airflow_dicomweb.dicomweb.habits import RETRIEVABLE, SERVERS, STANDARD, TINY_PACS, named, recognise
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import STORAGE_CLASSES
from tests.dicomweb.instances import series_of

DEADLINE = 20.0


@pytest.mark.parametrize(
    ("given", "name"), [("orthanc", "orthanc"), ("Tiny_PACS", "tiny-pacs"), (" dcm4chee ", "dcm4chee")]
)
def test_a_server_is_named_in_any_case(given, name):
    assert named(given).name == name


@pytest.mark.parametrize("given", ["", "..", "orthank", None, 1, ["orthanc"], "google.com", True])
def test_a_name_that_is_none_is_refused_with_those_that_are(given):
    with pytest.raises(ConfigurationError, match="standard, standard-with-delete, orthanc, google"):
        named(given)
    if given is not None:
        with pytest.raises(ConfigurationError, match="server must be one of"):
            DicomWebClient("http://127.0.0.1:1", server=given)


def test_a_near_miss_is_answered_with_what_may_have_been_meant():
    with pytest.raises(ConfigurationError, match="did you mean 'orthanc'"):
        named("ortanc")


@pytest.mark.parametrize(
    ("header", "found"),
    [("tiny_pacs", TINY_PACS), ("Tiny_PACS/0.4", TINY_PACS), ("nginx", None), ("WildFly/31", None), ("", None)],
)
def test_a_server_is_recognised_by_what_it_says_of_itself(header, found):
    assert recognise({"Server": header}) is found


def test_the_table_is_consistent():
    assert SERVERS["standard"] is STANDARD
    for name, habits in SERVERS.items():
        assert habits.name == name
        assert habits.lacks <= set(RETRIEVABLE)
        assert habits.keeps_data_set or not habits.keeps_bytes
        assert habits.deletes or not habits.deletes_by_operation
        assert habits.storage_classes in {(), STORAGE_CLASSES}
    # Nothing is expected of an unknown server that it may not do.
    claims = (STANDARD.reports_conflicts, STANDARD.single_part, STANDARD.takes_bulk_data, STANDARD.deletes)
    assert not any(claims)


class Counting(ThreadingHTTPServer):
    """Stores everything, and counts how many requests it has at the same time."""

    daemon_threads = True
    product = ""
    together = 1

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Counter)
        self.lock, self.now, self.most = threading.Lock(), 0, 0
        self.crowd = threading.Event()


class _Counter(BaseHTTPRequestHandler):
    server: Counting

    def version_string(self) -> str:
        return self.server.product

    def do_GET(self) -> None:
        self.send_response(204)
        self.end_headers()

    def do_POST(self) -> None:
        server = self.server
        with server.lock:
            server.now += 1
            server.most = max(server.most, server.now)
            if server.now >= server.together:
                server.crowd.set()
        body = self.rfile.read(int(self.headers["Content-Length"]))
        # Held until as many are here as the test wants to see, so that being alone is no accident.
        server.crowd.wait(DEADLINE if server.together > 1 else 0.05)
        uids = [uid.decode() for uid in re.findall(rb"\x08\x00\x18\x00UI..([0-9.]+)", body, re.DOTALL)]
        with server.lock:
            server.now -= 1
        answer = {"00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": [uid]}} for uid in uids]}}
        self.send_response(200)
        self.send_header("Content-Type", "application/dicom+json")
        self.end_headers()
        self.wfile.write(json.dumps(answer).encode())

    def log_message(self, *args: object) -> None: ...


@pytest.fixture
def counting() -> Iterator[Counting]:
    with Counting() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join(DEADLINE)


@pytest.mark.parametrize(("product", "server"), [("tiny_pacs", None), ("", "tiny-pacs")])
def test_a_server_that_can_do_one_thing_at_a_time_gets_one_request_at_a_time(counting, tmp_path: Path, product, server):
    counting.product = product
    series_of(tmp_path, 8)
    with DicomWebClient(f"http://127.0.0.1:{counting.server_port}", server=server) as client:
        assert client.store(tmp_path, workers=4, batch_count=1).created == 8
        assert client.habits is TINY_PACS
    assert counting.most == 1


def test_any_other_server_gets_as_many_as_there_are_workers(counting, tmp_path: Path):
    counting.together = 4
    series_of(tmp_path, 4)
    with DicomWebClient(f"http://127.0.0.1:{counting.server_port}") as client:
        assert client.store(tmp_path, workers=4, batch_count=1).created == 4
        assert client.habits is STANDARD
    assert counting.most == 4
