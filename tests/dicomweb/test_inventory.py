"""What a store holds, compared with a copy of it, and what somebody asks for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.inventory import missing_and_unexpected, requested_studies
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.errors import ConfigurationError

INSTANCES = [InstancePath("1", "1.1", f"1.1.{number}") for number in range(1, 7)]
some_instances = st.sets(st.sampled_from(INSTANCES))


@given(some_instances)
def test_a_copy_of_a_store_that_stood_still_differs_by_nothing_if_and_only_if_it_is_equal(
    copy: set[InstancePath],
) -> None:
    original = set(INSTANCES[:3])
    missing, unexpected = missing_and_unexpected(copy, before=original, after=original)
    assert missing == sorted(original - copy)
    assert unexpected == sorted(copy - original)


@given(some_instances, some_instances, some_instances)
def test_what_came_or_went_while_the_copy_was_made_may_be_in_it_or_not(
    before: set[InstancePath], after: set[InstancePath], of_the_moving: set[InstancePath]
) -> None:
    copy = (before & after) | (of_the_moving & (before ^ after))
    assert missing_and_unexpected(copy, before=before, after=after) == ([], [])


def test_requested_studies_are_read_once_each_in_their_order_with_the_number_that_anybody_expects() -> None:
    lists: list[list[Any]] = [["1.3", {"study": "1.2", "instances": 4}], [{"study": "1.3"}, "1.2"], []]
    assert list(requested_studies(*lists).items()) == [("1.3", None), ("1.2", 4)]
    assert requested_studies(["1.2"], [{"study": "1.2", "instances": 4}]) == {"1.2": 4}
    assert requested_studies() == requested_studies([], []) == {}


@pytest.mark.parametrize(
    ("entries", "problem"),
    [
        ("1", "must be a list"),  # its characters would be UIDs
        (None, "must be a list"),
        ({"study": "1.2"}, "must be a list"),
        (["1..2"], "not a DICOM UID"),
        ([".."], "not a DICOM UID"),
        ([None], "not a DICOM UID"),
        ([{"instances": 4}], "not a DICOM UID"),
        ([{"study": "1.2", "instances": 0}], "1 or more"),
        ([{"study": "1.2", "instances": "4"}], "1 or more"),
        ([{"study": "1.2", "instances": True}], "1 or more"),
        ([{"study": "1.2", "instance": 4}], "not 'instance'"),
        ([{"study": "1.2", "instances": 4}, {"study": "1.2", "instances": 5}], "different numbers"),
    ],
)
def test_a_request_that_cannot_be_meant_is_an_error(entries: object, problem: str) -> None:
    with pytest.raises(ConfigurationError, match=problem):
        requested_studies(entries)
