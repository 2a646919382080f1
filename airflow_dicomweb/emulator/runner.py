"""Long-running operations at work: one thread each, paced over the time that they are to take.

An operation that has a minute and sixty items does one each second: its counters move as the service's do. It never
ends before its time. A restart runs an unfinished one again; what it did before is there already and counts as done.

Source: Cloud Healthcare API, "Best practices for long-running operations".
"""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from airflow_dicomweb.emulator.messages import CANCELLED, INTERNAL, INVALID_ARGUMENT, PERMISSION_DENIED, ApiError
from airflow_dicomweb.emulator.operation_faults import OperationFault
from airflow_dicomweb.emulator.records import Failure, Record, Records

_log = logging.getLogger(__name__)

_COUNT_INTERVAL = 0.1
_LONGEST_WAIT = 3600.0
_CLOSE_TIMEOUT = 5.0


class OperationError(Exception):
    """An operation that cannot be done at all.

    :param code: ``google.rpc.Code``.
    :param message: Why.
    """

    def __init__(self, code: int, message: str) -> None:
        self.code, self.message = code, message
        super().__init__(message)


class Work(Protocol):
    """What an operation does."""

    at_once: int
    """Most items that are done together, between two looks at the clock."""

    failed_message: str
    """What the error says when some items failed."""

    def items(self) -> Sequence[Any]:
        """List what is to be done; raises :class:`OperationError` if that cannot be known."""

    def done_before(self) -> int:
        """Give the number of items that an earlier run did and :meth:`items` no longer lists."""

    def do(self, items: Sequence[Any]) -> list[Failure]:
        """Do some of the items; give those that failed."""

    def finish(self) -> Mapping[str, Any]:
        """Do what remains after the last item; give the response."""


class Runner:
    """Runs operations.

    :param records: Where they are noted.
    :param work_for: Gives the work of an operation.
    :param fails_partly_by_error: Tells whether an operation of which some items failed has an error, or a response.
    """

    def __init__(
        self,
        records: Records,
        work_for: Callable[[Record], Work],
        fails_partly_by_error: Callable[[], bool] = lambda: True,
    ) -> None:
        self._records, self._work_for, self._fails_partly_by_error = records, work_for, fails_partly_by_error
        self._changed = threading.Condition()
        self._cancelled: set[str] = set()
        self._closing = False
        self._threads: list[threading.Thread] = []

    def start(self, record: Record) -> None:
        """Run an operation, or run it again."""
        thread = threading.Thread(target=self._run, args=[record], name=f"operation-{record.kind}", daemon=True)
        self._threads = [*(each for each in self._threads if each.is_alive()), thread]
        thread.start()

    def resume(self) -> None:
        """Go on with everything that was running when the emulator was stopped."""
        for record in self._records.unfinished():
            if record.cancel_requested:
                self._cancelled.add(record.name)
            self._records.begin_again(record.name)
            self.start(record)

    def cancel(self, name: str) -> None:
        """Ask an operation to stop; it may have ended by then."""
        self._records.request_cancel(name)
        with self._changed:
            self._cancelled.add(name)
            self._changed.notify_all()

    def close(self) -> None:
        """Stop working; what is unfinished goes on at the next start."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
        deadline = time.monotonic() + _CLOSE_TIMEOUT
        for thread in self._threads:
            thread.join(max(deadline - time.monotonic(), 0))

    def _goes_on(self, name: str, until: float = 0.0) -> bool:
        """Wait until a moment; give False as soon as the operation is to stop."""
        with self._changed:
            while not (self._closing or name in self._cancelled):
                left = until - time.time()
                if left <= 0:
                    return True
                self._changed.wait(min(left, _LONGEST_WAIT))
        return False

    def _run(self, record: Record) -> None:
        name = record.name
        try:
            error, response = self._work_through(record)
        except OperationError as problem:
            lasted = self._goes_on(name, record.created + record.seconds)
            error, response = (problem.code, problem.message) if lasted else None, None
        except ApiError as problem:
            error, response = (PERMISSION_DENIED, problem.message), None
        except Exception:  # noqa: BLE001 - an operation ends, whatever happened
            _log.exception("An operation broke: a defect of the emulator")
            error, response = (INTERNAL, "internal error"), None
        if error is None and response is None:
            if name not in self._cancelled:
                return
            error = (CANCELLED, "CANCELLED")
        self._records.end(name, error, response)
        self._cancelled.discard(name)

    def _work_through(self, record: Record) -> tuple[tuple[int, str] | None, Mapping[str, Any] | None]:
        """Give the error or the response; neither, when it was stopped before its end."""
        work, fault = self._work_for(record), OperationFault.of(record)
        if not self._proceeds(record, fault, None, 0):
            return None, None
        items = work.items()
        earlier, done, failed = work.done_before(), 0, 0
        unnoted: list[Failure] = []
        noted_at = 0.0
        self._records.count(record.name, earlier, 0, len(items))
        try:
            while self._proceeds(record, fault, done, len(items)) and done < len(items):
                chunk = items[done : done + _how_many(record, 1 if fault else work.at_once, done, len(items))]
                refused = fault.refused(chunk, done) if fault else None
                unnoted += (failures := work.do(chunk) if refused is None else refused)
                done, failed = done + len(chunk), failed + len(failures)
                if fault or done == len(items) or time.monotonic() - noted_at > _COUNT_INTERVAL:
                    self._records.count(record.name, earlier + done - failed, failed, len(items) - done, unnoted)
                    unnoted, noted_at = [], time.monotonic()
        finally:
            self._records.count(record.name, earlier + done - failed, failed, len(items) - done, unnoted)
        if done < len(items) or not self._goes_on(record.name, record.created + record.seconds):
            return None, None
        response = work.finish()
        by_error = failed and self._fails_partly_by_error()
        return ((INVALID_ARGUMENT, work.failed_message), None) if by_error else (None, response)

    def _proceeds(self, record: Record, fault: OperationFault | None, done: int | None, count: int) -> bool:
        """Wait until the next item is due, or let the operation go wrong; give False as soon as it is to stop.

        :param done: How many items are done; None before they are listed.
        :raises OperationError: If its fault is to fail.
        """
        if not self._goes_on(record.name, _due(record, done or 0, count)):
            return False
        if fault is None or not fault.strikes(done, count):
            return True
        if fault.operation == "fail":
            raise OperationError(fault.code, fault.message)
        if fault.operation == "cancel":
            self.cancel(record.name)
        return self._goes_on(record.name, math.inf)


def _due(record: Record, index: int, count: int) -> float:
    """Give the moment when an item is to be done: the time is spread over them, and the last one ends it."""
    return record.created + record.seconds * (index + 1) / (count + 1) if count else 0.0


def _how_many(record: Record, at_once: int, done: int, count: int) -> int:
    """Give the number of items that are due now."""
    if not record.seconds:
        return at_once
    share = (time.time() - record.created) / record.seconds
    return min(max(int(share * (count + 1)) - done, 1), at_once)
