"""Storing files.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.stow import CHECK, ON_CONFLICT, VERIFY, check_choice
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import check_storage_class
from airflow_dicomweb.operators._base import DicomWebOperator, reveal, whole_number
from airflow_dicomweb.operators._reports import check_report_uri
from airflow_dicomweb.operators._running_report import open_report
from airflow_dicomweb.operators._store_progress import StoreProgress
from airflow_dicomweb.operators._store_tries import StoreTries
from airflow_dicomweb.operators.object_storage import openable

if TYPE_CHECKING:
    from airflow.sdk import Context, ObjectStoragePath

    from airflow_dicomweb.dicomweb.sources import OneSource, SourceArgument
    from airflow_dicomweb.dicomweb.stow import StoreResult
    from airflow_dicomweb.settings import ClientSettings

_SHOWN = 20


class DicomWebStoreInstancesOperator(DicomWebOperator):
    """Store files in a DICOMweb server, and say of each what became of it.

    The task fails if instances were not stored; what was stored is stored. A retry with the same arguments sends what is
    not stored yet: what an earlier try has stored is looked for by one search a study, and keeps its outcome.

    :param source: File, ZIP file, directory, glob, ``gs://bucket/prefix/**``, what ObjectStoragePath opens
        (``s3://conn_id@bucket/prefix/**``), or a list of these. Only ``gs://`` URIs are shown by Airflow.
    :param storage_class: Storage class of the Cloud Healthcare API; None for the store's default.
    :param workers: Requests at the same time.
    :param batch_bytes: Most bytes of one request; a larger instance goes alone.
    :param batch_count: Most instances of one request.
    :param on_conflict: What to do when the server has other bytes under the same identity: ``fail`` fails the task,
        ``keep`` leaves the server's, ``replace`` stores the new ones in their place: by ``PUT`` where the server has that
        (the Cloud Healthcare API with ``api_version`` ``v1beta1``), else only with ``backup_uri``, and only where the
        server deletes instances.
    :param backup_uri: Private folder or ``gs://bucket/prefix`` where the server's bytes go, whole and compared, before
        they are replaced.
    :param verify: ``response`` trusts the server's answer, ``exists`` looks for each instance, ``bytes`` reads each
        back.
    :param check: ``header`` reads the identity of each file before it is sent, ``structure`` also sees whether the file is
        whole: one that is cut short is refused.
    :param max_failures: Instances that may be refused before the task fails.
    :param shard: ``(i, n)``: only the i-th of n parts of the source, counted from 0, for mapped tasks.
    :param report_uri: Private file, or ``gs://`` object, with one line of JSON for each file, written as it goes;
        ``ordinal`` is the number by which log lines and errors name it. The URI itself is in XCom. Until the try has ended
        the lines are in ``.part`` files or objects beside it; they tell a retry what is stored, however much that is.
        Without a report a retry knows of some hundred instances.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("source", "storage_class", "backup_uri", "max_failures", "shard", "report_uri"),
    )
    private_fields = ("source", "backup_uri", "report_uri")

    def __init__(
        self,
        *,
        source: SourceArgument | ObjectStoragePath | Sequence[OneSource | ObjectStoragePath],
        storage_class: str | None = None,
        workers: int = 4,
        batch_bytes: int = 64 * 2**20,
        batch_count: int = 50,
        on_conflict: str = "fail",
        backup_uri: str | os.PathLike[str] | None = None,
        verify: str = "response",
        check: str = "header",
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
        self.batch_count = batch_count
        self.on_conflict = on_conflict
        self.backup_uri = backup_uri
        self.verify = verify
        self.check = check
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
        tries = StoreTries(
            context.get("task_state_store"), self._arguments(settings, report_uri), digests=report_uri is None
        )
        _check_outside(reveal(self.source), report_uri)
        report = None
        if report_uri is not None:
            # The record first: a part of a report whose run no retry knows would stay for good.
            tries.begin()
            report = open_report(report_uri, tries.run, settings.buckets())
        # Entered first: what is refused without a request leaves no part of a report behind.
        with StoreProgress(tries, report) as progress, settings.client() as client:
            result = client.store(
                openable(reveal(self.source)),
                workers=self.workers,
                batch_bytes=self.batch_bytes,
                batch_count=self.batch_count,
                storage_class=self.storage_class,
                on_conflict=self.on_conflict,
                backup_uri=reveal(self.backup_uri),
                verify=self.verify,
                check=self.check,
                shard=_shard(self.shard),
                checksums=report_uri is not None,
                keep_outcomes=False,
                on_outcome=progress.add,
                earlier=progress.find if tries.goes_on else None,
            )
            self._log(result)
            progress.finish(f"of the instances: {_counts(result)}")
            result.raise_for_failures(max_failures, self.on_conflict)
        tries.consume()
        return result.to_xcom(report_uri)

    def _arguments(self, settings: ClientSettings, report_uri: str | None) -> dict[str, Any]:
        """Give what must be the same for a retry to go on from an earlier try."""
        return {
            "server": [settings.base_url, str(settings.dicom_store), settings.transport],
            "source": reveal(self.source),
            "shard": _shard(self.shard),
            "storage_class": self.storage_class,
            "verify": self.verify,
            "report_uri": report_uri,
        }

    def _check(self) -> int:
        check_choice(self.on_conflict, "on_conflict", ON_CONFLICT)
        check_choice(self.verify, "verify", VERIFY)
        check_choice(self.check, "check", CHECK)
        if self.storage_class is not None:
            check_storage_class(self.storage_class)
        if self.report_uri is not None:
            check_report_uri(reveal(self.report_uri))
        _shard(self.shard)
        if reveal(self.backup_uri) is not None and self.on_conflict != "replace":
            raise ConfigurationError("backup_uri is for on_conflict='replace'")
        return whole_number(self.max_failures, "max_failures")

    def _log(self, result: StoreResult) -> None:
        """Name what was not stored by position, UIDs and reason; never by file name, which may be a patient's."""
        for each in result.outcomes[:_SHOWN]:
            self.log.warning(
                "source %d, %s: %s: %s", each.ordinal, each.path or "no identity", each.outcome, each.reason
            )
        not_stored = result.conflict + result.failed + result.skipped
        if not_stored > _SHOWN:
            self.log.warning("... and %d more; report_uri gets all", not_stored - _SHOWN)
        if result.replaced:
            self.log.info("%d of the created ones replaced other bytes", result.replaced)
        self.log.info("%s", _counts(result))


def _counts(result: StoreResult) -> str:
    return ", ".join(f"{value} {name}" for name, value in result.to_xcom().items() if isinstance(value, int | float))


def _check_outside(source: Any, report_uri: str | None) -> None:
    """See that the report, which is there while the source is listed, is not a part of it."""
    from airflow_dicomweb.dicomweb.sources import would_list

    if report_uri is not None and would_list(source, f"{report_uri}.part"):
        raise ConfigurationError("report_uri lies within the source: a place outside of it is accepted")


def _shard(given: Any) -> tuple[int, int] | None:
    """Read a shard: JSON, as XCom gives it, has no tuples, and templates give text."""
    if given is None:
        return None
    if isinstance(given, Sequence) and not isinstance(given, str) and len(given) == 2:
        return whole_number(given[0], "the number of a shard"), whole_number(given[1], "the count of shards")
    raise ConfigurationError("a shard must be (i, n) with whole numbers and 0 <= i < n, such as (0, 4)")
