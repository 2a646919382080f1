"""The facts of a demonstration as a report and as a table for the terminal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from demo.airflow_runs import TaskHistory
from demo.dicom_store import FoundInstance
from demo.facts import DAG_IDS, WAITING_OPERATORS, Facts
from demo.report import DagRunRow, Figure, OperationRow, Place, Report, Span, Study, TaskRow

PURPOSES = {
    "nightly_ingestion": "Imports the bucket's prefix, stores the folder, and proves that every instance arrived.",
    "scheduled_export": "Exports the studies that a query selects, and compares the objects with the query.",
    "event_driven_deletion": "Deletes the studies that an asset event names, and proves them gone.",
}
_STARTED_BY = {"event_driven_deletion": "started by an asset event"}
_KINDS = {"running": "worker", "deferred": "triggerer", "awaiting_input": "person"}


def report_of(facts: Facts, *, started: str, seconds: float, places: Sequence[Place]) -> Report:
    """Arrange the facts for the report.

    :param started: Moment of the start, for people.
    :param seconds: Length of the demonstration.
    :param places: Where things can be looked at.
    """
    return Report(
        ok=facts.ok,
        error=facts.error,
        started=started,
        seconds=seconds,
        figures=_figures(facts),
        checks=facts.checks(),
        runs=[_run_row(facts, dag_id) for dag_id in DAG_IDS if dag_id in facts.runs],
        operations=_operation_rows(facts),
        studies=_studies(facts),
        places=places,
    )


def table_of(facts: Facts) -> str:
    """Arrange the facts for a terminal."""
    lines = [f"  {figure.value:>5}  {figure.label:<10}  {figure.note}" for figure in _figures(facts)]
    lines.append("")
    for dag_id in DAG_IDS:
        run = facts.runs.get(dag_id)
        lines.append(f"  {dag_id}: {run.state if run else 'not run'}" + (f", {run.seconds or 0:.0f} s" if run else ""))
        for history in facts.histories.get(dag_id, ()):
            waited = (
                f"deferred {history.deferred} x, woken by its trigger {history.fired} x" if history.deferred else ""
            )
            lines.append(f"      {history.task.label:<22} {history.task.state or '':<10} {waited}".rstrip())
    lines.append("")
    lines += [f"  {'ok    ' if check.ok else 'FAILED'}  {check.statement}: {check.found}" for check in facts.checks()]
    return "\n".join(lines)


def _figures(facts: Facts) -> list[Figure]:
    found = (facts.ingested or {}).values()
    modalities = {instance.modality for instance in found} - {""}
    deferrals = sum(history.deferred for history in facts.waits)
    return [
        Figure(facts.imported, "imported", "from the bucket, by one operation"),
        Figure(facts.stored, "stored", "from the folder, over STOW-RS"),
        Figure(len({instance.identity.study for instance in found}), "studies", f"of {len(modalities)} modalities"),
        Figure(len(facts.exported or ()), "exported", "to the bucket, by one operation"),
        Figure(facts.deleted, "deleted", f"{len(facts.doomed)} studies, after an asset event"),
        Figure(deferrals, "deferrals", "no worker is held while an operation runs"),
    ]


def _run_row(facts: Facts, dag_id: str) -> DagRunRow:
    run, histories = facts.runs[dag_id], facts.histories.get(dag_id, [])
    moments = [entry.time for history in histories for entry in history.entries]
    zero = min(moments, default=0.0)
    return DagRunRow(
        dag_id=dag_id,
        run_id=run.run_id,
        purpose=PURPOSES[dag_id],
        started_by=_STARTED_BY.get(dag_id, "the next run of its schedule"),
        state=run.state,
        seconds=run.seconds or 0.0,
        tasks=[_task_row(history, zero) for history in histories],
    )


def _task_row(history: TaskHistory, zero: float) -> TaskRow:
    spans = [
        Span(_KINDS[entry.event], entry.time - zero, following.time - zero)
        for entry, following in zip(history.entries, history.entries[1:], strict=False)
        if entry.event in _KINDS
    ]
    return TaskRow(
        label=history.task.label,
        operator=history.task.operator,
        state=history.task.state or "not started",
        tries=history.task.try_number,
        deferred=history.deferred,
        spans=spans,
    )


def _operation_rows(facts: Facts) -> list[OperationRow]:
    return [
        OperationRow(
            name=operation.name.rpartition("/")[2],
            method=operation.method,
            task=_waiting_task(facts, operation.method, operation.name),
            state=operation.state,
            success=operation.success,
            failure=operation.failure,
            seconds=operation.seconds,
        )
        for operation in facts.operations or ()
        if operation.method in WAITING_OPERATORS
    ]


def _waiting_task(facts: Facts, method: str, name: str) -> str:
    for label, result in facts.results.items():
        if isinstance(result, dict) and result.get("operation") == name:
            return label
    return f"{WAITING_OPERATORS[method]}, unknown"


def _studies(facts: Facts) -> list[Study]:
    by_study: dict[str, list[FoundInstance]] = {}
    for instance in (facts.ingested or {}).values():
        by_study.setdefault(instance.identity.study, []).append(instance)
    from_bucket = {file.identity.study for file in facts.bucket}
    left = {identity.study for identity in facts.remaining} if facts.remaining is not None else set(by_study)
    studies = [
        Study(
            uid=uid,
            modalities=_sorted_words(instance.modality for instance in instances),
            series=len({instance.identity.series for instance in instances}),
            instances=len(instances),
            origin="bucket" if uid in from_bucket else "folder",
            deleted=uid not in left,
            thumbnail=facts.thumbnails.get(uid),
        )
        for uid, instances in by_study.items()
    ]
    # What can be seen comes first, large studies before small ones.
    return sorted(studies, key=lambda study: (study.thumbnail is None, -study.instances, study.uid))


def _sorted_words(words: Iterable[str]) -> list[str]:
    return sorted({word for word in words if word})


def places_of(folder: Path, *, airflow_url: str, store: str, store_url: str, storage_url: str) -> list[Place]:
    """Say where things can be looked at, while they run and afterwards."""
    return [
        Place("Airflow", airflow_url, "no password; runs only while KEEP=1 holds it"),
        Place("DICOM store", store, f"in the emulator at {store_url}"),
        Place("Buckets", storage_url, "Cloud Storage emulator, in memory"),
        Place("Files", str(folder), "input, DICOM store, Airflow's database"),
        Place("Logs", str(folder / "airflow"), "components/ has one file for each process, logs/ one for each task"),
    ]
