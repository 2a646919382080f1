"""The event that a trigger leaves in Airflow's database for the task that it resumes.

One version, three outcomes, plain JSON. It repeats all that the resumed task needs, because ``dag.test()`` drops what a
task hands to ``defer()``. Airflow logs every event: it carries what an operation says of itself, and no object names.

Source: Apache Airflow, "Deferrable operators & triggers".
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_dicomweb.errors import DicomWebError, EventError, ProtocolError
from airflow_dicomweb.healthcare.operations import Operation

VERSION = 1

Details = Mapping[str, Any]
"""What an operator must remember about an operation while it waits: builtins only, no identifiers but UIDs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """The operation ended, well or not.

    :param operation: What the service said last.
    :param details: What the operator asked to be reminded of.
    """

    operation: Operation
    details: Details = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it for Airflow's database."""
        return _event("ended", self.details, operation=self.operation.without_object_names().to_json())


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadlinePassed:
    """The operation was still running at its deadline.

    :param name: Full name of the operation.
    :param details: What the operator asked to be reminded of.
    """

    name: str
    details: Details = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Write it for Airflow's database."""
        return _event("deadline_passed", self.details, name=self.name)


@dataclass(frozen=True, slots=True, kw_only=True)
class LookFailed:
    """The operation could not be looked at any more; how it stands is not known.

    :param name: Full name of the operation.
    :param error: Class of the error.
    :param message: The error's words.
    :param details: What the operator asked to be reminded of.
    """

    name: str
    error: str
    message: str
    details: Details = field(default_factory=dict)

    @classmethod
    def of(cls, name: str, error: Exception, details: Details) -> LookFailed:
        """Describe an error. Only our own errors are known to say nothing secret: of others, the class has to do."""
        message = str(error) if isinstance(error, DicomWebError) else "see the log of the triggerer"
        return cls(name=name, error=type(error).__name__, message=message, details=details)

    def to_json(self) -> dict[str, Any]:
        """Write it for Airflow's database."""
        return _event("look_failed", self.details, name=self.name, error=self.error, message=self.message)


Event = Ended | DeadlinePassed | LookFailed


def read_event(event: object) -> Event:
    """Read what a trigger left.

    :raises EventError: If this version cannot read it; nothing is known about the operation then.
    """
    match event:
        case {"version": 1, "outcome": "ended", "details": dict(details), "operation": dict(body)}:
            try:
                return Ended(operation=Operation.from_json(body), details=details)
            except ProtocolError as error:
                raise EventError(f"resumed with an event that holds no operation: {error}") from error
        case {"version": 1, "outcome": "deadline_passed", "details": dict(details), "name": str(name)}:
            return DeadlinePassed(name=name, details=details)
        case {
            "version": 1,
            "outcome": "look_failed",
            "details": dict(details),
            "name": str(name),
            "error": str(error_class),
            "message": str(message),
        }:
            return LookFailed(name=name, error=error_class, message=message, details=details)
    keys = ", ".join(sorted(map(str, event))) if isinstance(event, Mapping) else type(event).__name__
    raise EventError(
        f"resumed with an event that this version cannot read ({keys}): was the package changed while the task waited?"
    )


def _event(outcome: str, details: Details, **rest: object) -> dict[str, Any]:
    return {"version": VERSION, "outcome": outcome, "details": dict(details), **rest}
