"""The sensor: poked, rescheduled and deferred alike, with Airflow's own time-outs and its own soft_fail."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.sdk.exceptions import (
    AirflowFailException,
    AirflowRescheduleException,
    AirflowSensorTimeout,
    AirflowSkipException,
)

from airflow_dicomweb.sensors import DicomWebOperationSensor
from tests.airflow.task_state import context, defer, event_of, wait_until

BOTH = pytest.mark.parametrize("deferrable", [True, False])


class Sensor(DicomWebOperationSensor):
    """Looks sooner than it would in a real Airflow."""

    shortest_first_wait = 0.0


def sensor(operation: Any, **arguments: Any) -> Sensor:
    return Sensor(task_id="wait", operation=operation, **{"poke_interval": 0.05, "timeout": 30.0, **arguments})


def wait(one: Sensor) -> Any:
    """Run a sensor to its end, with what Airflow makes of its errors."""
    found = context()
    if not one.deferrable:
        return one.execute(found)
    deferral = defer(one, found)
    return one.resume_execution(deferral.method_name, {"event": event_of(deferral)}, found)


@pytest.fixture
def deletion(store, client, study):
    """An operation that takes as long as a test says."""

    def start(seconds: float) -> str:
        store.set_operation_seconds(seconds)
        return client.delete_study(study).name

    return start


@BOTH
def test_it_waits_for_the_end_and_gives_the_result(store, deletion, deferrable):
    name = deletion(2.0)
    result = wait(sensor(name, deferrable=deferrable))
    assert set(result) == {"operation", "state", "success", "failure", "submitted_at", "finished_at", "logs_url"}
    assert (result["operation"], result["state"], result["success"]) == (name, "success", 4)
    assert not any(":cancel" in each["path"] for each in store.requests())


@BOTH
def test_an_operation_that_ended_before_needs_no_waiting(client, deletion, deferrable):
    name = deletion(0.0)
    wait_until(lambda: client.get_operation(name).done)
    assert sensor(name, deferrable=deferrable).execute(context())["state"] == "success"


def test_the_result_of_an_operator_can_be_given_as_it_is(client, deletion):
    name = deletion(0.0)
    wait_until(lambda: client.get_operation(name).done)
    assert sensor({"operation": name, "state": "running"}).execute(context())["operation"] == name


def test_between_looks_it_may_give_its_slot_away(deletion):
    class Reschedules:
        """What Airflow asks of a task instance in reschedule mode."""

        def get_first_reschedule_date(self, _: Any) -> None:
            return None

        def xcom_push(self, key: str, value: Any) -> None:
            raise AssertionError

    with pytest.raises(AirflowRescheduleException):
        sensor(deletion(30.0), mode="reschedule").execute({"ti": Reschedules()})


def test_the_trigger_of_a_sensor_never_cancels(deletion):
    deferral = defer(sensor(deletion(30.0), deferrable=True), context())
    assert deferral.trigger.cancel_on_kill is False


@BOTH
@pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowSensorTimeout), (True, AirflowSkipException)])
def test_the_time_out_is_airflows_own(client, deletion, deferrable, soft_fail, error):
    name = deletion(60.0)
    with pytest.raises(error):
        wait(sensor(name, deferrable=deferrable, timeout=0.3, soft_fail=soft_fail))
    assert client.get_operation(name).verdict == "running"


@BOTH
@pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowFailException), (True, AirflowSkipException)])
def test_an_operation_that_did_not_end_well_fails_for_good(client, deletion, deferrable, soft_fail, error):
    name = deletion(60.0)
    one = sensor(name, deferrable=deferrable, soft_fail=soft_fail)
    if deferrable:
        deferral = defer(one, context())
        client.cancel_operation(name)
        with pytest.raises(error):
            one.resume_execution(deferral.method_name, {"event": event_of(deferral)}, context())
    else:
        client.cancel_operation(name)
        with pytest.raises(error):
            one.execute(context())


@BOTH
@pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowFailException), (True, AirflowSkipException)])
def test_an_operation_that_cannot_be_looked_at_fails_for_good(store, deletion, deferrable, soft_fail, error):
    name = deletion(60.0)
    store.faults({"method": "GET", "match": "/operations/", "status": 403, "times": 1})
    with pytest.raises(error):
        sensor(name, deferrable=deferrable, soft_fail=soft_fail).execute(context())
    assert store.faults()[0]["fired"] == 1


@pytest.mark.parametrize(("soft_fail", "error"), [(False, AirflowFailException), (True, AirflowSkipException)])
def test_a_look_of_the_trigger_that_failed_fails_for_good(store, deletion, soft_fail, error):
    one = sensor(deletion(60.0), deferrable=True, soft_fail=soft_fail)
    deferral = defer(one, context())
    store.faults({"method": "GET", "match": "/operations/", "status": 403, "times": 1})
    event = event_of(deferral)
    assert store.faults()[0]["fired"] == 1
    with pytest.raises(error):
        one.resume_execution(deferral.method_name, {"event": event}, context())


def test_airflows_own_time_out_of_a_deferral_is_the_sensors(deletion):
    with pytest.raises(AirflowSensorTimeout):
        sensor(deletion(60.0)).resume_execution("__fail__", {"error": "Trigger timeout"}, context())


@BOTH
def test_a_server_that_is_away_for_a_moment_is_waited_for(store, deletion, deferrable):
    name = deletion(2.0)
    one = sensor(name, deferrable=deferrable)
    deferral = defer(one, context()) if deferrable else None
    store.faults({"method": "GET", "match": "/operations/", "status": 503, "headers": {"Retry-After": "0"}, "times": 2})
    result = one.execute_complete(context(), event=event_of(deferral)) if deferral else one.execute(context())
    assert result["state"] == "success"
    assert store.faults()[0]["fired"] == 2


@BOTH
@pytest.mark.parametrize("operation", ["", "operations/1", "projects/p/locations/l/datasets/d/operations/..", None, {}])
def test_a_name_that_is_none_is_refused_before_anything_is_sent(store, operation, deferrable):
    with pytest.raises(AirflowFailException, match="operation"):
        sensor(operation, deferrable=deferrable).execute(context())
    assert store.requests() == []
