"""Retries of a store task: what an earlier try has stored is not sent again, and nothing is believed that changed."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
import uuid
import zlib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import DAG

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.errors import StoreRefusedError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import DicomWebStoreInstancesOperator
from airflow_dicomweb.operators._earlier import EarlierOutcomes
from airflow_dicomweb.operators._outcome_lines import line_of
from airflow_dicomweb.operators._running_report import open_report
from airflow_dicomweb.operators._store_tries import StoreTries
from tests.airflow.files import PATIENT, STUDY, instance, write_study
from tests.airflow.task_state import StateStore, context, wait_until

REFUSED = {"method": "POST", "match": "/dicomWeb/studies$", "status": 400}


def task(source: Path, **arguments: Any) -> DicomWebStoreInstancesOperator:
    return DicomWebStoreInstancesOperator(task_id="store", source=str(source), batch_count=1, workers=1, **arguments)


def posts(store: Any) -> int:
    return sum(each["method"] == "POST" and each["path"].endswith("/studies") for each in store.requests())


def lines(path: Path) -> list[dict[str, Any]]:
    return sorted(map(json.loads, path.read_text().splitlines()), key=lambda line: line["ordinal"])


def refused_twice(store: Any, source: Path, state: StateStore, **arguments: Any) -> None:
    """Run a first try, of which the server refuses two of six instances."""
    write_study(source, series=2, instances=3)
    store.faults({**REFUSED, "times": 2})
    with pytest.raises(StoreRefusedError, match="2 of 6 sources were not stored"):
        task(source, **arguments).execute(context(state))
    assert [fault["fired"] for fault in store.faults()] == [2]
    store.reset()


@pytest.fixture(params=["no report", "file", "object"])
def report_uri(request: pytest.FixtureRequest, tmp_path: Path) -> str | None:
    if request.param == "object":
        return f"gs://{request.getfixturevalue('bucket')}/reports/report.jsonl"
    return str(tmp_path / "reports" / "report.jsonl") if request.param == "file" else None


def test_a_retry_sends_what_is_not_stored_yet_and_reports_everything(store, tmp_path, report_uri):
    state = StateStore()
    refused_twice(store, tmp_path / "in", state, report_uri=report_uri)
    result = task(tmp_path / "in", report_uri=report_uri).execute(context(state))
    assert posts(store) == 2
    assert (result["created"], result["failed"], result["study_count"]) == (6, 0, 1)
    assert result["bytes"] == sum(path.stat().st_size for path in (tmp_path / "in").iterdir())
    assert state.phases[-1] == "consumed"
    if report_uri is not None:
        if report_uri.startswith("gs://"):
            (name,) = [item.name for item in Buckets().find(report_uri.replace("report.jsonl", "**"))]
            text = Buckets().read(report_uri.split("/")[2], name).decode()
        else:
            text = Path(report_uri).read_text()
            assert [path.name for path in Path(report_uri).parent.iterdir()] == ["report.jsonl"]
        found = sorted(map(json.loads, text.splitlines()), key=lambda line: line["ordinal"])
        assert [(line["outcome"], line["earlier"]) for line in found] == [("created", False)] * 2 + [
            ("created", True)
        ] * 4
        assert all(line["sha256"] for line in found)


def test_a_retry_without_a_task_state_store_sends_everything_again(store, tmp_path):
    write_study(tmp_path / "in", series=1)
    for _ in range(2):
        task(tmp_path / "in").execute(context())
    assert posts(store) == 4


def test_the_clear_of_a_finished_task_starts_anew(store, tmp_path, report_uri):
    state = StateStore()
    refused_twice(store, tmp_path / "in", state, report_uri=report_uri)
    task(tmp_path / "in", report_uri=report_uri).execute(context(state))
    store.reset()
    result = task(tmp_path / "in", report_uri=report_uri).execute(context(state))
    assert (posts(store), result["identical"]) == (6, 6)


def test_what_changed_or_is_gone_is_not_believed(store, client, tmp_path, report_uri):
    state = StateStore()
    refused_twice(store, tmp_path / "in", state, report_uri=report_uri)
    *_, gone, changed = sorted((tmp_path / "in").iterdir())
    size, before = changed.stat().st_size, changed.stat().st_mtime_ns
    instance(STUDY, 2, 3).save_as(changed, enforce_file_format=True)
    changed.write_bytes(changed.read_bytes().replace(b"20260102", b"20260103"))
    os.utime(changed, ns=(before, before + 1000))
    assert changed.stat().st_size == size
    client.delete_instance(STUDY, f"{STUDY}.2", f"{STUDY}.2.2")
    store.reset()
    with pytest.raises(StoreRefusedError, match="1 of 6 sources were not stored"):
        task(tmp_path / "in", report_uri=report_uri).execute(context(state))
    assert posts(store) == 4
    assert gone.exists()
    assert len(list(client.search_instances(study=STUDY))) == 6


@pytest.mark.parametrize("refused", [False, True])
def test_a_retry_does_not_replace_what_an_earlier_try_has_stored(  # noqa: PLR0917
    store, set_connection, client, tmp_path, report_uri, refused
):
    """Two files of one identity: the first that is stored stays, or says that it was replaced; both cannot be stored."""
    extra = {"dicom_store": store.dicom_store, "auth": "bearer", "api_version": "v1beta1"}
    set_connection(host=store.base_url, password="loopback-token", extra=extra)
    (tmp_path / "in").mkdir()
    for name in ("first", "second"):
        instance(STUDY, 1, 1, comment=name).save_as(tmp_path / "in" / name, enforce_file_format=True)
    if refused:
        store.faults({**REFUSED, "times": 1})
    state, outcomes = StateStore(), []
    for _ in range(3):
        try:
            result = task(
                tmp_path / "in", on_conflict="replace", backup_uri=str(tmp_path / "old"), report_uri=report_uri
            ).execute(context(state))
            outcomes.append((result["created"] + result["identical"], result["conflict"]))
        except StoreRefusedError as error:
            outcomes.append((error.result.created + error.result.identical, error.result.conflict))
    assert outcomes == [(1, 0 if refused else 1), (1, 1), (1, 1)]
    (stored,) = map(Path, client.retrieve(STUDY, destination=tmp_path / "out"))
    assert stored.read_bytes() == (tmp_path / "in" / "first").read_bytes()


@pytest.mark.parametrize("other", [{"verify": "exists"}, {"shard": (0, 1)}, {"dicom_store": "others"}])
def test_other_arguments_start_anew(store, tmp_path, other):
    state = StateStore()
    refused_twice(store, tmp_path / "in", state)
    store.create_store(store.dicom_store.replace("/images", "/others"))
    task(tmp_path / "in", **other).execute(context(state))
    assert posts(store) == 6


def test_the_record_is_small_and_names_no_file(store, tmp_path):
    state, folder = StateStore(), tmp_path / PATIENT
    refused_twice(store, folder, state)
    value = state.written[-1]["value"]
    assert set(value) == {"phase", "fingerprint", "run", "settled"}
    for written in (json.dumps(value), zlib.decompress(base64.b85decode(value["settled"])).decode()):
        assert PATIENT not in written
        assert str(tmp_path) not in written
    tries = StoreTries(state, {}, digests=True)
    for number in range(5000):
        uids = [f"2.25.{uuid.uuid4().int}" for _ in range(3)]
        tries.add(
            InstanceOutcome(
                source=f"/{number}", ordinal=number, path=InstancePath(*uids), outcome="created", version="1"
            )
        )
    tries.write()
    assert len(json.dumps(state.written[-1]["value"])) < 65_535
    again = StoreTries(state, {}, digests=True)
    known = [number for number in range(5000) if again.find(Source(number, f"/{number}", 0, open, "1"))]
    assert 400 < len(known) <= 1000
    assert known == list(range(len(known)))


KILLED = """
import json, sys
from pathlib import Path
from airflow_dicomweb.operators import DicomWebStoreInstancesOperator

class State:
    def get(self, key): return None
    def set(self, key, value, retention): Path(sys.argv[3]).write_text(json.dumps(value))

DicomWebStoreInstancesOperator(
    task_id="store", source=sys.argv[1], report_uri=sys.argv[2], batch_count=1, workers=1
).execute({"task_state_store": State()})
"""


def test_a_killed_try_leaves_a_readable_report_and_the_next_one_goes_on_from_there(store, tmp_path):
    write_study(tmp_path / "in", series=2, instances=6)
    report, record = tmp_path / "reports" / "report.jsonl", tmp_path / "record.json"
    report.parent.mkdir()
    report.write_text("earlier report")
    store.faults({"method": "POST", "match": "/dicomWeb/studies$", "delay": 0.3, "times": 100})
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "in"), str(report), str(record)])
    try:
        parts = lambda: list(report.parent.glob("report.jsonl.*.part"))  # noqa: E731 - a condition
        wait_until(lambda: any(len(part.read_text().splitlines()) >= 3 for part in parts()), seconds=60.0)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert child.returncode == -signal.SIGKILL
    (part,) = parts()
    left = lines(part)
    assert 3 <= len(left) < 12
    assert {line["outcome"] for line in left} == {"created"}
    assert (part.stat().st_mode & 0o777, report.read_text()) == (0o600, "earlier report")
    with part.open("a") as stream:
        stream.write('{"ordinal": 11, "sour')  # as a full disk leaves it
    store.reset()
    state = StateStore()
    state.set("dicomweb_store", json.loads(record.read_text()), retention=None)
    result = task(tmp_path / "in", report_uri=str(report)).execute(context(state))
    assert result["created"] + result["identical"] == 12
    assert posts(store) == 12 - len(left)
    assert [path.name for path in report.parent.iterdir()] == ["report.jsonl"]
    assert [line["ordinal"] for line in lines(report)] == list(range(12))


def test_a_try_that_is_killed_before_its_first_outcome_leaves_nothing_that_stays(store, tmp_path):
    write_study(tmp_path / "in", series=1, instances=2)
    report, record = tmp_path / "reports" / "report.jsonl", tmp_path / "record.json"
    store.faults({"method": "POST", "match": "/dicomWeb/studies$", "delay": 5.0, "times": 1})
    child = subprocess.Popen([sys.executable, "-c", KILLED, str(tmp_path / "in"), str(report), str(record)])
    try:
        wait_until(lambda: any(report.parent.glob("report.jsonl.*.part")), seconds=60.0)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    (part,) = report.parent.iterdir()
    state, written = StateStore(), json.loads(record.read_text())
    assert (part.read_text(), written["run"]) == ("", part.name.split(".")[2])
    store.reset()
    state.set("dicomweb_store", written, retention=None)
    result = task(tmp_path / "in", report_uri=str(report)).execute(context(state))
    assert result["created"] + result["identical"] == 2
    assert [path.name for path in report.parent.iterdir()] == ["report.jsonl"]


def outcomes(count: int) -> Iterator[InstanceOutcome]:
    for number in range(count):
        path = InstancePath("1.2", "1.2.3", f"1.2.3.{number}")
        yield InstanceOutcome(
            source=f"/in/{number}", ordinal=number, path=path, outcome="created", bytes=number, version="7"
        )


def test_a_report_in_a_bucket_is_there_in_parts_while_it_is_written(bucket):
    buckets, uri = Buckets(), f"gs://{bucket}/a/report.jsonl"
    buckets.write(bucket, "a/report.jsonl", b"earlier report")
    first = open_report(uri, "run1", buckets)
    for outcome in outcomes(1500):
        first.write(line_of(outcome, "run1"))
    parts = [item.name for item in buckets.find(f"gs://{bucket}/a/report.jsonl.run1.**")]
    there = b"".join(buckets.read(bucket, name) for name in parts)
    assert len(there.splitlines()) == 1000
    first.abandon()
    second = open_report(uri, "run1", buckets)
    with EarlierOutcomes(second.earlier(), "run1") as earlier:
        assert len(earlier) == 1500
        found = earlier.find(Source(1, "/in/1499", 1499, open, "7"))
        assert found is not None
        assert (found.ordinal, found.path, found.earlier) == (1, InstancePath("1.2", "1.2.3", "1.2.3.1499"), True)
        for other in (
            Source(1, "/in/1499", 1499, open, "8"),
            Source(1, "/in/1499", 2, open, "7"),
            Source(1, "/x", 0, open),
        ):
            assert earlier.find(other) is None
    assert buckets.read(bucket, "a/report.jsonl") == b"earlier report"
    second.write(line_of(next(outcomes(1)), "run1"))
    second.finish()
    assert [item.name for item in buckets.find(f"gs://{bucket}/a/**")] == ["a/report.jsonl"]
    assert len(buckets.read(bucket, "a/report.jsonl").splitlines()) == 1


def test_lines_of_other_runs_and_of_what_was_not_stored_say_nothing():
    stored = line_of(next(outcomes(1)), "run1")
    nonsense: list[Any] = [None, 7, [], {}, {**stored, "run": "run2"}, {**stored, "outcome": "failed"}]
    with EarlierOutcomes(nonsense, "run1") as earlier:
        assert len(earlier) == 0
    with EarlierOutcomes([{**stored, "study": None}, {**stored, "version": ""}], "run1") as earlier:
        assert earlier.find(Source(0, "/in/0", 0, open, "7")) is None
        assert earlier.find(Source(0, "/in/0", 0, open, "")) is None


@pytest.mark.parametrize("report", [True, False])
def test_a_retry_in_a_real_airflow_sends_what_is_left(store, run_dag, tmp_path, report):
    write_study(tmp_path / "in", series=2, instances=3)
    store.faults({**REFUSED, "times": 2})
    uri = str(tmp_path / "report.jsonl") if report else None
    with DAG(f"store_again_{report}", schedule=None) as dag:
        DicomWebStoreInstancesOperator(
            task_id="store",
            source=str(tmp_path / "in"),
            report_uri=uri,
            batch_count=1,
            workers=1,
            retries=1,
            retry_delay=timedelta(0),
        )
    run = run_dag(dag)
    (ti,) = run.get_task_instances()
    assert (run.state, ti.try_number) == ("success", 2)
    assert ti.xcom_pull(task_ids="store")["created"] == 6
    assert posts(store) == 8
    if uri is not None:
        assert [line["earlier"] for line in lines(Path(uri))] == [False] * 2 + [True] * 4
