"""The trigger alone: it looks, it fires once, it says everything, and it cancels only when nobody comes back."""

from __future__ import annotations

import asyncio
import inspect
import json
import time
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.sdk import DAG, task

from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.events import DeadlinePassed, Ended, LookFailed, read_event
from airflow_dicomweb.triggers import OperationTrigger, cancel_operation
from tests.airflow.task_state import wait_until

NAME = "projects/p/locations/l/datasets/d/operations/1"


def trigger(operation: str = NAME, **arguments: Any) -> OperationTrigger:
    defaults = {
        "dicomweb_conn_id": "dicomweb_default",
        "poll_interval": 0.05,
        "shortest_first_wait": 0.0,
        "deadline": time.time() + 30,
        "details": {"submitted_at": 1.0},
    }
    return OperationTrigger(operation, **{**defaults, **arguments})


def events_of(one: OperationTrigger) -> list[Any]:
    async def collect() -> list[Any]:
        return [event.payload async for event in one.run()]

    return asyncio.run(collect())


def the_event_of(one: OperationTrigger) -> Any:
    (payload,) = events_of(one)
    return read_event(json.loads(json.dumps(payload)))


def lines_of_the_trigger(capsys: pytest.CaptureFixture[str]) -> list[str]:
    """What it logged: Airflow's logging writes to standard output here."""
    return [line for line in capsys.readouterr().out.splitlines() if "[airflow_dicomweb.triggers" in line]


@pytest.fixture
def deletion(store, client, study):
    """An operation that takes as long as a test says."""

    def start(seconds: float = 0.0) -> str:
        store.set_operation_seconds(seconds)
        operation = client.delete_study(study)
        store.set_operation_seconds(0.0)
        store.reset()
        return operation.name

    return start


def test_a_trigger_is_made_again_from_what_it_says_of_itself():
    chain = ["a@p", "b@p"]
    one = trigger(dicom_store="other", impersonation_chain=chain, cancel_on_kill=False, details={"instances": 3})
    path, arguments = one.serialize()
    assert path == "airflow_dicomweb.triggers.OperationTrigger"
    assert set(arguments) == set(inspect.signature(OperationTrigger).parameters)
    assert json.loads(json.dumps(arguments)) == arguments
    assert OperationTrigger(**arguments).serialize() == (path, arguments)


def test_an_operation_that_ended_fires_one_event_with_all_that_is_known(deletion, capsys):
    name = deletion()
    event = the_event_of(trigger(name, details={"instances": 4}))
    assert isinstance(event, Ended)
    assert (event.operation.name, event.operation.verdict, event.operation.success) == (name, "success", 4)
    assert event.details == {"instances": 4}
    assert lines_of_the_trigger(capsys) == []


def test_only_looks_are_sent(store, deletion):
    event = the_event_of(trigger(deletion(0.5)))
    assert isinstance(event, Ended)
    assert len(store.requests()) > 1
    assert {(each["method"], each["path"]) for each in store.requests()} == {("GET", f"/v1/{event.operation.name}")}


def test_the_first_look_waits_longer_than_the_others(store, deletion):
    name = deletion(0.4)
    event = the_event_of(trigger(name, shortest_first_wait=1.0, poll_interval=0.01))
    assert isinstance(event, Ended)
    assert len(store.requests()) == 1


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 503, "headers": {"Retry-After": "0"}},
        {"status": 429},
        {"status": 500},
        {"drop": "after"},
        {"cut": 5},
    ],
)
def test_a_passing_trouble_is_looked_over_and_logged(store, deletion, fault, capsys):
    name = deletion()
    store.faults({"method": "GET", "match": "/operations/", "times": 3, **fault})
    assert isinstance(the_event_of(trigger(name)), Ended)
    assert store.faults()[0]["fired"] == 3
    assert len(lines_of_the_trigger(capsys)) == 3


@pytest.mark.parametrize(("status", "error"), [(403, "AuthorizationError"), (404, "NotFoundError")])
def test_a_lasting_trouble_is_an_event_that_says_what_it_is(store, deletion, status, error):
    name = deletion()
    store.faults({"method": "GET", "match": "/operations/", "status": status, "times": 1})
    event = the_event_of(trigger(name))
    assert isinstance(event, LookFailed)
    assert (event.name, event.error, event.details) == (name, error, {"submitted_at": 1.0})
    assert str(status) in event.message
    assert store.faults()[0]["fired"] == 1


def test_a_connection_that_is_gone_is_an_event_too(store, deletion):
    event = the_event_of(trigger(deletion(), dicomweb_conn_id="gone"))
    assert isinstance(event, LookFailed)
    assert event.error == "AirflowNotFoundException"


def test_a_deadline_ends_the_wait_while_the_operation_runs_on(store, client, deletion):
    name = deletion(60.0)
    event = the_event_of(trigger(name, deadline=time.time() + 0.3))
    assert isinstance(event, DeadlinePassed)
    assert (event.name, event.details) == (name, {"submitted_at": 1.0})
    assert client.get_operation(name).verdict == "running"


def test_a_server_that_is_away_ends_with_the_deadline(set_connection):
    store = "projects/p/locations/l/datasets/d/dicomStores/s"
    set_connection(host="http://127.0.0.1:9", password="x", extra={"dicom_store": store, "auth": "bearer"})
    assert isinstance(the_event_of(trigger(deadline=time.time() + 0.3)), DeadlinePassed)


def test_a_trigger_that_is_stopped_cancels_nothing(store, client, deletion):
    """As when a triggerer is restarted: Airflow cancels the coroutine, and calls cleanup."""
    name = deletion(60.0)

    async def stop() -> None:
        one = trigger(name)
        task = asyncio.create_task(anext(one.run()))
        await asyncio.to_thread(wait_until, lambda: any(each["method"] == "GET" for each in store.requests()))
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await one.cleanup()

    asyncio.run(stop())
    assert not client.get_operation(name).cancel_requested


def test_an_operation_that_ended_meanwhile_needs_no_cancelling(store, deletion):
    from airflow_dicomweb.hooks import DicomWebHook

    settings = DicomWebHook().settings()
    cancel_operation(settings, deletion())
    cancel_operation(settings, f"{store.dicom_store.partition('/dicomStores')[0]}/operations/999")


def test_without_a_task_there_is_nothing_to_be_killed(store, client, deletion):
    name = deletion(60.0)
    asyncio.run(trigger(name).on_kill())
    assert not client.get_operation(name).cancel_requested


@pytest.mark.parametrize(
    ("waiting", "cancel_on_kill", "cancelled"),
    [
        ("finished", True, True),
        ("gone", True, True),
        ("running", True, False),
        ("finished", False, False),
    ],
)
def test_a_killed_trigger_cancels_only_for_a_task_that_ended(  # noqa: PLR0917
    store, client, deletion, run_dag, waiting, cancel_on_kill, cancelled
):
    """States are asked of Airflow itself: of a task that succeeded, of one that runs, and of one that there is not."""
    name = deletion(60.0)
    with DAG(f"killed_{waiting}_{cancel_on_kill}", schedule=None) as dag:

        @task
        def finished() -> None:
            pass

        @task
        def running(ti: Any) -> None:
            one = trigger(name, cancel_on_kill=cancel_on_kill)
            one.task_instance = SimpleNamespace(dag_id=ti.dag_id, run_id=ti.run_id, task_id=waiting, map_index=-1)
            asyncio.run(one.on_kill())

        finished() >> running()
    assert run_dag(dag).state == "success"
    assert client.get_operation(name).cancel_requested is cancelled
    assert any(":cancel" in each["path"] for each in store.requests()) is cancelled


def test_the_cancelling_goes_on_when_airflow_cancels_it_again(store, client, deletion, run_dag):
    """Airflow 3.3 cancels the coroutine of on_kill about once a second until it is over."""
    name = deletion(60.0)
    with DAG("killed_again", schedule=None) as dag:

        @task
        def finished() -> None:
            pass

        @task
        def running(ti: Any) -> None:
            one = trigger(name)
            one.task_instance = SimpleNamespace(dag_id=ti.dag_id, run_id=ti.run_id, task_id="finished", map_index=-1)

            async def kill() -> None:
                killing = asyncio.create_task(one.on_kill())
                await asyncio.sleep(0)
                killing.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await killing
                await asyncio.to_thread(wait_until, lambda: client.get_operation(name).cancel_requested)

            asyncio.run(kill())

        finished() >> running()
    assert run_dag(dag).state == "success"
    assert client.get_operation(name).cancel_requested


def test_a_trigger_of_a_connection_to_another_server_says_so(store, set_connection):
    set_connection("pacs", host=store.dicom_web_url)
    event = the_event_of(trigger(dicomweb_conn_id="pacs"))
    assert isinstance(event, LookFailed)
    assert event.error == ConfigurationError.__name__
    assert "DICOM store" in event.message
