"""A server that only moves bytes: what is stored is counted and dropped, what is retrieved goes from a file to the wire.

``python -m benchmarks.mover FILE`` serves what the JSON file describes, and prints its address. Each shelf is a DICOMweb
service of its own below ``/NAME``: searches, stores and retrievals of one study. It is the limit of what any client
could reach, so it looks at as few bytes as it can: the size of the instances is known, and only what lies between them
is read. A shelf with digests looks at each byte instead, to see once that they are right.

Source: RFC 9112 (framing of requests), DICOM PS3.18 chapter 10.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

_BLOCK: Final = 1 << 20
_MOST_HEAD: Final = 64 << 10
_INSTANCE = re.compile(rb"\x08\x00\x18\x00UI(..)([0-9.]+)", re.DOTALL)
_BEGINNING: Final = 1024
"""So many bytes of an instance hold its UIDs; those of generated ones do."""


class Tally:
    """What came to a shelf; safe for several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Forget everything."""
        self.requests, self.instances, self.bytes, self.wrong = 0, set[str](), 0, 0

    def add(self, instances: list[str], size: int, wrong: int) -> None:
        """Count what one request brought."""
        with self._lock:
            self.requests += 1
            self.instances |= set(instances)
            self.bytes += size
            self.wrong += wrong


class Shelf:
    """One study, and what is to be done with requests about it.

    :param described: ``study``, ``series``, ``instances`` (SOP Instance UIDs), ``size`` of each, ``body`` (path of the
        multipart body), ``boundary``; ``holds``: whether searches and retrievals find it; ``delay``: seconds before a
        store is answered; ``digests``: SHA-256 by SOP Instance UID, to check what comes.
    """

    def __init__(self, described: dict[str, Any]) -> None:
        self.study, self.series, self.size = described["study"], described["series"], described["size"]
        self.body, self.boundary = described["body"], described["boundary"]
        self.delay, self.digests = described["delay"], described["digests"]
        self.holds = described["holds"]
        self.instances: list[str] = described["instances"]
        self.tally = Tally()

    def found(self, path: str, query: dict[str, list[str]]) -> list[dict[str, Any]]:
        """Give the results of a search as DICOM JSON."""
        if not self.holds:
            return []
        level = path.rpartition("/")[2]
        common = {"0020000D": _element(self.study)}
        if level == "studies":
            count = _element(len(self.instances), "IS")
            results = [{**common, "00201206": _element(1, "IS"), "00201208": count}]
        else:
            common["0020000E"] = _element(self.series)
            if level == "series":
                results = [{**common, "00201209": _element(len(self.instances), "IS")}]
            else:
                results = [{**common, "00080018": _element(uid)} for uid in self.instances]
        offset = int(query.get("offset", ["0"])[0])
        limit = int(query.get("limit", [str(len(results))])[0])
        return results[offset : offset + limit]


def _element(value: object, vr: str = "UI") -> dict[str, Any]:
    return {"vr": vr, "Value": [value]}


class Parts:
    """Reader of a multipart body whose parts have one known size.

    :param shelf: Knows the size, and the digests if they are to be checked.
    """

    def __init__(self, shelf: Shelf) -> None:
        self.instances: list[str] = []
        self.wrong = 0
        self.size = 0
        self._part_size, self._digests = shelf.size, shelf.digests
        self._left = 0
        self._between = bytearray()
        self._summed = hashlib.sha256()

    def feed(self, block: memoryview) -> None:
        """Take the next bytes of the body."""
        while block:
            if self._left:
                taken = block[: self._left]
                if self._digests:
                    self._summed.update(taken)
                self._left -= len(taken)
                if not self._left:
                    self._judge()
            else:
                # The rest of what lies between two instances, and the beginning of the second one.
                taken = block[: _BEGINNING + 512 - len(self._between)]
                self._between += taken
                if len(self._between) == _BEGINNING + 512:
                    self._begin()
            block = block[len(taken) :]

    def finish(self) -> None:
        """Say that no more bytes come."""
        if self._left or not self._between.rstrip().endswith(b"--") or len(self._between) > 200:
            self.wrong += 1

    def _begin(self) -> None:
        start = self._between.find(b"\r\n\r\n") + 4
        uid = _INSTANCE.search(self._between, start)
        if start < 4 or uid is None or not self._between.lstrip().startswith(b"--"):
            self.wrong += 1
            self._between.clear()
            return
        self.instances.append(uid[2].decode())
        if self._digests:
            self._summed = hashlib.sha256(self._between[start:])
        self._left = self._part_size - (len(self._between) - start)
        self.size += self._part_size
        self._between.clear()

    def _judge(self) -> None:
        if self._digests and self._digests.get(self.instances[-1]) != self._summed.hexdigest():
            self.wrong += 1


class Request:
    """One request on its way in.

    :param connection: Reads it.
    :param head: Its lines up to the empty one.
    """

    def __init__(self, connection: Connection, head: bytes) -> None:
        lines = head.decode("latin-1").split("\r\n")
        self.method, target, _ = lines[0].split(" ", 2)
        parts = urlsplit(target)
        self.path, self.query = parts.path, parse_qs(parts.query)
        self.headers = {
            name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines[1:])
        }
        self._connection = connection

    def body(self) -> Iterator[memoryview]:
        """Read the body as it comes."""
        if self.headers.get("expect", "").lower() == "100-continue":
            self._connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.headers.get("transfer-encoding", "").lower() != "chunked":
            yield from self._connection.take(int(self.headers.get("content-length", "0")))
            return
        while size := int(self._connection.line().split(b";")[0], 16):
            yield from self._connection.take(size)
            self._connection.line()
        self._connection.line()


class Connection:
    """One connection of a client.

    :param opened: Its socket.
    """

    def __init__(self, opened: socket.socket) -> None:
        self._socket = opened
        self._buffer = bytearray(_BLOCK)
        self._start = self._end = 0

    def requests(self) -> Iterator[Request]:
        """Give the requests one by one; the body of each must be read before the next."""
        while (head := self._until(b"\r\n\r\n")) is not None:
            yield Request(self, head)

    def line(self) -> bytes:
        """Read up to a line end."""
        return self._until(b"\r\n") or b"0"

    def take(self, size: int) -> Iterator[memoryview]:
        """Read so many bytes, in blocks that are good until the next one."""
        while size:
            if self._start == self._end and not self._fill():
                raise ConnectionError("the client left in the middle of a body")
            block = memoryview(self._buffer)[self._start : min(self._end, self._start + size)]
            self._start += len(block)
            size -= len(block)
            yield block

    def send(self, content: bytes) -> None:
        """Send bytes."""
        self._socket.sendall(content)

    def send_file(self, path: str) -> None:
        """Send a file, without a copy through this process."""
        with Path(path).open("rb") as file:
            size, offset = os.fstat(file.fileno()).st_size, 0
            while offset < size:
                offset += os.sendfile(self._socket.fileno(), file.fileno(), offset, min(size - offset, 1 << 30))

    def _fill(self) -> bool:
        self._start, self._end = 0, self._socket.recv_into(self._buffer)
        return self._end > 0

    def _until(self, mark: bytes) -> bytes | None:
        found = bytearray()
        while mark not in found:
            if len(found) > _MOST_HEAD:
                raise ConnectionError("a head without an end")
            if self._start == self._end and not self._fill():
                return None
            found += self._buffer[self._start : self._end]
            self._start = self._end
        end = found.index(mark)
        self._start -= len(found) - end - len(mark)
        return bytes(found[:end])


class Mover:
    """Answers requests for shelves.

    :param shelves: By name.
    """

    def __init__(self, shelves: dict[str, Shelf]) -> None:
        self._shelves = shelves

    def serve(self, opened: socket.socket) -> None:
        """Answer the requests of one connection."""
        opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = Connection(opened)
        try:
            for request in connection.requests():
                name, _, path = request.path.strip("/").partition("/")
                shelf = self._shelves.get(name)
                answers: dict[str, Callable[[Connection, Request, Shelf, str], None]]
                answers = {"GET": _get, "POST": _store, "DELETE": _reset}
                if shelf is None or request.method not in answers:
                    for _ in request.body():
                        pass
                    _answer(connection, 404)
                else:
                    answers[request.method](connection, request, shelf, path)
        except (ConnectionError, ValueError):
            pass
        finally:
            opened.close()


def _get(connection: Connection, request: Request, shelf: Shelf, path: str) -> None:
    for _ in request.body():
        pass
    if path == "tally":
        tally = shelf.tally
        counted = {"instances": len(tally.instances), "bytes": tally.bytes, "wrong": tally.wrong}
        _answer(connection, 200, json.dumps({**counted, "requests": tally.requests}).encode(), "application/json")
    elif path.rpartition("/")[2] in {"studies", "series", "instances"}:
        found = shelf.found(path, request.query)
        _answer(connection, 200 if found else 204, json.dumps(found).encode() if found else b"")
    elif shelf.holds and shelf.study in path:
        size = Path(shelf.body).stat().st_size
        media_type = f'multipart/related; type="application/dicom"; boundary={shelf.boundary}'
        connection.send(_head(200, size, media_type))
        connection.send_file(shelf.body)
    else:
        _answer(connection, 404)


def _store(connection: Connection, request: Request, shelf: Shelf, _path: str) -> None:
    parts = Parts(shelf)
    for block in request.body():
        parts.feed(block)
    parts.finish()
    shelf.tally.add(parts.instances, parts.size, parts.wrong)
    if shelf.delay:
        time.sleep(shelf.delay)
    stored = [{"00081150": _element("1.2.840.10008.5.1.4.1.1.2"), "00081155": _element(uid)} for uid in parts.instances]
    content = json.dumps({"00081199": {"vr": "SQ", "Value": stored}}).encode()
    _answer(connection, 400 if parts.wrong else 200, content)


def _reset(connection: Connection, request: Request, shelf: Shelf, _path: str) -> None:
    for _ in request.body():
        pass
    shelf.tally.reset()
    _answer(connection, 204)


def _answer(
    connection: Connection, status: int, content: bytes = b"", media_type: str = "application/dicom+json"
) -> None:
    connection.send(_head(status, len(content), media_type) + content)


def _head(status: int, size: int, media_type: str) -> bytes:
    lines = [f"HTTP/1.1 {status} as it is"]
    if status != 204:
        lines += [f"Content-Type: {media_type}", f"Content-Length: {size}"]
    return "\r\n".join([*lines, "", ""]).encode()


def main(described: str) -> None:
    """Serve until the process is ended.

    :param described: Path of a JSON object of shelves by name.
    """
    shelves = {name: Shelf(shelf) for name, shelf in json.loads(Path(described).read_text()).items()}
    mover = Mover(shelves)
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        print(f"Listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        while True:
            opened, _ = listening.accept()
            threading.Thread(target=mover.serve, args=(opened,), daemon=True).start()


if __name__ == "__main__":
    main(sys.argv[1])
