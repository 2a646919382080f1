"""An operation: one value, and its verdict."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb import errors
from airflow_dicomweb.healthcare.operations import Operation, parse_time

LRO = yaml.safe_load((Path(__file__).parents[1] / "data" / "values.yaml").read_text())["lro"]
NAME = "projects/p/locations/l/datasets/d/operations/1"
COUNTS = st.integers(0, 2**63 - 1)
TEXTS = st.text(min_size=1, max_size=20)


@pytest.mark.parametrize("state", LRO["states"], ids=lambda s: s["id"])
def test_the_verdict_of_every_documented_state(state):
    operation = Operation.from_json(state["operation"])
    assert operation.verdict == state["verdict"]
    if "counts" in state:
        assert [operation.success, operation.failure] == state["counts"]
    if operation.done and operation.verdict != "success":
        with pytest.raises((errors.OperationFailedError, errors.OperationCancelledError)):
            operation.raise_for_failure()


@given(
    st.builds(
        Operation,
        name=st.just(NAME),
        method=st.sampled_from(["google.cloud.healthcare.v1.dicom.DicomService.ImportDicomData", ""]),
        api_version=st.sampled_from(["v1", "v1beta1"]),
        create_time=st.none() | TEXTS,
        end_time=st.none() | TEXTS,
        success=COUNTS,
        failure=COUNTS,
        pending=COUNTS,
        logs_url=st.none() | TEXTS,
        cancel_requested=st.booleans(),
        done=st.booleans(),
        error_code=st.none() | st.integers(0, 16),
        error_message=st.just(""),
        response=st.none() | st.just({"@type": "type.googleapis.com/google.protobuf.Empty"}),
    )
)
def test_an_operation_survives_the_wire(operation):
    body = json.loads(json.dumps(operation.to_json()))
    assert Operation.from_json(body) == operation


def test_defaults_are_omitted_and_counters_are_strings():
    body = Operation(name=NAME, success=12).to_json()
    assert "done" not in body
    assert body["metadata"]["counter"] == {"success": "12"}


def test_failures_up_to_the_tolerated_number_are_success():
    for error in ({}, {"error_code": 3, "error_message": "some failed"}):
        operation = Operation(name=NAME, done=True, success=12, failure=3, **error)
        operation.raise_for_failure(max_failures=3)
        with pytest.raises(errors.OperationFailedError, match="12 succeeded, 3 failed"):
            operation.raise_for_failure(max_failures=2)


def test_an_error_without_failed_items_is_never_tolerated():
    with pytest.raises(errors.OperationFailedError):
        Operation(name=NAME, done=True, error_code=13).raise_for_failure(max_failures=100)


def test_a_running_operation_has_no_verdict_to_raise_for():
    with pytest.raises(errors.ConfigurationError, match="has not ended"):
        Operation(name=NAME).raise_for_failure()


def test_a_missing_permission_names_the_role_and_who_needs_it():
    operation = Operation(
        name=NAME,
        method="google.cloud.healthcare.v1.dicom.DicomService.ExportDicomData",
        done=True,
        error_code=7,
        error_message="Healthcare API doesn't have required Cloud Storage permission.",
        logs_url="https://logs",
    )
    with pytest.raises(errors.OperationFailedError) as failed:
        operation.raise_for_failure()
    for words in (NAME, "code 7", "roles/storage.objectAdmin", "gcp-sa-healthcare", "https://logs"):
        assert words in str(failed.value)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("cannot read gs://bucket/Doe^John/1.dcm", "cannot read gs://bucket/…"),
        ("gs://bucket/Doe, John/1.dcm: not found\nlook again", "gs://bucket/…\nlook again"),
        ("'gs://bucket/Doe, John/1.dcm' is too large", "'gs://bucket/…' is too large"),
        ('"gs://bucket/D\'Oe, John.dcm" is too large', '"gs://bucket/…" is too large'),
        ("'gs://bucket/D'Oe, John.dcm' is too large", "'gs://bucket/…' is too large"),
        ("'gs://bucket/Doe, John", "'gs://bucket/…"),
        ("gs://bucket is not there", "gs://bucket is not there"),
    ],
)
def test_object_names_in_the_servers_words_are_left_out(words, shown):
    operation = Operation(name=NAME, done=True, error_code=3, error_message=words)
    assert f"(code 3: {shown})" in operation.describe()
    assert operation.without_object_names().error_message == shown


@pytest.mark.parametrize("body", [None, {}, [], {"name": 1}, "x"])
def test_what_is_no_operation_is_a_protocol_error(body):
    with pytest.raises(errors.ProtocolError):
        Operation.from_json(body)


def test_times_are_read_with_z_or_offset_and_nanoseconds():
    assert parse_time("2026-01-02T03:04:05.123456789Z") == parse_time("2026-01-02T04:04:05.123456+01:00")
    assert parse_time("yesterday") is parse_time(None) is parse_time("") is None


def test_errors_survive_pickling():
    for error in (
        errors.UnavailableError(503, "GET", "http://x", "busy", retry_after=3.0),
        errors.StoreRefusedError("2 of 3", {"created": 1}),
        errors.OperationTimeoutError("late"),
    ):
        again = pickle.loads(pickle.dumps(error))
        assert str(again) == str(error)
        assert again.__dict__ == error.__dict__


def test_every_error_is_drawn_in_the_tree():
    drawn = errors.__doc__
    for name, kind in vars(errors).items():
        if isinstance(kind, type) and issubclass(kind, errors.DicomWebError):
            line = next(line for line in drawn.splitlines() if f"{name} " in line + " ")
            assert ("retryable" in line) == (kind.retryable and not errors.DicomWebError.retryable), name
