"""Nothing that a run leaves behind tells who the patients are: not the logs, not Airflow's database.

The patients are made up, and everything that would identify one is a value that occurs nowhere else. It is in the
files, in the names of folders, files and objects, in filters and in what goes wrong; and there is the token of the
connection. UIDs, counts and what a DAG's author types into the parameters of a run may be found; ``canary`` is such a
parameter, and shows that the search would find something.
"""

from __future__ import annotations

import json
import sqlite3
import stat
from contextlib import closing
from pathlib import Path

import pytest

from tests.system.evidence import Evidence
from tests.system.installation import PROBE, RECALL_STORE, SILENT_STORE
from tests.system.sentinels import Find, Sentinel, row_counts, search_database, search_file, search_files

pytestmark = [pytest.mark.system, pytest.mark.timeout(480)]

FAILURES = {
    "search_in_unknown_store": "NotFoundError",
    "search_without_answer": "TransportError",
    "search_for_no_date": "ConfigurationError",
    "search_by_no_keyword": "ConfigurationError",
    "store_refused": "StoreRefusedError",
    "store_missing_folder": "ConfigurationError",
    "delete_unexpected": "DicomWebError",
    "import_broken": "OperationFailedError",
    "watch_import": "AirflowFailException",
}
SUCCESSES = {"store", "search", "search_in_code", "export", "start_import", "say_canary"}
TABLES = {
    *("asset_event", "dag_code", "dag_run", "log", "rendered_task_instance_fields", "serialized_dag", "task_instance"),
    *("task_state_store", "trigger", "xcom"),
}
IN_NO_FILE = {"a filter that finds nothing", "the connection's token"}


def test_the_identifying_values_were_there(evidence: Evidence) -> None:
    folders = [evidence.folder / name for name in ("incoming", "upload", "recall", "refused", "manifests", "private")]
    seen = {find.sentinel for folder in folders for find in search_files(folder, evidence.sentinels)}
    assert seen == {sentinel.name for sentinel in evidence.sentinels} - IN_NO_FILE
    assert len(seen) == 3 * 9


def test_they_were_searched_for(evidence: Evidence) -> None:
    assert evidence.found == {"folder": 1, "bucket": 1, "recalled": 0}
    assert [list(found) for found in evidence.results["search"]] == [["StudyInstanceUID"]]
    assert evidence.results["search_in_code"] == 2
    asked = {(each["path"], name) for each in evidence.requests for name in each["parameters"]}
    assert (f"/v1/{RECALL_STORE}/dicomWeb/studies", "PatientID") in asked
    assert (f"/v1/{SILENT_STORE}/dicomWeb/studies", "PatientName") in asked


def test_what_was_to_fail_failed_for_the_reason_that_was_meant(evidence: Evidence) -> None:
    assert {task: history.task.state for task, history in evidence.probe.items()} == {
        **dict.fromkeys(FAILURES, "failed"),
        **dict.fromkeys(SUCCESSES, "success"),
    }
    assert {task: last_error(evidence, task) for task in FAILURES} == FAILURES
    assert all(fault["fired"] > 1 for fault in evidence.faults)
    assert len(evidence.faults) == 1
    refused = "\n".join(line["event"] for line in evidence.task_log(PROBE, "store_refused"))
    assert "conflict" in refused
    assert "SOP Instance UID is not a UID" in refused
    assert "Study Instance UID is missing" in refused


def test_requests_were_logged_in_full_in_workers_and_in_the_triggerer(evidence: Evidence) -> None:
    in_worker = [line["event"] for line in evidence.task_log(PROBE, "search") if "urllib3" in line.get("logger", "")]
    assert any(f"GET /v1/{RECALL_STORE}/dicomWeb/studies?..." in event for event in in_worker)
    in_triggerer = (evidence.folder / "airflow" / "components" / "triggerer.log").read_text().splitlines()
    assert any("urllib3" in line and "/operations/" in line for line in in_triggerer)


def test_no_log_tells_who_the_patients_are(evidence: Evidence) -> None:
    logs = evidence.folder / "logs"
    assert {path.name for path in logs.iterdir()} == {"cloud-storage.log", "emulator.log", "requests.json"}
    require_none(
        [*search_files(evidence.folder / "airflow", evidence.sentinels), *search_files(logs, evidence.sentinels)]
    )


def test_no_table_of_the_database_tells_who_the_patients_are(evidence: Evidence) -> None:
    for database in evidence.databases:
        require_none(search_database(database, evidence.sentinels, fernet_key=evidence.fernet_key))


def test_every_table_that_matters_was_searched_with_rows_in_it(evidence: Evidence) -> None:
    filled = {table for database in evidence.databases for table, rows in row_counts(database).items() if rows}
    assert TABLES - filled == set()


def test_the_same_search_finds_what_is_allowed(evidence: Evidence) -> None:
    canary = [Sentinel("the canary", evidence.canary)]
    places = {find.place.partition(",")[0] for find in search_files(evidence.folder / "airflow", canary)}
    assert {"airflow.db", "components/scheduler.log"} <= places
    assert any("task_id=say_canary/attempt=1.log" in place for place in places)
    columns = {find.place for find in search_database(evidence.databases[0], canary)}
    assert {"airflow.db: xcom.value", "airflow.db: dag_run.conf", "airflow.db: log.extra"} <= columns


def test_triggers_were_in_the_database_when_it_was_copied(evidence: Evidence) -> None:
    operation = evidence.facts.results["nightly_ingestion.import_bucket"]["operation"]
    name = [Sentinel("operation", operation.rpartition("/")[2])]
    finds = [
        find for path in evidence.databases for find in search_database(path, name, fernet_key=evidence.fernet_key)
    ]
    assert Find("nightly_ingestion-import_bucket-deferred.db: trigger.kwargs", "operation") in finds


def test_the_files_that_may_name_patients_are_for_their_owner_alone(evidence: Evidence) -> None:
    paths = [path for name in ("manifests", "private") for path in (evidence.folder / name).iterdir()]
    assert len(paths) == 5
    assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}


def test_no_temporary_file_is_left(evidence: Evidence) -> None:
    assert list((evidence.folder / "airflow" / "temporary").iterdir()) == []


@pytest.mark.parametrize("place", ["log", "database"])
def test_a_single_slip_would_have_been_found(evidence: Evidence, tmp_path: Path, place: str) -> None:
    sentinel = evidence.sentinels[0]
    path = tmp_path / "copy"
    if place == "log":
        (log,) = (evidence.folder / "airflow" / "logs").glob("dag_id=*/run_id=*/task_id=prove_complete/*.log")
        lines = [*log.read_text().splitlines(), json.dumps({"event": f"found {sentinel.value}"})]
        path.write_text("\n".join(lines))
        assert search_file(path, evidence.sentinels) == [Find(f"copy, line {len(lines)}", sentinel.name)]
    else:
        with closing(sqlite3.connect(evidence.databases[0])) as source, closing(sqlite3.connect(path)) as copy:
            source.backup(copy)
            copy.execute(
                "UPDATE xcom SET value = ? WHERE task_id = 'prove_complete' AND key = 'return_value'",
                (json.dumps({"patient": sentinel.value}),),
            )
            copy.commit()
        assert search_database(path, evidence.sentinels) == [Find("copy: xcom.value", sentinel.name)]


def require_none(finds: list[Find]) -> None:
    if finds:
        pytest.fail("\n".join(f"{find.place}: {find.sentinel}" for find in finds), pytrace=False)


def last_error(evidence: Evidence, task: str) -> str:
    errors = [line["error_detail"][0]["exc_type"] for line in evidence.task_log(PROBE, task) if "error_detail" in line]
    return str(errors[-1]) if errors else ""
