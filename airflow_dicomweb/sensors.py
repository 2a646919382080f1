"""Sensors: what DAG authors wait with.

Source: Apache Airflow, "Sensors"; Cloud Healthcare API v1, ``projects.locations.datasets.operations.get``.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseSensorOperator, PokeReturnValue, conf
from airflow.sdk.exceptions import AirflowFailException, AirflowSensorTimeout, AirflowSkipException

from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.events import DeadlinePassed, Ended, LookFailed, read_event
from airflow_dicomweb.healthcare.names import OperationName
from airflow_dicomweb.hooks import DEFAULT_CONNECTION, DicomWebHook
from airflow_dicomweb.links import OperationLogsLink
from airflow_dicomweb.triggers import SHORTEST_FIRST_WAIT, OperationTrigger

if TYPE_CHECKING:
    from airflow.sdk import BaseOperatorLink, Context

    from airflow_dicomweb.healthcare.operations import Operation

# How long Airflow itself waits after the deadline, before it gives up on the trigger: seconds.
_GRACE = 600.0


class DicomWebOperationSensor(BaseSensorOperator):
    """Wait until a long-running operation ended well.

    It only looks: the operation is never cancelled. One that failed, or was cancelled, fails the task for good.

    :param operation: Full name of the operation, or the result of an operator that started it.
    :param dicomweb_conn_id: Airflow connection of type ``dicomweb``.
    :param dicom_store: Another DICOM store than the connection's.
    :param impersonation_chain: Other service accounts than the connection's.
    :param deferrable: Wait in the triggerer, without a worker; ``mode`` does not matter then.
    """

    template_fields: Sequence[str] = ("operation", "dicomweb_conn_id", "dicom_store", "impersonation_chain")
    operator_extra_links: Sequence[BaseOperatorLink] = (OperationLogsLink(),)
    shortest_first_wait: float = SHORTEST_FIRST_WAIT

    def __init__(
        self,
        *,
        operation: str | Mapping[str, Any],
        dicomweb_conn_id: str = DEFAULT_CONNECTION,
        dicom_store: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.operation = operation
        self.dicomweb_conn_id = dicomweb_conn_id
        self.dicom_store = dicom_store
        self.impersonation_chain = impersonation_chain
        self.deferrable = deferrable
        self.logs_url: str | None = None

    def poke(self, context: Context) -> PokeReturnValue:
        """Look once.

        :raises AirflowFailException: If the operation did not end well, or cannot be looked at.
        """
        try:
            name = self._name()
            with self._hook().get_healthcare_conn() as client:
                operation = client.get_operation(name)
            return PokeReturnValue(is_done=operation.done, xcom_value=self._finish(operation))
        except DicomWebError as error:
            if not error.retryable:
                raise AirflowFailException(str(error)) from error
            self.log.warning("%s; looking again", error)
            return PokeReturnValue(is_done=False)

    def execute(self, context: Context) -> Any:
        """Wait as Airflow's sensors do, or in the triggerer."""
        if not self.deferrable:
            return super().execute(context)
        try:
            found = self.poke(context)
        except AirflowFailException as error:
            if self.soft_fail or self.never_fail:
                raise AirflowSkipException(f"skipped, as soft_fail or never_fail says: {error}") from error
            raise
        if found.is_done:
            return found.xcom_value
        self.defer(
            trigger=OperationTrigger(
                self._name(),
                dicomweb_conn_id=self.dicomweb_conn_id,
                dicom_store=self.dicom_store,
                impersonation_chain=self.impersonation_chain,
                poll_interval=self.poke_interval,
                deadline=time.time() + self.timeout,
                cancel_on_kill=False,
                shortest_first_wait=self.shortest_first_wait,
            ),
            method_name=self.execute_complete.__name__,
            timeout=timedelta(seconds=self.timeout + _GRACE),
        )

    def execute_complete(self, context: Context, event: Any = None) -> Any:
        """Go on where the trigger left off.

        :raises AirflowSensorTimeout: If the operation was still running at the time-out.
        :raises AirflowFailException: If it did not end well, or cannot be looked at.
        """
        try:
            outcome = read_event(event)
            match outcome:
                case Ended(operation=operation):
                    return self._finish(operation)
                case DeadlinePassed(name=name):
                    raise AirflowSensorTimeout(f"{name} was still running after {self.timeout:.0f} s")
                case LookFailed(name=name, error=error, message=message):
                    raise AirflowFailException(f"waiting for {name} broke off with {error}: {message}")
        except DicomWebError as error:
            raise AirflowFailException(str(error)) from error

    def _finish(self, operation: Operation) -> dict[str, Any] | None:
        """Deal with the end; None while there is none."""
        if not operation.done:
            return None
        self.logs_url = operation.logs_url
        operation.raise_for_failure()
        return operation.to_xcom()

    def _name(self) -> str:
        given = self.operation.get("operation") if isinstance(self.operation, Mapping) else self.operation
        if given is None:
            raise ConfigurationError("there is no operation to wait for: what should have started one was done at once")
        return str(OperationName.parse(given))

    def _hook(self) -> DicomWebHook:
        return DicomWebHook(
            self.dicomweb_conn_id, dicom_store=self.dicom_store, impersonation_chain=self.impersonation_chain
        )
