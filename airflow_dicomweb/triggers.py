"""The trigger that waits for a long-running operation.

It only looks, so it may run twice at once, or again after a restart. The connection is read on the event loop; the
looks are made by the ordinary client in a small pool of threads, which knows nothing of Airflow. As long as all is well
it logs nothing: a trigger that logs keeps a file open in the triggerer.

Source: Apache Airflow, "Deferrable operators & triggers".
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.triggers.base import BaseTrigger, TriggerEvent
from asgiref.sync import sync_to_async

from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.errors import AuthorizationError, DicomWebError, NotFoundError, ResponseError, UnavailableError
from airflow_dicomweb.events import DeadlinePassed, Ended, Event, LookFailed
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.settings import ClientSettings

if TYPE_CHECKING:
    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.operations import Operation

T = TypeVar("T")

SHORTEST_FIRST_WAIT = 6.0
"""Seconds. An event that comes before Airflow has booked the deferral can fail the task (apache/airflow#66374)."""

_REQUEST_TIMEOUT = 30.0
_TERMINAL_STATES = frozenset({"success", "failed", "skipped", "upstream_failed", "removed"})
_STATE_ATTEMPTS = 3
_STATE_WAIT = 2.0

_POOL = ThreadPoolExecutor(max_workers=4, thread_name_prefix="dicomweb")
# Keeps the cancellations alive: asyncio itself holds tasks weakly.
_CANCELLING: set[asyncio.Task[None]] = set()


class OperationTrigger(BaseTrigger):
    """Fires one event, when the operation ended, or its deadline passed, or it cannot be looked at.

    :param operation: Full name of the operation.
    :param dicomweb_conn_id: Airflow connection of type ``dicomweb``.
    :param dicom_store: Another store than the connection's.
    :param impersonation_chain: Other service accounts than the connection's.
    :param poll_interval: Seconds between two looks.
    :param deadline: Unix time at which waiting ends.
    :param cancel_on_kill: Cancel the operation when somebody ends the waiting task in Airflow.
    :param shortest_first_wait: Seconds that the first look waits at least.
    :param details: Repeated in the event, for the task that is resumed. Builtins only.
    """

    def __init__(
        self,
        operation: str,
        *,
        dicomweb_conn_id: str,
        dicom_store: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        poll_interval: float = 10.0,
        deadline: float,
        cancel_on_kill: bool = True,
        shortest_first_wait: float = SHORTEST_FIRST_WAIT,
        details: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.operation = operation
        self.dicomweb_conn_id = dicomweb_conn_id
        self.dicom_store = dicom_store
        self.impersonation_chain = impersonation_chain
        self.poll_interval = poll_interval
        self.deadline = deadline
        self.cancel_on_kill = cancel_on_kill
        self.shortest_first_wait = shortest_first_wait
        self.details = dict(details or {})

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Give what a triggerer makes this trigger from."""
        return (
            f"{type(self).__module__}.{type(self).__qualname__}",
            {
                "operation": self.operation,
                "dicomweb_conn_id": self.dicomweb_conn_id,
                "dicom_store": self.dicom_store,
                "impersonation_chain": self.impersonation_chain,
                "poll_interval": self.poll_interval,
                "deadline": self.deadline,
                "cancel_on_kill": self.cancel_on_kill,
                "shortest_first_wait": self.shortest_first_wait,
                "details": self.details,
            },
        )

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait, and fire the event."""
        event: Event
        try:
            event = await self._wait()
        except Exception as error:  # noqa: BLE001
            # Airflow would resume the task only to fail it, with the words "Trigger failure".
            self.log.warning("Cannot look at %s: %s", self.operation, type(error).__name__)
            event = LookFailed.of(self.operation, error, self.details)
        yield TriggerEvent(event.to_json())

    async def on_kill(self) -> None:
        """Cancel the operation, if the task has really been ended.

        In a task of its own: Airflow 3.3 cancels this coroutine again about every second, until it is over.
        """
        if not self.cancel_on_kill:
            return
        task = asyncio.create_task(self._cancel_if_over())
        _CANCELLING.add(task)
        task.add_done_callback(_CANCELLING.discard)
        await asyncio.shield(task)

    async def _wait(self) -> Event:
        settings = await self._settings()
        wait = max(self.poll_interval, self.shortest_first_wait)
        while True:
            await asyncio.sleep(max(0.0, min(wait, self.deadline - time.time())))
            wait = self.poll_interval
            try:
                operation = await _in_pool(_look, settings, self.operation)
                if operation.done:
                    return Ended(operation=operation, details=self.details)
            except DicomWebError as error:
                if not error.retryable:
                    raise
                self.log.warning("%s; looking again", error)
                if isinstance(error, UnavailableError):
                    wait = max(wait, error.retry_after or 0.0)
            if time.time() >= self.deadline:
                return DeadlinePassed(name=self.operation, details=self.details)

    async def _settings(self) -> ClientSettings:
        hook = DicomWebHook(
            self.dicomweb_conn_id, dicom_store=self.dicom_store, impersonation_chain=self.impersonation_chain
        )
        return await hook.asettings()

    async def _cancel_if_over(self) -> None:
        try:
            if not await self._is_over():
                self.log.info("%s runs on: the task has not ended, and will look for it again", self.operation)
                return
            await _in_pool(cancel_operation, await self._settings(), self.operation)
            self.log.info("Asked the service to cancel %s", self.operation)
        except Exception:
            self.log.exception("Could not cancel %s: it may still run", self.operation)

    async def _is_over(self) -> bool:
        """Tell whether nobody will come back for the operation: the task instance is in a final state, or gone.

        Airflow 3.3 also ends a trigger when another triggerer takes it over, and when the task is cleared; the next
        try then attaches to the operation.
        """
        from airflow.sdk.execution_time.task_runner import RuntimeTaskInstance

        waiting = self.task_instance
        if waiting is None:
            return False
        for attempt in range(_STATE_ATTEMPTS):
            try:
                states = await sync_to_async(RuntimeTaskInstance.get_task_states)(
                    dag_id=waiting.dag_id,
                    map_index=waiting.map_index,
                    task_ids=[waiting.task_id],
                    run_ids=[waiting.run_id],
                )
                break
            except Exception:
                if attempt + 1 == _STATE_ATTEMPTS:
                    raise
                await asyncio.sleep(_STATE_WAIT)
        found = list((states.get(waiting.run_id) or {}).values())
        return not found or found[0] in _TERMINAL_STATES


def cancel_operation(settings: ClientSettings, name: str) -> None:
    """Ask the service to cancel an operation; one that has ended already is none to worry about.

    :raises DicomWebError: If the service could not be asked.
    """
    policy = RetryPolicy(total_timeout=60.0)
    with settings.healthcare_client(retry_policy=policy, request_timeout=_REQUEST_TIMEOUT) as client:
        try:
            client.cancel_operation(name)
        except NotFoundError:
            return
        except ResponseError as error:
            if error.retryable or isinstance(error, AuthorizationError):
                raise
            if not client.get_operation(name).done:
                raise


def _look(settings: ClientSettings, name: str) -> Operation:
    try:
        return _shared_client(settings).get_operation(name)
    except AuthorizationError:
        # A key may have been replaced meanwhile: the next wait starts with what is in the connection then.
        _shared_client.cache_clear()
        raise


@lru_cache(maxsize=32)
def _shared_client(settings: ClientSettings) -> HealthcareClient:
    """Give one client for all waits with the same settings: one token, one session a thread.

    One attempt a look: what repeats a look is the trigger, which holds no thread while it waits.
    """
    return settings.healthcare_client(retry_policy=RetryPolicy(attempts=1), request_timeout=_REQUEST_TIMEOUT)


async def _in_pool(function: Callable[..., T], *args: Any) -> T:
    return await asyncio.get_running_loop().run_in_executor(_POOL, function, *args)
