"""Deletes the studies that an event names from a DICOM store, and proves them gone.

Starts when the asset `dicom_studies_to_delete` (`dicomweb://retention/studies-to-delete`) is updated. The event's extra
names the studies, with the number of instances that each should have, or without:

```json
{"studies": [{"study": "1.2.840.1.2.3", "instances": 240}, "1.2.840.1.2.4"]}
```

A manual run takes the same list in the Param `studies`. A run with neither fails.

1. `read_request` collects the studies of all events, or of the Param.
2. `take_stock` counts what the store has of each.
3. `approve` asks a person, if the Param `require_approval` says so: the run waits under *Required Actions*. Whoever
   rejects ends the run there, with nothing deleted.
4. `delete_study`, one for each study. Right before the request **the instances are counted once more**: if they are not
   as many as expected (by the event, or else by `take_stock`), or if there are none, the task fails and nothing of that
   study is deleted. It waits in the triggerer.
5. `prove_gone` searches each study until two searches in a row find nothing, and **fails when something is left or when a
   study was not there**: a UID that nobody has is more often a mistake than a coincidence.

A study that fails does not stop the others.

#### It failed. What now?

The XCom of `prove_gone` lists `not_there` and `still_there`. For the latter read the log of its `delete_study`. Clear the
failed tasks, `prove_gone` included, to try again; a deletion that is still running is taken up again, not started twice.
If a number was wrong, or a study has changed, start a new run with the right list in the Param `studies`.
"""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import ApprovalOperator
from airflow.sdk import DAG, Asset, ExceptionRetryPolicy, Param, RetryAction, RetryRule, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_dicomweb.errors import ConfigurationError, DicomWebError, TransportError, UnavailableError
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import DicomWebDeleteStudyOperator

log = logging.getLogger("airflow.task")

CONNECTION = "dicomweb_default"
STUDIES_TO_DELETE = Asset(name="dicom_studies_to_delete", uri="dicomweb://retention/studies-to-delete")

UID = {"type": "string", "pattern": "^[0-9]+([.][0-9]+)*$", "maxLength": 64}
PARAMS = {
    "studies": Param(
        [],
        type="array",
        items={
            "anyOf": [
                UID,
                {
                    "type": "object",
                    "properties": {"study": UID, "instances": {"type": "integer", "minimum": 1}},
                    "required": ["study"],
                    "additionalProperties": False,
                },
            ]
        },
        title="Studies",
        description="For a manual run: Study Instance UIDs, or objects with study and instances (the number expected).",
    ),
    "require_approval": Param(
        default=False,
        type="boolean",
        title="Ask a person first",
        description="Before anything is deleted the run waits for an approval.",
    ),
    "max_studies": Param(
        100,
        type="integer",
        minimum=1,
        maximum=1000,
        title="Most studies in one run",
        description="A longer list fails before anything is deleted.",
    ),
    "look_interval": Param(
        5.0,
        type="number",
        minimum=0,
        title="Seconds between two looks",
        description="A study counts as gone when two searches in a row find nothing.",
    ),
}


@task
def read_request(params: dict[str, Any], triggering_asset_events: Any) -> list[dict[str, Any]]:
    """Collect the studies of the events or of the Param: each once, with the expected number or None."""
    from airflow_dicomweb.dicomweb.inventory import requested_studies

    lists = []
    for event in triggering_asset_events.get(STUDIES_TO_DELETE, []):
        said = event.extra.get("payload", event.extra)  # an asset watcher wraps what its trigger said
        lists.append(said.get("studies", []) if isinstance(said, dict) else said)
    studies = requested_studies(*lists) or requested_studies(params["studies"])
    if not studies:
        raise ConfigurationError("no study to delete: neither an asset event nor the Param 'studies' names one")
    if len(studies) > params["max_studies"]:
        raise ConfigurationError(f"{len(studies)} studies to delete, {params['max_studies']} are allowed in one run")
    return [{"study": study, "instances": expected} for study, expected in studies.items()]


@task
def take_stock(request: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Count what is there. What nobody expected is what was counted, so that an approval holds for just that."""
    from airflow_dicomweb.dicomweb.inventory import find_instances

    stock = []
    with DicomWebHook(CONNECTION).get_conn() as client:
        for study, expected in ((entry["study"], entry["instances"]) for entry in request):
            found = sum(1 for _ in find_instances(client, [study]))
            log.info("Study %s: %d instances, expected %s", study, found, expected or "any number")
            stock.append({"study": study, "found": found, "expected": expected or found or None})
    return stock


def to_delete(entry: dict[str, Any]) -> dict[str, Any]:
    """Give the arguments of the operator for one study."""
    return {"study": entry["study"], "expected": entry["expected"]}


@task.branch
def ask_first(params: dict[str, Any]) -> str:
    """Go through the approval, or past it."""
    return "approve" if params["require_approval"] else "delete_study"


@task(trigger_rule="all_done_min_one_success")
def prove_gone(stock: list[dict[str, Any]], params: dict[str, Any], ti: Any) -> dict[str, Any]:
    """Search every study twice."""
    from airflow_dicomweb.dicomweb.inventory import instances_left

    report: dict[str, Any] = {"deleted": 0, "not_there": [], "still_there": []}
    with DicomWebHook(CONNECTION).get_conn() as client:
        for study, found in ((entry["study"], entry["found"]) for entry in stock):
            if instances_left(client, study, look_interval=params["look_interval"]):
                report["still_there"].append(study)
            elif found:
                report["deleted"] += 1
            else:
                report["not_there"].append(study)
    log.info("Deletion: %s", report)
    if report["not_there"] or report["still_there"]:
        ti.xcom_push("return_value", report)  # a task that fails returns nothing, and the list matters most then
        raise AirflowFailException(
            f"of {len(stock)} studies {report['deleted']} are deleted, "
            f"{len(report['not_there'])} were not there, {len(report['still_there'])} are still there"
        )
    return report


with DAG(
    dag_id="event_driven_deletion",
    description="Deletes the studies that an asset event names, after a check, and proves them gone",
    doc_md=__doc__,
    schedule=[STUDIES_TO_DELETE],
    max_active_runs=1,  # two runs for the same study would each find the other's work
    params=PARAMS,
    tags=["dicomweb"],
    default_args={
        "retries": 2,
        "retry_delay": timedelta(minutes=1),
        "retry_policy": ExceptionRetryPolicy(
            rules=[
                RetryRule([TransportError, UnavailableError], RetryAction.RETRY),
                RetryRule(DicomWebError, RetryAction.FAIL, reason="the same would happen again"),
            ]
        ),
    },
) as dag:
    stock = take_stock(read_request())
    approve = ApprovalOperator(
        task_id="approve",
        subject="Delete {{ ti.xcom_pull(task_ids='take_stock') | length }} studies?",
        body="{% for entry in ti.xcom_pull(task_ids='take_stock') %}"
        "* `{{ entry.study }}`: {{ entry.found }} instances, {{ entry.expected or 'any number' }} expected\n"
        "{% endfor %}",
        ignore_downstream_trigger_rules=True,  # or prove_gone would prove that nothing was deleted
    )
    delete_study = DicomWebDeleteStudyOperator.partial(
        task_id="delete_study",
        dicomweb_conn_id=CONNECTION,
        deferrable=True,
        trigger_rule="none_failed_min_one_success",
        max_active_tis_per_dagrun=4,
    ).expand_kwargs(stock.map(to_delete))
    stock >> ask_first() >> [approve, delete_study]
    approve >> delete_study >> prove_gone(stock)
