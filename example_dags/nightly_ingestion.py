"""Takes the night's images from a bucket and from a folder into a DICOM store, and proves that none was lost.

1. `take_listing` lists bucket and folder and reads the identity (Study, Series and SOP Instance UID) from the header of
   every file. **Only what it listed is proved**: a file that arrives later belongs to the next night.
2. `choose_sources` leaves out the bucket or the folder if it has nothing new.
3. `import_bucket` has the Healthcare API import the prefix. The task waits in the triggerer.
4. `store_folder` sends the folder's files.
5. `prove_complete` looks for every listed instance in the store, and **fails when one is missing**.

Nothing is removed from bucket or folder.

#### What it reports

The XCom of `prove_complete` has counts, never names: `distinct` instances, and the listed `files` by outcome, which add
up.

| outcome | the file | fails the run |
|---|---|---|
| `stored` | is in the store | |
| `identical` | was there already, in the store or twice in the listing, byte for byte | |
| `conflicting` | has an identity under which the store, or a file listed before it, has other bytes | if more than `max_failures` |
| `unusable` | is DICOM without a usable header or identity, or cannot be opened | if more than `max_failures` |
| `not_dicom` | is something else | if more than `max_not_dicom` |
| `missing` | is not in the store | always |
| `unlisted` | is a directory or ZIP file that cannot be listed: nobody knows what is in it | always |

Which file it was stands in the private report whose URI is in the XCom: it holds file names, which may be patients'
names.

#### It failed. What now?

Read the last line of the failed task's log, correct the cause, clear the failed tasks. A cleared import that is still
running is taken up again, not started twice. Clear the run from `take_listing` to take a new listing.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.sdk import DAG, ExceptionRetryPolicy, Param, RetryAction, RetryRule, task
from airflow.sdk.exceptions import AirflowFailException

from airflow_dicomweb.errors import DicomWebError, TransportError, UnavailableError
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import DicomWebImportFromGcsOperator, DicomWebStoreInstancesOperator

CONNECTION = "dicomweb_default"

log = logging.getLogger("airflow.task")

# The proof judges, not the counters on the way: to them a file that is not DICOM, or that arrived after the listing,
# is a failure like any other.
ANY_NUMBER = 2**31

PARAMS = {
    "bucket_prefix": Param(
        "gs://radiology-landing/incoming",
        type="string",
        pattern="^(gs://[^*?]+)?$",
        title="Bucket prefix",
        description="Everything below it is imported. Empty: no bucket.",
    ),
    "folder": Param(
        "/srv/dicom/incoming",
        type="string",
        pattern="^(/.*)?$",
        title="Folder",
        description="Everything in it and below it is stored. Absolute, on every worker. Empty: no folder.",
    ),
    "max_failures": Param(
        0,
        type="integer",
        minimum=0,
        title="Tolerated failures",
        description="How many listed files may be conflicting or unusable. A missing instance is never "
        "tolerated, nor is a directory or ZIP file that cannot be listed.",
    ),
    "max_not_dicom": Param(
        None,
        type=["null", "integer"],
        minimum=0,
        title="Tolerated files that are not DICOM",
        description="Empty: any number.",
    ),
    "manifests": Param(
        "/var/lib/airflow/dicomweb-manifests",
        type="string",
        pattern="^(/|gs://).+$",
        title="Private folder",
        description="Where the run keeps its listing and its report, with file names in them: a folder that all "
        "workers share, or gs://BUCKET/PREFIX outside of the bucket prefix.",
    ),
    "look_interval": Param(
        5.0,
        type="number",
        minimum=0,
        title="Seconds between two looks",
        description="Searches may lag behind an import. What is not found is looked for three times.",
    ),
}


@task
def take_listing(params: dict[str, Any], run_id: str) -> dict[str, Any]:
    """Freeze what there is, and what the headers say."""
    from airflow_dicomweb.dicomweb.completeness import list_if_any
    from airflow_dicomweb.dicomweb.completeness import take_listing as read_listing
    from airflow_dicomweb.healthcare.manifests import manifest_uri, write_manifest

    with DicomWebHook(CONNECTION).get_healthcare_conn() as client:
        prefix, folder = params["bucket_prefix"].rstrip("/"), params["folder"]
        in_bucket = list_if_any(f"{prefix}/**", buckets=client.buckets) if prefix else []
        in_folder = list_if_any(folder) if folder else []
        listed = read_listing([*in_bucket, *in_folder], client)
        manifest = manifest_uri(params["manifests"], "nightly_ingestion", run_id)
        write_manifest(manifest, (file.to_json() for file in listed), client.buckets)
    new = [file.outcome == "stored" for file in listed]
    counts = {"new_in_bucket": sum(new[: len(in_bucket)]), "new_in_folder": sum(new[len(in_bucket) :])}
    return {"in_bucket": len(in_bucket), "in_folder": len(in_folder), **counts, "manifest": manifest}


@task.branch
def choose_sources(listing: dict[str, Any]) -> list[str]:
    """Leave out what has nothing new tonight: an import of nothing is an error, a quiet night is not."""
    tasks = {"import_bucket": listing["new_in_bucket"], "store_folder": listing["new_in_folder"]}
    return [name for name, files in tasks.items() if files]


@task(trigger_rule="none_failed")
def prove_complete(listing: dict[str, Any], params: dict[str, Any], ti: Any) -> dict[str, Any]:
    """Look for every listed instance in the store."""
    from airflow_dicomweb.dicomweb.completeness import ListedFile, check_completeness
    from airflow_dicomweb.healthcare.manifests import read_manifest, write_manifest

    with DicomWebHook(CONNECTION).get_healthcare_conn() as client:
        files = [ListedFile.from_json(line) for line in read_manifest(listing["manifest"], client.buckets)]
        proof = check_completeness(client, files, look_interval=params["look_interval"])
        report_uri = listing["manifest"].replace(".jsonl", ".report.jsonl")
        write_manifest(report_uri, (file.to_json() for file in proof.files), client.buckets)
    report = {**proof.to_xcom(), "report": report_uri}
    log.info("Completeness: %s", report)
    failures = []
    if proof.missing:
        shown = ", ".join(str(path) for path in proof.missing[:5])
        failures.append(f"{len(proof.missing)} of {proof.distinct} instances are not in the store, such as {shown}")
    if report["unlisted"]:
        failures.append(
            f"{report['unlisted']} directories or ZIP files cannot be listed, and what is in them is not known"
        )
    bad = report["conflicting"] + report["unusable"]
    if bad > params["max_failures"]:
        failures.append(f"{bad} files are conflicting or unusable, {params['max_failures']} are tolerated")
    if params["max_not_dicom"] is not None and report["not_dicom"] > params["max_not_dicom"]:
        failures.append(f"{report['not_dicom']} files are not DICOM, {params['max_not_dicom']} are tolerated")
    if failures:
        ti.xcom_push("return_value", report)  # a task that fails returns nothing, and the counts matter most then
        raise AirflowFailException(f"{'; '.join(failures)}. Each file's outcome is in the report.")
    return report


with DAG(
    dag_id="nightly_ingestion",
    description="A bucket prefix and a folder into a DICOM store, with a proof that nothing is missing",
    doc_md=__doc__,
    schedule="0 2 * * *",
    start_date=datetime(2026, 1, 1, tzinfo=UTC),
    catchup=False,  # a night that was missed is in the next listing
    max_active_runs=1,  # two runs would send the same files
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
    listing = take_listing()
    import_bucket = DicomWebImportFromGcsOperator(
        task_id="import_bucket",
        dicomweb_conn_id=CONNECTION,
        gcs_uri="{{ params.bucket_prefix.rstrip('/') }}/**",
        max_failures=ANY_NUMBER,
        deferrable=True,
    )
    store_folder = DicomWebStoreInstancesOperator(
        task_id="store_folder",
        dicomweb_conn_id=CONNECTION,
        source="{{ params.folder }}",
        on_conflict="keep",
        max_failures=ANY_NUMBER,
    )
    choose_sources(listing) >> [import_bucket, store_folder] >> prove_complete(listing)
