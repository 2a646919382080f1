"""A search says what it means, or nothing is sent; and its pages are one stream, whatever the server makes of paging."""

from __future__ import annotations

from datetime import UTC, date, datetime, time
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.paging import all_pages
from airflow_dicomweb.dicomweb.qido import Page, check_count, search_path, search_query, split_lists
from airflow_dicomweb.errors import ConfigurationError


def test_paths_of_searches_are_built_from_checked_uids() -> None:
    assert search_path("studies") == "studies"
    assert search_path("instances") == "instances"
    assert search_path("series", "1.2") == "studies/1.2/series"
    assert search_path("instances", "1.2", "1.2.3") == "studies/1.2/series/1.2.3/instances"
    for study, series in [("..", None), ("", None), ("1.2", "x"), (None, "1.2")]:
        with pytest.raises(ConfigurationError):
            search_path("instances", study, series)


def test_filters_are_sent_by_the_names_they_were_given() -> None:
    query = search_query(
        {"PatientName": "Sally Zhang", "00080020": "20260101-", "(0020,000D)": "1.2", "Rows": 512},
        ["StudyDescription", "00080060"],
        fuzzy=True,
    )
    assert query == (
        ("PatientName", "Sally Zhang"),
        ("00080020", "20260101-"),
        ("0020000D", "1.2"),
        ("Rows", "512"),
        ("includefield", "StudyDescription,00080060"),
        ("fuzzymatching", "true"),
    )
    assert search_query() == ()
    assert search_query(include_fields="all") == (("includefield", "all"),)
    assert search_query({"RequestAttributesSequence.ScheduledProcedureStepID": "1"})[0][1] == "1"


@pytest.mark.parametrize("text", ["20260131", "20260101-20260131", "20260101-", "-20260131", "1997.04.24"])
def test_dates_and_ranges_of_dates_are_accepted(text: str) -> None:
    assert search_query({"StudyDate": text}) == (("StudyDate", text),)


def test_a_date_is_written_as_dicom_has_it() -> None:
    assert search_query({"StudyDate": date(2026, 1, 31)}) == (("StudyDate", "20260131"),)


@pytest.mark.parametrize("text", ["2026-01-31", "31.01.2026", "yesterday", "202601", "20260101/20260131", "-"])
def test_what_is_no_date_is_refused_without_repeating_it(text: str) -> None:
    with pytest.raises(ConfigurationError, match="YYYYMMDD-YYYYMMDD is accepted") as refusal:
        search_query({"StudyDate": text})
    assert text == "-" or text not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("StudyDate", (date(2026, 1, 1), date(2026, 1, 31)), "20260101-20260131"),
        ("StudyDate", (date(2026, 1, 1), None), "20260101-"),
        ("StudyDate", [None, date(2026, 1, 31)], "-20260131"),
        ("00080020", ("20260101", date(2026, 1, 1)), "20260101-20260101"),
        ("StudyTime", time(9, 30), "093000.000000"),
        ("StudyTime", (time(9), time(12)), "090000.000000-120000.000000"),
        ("StudyTime", "0900-1200", "0900-1200"),
        ("AcquisitionDateTime", datetime(2026, 1, 1, 9, tzinfo=UTC), "20260101090000.000000+0000"),
        ("AcquisitionDateTime", (datetime(2026, 1, 1), None), "20260101000000.000000-"),  # noqa: DTZ001
        ("AcquisitionDateTime", "2026-2027", "2026-2027"),
    ],
)
def test_moments_and_ranges_of_python_are_written_as_dicom_has_them(name: str, value: Any, text: str) -> None:
    assert search_query({name: value}) == ((name, text),)


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("StudyDate", (None, None), "neither start nor end"),
        ("StudyDate", (date(2026, 2, 1), date(2026, 1, 1)), "ends before it starts"),
        ("StudyDate", "20260201-20260131", "ends before it starts"),
        ("StudyDate", "2026.02.01-20260131", "ends before it starts"),
        ("StudyDate", ("20260101-20260102", None), "made of ranges"),
        ("StudyDate", (date(2026, 2, 1),), "a pair of dates"),
        ("StudyDate", (date(2026, 2, 1), 7), "no date"),
        ("StudyDate", ("", date(2026, 2, 1)), "empty"),
        ("StudyDate", datetime(2026, 1, 1, tzinfo=UTC), "of type datetime: a date"),
        ("StudyDate", (datetime(2026, 1, 1, tzinfo=UTC), None), "of type datetime: a date"),
        ("StudyTime", date(2026, 1, 1), "of type date: text, a time"),
        ("AcquisitionDateTime", date(2026, 1, 1), "of type date: text, a datetime"),
        ("StudyInstanceUID", [], "of type list: a UID or a list"),
        ("StudyInstanceUID", ["1.2", None], "of type NoneType"),
        ("StudyInstanceUID", ["1.2", ".."], "not a DICOM UID"),
        ("PatientID", date(2026, 1, 1), "of type date: one value"),
    ],
)
def test_a_moment_or_range_that_cannot_be_meant_is_refused(name: str, value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        search_query({name: value})


def test_several_uids_are_a_list() -> None:
    for uids in (["1.2", "1.3"], ("1.2", "1.3"), "1.2,1.3", "1.2\\1.3"):
        assert search_query({"StudyInstanceUID": uids}) == (("StudyInstanceUID", "1.2,1.3"),)


def test_long_lists_are_split_and_nothing_else_is() -> None:
    uids = [f"1.{number}" for number in range(5)]
    query = search_query({"StudyInstanceUID": [*uids, "1.0"], "PatientName": "a,b"}, ["PatientName", "PatientID"])
    split = split_lists(query, 2)
    assert [dict(each)["StudyInstanceUID"] for each in split] == ["1.0,1.1", "1.2,1.3", "1.4"]
    assert {dict(each)["PatientName"] for each in split} == {"a,b"}
    assert {dict(each)["includefield"] for each in split} == {"PatientName,PatientID"}
    assert split_lists(query, 5) == [
        tuple(each if each[0] != "StudyInstanceUID" else (each[0], ",".join(uids)) for each in query)
    ]
    assert len(split_lists(search_query({"StudyInstanceUID": uids, "SOPInstanceUID": uids}), 1)) == 25
    assert split_lists((), 1) == [()]


def test_lists_that_make_too_many_searches_are_refused() -> None:
    uids = [f"1.{number}" for number in range(200)]
    with pytest.raises(ConfigurationError, match="40000 searches: at most 10000"):
        split_lists(search_query({"StudyInstanceUID": uids, "SOPInstanceUID": uids}), 1)


@pytest.mark.parametrize(
    "value",
    [["CT", "MR"], ("CT",), None, "", "  ", True, 1.5, {"a": 1}, "a\nb", b"CT", datetime(2026, 1, 1, tzinfo=UTC)],
)
def test_a_value_that_cannot_be_meant_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"Modality.*one value is accepted"):
        search_query({"Modality": value})


@pytest.mark.parametrize(
    ("value", "words"),
    [(-1, "-1 was given"), ("10", "type str"), (None, "type NoneType"), (True, "type bool"), (1.5, "type float")],
)
def test_a_count_that_is_none_is_said(value: Any, words: str) -> None:
    with pytest.raises(ConfigurationError, match=f"limit must be a whole number, 0 or more; .*{words}"):
        check_count(value, "limit")


@pytest.mark.parametrize("uid", ["..", "1.2.x", "1.2,", "1" * 65])
def test_a_uid_in_a_filter_is_checked(uid: str) -> None:
    for name in ("StudyInstanceUID", "0020000D"):
        with pytest.raises(ConfigurationError, match="not a DICOM UID"):
            search_query({name: uid})


@pytest.mark.parametrize("name", ["Studydate", "0008002", "limit", "fuzzymatching", "", 8, "PatientName.Nonsense"])
def test_an_attribute_that_does_not_exist_is_refused(name: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"not an attribute|keyword or a tag"):
        search_query({name: "x"})
    with pytest.raises(ConfigurationError, match=r"not an attribute|keyword or a tag"):
        search_query(None, [name])


class Server:
    """Results in memory, given as some server would."""

    def __init__(
        self, total: int, *, cap: int | None = None, warns: bool = False, offset: bool = True, limit: bool = True
    ):
        self.results = [{"00080018": {"vr": "UI", "Value": [f"1.{number}"]}} for number in range(total)]
        self.cap, self.warns, self.honours_offset, self.honours_limit = cap, warns, offset, limit
        self.asked: list[tuple[int, int]] = []

    def __call__(self, limit: int, offset: int) -> Page:
        assert len(self.asked) < 200, "this would go on for ever"
        self.asked.append((limit, offset))
        start = offset if self.honours_offset else 0
        size = min(limit, self.cap or limit) if self.honours_limit else len(self.results)
        page = self.results[start : start + size]
        return [dict(each) for each in page], self.warns and start + len(page) < len(self.results)


@given(
    total=st.integers(0, 50),
    page_size=st.integers(1, 20),
    limit=st.none() | st.integers(0, 60),
    offset=st.integers(0, 20),
)
def test_pages_are_one_stream(total: int, page_size: int, limit: int | None, offset: int) -> None:
    server = Server(total)
    found = list(all_pages(server, limit=limit, offset=offset, page_size=page_size))
    assert found == server.results[offset:][: limit if limit is not None else total]
    assert all(asked <= page_size for asked, _ in server.asked)


@given(
    total=st.integers(0, 50),
    page_size=st.integers(1, 20),
    limit=st.none() | st.integers(1, 60),
    honours_limit=st.booleans(),
)
def test_a_server_that_ignores_the_offset_gives_everything_once(
    total: int, page_size: int, limit: int | None, *, honours_limit: bool
) -> None:
    server = Server(total, offset=False, limit=honours_limit)
    found = list(all_pages(server, limit=limit, page_size=page_size))
    assert found == server.results[: limit if limit is not None else total]


def test_a_server_that_gives_fewer_than_asked_for_and_says_so_is_asked_on() -> None:
    server = Server(25, cap=10, warns=True)
    assert list(all_pages(server, limit=None, page_size=20)) == server.results
    assert server.asked == [(20, 0), (20, 10), (20, 20)]


def test_nothing_is_asked_before_it_is_needed() -> None:
    server = Server(30)
    stream = all_pages(server, limit=None, page_size=10)
    assert server.asked == []
    for _ in range(10):
        next(stream)
    assert server.asked == [(10, 0)]


def test_a_limit_of_none_is_everything_and_of_zero_nothing() -> None:
    server = Server(3)
    assert list(all_pages(server, limit=0)) == []
    assert server.asked == []
    assert len(list(all_pages(server, limit=None))) == 3


@pytest.mark.parametrize("filters", [["PatientID"], [], "PatientID=Doe", "", {"PatientID"}, 1])
def test_filters_that_are_no_mapping_are_refused_without_being_repeated(filters: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"mapping .* not of type {type(filters).__name__}") as refusal:
        search_query(filters)
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize("fields", [None, 1])
def test_fields_that_are_no_list_are_refused(fields: Any) -> None:
    with pytest.raises(ConfigurationError, match="include_fields"):
        search_query(None, fields)
