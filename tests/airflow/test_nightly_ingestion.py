"""The example DAG ``nightly_ingestion`` in ``dag.test()``, from files to instances in the store."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from demo.data import NOT_DICOM_NAME, SourceFile, halve_by_study, pydicom_files
from tests.airflow.example_dags import Run, load, meanwhile, run
from tests.airflow.files import instance

pytestmark = pytest.mark.usefixtures("airflow_database")

IN_BUCKET, IN_FOLDER = (half[:8] for half in halve_by_study(pydicom_files()))


class Night:
    """A bucket prefix and a folder with real files, and the DAG that takes them in."""

    def __init__(self, bucket: str, root: Path) -> None:
        self.bucket, self.folder, self.manifests = bucket, root / "incoming", root / "manifests"
        self.folder.mkdir()

    def fill(self, in_bucket: Iterable[SourceFile] = IN_BUCKET, in_folder: Iterable[SourceFile] = IN_FOLDER) -> None:
        for file in in_bucket:
            self.upload(file.name, file.path.read_bytes())
        for file in in_folder:
            shutil.copyfile(file.path, self.folder / file.name.replace("/", "-"))

    def upload(self, name: str, data: bytes) -> None:
        Buckets().write(self.bucket, f"incoming/{name}", data)

    def run(self, dag: Any = None, *, without: str | None = None, **conf: Any) -> Run:
        given = {
            "bucket_prefix": f"gs://{self.bucket}/incoming/",
            "folder": str(self.folder),
            "manifests": str(self.manifests),
            "look_interval": 0.1,
        }
        return run(dag or load("nightly_ingestion"), {**given, **conf}, without=without)

    def report(self) -> list[dict[str, Any]]:
        (path,) = self.manifests.glob("*.report.jsonl")
        return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.fixture
def night(bucket: str, tmp_path: Path, store: Emulator) -> Night:
    """An empty bucket, an empty folder, and an empty store."""
    return Night(bucket, tmp_path)


def digests(client: HealthcareClient, tmp_path: Path, files: Iterable[SourceFile]) -> list[str]:
    found = []
    for file in files:
        (path,) = client.retrieve(*file.identity, destination=tmp_path / "retrieved")
        found.append(hashlib.sha256(Path(path).read_bytes()).hexdigest())
    return found


def counts(result: dict[str, Any]) -> dict[str, int]:
    return {name: number for name, number in result.items() if name != "report" and number}


def test_every_listed_file_is_in_the_store_byte_for_byte(
    night: Night, client: HealthcareClient, store: Emulator, tmp_path: Path
) -> None:
    night.fill()
    (night.folder / NOT_DICOM_NAME).write_text("not an image")
    ended = night.run()
    assert ended.state == "success"
    everything = [*IN_BUCKET, *IN_FOLDER]
    assert counts(ended.results["prove_complete"]) == {
        "files": len(everything) + 1,
        "distinct": len(everything),
        "stored": len(everything),
        "not_dicom": 1,
    }
    wanted = [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in everything]
    assert digests(client, tmp_path, everything) == wanted
    outcomes = {line["name"].rpartition("/")[2]: line["outcome"] for line in night.report()}
    assert outcomes.pop(NOT_DICOM_NAME) == "not_dicom"
    assert set(outcomes.values()) == {"stored"}


def test_an_import_that_takes_time_is_waited_for_by_the_trigger(
    night: Night, store: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    night.fill(in_folder=[])
    store.set_operation_seconds(3.0)
    dag = load("nightly_ingestion")
    task = dag.get_task("import_bucket")
    assert task.deferrable
    task.inline_wait, task.poll_interval, task.shortest_first_wait = 0.0, 0.2, 0.2
    with caplog.at_level("INFO", "airflow.sdk.definitions.dag"):
        ended = night.run(dag)
    assert ended.state == "success"
    assert "[DAG TEST] running trigger in line" in caplog.messages
    assert ended.tasks["store_folder"] == "skipped"


def test_a_night_without_files_is_no_failure(night: Night) -> None:
    ended = night.run()
    assert ended.state == "success"
    assert counts(ended.results["prove_complete"]) == {}
    assert (ended.tasks["import_bucket"], ended.tasks["store_folder"]) == ("skipped", "skipped")


def test_a_folder_that_is_not_there_is_not_an_empty_one(night: Night, store: Emulator) -> None:
    night.folder.rmdir()
    ended = night.run()
    assert ended.state == "failed"
    assert ended.tasks["take_listing"] == "failed"
    assert not [request for request in store.requests() if request["method"] == "POST"]


def test_a_second_night_with_the_same_files_reports_them_as_identical(night: Night) -> None:
    night.fill(IN_BUCKET[:3], IN_FOLDER[:3])
    assert night.run().state == "success"
    ended = night.run()
    assert ended.state == "success"
    assert counts(ended.results["prove_complete"]) == {"files": 6, "distinct": 6, "identical": 6}


def test_a_file_that_is_in_both_places_is_one_instance(night: Night) -> None:
    night.fill(IN_BUCKET[:2], [IN_BUCKET[0]])
    ended = night.run()
    assert ended.state == "success"
    assert counts(ended.results["prove_complete"]) == {"files": 3, "distinct": 2, "stored": 2, "identical": 1}


@pytest.mark.parametrize("known", ["in the store", "in the listing"])
def test_other_content_under_a_known_identity_is_reported_and_fails_unless_tolerated(
    night: Night, client: HealthcareClient, tmp_path: Path, known: str
) -> None:
    first, second = tmp_path / "first", night.folder / "second"
    instance("1.2.3", 1, 1, comment="first").save_as(first, enforce_file_format=True)
    instance("1.2.3", 1, 1, comment="second").save_as(second, enforce_file_format=True)
    if known == "in the store":
        client.store(first)
    else:
        night.upload("first", first.read_bytes())
    ended = night.run()
    assert ended.state == "failed"
    assert ended.results["prove_complete"]["conflicting"] == 1
    assert ended.results["prove_complete"]["missing"] == 0
    assert night.run(max_failures=1).state == "success"


@pytest.mark.parametrize("lost", ["store_folder", "import_bucket"])
def test_a_listed_instance_that_is_not_in_the_store_fails_the_run_whatever_is_tolerated(
    night: Night, lost: str
) -> None:
    night.fill(IN_BUCKET[:3], IN_FOLDER[:3])
    ended = night.run(without=lost, max_failures=1000)
    assert ended.tasks[lost] == "success"
    assert ended.state == "failed"
    assert counts(ended.results["prove_complete"]) == {"files": 6, "distinct": 6, "stored": 3, "missing": 3}
    missing = {line["path"] for line in night.report() if line["outcome"] == "missing"}
    files = IN_FOLDER[:3] if lost == "store_folder" else IN_BUCKET[:3]
    assert missing == {"studies/{}/series/{}/instances/{}".format(*file.identity) for file in files}


def test_what_arrives_after_the_listing_belongs_to_the_next_night(night: Night, client: HealthcareClient) -> None:
    def arrive() -> None:
        night.upload("late-and-broken", b"not an image")
        instance("1.2.3", 1, 1).save_as(night.folder / "late", enforce_file_format=True)

    night.fill(IN_BUCKET[:2], IN_FOLDER[:2])
    dag = load("nightly_ingestion")
    meanwhile(dag, "take_listing", arrive)
    ended = night.run(dag)
    assert ended.state == "success"
    assert counts(ended.results["prove_complete"]) == {"files": 4, "distinct": 4, "stored": 4}
    assert ended.results["import_bucket"]["failure"] == 1
    assert [each["StudyInstanceUID"] for each in client.search_studies({"StudyInstanceUID": "1.2.3"})] == ["1.2.3"]


def test_a_file_that_cannot_be_used_fails_the_run_and_one_that_is_not_dicom_only_if_asked(night: Night) -> None:
    (night.folder / "cut").write_bytes(bytes(128) + b"DICM")
    (night.folder / "note.txt").write_text("not an image")
    ended = night.run()
    assert ended.state == "failed"
    assert counts(ended.results["prove_complete"]) == {"files": 2, "unusable": 1, "not_dicom": 1}
    assert night.run(max_failures=1).state == "success"
    assert night.run(max_failures=1, max_not_dicom=0).state == "failed"


def test_a_directory_that_cannot_be_listed_fails_the_run_whatever_is_tolerated(
    night: Night, caplog: pytest.LogCaptureFixture
) -> None:
    instance("1.2.3", 1, 1).save_as(night.folder / "good", enforce_file_format=True)
    with contextlib.chdir(night.folder):
        for _ in range(20):  # a path longer than 4096 bytes, which not even root can list
            Path("d" * 250).mkdir()
            os.chdir("d" * 250)
    ended = night.run(max_failures=100)
    assert ended.state == "failed"
    assert counts(ended.results["prove_complete"]) == {"files": 2, "distinct": 1, "stored": 1, "unlisted": 1}
    assert "ddddd" not in json.dumps(ended.results) + caplog.text


def test_no_file_name_leaves_the_private_folder(night: Night, caplog: pytest.LogCaptureFixture) -> None:
    name = "Sentinel_Jane-19700101"
    instance("1.2.3", 1, 1).save_as(night.folder / name, enforce_file_format=True)
    (night.folder / f"{name}.txt").write_text("not an image")
    night.upload(f"{name}.txt", b"not an image")
    with caplog.at_level("DEBUG"):
        ended = night.run()
    assert ended.state == "success"
    assert "Completeness" in caplog.text
    assert name not in json.dumps(ended.results) + caplog.text
    assert len([line for line in night.report() if name in line["name"]]) == 3
