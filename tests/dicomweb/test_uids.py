"""A UID is digits and single dots, or it never becomes a path."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.uids import check_uid, has_leading_zero, is_uid
from airflow_dicomweb.errors import ConfigurationError


@pytest.mark.parametrize("uid", ["1", "0", "1.2.840.10008.1", "1" * 64, "1.02.3"])
def test_uids_that_servers_hold_are_accepted(uid):
    assert check_uid(uid) == uid


@pytest.mark.parametrize(
    "value",
    [
        "",
        " ",
        "..",
        ".",
        "1.",
        ".1",
        "1..2",
        "a",
        "1.2.a",
        "1" * 65,
        "1.2\n",
        " 1.2",
        "1/2",
        "1%2e",
        "\u0661.\u0662",
        None,
        12,
        b"1.2",
    ],
)
def test_everything_else_is_refused_with_what_would_be_accepted(value):
    assert not is_uid(value)
    with pytest.raises(ConfigurationError, match="digits in components joined by single dots") as refused:
        check_uid(value, "StudyInstanceUID")
    assert str(refused.value).startswith("StudyInstanceUID ")


def test_a_name_in_the_wrong_place_is_not_repeated():
    with pytest.raises(ConfigurationError) as refused:
        check_uid("Doe^John")
    assert "Doe" not in str(refused.value)


@given(st.text(alphabet="0123456789.", min_size=1, max_size=70))
def test_an_accepted_uid_is_one_path_segment_that_nothing_normalises(text):
    if is_uid(text):
        assert ".." not in text
        assert text.strip(".") == text
        assert len(text) <= 64


def test_leading_zeros_are_told():
    assert has_leading_zero("1.02")
    assert has_leading_zero("01.2")
    assert not has_leading_zero("1.0.2")
    assert not has_leading_zero("0.10")
