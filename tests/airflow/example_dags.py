"""Run an example DAG in this process, and see what became of each task."""

from __future__ import annotations

import importlib
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

DAG_IDS = ("event_driven_deletion", "nightly_ingestion", "scheduled_export")


@dataclass(frozen=True)
class Run:
    """A DAG run that has ended.

    :param state: State of the run.
    :param tasks: States of the task instances, mapped ones as ``task[0]``.
    :param results: What they returned.
    """

    state: str
    tasks: dict[str, str]
    results: dict[str, Any]


def load(dag_id: str) -> Any:
    """Read the DAG file anew, so that no test sees another one's changes."""
    return importlib.reload(importlib.import_module(f"example_dags.{dag_id}")).dag


def meanwhile(dag: Any, task_id: str, happens: Callable[[], None]) -> None:
    """Let something happen after a task, before its successors."""
    from airflow.providers.standard.operators.python import PythonOperator

    task = dag.get_task(task_id)
    successors = list(task.downstream_list)
    with dag:
        meanwhile = PythonOperator(task_id="meanwhile", python_callable=happens)
    task >> meanwhile >> successors


def run(dag: Any, conf: Mapping[str, Any], *, without: str | None = None) -> Run:
    """Run a DAG with ``dag.test()``: triggers run inline, retries included, without the minutes between them.

    A task that breaks where nobody expects it would otherwise run into the test's time-out, which does not say why.

    :param without: Name of a task that is marked as successful and not run.
    """
    from airflow.dag_processing.bundles.manager import DagBundlesManager
    from airflow.dag_processing.dagbag import DagBag, sync_bag_to_db

    for task in dag.tasks:
        task.retry_delay = timedelta(0)
    (Path(os.environ["AIRFLOW_HOME"]) / "dags").mkdir(exist_ok=True)
    DagBundlesManager().sync_bundles_to_db()
    bag = DagBag(dag_folder=os.devnull)
    bag.bag_dag(dag)
    sync_bag_to_db(bag, "dags-folder", None)
    ended = dag.test(run_conf=dict(conf), mark_success_pattern=without)
    instances = ended.get_task_instances()
    names = {ti: ti.task_id if ti.map_index < 0 else f"{ti.task_id}[{ti.map_index}]" for ti in instances}
    return Run(
        str(ended.state),
        {name: str(ti.state) for ti, name in names.items()},
        {name: ti.xcom_pull(task_ids=ti.task_id, map_indexes=ti.map_index) for ti, name in names.items()},
    )
