"""Faults as data: what is to go wrong, how often, and how often it did.

::

    POST /_emulator/faults
    [{"method": "POST", "match": "/dicomWeb/studies$", "status": 503, "headers": {"Retry-After": "1"}, "times": 2},
     {"match": "/instances/", "cut": 1000},
     {"method": "POST", "match": ":import", "drop": "after"},
     {"match": "/operations/", "delay": 1.5, "times": 10},
     {"match": ":import", "operation": "fail_partly", "items": 3, "code": 3, "message": "empty DICOM instance found"},
     {"match": "/instances/1[.]2[.]3$", "notification": "lost"}]

One fault may be sent without the list. A request suffers the first fault that fits it and is not used up; an operation
that a request starts suffers one of its own (see operation_faults.py).
"""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.operation_faults import TROUBLES, OperationFault, Trouble

Sufferer = Literal["request", "operation", "notification"]

_LONGEST_DELAY = 3600
_LONGEST_OPERATION = 7 * 24 * 3600
_OF_REQUESTS = ("status", "headers", "cut", "delay", "drop")
_OF_OPERATIONS = ("operation", "seconds", "items", "code", "message")
_OF: dict[Sufferer, tuple[str, ...]] = {
    "request": _OF_REQUESTS,
    "operation": _OF_OPERATIONS,
    "notification": ("notification",),
}
_FITS: dict[str, Callable[[Any], bool]] = {
    "method": lambda value: isinstance(value, str),
    "match": lambda value: isinstance(value, str),
    "status": lambda value: type(value) is int and 200 <= value <= 599,
    "headers": lambda value: isinstance(value, dict),
    "cut": lambda value: type(value) is int and value >= 0,
    "delay": lambda value: type(value) in {int, float} and 0 <= value <= _LONGEST_DELAY,
    "drop": lambda value: value in ("before", "after"),
    "operation": lambda value: value in TROUBLES,
    "seconds": lambda value: type(value) in {int, float} and 0 <= value <= _LONGEST_OPERATION,
    "items": lambda value: type(value) is int and value >= 0,
    "code": lambda value: type(value) is int and 1 <= value <= 16,
    "message": lambda value: isinstance(value, str) and value != "",
    "notification": lambda value: value in ("lost", "doubled"),
    "times": lambda value: type(value) is int and value > 0,
}


@dataclass(slots=True)
class Fault:
    """One thing that goes wrong.

    :param method: HTTP method, or an empty string for any.
    :param match: Regular expression that is searched for in the path.
    :param status: Status to answer with; the request is not handled then.
    :param headers: Headers of that answer.
    :param cut: Number of bytes of the answer's body after which the connection is closed.
    :param delay: Seconds before anything else happens.
    :param drop: ``before``: the connection is closed and the request not handled; ``after``: handled, not answered.
    :param operation: What goes wrong with the operation that the request starts: one of ``TROUBLES``.
    :param seconds: How long that operation takes at least.
    :param items: How many of its items fail, or are done before it goes wrong.
    :param code: ``google.rpc.Code`` of its error.
    :param message: Message of its error.
    :param notification: What happens to the notification of a change: it is ``lost``, or ``doubled``. ``match`` is searched
        for in the name of the changed instance then.
    :param times: How many requests, operations or notifications it hits.
    :param fired: How many it has hit.
    """

    method: str = ""
    match: str = ""
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    cut: int | None = None
    delay: float = 0.0
    drop: str = ""
    operation: str = ""
    seconds: float | None = None
    items: int | None = None
    code: int | None = None
    message: str = ""
    notification: str = ""
    times: int = 1
    fired: int = 0

    @property
    def suffers(self) -> Sufferer:
        """Say what it hits."""
        return "notification" if self.notification else "operation" if self.operation else "request"

    def fits(self, sufferer: Sufferer, method: str, path: str) -> bool:
        """Tell whether a request, the operation that it starts, or a notification is to suffer it.

        :param path: Path of the request, or name of the instance.
        """
        if sufferer != self.suffers:
            return False
        return self.fired < self.times and self.method in {"", method} and re.search(self.match, path) is not None

    def to_json(self) -> dict[str, Any]:
        """Give it as it was asked for, and ``fired``."""
        shown: dict[str, Any] = {"method": self.method, "match": self.match, "times": self.times, "fired": self.fired}
        for name in (name for names in _OF.values() for name in names):
            value = getattr(self, name)
            if value or (name in {"cut", "items"} and value is not None):
                shown[name] = value
        return shown


class Faults:
    """The faults that are in force, in order."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, asked: object) -> None:
        """Put faults into force, after those that are.

        :param asked: A JSON list of faults, or one fault by itself.
        :raises ApiError: 400 if one cannot be read; none is in force then.
        """
        if not isinstance(asked, list | Mapping):
            raise ApiError(400, "a fault, as a JSON object, or a list of faults is expected")
        faults = [read_fault(each) for each in (asked if isinstance(asked, list) else [asked])]
        with self._lock:
            self._faults += faults

    def take(self, method: str, path: str) -> Fault | None:
        """Give the fault that a request is to suffer, and count it."""
        return self._take("request", method, path)

    def take_operation(self, method: str, path: str) -> OperationFault | None:
        """Give the fault that the operation started by a request is to suffer, and count it."""
        fault = self._take("operation", method, path)
        if fault is None:
            return None
        trouble = cast("Trouble", fault.operation)
        return OperationFault.asked(trouble, fault.seconds, fault.items, fault.code, fault.message)

    def take_notification(self, name: str) -> int:
        """Give how often a notification is to be published: 0, 1 or 2; count the fault that it suffers.

        :param name: Full name of the changed instance.
        """
        fault = self._take("notification", "", name)
        return 1 if fault is None else {"lost": 0, "doubled": 2}[fault.notification]

    def _take(self, sufferer: Sufferer, method: str, name: str) -> Fault | None:
        with self._lock:
            fault = next((each for each in self._faults if each.fits(sufferer, method, name)), None)
            if fault is not None:
                fault.fired += 1
            return fault

    def clear(self) -> None:
        """Take all faults out of force."""
        with self._lock:
            self._faults.clear()

    def to_json(self) -> list[dict[str, Any]]:
        """List them, used up or not."""
        with self._lock:
            return [fault.to_json() for fault in self._faults]


def read_fault(asked: object) -> Fault:
    """Read one fault.

    :raises ApiError: 400 if it cannot be read.
    """
    if not isinstance(asked, Mapping):
        raise ApiError(400, "a fault is a JSON object")
    unknown = set(asked) - (set(Fault.__slots__) - {"fired"})
    if unknown:
        raise ApiError(400, f"a fault has no {', '.join(sorted(map(str, unknown)))}")
    for name, fit in _FITS.items():
        if name in asked and not fit(asked[name]):
            raise ApiError(400, f"{name} of a fault has a value that cannot be: see the description of its fields")
    fault = Fault(**{**asked, "fired": 0})
    others = {name for kind, names in _OF.items() if kind != fault.suffers for name in names}
    if foreign := sorted(others & set(asked)):
        raise ApiError(400, f"a fault of this kind has no {', '.join(foreign)}")
    if fault.operation == "slow" and fault.seconds is None:
        raise ApiError(400, "a slow operation needs seconds")
    is_empty = fault.status is None and fault.cut is None and not fault.delay and not fault.drop
    if fault.suffers == "request" and is_empty:
        raise ApiError(400, "a fault needs one of status, cut, delay, drop, operation, notification")
    try:
        re.compile(fault.match)
    except re.error:
        raise ApiError(400, "match must be a regular expression") from None
    fault.method = fault.method.upper()
    fault.headers = {str(name): str(value) for name, value in fault.headers.items()}
    return fault
