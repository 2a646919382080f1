"""What a client needs besides a server to be put to the proof: credentials, and somebody who opens the door again."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from airflow_dicomweb.dicomweb.auth import Credentials
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from tests.faults.cases import Case
from tests.faults.servers import Server
from tests.servers.fault_proxy import FaultProxy

POLICY = RetryPolicy(attempts=4, first_wait=0.02, longest_wait=0.02, total_timeout=30.0)


@dataclass
class Renewable:
    """Credentials that say of themselves that a new try makes sense."""

    real: Credentials
    renewals: int = 0
    identity: str = "somebody"

    def headers(self) -> dict[str, str]:
        return self.real.headers()

    def refresh(self) -> bool:
        self.renewals += 1
        return True


class Reopening(logging.Handler):
    """Lets the proxy listen again as soon as the client was refused."""

    def __init__(self, proxy: FaultProxy) -> None:
        super().__init__(logging.INFO)
        self._proxy, self.seen = proxy, 0

    def emit(self, record: logging.LogRecord) -> None:
        if "connection refused" in record.getMessage():
            if not self.seen:
                self._proxy.listen()
            self.seen += 1


@contextmanager
def reopening(proxy: FaultProxy) -> Iterator[Reopening]:
    handler, log = Reopening(proxy), logging.getLogger("airflow_dicomweb.dicomweb.retries")
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield handler
    finally:
        log.removeHandler(handler)
        log.setLevel(level)


def client_of(server: Server, case: Case, proxy: FaultProxy) -> DicomWebClient:
    """The client that a case wants, turned to the proxy."""
    options: dict[str, Any] = {"retry_policy": POLICY, "request_timeout": case.request_timeout}
    if case.renewable:
        options["credentials"] = Renewable(server.credentials)
    return server.client(proxy.url, **options)
