"""Deleting a study, a series or an instance.

Source: Cloud Healthcare API v1, ``dicomStores.studies.delete``, ``...series.delete``, ``...instances.delete``.
"""

from __future__ import annotations

import ast
import time
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, cast

from airflow_dicomweb.dicomweb.inventory import find_below, is_elsewhere
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError, DicomWebError, NotFoundError
from airflow_dicomweb.healthcare.operations import Operation
from airflow_dicomweb.operators._base import DicomWebOperator
from airflow_dicomweb.operators._long_running import LongRunningOperator

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dicomweb.healthcare.client import HealthcareClient

_LOOKS = 5


class _DeleteOperator(LongRunningOperator):
    """Base of the operators that delete: counted and checked right before, and nothing deleted when in doubt."""

    template_fields: Sequence[str] = (*DicomWebOperator.template_fields, "study", "expected")
    kinds: ClassVar[Sequence[str]] = ("instances",)
    """What may be expected to be there, in numbers."""
    look_interval: float = 5.0
    """Seconds between two looks for what may be gone: searches lag behind a deletion by some seconds."""

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

    @abstractmethod
    def path(self) -> ResourcePath:
        """Give what is to be deleted.

        :raises ConfigurationError: If a UID is not one.
        """

    def execute(self, context: Context) -> dict[str, Any]:
        """Count, check, delete and see it through."""
        if not self.only_count:
            return super().execute(context)
        self.arguments()
        with self._connect() as client:
            instances = self._count(client)
        self.log.info("%s: %d instances would be deleted", self.path(), instances)
        return _without_operation("dry_run", instances)

    def arguments(self) -> dict[str, Any]:
        """Check the UIDs and what is expected."""
        path = self.path()
        uids = {name: getattr(path, name) for name in ("study", "series", "instance") if hasattr(path, name)}
        return {**uids, "expected": _expected(self.expected, self.kinds)}

    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]:
        """Count the instances, and compare."""
        if interrupted and next(find_below(client, self.path()), None) is None:
            self.log.info("%s is gone: the earlier try deleted it", self.path())
            return {"instances": interrupted.get("instances", 0), "gone": True}
        return {"instances": self._count(client), "gone": False}

    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation | None:
        """Delete, if there is something to delete."""
        if details["gone"] or not details["instances"]:
            return None
        try:
            return self._delete(client)
        except NotFoundError:
            if not self.ignore_if_missing:
                raise
            self.log.info("%s was deleted by somebody else just now", self.path())
            return None

    def is_undone(self, client: HealthcareClient) -> bool:
        """See whether it is there still, at each of some looks."""
        for look in range(_LOOKS):
            time.sleep(self.look_interval if look else 0.0)
            if next(find_below(client, self.path()), None) is None:
                return False
        return True

    def result(self, operation: Operation | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Give the operation's result with the number of instances that there were."""
        if operation is not None:
            return {**operation.to_xcom(), "instances": details["instances"]}
        return _without_operation("success" if details["instances"] else "missing", details["instances"])

    @abstractmethod
    def _delete(self, client: HealthcareClient) -> Operation | None: ...

    def _connect(self) -> HealthcareClient:
        """Connect to any server that deletes; only the Healthcare API has operations to wait for."""
        self._settings = self.hook.settings()
        client = self._settings.client()
        client.check_deletes()
        return cast("HealthcareClient", client)

    def _count(self, client: HealthcareClient) -> int:
        """Count the instances that are there.

        :raises DicomWebError: If there are none, or not what is expected.
        """
        path, series, instances = self.path(), set[str](), 0
        for found in find_below(client, path):
            instances += 1
            series.add(found.series)
        if not instances:
            if is_elsewhere(client, path):
                raise DicomWebError(f"{path} is not there, its last UID belongs to another parent: nothing was deleted")
            if not self.ignore_if_missing:
                raise DicomWebError(f"{_named(path)} is not there: nothing was deleted")
            self.log.info("%s is not there", path)
            return 0
        there = {"instances": instances, "series": len(series)}
        for kind, number in _expected(self.expected, self.kinds).items():
            if there[kind] != number:
                raise DicomWebError(
                    f"{_named(path)} has {there[kind]} {kind}, {number} were expected: nothing was deleted"
                )
        return instances


class DicomWebDeleteStudyOperator(_DeleteOperator):
    """Delete a study.

    The task fails, and nothing is deleted, if the study is not there or is not what was expected.

    :param study: Study Instance UID.
    :param dry_run: Only count what would be deleted, and check it.
    :param expected: ``{"instances": n, "series": n}``, one of them, or the number of instances alone: counted again
        right before the request. None: whatever is there.
    :param ignore_if_missing: A study that is not there is not an error.
    """

    method = "DeleteStudy"
    kinds = ("instances", "series")

    def path(self) -> StudyPath:
        """Give the study."""
        return StudyPath(check_uid(self.study, "study"))

    def _delete(self, client: HealthcareClient) -> Operation | None:
        return client.delete_study(self.study)


class DicomWebDeleteSeriesOperator(_DeleteOperator):
    """Delete a series of a study.

    The task fails, and nothing is deleted, if the series is not there, is another study's, or is not what was expected.

    :param study: Study Instance UID.
    :param series: Series Instance UID.
    :param dry_run: Only count what would be deleted, and check it.
    :param expected: ``{"instances": n}`` or the number alone: counted again right before the request. None: whatever is
        there.
    :param ignore_if_missing: A series that is not there is not an error; one of another study always is.
    """

    template_fields: Sequence[str] = (*_DeleteOperator.template_fields, "series")
    method = "DeleteSeries"

    def __init__(self, *, series: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.series = series

    def path(self) -> SeriesPath:
        """Give the series."""
        return SeriesPath(check_uid(self.study, "study"), check_uid(self.series, "series"))

    def _delete(self, client: HealthcareClient) -> Operation | None:
        return client.delete_series(self.study, self.series)


class DicomWebDeleteInstanceOperator(_DeleteOperator):
    """Delete an instance of a series. There is no operation to wait for: it is gone when the request is answered.

    The task fails, and nothing is deleted, if the instance is not there, or is another series' or study's.

    :param study: Study Instance UID.
    :param series: Series Instance UID.
    :param instance: SOP Instance UID.
    :param dry_run: Only see whether it is there.
    :param expected: ``{"instances": 1}`` or ``1``, or None: there can be one.
    :param ignore_if_missing: An instance that is not there is not an error; one of another parent always is.
    """

    template_fields: Sequence[str] = (*_DeleteOperator.template_fields, "series", "instance")
    method = "DeleteInstance"

    def __init__(self, *, series: str, instance: str, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.series = series
        self.instance = instance

    def path(self) -> InstancePath:
        """Give the instance."""
        series = SeriesPath(check_uid(self.study, "study"), check_uid(self.series, "series"))
        return InstancePath(series.study, series.series, check_uid(self.instance, "instance"))

    def _delete(self, client: HealthcareClient) -> Operation | None:
        client.delete_instance(self.study, self.series, self.instance)
        return None


def _without_operation(state: str, instances: int) -> dict[str, Any]:
    return {**Operation(name="").to_xcom(), "operation": None, "state": state, "instances": instances}


def _named(path: ResourcePath) -> str:
    match path:
        case InstancePath():
            return f"instance {path.instance}"
        case SeriesPath():
            return f"series {path.series}"
    return f"study {path.study}"


def _expected(value: Any, kinds: Sequence[str]) -> dict[str, int]:
    """Read what is expected; templates give numbers as text."""
    if value is None:
        return {}
    try:
        read = ast.literal_eval(value) if isinstance(value, str) else value
        counts = dict(read) if isinstance(read, Mapping) else {"instances": read}
        numbers = {kind: int(number) for kind, number in counts.items() if not isinstance(number, bool | float)}
    except (TypeError, ValueError, SyntaxError):
        numbers, counts = {}, {"": None}
    if not numbers or len(numbers) != len(counts) or set(numbers) - set(kinds) or min(numbers.values()) < 0:
        keys = " or ".join(map(repr, kinds)) + (" or both" if len(kinds) > 1 else "")
        raise ConfigurationError(f"expected must be a number of instances, or a mapping with {keys}: whole numbers")
    return numbers
