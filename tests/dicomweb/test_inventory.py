"""What a store holds, compared with a copy of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.inventory import missing_and_unexpected
from airflow_dicomweb.dicomweb.resources import InstancePath

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
