"""A server that answers store, search and retrieve requests from a script, and the client that asks it."""

from __future__ import annotations

import email
import email.policy
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.stow import StoreResult
from tests.servers.faulty import Fault, FaultyServer, Received, faulty

STUDY = "1.2.840.1"
ONCE = RetryPolicy(attempts=1)
QUICK = RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.01)


class Reporting(DicomWebClient):
    """A client for a server that reports conflicts, as the Cloud Healthcare API does."""

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url, server="google", **options)


def sop(number: int) -> str:
    return f"{STUDY}.1.{number}"


def answer(body: object, status: int = 200, content_type: str | None = "application/dicom+json", **more: Any) -> Fault:
    headers = (("Content-Type", content_type),) if content_type else ()
    return Fault(status, headers, body if isinstance(body, bytes) else json.dumps(body).encode(), **more)


def found(*numbers: int) -> Fault:
    """A search that finds these instances."""
    return answer(
        [
            {"0020000E": {"vr": "UI", "Value": [f"{STUDY}.1"]}, "00080018": {"vr": "UI", "Value": [sop(number)]}}
            for number in numbers
        ]
    )


NOTHING = Fault(204, body=b"")


def stored(
    *numbers: int,
    failed: dict[int, int] | None = None,
    warnings: dict[int, int] | None = None,
    status: int = 200,
    content_type: str | None = "application/dicom+json",
) -> Fault:
    """An answer that references some instances and lists others as failed."""
    referenced = [
        {"00081155": {"vr": "UI", "Value": [sop(number)]}}
        | ({"00081196": {"vr": "US", "Value": [warnings[number]]}} if warnings and number in warnings else {})
        for number in numbers
    ]
    refused = [
        {"00081155": {"vr": "UI", "Value": [sop(number)]}, "00081197": {"vr": "US", "Value": [code]}}
        for number, code in (failed or {}).items()
    ]
    body: dict[str, Any] = {"00081199": {"vr": "SQ", "Value": referenced}}
    if failed is not None:
        body["00081198"] = {"vr": "SQ", "Value": refused}
    return answer(body, status, content_type)


def instance(content: bytes) -> Fault:
    return answer(content, content_type="application/dicom")


@contextmanager
def storing(
    *script: Fault, client: type[DicomWebClient] = DicomWebClient, policy: RetryPolicy = ONCE, **options: Any
) -> Iterator[tuple[DicomWebClient, FaultyServer]]:
    with (
        faulty(*script) as server,
        client(f"{server.url}/dicom-web", credentials=Bearer("t"), retry_policy=policy, **options) as made,
    ):
        yield made, server


def kinds(result: StoreResult) -> list[str]:
    return [each.outcome for each in result.outcomes]


def posts(server: FaultyServer) -> list[Received]:
    return [each for each in server.received if each.line.startswith("POST")]


def sent(request: Received) -> list[bytes]:
    """Parts of a multipart request, read by the standard library."""
    head = f"Content-Type: {request.header('content-type')[0]}\r\n\r\n".encode()
    message = email.message_from_bytes(head + request.body, policy=email.policy.HTTP)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    assert not message.defects
    found = []
    for part in message.iter_parts():
        assert part.get_content_type() == "application/dicom"
        found.append(part.get_payload(decode=True))
    return found
