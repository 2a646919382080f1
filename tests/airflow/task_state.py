"""The parts of a task's context that operators use, for a plain call of ``execute``."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from typing import Any

import pytest
from airflow.sdk import BaseOperator
from airflow.sdk.exceptions import TaskDeferred

from airflow_dicomweb.triggers import OperationTrigger


class StateStore:
    """A task state store like Airflow's: JSON values that outlive a try."""

    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []

    def get(self, key: str) -> Any:
        return self.written[-1]["value"] if self.written else None

    def set(self, key: str, value: Any, *, retention: Any) -> None:
        self.written.append({"key": key, "value": json.loads(json.dumps(value)), "retention": retention})

    @property
    def phases(self) -> list[str]:
        """The phases in the order in which they were written."""
        return [each["value"]["phase"] for each in self.written]


class TaskInstance:
    """Keeps what a task pushes."""

    def __init__(self) -> None:
        self.pushed: dict[str, Any] = {}

    def xcom_push(self, key: str, value: Any) -> None:
        self.pushed[key] = value


def context(state: StateStore | None = None) -> dict[str, Any]:
    """A context with a task state store, or without one, as Airflow gives before 3.3."""
    found: dict[str, Any] = {"ti": TaskInstance()}
    if state is not None:
        found["task_state_store"] = state
    return found


def defer(task: BaseOperator, found: dict[str, Any]) -> TaskDeferred:
    """Run the first leg of a task that is to defer: gives the deferral."""
    with pytest.raises(TaskDeferred) as deferral:
        task.execute(found)
    return deferral.value


def event_of(deferral: TaskDeferred) -> Any:
    """Wait as a triggerer does, with a trigger that is made again from its serialised form: gives the event."""
    path, arguments = deferral.trigger.serialize()
    assert path == "airflow_dicomweb.triggers.OperationTrigger"
    trigger = OperationTrigger(**json.loads(json.dumps(arguments)))

    async def first_event() -> Any:
        return (await anext(trigger.run())).payload

    return json.loads(json.dumps(asyncio.run(first_event())))


def see_through(task: BaseOperator, found: dict[str, Any]) -> Any:
    """Run a task to its end, in the triggerer in between if it wants to."""
    try:
        return task.execute(found)
    except TaskDeferred as deferral:
        return getattr(task, deferral.method_name)(found, event=event_of(deferral))


def wait_until(condition: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s"
        time.sleep(0.02)
