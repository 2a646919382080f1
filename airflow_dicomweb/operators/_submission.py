"""Submitting an operation once, however often the task is tried.

Source: design of this package; Cloud Healthcare API v1, ``projects.locations.datasets.operations.list``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from airflow_dicomweb.errors import DicomWebError, NotFoundError, ResponseError
from airflow_dicomweb.healthcare.operations import parse_time
from airflow_dicomweb.operators._records import Record, Records, Started

if TYPE_CHECKING:
    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.operations import Operation

log = logging.getLogger(__name__)

# A request that was answered like this was not acted upon.
_TURNED_AWAY = frozenset({425, 429, 503})
# Seconds by which the clocks of worker and service may differ, and within which a request is answered or given up.
_CLOCK_SKEW = 10.0
_LONGEST_SUBMIT = 900.0


class Work(Protocol):
    """What an operator knows about its operation."""

    method: ClassVar[str]

    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]: ...

    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation | None: ...

    def tidy(self, client: HealthcareClient, details: Mapping[str, Any]) -> None: ...


class Submission:
    """Takes up what an earlier try started, or starts it.

    :param work: The operator.
    :param client: Used for all requests.
    :param records: What the task remembers across its tries.
    """

    def __init__(self, work: Work, client: HealthcareClient, records: Records) -> None:
        self._work, self._client, self._records = work, client, records

    def run(self) -> Started:
        """Give the operation to wait for: taken up, or started."""
        record = self._records.read()
        if record is None or record.phase == "consumed":
            return self.start(None)
        if not self._records.is_mine(record):
            log.info("An earlier try started another operation; the arguments have changed since: starting anew")
            return self.start(None)
        if record.phase == "submitted":
            return self._take_up(record.started) or self.start(record.started.details)
        return self._leftover(record) or self.start(record.started.details)

    def start(self, interrupted: Mapping[str, Any] | None) -> Started:
        """Start the operation, and remember it before and after the request.

        :param interrupted: What an earlier try remembered whose operation did not come to its end, if there is one.
        """
        if interrupted:
            self._work.tidy(self._client, interrupted)
        details = self._work.prepare(self._client, interrupted)
        started = Started(operation=None, submitted_at=time.time(), details=details)
        self._records.write("submitting", started)
        try:
            operation = self._work.submit(self._client, details)
        except DicomWebError as error:
            if _surely_not_started(error):
                self._records.consume(started)
                self._work.tidy(self._client, details)
            raise
        if operation is not None:
            started = replace(started, operation=operation.name)
            log.info("Submitted %s", operation.name)
        self._records.write("submitted", started)
        return started

    def _take_up(self, started: Started) -> Started | None:
        if started.operation is None:
            return started
        try:
            operation = self._client.get_operation(started.operation)
        except NotFoundError:
            log.info("%s, which an earlier try started, is not known any more: starting anew", started.operation)
            return None
        if operation.verdict == "cancelled":
            log.info("%s, which an earlier try started, was cancelled: starting anew", started.operation)
            return None
        log.info("Taking up %s, which an earlier try started", started.operation)
        return replace(started, restart=operation.cancel_requested and not operation.done)

    def _leftover(self, record: Record) -> Started | None:
        """Look for the operation of a try that broke off between the request and its answer."""
        if not self._client.habits.deletes_by_operation:
            return None  # Without operations, what is left on the server tells.
        since = record.started.submitted_at
        candidates = [
            operation.name
            for operation in self._client.list_operations()
            if operation.short_method == self._work.method
            and since - _CLOCK_SKEW <= (parse_time(operation.create_time) or 0.0) <= since + _LONGEST_SUBMIT
        ]
        if len(candidates) != 1:
            log.warning(
                "An earlier try broke off while it submitted; the dataset has %d operations that may be its own: "
                "submitting again",
                len(candidates),
            )
            return None
        log.warning(
            "An earlier try broke off while it submitted; %s is the only operation that may be its own: waiting for it",
            candidates[0],
        )
        found = replace(record.started, operation=candidates[0], found=True)
        self._records.write("submitted", found)
        return found


def _surely_not_started(error: DicomWebError) -> bool:
    """Tell whether the service did not act upon the request; of a time-out or a reset nobody knows."""
    if isinstance(error, ResponseError):
        return not error.retryable or error.status in _TURNED_AWAY
    return not error.retryable
