"""What the tests of the transport have in common."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass, field

from airflow_dicomweb.dicomweb.auth import Anonymous
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.transport import Transport
from tests.servers.faulty import FaultyServer

QUICK = RetryPolicy(attempts=8, first_wait=0.01, longest_wait=0.02, total_timeout=60.0)
ONCE = RetryPolicy(attempts=1)
CONTENT = os.urandom(3_000_001)

Ask = Callable[[Transport, str, str], bytes]


def transport(server: FaultyServer, **options) -> Transport:
    return Transport(server.url, **{"credentials": Anonymous(), "retry_policy": QUICK, **options})


@dataclass
class Renewable:
    """Credentials that count how often they are asked, and change with each renewal."""

    works: bool = True
    renewals: int = 0
    asked: list[str] = field(default_factory=list)
    identity: str = "somebody@project"

    def headers(self) -> dict[str, str]:
        self.asked.append(f"Bearer secret-{self.renewals}")
        return {"Authorization": self.asked[-1]}

    def refresh(self) -> bool:
        self.renewals += 1
        return self.works


def ask_whole(client: Transport, method: str, path: str) -> bytes:
    return client.send(method, path).content


def ask_streamed(client: Transport, method: str, path: str) -> bytes:
    with client.stream(method, path) as answer:
        return b"".join(answer.blocks())
