"""Storing files.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.stow import ON_CONFLICT, VERIFY, check_choice
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import check_storage_class
from airflow_dicomweb.operators._base import DicomWebOperator, reveal, whole_number
from airflow_dicomweb.operators._reports import check_report_uri, check_writable, write_report

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dicomweb.dicomweb.stow import InstanceOutcome, StoreResult

_SHOWN = 20


class DicomWebStoreInstancesOperator(DicomWebOperator):
    """Store files in a DICOMweb server, and say of each what became of it.

    The task fails if instances were not stored; what was stored is stored.

    :param source: File, directory, glob, ``gs://bucket/prefix/**``, or a list of these. Local paths are never shown by
        Airflow.
    :param storage_class: Storage class of the Cloud Healthcare API; None for the store's default.
    :param workers: Requests at the same time.
    :param batch_bytes: Most bytes of one request.
    :param on_conflict: What to do when the server has other bytes under the same identity: ``fail`` fails the task,
        ``keep`` leaves the server's. Neither replaces them.
    :param verify: ``response`` trusts the server's answer, ``exists`` looks for each instance, ``bytes`` reads each
        back.
    :param max_failures: Instances that may be refused before the task fails.
    :param shard: ``(i, n)``: only the i-th of n parts of the source, counted from 0, for mapped tasks.
    :param report_uri: Private file, or ``gs://`` object, with one line for each file; ``ordinal`` is the number by which
        log lines and errors name it. The URI itself is in XCom.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("source", "storage_class", "max_failures", "shard", "report_uri"),
    )
    private_fields = ("source", "report_uri")

    def __init__(
        self,
        *,
        source: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
        storage_class: str | None = None,
        workers: int = 4,
        batch_bytes: int = 64 * 2**20,
        on_conflict: str = "fail",
        verify: str = "response",
        max_failures: int = 0,
        shard: tuple[int, int] | None = None,
        report_uri: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.source = source
        self.storage_class = storage_class
        self.workers = workers
        self.batch_bytes = batch_bytes
        self.on_conflict = on_conflict
        self.verify = verify
        self.max_failures = max_failures
        self.shard = shard
        self.report_uri = report_uri

    def execute(self, context: Context) -> dict[str, Any]:
        """Store, report, and fail if too much was refused.

        :raises ConfigurationError: If an argument is wrong, or the report cannot be written: nothing was sent.
        :raises StoreRefusedError: If more instances were refused than tolerated.
        :raises DicomWebError: If the report could not be written after all; the message says what was stored.
        """
        max_failures = self._check()
        report_uri = reveal(self.report_uri)
        settings = self.hook.settings()
        if report_uri is not None:
            check_writable(report_uri, settings)
        with settings.client() as client:
            result = client.store(
                reveal(self.source),
                workers=self.workers,
                batch_bytes=self.batch_bytes,
                storage_class=self.storage_class,
                on_conflict=self.on_conflict,
                verify=self.verify,
                shard=_shard(self.shard),
            )
        self._log(result)
        if report_uri is not None:
            write_report(
                report_uri, map(_report_line, result.outcomes), settings, f"of the instances: {_counts(result)}"
            )
        result.raise_for_failures(max_failures, self.on_conflict)
        return result.to_xcom(report_uri)

    def _check(self) -> int:
        check_choice(self.on_conflict, "on_conflict", ON_CONFLICT)
        check_choice(self.verify, "verify", VERIFY)
        if self.storage_class is not None:
            check_storage_class(self.storage_class)
        if self.report_uri is not None:
            check_report_uri(reveal(self.report_uri))
        _shard(self.shard)
        return whole_number(self.max_failures, "max_failures")

    def _log(self, result: StoreResult) -> None:
        """Name what was not stored by position, UIDs and reason; never by file name, which may be a patient's."""
        not_stored = [each for each in result.outcomes if each.outcome in {"conflict", "failed", "skipped"}]
        for each in not_stored[:_SHOWN]:
            self.log.warning(
                "source %d, %s: %s: %s", each.ordinal, each.path or "no identity", each.outcome, each.reason
            )
        if len(not_stored) > _SHOWN:
            self.log.warning("... and %d more; report_uri gets all", len(not_stored) - _SHOWN)
        self.log.info("%s", _counts(result))


def _counts(result: StoreResult) -> str:
    return ", ".join(f"{value} {name}" for name, value in result.to_xcom().items() if isinstance(value, int | float))


def _shard(given: Any) -> tuple[int, int] | None:
    """Read a shard: JSON, as XCom gives it, has no tuples, and templates give text."""
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        return whole_number(given[0], "the number of a shard"), whole_number(given[1], "the count of shards")
    raise ConfigurationError("a shard must be (i, n) with whole numbers and 0 <= i < n, such as (0, 4)")


def _report_line(outcome: InstanceOutcome) -> dict[str, Any]:
    path = outcome.path
    return {
        "ordinal": outcome.ordinal,
        "source": outcome.source,
        "study": path.study if path else None,
        "series": path.series if path else None,
        "instance": path.instance if path else None,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "bytes": outcome.bytes,
        "sha256": outcome.sha256,
    }
