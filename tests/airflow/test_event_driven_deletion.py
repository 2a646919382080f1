"""The example DAG ``event_driven_deletion`` in ``dag.test()``: what is deleted, what is not, and what says so."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.uids import is_uid
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare import HealthcareClient
from tests.airflow.example_dags import Run, load, meanwhile, run
from tests.airflow.files import instance, write_study

pytestmark = pytest.mark.usefixtures("airflow_database")

FIRST, SECOND, THIRD, NOWHERE = "1.2.826.1", "1.2.826.2", "1.2.826.3", "1.2.826.4"
INSTANCES = 4


@pytest.fixture
def archive(store: Emulator, client: HealthcareClient, tmp_path: Path) -> HealthcareClient:
    """A store with three studies of four instances each."""
    for study in (FIRST, SECOND, THIRD):
        client.store(write_study(tmp_path / study, study))
    store.reset()
    return client


def delete(*studies: Any, dag: Any = None, **conf: Any) -> Run:
    given = {"studies": list(studies), "look_interval": 0.1}
    return run(dag or load("event_driven_deletion"), {**given, **conf})


def left(client: HealthcareClient) -> list[str]:
    return sorted(each["StudyInstanceUID"] for each in client.search_studies())


def delete_requests(store: Emulator) -> list[str]:
    return [request["path"] for request in store.requests() if request["method"] == "DELETE"]


def test_the_named_studies_are_deleted_and_no_others(archive: HealthcareClient) -> None:
    ended = delete(FIRST, {"study": SECOND, "instances": INSTANCES})
    assert ended.state == "success"
    assert left(archive) == [THIRD]
    assert ended.results["prove_gone"] == {"deleted": 2, "not_there": [], "still_there": []}
    assert [ended.results[f"delete_study[{index}]"]["instances"] for index in (0, 1)] == [INSTANCES, INSTANCES]
    assert ended.tasks["approve"] == "skipped"


def test_a_study_counts_as_gone_when_two_searches_find_nothing(archive: HealthcareClient, store: Emulator) -> None:
    assert delete(FIRST).state == "success"
    paths = [request["path"] for request in store.requests()]
    deleted = next(number for number, path in enumerate(paths) if path in delete_requests(store))
    searches = [path for path in paths[deleted:] if path.endswith(f"/studies/{FIRST}/instances")]
    assert len(searches) == 2


def test_a_wrong_number_of_instances_deletes_nothing_of_that_study(archive: HealthcareClient, store: Emulator) -> None:
    ended = delete({"study": FIRST, "instances": INSTANCES + 1}, SECOND)
    assert ended.state == "failed"
    assert left(archive) == [FIRST, THIRD]
    assert ended.results["prove_gone"] == {"deleted": 1, "not_there": [], "still_there": [FIRST]}
    assert [path for path in delete_requests(store) if FIRST in path] == []


def test_a_study_that_changes_after_it_was_counted_is_not_deleted(
    archive: HealthcareClient, store: Emulator, tmp_path: Path
) -> None:
    def arrive() -> None:
        instance(FIRST, 1, 99).save_as(tmp_path / "late", enforce_file_format=True)
        archive.store(tmp_path / "late")

    dag = load("event_driven_deletion")
    meanwhile(dag, "take_stock", arrive)
    ended = delete(FIRST, dag=dag)
    assert ended.state == "failed"
    assert left(archive) == [FIRST, SECOND, THIRD]
    assert delete_requests(store) == []


def test_a_study_that_is_not_there_fails_the_run_after_the_others_were_deleted(archive: HealthcareClient) -> None:
    ended = delete(NOWHERE, FIRST)
    assert ended.state == "failed"
    assert left(archive) == [SECOND, THIRD]
    assert ended.results["prove_gone"] == {"deleted": 1, "not_there": [NOWHERE], "still_there": []}


def test_only_studies_that_are_not_there_fail_the_run_and_send_no_deletion(
    archive: HealthcareClient, store: Emulator
) -> None:
    ended = delete(NOWHERE)
    assert ended.state == "failed"
    assert ended.results["prove_gone"]["not_there"] == [NOWHERE]
    assert delete_requests(store) == []


def test_the_studies_of_all_events_are_deleted_whatever_the_param_says(archive: HealthcareClient) -> None:
    extras = [
        {"studies": [{"study": FIRST, "instances": INSTANCES}, SECOND]},
        {"from_trigger": True, "payload": {"studies": [FIRST]}},
        {"from_trigger": True, "payload": [THIRD]},
        {},
    ]
    assert read_request(extras, studies=[NOWHERE]) == [
        {"study": FIRST, "instances": INSTANCES},
        {"study": SECOND, "instances": None},
        {"study": THIRD, "instances": None},
    ]


def test_an_event_that_names_nothing_leaves_it_to_the_param() -> None:
    assert read_request([{}], studies=[FIRST]) == [{"study": FIRST, "instances": None}]
    with pytest.raises(ConfigurationError, match="neither an asset event nor the Param 'studies' names one"):
        read_request([{}, {"studies": []}], studies=[])


@pytest.mark.parametrize("extra", [{"studies": FIRST}, {"studies": [".."]}, {"payload": FIRST}])
def test_an_event_that_cannot_be_read_deletes_nothing_of_the_others(extra: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError):
        read_request([{"studies": [SECOND]}, extra], studies=[])


def read_request(extras: list[dict[str, Any]], studies: list[Any]) -> Any:
    """Call the task with events as Airflow gives them: dag.test() has none."""
    from airflow.sdk.execution_time.comms import AssetEventDagRunReferenceResult
    from airflow.sdk.execution_time.context import TriggeringAssetEventsAccessor

    dag = load("event_driven_deletion")
    asset = {"name": "dicom_studies_to_delete", "uri": "dicomweb://retention/studies-to-delete", "extra": {}}
    unknown = dict.fromkeys(("source_task_id", "source_dag_id", "source_run_id", "source_map_index"))
    events = [
        AssetEventDagRunReferenceResult(
            asset=asset, extra=extra, timestamp="2026-01-01T00:00:00Z", source_aliases=[], **unknown
        )
        for extra in extras
    ]
    return dag.get_task("read_request").python_callable(
        params={"studies": studies, "max_studies": 100},
        triggering_asset_events=TriggeringAssetEventsAccessor.build(events),
    )


def test_a_run_with_neither_event_nor_param_fails_before_anything_is_asked(
    archive: HealthcareClient, store: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    ended = delete()
    assert ended.state == "failed"
    assert ended.tasks["read_request"] == "failed"
    assert ended.tasks["prove_gone"] == "upstream_failed"
    assert store.requests() == []


@pytest.mark.parametrize(
    "studies",
    [
        [{"study": FIRST, "instances": 4}, {"study": FIRST, "instances": 5}],
        [FIRST, SECOND, THIRD],
    ],
    ids=["two numbers for one study", "more than allowed"],
)
def test_a_request_that_cannot_be_meant_is_refused_whole(
    archive: HealthcareClient, store: Emulator, studies: list[Any]
) -> None:
    ended = delete(*studies, max_studies=2)
    assert ended.tasks["read_request"] == "failed"
    assert store.requests() == []


@pytest.mark.parametrize("study", ["..", "1.2.x", "", "1" * 65])
def test_a_bad_uid_is_refused_before_the_run_starts(archive: HealthcareClient, study: str) -> None:
    assert not is_uid(study)
    with pytest.raises(Exception, match="studies"):
        delete(study)
    assert left(archive) == [FIRST, SECOND, THIRD]


def test_studies_named_twice_are_deleted_once(archive: HealthcareClient, store: Emulator) -> None:
    ended = delete(FIRST, {"study": FIRST, "instances": INSTANCES}, FIRST)
    assert ended.state == "success"
    assert len(delete_requests(store)) == 1


def test_a_deletion_that_takes_time_is_waited_for_by_the_trigger(
    archive: HealthcareClient, store: Emulator, caplog: pytest.LogCaptureFixture
) -> None:
    store.set_operation_seconds(4.0)
    dag = load("event_driven_deletion")
    mapped = dag.get_task("delete_study")
    assert mapped.partial_kwargs["deferrable"]
    mapped.partial_kwargs.update(inline_wait=0.0, poll_interval=0.2)
    with caplog.at_level("INFO", "airflow.sdk.definitions.dag"):
        ended = delete(FIRST, dag=dag)
    assert ended.state == "success"
    assert "[DAG TEST] running trigger in line" in caplog.messages
    assert left(archive) == [SECOND, THIRD]


@pytest.mark.parametrize(("choice", "kept"), [("Approve", [SECOND, THIRD]), ("Reject", [FIRST, SECOND, THIRD])])
def test_a_person_decides_when_the_param_asks_for_it(
    archive: HealthcareClient, answer: Callable[[str], Callable[[], str]], choice: str, kept: list[str]
) -> None:
    asked = answer(choice)
    ended = delete(FIRST, require_approval=True)
    assert asked() == "Delete 1 studies?"
    assert ended.tasks["approve"] == "success"
    assert ended.state == "success"
    assert left(archive) == kept
    assert ended.tasks["prove_gone"] == ("success" if choice == "Approve" else "skipped")


@pytest.fixture
def answer(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], Callable[[], str]]]:
    """Answer the next question of a DAG as a person would, through Airflow's REST API; gives its subject."""
    monkeypatch.setenv("AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS", "True")
    monkeypatch.setenv("AIRFLOW__API_AUTH__JWT_SECRET", "0123456789abcdef" * 4)
    over = threading.Event()
    threads: list[threading.Thread] = []

    def start(choice: str) -> Callable[[], str]:
        subjects: list[str] = []
        threads.append(threading.Thread(target=lambda: subjects.append(_answer(choice, over))))
        threads[0].start()

        def subject() -> str:
            threads[0].join(30.0)
            return subjects[0]

        return subject

    yield start
    over.set()
    for thread in threads:
        thread.join()


def _answer(choice: str, over: threading.Event) -> str:
    from airflow.api_fastapi.app import create_app
    from fastapi.testclient import TestClient

    with TestClient(create_app(), base_url="http://127.0.0.1") as api:
        token = api.get("/auth/token").json()["access_token"]
        headers = {"Authorization": f"Bearer {token}"}
        runs = "/api/v2/dags/event_driven_deletion/dagRuns"
        while not over.wait(0.2):
            answer = api.get(f"{runs}/~/hitlDetails", headers=headers, params={"response_received": False})
            for question in answer.raise_for_status().json()["hitl_details"]:
                run_id = question["task_instance"]["dag_run_id"]
                path = f"{runs}/{run_id}/taskInstances/approve/-1/hitlDetails"
                body = {"chosen_options": [choice], "params_input": {}}
                if question["task_instance"]["state"] == "awaiting_input":
                    api.patch(path, headers=headers, json=body).raise_for_status()
                    return str(question["subject"])
    return "nobody was asked"
