"""Faults of long-running operations: slow, failed, failed in part, stuck, cancelled by somebody else.

A fault is chosen by the request that starts the operation and kept with it, so that it outlives a restart.

Source: Cloud Healthcare API, "Best practices for long-running operations"; google.rpc.Code.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from airflow_dicomweb.emulator.messages import INTERNAL, INVALID_ARGUMENT
from airflow_dicomweb.emulator.records import Failure, Record

Trouble = Literal["slow", "fail", "fail_partly", "stuck", "cancel"]
TROUBLES: tuple[str, ...] = get_args(Trouble)
ARGUMENT = "fault"
"""Name of the argument of an operation that keeps its fault."""


@dataclass(frozen=True, slots=True)
class OperationFault:
    """What goes wrong with one operation.

    :param operation: ``slow``: it takes ``seconds`` and nothing else. ``fail``: it ends with an error. ``fail_partly``: some
        items fail. ``stuck``: it never ends until it is cancelled. ``cancel``: somebody else cancels it.
    :param seconds: How long it takes at least; None for as long as all operations.
    :param items: ``fail_partly``: how many items fail, the first ones. Else how many are done before it goes wrong; None if
        that is before it looks for any, so that neither bucket nor objects need to be there.
    :param code: ``google.rpc.Code`` of the error: the operation's, or each failed item's.
    :param message: Message of that error.
    """

    operation: Trouble
    seconds: float | None = None
    items: int | None = None
    code: int = INTERNAL
    message: str = ""

    @classmethod
    def asked(
        cls, operation: Trouble, seconds: float | None, items: int | None, code: int | None, message: str
    ) -> OperationFault:
        """Make one, with what is usual where nothing was asked for."""
        partly = operation == "fail_partly"
        return cls(
            operation,
            seconds,
            1 if partly and items is None else items,
            (INVALID_ARGUMENT if partly else INTERNAL) if code is None else code,
            message or "a fault was asked for",
        )

    @classmethod
    def of(cls, record: Record) -> OperationFault | None:
        """Give the fault of an operation, if it has one."""
        kept = record.arguments.get(ARGUMENT)
        return None if kept is None else cls(**kept)

    def kept(self) -> Mapping[str, Any]:
        """Give it as the index keeps it."""
        return asdict(self)

    def strikes(self, done: int | None, count: int) -> bool:
        """Tell whether it is now that the operation goes wrong.

        :param done: How many items are done; None before it is known how many there are.
        :param count: How many there are.
        """
        if self.operation in {"slow", "fail_partly"}:
            return False
        if done is None or self.items is None:
            return done is self.items
        return done >= min(self.items, count)

    def refused(self, items: Sequence[object], done: int) -> list[Failure] | None:
        """Give the failures of items that are to fail; None if these are to be done.

        :param items: One item.
        :param done: How many were done before.
        """
        if self.operation != "fail_partly" or done >= (self.items or 0):
            return None
        return [Failure(_source(item), self.code, self.message) for item in items]


def _source(item: object) -> str:
    """Name an item as the log names it: an object by its URI, an instance by its path."""
    return str(getattr(item, "uri", None) or getattr(item, "path", None) or item)
