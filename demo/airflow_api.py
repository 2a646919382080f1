"""What the demonstration and the system tests ask of Airflow's REST API.

Source: https://airflow.apache.org/docs/apache-airflow/stable/stable-rest-api-ref.html
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from urllib.parse import quote

import requests

PAGE_SIZE = 100
_ATTEMPTS = 5


class AirflowApiError(RuntimeError):
    """The API did not answer, or refused.

    :param status: HTTP status of the answer; None when there was none.
    """

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True, slots=True)
class TaskState:
    """How far one task instance of a run is.

    :param task_id: The task, with its group.
    :param map_index: Its number among the instances of a mapped task, else -1.
    :param operator: Class name of the operator.
    :param state: Airflow's word for it; None before it is scheduled.
    :param try_number: 1 for the first attempt.
    :param started: ISO 8601 moment of the last start; None before it.
    :param seconds: Length of its last leg; None while it runs.
    """

    task_id: str
    map_index: int
    operator: str
    state: str | None
    try_number: int
    started: str | None
    seconds: float | None

    @property
    def label(self) -> str:
        """Task id, with the number of a mapped instance."""
        return self.task_id if self.map_index < 0 else f"{self.task_id}[{self.map_index}]"


@dataclass(frozen=True, slots=True)
class AuditEntry:
    """One entry of the audit log; a task has one for every state that it entered from a worker.

    :param task_id: The task; None for entries about the run.
    :param map_index: As in ``TaskState``.
    :param event: The state, such as ``running``, ``deferred``, ``success``.
    :param time: Unix time.
    """

    task_id: str | None
    map_index: int
    event: str
    time: float


@dataclass(frozen=True, slots=True)
class RunState:
    """One run of a DAG.

    :param dag_id: The DAG.
    :param run_id: The run.
    :param run_type: ``manual``, ``scheduled``, ``asset_triggered``, ...
    :param state: ``queued``, ``running``, ``success`` or ``failed``.
    :param seconds: Its length; None while it runs.
    """

    dag_id: str
    run_id: str
    run_type: str
    state: str
    seconds: float | None


class AirflowApi:
    """One method for each request; the waiting is in ``demo.airflow_runs``.

    :param url: Base URL of the api-server. It must let everybody in as an administrator
        (``[core] simple_auth_manager_all_admins``).
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = requests.Session()
        self._session.trust_env = False

    def close(self) -> None:
        """Close the connections; the next request opens them again."""
        self._session.close()

    def health(self) -> dict[str, str | None]:
        """State of each component by name, ``healthy`` or not.

        :raises AirflowApiError: No answer yet.
        """
        answer = self._send("GET", "/api/v2/monitor/health", None, None)
        return {name: component.get("status") for name, component in answer.items() if component}

    def dag(self, dag_id: str) -> dict[str, Any] | None:
        """Say what Airflow knows of a DAG; None until it has been parsed and stored."""
        return self._call_if_found(f"/api/v2/dags/{dag_id}")

    def import_errors(self) -> dict[str, str]:
        """File name -> traceback of the DAG files that could not be imported."""
        entries = self._pages("/api/v2/importErrors", "import_errors", {})
        return {entry["filename"]: entry["stack_trace"] for entry in entries}

    def set_paused(self, dag_id: str, *, paused: bool) -> None:
        """Pause a DAG, or let it run: a paused one accepts runs and does not start them."""
        self._call("PATCH", f"/api/v2/dags/{dag_id}", json={"is_paused": paused}, params={"update_mask": "is_paused"})

    def trigger(self, dag_id: str, conf: Mapping[str, Any] | None = None, *, logical_date: str | None = None) -> str:
        """Start a run; its id.

        :param conf: Values of the DAG's params.
        :param logical_date: ISO 8601 moment with time zone; None = a run without one.
        """
        body = {"logical_date": logical_date, "conf": dict(conf or {})}
        run_id: str = self._call("POST", f"/api/v2/dags/{dag_id}/dagRuns", json=body)["dag_run_id"]
        return run_id

    def run(self, dag_id: str, run_id: str) -> RunState:
        """Read one run."""
        return _run_state(self._call("GET", _run_path(dag_id, run_id)))

    def runs(self, dag_id: str) -> list[RunState]:
        """All runs of a DAG, oldest first."""
        entries = self._pages(f"/api/v2/dags/{dag_id}/dagRuns", "dag_runs", {"order_by": "run_after"})
        return [_run_state(entry) for entry in entries]

    def task_instances(self, dag_id: str, run_id: str) -> list[TaskState]:
        """List the task instances of a run, in the order of their start; those not started last."""
        entries = self._pages(f"{_run_path(dag_id, run_id)}/taskInstances", "task_instances", {})
        states = [_task_state(entry) for entry in entries]
        return sorted(states, key=lambda task: (task.started is None, task.started or "", task.task_id, task.map_index))

    def task_log(self, dag_id: str, run_id: str, task: TaskState, *, try_number: int | None = None) -> list[str]:
        """Read the log of a try, the latest if not told otherwise, as lines of ``logger: event``.

        What the task's trigger logged is in it as well.
        """
        attempt = task.try_number if try_number is None else try_number
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task.task_id}/logs/{attempt}"
        answer = self._call("GET", path, params={"full_content": "true", "map_index": task.map_index})
        return [_log_line(entry) for entry in answer["content"]]

    def xcom(self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", *, map_index: int = -1) -> Any:
        """Read the value that a task left under a key; None when there is none."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/xcomEntries/{key}"
        entry = self._call_if_found(path, {"map_index": map_index, "deserialize": "false", "stringify": "false"})
        return entry["value"] if entry else None

    def post_asset_event(self, name: str, extra: Mapping[str, Any]) -> None:
        """Report a change of an asset, which starts the DAGs that are scheduled on it.

        :param name: The asset's name, exactly.
        :param extra: What the event says; the runs it starts can read it.
        """
        assets = self._pages("/api/v2/assets", "assets", {"name_pattern": name})
        ids = [asset["id"] for asset in assets if asset["name"] == name]
        if not ids:
            raise AirflowApiError(f"No DAG names an asset {name!r}")
        self._call("POST", "/api/v2/assets/events", json={"asset_id": ids[0], "extra": dict(extra)})

    def answer_approval(self, dag_id: str, run_id: str, task_id: str, choice: str = "Approve") -> None:
        """Answer a task that waits for a person's decision."""
        path = f"{_run_path(dag_id, run_id)}/taskInstances/{task_id}/-1/hitlDetails"
        self._call("PATCH", path, json={"chosen_options": [choice], "params_input": {}})

    def audit_log(self, dag_id: str, run_id: str) -> list[AuditEntry]:
        """List what the audit log says of the tasks of a run, oldest first."""
        filters = {"dag_id": dag_id, "run_id": run_id, "order_by": "event_log_id"}
        return [_audit_entry(entry) for entry in self._pages("/api/v2/eventLogs", "event_logs", filters)]

    def _call_if_found(self, path: str, params: Mapping[str, Any] | None = None) -> dict[str, Any] | None:
        try:
            entry: dict[str, Any] = self._call("GET", path, params=params)
        except AirflowApiError as error:
            if error.status == 404:
                return None
            raise
        return entry

    def _pages(self, path: str, key: str, params: Mapping[str, Any]) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = []
        while True:
            answer = self._call("GET", path, params={**params, "limit": PAGE_SIZE, "offset": len(entries)})
            entries += answer[key]
            if not answer[key] or len(entries) >= answer["total_entries"]:
                return entries

    def _call(self, method: str, path: str, *, json: Any = None, params: Mapping[str, Any] | None = None) -> Any:
        # SQLite under load and an api-server that is being replaced both look like a passing fault. Only
        # reading is repeated: a repeated POST could start a second run.
        attempts = _ATTEMPTS if method == "GET" else 1
        for attempt in range(1, attempts + 1):
            try:
                if "Authorization" not in self._session.headers:
                    token = self._send("GET", "/auth/token", None, None)["access_token"]
                    self._session.headers["Authorization"] = f"Bearer {token}"
                return self._send(method, path, json, params)
            except AirflowApiError as error:
                if attempt == attempts or (error.status is not None and error.status < 500):
                    raise
            time.sleep(1.0)
        raise AssertionError("unreachable")

    def _send(self, method: str, path: str, json: Any, params: Mapping[str, Any] | None) -> Any:
        headers = {"Accept": "application/json"}
        try:
            answer = self._session.request(
                method, self._url + path, json=json, params=params, headers=headers, timeout=30.0
            )
        except requests.RequestException as error:
            raise AirflowApiError(f"{method} {path}: no answer ({type(error).__name__})") from None
        if not answer.ok:
            raise AirflowApiError(
                f"{method} {path}: {answer.status_code} {answer.text[:500]}", status=answer.status_code
            )
        return answer.json() if answer.content else None


def _run_path(dag_id: str, run_id: str) -> str:
    return f"/api/v2/dags/{dag_id}/dagRuns/{quote(run_id, safe='')}"


def _run_state(entry: Mapping[str, Any]) -> RunState:
    return RunState(
        dag_id=entry["dag_id"],
        run_id=entry["dag_run_id"],
        run_type=entry["run_type"],
        state=entry["state"],
        seconds=entry.get("duration"),
    )


def _task_state(entry: Mapping[str, Any]) -> TaskState:
    return TaskState(
        task_id=entry["task_id"],
        map_index=entry["map_index"],
        operator=entry["operator_name"] or entry["operator"] or "",
        state=entry["state"],
        try_number=entry["try_number"],
        started=entry["start_date"],
        seconds=entry["duration"],
    )


def _audit_entry(entry: Mapping[str, Any]) -> AuditEntry:
    return AuditEntry(
        task_id=entry["task_id"],
        map_index=-1 if entry["map_index"] is None else entry["map_index"],
        event=entry["event"],
        time=datetime.fromisoformat(entry["when"]).timestamp(),
    )


def _log_line(entry: Any) -> str:
    if isinstance(entry, str):
        return entry
    detail = "".join(f" {error['exc_type']}: {error['exc_value']}" for error in entry.get("error_detail") or ())
    return f"{entry.get('logger', '')}: {entry['event']}{detail}".removeprefix(": ")
