"""Deleting a study: counted and checked right before, and nothing deleted when in doubt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.operators import DicomWebDeleteStudyOperator
from tests.airflow.files import write_study
from tests.airflow.task_state import StateStore, context
from tests.servers.faulty import Fault, FaultyServer

MISSING = "1.2.3.4"


def delete(study: str, **arguments: Any) -> DicomWebDeleteStudyOperator:
    return DicomWebDeleteStudyOperator(task_id="delete", study=study, poll_interval=0.05, **arguments)


@pytest.fixture
def left(client):
    """How many instances of a study there are."""

    def count(study: str) -> int:
        return sum(1 for _ in find_instances(client, [study]))

    return count


def methods(store: Any) -> set[str]:
    return {each["method"] for each in store.requests()}


@pytest.mark.parametrize(
    "expected",
    [None, {"instances": 4, "series": 2}, {"instances": "4"}, {"series": 2}, 4, "{'instances': 4, 'series': 2}", "4"],
)
def test_a_study_that_is_as_expected_is_deleted(study, left, expected):
    result = delete(study, expected=expected).execute(context())
    assert (result["state"], result["success"], result["instances"]) == ("success", 4, 4)
    assert left(study) == 0


@pytest.mark.parametrize(
    ("expected", "words"),
    [
        ({"instances": 5, "series": 2}, "has 4 instances, 5 were expected"),
        ({"instances": 4, "series": 3}, "has 2 series, 3 were expected"),
        (3, "has 4 instances, 3 were expected"),
    ],
)
@pytest.mark.parametrize("dry_run", [True, False])
def test_of_a_study_that_is_not_as_expected_nothing_is_deleted(  # noqa: PLR0917
    store, study, left, expected, words, dry_run
):
    with pytest.raises(DicomWebError, match=words):
        delete(study, expected=expected, dry_run=dry_run).execute(context(StateStore()))
    assert left(study) == 4
    assert methods(store) == {"GET"}


def test_it_counts_again_right_before_the_request(store, client, study, left):
    one = delete(study, expected={"instances": 4})
    one.arguments()
    client.delete_instance(study, f"{study}.1", f"{study}.1.1")
    with pytest.raises(DicomWebError, match="has 3 instances, 4 were expected"):
        one.execute(context())
    assert left(study) == 3


def test_a_dry_run_says_how_much_would_be_deleted_and_deletes_nothing(store, study, left):
    result = delete(study, dry_run=True, expected={"instances": 4}).execute(context(StateStore()))
    assert (result["state"], result["operation"], result["instances"]) == ("dry_run", None, 4)
    assert left(study) == 4
    assert methods(store) == {"GET"}


@pytest.mark.parametrize("dry_run", [True, False])
def test_a_study_that_is_not_there_is_an_error(store, dry_run):
    with pytest.raises(DicomWebError, match=f"study {MISSING} is not there"):
        delete(MISSING, dry_run=dry_run).execute(context())
    assert methods(store) == {"GET"}


def test_a_study_that_is_not_there_may_be_no_error(store):
    result = delete(MISSING, ignore_if_missing=True).execute(context(StateStore()))
    assert (result["state"], result["operation"], result["instances"]) == ("missing", None, 0)
    assert methods(store) == {"GET"}


def test_only_the_study_that_was_named_is_deleted(client, study, left, tmp_path):
    client.store(write_study(tmp_path / "other", f"{study}.9"))
    delete(study).execute(context())
    assert (left(study), left(f"{study}.9")) == (0, 4)


def test_an_answer_that_says_done_is_done(set_connection):
    """As the service answered at first, and other servers do."""
    uids = {"0020000D": MISSING, "0020000E": f"{MISSING}.1", "00080018": f"{MISSING}.1.1"}
    found = json.dumps([{tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}])
    state = StateStore()
    with FaultyServer([Fault(body=found.encode(), headers=(("Content-Type", "application/dicom+json"),))]) as server:
        store = "projects/p/locations/l/datasets/d/dicomStores/s"
        set_connection(host=server.url, extra={"dicom_store": store, "auth": "none"})
        result = delete(MISSING, deferrable=True).execute(context(state))
        assert [each.line.partition(" ")[0] for each in server.received] == ["GET", "DELETE"]
    assert (result["operation"], result["state"], result["instances"]) == (None, "success", 1)
    assert state.phases == ["submitting", "submitted", "consumed"]


@pytest.mark.parametrize(
    "expected",
    [
        {},
        {"instance": 4},
        {"instances": -1},
        {"instances": 1.5},
        {"instances": True},
        [4],
        "many",
        -1,
        True,
        {"instances": None},
    ],
)
def test_an_expectation_that_cannot_be_meant_is_refused(store, study, expected):
    with pytest.raises(ConfigurationError, match="expected must be"):
        delete(study, expected=expected).execute(context())
    assert store.requests() == []
