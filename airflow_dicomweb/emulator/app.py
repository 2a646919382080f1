"""The ASGI application: journal, faults and authentication around the routes.

Handlers are plain functions and run in threads; only the reading of a request's body and the plumbing are async.
"""

from __future__ import annotations

import asyncio
import json
import logging
import threading
from collections.abc import AsyncIterator, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NoReturn, TypeVar

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from airflow_dicomweb.emulator.control import control
from airflow_dicomweb.emulator.faults import Fault
from airflow_dicomweb.emulator.journal import Entry
from airflow_dicomweb.emulator.messages import ApiError, error_answer
from airflow_dicomweb.emulator.proto_json import MAX_BODY_BYTES
from airflow_dicomweb.emulator.routes import find_route
from airflow_dicomweb.emulator.service import Call, Service
from airflow_dicomweb.emulator.stow import Upload

T = TypeVar("T")

_log = logging.getLogger(__name__)

_THREADS = ThreadPoolExecutor(40, "request")
_LOOPBACK = {"127.0.0.1", "localhost", "[::1]"}
_UPLOAD_BLOCK_SIZE = 1024 * 1024
# What Google's front end takes from any query; none of it is a DICOM attribute.
_SYSTEM_PARAMETERS = frozenset(
    [
        "$.xgafv",
        "access_token",
        "alt",
        "callback",
        "fields",
        "key",
        "oauth_token",
        "prettyPrint",
        "pretty_print",
        "quotaUser",
        "upload_protocol",
        "uploadType",
        "$alt",
        "$callback",
        "$fields",
        "$key",
        "$prettyPrint",
        "$upload_protocol",
        "bearer_token",
        "pp",
    ]
)


class _DroppedError(Exception):
    """The connection was closed without an answer."""


def application(service: Service) -> ASGIApp:
    """Give the application over one service."""

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "http":
            await _Exchange(service, scope, receive, send).run()

    return app


async def _live(receive: Receive, send: Send) -> None:
    for word in ("startup", "shutdown"):
        await receive()
        await send({"type": f"lifespan.{word}.complete"})


class _Exchange:
    """One request and its answer."""

    def __init__(self, service: Service, scope: Scope, receive: Receive, send: Send) -> None:
        self._service, self._scope, self._send = service, scope, send
        self._request = Request(scope, self._receive_counted)
        self._receive = receive
        self._entry: Entry | None = None
        self._fault: Fault | None = None
        self._closed = False

    async def run(self) -> None:
        """Answer the request."""
        path = self._scope["path"]
        if path == "/" or path.startswith("/_emulator/"):
            await (await self._controlled())(self._scope, self._request.receive, self._send)
            return
        self._entry = self._service.journal.begin(
            self._request.method, path, sorted(set(self._request.query_params.keys()))
        )
        self._fault = self._service.faults.take(self._request.method, path)
        try:
            answer = await self._answered()
            await answer(self._scope, self._request.receive, self._send_counted)
        except (_DroppedError, ClientDisconnect):
            self._closed = True
        finally:
            self._entry.end()
        while self._closed and (await self._receive())["type"] != "http.disconnect":
            pass  # What is left of the request; uvicorn complains when an answer is missing and the connection is not.

    async def _controlled(self) -> Response:
        body = await _body(self._request)
        return await _guarded(control, self._service, self._request, body)

    async def _answered(self) -> Response:
        fault = self._fault
        if fault is None or self._entry is None:
            return await self._handled()
        self._entry.fault = True
        await asyncio.sleep(fault.delay)
        if fault.drop == "before":
            self._drop()
        if fault.status is not None:
            return error_answer(fault.status, "a fault was asked for", headers=fault.headers)
        answer = await self._handled()
        if fault.drop == "after":
            self._drop()
        return answer

    def _drop(self) -> NoReturn:
        self._scope["state"]["transport"].abort()
        raise _DroppedError

    async def _handled(self) -> Response:
        request = self._request
        try:
            self._check_token()
            raw_path = request.scope.get("raw_path") or request.scope["path"].encode()
            route, names = find_route(request.method, raw_path.decode("ascii", "replace"))
        except ApiError as error:
            return error_answer(error.code, error.message, error.status)
        call = self._call(names)
        if route.handler is None:
            return self._seen(await _guarded_upload(call, request))
        try:
            call = self._call(names, await _body(request))
        except ApiError as error:
            return error_answer(error.code, error.message, error.status)
        return self._seen(await _guarded(route.handler, call))

    def _seen(self, answer: Response) -> Response:
        """Give an answer as a service that does not say what exists gives it, if the settings want that."""
        if answer.status_code != 404 or self._service.settings.missing_status == 404:
            return answer
        return error_answer(403, json.loads(bytes(answer.body))["error"]["message"])

    def _check_token(self) -> None:
        scheme, _, token = self._request.headers.get("authorization", "").partition(" ")
        query = self._request.query_params
        given = token.strip() if scheme.lower() == "bearer" else ""
        given = given or query.get("access_token", "") or query.get("oauth_token", "")
        if given and given not in self._service.settings.rejected_tokens:
            return
        raise ApiError(
            401,
            "Request is missing required authentication credential. Expected OAuth 2 access token, login cookie or "
            "other valid authentication credential.",
        )

    def _call(self, names: Mapping[str, str], body: bytes = b"") -> Call:
        request = self._request
        return Call(
            service=self._service,
            origin=f"{request.scope['scheme']}://{_host(request)}",
            method=request.method,
            path=request.scope["path"],
            version=names["version"],
            names=names,
            query=[pair for pair in request.query_params.multi_items() if pair[0] not in _SYSTEM_PARAMETERS],
            headers=request.headers,
            body=body,
        )

    async def _receive_counted(self) -> Message:
        message = await self._receive()
        if self._entry is not None:
            self._entry.received += len(message.get("body", b""))
        return message

    async def _send_counted(self, message: Message) -> None:
        entry, fault = self._entry, self._fault
        if entry is None or self._closed:
            return
        if message["type"] == "http.response.start":
            entry.status = message["status"]
        body: bytes = message.get("body", b"")
        if fault is not None and fault.cut is not None and body and entry.sent + len(body) >= fault.cut:
            # What was sent goes out, and then the connection is closed: the answer stops in its middle.
            message = {**message, "body": body[: fault.cut - entry.sent], "more_body": True}
            self._closed = True
        entry.sent += len(message.get("body", b""))
        await self._send(message)
        if self._closed:
            self._scope["state"]["transport"].close()


def _host(request: Request) -> str:
    """Give whom the client asks, for the URLs in the answer."""
    address, port = request.scope.get("server") or ("127.0.0.1", 80)
    host = request.headers.get("host") or str(address)
    # dicomweb-client leaves the port out, and would then look for what it finds at port 80 of this machine.
    return f"{host}:{port}" if host in _LOOPBACK else host


async def _body(request: Request) -> bytes:
    """Read the whole body of a request that is no store transaction.

    :raises ApiError: 413 if it is larger than the service takes.
    """
    read = bytearray()
    async for block in request.stream():
        read += block
        if len(read) > MAX_BODY_BYTES:
            raise ApiError(413, f"The request body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(read)


async def _in_thread(work: Callable[..., T], *arguments: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_THREADS, work, *arguments)


async def _guarded(handler: Any, *arguments: Any) -> Response:
    """Run a handler in a thread; whatever it raises becomes an error envelope."""
    try:
        answer: Response = await _in_thread(handler, *arguments)
    except ApiError as error:
        return error_answer(error.code, error.message, error.status)
    except Exception:  # noqa: BLE001 - a caller gets an envelope, whatever happened
        _log.exception("A handler broke: a defect of the emulator")
        return error_answer(500, "internal error")
    return answer


async def _guarded_upload(call: Call, request: Request) -> Response:
    upload = _Upload(call)
    try:
        async for blocks, is_last in _blocks(request):
            answer = await _in_thread(upload.take, blocks, is_last)
            if answer is not None:
                return answer
        raise ClientDisconnect
    finally:
        if upload.is_open:
            await _in_thread(upload.close)


class _Upload:
    """A store transaction as threads work on it: each change of threads costs as much as storing a small file."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._upload: Upload | None = None
        self._busy = threading.Lock()

    @property
    def is_open(self) -> bool:
        """Whether something is left to be removed."""
        return self._upload is not None

    def take(self, blocks: list[bytes], is_last: bool) -> Response | None:  # noqa: FBT001
        """Take blocks of the body; give the answer as soon as there is one."""
        answer: Response | None = None
        with self._busy:
            try:
                self._upload = self._upload or Upload(self._call)
                for block in blocks:
                    self._upload.feed(block)
                answer = self._upload.finish() if is_last else None
            except ApiError as error:
                answer = error_answer(error.code, error.message, error.status)
            except Exception:  # noqa: BLE001 - a caller gets an envelope, whatever happened
                _log.exception("A store transaction broke: a defect of the emulator")
                answer = error_answer(500, "internal error")
            if answer is not None:
                self._remove()
        return answer

    def close(self) -> None:
        """Remove what was received and not stored.

        A request that the end of the emulator cancels may be just about to be stored: then its files must stay.
        """
        with self._busy:
            self._remove()

    def _remove(self) -> None:
        upload, self._upload = self._upload, None
        if upload is not None:
            upload.close()


async def _blocks(request: Request) -> AsyncIterator[tuple[list[bytes], bool]]:
    """Give the body in lists of blocks, and whether that was all."""
    blocks: list[bytes] = []
    size, more = 0, True
    while more:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        more = message.get("more_body", False)
        blocks.append(message.get("body", b""))
        size += len(blocks[-1])
        if size >= _UPLOAD_BLOCK_SIZE or not more:
            yield blocks, not more
            blocks, size = [], 0
