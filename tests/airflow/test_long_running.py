"""Operations are started once and seen through, whatever happens to the task that waits for them.

Shown with the deletion of a study; what is particular to import and export has tests of its own.
"""

from __future__ import annotations

import json
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any

import pytest
from airflow.sdk import NEVER_EXPIRE
from airflow.sdk.exceptions import TaskDeferralError, TaskDeferralTimeout, TaskDeferred

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.errors import (
    AuthorizationError,
    DicomWebError,
    EventError,
    OperationCancelledError,
    OperationFailedError,
    OperationTimeoutError,
    TransportError,
)
from airflow_dicomweb.links import OperationLink, OperationLogsLink
from airflow_dicomweb.operators import DicomWebDeleteStudyOperator
from tests.airflow.files import write_study
from tests.airflow.task_state import StateStore, context, defer, event_of, see_through, wait_until

BOTH = pytest.mark.parametrize("deferrable", [True, False])
LINK = OperationLink().xcom_key


class Delete(DicomWebDeleteStudyOperator):
    """Looks sooner than it would in a real Airflow."""

    shortest_first_wait = 0.0


def delete(study: str, **arguments: Any) -> Delete:
    defaults = {"task_id": "delete", "inline_wait": 0.0, "poll_interval": 0.05, "deferrable": True}
    return Delete(study=study, **{**defaults, **arguments})


@pytest.fixture
def submits(store):
    """How many deletions the server was asked for."""

    def count() -> int:
        return sum(each["method"] == "DELETE" for each in store.requests())

    return count


@pytest.fixture
def cancels(store):
    """How many cancellations the server was asked for."""

    def count() -> int:
        return sum(":cancel" in each["path"] for each in store.requests())

    return count


@BOTH
@pytest.mark.parametrize("remembered", [True, False])
def test_it_is_seen_through_in_the_worker_and_in_the_triggerer_alike(store, study, submits, deferrable, remembered):
    store.set_operation_seconds(0.5)
    found = context(StateStore() if remembered else None)
    one = delete(study, deferrable=deferrable)
    result = see_through(one, found)
    name = result.pop("operation")
    assert result.pop("submitted_at") < result.pop("finished_at")
    logs = result.pop("logs_url")
    assert result == {"state": "success", "success": 4, "failure": 0, "instances": 4}
    assert found["ti"].pushed == {"operation": name, LINK: f"{store.base_url}/v1/{name}"}
    assert OperationLogsLink().get_link(one, ti_key=None) == logs != ""
    assert submits() == 1


def test_the_link_of_a_task_that_starts_nothing_is_empty_without_asking_airflow_for_it(store, study, submits):
    counts = delete(study, dry_run=True)
    assert counts.execute(context())["state"] == "dry_run"
    refused = delete(study, expected=999)
    with pytest.raises(DicomWebError, match="999 were expected"):
        refused.execute(context())
    # Outside of a task there is no XCom to ask.
    assert [OperationLink().get_link(one, ti_key=None) for one in (counts, refused)] == ["", ""]
    assert submits() == 0


def test_a_quick_operation_never_defers(study):
    assert delete(study, inline_wait=20.0).execute(context())["state"] == "success"


def test_it_defers_with_all_that_the_trigger_needs(store, study):
    store.set_operation_seconds(60.0)
    before = time.time()
    one = delete(study, dicom_store="images", poll_interval=3.0, wait_timeout=100.0, cancel_on_kill=False)
    deferral = defer(one, context())
    _, arguments = deferral.trigger.serialize()
    assert deferral.method_name == "execute_complete"
    assert arguments["dicomweb_conn_id"] == "dicomweb_default"
    assert (arguments["dicom_store"], arguments["poll_interval"]) == ("images", 3.0)
    assert arguments["cancel_on_kill"] is False
    assert before + 99 < arguments["deadline"] < time.time() + 100
    assert deferral.timeout > timedelta(seconds=100)
    assert DicomWebDeleteStudyOperator.shortest_first_wait == 6.0


def test_without_waiting_it_is_only_started(store, study, submits):
    store.set_operation_seconds(60.0)
    state = StateStore()
    result = delete(study, wait=False).execute(context(state))
    assert (result["state"], result["finished_at"]) == ("running", None)
    assert (submits(), state.phases[-1]) == (1, "consumed")


def test_the_record_is_written_before_and_after_the_request_and_at_the_end(study):
    state = StateStore()
    see_through(delete(study), context(state))
    assert state.phases == ["submitting", "submitted", "consumed"]
    assert {each["key"] for each in state.written} == {"dicomweb_operation"}
    assert all(each["retention"] is NEVER_EXPIRE for each in state.written)
    submitting, submitted, consumed = (each["value"] for each in state.written)
    assert submitting["operation"] is None
    assert submitted["operation"] == consumed["operation"]
    assert submitting["submitted_at"] == consumed["submitted_at"]
    assert set(submitted) >= {"operation", "fingerprint", "phase", "submitted_at"}


@BOTH
def test_a_retry_after_a_crash_takes_up_what_was_submitted(store, study, submits, cancels, deferrable):
    store.set_operation_seconds(2.0)
    state = StateStore()
    defer(delete(study), context(state))  # and the worker dies
    found = context(state)
    result = see_through(delete(study, deferrable=deferrable), found)
    assert (result["state"], result["instances"]) == ("success", 4)
    assert (submits(), cancels()) == (1, 0)
    assert found["ti"].pushed["operation"] == result["operation"]


def test_a_retry_finds_an_operation_that_ended_meanwhile(store, client, study, submits):
    store.set_operation_seconds(2.0)
    state = StateStore()
    name = defer(delete(study), context(state)).trigger.operation
    wait_until(lambda: client.get_operation(name).done)
    assert delete(study).execute(context(state))["operation"] == name
    assert submits() == 1


def test_a_cleared_task_that_was_finished_submits_anew(store, client, study, submits, tmp_path):
    state = StateStore()
    see_through(delete(study), context(state))
    client.store(write_study(tmp_path / "again"))
    see_through(delete(study), context(state))
    assert submits() == 2


def test_other_arguments_are_another_operation(store, client, study, submits, tmp_path):
    store.set_operation_seconds(60.0)
    other = f"{study}.9"
    client.store(write_study(tmp_path / "other", other))
    state = StateStore()
    first = defer(delete(study), context(state))
    second = defer(delete(other), context(state))
    assert first.trigger.operation != second.trigger.operation
    assert submits() == 2


def test_the_record_says_nothing_of_the_arguments(store, study):
    store.set_operation_seconds(60.0)
    state = StateStore()
    defer(delete(study), context(state))
    assert study not in json.dumps(state.written[-1]["value"])


class CrashingStore(StateStore):
    """Dies where a worker would: between the request and the record of its answer."""

    def set(self, key: str, value: Any, *, retention: Any) -> None:
        if value["phase"] == "submitted":
            raise SystemExit
        super().set(key, value, retention=retention)


def crash_while_submitting(one: Delete) -> StateStore:
    crashing, state = CrashingStore(), StateStore()
    with pytest.raises(SystemExit):
        one.execute(context(crashing))
    state.written = crashing.written
    assert state.phases == ["submitting"]
    return state


@BOTH
def test_a_try_that_broke_off_while_it_submitted_is_found_in_the_list(store, study, submits, deferrable):
    store.set_operation_seconds(2.0)
    state = crash_while_submitting(delete(study))
    result = see_through(delete(study, deferrable=deferrable), context(state))
    assert (result["state"], result["instances"], submits()) == ("success", 4, 1)


@BOTH
def test_what_was_found_in_the_list_is_never_cancelled(store, client, study, cancels, deferrable):
    store.set_operation_seconds(60.0)
    state = crash_while_submitting(delete(study))
    one = delete(study, deferrable=deferrable, wait_timeout=0.5)
    with pytest.raises(OperationTimeoutError, match="is not cancelled"):
        see_through(one, context(state))
    one.on_kill()
    (found,) = [each for each in client.list_operations() if each.short_method == "DeleteStudy"]
    assert not found.cancel_requested
    assert cancels() == 0


def test_the_trigger_does_not_cancel_what_was_found_in_the_list(store, study):
    store.set_operation_seconds(60.0)
    state = crash_while_submitting(delete(study))
    assert defer(delete(study), context(state)).trigger.cancel_on_kill is False


def test_with_several_candidates_in_the_list_it_submits_again(store, client, study, submits, tmp_path):
    store.set_operation_seconds(60.0)
    other = f"{study}.9"
    client.store(write_study(tmp_path / "other", other))
    state = crash_while_submitting(delete(study))
    client.delete_study(other)
    deferral = defer(delete(study), context(state))
    assert submits() == 3
    assert deferral.trigger.cancel_on_kill is True


def test_when_nothing_in_the_list_fits_it_submits(store, client, study, submits):
    state = StateStore()
    store.faults({"method": "DELETE", "match": "/studies/", "drop": "before", "times": 9})
    with pytest.raises(TransportError):
        delete(study).execute(context(state))
    assert state.phases == ["submitting"]
    store.reset()
    assert see_through(delete(study), context(state))["state"] == "success"
    assert submits() == 1


def test_a_study_that_the_broken_try_deleted_is_no_error(store, client, study, tmp_path):
    """Two deletions in the list: whose is whose nobody knows, but the study is gone."""
    other = f"{study}.9"
    client.store(write_study(tmp_path / "other", other))
    state = crash_while_submitting(delete(study))
    client.delete_study(other)
    wait_until(lambda: not any(find_instances(client, [study])))
    result = delete(study).execute(context(state))
    assert (result["operation"], result["state"], result["instances"]) == (None, "success", 4)


def test_a_submit_that_was_refused_leaves_nothing_to_look_for(store, study, submits):
    state = StateStore()
    store.faults({"method": "DELETE", "match": "/studies/", "status": 403, "times": 1})
    with pytest.raises(AuthorizationError):
        delete(study).execute(context(state))
    assert store.faults()[0]["fired"] == 1
    assert state.phases == ["submitting", "consumed"]


def test_a_cancelled_operation_that_a_later_try_finds_is_started_anew(store, client, study, submits):
    store.set_operation_seconds(60.0)
    state = StateStore()
    name = defer(delete(study), context(state)).trigger.operation
    client.cancel_operation(name)
    wait_until(lambda: client.get_operation(name).done)
    store.set_operation_seconds(0.0)
    result = see_through(delete(study), context(state))
    assert result["operation"] != name
    assert (result["state"], submits()) == ("success", 2)


@BOTH
def test_an_operation_that_was_being_cancelled_when_it_was_taken_up_is_started_anew(
    store, client, study, submits, deferrable
):
    """The emulator cancels at once, so the record of the second try says what a slow service would have said."""
    store.set_operation_seconds(60.0)
    state = StateStore()
    deferral = defer(delete(study), context(state))
    client.cancel_operation(deferral.trigger.operation)
    wait_until(lambda: client.get_operation(deferral.trigger.operation).done)
    event = event_of(deferral)
    event["details"]["restart"] = True
    store.set_operation_seconds(0.3)
    one = delete(study, deferrable=deferrable)
    try:
        result = one.execute_complete(context(state), event=event)
    except TaskDeferred as again:
        result = one.execute_complete(context(state), event=event_of(again))
    assert (result["state"], submits()) == ("success", 2)


@BOTH
def test_somebody_elses_cancelling_during_the_try_is_an_error_of_its_own(store, client, study, submits, deferrable):
    store.set_operation_seconds(60.0)
    state = StateStore()
    found = context(state)
    deferral = defer(delete(study), found)
    client.cancel_operation(deferral.trigger.operation)
    one = delete(study, deferrable=deferrable)
    with pytest.raises(OperationCancelledError, match="cancelled"):
        one.execute_complete(found, event=event_of(deferral))
    assert (submits(), state.phases[-1]) == (1, "consumed")


@BOTH
def test_a_deadline_cancels_the_operation_and_fails_the_task(store, client, study, cancels, deferrable):
    store.set_operation_seconds(60.0)
    state = StateStore()
    found = context(state)
    with pytest.raises(OperationTimeoutError, match="still running"):
        see_through(delete(study, deferrable=deferrable, wait_timeout=0.5), found)
    assert client.get_operation(found["ti"].pushed["operation"]).cancel_requested
    assert (cancels(), state.phases[-1]) == (1, "consumed")


def test_an_operation_that_ended_while_the_deadline_passed_is_a_success(store, client, study):
    store.set_operation_seconds(2.0)
    found = context(StateStore())
    deferral = defer(delete(study, wait_timeout=60.0), found)
    wait_until(lambda: client.get_operation(deferral.trigger.operation).done)
    event = {
        "version": 1,
        "outcome": "deadline_passed",
        "name": deferral.trigger.operation,
        "details": deferral.trigger.details,
    }
    assert delete(study).execute_complete(found, event=event)["state"] == "success"


def test_a_failed_operation_says_what_the_service_said_and_the_next_try_submits_anew(store, study, submits):
    store.set_operation_seconds(60.0)
    state = StateStore()
    found = context(state)
    event = event_with(defer(delete(study), found), error={"code": 13, "message": "internal error"})
    with pytest.raises(OperationFailedError, match=r"DeleteStudy .* failed \(code 13: internal error\), 0 succeeded"):
        delete(study).execute_complete(found, event=event)
    assert state.phases[-1] == "consumed"
    defer(delete(study), context(state))
    assert submits() == 2


def event_with(deferral: TaskDeferred, **body: Any) -> dict[str, Any]:
    """The event of an operation that ended in a way that the emulator's deletions never do."""
    metadata = {"apiMethodName": "google.cloud.healthcare.v1.dicomweb.DicomWebService.DeleteStudy"}
    operation = {"name": deferral.trigger.operation, "metadata": metadata, "done": True, **body}
    return {"version": 1, "outcome": "ended", "operation": operation, "details": deferral.trigger.details}


@BOTH
def test_killing_the_task_in_the_worker_cancels_the_operation(store, client, study, cancels, deferrable):
    """As Airflow's signal handler does: on_kill is called while execute waits."""
    store.set_operation_seconds(60.0)
    found = context(StateStore())
    one = delete(study, deferrable=deferrable, inline_wait=30.0)
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(one.execute, found)
        wait_until(lambda: "operation" in found["ti"].pushed)
        one.on_kill()
        with pytest.raises(OperationCancelledError):
            running.result(timeout=30)
    assert client.get_operation(found["ti"].pushed["operation"]).cancel_requested
    assert cancels() == 1


def test_a_task_may_be_told_to_leave_its_operation_alone(store, study, cancels):
    store.set_operation_seconds(60.0)
    one = delete(study, cancel_on_kill=False)
    defer(one, context())
    one.on_kill()
    assert cancels() == 0


def test_a_task_that_waits_for_nothing_has_nothing_to_cancel(study, cancels):
    delete(study).on_kill()
    assert cancels() == 0


def test_airflows_own_time_out_looks_once_more_and_then_cancels(store, client, study, cancels):
    store.set_operation_seconds(60.0)
    state = StateStore()
    name = defer(delete(study), context(state)).trigger.operation
    with pytest.raises(OperationTimeoutError):
        delete(study).resume_execution("__fail__", {"error": "Trigger timeout"}, context(state))
    assert client.get_operation(name).cancel_requested
    assert (cancels(), state.phases[-1]) == (1, "consumed")


@pytest.mark.parametrize("error", ["Trigger timeout", "Trigger failure"])
def test_a_lost_trigger_does_not_lose_the_result(store, client, study, error):
    store.set_operation_seconds(2.0)
    state = StateStore()
    name = defer(delete(study), context(state)).trigger.operation
    wait_until(lambda: client.get_operation(name).done)
    result = delete(study).resume_execution("__fail__", {"error": error}, context(state))
    assert (result["operation"], result["state"], result["instances"]) == (name, "success", 4)


def test_a_lost_trigger_of_a_running_operation_fails_the_try_and_the_next_one_takes_it_up(store, study, submits):
    store.set_operation_seconds(60.0)
    state = StateStore()
    first = defer(delete(study), context(state))
    with pytest.raises(TaskDeferralError):
        delete(study).resume_execution("__fail__", {"error": "Trigger failure"}, context(state))
    assert defer(delete(study), context(state)).trigger.operation == first.trigger.operation
    assert submits() == 1


def test_without_a_record_a_lost_trigger_is_what_airflow_says(study):
    with pytest.raises(TaskDeferralTimeout):
        delete(study).resume_execution("__fail__", {"error": "Trigger timeout"}, context(StateStore()))


def test_a_look_that_failed_for_good_fails_the_try_and_the_next_one_takes_it_up(store, study, submits):
    store.set_operation_seconds(60.0)
    state = StateStore()
    deferral = defer(delete(study), context(state))
    store.faults({"method": "GET", "match": "/operations/", "status": 403, "times": 1})
    event = event_of(deferral)
    assert store.faults()[0]["fired"] == 1
    with pytest.raises(DicomWebError, match="broke off with AuthorizationError"):
        delete(study).execute_complete(context(state), event=event)
    assert defer(delete(study), context(state)).trigger.operation == deferral.trigger.operation
    assert submits() == 1


def test_an_event_that_cannot_be_read_fails_the_try_and_the_next_one_takes_it_up(store, study, submits):
    store.set_operation_seconds(2.0)
    state = StateStore()
    defer(delete(study), context(state))
    for event in (
        None,
        {"status": "success"},
        {"version": 1, "outcome": "deadline_passed", "name": "x", "details": {}},
    ):
        with pytest.raises(EventError):
            delete(study).execute_complete(context(state), event=event)
    assert see_through(delete(study), context(state))["state"] == "success"
    assert submits() == 1


def test_trouble_while_looking_in_the_worker_is_looked_over(store, study):
    store.set_operation_seconds(0.3)
    store.faults({"method": "GET", "match": "/operations/", "status": 429, "times": 2})
    assert delete(study, deferrable=False).execute(context())["state"] == "success"
    assert store.faults()[0]["fired"] == 2
