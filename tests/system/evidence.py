"""What one run of everything left behind, for the tests to look at."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from demo.airflow_api import TaskState
from demo.airflow_runs import TaskHistory
from demo.data import Identity
from demo.facts import Facts
from tests.system.sentinels import Sentinel


@dataclass(slots=True, repr=False)
class Evidence:
    """What is known of the run when everything is stopped.

    :param folder: What it wrote: ``airflow`` is AIRFLOW_HOME, ``snapshots`` has copies of the database, and ``logs``
        what the emulators said.
    :param fernet_key: What Airflow encrypted in its database with.
    :param sentinels: What must not be found.
    :param canary: What must be found.
    :param facts: What the demonstration's own look at the example DAGs found.
    :param probe: Task id -> what became of each task of the DAG that asks for trouble.
    :param interrupted: The task whose first try was killed.
    :param interrupted_state: State of its run.
    :param requests: The emulator's log of requests.
    :param faults: The faults that the emulator was asked for.
    :param results: Task id -> what a task of that DAG returned.
    :param found: How many studies the main store had of each patient after the ingestion.
    :param objects: SHA-256 of each object in the bucket of the exports, by name.
    :param left_of_deleted: Status with which the store answers for each instance of the deleted studies.
    """

    folder: Path
    fernet_key: str
    canary: str
    sentinels: tuple[Sentinel, ...] = ()
    facts: Facts = field(default_factory=Facts)
    probe: dict[str, TaskHistory] = field(default_factory=dict)
    interrupted: TaskState | None = None
    interrupted_state: str = ""
    requests: list[dict[str, Any]] = field(default_factory=list)
    faults: list[dict[str, Any]] = field(default_factory=list)
    results: dict[str, Any] = field(default_factory=dict)
    found: dict[str, int] = field(default_factory=dict)
    objects: dict[str, str] = field(default_factory=dict)
    left_of_deleted: dict[Identity, int] = field(default_factory=dict)

    @property
    def databases(self) -> list[Path]:
        """Airflow's database as it was left, and copies from when triggers were in it."""
        return [self.folder / "airflow" / "airflow.db", *sorted((self.folder / "snapshots").glob("*.db"))]

    def task_log(self, dag_id: str, task_id: str = "*") -> list[dict[str, Any]]:
        """Give what the tries of a task, or of all tasks of a DAG, and their triggers logged."""
        pattern = f"dag_id={dag_id}/run_id=*/task_id={task_id}/**/*.log*"
        paths = sorted((self.folder / "airflow" / "logs").glob(pattern))
        return [json.loads(line) for path in paths for line in path.read_text().splitlines()]

    def requests_to(self, method: str, store: str, ending: str) -> list[str]:
        """Paths of the requests of a kind that came to a DICOM store.

        :param ending: Regular expression for what follows the store's name.
        """
        paths = [each["path"] for each in self.requests if each["method"] == method]
        return [path for path in paths if re.fullmatch(f"/v1/{re.escape(store)}{ending}", path)]
