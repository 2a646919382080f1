"""The demonstration: start everything, let the DAGs work, look what became of it.

Nothing is assumed: what a DAG claims is compared with Airflow's audit log, with what the DICOM store answers to plain
requests, and with the objects in the bucket.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import shutil
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from demo.airflow_api import AirflowApi, TaskState
from demo.airflow_runs import histories, start_scheduled_run, wait_for_dag, wait_for_new_run, wait_for_run
from demo.airflow_stack import AirflowStack
from demo.cloud_storage import running_cloud_storage
from demo.data import Identity, SourceFile, fill_folder, halve_by_study, pydicom_files
from demo.dicom_store import DicomStoreView, FoundInstance
from demo.emulator import running_emulator
from demo.facts import DAG_IDS, Facts
from demo.phantom import write_ct_series
from demo.presentation import places_of, report_of
from demo.report import Place, write_report

DICOM_STORE = "projects/demo/locations/local/datasets/hospital/dicomStores/pacs"
OPERATION_SECONDS = 15.0
LANDING_BUCKET, LANDING_PREFIX = "radiology-landing", "incoming"
EXPORT_BUCKET, EXPORT_PREFIX = "radiology-exports", "weekly"
EXPORT_QUERY = {"Modality": "CT", "StudyDate": "19000101-20991231"}
ASSET = "dicom_studies_to_delete"
RUN_TIMEOUT = 240.0
EXAMPLE_DAGS = Path(__file__).parent.parent / "example_dags"

_LARGEST_DOOMED_STUDY = 12
_PICTURE_ATTEMPTS = 3


@dataclass(frozen=True, slots=True)
class Services:
    """What runs while the demonstration does.

    :param airflow: The four processes of Airflow.
    :param store: The DICOM store, looked at without the project's clients.
    :param buckets: A client of the Cloud Storage emulator.
    :param places: Where a person can look.
    """

    airflow: AirflowStack
    store: DicomStoreView
    buckets: storage.Client
    places: Sequence[Place]

    @property
    def api(self) -> AirflowApi:
        """Airflow's REST API."""
        return self.airflow.api


class Clock:
    """Prints what happens, with the seconds since the start."""

    def __init__(self) -> None:
        self._start = time.monotonic()
        self.started = f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}"

    @property
    def seconds(self) -> float:
        """Seconds since the start."""
        return time.monotonic() - self._start

    def say(self, text: str) -> None:
        """Print a line of progress."""
        print(f"{self.seconds:6.1f} s  {text}", flush=True)


@contextmanager
def running_services(folder: Path, say: Callable[[str], None]) -> Iterator[Services]:
    """Run both emulators and start Airflow; Airflow is not yet up when this yields.

    :param folder: For everything that is written.
    :param say: Called with each line of progress.
    """
    token = secrets.token_urlsafe(24)
    with running_cloud_storage(folder / "cloud-storage.log") as storage_url:
        say(f"Cloud Storage emulator at {storage_url}")
        environment = {"STORAGE_EMULATOR_HOST": storage_url}
        with running_emulator(
            folder / "emulator",
            dicom_store=DICOM_STORE,
            operation_seconds=OPERATION_SECONDS,
            environment=environment,
        ) as store_url:
            say(f"Healthcare API emulator at {store_url}")
            connection = {
                "conn_type": "dicomweb",
                "host": store_url,
                "password": token,
                "extra": {"dicom_store": DICOM_STORE, "auth": "bearer"},
            }
            environment["AIRFLOW_CONN_DICOMWEB_DEFAULT"] = json.dumps(connection)
            stack = AirflowStack(folder / "airflow", dags_folder=EXAMPLE_DAGS, environment=environment)
            say(f"Airflow: preparing its database, then starting four processes; {stack.url}")
            store = DicomStoreView(store_url, DICOM_STORE, token=token)
            with closing(store), _bucket_client(storage_url) as buckets, stack:
                places = places_of(
                    folder, airflow_url=stack.url, store=DICOM_STORE, store_url=store_url, storage_url=storage_url
                )
                try:
                    yield Services(airflow=stack, store=store, buckets=buckets, places=places)
                finally:
                    say("Stopping everything")


def demonstrate(facts: Facts, services: Services, folder: Path, say: Callable[[str], None]) -> None:
    """Go through the whole demonstration, and note down what is found.

    :param facts: Is filled on the way, so that an early end leaves what was known by then.
    :param folder: As for ``running_services``.
    :param say: Called with each line of progress.
    """
    prepare_input(facts, services, folder)
    say(f"{len(facts.bucket)} files in gs://{LANDING_BUCKET}/{LANDING_PREFIX}, {len(facts.folder)} in the folder")
    services.airflow.wait_until_healthy()
    say("Airflow is healthy")
    for dag_id in DAG_IDS:
        wait_for_dag(services.api, dag_id)
    ingest(facts, services, folder, say)
    export(facts, services, folder, say)
    delete(facts, services, say)
    facts.operations = tuple(services.store.operations())


def prepare_input(facts: Facts, services: Services, folder: Path) -> None:
    """Put the files into bucket and folder, and choose what will be deleted."""
    first, second = halve_by_study(pydicom_files())
    facts.bucket = (*second, *write_ct_series(folder / "phantom"))
    facts.folder = first
    facts.doomed = frozenset(_study_to_delete(half) for half in (first, second))
    for name in (LANDING_BUCKET, EXPORT_BUCKET):
        services.buckets.create_bucket(name)
    bucket = services.buckets.bucket(LANDING_BUCKET)
    for file in facts.bucket:
        blob = bucket.blob(f"{LANDING_PREFIX}/{file.name}")
        blob.upload_from_filename(str(file.path), content_type="application/dicom")
    fill_folder(folder / "incoming", facts.folder)


def ingest(facts: Facts, services: Services, folder: Path, say: Callable[[str], None]) -> None:
    """Run ``nightly_ingestion`` and compare the store with the files."""
    conf = {
        "bucket_prefix": f"gs://{LANDING_BUCKET}/{LANDING_PREFIX}",
        "folder": str(folder / "incoming"),
        "manifests": str(folder / "manifests"),
    }
    dag_id = "nightly_ingestion"
    _wait(facts, services.api, dag_id, start_scheduled_run(services.api, dag_id, conf), say)
    facts.ingested = services.store.instances()
    say(f"The store answers with {len(facts.ingested)} instances; reading each of them back")
    facts.unequal = tuple(
        file.identity
        for file in (*facts.bucket, *facts.folder)
        if file.identity in facts.ingested and services.store.digest(file.identity) != _digest(file.path)
    )
    for study, instances in _by_study(facts.ingested.values()).items():
        facts.thumbnails[study] = services.store.thumbnail(_from_the_middle(instances)[:_PICTURE_ATTEMPTS])
    pictures = sum(picture is not None for picture in facts.thumbnails.values())
    say(f"{pictures} of {len(facts.thumbnails)} studies have a picture")


def export(facts: Facts, services: Services, folder: Path, say: Callable[[str], None]) -> None:
    """Run ``scheduled_export`` and compare the bucket with the query."""
    studies = services.store.studies_with(EXPORT_QUERY)
    facts.selected = frozenset(identity for identity in services.store.instances() if identity.study in studies)
    conf = {
        "destination": f"gs://{EXPORT_BUCKET}/{EXPORT_PREFIX}",
        "modality": EXPORT_QUERY["Modality"],
        "study_dates": EXPORT_QUERY["StudyDate"],
        "manifests": str(folder / "manifests"),
    }
    dag_id = "scheduled_export"
    _wait(facts, services.api, dag_id, start_scheduled_run(services.api, dag_id, conf), say)
    prefix = facts.results["scheduled_export.export_studies"]["prefix"].removeprefix(f"gs://{EXPORT_BUCKET}/")
    names = [blob.name.removeprefix(prefix) for blob in services.buckets.list_blobs(EXPORT_BUCKET, prefix=prefix)]
    parts = [tuple(name.removeprefix("/").removesuffix(".dcm").split("/")) for name in names if name.endswith(".dcm")]
    facts.exported = frozenset(Identity(*part) for part in parts if len(part) == 3)
    facts.strange_objects = len(names) - len(facts.exported)
    say(f"gs://{EXPORT_BUCKET} holds {len(names)} exported objects")


def delete(facts: Facts, services: Services, say: Callable[[str], None]) -> None:
    """Report an asset event that names studies, and look what ``event_driven_deletion`` left of them."""
    dag_id = "event_driven_deletion"
    known = {run.run_id for run in services.api.runs(dag_id)}
    services.api.set_paused(dag_id, paused=False)
    counts = {study: len(instances) for study, instances in _by_study((facts.ingested or {}).values()).items()}
    named = [{"study": study, "instances": counts[study]} for study in sorted(facts.doomed)]
    services.api.post_asset_event(ASSET, {"studies": named})
    say(f"Asset event: {ASSET} names {len(named)} studies")
    _wait(facts, services.api, dag_id, wait_for_new_run(services.api, dag_id, known), say)
    facts.remaining = frozenset(services.store.instances())
    say(f"The store answers with {len(facts.remaining)} instances")


def publish(facts: Facts, services: Services, folder: Path, clock: Clock) -> Path:
    """Write the report; its path."""
    path = folder / "report.html"
    report = report_of(facts, started=clock.started, seconds=clock.seconds, places=services.places)
    write_report(report, path)
    return path


def fresh_folder(folder: Path) -> Path:
    """Empty the folder of an earlier demonstration."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder


def _wait(facts: Facts, api: AirflowApi, dag_id: str, run_id: str, say: Callable[[str], None]) -> None:
    try:
        wait_for_run(api, dag_id, run_id, timeout=RUN_TIMEOUT, progress=say)
    finally:
        api.set_paused(dag_id, paused=True)
        facts.runs[dag_id] = api.run(dag_id, run_id)
        facts.histories[dag_id] = histories(api, dag_id, run_id)
        for history in facts.histories[dag_id]:
            facts.results[f"{dag_id}.{history.task.label}"] = _result(api, dag_id, run_id, history.task)


def _result(api: AirflowApi, dag_id: str, run_id: str, task: TaskState) -> object:
    return api.xcom(dag_id, run_id, task.task_id, map_index=task.map_index) if task.state == "success" else None


def _bucket_client(storage_url: str) -> storage.Client:
    options = {"api_endpoint": storage_url}
    return storage.Client(project="demo", credentials=AnonymousCredentials(), client_options=options)


def _study_to_delete(files: Iterable[SourceFile]) -> str:
    counts: dict[str, int] = {}
    for file in files:
        counts[file.identity.study] = counts.get(file.identity.study, 0) + 1
    small = {study: count for study, count in counts.items() if count <= _LARGEST_DOOMED_STUDY}
    return max(sorted(small), key=lambda study: small[study])


def _by_study(instances: Iterable[FoundInstance]) -> dict[str, list[FoundInstance]]:
    studies: dict[str, list[FoundInstance]] = {}
    for instance in instances:
        studies.setdefault(instance.identity.study, []).append(instance)
    return studies


def _from_the_middle(instances: Sequence[FoundInstance]) -> list[FoundInstance]:
    # The middle of a volume shows more than its ends.
    ordered = sorted(instances, key=lambda instance: (instance.number, instance.identity))
    middle = len(ordered) // 2
    return sorted(ordered, key=lambda instance: abs(ordered.index(instance) - middle))


def _digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
