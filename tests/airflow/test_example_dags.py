"""The example DAGs as files: what they need to be read, and what they promise before anything runs."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.airflow.example_dags import DAG_IDS, load

EXAMPLES = Path(__file__).parent.parent.parent / "example_dags"
# What a DAG file must not load: it is read again every few seconds.
HEAVY = ("requests", "google.auth", "google.cloud", "pydicom", "numpy", "sqlite3", "starlette")

# Everything that a DAG file might ask of the world is refused while it is read.
READ = """
import json, socket, sys
from airflow.sdk import DAG
before = set(sys.modules)
connect = socket.socket.connect
def refuse(*args): raise AssertionError("a DAG file connects to something")
socket.socket.connect = refuse
sys.path.insert(0, sys.argv[1])
module = __import__(sys.argv[2])
print(json.dumps({"dag_id": module.dag.dag_id, "loaded": sorted(set(sys.modules) - before)}))
"""


def all_dags() -> Any:
    return pytest.mark.parametrize("dag_id", DAG_IDS)


def test_every_file_of_the_folder_is_an_example_that_is_tested() -> None:
    assert sorted(path.stem for path in EXAMPLES.glob("*.py")) == sorted(DAG_IDS)


@all_dags()
def test_a_file_is_read_without_connection_network_or_anything_heavy(dag_id: str, tmp_path: Path) -> None:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_CONN")}
    environment["AIRFLOW_HOME"] = str(tmp_path)
    command = [sys.executable, "-c", READ, str(EXAMPLES), dag_id]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, env=environment, timeout=60)
    assert ended.returncode == 0, ended.stderr
    said = json.loads(ended.stdout.splitlines()[-1])
    assert said["dag_id"] == dag_id
    heavy = [name for name in said["loaded"] if any(name == each or name.startswith(f"{each}.") for each in HEAVY)]
    assert heavy == []


@all_dags()
def test_a_dag_documents_itself_and_every_param(dag_id: str) -> None:
    dag = load(dag_id)
    assert dag.doc_md == sys.modules[f"example_dags.{dag_id}"].__doc__
    assert "#### It failed. What now?" in dag.doc_md
    for name in dag.params:
        param = dag.params.get_param(name)
        assert {"type", "title"} <= param.schema.keys(), name
        assert param.description.endswith("."), name
        param.resolve()  # its default satisfies its own schema


@all_dags()
def test_a_dag_runs_once_at_a_time_does_not_catch_up_and_tries_again_what_may_succeed(dag_id: str) -> None:
    from airflow.sdk import RetryAction

    from airflow_dicomweb.errors import ConfigurationError, TransportError, UnavailableError

    dag = load(dag_id)
    assert (dag.max_active_runs, dag.catchup) == (1, False)
    policy = dag.default_args["retry_policy"]
    for task in dag.tasks:
        if task.task_id != "approve":
            assert task.retries == 2, task.task_id
    for error, action in (
        (TransportError("reset"), RetryAction.RETRY),
        (UnavailableError(503, "GET", "http://host/"), RetryAction.RETRY),
        (ConfigurationError("bad"), RetryAction.FAIL),
        (MemoryError(), RetryAction.DEFAULT),
    ):
        assert policy.evaluate(error, 1, 3).action is action


@pytest.mark.parametrize(
    ("dag_id", "edges"),
    [
        (
            "nightly_ingestion",
            {
                "take_listing": {"choose_sources", "prove_complete"},
                "choose_sources": {"import_bucket", "store_folder"},
                "import_bucket": {"prove_complete"},
                "store_folder": {"prove_complete"},
            },
        ),
        (
            "scheduled_export",
            {"select_studies": {"export_studies", "compare_export"}, "export_studies": {"compare_export"}},
        ),
        (
            "event_driven_deletion",
            {
                "read_request": {"take_stock"},
                "take_stock": {"ask_first", "delete_study", "prove_gone"},
                "ask_first": {"approve", "delete_study"},
                "approve": {"delete_study"},
                "delete_study": {"prove_gone"},
            },
        ),
    ],
)
def test_the_last_task_of_a_dag_is_its_proof(dag_id: str, edges: dict[str, set[str]]) -> None:
    dag = load(dag_id)
    assert {task.task_id: task.downstream_task_ids for task in dag.tasks if task.downstream_task_ids} == edges
    (last,) = dag.leaves
    assert last.task_id in {"prove_complete", "compare_export", "prove_gone"}


def test_the_deletion_is_started_by_its_asset() -> None:
    dag = load("event_driven_deletion")
    (asset,) = dag.schedule
    assert (asset.name, asset.uri) == ("dicom_studies_to_delete", "dicomweb://retention/studies-to-delete")
    assert asset.uri in dag.doc_md


@pytest.mark.parametrize(
    ("dag_id", "param", "value"),
    [
        ("nightly_ingestion", "bucket_prefix", "gs://bucket/**"),
        ("nightly_ingestion", "folder", "incoming"),
        ("nightly_ingestion", "max_failures", -1),
        ("scheduled_export", "modality", "CT\\MR"),
        ("scheduled_export", "study_dates", "2026-01-01"),
        ("event_driven_deletion", "studies", [".."]),
        ("event_driven_deletion", "studies", "1.2"),
    ],
)
def test_a_param_refuses_what_cannot_be_meant_before_the_run(dag_id: str, param: str, value: Any) -> None:
    from airflow.sdk.exceptions import ParamValidationError

    with pytest.raises(ParamValidationError):
        load(dag_id).params.get_param(param).resolve(value)
