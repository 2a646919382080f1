"""The demonstration says ok only when everything was looked up and is as it should be."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from demo.airflow_api import AuditEntry, RunState, TaskState
from demo.airflow_runs import TaskHistory
from demo.data import Identity, SourceFile
from demo.dicom_store import FoundInstance, FoundOperation
from demo.facts import DAG_IDS, WAITING_OPERATORS, Facts
from demo.presentation import report_of, table_of
from demo.report import write_report

BUCKET = Identity("1.1", "1.1.1", "1.1.1.1")
FOLDER = Identity("1.2", "1.2.1", "1.2.1.1")
STRANGER = Identity("9.9", "9.9.9", "9.9.9.9")


def source(identity: Identity) -> SourceFile:
    return SourceFile(Path("file"), "file", identity)


def history(operator: str, label: str, *, fired: int = 1) -> TaskHistory:
    task = TaskState(label, -1, operator, "success", 1, "2026-01-05T02:00:00Z", 16.0)
    events = [(0.0, "running"), (5.0, "deferred"), (15.0, "running"), (16.0, "success")]
    return TaskHistory(task, tuple(AuditEntry(label, -1, event, time) for time, event in events), fired=fired)


def operation(method: str) -> FoundOperation:
    return FoundOperation(f"operations/{method}", method, "success", 1, 0, 15.0)


def everything_went_well() -> Facts:
    tasks = zip(DAG_IDS, WAITING_OPERATORS.values(), strict=True)
    return Facts(
        bucket=(source(BUCKET),),
        folder=(source(FOLDER),),
        doomed=frozenset({BUCKET.study}),
        runs={dag_id: RunState(dag_id, "run", "manual", "success", 20.0) for dag_id in DAG_IDS},
        histories={dag_id: [history(operator, "wait")] for dag_id, operator in tasks},
        results={
            "nightly_ingestion.store_folder": {"skipped": 1},
            "nightly_ingestion.prove_complete": {"not_dicom": 1},
        },
        ingested={identity: FoundInstance(identity, "CT", 1) for identity in (BUCKET, FOLDER)},
        unequal=(),
        selected=frozenset({BUCKET}),
        exported=frozenset({BUCKET}),
        remaining=frozenset({FOLDER}),
        operations=tuple(operation(method) for method in WAITING_OPERATORS),
    )


def fail_a_run(facts: Facts) -> None:
    facts.runs["scheduled_export"] = replace(facts.runs["scheduled_export"], state="failed")


def forget_a_run(facts: Facts) -> None:
    del facts.runs["event_driven_deletion"]


def lose_an_instance(facts: Facts) -> None:
    assert facts.ingested
    del facts.ingested[FOLDER]


def store_a_stranger(facts: Facts) -> None:
    assert facts.ingested
    facts.ingested[STRANGER] = FoundInstance(STRANGER, "CT", 1)


def change_bytes(facts: Facts) -> None:
    facts.unequal = (FOLDER,)


def keep_silent_about_a_file(facts: Facts) -> None:
    facts.results["nightly_ingestion.store_folder"] = {"skipped": 0}


def export_too_little(facts: Facts) -> None:
    facts.exported = frozenset()


def select_nothing(facts: Facts) -> None:
    facts.selected = facts.exported = frozenset()


def leave_a_strange_object(facts: Facts) -> None:
    facts.strange_objects = 1


def delete_nothing(facts: Facts) -> None:
    facts.remaining = frozenset({BUCKET, FOLDER})


def delete_too_much(facts: Facts) -> None:
    facts.remaining = frozenset()


def submit_twice(facts: Facts) -> None:
    assert facts.operations
    facts.operations += (operation("ImportDicomData"),)


def fail_an_item(facts: Facts) -> None:
    assert facts.operations
    facts.operations = (replace(facts.operations[0], failure=1), *facts.operations[1:])


def wait_on_a_worker(facts: Facts) -> None:
    waiting = facts.histories["scheduled_export"][0]
    facts.histories["scheduled_export"] = [replace(waiting, entries=(waiting.entries[0], waiting.entries[-1]), fired=0)]


def wake_without_a_trigger(facts: Facts) -> None:
    facts.histories["scheduled_export"] = [history("DicomWebExportToGcsOperator", "wait", fired=0)]


def end_early(facts: Facts) -> None:
    facts.error = "the power went out"


def test_what_went_well_is_ok() -> None:
    facts = everything_went_well()
    assert [check for check in facts.checks() if not check.ok] == []
    assert facts.summary(100.04) == {
        "ok": True,
        "dag_runs": dict.fromkeys(DAG_IDS, "success"),
        "stored": 1,
        "imported": 1,
        "exported": 1,
        "deleted": 1,
        "seconds": 100.0,
    }


@pytest.mark.parametrize(
    "spoil",
    [
        fail_a_run,
        forget_a_run,
        lose_an_instance,
        store_a_stranger,
        change_bytes,
        keep_silent_about_a_file,
        export_too_little,
        select_nothing,
        leave_a_strange_object,
        delete_nothing,
        delete_too_much,
        submit_twice,
        fail_an_item,
        wait_on_a_worker,
        wake_without_a_trigger,
        end_early,
    ],
)
def test_one_thing_amiss_is_not_ok(spoil: Callable[[Facts], None]) -> None:
    facts = everything_went_well()
    spoil(facts)
    assert not facts.ok


def test_what_was_not_looked_up_is_not_ok() -> None:
    assert not any(check.ok for check in Facts().checks())


@pytest.mark.parametrize("facts", [everything_went_well(), Facts(error="it ended early")], ids=["whole", "early"])
def test_whatever_is_known_can_be_shown(facts: Facts, tmp_path: Path) -> None:
    write_report(report_of(facts, started="today", seconds=1.0, places=[]), tmp_path / "report.html")
    assert (tmp_path / "report.html").stat().st_size > 1000
    assert "stored" in table_of(facts)
