"""Files that the system sends by itself arrive as they are, or it is said why not."""

from __future__ import annotations

import io
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.batches import Item, SourceFailed, body_of
from airflow_dicomweb.dicomweb.part10 import read_header
from airflow_dicomweb.dicomweb.sources import Source, list_sources
from airflow_dicomweb.dicomweb.whole_files import WholeFile
from tests.dicomweb.instances import part10

SIZE = 3_000_000


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "file"
    path.write_bytes(os.urandom(SIZE))
    return path


@pytest.fixture
def connection() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a connection that holds far less than the file."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    with near, far:
        yield near, far


def whole_file(stream: io.BufferedReader) -> WholeFile:
    file = WholeFile.of(stream, SIZE)
    assert file is not None
    return file


def send_often(stream: io.BufferedReader, connection: socket.socket) -> None:
    """Send more than the buffers of a connection hold."""
    for _ in range(20):
        whole_file(stream).send(connection)


def test_a_file_arrives_as_it_is(path, connection):
    near, far = connection
    near.settimeout(30.0)
    received = bytearray()

    def receive() -> None:
        while block := far.recv(70_000):
            received.extend(block)

    receiver = threading.Thread(target=receive)
    receiver.start()
    with path.open("rb") as stream:
        file = whole_file(stream)
        assert len(file) == SIZE
        file.head = b"before it"
        file.send(near)
        assert file.finding == ""
    near.shutdown(socket.SHUT_WR)
    receiver.join(30)
    assert received == b"before it" + path.read_bytes()


def test_a_file_can_be_read_where_the_system_cannot_send_it(path):
    with path.open("rb") as stream:
        file = whole_file(stream)
        blocks = list(file.blocks())
        assert (len(blocks) > 1, b"".join(blocks), file.finding) == (True, path.read_bytes(), "")


def test_a_connection_that_takes_no_more_is_given_up_in_time(path, connection):
    near, _ = connection
    near.settimeout(0.2)
    with path.open("rb") as stream, pytest.raises(TimeoutError):
        send_often(stream, near)


def test_a_connection_that_is_gone_is_the_connections_error(path, connection):
    near, far = connection
    near.settimeout(5.0)
    far.close()
    with path.open("rb") as stream, pytest.raises((BrokenPipeError, ConnectionResetError)):
        send_often(stream, near)


@pytest.mark.parametrize("size", [SIZE - 1, SIZE + 1])
def test_a_file_that_changes_while_it_is_sent_is_found_out(path, size):
    with path.open("rb") as stream:
        file = whole_file(stream)
        os.truncate(path, size)
        for _ in file.blocks():
            pass
        assert file.finding == "it changed while it was sent"


def test_what_is_no_plain_file_of_that_size_is_none(path):
    assert WholeFile.of(io.BufferedReader(io.BytesIO(b"x")), 1) is None
    assert WholeFile.of(io.BytesIO(b"x"), 1) is None
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb") as pipe, os.fdopen(writing, "wb"):
        assert WholeFile.of(pipe, 0) is None
    with path.open("rb") as stream:
        assert WholeFile.of(stream, SIZE - 1) is None


def item_of(path: Path) -> Item:
    (source,) = list_sources(path)
    return Item(source, read_header(path))


def test_a_body_has_whole_files_for_a_connection_and_bytes_for_others(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(part10())
    body = body_of([item_of(path)], single_part=False)
    pieces = body.pieces()
    first = next(pieces)
    assert isinstance(first, WholeFile)
    assert len(first) + len(b"\r\n----" + body.boundary.encode()) == len(body)
    assert b"".join([*first.blocks(), *pieces]) == b"".join(body)
    assert {type(block) for block in body} == {bytes}


def test_an_instance_whose_digest_is_wanted_is_read_here(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(part10())
    item = item_of(path)
    item.summed = True
    assert b"".join(item.pieces()) == path.read_bytes()
    assert len(item.sha256) == 64


def test_a_source_that_is_no_file_is_opened_once(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(part10())
    opened = []

    def open_it() -> io.BytesIO:
        opened.append(1)
        return io.BytesIO(path.read_bytes())

    source = Source(0, "a", path.stat().st_size, open_it)
    item = Item(source, read_header(path))
    assert b"".join(item.pieces()) == path.read_bytes()
    assert len(opened) == 1


def test_a_file_that_nobody_sent_fails_alone(tmp_path):
    path = tmp_path / "a.dcm"
    path.write_bytes(part10())
    pieces = item_of(path).pieces()
    assert isinstance(next(pieces), WholeFile)
    with pytest.raises(SourceFailed, match="it changed while it was sent"):
        next(pieces)
