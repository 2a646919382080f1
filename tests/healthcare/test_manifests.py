"""Private lists of a run: where they are, who may read them, what happens when they are not there."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from airflow_dicomweb.errors import ConfigurationError, ProtocolError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.healthcare.manifests import manifest_uri, read_manifest, write_manifest

LINES = [{"name": "Müller^Anna/IM 1", "size": 12}, {"name": "\N{LINE SEPARATOR}", "size": 0}]


@pytest.fixture(params=["folder", "bucket"])
def private_folder(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A place for manifests, on disk and in Cloud Storage."""
    if request.param == "folder":
        return str(tmp_path / "new" / "manifests")
    return f"gs://{request.getfixturevalue('bucket')}/manifests"


def test_what_was_written_is_read_again(private_folder: str) -> None:
    uri = manifest_uri(private_folder, "nightly_ingestion", "run")
    write_manifest(uri, LINES, Buckets())
    assert list(read_manifest(uri, Buckets())) == LINES


def test_a_second_try_replaces_the_first_ones_list(private_folder: str) -> None:
    uri = manifest_uri(private_folder, "nightly_ingestion", "run")
    write_manifest(uri, LINES, Buckets())
    write_manifest(uri, LINES[:1], Buckets())
    assert list(read_manifest(uri, Buckets())) == LINES[:1]


def test_a_list_that_is_not_there_says_what_to_do(private_folder: str) -> None:
    uri = manifest_uri(private_folder, "nightly_ingestion", "run")
    with pytest.raises(ConfigurationError, match="clear the run from its first task") as caught:
        list(read_manifest(uri, Buckets()))
    assert private_folder not in str(caught.value)


def test_a_damaged_list_is_not_taken_for_a_short_one(tmp_path: Path) -> None:
    path = tmp_path / "list.jsonl"
    path.write_text('{"name": "a"}\n{"name": ')
    with pytest.raises(ProtocolError, match="damaged"):
        list(read_manifest(str(path), Buckets()))


def test_a_list_on_disk_is_for_its_owner_alone_and_leaves_nothing_beside_it(tmp_path: Path) -> None:
    folder = tmp_path / "manifests"
    uri = manifest_uri(str(folder), "nightly_ingestion", "run")
    write_manifest(uri, LINES, Buckets())
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert [stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()] == [0o600]


def test_each_run_has_its_own_place_and_each_try_the_same() -> None:
    runs = ["scheduled__2026-01-01T02:00:00+00:00", "scheduled__2026-01-02T02:00:00+00:00", "manual__x"]
    uris = {manifest_uri("gs://bucket/manifests/", "nightly_ingestion", run) for run in runs}
    assert len(uris) == 3
    assert manifest_uri("gs://bucket/manifests", "nightly_ingestion", runs[0]) in uris
    assert all(uri.startswith("gs://bucket/manifests/nightly_ingestion-") for uri in uris)


@pytest.mark.parametrize("folder", ["manifests", "./manifests", "s3://bucket", ""])
def test_a_place_that_depends_on_the_worker_is_refused(folder: str) -> None:
    with pytest.raises(ConfigurationError, match="absolute path or gs://"):
        manifest_uri(folder, "nightly_ingestion", "run")
