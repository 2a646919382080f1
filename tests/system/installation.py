"""One whole run of everything: Airflow as four processes, both emulators, the example DAGs, and a DAG that asks for
trouble. What came of it is looked up while it runs; when it is stopped its logs and its database can be searched.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import signal
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import requests
from cryptography.fernet import Fernet
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from airflow_dicomweb.emulator import Emulator, running_emulator
from demo.airflow_api import AirflowApi
from demo.airflow_runs import RunFailedError, histories, wait_for_dag, wait_for_run
from demo.airflow_stack import AirflowStack
from demo.cloud_storage import running_cloud_storage
from demo.data import Identity
from demo.dicom_store import DicomStoreView
from demo.facts import DAG_IDS
from demo.processes import session_members
from demo.run import (
    DICOM_STORE,
    EXAMPLE_DAGS,
    EXPORT_BUCKET,
    LANDING_BUCKET,
    LANDING_PREFIX,
    Services,
    delete,
    export,
    ingest,
    prepare_input,
)
from tests.system.evidence import Evidence
from tests.system.patients import Patient, all_sentinels
from tests.system.sentinels import Sentinel, random_word

OPERATION_SECONDS = 10.0
PROBE, INTERRUPTED = "privacy_probe", "interrupted_import"
PROBE_DATASET = "projects/demo/locations/local/datasets/probe"
PROBE_BUCKET = "recall"
RECALL_STORE, SILENT_STORE, INTERRUPTED_STORE = (
    f"{PROBE_DATASET}/dicomStores/{name}" for name in ("recall", "silent", "interrupted")
)
TEST_DAGS = Path(__file__).parent / "dags"


class Installation:
    """What runs, and what is done with it.

    :param services: As the demonstration knows them.
    :param emulator: The stand-in for the Healthcare API.
    :param evidence: Is filled.
    """

    def __init__(self, services: Services, emulator: Emulator, patients: Mapping[str, Patient], evidence: Evidence):
        self._services, self._emulator, self._patients, self._evidence = services, emulator, patients, evidence
        self._api: AirflowApi = services.api
        self._folder = evidence.folder
        self._database = evidence.folder / "airflow" / "airflow.db"

    def run(self) -> None:
        """Let everything happen."""
        self._prepare()
        self._services.airflow.wait_until_healthy()
        for dag_id in (*DAG_IDS, PROBE, INTERRUPTED):
            wait_for_dag(self._api, dag_id)
        interrupted = self._interrupt()
        probe = self._start_probe()
        facts, services = self._evidence.facts, self._services
        ingest(facts, services, self._folder, self._say)
        self._evidence.found = {
            name: len(services.store.studies_with({"PatientID": patient.attributes["PatientID"]}))
            for name, patient in self._patients.items()
        }
        export(facts, services, self._folder, self._say)
        delete(facts, services, self._say)
        facts.operations = tuple(services.store.operations())
        self._evidence.interrupted_state = wait_for_run(self._api, INTERRUPTED, interrupted, progress=self._say).state
        (self._evidence.interrupted,) = self._api.task_instances(INTERRUPTED, interrupted)
        with suppress(RunFailedError):
            wait_for_run(self._api, PROBE, probe, progress=self._say)
        self._evidence.probe = {each.task.task_id: each for each in histories(self._api, PROBE, probe)}
        self._evidence.results = {task: self._api.xcom(PROBE, probe, task) for task in self._evidence.probe}
        self._look_around()

    def _prepare(self) -> None:
        """Put the patients' files among the others."""
        facts, folder, buckets = self._evidence.facts, self._folder, self._services.buckets
        prepare_input(facts, self._services, folder)
        in_folder = self._patients["folder"].write_files(folder / "incoming", below="ward 7/", count=3)
        in_bucket = self._patients["bucket"].write_files(folder / "upload", below="", count=3)
        facts.folder, facts.bucket = (*facts.folder, *in_folder), (*facts.bucket, *in_bucket)
        facts.doomed |= {self._patients["bucket"].study}
        for file in in_bucket:
            _upload(buckets, LANDING_BUCKET, f"{LANDING_PREFIX}/{file.name}", file.path)
        recalled = self._patients["recalled"]
        files = recalled.write_files(folder / "recall", below="", count=2)
        recalled.write_conflict(files[0], folder / "refused" / recalled.label / f"{recalled.label} differs.dcm")
        recalled.write_nameless(files[1], folder / "refused" / recalled.label / f"{recalled.label} nameless.dcm")
        recalled.write_broken(files[1], folder / "refused" / recalled.label / f"{recalled.label} broken.dcm")
        buckets.create_bucket(PROBE_BUCKET)
        for path in (folder / "refused").rglob("*.dcm"):
            _upload(buckets, PROBE_BUCKET, f"broken/{recalled.label}/{path.name}", path)
        for file in files:
            _upload(buckets, PROBE_BUCKET, f"interrupted/{file.name}", file.path)

    def _start_probe(self) -> str:
        self._emulator.faults({"match": "/dicomStores/silent/", "drop": "before", "times": 1000})
        conf = {
            "dataset": PROBE_DATASET,
            "bucket": PROBE_BUCKET,
            "study": self._patients["recalled"].study,
            "canary": self._evidence.canary,
        }
        return self._start(PROBE, conf)

    def _start(self, dag_id: str, conf: Mapping[str, Any]) -> str:
        run_id = self._api.trigger(dag_id, conf)
        self._api.set_paused(dag_id, paused=False)
        return run_id

    def _interrupt(self) -> str:
        """Kill the first try of an import as soon as it waits."""
        self._emulator.set_operation_seconds(2 * OPERATION_SECONDS)
        conf = {"dicom_store": INTERRUPTED_STORE, "gcs_uri": f"gs://{PROBE_BUCKET}/interrupted/**"}
        run_id = self._start(INTERRUPTED, conf)
        deadline = time.monotonic() + 60.0
        while self._api.xcom(INTERRUPTED, run_id, "import", "operation") is None:
            assert time.monotonic() < deadline, "the import was not submitted in time"
            time.sleep(0.25)
        with closing(sqlite3.connect(self._database)) as database:
            query = "SELECT pid FROM task_instance WHERE dag_id = ? AND run_id = ? AND state = 'running'"
            pids = [pid for (pid,) in database.execute(query, (INTERRUPTED, run_id))]
        assert len(pids) == 1, "the first try ended before it could be killed"
        assert pids[0] in session_members(self._services.airflow.processes["scheduler"].pid)
        os.kill(pids[0], signal.SIGKILL)
        self._emulator.set_operation_seconds(OPERATION_SECONDS)
        return run_id

    def _look_around(self) -> None:
        """Look at bucket and store by plain requests, and at what the emulator was asked for."""
        evidence, store, buckets = self._evidence, self._services.store, self._services.buckets
        for blob in buckets.list_blobs(EXPORT_BUCKET):
            evidence.objects[blob.name] = hashlib.sha256(blob.download_as_bytes()).hexdigest()
        for file in (*evidence.facts.bucket, *evidence.facts.folder):
            if file.identity.study in evidence.facts.doomed:
                evidence.left_of_deleted[file.identity] = _status(store, file.identity)
        evidence.requests, evidence.faults = self._emulator.requests(), self._emulator.faults()
        (self._folder / "logs" / "requests.json").write_text(json.dumps(evidence.requests))

    def _say(self, text: str) -> None:
        """Note the progress, and keep a copy of the database while a trigger is in it."""
        sys.stdout.write(f"{text}\n")
        if text.endswith((": deferred", ": scheduled")):
            label = re.sub(r"[^a-z_0-9]+", "-", text)
            target = self._folder / "snapshots" / f"{label}.db"
            with closing(sqlite3.connect(self._database)) as database, closing(sqlite3.connect(target)) as copy:
                database.backup(copy)


@contextmanager
def running_installation(
    folder: Path, *, fernet_key: str, token: str, recall: Mapping[str, str]
) -> Iterator[tuple[Services, Emulator]]:
    """Run both emulators and Airflow with the DAGs; everything is stopped at the end, whatever happens.

    :param folder: For everything that is written.
    :param fernet_key: What Airflow encrypts with.
    :param token: What the connection authenticates with.
    :param recall: What Airflow's variable ``recall`` says.
    """
    dags = folder / "dags"
    shutil.copytree(EXAMPLE_DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(TEST_DAGS, dags, ignore=shutil.ignore_patterns("__pycache__"), dirs_exist_ok=True)
    with (
        running_cloud_storage(folder / "logs" / "cloud-storage.log") as storage_url,
        running_emulator(
            folder / "emulator" / "data",
            operation_seconds=OPERATION_SECONDS,
            create=(DICOM_STORE, RECALL_STORE, SILENT_STORE, INTERRUPTED_STORE),
            env={"STORAGE_EMULATOR_HOST": storage_url},
        ) as emulator,
    ):
        connection = {
            "conn_type": "dicomweb",
            "host": emulator.base_url,
            "password": token,
            "extra": {"dicom_store": DICOM_STORE, "auth": "bearer"},
        }
        environment = {
            "STORAGE_EMULATOR_HOST": storage_url,
            "TMPDIR": str(folder / "airflow" / "temporary"),
            "AIRFLOW_CONN_DICOMWEB_DEFAULT": json.dumps(connection),
            "AIRFLOW_VAR_RECALL": json.dumps(recall),
            "AIRFLOW__CORE__FERNET_KEY": fernet_key,
            # Whatever can be logged is logged.
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "DEBUG",
        }
        (folder / "airflow" / "temporary").mkdir(parents=True)
        stack = AirflowStack(folder / "airflow", dags_folder=dags, environment=environment)
        store = DicomStoreView(emulator.base_url, DICOM_STORE, token="any")
        with closing(store), _bucket_client(storage_url) as buckets, stack:
            yield Services(airflow=stack, store=store, buckets=buckets, places=()), emulator


def gather(folder: Path) -> Evidence:
    """Run everything once, and stop it.

    :param folder: Empty; for everything that is written.
    """
    patients = {name: Patient(f"patient {name}") for name in ("folder", "bucket", "recalled")}
    recalled, stranger = patients["recalled"], random_word()
    for name in ("snapshots", "private"):
        (folder / name).mkdir()
    recall = {
        "folder": str(folder / "recall" / recalled.label),
        "refused_folder": str(folder / "refused" / recalled.label),
        "missing_folder": str(folder / "nowhere" / recalled.label),
        "report": str(folder / "private" / "store.jsonl"),
        "results": str(folder / "private" / "search.jsonl"),
        "id": recalled.attributes["PatientID"],
        "name": recalled.attributes["PatientName"],
        "stranger": stranger,
    }
    evidence = Evidence(folder, Fernet.generate_key().decode(), canary=random_word())
    others = Sentinel("a filter that finds nothing", stranger), Sentinel("the connection's token", random_word())
    evidence.sentinels = (*all_sentinels(list(patients.values())), *others)
    keys = {"fernet_key": evidence.fernet_key, "token": others[1].value}
    with running_installation(folder, **keys, recall=recall) as (services, emulator):
        Installation(services, emulator, patients, evidence).run()
    # Beside its data, where there is every patient.
    shutil.copy(folder / "emulator" / "data.log", folder / "logs" / "emulator.log")
    return evidence


def _status(store: DicomStoreView, identity: Identity) -> int:
    try:
        store.digest(identity)
    except requests.HTTPError as error:
        return error.response.status_code
    return 200


def _upload(buckets: storage.Client, bucket: str, name: str, path: Path) -> None:
    buckets.bucket(bucket).blob(name).upload_from_filename(str(path), content_type="application/dicom")


def _bucket_client(storage_url: str) -> storage.Client:
    options = {"api_endpoint": storage_url}
    return storage.Client(project="demo", credentials=AnonymousCredentials(), client_options=options)
