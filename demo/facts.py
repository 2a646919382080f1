"""What a demonstration found out, and what that proves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from demo.airflow_api import RunState
from demo.airflow_runs import TaskHistory
from demo.data import Identity, SourceFile
from demo.dicom_store import FoundInstance, FoundOperation
from demo.report import Check

DAG_IDS = ("nightly_ingestion", "scheduled_export", "event_driven_deletion")
WAITING_OPERATORS = {
    "ImportDicomData": "DicomWebImportFromGcsOperator",
    "ExportDicomData": "DicomWebExportToGcsOperator",
    "DeleteStudy": "DicomWebDeleteStudyOperator",
}
"""Method of the service -> operator that waits for it."""

_NOT_REACHED = "not reached"


@dataclass(slots=True)
class Facts:
    """What is known so far; each field is filled when it has been looked up.

    :param bucket: Files that were put under the bucket's prefix.
    :param folder: DICOM files that were put into the folder.
    :param doomed: Studies that the asset event names for deletion.
    :param runs: DAG id -> its run.
    :param histories: DAG id -> what became of its tasks.
    :param results: ``dag_id.task_id`` -> what the task returned.
    :param ingested: What the store held after the ingestion.
    :param unequal: Instances that did not read back as the bytes of their file.
    :param selected: What the export's query selects, as asked before the export.
    :param exported: Instances that the export's objects are named after.
    :param strange_objects: Objects under the export's prefix that are named in another way.
    :param remaining: What the store held at the end.
    :param operations: The service's operations at the end.
    :param thumbnails: Study -> a small picture of it.
    :param error: What ended the demonstration early; empty when nothing did.
    """

    bucket: tuple[SourceFile, ...] = ()
    folder: tuple[SourceFile, ...] = ()
    doomed: frozenset[str] = frozenset()
    runs: dict[str, RunState] = field(default_factory=dict)
    histories: dict[str, list[TaskHistory]] = field(default_factory=dict)
    results: dict[str, Any] = field(default_factory=dict)
    ingested: dict[Identity, FoundInstance] | None = None
    unequal: tuple[Identity, ...] | None = None
    selected: frozenset[Identity] | None = None
    exported: frozenset[Identity] | None = None
    strange_objects: int = 0
    remaining: frozenset[Identity] | None = None
    operations: tuple[FoundOperation, ...] | None = None
    thumbnails: dict[str, bytes | None] = field(default_factory=dict)
    error: str = ""

    @property
    def expected(self) -> frozenset[Identity]:
        """The instances of bucket and folder."""
        return frozenset(file.identity for file in (*self.bucket, *self.folder))

    @property
    def imported(self) -> int:
        """Instances of the bucket that the store answered with."""
        return len({file.identity for file in self.bucket} & set(self.ingested or ()))

    @property
    def stored(self) -> int:
        """Instances of the folder that the store answered with."""
        return len({file.identity for file in self.folder} & set(self.ingested or ()))

    @property
    def deleted(self) -> int:
        """Instances that the store had after the ingestion and has no more."""
        return len(set(self.ingested or ()) - self.remaining) if self.remaining is not None else 0

    @property
    def waits(self) -> list[TaskHistory]:
        """The task instances that waited for an operation of the service."""
        operators = set(WAITING_OPERATORS.values())
        return [history for tasks in self.histories.values() for history in tasks if history.task.operator in operators]

    def checks(self) -> list[Check]:
        """Judge what was found."""
        return [
            self._runs_ended_well(),
            self._ingestion_is_complete(),
            self._bytes_are_kept(),
            self._non_dicom_is_named(),
            self._export_is_complete(),
            self._deletion_is_exact(),
            self._operations_ran_once(),
            self._waits_were_deferred(),
        ]

    @property
    def ok(self) -> bool:
        """Whether nothing went wrong and every check holds."""
        return not self.error and all(check.ok for check in self.checks())

    def summary(self, seconds: float) -> dict[str, Any]:
        """Give the last line of the output.

        :param seconds: Length of the demonstration.
        """
        return {
            "ok": self.ok,
            "dag_runs": {dag_id: self.runs[dag_id].state if dag_id in self.runs else "not run" for dag_id in DAG_IDS},
            "stored": self.stored,
            "imported": self.imported,
            "exported": len(self.exported or ()),
            "deleted": self.deleted,
            "seconds": round(seconds, 1),
        }

    def _runs_ended_well(self) -> Check:
        states = [self.runs[dag_id].state if dag_id in self.runs else _NOT_REACHED for dag_id in DAG_IDS]
        return Check("The runs of the three DAGs ended with success", states == ["success"] * 3, ", ".join(states))

    def _ingestion_is_complete(self) -> Check:
        statement = "The store holds every instance of bucket and folder, and nothing else"
        if self.ingested is None:
            return Check(statement, ok=False, found=_NOT_REACHED)
        missing, extra = self.expected - set(self.ingested), set(self.ingested) - self.expected
        found = f"{len(self.expected)} expected, {len(missing)} missing, {len(extra)} unexpected"
        return Check(statement, ok=bool(self.expected) and not missing and not extra, found=found)

    def _bytes_are_kept(self) -> Check:
        statement = "Every instance reads back byte for byte as its file"
        if self.unequal is None:
            return Check(statement, ok=False, found=_NOT_REACHED)
        found = f"{len(self.expected)} compared by SHA-256, {len(self.unequal)} differ"
        return Check(statement, ok=bool(self.expected) and not self.unequal, found=found)

    def _non_dicom_is_named(self) -> Check:
        statement = "The file that is not DICOM is reported, and stops nothing"
        stored = (self.results.get("nightly_ingestion.store_folder") or {}).get("skipped")
        proved = (self.results.get("nightly_ingestion.prove_complete") or {}).get("not_dicom")
        return Check(statement, ok=stored == proved == 1, found=f"skipped: {stored}, not DICOM: {proved}")

    def _export_is_complete(self) -> Check:
        statement = "The exported objects are the instances that the query selects"
        if self.selected is None or self.exported is None:
            return Check(statement, ok=False, found=_NOT_REACHED)
        ok = bool(self.selected) and self.selected == self.exported and not self.strange_objects
        found = f"{len(self.selected)} selected, {len(self.exported)} exported, {self.strange_objects} other objects"
        return Check(statement, ok=ok, found=found)

    def _deletion_is_exact(self) -> Check:
        statement = "The deleted studies are gone, and every other instance is still there"
        if self.remaining is None or self.ingested is None:
            return Check(statement, ok=False, found=_NOT_REACHED)
        left = {identity for identity in self.remaining if identity.study in self.doomed}
        others = {identity for identity in self.ingested if identity.study not in self.doomed}
        ok = bool(self.doomed) and self.deleted > 0 and not left and others == self.remaining
        found = f"{len(self.doomed)} studies, {self.deleted} instances gone, {len(left)} left"
        return Check(statement, ok=ok, found=found)

    def _operations_ran_once(self) -> Check:
        statement = "Each operation was submitted once and succeeded, without failures"
        if self.operations is None:
            return Check(statement, ok=False, found=_NOT_REACHED)
        methods = Counter(operation.method for operation in self.operations if operation.method in WAITING_OPERATORS)
        wanted = {"ImportDicomData": 1, "ExportDicomData": 1, "DeleteStudy": len(self.doomed)}
        well = all(operation.state == "success" and not operation.failure for operation in self.operations)
        found = ", ".join(f"{count} {method}" for method, count in methods.items())
        return Check(statement, ok=bool(self.doomed) and dict(methods) == wanted and well, found=found)

    def _waits_were_deferred(self) -> Check:
        statement = "Every wait for an operation went through the triggerer"
        waits = self.waits
        through = sum(history.waited_by_trigger for history in waits)
        deferrals, fired = sum(history.deferred for history in waits), sum(history.fired for history in waits)
        ok = through == len(waits) == 2 + len(self.doomed) > 2
        return Check(statement, ok=ok, found=f"{len(waits)} waits, {deferrals} deferrals, {fired} woken by a trigger")
