"""Waiting for a DAG and its runs, and telling what became of their tasks and how those waited."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from demo.airflow_api import AirflowApi, AirflowApiError, AuditEntry, RunState, TaskState

FINISHED = ("success", "failed")
_FAILED_TASKS = ("failed", "upstream_failed")
_FAILED_TRIES = ("failed", "up_for_retry")
_LOG_LINES = 15
_FAILURE = "Task failed with exception"
_FIRED = "Trigger fired event"
_NOISE = re.compile(r"::(end)?group::|^/.*\.log$|DagBundlesManager|BundleDagBag|Worker startup")


class RunFailedError(RuntimeError):
    """A run failed or did not end in time; the message names the tasks and quotes the ends of their logs."""


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """What became of one task instance.

    :param task: The task instance, as it ended.
    :param entries: Its entries of the audit log, oldest first.
    :param fired: Events that the triggerer reports to have sent for it.
    """

    task: TaskState
    entries: tuple[AuditEntry, ...]
    fired: int

    @property
    def deferred(self) -> int:
        """Times it handed its wait to the triggerer and gave its worker back."""
        return sum(entry.event == "deferred" for entry in self.entries)

    @property
    def legs(self) -> int:
        """Times a worker ran it."""
        return sum(entry.event == "running" for entry in self.entries)

    @property
    def waited_by_trigger(self) -> bool:
        """Whether it was deferred, and woken by its trigger each time."""
        return 0 < self.deferred == self.fired


def wait_for_dag(api: AirflowApi, dag_id: str, *, timeout: float = 90.0) -> None:
    """Wait until the dag-processor has parsed a DAG.

    :param timeout: Seconds to wait.
    :raises AirflowApiError: A DAG file cannot be imported (the message has the traceback), or it took too long.
    """
    deadline = time.monotonic() + timeout
    while api.dag(dag_id) is None:
        if errors := api.import_errors():
            raise AirflowApiError("\n".join(f"{name} cannot be imported:\n{trace}" for name, trace in errors.items()))
        if time.monotonic() > deadline:
            raise AirflowApiError(f"DAG {dag_id} was not parsed within {timeout:g} s")
        time.sleep(0.5)


def start_scheduled_run(api: AirflowApi, dag_id: str, conf: Mapping[str, Any]) -> str:
    """Start the run that the schedule of a paused DAG would start next, with parameters; its id.

    The run gets the logical date of that scheduled run. So the scheduler finds it when the DAG is unpaused, and
    does not start another one beside it with the default parameters.

    :param conf: Values of the DAG's params.
    """
    dag = api.dag(dag_id) or {}
    now = datetime.now(UTC).isoformat()
    due = dag.get("next_dagrun_logical_date") or now
    run_id = api.trigger(dag_id, conf, logical_date=min(due, now, key=datetime.fromisoformat))
    api.set_paused(dag_id, paused=False)
    return run_id


def wait_for_new_run(api: AirflowApi, dag_id: str, known: set[str], *, timeout: float = 60.0) -> str:
    """Wait until a DAG has a run that is not among the known ones; its id.

    :param known: Ids of the runs from before.
    :param timeout: Seconds to wait.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for run in api.runs(dag_id):
            if run.run_id not in known:
                return run.run_id
        time.sleep(0.5)
    raise RunFailedError(f"DAG {dag_id} was not started within {timeout:g} s")


def wait_for_run(
    api: AirflowApi, dag_id: str, run_id: str, *, timeout: float = 180.0, progress: Callable[[str], None] = print
) -> RunState:
    """Wait until a run has ended well.

    :param timeout: Seconds to wait.
    :param progress: Called with one line for each change of a task's state.
    :raises RunFailedError: It failed, or is not done in time.
    """
    started = time.monotonic()
    seen: dict[str, str | None] = {}
    while True:
        run = api.run(dag_id, run_id)
        for task in api.task_instances(dag_id, run_id):
            if task.state is not None and seen.get(task.label) != task.state:
                seen[task.label] = task.state
                why = f" ({_failure(api, dag_id, run_id, task)})" if task.state in _FAILED_TRIES else ""
                progress(f"{dag_id}.{task.label}: {task.state}{why}")
        if run.state == "success":
            return run
        if run.state == "failed":
            raise RunFailedError(f"Run {run_id} of {dag_id} failed.\n{failure_report(api, dag_id, run_id)}")
        if time.monotonic() - started > timeout:
            states = ", ".join(f"{label}: {state}" for label, state in seen.items())
            raise RunFailedError(f"Run {run_id} of {dag_id} was not done within {timeout:g} s ({states})")
        time.sleep(0.5)


def wait_for_task(
    api: AirflowApi, dag_id: str, run_id: str, task_id: str, state: str, *, timeout: float = 60.0
) -> TaskState:
    """Wait until an instance of a task is in a state, such as ``deferred`` or ``awaiting_input``.

    :param timeout: Seconds to wait.
    """
    deadline = time.monotonic() + timeout
    while time.monotonic() < deadline:
        for task in api.task_instances(dag_id, run_id):
            if task.task_id == task_id and task.state == state:
                return task
        time.sleep(0.25)
    raise RunFailedError(f"Task {task_id} of {dag_id} was not {state} within {timeout:g} s")


def approve(api: AirflowApi, dag_id: str, run_id: str, task_id: str, *, timeout: float = 60.0) -> None:
    """Approve what a task of a run asks a person to approve, as soon as it asks.

    :param timeout: Seconds to wait for the question.
    """
    wait_for_task(api, dag_id, run_id, task_id, "awaiting_input", timeout=timeout)
    # No person answers within a second, and Airflow 3.3 fails a task that resumes before the scheduler has
    # heard the end of its first leg (apache/airflow 66374).
    time.sleep(3.0)
    api.answer_approval(dag_id, run_id, task_id)


def failure_report(api: AirflowApi, dag_id: str, run_id: str) -> str:
    """Name the failed tasks of a run and quote the ends of their logs."""
    lines = []
    for task in api.task_instances(dag_id, run_id):
        if task.state in _FAILED_TASKS:
            lines.append(f"  {task.label} (try {task.try_number}): {task.state}")
        if task.state == "failed":
            log = [line for line in api.task_log(dag_id, run_id, task) if _NOISE.search(line) is None]
            lines += [f"    {line}" for line in log[-_LOG_LINES:]]
    return "\n".join(lines)


def _failure(api: AirflowApi, dag_id: str, run_id: str, task: TaskState) -> str:
    lines = [line.partition(_FAILURE)[2] for line in api.task_log(dag_id, run_id, task) if _FAILURE in line]
    return lines[-1].strip() if lines else f"try {task.try_number}"


def histories(api: AirflowApi, dag_id: str, run_id: str) -> list[TaskHistory]:
    """Tell what became of each task instance of a run, and how it waited.

    The audit log has an entry for every time a worker started, deferred or ended a task. The event that ends a
    deferral is reported by the triggerer, in the log of the task that it wakes.
    """
    entries = api.audit_log(dag_id, run_id)
    found = []
    for task in api.task_instances(dag_id, run_id):
        own = tuple(entry for entry in entries if (entry.task_id, entry.map_index) == (task.task_id, task.map_index))
        deferred = any(entry.event == "deferred" for entry in own)
        tries = range(1, task.try_number + 1) if deferred else ()
        lines = [line for number in tries for line in api.task_log(dag_id, run_id, task, try_number=number)]
        found.append(TaskHistory(task, own, fired=sum(_FIRED in line for line in lines)))
    return found
