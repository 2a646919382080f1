"""Exports the studies that a query selects to a bucket, every week, and proves that the copy is complete.

1. `select_studies` searches the store and keeps the list of all instances of what it found. Nothing found: the run ends
   there, with its other tasks skipped.
2. `export_studies` has the Healthcare API export them to a prefix of their own, which ends in the run's id. The operator
   writes the filter file with the studies. The task waits in the triggerer.
3. `compare_export` compares the exported objects with the store, and **fails on any difference**. Only what came to the
   store or left it while the export ran may be on either side.

The studies are selected by the day they were acquired (`StudyDate`): by default the seven days before the run. Images that
arrive late belong to an earlier week: run it again for those days.

#### What it reports

The XCom of `compare_export`: `studies`, `instances`, `missing`, `unexpected` and the `prefix`.

#### It failed. What now?

A permission error names the role that is missing, and who needs it. Clear the failed tasks to try again: an export that is
still running is taken up again, not started twice; a repeated one writes the same objects again.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, ExceptionRetryPolicy, Param, RetryAction, RetryRule, task
from airflow.sdk.exceptions import AirflowFailException, AirflowSkipException

from airflow_dicomweb.errors import DicomWebError, TransportError, UnavailableError
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import DicomWebExportToGcsOperator

CONNECTION = "dicomweb_default"

log = logging.getLogger("airflow.task")

PARAMS = {
    "destination": Param(
        "gs://radiology-exports/weekly",
        type="string",
        pattern="^gs://[^*?]+$",
        title="Destination",
        description="Each run exports below it, to a prefix that ends in the run's id.",
    ),
    "modality": Param(
        "",
        type="string",
        pattern="^[A-Z0-9_]{0,16}$",
        title="Modality",
        description="Studies with a series of this modality, such as CT. Empty: all.",
    ),
    "study_dates": Param(
        "",
        type="string",
        pattern="^([0-9]{8}(-([0-9]{8})?)?|-[0-9]{8})?$",
        title="Study dates",
        description="YYYYMMDD, or a range such as 20260101-20260131 or 19000101-. Empty: the seven days before the run.",
    ),
    "manifests": Param(
        "/var/lib/airflow/dicomweb-manifests",
        type="string",
        pattern="^(/|gs://).+$",
        title="Private folder",
        description="Where the run keeps the list of selected instances: a folder that all workers share, or "
        "gs://BUCKET/PREFIX outside of the destination.",
    ),
}


@task(multiple_outputs=True)
def select_studies(params: dict[str, Any], dag_run: Any) -> dict[str, Any]:
    """Search, and keep what there is to export."""
    from airflow_dicomweb.dicomweb.inventory import find_instances, find_studies
    from airflow_dicomweb.healthcare.manifests import manifest_uri, write_manifest

    last_week = f"{dag_run.run_after - timedelta(days=7):%Y%m%d}-{dag_run.run_after - timedelta(days=1):%Y%m%d}"
    query = {"StudyDate": params["study_dates"] or last_week}
    if params["modality"]:
        query["Modality"] = params["modality"]
    with DicomWebHook(CONNECTION).get_healthcare_conn() as client:
        studies = find_studies(client, query)
        instances = list(find_instances(client, studies))
        if not instances:
            raise AirflowSkipException("the query selects nothing: there is nothing to export")
        manifest = manifest_uri(params["manifests"], "scheduled_export", dag_run.run_id)
        write_manifest(manifest, ({"path": str(path)} for path in instances), client.buckets)
    return {"query": query, "studies": len(studies), "instances": len(instances), "manifest": manifest}


@task
def compare_export(exported: dict[str, Any], query: dict[str, str], manifest: str, ti: Any) -> dict[str, Any]:
    """Compare what is in the bucket with what was, and is, in the store."""
    from airflow_dicomweb.dicomweb.inventory import find_instances, find_studies, missing_and_unexpected
    from airflow_dicomweb.dicomweb.resources import parse_path
    from airflow_dicomweb.healthcare.bodies import GcsPrefix
    from airflow_dicomweb.healthcare.exports import exported_instances
    from airflow_dicomweb.healthcare.manifests import read_manifest

    prefix = GcsPrefix.parse(exported["prefix"])
    with DicomWebHook(CONNECTION).get_healthcare_conn() as client:
        before = {parse_path(line["path"]) for line in read_manifest(manifest, client.buckets)}
        names = [found.name for found in client.buckets.list_prefix(prefix)]
        after = set(find_instances(client, find_studies(client, query)))
    found, others = exported_instances(names, prefix.prefix)
    missing, unexpected = missing_and_unexpected(found, before=before, after=after)
    report = {
        "studies": len({path.study for path in found}),
        "instances": len(found),
        "missing": len(missing),
        "unexpected": len(unexpected) + others,
        "prefix": exported["prefix"],
    }
    log.info("Export: %s", report)
    if missing or unexpected or others:
        ti.xcom_push("return_value", report)  # a task that fails returns nothing, and the counts matter most then
        shown = ", ".join(str(path) for path in [*missing, *unexpected][:5])
        raise AirflowFailException(
            f"{len(missing)} selected instances were not exported, {len(unexpected) + others} exported objects "
            f"were not selected{f', such as {shown}' if shown else ''}"
        )
    return report


with DAG(
    dag_id="scheduled_export",
    description="The studies that a query selects to a bucket, with a proof that the copy is complete",
    doc_md=__doc__,
    schedule="0 4 * * 1",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,
    max_active_runs=1,
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
    selection = select_studies()
    export_studies = DicomWebExportToGcsOperator(
        task_id="export_studies",
        dicomweb_conn_id=CONNECTION,
        # A run id may hold ':' and '+', which are a nuisance in object names.
        gcs_uri_prefix="{{ params.destination.rstrip('/') }}/{{ run_id | replace(':', '-') | replace('+', '-') }}",
        query=selection["query"],
        deferrable=True,
    )
    compare_export(export_studies.output, selection["query"], selection["manifest"])
