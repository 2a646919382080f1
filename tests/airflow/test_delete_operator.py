"""Deleting a study, a series or an instance: counted and checked right before, and nothing deleted when in doubt."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.errors import ConfigurationError, DicomWebError, TransportError
from airflow_dicomweb.operators import (
    DicomWebDeleteInstanceOperator,
    DicomWebDeleteSeriesOperator,
    DicomWebDeleteStudyOperator,
)
from tests.airflow.files import write_study
from tests.airflow.task_state import StateStore, context, defer, see_through
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


class DeleteSeries(DicomWebDeleteSeriesOperator):
    """Looks sooner than it would in a real Airflow."""

    shortest_first_wait = 0.0


def delete_series(study: str, **arguments: Any) -> DeleteSeries:
    return DeleteSeries(
        **{"task_id": "delete", "study": study, "series": f"{study}.1", "poll_interval": 0.05, **arguments}
    )


def delete_instance(study: str, **arguments: Any) -> DicomWebDeleteInstanceOperator:
    uids = {"study": study, "series": f"{study}.1", "instance": f"{study}.1.2"}
    return DicomWebDeleteInstanceOperator(**{"task_id": "delete", **uids, **arguments})


@pytest.fixture
def paths(client):
    """The instances of a study that there are."""

    def find(study: str) -> list[str]:
        return sorted(path.instance.removeprefix(f"{study}.") for path in find_instances(client, [study]))

    return find


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("expected", [None, 2, {"instances": 2}, "2"])
def test_a_series_is_deleted_by_an_operation_that_is_waited_for(store, study, paths, deferrable, expected):
    store.set_operation_seconds(0.3)
    state = StateStore()
    one = delete_series(study, deferrable=deferrable, inline_wait=0.0, expected=expected)
    result = see_through(one, context(state))
    assert (result["state"], result["success"], result["instances"]) == ("success", 2, 2)
    assert "/operations/" in result["operation"]
    assert paths(study) == ["2.1", "2.2"]
    assert state.phases == ["submitting", "submitted", "consumed"]


def test_the_deletion_of_a_series_defers_and_a_retry_takes_it_up(store, study, paths):
    store.set_operation_seconds(0.5)
    state = StateStore()
    defer(delete_series(study, deferrable=True, inline_wait=0.0), context(state))  # and the worker dies
    result = see_through(delete_series(study, deferrable=True, inline_wait=0.0), context(state))
    assert (result["state"], result["instances"]) == ("success", 2)
    assert paths(study) == ["2.1", "2.2"]
    assert sum(each["method"] == "DELETE" for each in store.requests()) == 1


@pytest.mark.parametrize("deferrable", [True, False])
@pytest.mark.parametrize("expected", [None, 1, {"instances": 1}, "{'instances': 1}"])
def test_an_instance_is_gone_when_the_request_is_answered(study, paths, deferrable, expected):
    state = StateStore()
    result = delete_instance(study, deferrable=deferrable, inline_wait=0.0, expected=expected).execute(context(state))
    assert result["instances"] == 1
    assert (result["operation"], result["state"]) == (None, "success")
    assert paths(study) == ["1.1", "2.1", "2.2"]
    assert state.phases == ["submitting", "submitted", "consumed"]


@pytest.mark.parametrize(("make", "instances"), [(delete_series, 2), (delete_instance, 1)])
def test_a_dry_run_counts_a_series_or_an_instance_and_deletes_nothing(store, study, paths, make, instances):
    result = make(study, dry_run=True, expected=instances).execute(context(StateStore()))
    assert (result["state"], result["operation"], result["instances"]) == ("dry_run", None, instances)
    assert len(paths(study)) == 4
    assert methods(store) == {"GET"}


@pytest.mark.parametrize(
    ("make", "words"),
    [(delete_series, "series .* has 2 instances, 3 were expected"), (delete_instance, "has 1 instances, 3 were")],
)
def test_of_a_series_or_an_instance_that_is_not_as_expected_nothing_is_deleted(store, study, make, words):
    with pytest.raises(DicomWebError, match=words):
        make(study, expected=3).execute(context())
    assert methods(store) == {"GET"}


@pytest.mark.parametrize("ignore", [True, False])
@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize(
    ("make", "wrong"),
    [
        (delete_series, {"study": MISSING}),
        (delete_instance, {"study": MISSING}),
        (delete_instance, {"series": "{study}.2"}),
    ],
)
def test_wrong_parents_are_refused_even_if_what_is_missing_may_be(store, study, make, wrong, dry_run, ignore):  # noqa: PLR0917
    uids = {"series": f"{study}.1"} | {name: uid.format(study=study) for name, uid in wrong.items()}
    if make is delete_instance:
        uids["instance"] = f"{study}.1.2"
    with pytest.raises(DicomWebError, match="belongs to another parent: nothing was deleted"):
        make(uids.pop("study", study), dry_run=dry_run, ignore_if_missing=ignore, **uids).execute(context())
    assert methods(store) == {"GET"}


@pytest.mark.parametrize(("make", "name"), [(delete_series, "series"), (delete_instance, "instance")])
def test_a_series_or_an_instance_that_is_not_there_is_an_error_unless_that_may_be(store, make, name):
    with pytest.raises(DicomWebError, match=f"{name} {MISSING}.* is not there: nothing was deleted"):
        make(MISSING).execute(context())
    result = make(MISSING, ignore_if_missing=True).execute(context(StateStore()))
    assert (result["state"], result["operation"], result["instances"]) == ("missing", None, 0)
    assert methods(store) == {"GET"}


@pytest.mark.parametrize("make", [delete, delete_series, delete_instance])
@pytest.mark.parametrize("drop", ["after", "before"])
def test_a_deletion_whose_answer_was_lost_is_sent_again_only_by_the_next_try_and_only_if_nothing_came_of_it(
    store, study, left, make, drop
):
    store.faults({"method": "DELETE", "match": "/dicomWeb/studies", "drop": drop, "times": 1})
    state = StateStore()
    if (make, drop) != (delete_instance, "after"):  # which a search settles
        with pytest.raises(TransportError, match="not sent again"):
            make(study).execute(context(state))
    result = make(study).execute(context(state))
    assert (result["state"], result["instances"]) == (
        "success",
        {delete: 4, delete_series: 2, delete_instance: 1}[make],
    )
    assert left(study) == {delete: 0, delete_series: 2, delete_instance: 3}[make]
    assert sum(each["method"] == "DELETE" for each in store.requests()) == {"after": 1, "before": 2}[drop]


@pytest.mark.parametrize("deferrable", [True, False])
def test_an_operation_that_was_found_in_the_list_and_was_another_tasks_does_not_count(  # noqa: PLR0917
    store, client, study, left, tmp_path, deferrable
):
    """Of two deletions, the answer to one is lost before it arrives: the other one's operation is the only candidate."""
    (other,) = client.store(write_study(tmp_path / "other", f"{study}.9")).studies
    store.faults({"method": "DELETE", "match": f"/studies/{study}$", "drop": "before", "times": 1})
    state, operator = StateStore(), delete(study, expected=4, inline_wait=0.0, deferrable=deferrable)
    operator.shortest_first_wait = operator.look_interval = 0.05
    with pytest.raises(TransportError):
        operator.execute(context(state))
    taken = delete(other).execute(context(StateStore()))["operation"]
    assert (left(study), left(other)) == (4, 0)
    result = see_through(operator, context(state))
    assert (result["state"], result["instances"], left(study)) == ("success", 4, 0)
    assert result["operation"] != taken


def test_an_expectation_of_series_is_for_studies_alone(store, study):
    for make in (delete_series, delete_instance):
        with pytest.raises(
            ConfigurationError, match=r"expected must be a number of instances, or .* 'instances': whole"
        ):
            make(study, expected={"series": 1}).execute(context())
    assert store.requests() == []


@pytest.mark.parametrize("make", [delete, delete_series, delete_instance])
def test_another_server_that_deletes_is_named_and_one_that_does_not_says_its_own_way(set_connection, make):
    uids = {"0020000D": MISSING, "0020000E": f"{MISSING}.1", "00080018": f"{MISSING}.1.2"}
    found = json.dumps([{tag: {"vr": "UI", "Value": [uid]} for tag, uid in uids.items()}])
    with FaultyServer(
        [Fault(body=found.encode(), headers=(("Content-Type", "application/dicom+json"),)), Fault(204, body=b"")]
    ) as server:
        set_connection(host=server.url, extra={"server": "orthanc"})
        with pytest.raises(ConfigurationError, match="Orthanc answers 405 to it: use its REST API"):
            make(MISSING).execute(context())
        assert server.received == []
        set_connection(host=server.url, extra={"server": "standard-with-delete"})
        result = make(MISSING, deferrable=True).execute(context(StateStore()))
        assert [each.line.partition(" ")[0] for each in server.received] == ["GET", "DELETE"]
    assert (result["operation"], result["state"], result["instances"]) == (None, "success", 1)
