"""Storing: every file has an outcome, and file names appear in the private report alone."""

from __future__ import annotations

import hashlib
import json
import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    DicomWebError,
    NotFoundError,
    StoreRefusedError,
    TransportError,
)
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import DicomWebStoreInstancesOperator
from tests.airflow.files import STUDY, instance, write_study
from tests.airflow.task_state import context
from tests.servers.faulty import Fault, faulty

KEYS = [
    *("created", "identical", "conflict", "failed", "skipped", "coerced", "bytes", "seconds"),
    *("studies", "study_count", "report_uri"),
]


def store_files(source: Any, **arguments: Any) -> dict[str, Any]:
    return DicomWebStoreInstancesOperator(task_id="store", source=source, **arguments).execute(context())


def test_a_folder_is_stored(store, client, tmp_path):
    paths = write_study(tmp_path / "in")
    result = store_files(str(tmp_path / "in"), storage_class="COLDLINE")
    assert list(result) == KEYS
    assert (result["created"], result["studies"], result["study_count"]) == (4, [STUDY], 1)
    assert result["bytes"] == sum(path.stat().st_size for path in paths)
    assert result["report_uri"] is None
    assert len(list(client.search_instances(study=STUDY))) == 4


@pytest.mark.parametrize("kind", ["file", "path", "glob", "list", "gs"])
def test_every_kind_of_source_is_stored(store, tmp_path, bucket, kind):
    paths = write_study(tmp_path / "in")
    buckets = Buckets()
    for path in paths:
        buckets.upload(bucket, f"in/{path.name}", path)
    sources = {
        "file": (str(paths[0]), 1),
        "path": (tmp_path / "in", 4),
        "glob": (str(tmp_path / "in" / "*-1-*"), 2),
        "list": ([str(paths[0]), f"gs://{bucket}/in/*-2-*"], 3),
        "gs": (f"gs://{bucket}/in/**", 4),
    }
    source, count = sources[kind]
    assert store_files(source)["created"] == count


def test_another_server_takes_files_from_a_bucket_too(orthanc, set_connection, tmp_path, bucket):
    set_connection(host=orthanc.dicomweb_url, login=orthanc.user, password=orthanc.password)
    path, *_ = write_study(tmp_path / "in", f"{STUDY}.77")
    Buckets().upload(bucket, "in/one", path)
    result = store_files(f"gs://{bucket}/in/**")
    assert result["created"] + result["identical"] == 1


def test_shards_share_the_work_and_leave_nothing_out(store, tmp_path):
    write_study(tmp_path / "in", series=3, instances=4)
    shares = [store_files(str(tmp_path / "in"), shard=shard)["created"] for shard in ((0, 2), ["1", 2])]
    assert sum(shares) == 12


def test_the_report_names_every_file_and_only_its_owner_reads_it(store, tmp_path):
    paths = write_study(tmp_path / "in")
    (tmp_path / "in" / "Doe^John.txt").write_text("no image")
    report = tmp_path / "reports" / "report.jsonl"
    result = store_files(str(tmp_path / "in"), report_uri=str(report), verify="bytes")
    assert (result["created"], result["skipped"], result["report_uri"]) == (4, 1, str(report))
    assert stat.S_IMODE(report.stat().st_mode) == 0o600
    lines = {Path(line["source"]).name: line for line in map(json.loads, report.read_text().splitlines())}
    assert set(lines) == {*(path.name for path in paths), "Doe^John.txt"}
    assert lines["Doe^John.txt"]["outcome"] == "skipped"
    first = lines[paths[0].name]
    assert first == {
        "ordinal": first["ordinal"],
        "source": str(paths[0]),
        "study": STUDY,
        "series": f"{STUDY}.1",
        "instance": f"{STUDY}.1.1",
        "outcome": "created",
        "reason": "",
        "detail": "",
        "code": None,
        "warning": None,
        "replaced": False,
        "bytes": paths[0].stat().st_size,
        "seconds": first["seconds"],
        "sha256": hashlib.sha256(paths[0].read_bytes()).hexdigest(),
        "version": str(paths[0].stat().st_mtime_ns),
        "earlier": False,
        "run": first["run"],
    }
    assert 0.0 < first["seconds"] <= result["seconds"]
    assert [path.name for path in report.parent.iterdir()] == [report.name]


def test_a_report_may_go_to_a_bucket(store, tmp_path, bucket):
    write_study(tmp_path / "in")
    uri = f"gs://{bucket}/reports/report.jsonl"
    assert store_files(str(tmp_path / "in"), report_uri=uri)["report_uri"] == uri
    assert len(Buckets().read(bucket, "reports/report.jsonl").splitlines()) == 4
    assert [item.name for item in Buckets().find(f"gs://{bucket}/**")] == ["reports/report.jsonl"]


def test_a_report_that_cannot_be_written_is_refused_before_anything_is_sent(store, tmp_path):
    write_study(tmp_path / "in")
    (tmp_path / "Doe^John").write_text("a file where a folder is needed")
    with pytest.raises(ConfigurationError, match=r"could not be written: .*nothing was sent") as refused:
        store_files(str(tmp_path / "in"), report_uri=str(tmp_path / "Doe^John" / "report.jsonl"))
    assert "Doe" not in str(refused.value)
    assert store.requests() == []


def test_a_report_in_a_bucket_that_is_not_there_is_refused_before_anything_is_sent(store, tmp_path, bucket):
    write_study(tmp_path / "in")
    with pytest.raises(NotFoundError, match="could not be written; nothing was sent") as refused:
        store_files(str(tmp_path / "in"), report_uri="gs://no-such-bucket/Doe^John.jsonl")
    assert "Doe" not in str(refused.value)
    assert store.requests() == []


@pytest.mark.parametrize("made", [os.mkfifo, Path.mkdir])
def test_a_report_does_not_take_the_place_of_what_is_no_regular_file(store, tmp_path, made):
    """Run by root, it could be /dev/null."""
    write_study(tmp_path / "in")
    made(tmp_path / "Doe^John")
    (tmp_path / "link").symlink_to("Doe^John")
    before = (tmp_path / "Doe^John").stat()
    for name in ("Doe^John", "link"):
        with pytest.raises(ConfigurationError, match="a regular file, or one that is not there yet") as refused:
            store_files(str(tmp_path / "in"), report_uri=str(tmp_path / name))
        assert "Doe" not in str(refused.value)
    assert (tmp_path / "Doe^John").stat() == before
    assert (tmp_path / "link").is_symlink()
    assert store.requests() == []


def test_an_earlier_report_stays_until_there_is_a_new_one(store, tmp_path):
    report = tmp_path / "report.jsonl"
    report.write_text("earlier")
    with pytest.raises(ConfigurationError):
        store_files(str(tmp_path / "nowhere"), report_uri=str(report))
    assert (report.read_text(), [path.name for path in tmp_path.iterdir()]) == ("earlier", [report.name])


def test_a_disk_that_is_full_after_all_hides_neither_what_was_stored_nor_what_was_not(
    client, conflicting, tmp_path, capsys
):
    with (
        files_no_larger_than(100),
        pytest.raises(DicomWebError, match=r"File too large; .* 2 created, 0 identical, 1 conflict") as failed,
    ):
        store_files(str(conflicting), report_uri=str(tmp_path / "report.jsonl"))
    assert not isinstance(failed.value, ConfigurationError)
    assert len(list(client.search_instances(study=STUDY))) == 3
    logged = capsys.readouterr().out
    for words in (f"{STUDY}.1.1: conflict", "2 created, 0 identical, 1 conflict"):
        assert words in logged
    assert "Sentinel" not in logged + str(failed.value)


def test_a_bucket_that_takes_no_more_hides_neither_what_was_stored_nor_what_was_not(
    client, conflicting, monkeypatch, capsys
):
    with faulty(Fault(), *[Fault(403)] * 4) as storage:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", storage.url)
        with pytest.raises(AuthorizationError, match=r"could not be written; .* 2 created, 0 identical, 1 conflict"):
            store_files(str(conflicting), report_uri="gs://bucket/report.jsonl")
    assert [request.line.split()[0] for request in storage.received] == ["POST", "POST", "POST"]
    assert f"{STUDY}.1.1: conflict" in capsys.readouterr().out


def test_a_line_of_the_report_has_the_number_by_which_the_log_names_the_file(client, conflicting, tmp_path, capsys):
    report = tmp_path / "report.jsonl"
    store_files(str(conflicting), report_uri=str(report), on_conflict="keep")
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    logged = capsys.readouterr().out
    assert len({line["ordinal"] for line in lines}) == 4
    for outcome in ("conflict", "skipped"):
        (line,) = [line for line in lines if line["outcome"] == outcome]
        assert re.search(rf"source {line['ordinal']}, \S.*: {outcome}: ", logged)


@contextmanager
def files_no_larger_than(size: int) -> Iterator[None]:
    """Let this process write no file beyond so many bytes, as if the disk were full then."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.fixture
def conflicting(client, tmp_path) -> Path:
    """A folder named after a patient: one file conflicts with the store, one is not DICOM, two are new."""
    folder = tmp_path / "Sentinel^Patient"
    write_study(folder, series=1, instances=3)
    (folder / "Sentinel.txt").write_text("no image")
    client.store(write_study(tmp_path / "before", series=1, instances=1))
    changed = instance(STUDY, 1, 1, comment="changed")
    changed.save_as(min(folder.glob("*-1-1")), enforce_file_format=True)
    return folder


def test_what_was_not_stored_fails_the_task_and_the_rest_is_stored_and_reported(client, conflicting, tmp_path, capsys):
    report = tmp_path / "report.jsonl"
    with pytest.raises(StoreRefusedError, match="1 of 4 sources were not stored") as refused:
        store_files(str(conflicting), report_uri=str(report))
    assert f"{STUDY}.1.1" in str(refused.value)
    assert len(list(client.search_instances(study=STUDY))) == 3
    assert len(report.read_text().splitlines()) == 4
    logged = capsys.readouterr().out
    assert "conflict" in logged
    for text in (str(refused.value), logged):
        assert "Sentinel" not in text
        assert "sentinel" not in text


@pytest.mark.parametrize("arguments", [{"max_failures": 1}, {"on_conflict": "keep"}, {"max_failures": "1"}])
def test_a_conflict_may_be_tolerated(conflicting, arguments):
    result = store_files(str(conflicting), **arguments)
    assert (result["created"], result["conflict"], result["skipped"]) == (2, 1, 1)


def test_xcom_has_no_more_than_a_hundred_studies(store, tmp_path):
    for number in range(103):
        write_study(tmp_path / str(number), f"{STUDY}.{number}", series=1, instances=1)
    result = store_files(str(tmp_path))
    assert (len(result["studies"]), result["study_count"], result["created"]) == (100, 103, 103)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"source": "/nowhere/Sentinel^Patient"}, "does not exist|not there|no such"),
        ({"source": []}, "no source"),
        ({"source": ""}, "accepted"),
        ({"source": None}, "accepted"),
        ({"on_conflict": "overwrite"}, "'fail', 'keep'"),
        ({"verify": "maybe"}, "'response', 'exists', 'bytes'"),
        ({"storage_class": "COLD"}, "STANDARD"),
        ({"max_failures": -1}, "whole number"),
        ({"shard": (2, 2)}, "shard"),
        ({"shard": "0/2"}, "shard"),
        ({"workers": 0}, "workers"),
        ({"batch_bytes": 0}, "batch_bytes"),
        ({"report_uri": "report.jsonl"}, "absolute path"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(store, tmp_path, arguments, words):
    write_study(tmp_path / "in")
    with pytest.raises(ConfigurationError, match=words) as refused:
        store_files(**{"source": str(tmp_path / "in"), **arguments})
    assert "Sentinel" not in str(refused.value)
    assert store.requests() == []


def test_an_empty_folder_and_a_pattern_that_matches_nothing_are_refused(store, tmp_path, bucket):
    (tmp_path / "empty").mkdir()
    for source in (tmp_path / "empty", tmp_path / "*.dcm", f"gs://{bucket}/none/**"):
        with pytest.raises(ConfigurationError, match="matches no file"):
            store_files(source)
    assert store.requests() == []


def test_a_server_that_is_away_fails_the_task_and_the_error_says_so(set_connection, tmp_path):
    write_study(tmp_path / "in", series=1, instances=1)
    set_connection(host="http://127.0.0.1:9/dicom-web")
    with pytest.raises(TransportError, match="gave up after"):
        store_files(str(tmp_path / "in"))


def test_a_report_within_the_source_is_refused(store, tmp_path):
    """It is there while the source is listed, and would be taken for an empty file."""
    write_study(tmp_path / "in")
    task = DicomWebStoreInstancesOperator(
        task_id="store", source=str(tmp_path / "in"), report_uri=str(tmp_path / "in" / "report.jsonl")
    )
    with pytest.raises(ConfigurationError, match="report_uri lies within the source"):
        task.execute(context())
    assert store.requests() == []
    assert len(list((tmp_path / "in").iterdir())) == 4
