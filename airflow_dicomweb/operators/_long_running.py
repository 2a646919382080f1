"""Starting a long-running operation once, and seeing it through: in the task's process, or with a trigger.

::

    execute -> take up or start -> look for a while -> defer or look on -> finish
                                                         |                ^
                                                     trigger -> execute_complete

Source: Cloud Healthcare API, "Best practices for long-running operations"; Apache Airflow, "Deferrable operators &
triggers", "Task state store".
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import conf
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout

from airflow_dicomweb.dicomweb.retries import check_seconds
from airflow_dicomweb.errors import DicomWebError, OperationTimeoutError
from airflow_dicomweb.events import DeadlinePassed, Ended, LookFailed, read_event
from airflow_dicomweb.links import OperationLink, OperationLogsLink, operation_url
from airflow_dicomweb.operators._base import DicomWebOperator
from airflow_dicomweb.operators._records import Records, Started
from airflow_dicomweb.operators._submission import Submission
from airflow_dicomweb.triggers import SHORTEST_FIRST_WAIT, OperationTrigger, cancel_operation

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.operations import Operation
    from airflow_dicomweb.settings import ClientSettings

# How long Airflow itself waits after the deadline, before it gives up on the trigger: seconds.
_GRACE = 600.0
_INLINE_INTERVAL = 0.5


class LongRunningOperator(DicomWebOperator):
    """Base of the operators that start a long-running operation of the Cloud Healthcare API.

    :param wait: Wait for the end; otherwise only start it.
    :param deferrable: Wait in the triggerer, without a worker.
    :param inline_wait: Seconds to wait in the worker before deferring: quick operations never defer.
    :param poll_interval: Seconds between two looks.
    :param wait_timeout: Seconds from the submit until the operation is cancelled and the task fails.
    :param cancel_on_kill: Cancel the operation when the task is killed while it waits.
    """

    operator_extra_links: Sequence[BaseOperatorLink] = (OperationLink(), OperationLogsLink())
    method: ClassVar[str]
    """Last component of the operation's ``apiMethodName``."""
    shortest_first_wait: float = SHORTEST_FIRST_WAIT
    max_failures = 0

    def __init__(
        self,
        *,
        wait: bool = True,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        inline_wait: float = 5.0,
        poll_interval: float = 10.0,
        wait_timeout: float = 86400.0,
        cancel_on_kill: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.wait = wait
        self.deferrable = deferrable
        self.inline_wait = inline_wait
        self.poll_interval = poll_interval
        self.wait_timeout = wait_timeout
        self.cancel_on_kill = cancel_on_kill
        # Where the links lead: nowhere, as long as there is no operation. None: where an earlier process said.
        self.operation_url: str | None = ""
        self.logs_url: str | None = None
        self._settings: ClientSettings | None = None
        self._waiting_for: Started | None = None

    @abstractmethod
    def arguments(self) -> dict[str, Any]:
        """Check all arguments, and give those that make an operation another one.

        :raises ConfigurationError: If one is not what it should be.
        """

    @abstractmethod
    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]:
        """Read what must be known before the submit; gives what must be remembered until the end.

        :param interrupted: What an earlier try remembered whose operation did not come to its end, if there is one.
        """

    @abstractmethod
    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation | None:
        """Start the operation; None if the service was done at once, or nothing had to be done."""

    @abstractmethod
    def result(self, operation: Operation | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Give what goes into XCom."""

    def verify_end(self, client: HealthcareClient, operation: Operation | None, details: Mapping[str, Any]) -> None:
        """Look further than the verdict of an operation that went well enough."""

    def is_undone(self, client: HealthcareClient) -> bool:
        """Tell whether what was asked for is surely not done, after an operation that may have been another task's."""
        return False

    def clean_up(self, client: HealthcareClient, details: Mapping[str, Any]) -> None:
        """Remove what was needed for the operation only."""

    def tidy(self, client: HealthcareClient, details: Mapping[str, Any]) -> None:
        """Clean up; what stays behind is logged, and fails nothing."""
        try:
            self.clean_up(client, details)
        except DicomWebError as error:
            self.log.warning("Something that was written for the operation could not be removed: %s", error)

    def execute(self, context: Context) -> dict[str, Any]:
        """Start the operation, or take up the one that an earlier try started, and see it through."""
        for name in ("inline_wait", "poll_interval", "wait_timeout"):
            check_seconds(getattr(self, name), name, zero=name == "inline_wait")
        self.arguments()
        with self._connect() as client:
            return self._see_through(context, client, self._submission(context, client).run())

    def execute_complete(self, context: Context, event: Any = None) -> dict[str, Any]:
        """Go on where the trigger left off.

        :raises EventError: If the event cannot be read.
        """
        outcome = read_event(event)
        started = Started.from_json(outcome.details)
        with self._connect() as client:
            match outcome:
                case Ended(operation=operation):
                    return self._finish(context, client, operation, started)
                case DeadlinePassed():
                    return self._finish_or_give_up(context, client, started)
                case LookFailed(error=error, message=message):
                    problem = f"waiting for {started.operation} broke off with {error}: {message}"
                    return self._finish_or_raise(context, client, started, DicomWebError(problem))

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Resume as Airflow says; when it says that the trigger is lost, look for the operation first."""
        self.operation_url = None
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (TaskDeferralTimeout, TaskDeferralError) as error:
            record = self._records(context).read()
            if record is None or record.phase != "submitted":
                raise
            with self._connect() as client:
                if isinstance(error, TaskDeferralTimeout):
                    return self._finish_or_give_up(context, client, record.started)
                return self._finish_or_raise(context, client, record.started, error)

    def on_kill(self) -> None:
        """Cancel the operation. Runs in a signal handler: nothing is asked of Airflow here."""
        started, settings = self._waiting_for, self._settings
        if started is None or settings is None or not started.operation or not self.cancel_on_kill or started.found:
            return
        try:
            cancel_operation(settings, started.operation)
            self.log.info("Asked the service to cancel %s", started.operation)
        except DicomWebError as error:
            self.log.warning("Could not cancel %s, it may still run: %s", started.operation, error)

    def _connect(self) -> HealthcareClient:
        self._settings = self.hook.settings()
        return self._settings.healthcare_client()

    def _records(self, context: Context) -> Records:
        settings = self._settings or self.hook.settings()
        place = f"{settings.base_url}/{settings.dicom_store}"
        arguments = {"method": self.method, "store": place, "arguments": self.arguments()}
        return Records(context.get("task_state_store"), arguments)

    def _submission(self, context: Context, client: HealthcareClient) -> Submission:
        return Submission(self, client, self._records(context))

    def _see_through(self, context: Context, client: HealthcareClient, started: Started) -> dict[str, Any]:
        if started.operation is None:
            return self._finish(context, client, None, started)
        self._waiting_for = started
        self._announce(context, client, started.operation)
        deadline = started.submitted_at + self.wait_timeout
        if not self.wait:
            operation = client.get_operation(started.operation)
            self._records(context).consume(started)
            return self.result(operation, started.details)
        found = self._look(client, started.operation, min(time.time() + self.inline_wait, deadline), _INLINE_INTERVAL)
        if found is None and self.deferrable and time.time() < deadline:
            self._defer(started, deadline)
        if found is None:
            found = self._look(client, started.operation, deadline, self.poll_interval)
        if found is None:
            return self._finish_or_give_up(context, client, started)
        return self._finish(context, client, found, started)

    def _defer(self, started: Started, deadline: float) -> NoReturn:
        self.defer(
            trigger=OperationTrigger(
                started.operation or "",
                dicomweb_conn_id=self.dicomweb_conn_id,
                dicom_store=self.dicom_store,
                impersonation_chain=self.impersonation_chain,
                poll_interval=self.poll_interval,
                deadline=deadline,
                cancel_on_kill=self.cancel_on_kill and not started.found,
                shortest_first_wait=self.shortest_first_wait,
                details=started.to_json(),
            ),
            method_name=self.execute_complete.__name__,
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + _GRACE),
        )

    def _look(self, client: HealthcareClient, name: str, until: float, interval: float) -> Operation | None:
        """Look again and again; None if it has not ended by then. The same errors end it as in the trigger."""
        while True:
            try:
                operation = client.get_operation(name)
                if operation.done:
                    return operation
            except DicomWebError as error:
                if not error.retryable:
                    raise
                self.log.warning("%s; looking again", error)
            remaining = until - time.time()
            if remaining <= 0:
                return None
            time.sleep(min(interval, self.poll_interval, remaining))

    def _finish_or_give_up(self, context: Context, client: HealthcareClient, started: Started) -> dict[str, Any]:
        waited = f"{started.operation} was still running {time.time() - started.submitted_at:.0f} s after the submit"
        if started.found:
            error = OperationTimeoutError(f"{waited}; it was found, not started by this try, and is not cancelled")
        else:
            error = OperationTimeoutError(f"{waited}; its cancellation was asked for")
        return self._finish_or_raise(context, client, started, error)

    def _finish_or_raise(
        self, context: Context, client: HealthcareClient, started: Started, error: Exception
    ) -> dict[str, Any]:
        """Look once more; an operation that still runs is given up with the error."""
        operation = client.get_operation(started.operation or "")
        if operation.done:
            return self._finish(context, client, operation, started)
        if isinstance(error, OperationTimeoutError):
            if not started.found:
                client.cancel_operation(operation.name)
                self.tidy(client, started.details)
            self._records(context).consume(started)
        raise error

    def _finish(
        self, context: Context, client: HealthcareClient, operation: Operation | None, started: Started
    ) -> dict[str, Any]:
        """Deal with the end, however it was waited for."""
        if operation is not None and operation.verdict == "cancelled" and started.restart:
            self.log.info("%s was being cancelled when this try took it up: starting anew", operation.name)
            return self._see_through(context, client, self._submission(context, client).start(started.details))
        if operation is not None and started.found and self.is_undone(client):
            self.log.warning("%s was another task's: what this one is for is not done; starting anew", operation.name)
            return self._see_through(context, client, self._submission(context, client).start(started.details))
        self._records(context).consume(started)
        self.tidy(client, started.details)
        if operation is not None:
            self.logs_url = operation.logs_url
            operation.raise_for_failure(max_failures=self.max_failures)
            self.log.info("%s", operation.describe())
        self.verify_end(client, operation, started.details)
        return self.result(operation, started.details)

    def _announce(self, context: Context, client: HealthcareClient, name: str) -> None:
        """Make the operation visible while the task waits."""
        settings = self._settings
        if settings is not None:
            self.operation_url = operation_url(settings.base_url, settings.api_version, name)
            self._push(context, OperationLink().xcom_key, self.operation_url)
        self._push(context, "operation", name)

    def _push(self, context: Context, key: str, value: str) -> None:
        if (ti := context.get("ti")) is not None:
            ti.xcom_push(key=key, value=value)
