"""Routes of the emulator's own: health, requests, faults, settings, logs of operations, and its page.

They need no token, and none of them exists in the service.
"""

from __future__ import annotations

import json
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.page import log_page, main_page
from airflow_dicomweb.emulator.service import Service
from airflow_dicomweb.emulator.settings import Settings


def control(service: Service, request: Request, body: bytes) -> Response:
    """Answer a request of the emulator's own."""
    method, path = request.method, request.url.path
    if method == "GET" and path == "/":
        return HTMLResponse(main_page(service))
    if method == "GET" and path.startswith("/_emulator/logs/"):
        return _logs(service, path.removeprefix("/_emulator/logs/"), request.headers.get("accept", ""))
    answers: dict[str, Any] = {
        "GET /_emulator/health": lambda: {"status": "ok"},
        "GET /_emulator/requests": service.journal.to_json,
        "DELETE /_emulator/requests": service.journal.clear,
        "GET /_emulator/faults": service.faults.to_json,
        "POST /_emulator/faults": lambda: service.faults.add(_parsed(body)),
        "DELETE /_emulator/faults": service.faults.clear,
        "GET /_emulator/settings": service.settings.to_json,
        "POST /_emulator/settings": lambda: _set(service, service.settings.changed(_parsed(body))),
        "DELETE /_emulator/settings": lambda: _set(service, service.first_settings),
    }
    answer = answers.get(f"{method} {path}")
    if answer is None:
        raise ApiError(404, "The emulator has no such page.")
    found = answer()
    return json_answer({} if found is None else found)


def _parsed(body: bytes) -> Any:
    try:
        return json.loads(body)
    except ValueError:
        raise ApiError(400, "JSON is expected") from None


def _set(service: Service, settings: Settings) -> dict[str, Any]:
    service.settings = settings
    return settings.to_json()


def _logs(service: Service, name: str, accept: str) -> Response:
    """Give what an operation logged, as Cloud Logging would show it: JSON, or a page for a browser."""
    try:
        record = service.records.get(name)
    except KeyError:
        raise ApiError(404, "There is no operation of that name.") from None
    failures = service.records.failures(name)
    if "text/html" in accept:
        return HTMLResponse(log_page(record, failures))
    entries = [
        {
            "jsonPayload": {
                "error": {"code": failure.code, "message": failure.message},
                "source": failure.source,
            },
            "operation": {"id": name.rpartition("/")[2], "producer": record.kind},
            "severity": "ERROR",
        }
        for failure in failures
    ]
    return json_answer(entries)
