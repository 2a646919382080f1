"""What a task remembers across its tries about the operation that it started.

One record in Airflow's task state store, which outlives retries and clears. It is written before the request
(``submitting``), after it (``submitted``), and when the operation's end has been dealt with (``consumed``).

Source: Apache Airflow, "Task state store" (AIP-103).
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, Protocol

from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_dicomweb.errors import EventError

KEY = "dicomweb_operation"

Phase = Literal["submitting", "submitted", "consumed"]
_PHASES = ("submitting", "submitted", "consumed")
# The arguments may hold a patient's id, and there are few of those: a plain digest could be tried out.
_ROUNDS = 200_000


class StateStore(Protocol):
    """What is asked of ``context["task_state_store"]``."""

    def get(self, key: str) -> Any: ...

    def set(self, key: str, value: Any, *, retention: Any) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An operation that a task waits for.

    :param operation: Its full name; None if the service was done at once.
    :param submitted_at: Unix time, from before the request.
    :param found: It was found in the service's list, and may be somebody else's: it is never cancelled.
    :param restart: Its cancellation had been asked for already when this try took it up.
    :param details: What the operator must remember about it. Builtins only.
    """

    operation: str | None
    submitted_at: float
    found: bool = False
    restart: bool = False
    details: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it for an event."""
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Started:
        """Read it from an event.

        :raises EventError: If it was written by another version.
        """
        try:
            return cls(**body)
        except TypeError:
            raise EventError("resumed with an event of another version of this package") from None


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """What the state store holds.

    :param phase: How far the task came.
    :param fingerprint: Stands for method, store and arguments.
    :param started: The operation; without a name as long as the phase is ``submitting``.
    """

    phase: Phase
    fingerprint: str
    started: Started


class Records:
    """The record of one task.

    :param store: The state store; None where Airflow gives none, as in a plain call of ``execute``.
    :param arguments: Method, store and rendered arguments of the operation that the task is about to start.
    """

    def __init__(self, store: StateStore | None, arguments: Mapping[str, Any]) -> None:
        self._store, self._arguments = store, json.dumps(arguments, sort_keys=True, default=str)
        self._fingerprint = ""

    def read(self) -> Record | None:
        """Give the record, or None if there is none that this version can read."""
        match self._store.get(KEY) if self._store is not None else None:
            case {
                "phase": str(phase),
                "fingerprint": str(fingerprint),
                "operation": str() | None as operation,
                "submitted_at": int() | float() as submitted_at,
                "found": bool(found),
                "details": dict(details),
            } if phase in _PHASES:
                started = Started(operation=operation, submitted_at=submitted_at, found=found, details=details)
                return Record(phase=phase, fingerprint=fingerprint, started=started)  # type: ignore[arg-type]
        return None

    def write(self, phase: Phase, started: Started) -> None:
        """Remember how far the task came; kept until Airflow forgets the task instance itself."""
        if self._store is None:
            return
        self._fingerprint = self._fingerprint or fingerprint_of(self._arguments, os.urandom(16))
        record = {"phase": phase, "fingerprint": self._fingerprint, **asdict(replace(started, restart=False))}
        record.pop("restart")
        self._store.set(KEY, record, retention=NEVER_EXPIRE)

    def consume(self, started: Started) -> None:
        """Remember that the operation's end has been dealt with: what comes next is a new operation."""
        self.write("consumed", started)

    def is_mine(self, record: Record) -> bool:
        """Tell whether a record stands for the same method, store and arguments."""
        salt = record.fingerprint.partition(":")[0]
        try:
            return record.fingerprint == fingerprint_of(self._arguments, bytes.fromhex(salt))
        except ValueError:
            return False


def fingerprint_of(text: str, salt: bytes) -> str:
    """Give what stands for arguments: salted, and slow to try out."""
    return f"{salt.hex()}:{hashlib.pbkdf2_hmac('sha256', text.encode(), salt, _ROUNDS).hex()}"
