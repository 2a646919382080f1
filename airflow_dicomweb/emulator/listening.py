"""The HTTP server: uvicorn, taught to say when it is ready, to drop connections, and to end at once and cleanly."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import h11
import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from airflow_dicomweb.emulator.messages import error_body

_KEEP_ALIVE_SECONDS = 240
"""As long as the service keeps idle connections, about: clients may reuse them."""

_SHUTDOWN_SECONDS = 3
"""How long requests under way may take after a signal; idle connections are closed at once."""


class _Protocol(H11Protocol):
    """One connection."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Let the application reach the connection: a fault may drop it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}

    def send_400_response(self, msg: str) -> None:
        """Answer what is no HTTP with the error envelope, as everything else."""
        body = json.dumps(error_body(400, msg)).encode()
        headers: list[tuple[bytes, bytes]] = [
            (b"content-type", b"application/json; charset=UTF-8"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        for event in (h11.Response(status_code=400, headers=headers), h11.Data(data=body), h11.EndOfMessage()):
            self.transport.write(self.conn.send(event) or b"")
        self.transport.close()


class _Server(uvicorn.Server):
    """A server that calls back when it is ready, and whose process ends with status 0 after a signal."""

    def __init__(self, config: uvicorn.Config, when_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._when_ready = when_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self._when_ready()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Take SIGINT and SIGTERM as wishes to end, without raising them again afterwards."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(host: str, port: int) -> socket.socket:
    """Open the socket; port 0 picks a free one.

    :raises OSError: If the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio turns Nagle's algorithm off only for sockets that say that they are TCP; with it, answers take 40 ms.
    opened = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.bind((host, port))
        opened.set_inheritable(False)
    except BaseException:
        opened.close()
        raise
    return opened


def serve(app: ASGIApp, opened: socket.socket, when_ready: Callable[[], None]) -> None:
    """Serve until a signal comes.

    :param when_ready: Called when requests are answered.
    """
    # An answer that was cut on purpose is no error of the server.
    logging.getLogger("uvicorn.error").setLevel(logging.ERROR)
    config = uvicorn.Config(
        app,
        http=_Protocol,
        loop="asyncio",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=_SHUTDOWN_SECONDS,
        backlog=512,
    )
    _Server(config, when_ready).run(sockets=[opened])
