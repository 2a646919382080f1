"""A proxy of raw sockets before a real server: it relays, and alters, cuts, withholds or invents what a test asks for.

The server behind it holds state, so a test can compare what a client says with what is there. Every fault counts how
often it happened: one that did not happen has tested nothing.
"""

from __future__ import annotations

import http.client
import re
import socket
import struct
import threading
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

DEADLINE = 30.0
"""Seconds after which a connection, to either side, is given up: tests end, whatever happens."""

_HOP_BY_HOP = {"connection", "keep-alive", "transfer-encoding", "content-length"}
Headers = list[tuple[str, str]]


@dataclass
class Reply:
    """An answer: the server's, or one that is invented.

    :param status: HTTP status.
    :param headers: Without those about the connection and the length.
    :param body: Whole.
    """

    status: int
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: str) -> str:
        """First value of a header, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def with_header(self, name: str, value: str | None) -> Reply:
        """The same with a header replaced, or without it."""
        kept = [(key, old) for key, old in self.headers if key.lower() != name.lower()]
        return Reply(self.status, kept if value is None else [*kept, (name, value)], self.body)

    def with_body(self, body: bytes) -> Reply:
        """The same with another body."""
        return Reply(self.status, self.headers, body)

    def head(self, *lengths: str) -> bytes:
        """Status line and headers; ``lengths`` are lines that say how long the body is."""
        lines = [f"HTTP/1.1 {self.status} Whatever", *(f"{name}: {value}" for name, value in self.headers), *lengths]
        return "\r\n".join([*lines, "", ""]).encode("latin-1")

    def wire(self) -> bytes:
        """As it is sent when nothing is wrong."""
        bodiless = self.status == 204 or self.status < 200
        return self.head(*([] if bodiless else [f"Content-Length: {len(self.body)}"])) + self.body


class UpstreamError(Exception):
    """The server behind the proxy did not answer: no fault of the client's, and none that was asked for."""


class Exchange:
    """One request in the hands of the proxy, and the connection that it came over."""

    def __init__(self, proxy: FaultProxy, connection: socket.socket, stream, head: bytes, number: int) -> None:
        self.proxy, self.connection, self._stream, self.number = proxy, connection, stream, number
        first, *lines = head.decode("latin-1").split("\r\n")
        self.method, self.target, _ = first.split(" ", 2)
        self.headers: Headers = [
            (name, value.strip()) for name, _, value in (line.partition(":") for line in lines if line)
        ]
        self._unread = int(self.header("Content-Length") or 0)
        self.length = self._unread
        self._body = b""
        self.over = False
        """The connection is not to be used further."""

    def header(self, name: str) -> str:
        """First value of a header of the request, or an empty string."""
        return next((value for key, value in self.headers if key.lower() == name.lower()), "")

    def read(self, most: int | None = None) -> bytes:
        """Read the body, or so many bytes more of it; gives all that was read so far."""
        left = self._unread if most is None else min(most, self._unread)
        while left:
            block = self._stream.read(left)
            if not block:
                raise ConnectionAbortedError("the client left in the middle of its request")
            self._body += block
            self._unread -= len(block)
            left -= len(block)
        return self._body

    def forward(self, body: bytes | None = None) -> Reply:
        """Send the request to the server, or another body in its place, and give the server's answer."""
        content = self.read() if body is None else body
        upstream = http.client.HTTPConnection(self.proxy.host, self.proxy.server_port, timeout=DEADLINE)
        try:
            self._start(upstream, len(content))
            upstream.send(content)
            response = upstream.getresponse()
            headers = [(name, value) for name, value in response.getheaders() if name.lower() not in _HOP_BY_HOP]
            return Reply(response.status, headers, response.read())
        except OSError as error:
            raise UpstreamError(f"{self.method} {self.target}") from error
        finally:
            upstream.close()

    def forward_part(self, size: int) -> None:
        """Let the server have the beginning of the request, and nothing more."""
        upstream = http.client.HTTPConnection(self.proxy.host, self.proxy.server_port, timeout=DEADLINE)
        try:
            self._start(upstream, self.length)
            upstream.send(self.read(size)[:size])
        finally:
            upstream.close()

    def _start(self, upstream: http.client.HTTPConnection, length: int) -> None:
        upstream.putrequest(self.method, self.target, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers:
            if name.lower() not in _HOP_BY_HOP:
                upstream.putheader(name, value)
        if self.method not in {"GET", "HEAD", "DELETE"} or length:
            upstream.putheader("Content-Length", str(length))
        upstream.putheader("Connection", "close")
        upstream.endheaders()

    def send(self, data: bytes) -> None:
        """Send bytes to the client."""
        self.connection.sendall(data)

    def close(self) -> None:
        """End the connection in both directions, without a word."""
        self.over = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def reset(self) -> None:
        """End the connection with a reset: what is on its way is lost."""
        self.over = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def half_close(self) -> None:
        """Send no more, and read what still comes until the client leaves."""
        self.over = True
        self.connection.shutdown(socket.SHUT_WR)
        while self._stream.read(65536):
            pass

    def stall(self) -> None:
        """Say nothing until the client leaves."""
        self.over = True
        while self._stream.read(65536):
            pass


Action = Callable[[Exchange], None]


def relay(exchange: Exchange) -> None:
    """Do nothing to a request and its answer."""
    exchange.send(exchange.forward().wire())


@dataclass
class Trap:
    """A fault, and the requests that it happens to.

    :param method: Of these requests.
    :param pattern: Found in their path, without the query.
    :param action: What happens.
    :param times: To how many of them; None for all.
    :param skip: How many pass before the first.
    """

    method: str
    pattern: str
    action: Action
    times: int | None = 1
    skip: int = 0
    fired: int = 0

    def takes(self, exchange: Exchange) -> bool:
        """Tell whether the fault happens to this request, and count it."""
        path = exchange.target.partition("?")[0]
        if exchange.method != self.method or not re.search(self.pattern, path):
            return False
        if self.times is not None and self.fired >= self.times:
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.fired += 1
        return True


class FaultProxy:
    """Listens on 127.0.0.1 and relays to a server there.

    :param server_url: Root of the server.
    :param traps: Faults; the first that takes a request has it, the others are relayed.
    """

    def __init__(self, server_url: str, traps: Iterable[Trap] = ()) -> None:
        parts = urlsplit(server_url)
        self.host, self.server_port = parts.hostname or "", parts.port or 80
        self.traps = list(traps)
        self.requests: list[tuple[str, str]] = []
        """Method and path of each request."""
        self.problems: list[BaseException] = []
        """What went wrong in the proxy itself: a test that finds something here has proved nothing."""

    @property
    def url(self) -> str:
        """Root to which clients turn in place of the server's."""
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> Self:
        self._lock, self.stopped = threading.Lock(), threading.Event()
        self._connections: list[tuple[socket.socket, threading.Thread]] = []
        # Bound and never listening: the port stays ours while connections are refused.
        self._holder = self._bound(0)
        self.port: int = self._holder.getsockname()[1]
        self.listen()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.stopped.set()
        self.refuse()
        self._holder.close()
        for connection, thread in self._connections:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(DEADLINE)

    def listen(self) -> None:
        """Accept connections."""
        self._listener = self._bound(self.port)
        self._listener.listen(64)
        self._acceptor = threading.Thread(target=self._accept, args=[self._listener], daemon=True)
        self._acceptor.start()

    def refuse(self) -> None:
        """Refuse connections, until :meth:`listen` is called again."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join(DEADLINE)

    @property
    def connections(self) -> int:
        """How many connections were accepted."""
        return len(self._connections)

    def _bound(self, port: int) -> socket.socket:
        made = socket.socket()
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind(("127.0.0.1", port))
        return made

    def _accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            connection.settimeout(DEADLINE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            thread = threading.Thread(target=self._serve, args=[connection], daemon=True)
            self._connections.append((connection, thread))
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        number = 0
        try:
            with connection, connection.makefile("rb") as stream:
                while (head := _head(stream)) is not None:
                    number += 1
                    exchange = Exchange(self, connection, stream, head, number)
                    self._action_for(exchange)(exchange)
                    if exchange.over:
                        return
        except OSError:
            pass  # a client may leave when it likes
        except Exception as problem:  # noqa: BLE001 - reported to the test, which asks for it
            self.problems.append(problem)

    def _action_for(self, exchange: Exchange) -> Action:
        with self._lock:
            self.requests.append((exchange.method, exchange.target.partition("?")[0]))
            return next((trap.action for trap in self.traps if trap.takes(exchange)), relay)


def _head(stream) -> bytes | None:
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        line = stream.readline(65536)
        if not line:
            return None
        head += line
    return head[:-4]
