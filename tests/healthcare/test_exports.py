"""What an export left in a bucket, read from the names of the objects."""

from __future__ import annotations

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.healthcare.exports import exported_instances

LONG = "1." + "2" * 62


def test_exported_instances_are_read_from_the_names_of_their_objects() -> None:
    names = ["weekly/run/1.2/1.2.3/1.2.3.4.dcm", f"weekly/run/1.2/1.2.3/{LONG}.dcm"]
    found, others = exported_instances(names, "weekly/run/")
    assert found == {InstancePath("1.2", "1.2.3", "1.2.3.4"), InstancePath("1.2", "1.2.3", LONG)}
    assert others == 0


def test_an_export_to_the_top_of_a_bucket_has_no_prefix() -> None:
    assert exported_instances(["1/2/3.dcm"], "") == ({InstancePath("1", "2", "3")}, 0)


def test_whatever_is_named_in_another_way_is_counted_and_not_taken_for_an_instance() -> None:
    names = ["p/1/2/3.png", "p/1/2/3", "p/1/2/3/4.dcm", "p/1/2.dcm", "p/1/a/3.dcm", "p/1/../3.dcm", "p/filter.txt"]
    assert exported_instances(names, "p/") == (frozenset(), len(names))
