"""Deleting a study.

Source: Cloud Healthcare API v1, ``dicomStores.studies.delete``.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.healthcare.operations import Operation
from airflow_dicomweb.operators._base import DicomWebOperator
from airflow_dicomweb.operators._long_running import LongRunningOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dicomweb.healthcare.client import HealthcareClient

_KINDS = ("instances", "series")


@dataclass(frozen=True, slots=True)
class _Content:
    """How much of a study the store has."""

    instances: int
    series: int


class DicomWebDeleteStudyOperator(LongRunningOperator):
    """Delete a study from a DICOM store.

    The task fails, and nothing is deleted, if the study is not there or is not what was expected.

    :param study: Study Instance UID.
    :param dry_run: Only count what would be deleted, and check it.
    :param expected: ``{"instances": n, "series": n}``, one of them, or the number of instances alone: counted again
        right before the request. None: whatever is there.
    :param ignore_if_missing: A study that is not there is not an error.
    """

    template_fields: Sequence[str] = (*DicomWebOperator.template_fields, "study", "expected")
    method = "DeleteStudy"

    def __init__(
        self,
        *,
        study: str,
        dry_run: bool = False,
        expected: Mapping[str, int] | int | None = None,
        ignore_if_missing: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.study = study
        self.only_count = dry_run
        self.expected = expected
        self.ignore_if_missing = ignore_if_missing

    def execute(self, context: Context) -> dict[str, Any]:
        """Count, check, delete and see it through."""
        if not self.only_count:
            return super().execute(context)
        self.arguments()
        with self._connect() as client:
            content = self._count(client)
        self.log.info("Study %s: %d instances would be deleted", self.study, content.instances)
        return {**Operation(name="").to_xcom(), "operation": None, "state": "dry_run", "instances": content.instances}

    def arguments(self) -> dict[str, Any]:
        """Check the UID and what is expected."""
        return {"study": check_uid(self.study, "study"), "expected": _expected(self.expected)}

    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]:
        """Count the instances, and compare."""
        if interrupted and next(find_instances(client, [self.study]), None) is None:
            self.log.info("Study %s is gone: the earlier try deleted it", self.study)
            return {"instances": interrupted.get("instances", 0), "gone": True}
        return {"instances": self._count(client).instances, "gone": False}

    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation | None:
        """Delete, if there is something to delete."""
        if details["gone"] or not details["instances"]:
            return None
        return client.delete_study(self.study)

    def result(self, operation: Operation | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Give the operation's result with the number of instances that the study had."""
        if operation is not None:
            return {**operation.to_xcom(), "instances": details["instances"]}
        state = "success" if details["instances"] else "missing"
        return {**Operation(name="").to_xcom(), "operation": None, "state": state, "instances": details["instances"]}

    def _count(self, client: HealthcareClient) -> _Content:
        """Count what is there.

        :raises DicomWebError: If it is not there, or not what is expected.
        """
        series: set[str] = set()
        instances = 0
        for path in find_instances(client, [self.study]):
            instances += 1
            series.add(path.series)
        found = _Content(instances, len(series))
        if not instances:
            if self.ignore_if_missing:
                self.log.info("Study %s is not there", self.study)
                return found
            raise DicomWebError(f"study {self.study} is not there: nothing was deleted")
        for kind, number in _expected(self.expected).items():
            there = getattr(found, kind)
            if there != number:
                raise DicomWebError(
                    f"study {self.study} has {there} {kind}, {number} were expected: nothing was deleted"
                )
        return found


def _expected(value: Any) -> dict[str, int]:
    """Read what is expected; templates give numbers as text."""
    if value is None:
        return {}
    try:
        read = ast.literal_eval(value) if isinstance(value, str) else value
        counts = dict(read) if isinstance(read, Mapping) else {"instances": read}
        numbers = {kind: int(number) for kind, number in counts.items() if not isinstance(number, bool | float)}
    except (TypeError, ValueError, SyntaxError):
        numbers, counts = {}, {"": None}
    if not numbers or len(numbers) != len(counts) or set(numbers) - set(_KINDS) or min(numbers.values()) < 0:
        raise ConfigurationError(
            "expected must be a number of instances, or a mapping with 'instances', 'series' or both: whole numbers"
        )
    return numbers
