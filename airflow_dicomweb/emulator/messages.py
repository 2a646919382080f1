"""What every answer of the emulator looks like: Google's error envelope, and JSON as Google writes it.

Handlers raise :class:`ApiError` for a client's mistake; one place shapes the envelope.

Source: google.rpc.Code and google.rpc.Status; Cloud Healthcare API v1 discovery document.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from starlette.responses import Response, StreamingResponse

from airflow_dicomweb.dicomweb.media_types import DICOM_JSON

_BLOCK_SIZE = 64 * 1024

STATUS_NAMES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    # Neither is in google.rpc.Code; Google's front end answers both with this envelope and a status of its own making.
    405: "INVALID_ARGUMENT",
    406: "INVALID_ARGUMENT",
    408: "DEADLINE_EXCEEDED",
    409: "ALREADY_EXISTS",
    412: "FAILED_PRECONDITION",
    413: "INVALID_ARGUMENT",
    425: "UNAVAILABLE",
    429: "RESOURCE_EXHAUSTED",
    499: "CANCELLED",
    500: "INTERNAL",
    501: "UNIMPLEMENTED",
    502: "UNAVAILABLE",
    503: "UNAVAILABLE",
    504: "DEADLINE_EXCEEDED",
}

# google.rpc.Code, as operations carry them.
CANCELLED, INVALID_ARGUMENT, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED, INTERNAL, UNAVAILABLE = 1, 3, 5, 6, 7, 13, 14


class ApiError(Exception):
    """A request that is answered with an error.

    :param code: HTTP status.
    :param message: What was wrong, for the envelope; it goes to the caller alone, never to a log.
    :param status: Name of the ``google.rpc.Code``; by default the one that belongs to the HTTP status.
    """

    def __init__(self, code: int, message: str, status: str | None = None) -> None:
        self.code, self.message, self.status = code, message, status
        super().__init__(message)


def error_body(code: int, message: str, status: str | None = None) -> dict[str, Any]:
    """Give Google's error envelope."""
    name = status or STATUS_NAMES.get(code) or ("UNKNOWN" if code >= 500 else "FAILED_PRECONDITION")
    return {"error": {"code": code, "message": message, "status": name}}


def error_answer(
    code: int, message: str, status: str | None = None, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer with the error envelope."""
    answer = json_answer(error_body(code, message, status), code)
    answer.headers.update(headers or {})
    if code == 401:
        answer.headers["www-authenticate"] = 'Bearer realm="https://accounts.google.com/"'
    return answer


def json_answer(body: object, code: int = 200) -> Response:
    """Answer with JSON, printed as Google prints it."""
    text = json.dumps(body, indent=2, ensure_ascii=False) + "\n"
    return Response(text.encode("utf-8", "replace"), code, media_type="application/json; charset=UTF-8")


def dicom_json_answer(body: object, code: int = 200) -> Response:
    """Answer with DICOM JSON."""
    return Response(dicom_json_bytes(body), code, media_type=DICOM_JSON)


def dicom_json_bytes(body: object) -> bytes:
    """Write DICOM JSON, without blanks."""
    # What cannot be UTF-8 (a lone surrogate out of a damaged file) is replaced: the answer stays readable.
    text = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    return text.encode("utf-8", "replace")


def dicom_json_stream(data_sets: Iterable[object]) -> Response:
    """Answer with an array of DICOM JSON that is written while it is sent."""
    return StreamingResponse(_array(data_sets), media_type=DICOM_JSON)


def _array(data_sets: Iterable[object]) -> Iterator[bytes]:
    # Each block costs a change of threads: many data sets make one.
    block = bytearray(b"[")
    for index, data_set in enumerate(data_sets):
        block += (b"," if index else b"") + dicom_json_bytes(data_set)
        if len(block) >= _BLOCK_SIZE:
            yield bytes(block)
            block.clear()
    yield bytes(block) + b"]"
