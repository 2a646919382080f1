"""Events survive Airflow's database, and what cannot be read is said to be so."""

from __future__ import annotations

import json

import pytest

from airflow_dicomweb.errors import AuthorizationError, EventError
from airflow_dicomweb.events import DeadlinePassed, Ended, LookFailed, read_event
from airflow_dicomweb.healthcare.operations import Operation

NAME = "projects/p/locations/l/datasets/d/operations/1"
FAILED = Operation(
    name=NAME,
    method="google.cloud.healthcare.v1.dicom.DicomService.ImportDicomData",
    done=True,
    success=2,
    failure=1,
    error_code=3,
    error_message="cannot read gs://bucket/Doe^John/1.dcm",
)


@pytest.mark.parametrize(
    "event",
    [
        Ended(operation=Operation(name=NAME, done=True), details={"instances": 3}),
        DeadlinePassed(name=NAME, details={"filter": "gs://bucket/filter/1.txt"}),
        LookFailed(name=NAME, error="AuthorizationError", message="403", details={}),
    ],
)
def test_an_event_is_read_as_it_was_written(event):
    assert read_event(json.loads(json.dumps(event.to_json()))) == event


def test_an_event_keeps_the_verdict_and_drops_the_names_of_objects():
    written = json.dumps(Ended(operation=FAILED).to_json())
    assert "Doe" not in written
    event = read_event(json.loads(written))
    assert isinstance(event, Ended)
    assert (event.operation.verdict, event.operation.failure, event.operation.error_code) == ("partial_failure", 1, 3)


def test_our_own_errors_are_repeated_and_others_only_named():
    refused = AuthorizationError(403, "GET", "https://h/v1/x", "no permission", identity="a@b")
    assert "403" in LookFailed.of(NAME, refused, {}).message
    other = LookFailed.of(NAME, OSError("/incoming/Doe^John"), {})
    assert (other.error, "Doe" in other.message) == ("OSError", False)


@pytest.mark.parametrize(
    "event",
    [
        None,
        "done",
        {},
        {"version": 2, "outcome": "ended", "details": {}, "operation": {"name": NAME}},
        {"version": 1, "outcome": "ended", "details": {}, "operation": {}},
        {"version": 1, "outcome": "vanished", "details": {}},
        {"version": 1, "outcome": "deadline_passed", "name": NAME},
    ],
)
def test_an_event_that_cannot_be_read_is_an_error_of_its_own(event):
    with pytest.raises(EventError, match="resumed with an event"):
        read_event(event)
