"""Import and export: what is sent, what is written for it, and what is looked at afterwards."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.errors import (
    ConfigurationError,
    NotFoundError,
    OperationFailedError,
    OperationTimeoutError,
    TransportError,
)
from airflow_dicomweb.healthcare.bodies import GcsPrefix
from airflow_dicomweb.healthcare.exports import exported_instances
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import DicomWebExportToGcsOperator, DicomWebImportFromGcsOperator
from tests.airflow.files import STUDY, write_study
from tests.airflow.task_state import StateStore, context, defer, event_of, see_through

BOTH = pytest.mark.parametrize("deferrable", [True, False])
WAITING = {"inline_wait": 0.0, "poll_interval": 0.05}


class Import(DicomWebImportFromGcsOperator):
    """Looks sooner than it would in a real Airflow."""

    shortest_first_wait = 0.0


class Export(DicomWebExportToGcsOperator):
    """Looks sooner than it would in a real Airflow."""

    shortest_first_wait = 0.0


def importing(gcs_uri: str, **arguments: Any) -> Import:
    return Import(task_id="import", gcs_uri=gcs_uri, **{**WAITING, "deferrable": True, **arguments})


def exporting(gcs_uri_prefix: str, **arguments: Any) -> Export:
    return Export(task_id="export", gcs_uri_prefix=gcs_uri_prefix, **{**WAITING, "deferrable": True, **arguments})


@pytest.fixture
def buckets(bucket) -> Buckets:
    return Buckets()


@pytest.fixture
def incoming(bucket, buckets, tmp_path) -> str:
    """Four instances in a bucket."""
    for path in write_study(tmp_path / "incoming"):
        buckets.upload(bucket, f"incoming/{path.name}", path)
    return f"gs://{bucket}/incoming/**"


def names(buckets: Buckets, bucket: str, prefix: str = "") -> list[str]:
    return [found.name for found in buckets.list_prefix(GcsPrefix(bucket, prefix))]


def posted(store: Any) -> list[str]:
    return [each["path"].rpartition(":")[2] for each in store.requests() if each["method"] == "POST"]


@BOTH
@pytest.mark.parametrize("verify", ["none", "counts", "instances"])
def test_a_bucket_is_imported(store, client, incoming, deferrable, verify):
    store.set_operation_seconds(0.3)
    found = context(StateStore())
    result = see_through(importing(incoming, deferrable=deferrable, verify=verify, storage_class="NEARLINE"), found)
    assert set(result) == {"operation", "state", "success", "failure", "submitted_at", "finished_at", "logs_url"}
    assert (result["state"], result["success"], result["failure"]) == ("success", 4, 0)
    assert posted(store) == ["import"]
    assert len(list(client.search_instances(study=STUDY))) == 4


@BOTH
def test_objects_that_fail_fail_the_task_unless_they_are_tolerated(store, bucket, buckets, incoming, deferrable):
    buckets.write(bucket, "incoming/Doe^John.txt", b"no image")
    one = importing(incoming, deferrable=deferrable)
    with pytest.raises(OperationFailedError, match="4 succeeded, 1 failed") as refused:
        see_through(one, context(StateStore()))
    assert "Doe" not in str(refused.value)
    result = see_through(importing(incoming, deferrable=deferrable, max_failures="1"), context(StateStore()))
    assert (result["state"], result["success"], result["failure"]) == ("partial_failure", 4, 1)


def test_an_object_that_the_operation_does_not_account_for_is_missed(store, incoming):
    """As if the listing had had one object more than the service took notice of."""
    store.set_operation_seconds(2.0)
    one = importing(incoming, verify="counts")
    found = context(StateStore())
    event = event_of(defer(one, found))
    event["details"]["details"]["listed"] = 5
    with pytest.raises(OperationFailedError, match=r"accounts for 4 objects .* 5 were listed before it: 1 were passed"):
        one.execute_complete(found, event=event)


def test_an_instance_that_is_not_in_the_store_is_missed_by_its_uids(store, client, incoming):
    store.set_operation_seconds(2.0)
    one = importing(incoming, verify="instances")
    found = context(StateStore())
    event = event_of(defer(one, found))
    client.delete_instance(STUDY, f"{STUDY}.1", f"{STUDY}.1.2")
    with pytest.raises(OperationFailedError, match="1 of 4") as missed:
        one.execute_complete(found, event=event)
    assert f"{STUDY}.1.2" in str(missed.value)


@BOTH
def test_the_whole_store_is_exported(store, bucket, buckets, study, deferrable):
    store.set_operation_seconds(0.3)
    result = see_through(exporting(f"gs://{bucket}/out/run-1", deferrable=deferrable), context(StateStore()))
    assert set(result) == {
        *("operation", "state", "success", "failure", "submitted_at", "finished_at", "logs_url", "prefix")
    }
    assert (result["state"], result["success"], result["prefix"]) == ("success", 4, f"gs://{bucket}/out/run-1/")
    exported, others = exported_instances(names(buckets, bucket, "out/run-1/"), "out/run-1/")
    assert (len(exported), others) == (4, 0)


@BOTH
@pytest.mark.parametrize("destination", ["out/run-1", "", "filter"])
@pytest.mark.parametrize(
    ("what", "count"),
    [
        ({"resources": [STUDY]}, 4),
        ({"resources": [f"studies/{STUDY}/series/{STUDY}.1"]}, 2),
        ({"resources": [f"/studies/{STUDY}/series/{STUDY}.1/instances/{STUDY}.1.1", f"{STUDY}.9"]}, 5),
        ({"resources": [{"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.2", "Modality": "OT"}]}, 2),
        ({"query": {"PatientID": "sentinel-id", "StudyInstanceUID": STUDY}}, 4),
        ({"query": {"Modality": "OT", "StudyDate": "20260101-20260131"}}, 8),
    ],
)
def test_what_was_selected_is_exported_and_the_filter_file_removed(  # noqa: PLR0917
    store, client, bucket, buckets, study, tmp_path, what, count, destination, deferrable
):
    client.store(write_study(tmp_path / "other", f"{STUDY}.9"))
    result = see_through(
        exporting(f"gs://{bucket}/{destination}", deferrable=deferrable, **what), context(StateStore())
    )
    assert (result["state"], result["success"]) == ("success", count)
    prefix = f"{destination}/" if destination else ""
    exported, others = exported_instances(names(buckets, bucket), prefix)
    assert (len(exported), others) == (count, 0)


def test_a_filter_file_of_the_authors_own_is_used_and_left_alone(store, bucket, buckets, study):
    buckets.write(bucket, "mine.txt", f"/studies/{study}\n".encode())
    result = see_through(exporting(f"gs://{bucket}/out", filter_gcs_uri=f"gs://{bucket}/mine.txt"), context())
    assert result["success"] == 4
    assert "mine.txt" in names(buckets, bucket)


def test_while_the_export_runs_the_filter_file_is_beside_the_folder(store, bucket, buckets, study):
    store.set_operation_seconds(60.0)
    state = StateStore()
    defer(exporting(f"gs://{bucket}/out/run-1", resources=[study]), context(state))
    (name,) = names(buckets, bucket)
    assert name.startswith("out/run-1.filter-")
    assert buckets.read(bucket, name) == f"/studies/{study}\n".encode()
    assert state.written[0]["value"]["details"] == {"filter": f"gs://{bucket}/{name}"}


@BOTH
def test_a_retry_removes_the_filter_file_of_the_try_that_wrote_it(store, bucket, buckets, study, deferrable):
    store.set_operation_seconds(2.0)
    state = StateStore()
    defer(exporting(f"gs://{bucket}/out", resources=[study]), context(state))
    see_through(exporting(f"gs://{bucket}/out", resources=[study], deferrable=deferrable), context(state))
    assert posted(store) == ["export"]
    assert len(names(buckets, bucket)) == 4


@BOTH
def test_a_deadline_removes_the_filter_file(store, bucket, buckets, study, deferrable):
    store.set_operation_seconds(60.0)
    one = exporting(f"gs://{bucket}/out", resources=[study], deferrable=deferrable, wait_timeout=0.3)
    with pytest.raises(OperationTimeoutError, match="still running"):
        see_through(one, context(StateStore()))
    assert [name for name in names(buckets, bucket) if "filter" in name] == []


def test_a_refused_export_removes_the_filter_file(store, bucket, buckets, study):
    store.faults({"method": "POST", "match": ":export", "status": 404, "times": 1})
    with pytest.raises(NotFoundError):
        exporting(f"gs://{bucket}/out", resources=[study]).execute(context(StateStore()))
    assert store.faults()[0]["fired"] == 1
    assert names(buckets, bucket) == []


def test_an_export_that_nobody_waits_for_keeps_its_filter_file(store, bucket, buckets, study):
    store.set_operation_seconds(60.0)
    exporting(f"gs://{bucket}/out", resources=[study], wait=False).execute(context(StateStore()))
    assert [name for name in names(buckets, bucket) if "filter" in name]


@pytest.mark.parametrize("kind", ["import", "export"])
def test_a_request_whose_answer_was_lost_is_not_sent_again_but_looked_for(store, bucket, incoming, study, kind):
    store.set_operation_seconds(0.5)
    one = importing(incoming) if kind == "import" else exporting(f"gs://{bucket}/out")
    state = StateStore()
    store.faults({"method": "POST", "match": f":{kind}", "drop": "after", "times": 1})
    with pytest.raises(TransportError):
        one.execute(context(state))
    assert store.faults()[0]["fired"] == 1
    result = see_through(one, context(state))
    assert (result["state"], posted(store)) == ("success", [kind])


def test_a_query_that_selects_nothing_exports_nothing(store, bucket, buckets, study):
    with pytest.raises(ConfigurationError, match="selects no study"):
        exporting(f"gs://{bucket}/out", query={"PatientID": "somebody else"}).execute(context(StateStore()))
    assert posted(store) == []
    assert names(buckets, bucket) == []


def test_the_record_of_an_export_does_not_show_the_query(store, bucket, study):
    store.set_operation_seconds(60.0)
    state = StateStore()
    deferral = defer(exporting(f"gs://{bucket}/out", query={"PatientID": "sentinel-id"}), context(state))
    assert "sentinel" not in f"{state.written}{deferral.trigger.serialize()}"


def test_another_query_is_another_export(store, bucket, study):
    store.set_operation_seconds(60.0)
    state = StateStore()
    defer(exporting(f"gs://{bucket}/out", query={"PatientID": "sentinel-id"}), context(state))
    defer(exporting(f"gs://{bucket}/out", query={"Modality": "OT"}), context(state))
    assert posted(store) == ["export", "export"]


def test_parts_of_a_bucket_can_be_imported_by_pattern(store, bucket, buckets, tmp_path):
    for path in write_study(Path(tmp_path) / "incoming"):
        buckets.upload(bucket, f"in/{path.name}.dcm", path)
    buckets.write(bucket, "in/notes.txt", b"no image")
    result = see_through(importing(f"gs://{bucket}/in/*.dcm", verify="counts"), context())
    assert (result["success"], result["failure"]) == (4, 0)
