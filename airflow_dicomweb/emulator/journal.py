"""The log of requests, for tests that ask what was really sent. Without query values, headers and bodies."""

from __future__ import annotations

import threading
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

_KEPT = 10_000


@dataclass(slots=True)
class Entry:
    """One request.

    :param status: Status of the answer; None until there is one, and for good when the connection was dropped.
    :param seconds: From the request's first line to the end of the answer.
    :param received: Bytes of the body that were read.
    :param fault: Whether a fault was played on it.
    """

    method: str
    path: str
    parameters: list[str]
    began: float
    status: int | None = None
    seconds: float | None = None
    received: int = 0
    sent: int = 0
    fault: bool = False

    def end(self) -> None:
        """Note that the answer is complete, or that there is none."""
        self.seconds = time.monotonic() - self.began

    def to_json(self) -> dict[str, Any]:
        """Give it as ``GET /_emulator/requests`` lists it."""
        seconds = time.monotonic() - self.began if self.seconds is None else self.seconds
        return {
            "method": self.method,
            "path": self.path,
            "parameters": self.parameters,
            "status": self.status,
            "seconds": round(seconds, 6),
            "received": self.received,
            "sent": self.sent,
            "fault": self.fault,
        }


class Journal:
    """The latest requests, oldest first."""

    def __init__(self) -> None:
        self._entries: deque[Entry] = deque(maxlen=_KEPT)
        self._lock = threading.Lock()

    def begin(self, method: str, path: str, parameters: list[str]) -> Entry:
        """Note a request as it begins."""
        entry = Entry(method, path, parameters, time.monotonic())
        with self._lock:
            self._entries.append(entry)
        return entry

    def clear(self) -> None:
        """Forget them."""
        with self._lock:
            self._entries.clear()

    def to_json(self) -> list[dict[str, Any]]:
        """List them."""
        with self._lock:
            return [entry.to_json() for entry in self._entries]
