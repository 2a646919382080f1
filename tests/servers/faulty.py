"""An HTTP server of raw sockets that fails as it is told, request by request, and keeps what it received."""

from __future__ import annotations

import hashlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self

_COUNTING = "includefield=NumberOf"

DEADLINE = 20.0
"""Seconds after which a connection of this server gives up: tests end, whatever happens."""


@dataclass(frozen=True)
class Fault:
    """What happens to one request.

    :param status: Status of the answer.
    :param headers: Headers besides Content-Length and Connection.
    :param body: Body of the answer.
    :param read: Bytes of the request's body to read before answering or dropping; None for all of it.
    :param drop: Do not answer: ``"close"`` the connection properly, or ``"reset"`` it.
    :param declared: Content-Length to declare, other than the body's length; -1 for none.
    :param cut: Bytes of the body to send before the connection is dropped.
    :param then: What becomes of the connection after the answer: ``"keep"``; ``"close"``, as announced; ``"drop"``,
        closed without a word; ``"reset"``; ``"linger"``, closed on this side, read to its end; ``"stall"``, neither read
        nor closed.
    :param raw: Bytes to send instead of an answer.
    :param pause: Seconds to wait before the body is read.
    :param hold: Set by the test when the answer may go out.
    """

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b"{}"
    read: int | None = None
    drop: str = ""
    declared: int | None = None
    cut: int | None = None
    then: str = "keep"
    raw: bytes = b""
    pause: float = 0.0
    hold: threading.Event | None = None

    def answer(self) -> bytes:
        """Write the answer down."""
        if self.raw:
            return self.raw
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in self.headers)]
        declared = len(self.body) if self.declared is None else self.declared
        if declared >= 0:
            lines.append(f"Content-Length: {declared}")
        if self.then == "close":
            lines.append("Connection: close")
        body = self.body if self.cut is None else self.body[: self.cut]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


@dataclass
class Received:
    """One request, as far as it came.

    :param connection: Number of the connection, from 1.
    :param head: Request line and headers, as they came.
    :param body: Bytes of the body that were read.
    """

    connection: int
    head: bytes
    body: bytes = b""

    @property
    def line(self) -> str:
        """Method and target."""
        return self.head.split(b"\r\n", 1)[0].decode().rpartition(" ")[0]

    @property
    def headers(self) -> list[tuple[str, str]]:
        """Names in lower case, in their order, repeated ones repeated."""
        lines = self.head.decode("latin-1").split("\r\n")[1:]
        return [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines if line)]

    def header(self, name: str) -> list[str]:
        """All values of a header."""
        return [value for key, value in self.headers if key == name]

    @property
    def sha256(self) -> str:
        """Of the body that was read."""
        return hashlib.sha256(self.body).hexdigest()


@dataclass
class FaultyServer:
    """Serves on 127.0.0.1; each request takes the next fault of the script, after the last one all is well.

    :param script: What happens, in the order of the requests.
    :param listening: False to be refused until :meth:`listen` is called.
    :param tls: Server side of TLS, if connections are to be encrypted.
    :param host: Loopback address to bind.
    :param counts: Whether searches for the number of instances are part of the script. If not, they are answered with 404
        and forgotten: the server cannot count.
    """

    script: list[Fault] = field(default_factory=list)
    listening: bool = True
    tls: ssl.SSLContext | None = None
    host: str = "127.0.0.1"
    counts: bool = False
    received: list[Received] = field(default_factory=list)

    def __enter__(self) -> Self:
        family = socket.AF_INET6 if ":" in self.host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.bind((self.host, 0))
        self.port: int = self._socket.getsockname()[1]
        self._stopped, self._lock = threading.Event(), threading.Lock()
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        self._acceptor = threading.Thread(target=self._accept, daemon=True)
        if self.listening:
            self.listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        if self._acceptor.is_alive():
            self._acceptor.join(DEADLINE)
        for connection, thread in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)

    @property
    def url(self) -> str:
        """Base URL."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"http{'s' if self.tls else ''}://{host}:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return len(self._connections)

    def listen(self) -> None:
        """Refuse no more."""
        self._socket.listen(32)
        self._acceptor.start()

    def wait_until_left(self) -> bool:
        """Wait until every client has closed its connection, and tell whether they did."""
        for _, thread in list(self._connections):
            thread.join(DEADLINE / 4)
        return not any(thread.is_alive() for _, thread in self._connections)

    def _accept(self) -> None:
        while not self._stopped.is_set():
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE)
            number = len(self._connections) + 1
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._connections.append((connection, thread))
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        # Whatever a client does to a connection ends that connection and nothing else.
        with suppress(OSError), connection:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
                self._connections[number - 1] = (connection, threading.current_thread())
            with connection, connection.makefile("rb") as stream:
                while self._one(connection, stream, number):
                    pass

    def _one(self, connection: socket.socket, stream, number: int) -> bool:
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            line = stream.readline()
            if not line:
                return False
            head += line
        request = Received(number, head)
        if not self.counts and _COUNTING in request.line:
            connection.sendall(Fault(404).answer())
            return True
        with self._lock:
            self.received.append(request)
            fault = self.script.pop(0) if self.script else Fault()
        self._stopped.wait(fault.pause)
        self._read_body(stream, request, fault)
        if fault.drop:
            return self._leave(connection, stream, fault.drop)
        if fault.hold and not fault.hold.wait(DEADLINE):
            return False
        connection.sendall(fault.answer())
        then = "drop" if fault.cut is not None and fault.then == "keep" else fault.then
        return then == "keep" or self._leave(connection, stream, then)

    def _read_body(self, stream, request: Received, fault: Fault) -> None:
        left = int((request.header("content-length") or ["0"])[0])
        left = left if fault.read is None else min(left, fault.read)
        while left and (block := stream.read(min(left, 65536))):
            request.body += block
            left -= len(block)

    def _leave(self, connection: socket.socket, stream, how: str) -> bool:
        if how == "reset":
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "linger":
            connection.shutdown(socket.SHUT_WR)
            while stream.read(65536):
                pass
        elif how == "stall":
            self._stopped.wait(DEADLINE)
        else:
            connection.shutdown(socket.SHUT_RDWR)
        return False


@contextmanager
def faulty(*script: Fault, **options) -> Iterator[FaultyServer]:
    """Run a server with a script."""
    with FaultyServer(list(script), **options) as server:
        yield server
