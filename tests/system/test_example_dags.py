"""The example DAGs on a real Airflow of four processes: what became of the files, and how the tasks waited."""

from __future__ import annotations

import hashlib
import json
import re
import sqlite3
from contextlib import closing

import pytest

from demo.data import SourceFile
from demo.facts import DAG_IDS
from demo.run import DICOM_STORE, EXPORT_BUCKET
from tests.system.evidence import Evidence
from tests.system.installation import INTERRUPTED, INTERRUPTED_STORE

pytestmark = [pytest.mark.system, pytest.mark.timeout(480)]


def test_the_runs_of_the_three_dags_succeed(evidence: Evidence) -> None:
    assert {dag_id: run.state for dag_id, run in evidence.facts.runs.items()} == dict.fromkeys(DAG_IDS, "success")


def test_all_that_the_demonstration_checks_holds(evidence: Evidence) -> None:
    checks = evidence.facts.checks()
    assert len(checks) == 8
    assert [check for check in checks if not check.ok] == []


def test_the_store_gave_back_every_file_byte_for_byte(evidence: Evidence) -> None:
    facts = evidence.facts
    assert facts.ingested is not None
    assert set(facts.ingested) == facts.expected
    assert facts.unequal == ()
    assert len({file.identity for file in files(evidence) if "pydicom" in str(file.path)}) > 100
    assert len({found.modality for found in facts.ingested.values()}) >= 8


def test_the_exported_objects_are_the_files_and_nothing_lies_beside_them(evidence: Evidence) -> None:
    facts = evidence.facts
    prefix = facts.results["scheduled_export.export_studies"]["prefix"].removeprefix(f"gs://{EXPORT_BUCKET}/")
    selected = [file for file in files(evidence) if file.identity in (facts.selected or ())]
    assert len(selected) > 60
    assert evidence.objects == {f"{prefix}{'/'.join(file.identity)}.dcm": digest(file) for file in selected}


def test_the_deleted_studies_are_gone_and_nothing_else_is(evidence: Evidence) -> None:
    facts = evidence.facts
    deleted = {file.identity for file in files(evidence) if file.identity.study in facts.doomed}
    assert evidence.left_of_deleted == dict.fromkeys(deleted, 404)
    assert len({identity.study for identity in deleted}) == 3
    assert facts.remaining == facts.expected - deleted


def test_every_wait_went_through_the_triggerer(evidence: Evidence) -> None:
    waits = {history.task.label: history for history in evidence.facts.waits}
    assert set(waits) == {"import_bucket", "export_studies", *(f"delete_study[{number}]" for number in range(3))}
    for label, history in waits.items():
        assert history.waited_by_trigger, label
        assert (history.deferred, history.legs, history.task.try_number) == (1, 2, 1), label


def test_the_links_in_the_ui_lead_to_the_operations_and_their_logs(evidence: Evidence) -> None:
    results = evidence.facts.results
    for dag_id, histories in evidence.facts.histories.items():
        for task in (history.task for history in histories if history in evidence.facts.waits):
            with closing(sqlite3.connect(evidence.databases[0])) as database:
                query = "SELECT key, value FROM xcom WHERE dag_id = ? AND task_id = ? AND map_index = ?"
                found = dict(database.execute(query, (dag_id, task.task_id, task.map_index)))
            result = results[f"{dag_id}.{task.label}"]
            assert json.loads(found["_link_OperationLink"]).endswith(f"/v1/{result['operation']}")
            assert json.loads(found["_link_OperationLogsLink"]) == result["logs_url"] != ""


def test_each_operation_was_submitted_once(evidence: Evidence) -> None:
    assert len(evidence.requests_to("POST", DICOM_STORE, ":import")) == 1
    assert len(evidence.requests_to("POST", DICOM_STORE, ":export")) == 1
    deletions = evidence.requests_to("DELETE", DICOM_STORE, "/dicomWeb/studies/[0-9.]+")
    assert {path.rpartition("/")[2] for path in deletions} == evidence.facts.doomed
    assert len(deletions) == 3
    assert not any(each["fault"] for each in evidence.requests if DICOM_STORE in each["path"])


def test_the_retry_of_a_killed_worker_takes_up_the_operation_and_does_not_submit_again(evidence: Evidence) -> None:
    assert evidence.interrupted is not None
    assert (evidence.interrupted_state, evidence.interrupted.state) == ("success", "success")
    assert evidence.interrupted.try_number == 2
    events = [line["event"] for line in evidence.task_log(INTERRUPTED)]
    (submitted,) = (event.split()[-1] for event in events if event.startswith("Submitted "))
    assert f"Taking up {submitted}, which an earlier try started" in events
    assert len(evidence.requests_to("POST", INTERRUPTED_STORE, ":import")) == 1
    assert not any(":cancel" in each["path"] for each in evidence.requests)


def test_runs_that_succeed_log_no_errors(evidence: Evidence) -> None:
    for dag_id in DAG_IDS:
        entries = evidence.task_log(dag_id)
        assert entries, dag_id
        assert [entry for entry in entries if entry["level"] in {"error", "critical"}] == []
    logs = sorted((evidence.folder / "airflow" / "components").glob("*.log"))
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    assert any(re.search(r"\[error +\]", line) for line in lines), "errors look different by now"
    errors = [line for line in lines if re.search(r"\[(error|critical) +\]", line)]
    assert [line for line in errors if any(dag_id in line for dag_id in DAG_IDS)] == []


def files(evidence: Evidence) -> tuple[SourceFile, ...]:
    return (*evidence.facts.bucket, *evidence.facts.folder)


def digest(file: SourceFile) -> str:
    return hashlib.sha256(file.path.read_bytes()).hexdigest()
