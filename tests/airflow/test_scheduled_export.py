"""The example DAG ``scheduled_export`` in ``dag.test()``, from instances in the store to objects in a bucket."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.healthcare.bodies import GcsPrefix
from airflow_dicomweb.healthcare.gcs import Buckets
from demo.data import SourceFile, pydicom_files
from tests.airflow.example_dags import Run, load, meanwhile, run
from tests.airflow.files import instance

pytestmark = pytest.mark.usefixtures("airflow_database", "store")

FILES = {file.name: file for file in pydicom_files()}
CT = [FILES["CT_small.dcm"], *(file for name, file in FILES.items() if name.startswith("dicomdirtests/77654033/CT"))]
MR = [FILES["MR_small.dcm"]]
ALL_DATES = "19000101-"


class Export:
    """A bucket, and the DAG that exports to it."""

    def __init__(self, bucket: str, root: Path) -> None:
        self.bucket, self.root = bucket, root

    def run(self, dag: Any = None, *, without: str | None = None, **conf: Any) -> Run:
        given = {"destination": f"gs://{self.bucket}/exports", "manifests": str(self.root / "manifests")}
        return run(dag or load("scheduled_export"), {**given, **conf}, without=without)

    def objects(self) -> dict[str, str]:
        """Names below the export's prefix, which is the run's own, and their SHA-256."""
        buckets = Buckets()
        found = {}
        for item in buckets.list_prefix(GcsPrefix(self.bucket, "exports/")):
            name = item.name.split("/", 2)[2]
            found[name] = hashlib.sha256(buckets.read(item.bucket, item.name)).hexdigest()
        return found


@pytest.fixture
def export(bucket: str, tmp_path: Path) -> Export:
    """An empty bucket."""
    return Export(bucket, tmp_path)


def exported(files: list[SourceFile]) -> dict[str, str]:
    return {"{}/{}/{}.dcm".format(*file.identity): hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files}


def test_the_selected_studies_are_exported_byte_for_byte_to_a_prefix_of_the_run(
    export: Export, client: HealthcareClient
) -> None:
    assert len(CT) > 3
    client.store([file.path for file in [*CT, *MR]])
    ended = export.run(modality="CT", study_dates=ALL_DATES)
    assert ended.state == "success"
    assert {name: digest for name, digest in export.objects().items() if name in exported(CT)} == exported(CT)
    assert not exported(MR).keys() & export.objects().keys()
    report = ended.results["compare_export"]
    assert report["instances"] == len(export.objects())
    assert (report["missing"], report["unexpected"]) == (0, 0)
    assert report["prefix"].startswith(f"gs://{export.bucket}/exports/manual__")
    assert not set(":+ ") & set(report["prefix"].removeprefix("gs://"))


def test_without_dates_it_exports_the_seven_days_before_the_run(
    export: Export, client: HealthcareClient, tmp_path: Path
) -> None:
    today = datetime.now(UTC).date()
    for number, days in enumerate((0, 1, 7, 8), start=1):
        data = instance(f"1.2.3.{number}", 1, 1)
        data.StudyDate = f"{today - timedelta(days=days):%Y%m%d}"
        data.save_as(tmp_path / str(number), enforce_file_format=True)
        client.store(tmp_path / str(number))
    assert export.run().state == "success"
    assert {name.partition("/")[0] for name in export.objects()} == {"1.2.3.2", "1.2.3.3"}


def test_a_query_that_selects_nothing_exports_nothing_and_is_no_failure(
    export: Export, client: HealthcareClient, store: Emulator
) -> None:
    client.store([file.path for file in MR])
    ended = export.run(modality="CT", study_dates=ALL_DATES)
    assert ended.state == "success"
    assert set(ended.tasks.values()) == {"skipped"}
    assert export.objects() == {}


def test_an_export_that_wrote_nothing_fails_the_run(export: Export, client: HealthcareClient) -> None:
    client.store([file.path for file in MR])
    dag = load("scheduled_export")
    meanwhile(dag, "export_studies", lambda: delete_all(export))
    ended = export.run(dag, modality="MR", study_dates=ALL_DATES)
    assert ended.tasks["export_studies"] == "success"
    assert ended.state == "failed"
    assert ended.results["compare_export"]["missing"] == len(MR)


def test_an_object_that_was_not_selected_fails_the_run(export: Export, client: HealthcareClient) -> None:
    client.store([file.path for file in MR])
    dag = load("scheduled_export")
    meanwhile(dag, "export_studies", lambda: Buckets().write(export.bucket, f"{prefix(export)}/1/2/3.dcm", b""))
    ended = export.run(dag, modality="MR", study_dates=ALL_DATES)
    assert ended.state == "failed"
    assert (ended.results["compare_export"]["missing"], ended.results["compare_export"]["unexpected"]) == (0, 1)


def test_what_comes_and_goes_while_the_export_runs_is_no_difference(
    export: Export, client: HealthcareClient, tmp_path: Path
) -> None:
    for number in (1, 2, 3):
        instance("1.2.3", 1, number).save_as(tmp_path / str(number), enforce_file_format=True)
    client.store([tmp_path / "1", tmp_path / "2"])

    def come_and_go() -> None:
        client.store(tmp_path / "3")
        client.delete_instance("1.2.3", "1.2.3.1", "1.2.3.1.1")

    dag = load("scheduled_export")
    meanwhile(dag, "export_studies", come_and_go)
    ended = export.run(dag, study_dates=ALL_DATES)
    assert ended.state == "success"
    assert sorted(export.objects()) == ["1.2.3/1.2.3.1/1.2.3.1.1.dcm", "1.2.3/1.2.3.1/1.2.3.1.2.dcm"]


def prefix(export: Export) -> str:
    (first, *_) = Buckets().list_prefix(GcsPrefix(export.bucket, "exports/"))
    return "/".join(first.name.split("/")[:2])


def delete_all(export: Export) -> None:
    for item in Buckets().list_prefix(GcsPrefix(export.bucket, "exports/")):
        Buckets().delete(item.bucket, item.name)
