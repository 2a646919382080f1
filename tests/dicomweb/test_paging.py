"""The pages of a search are one stream: complete, without repeats, and one page at a time, whatever a server makes of paging."""

from __future__ import annotations

import logging
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.paging import all_pages
from airflow_dicomweb.dicomweb.qido import Page
from airflow_dicomweb.errors import ProtocolError


def result(number: int) -> dict[str, Any]:
    return {"00080018": {"vr": "UI", "Value": [f"1.{number}"]}}


def numbers(found: Iterator[Any]) -> list[int]:
    return [int(each["00080018"]["Value"][0][2:]) for each in found]


class Server:
    """A server with results 0, 1, 2 ..., and a way of its own to give pages of them."""

    def __init__(self, pages: Callable[[int, int], tuple[range, bool]]) -> None:
        self.pages, self.asked = pages, list[tuple[int, int]]()

    def __call__(self, limit: int, offset: int) -> Page:
        assert len(self.asked) < 400, "this would go on for ever"
        self.asked.append((limit, offset))
        found, more = self.pages(limit, offset)
        return [result(number) for number in found], more


def capped(total: int, most: int, *, warns: bool = False, offset: bool = True) -> Server:
    """A server that never gives more than so many."""

    def pages(limit: int, start: int) -> tuple[range, bool]:
        start = start if offset else 0
        end = min(start + min(limit, most), total)
        return range(start, end), warns and end < total

    return Server(pages)


@pytest.mark.parametrize("most", [50, 100, 200, 500])
@pytest.mark.parametrize("total", [1, 99, 100, 499, 1000, 1234])
def test_a_silent_limit_of_the_server_loses_nothing(total: int, most: int) -> None:
    server = capped(total, most)
    assert numbers(all_pages(server, limit=None)) == list(range(total))
    assert len(server.asked) <= total // most + 2


def test_a_short_page_that_is_no_round_number_is_the_end() -> None:
    server = capped(1234, 10**6)
    assert len(numbers(all_pages(server, limit=None))) == 1234
    assert server.asked == [(1000, 0), (1000, 1000)]


def test_a_short_page_with_a_warning_is_not_the_end() -> None:
    server = capped(25, 7, warns=True)
    assert numbers(all_pages(server, limit=None, page_size=20)) == list(range(25))


@given(
    total=st.integers(0, 60),
    page_size=st.integers(2, 20),
    overlap=st.integers(1, 3),
    limit=st.none() | st.integers(1, 70),
)
def test_what_two_pages_share_is_given_once(total: int, page_size: int, overlap: int, limit: int | None) -> None:
    overlap = min(overlap, page_size - 1)

    def pages(limit: int, offset: int) -> tuple[range, bool]:
        # As if something had been stored before each page but the first.
        start = max(0, offset - overlap * (offset // page_size))
        return range(start, min(start + limit, total)), False

    found = numbers(all_pages(Server(pages), limit=limit, page_size=page_size))
    assert found == sorted(set(found))
    assert found == list(range(len(found)))
    if limit is not None:
        assert len(found) <= limit


def test_something_stored_between_two_pages_repeats_nothing_and_loses_nothing() -> None:
    shift = [0]

    def pages(limit: int, offset: int) -> tuple[range, bool]:
        start = offset - shift[0]
        shift[0] += 1
        return range(start, min(start + limit, 95)), False

    assert numbers(all_pages(Server(pages), limit=None, page_size=10)) == list(range(95))


@given(total=st.integers(0, 60), page_size=st.integers(1, 20), limit=st.none() | st.integers(0, 70))
def test_a_server_that_ignores_the_offset_is_asked_for_larger_pages(
    total: int, page_size: int, limit: int | None
) -> None:
    server = Server(lambda wanted, _: (range(min(wanted, total)), False))
    assert numbers(all_pages(server, limit=limit, page_size=page_size)) == list(
        range(total if limit is None else min(limit, total))
    )


def test_a_server_that_repeats_its_last_page_gives_it_once() -> None:
    server = Server(
        lambda limit, offset: (range(min(offset, 20), min(offset, 20) + limit) if limit < 30 else range(30), False)
    )
    assert numbers(all_pages(server, limit=None, page_size=10)) == list(range(30))


def test_a_server_that_ignores_the_offset_and_shuffles_its_pages_gives_nothing_twice() -> None:
    turn = [0]

    def pages(limit: int, _: int) -> tuple[range, bool]:
        turn[0] += 1
        found = range(min(limit, 30))
        return (found if turn[0] % 2 else found[::-1]), False

    assert sorted(numbers(all_pages(Server(pages), limit=None, page_size=10))) == list(range(30))


@given(
    total=st.integers(0, 60), page_size=st.integers(1, 20), limit=st.none() | st.integers(0, 70), offset=st.booleans()
)
def test_a_server_that_ignores_the_limit_gives_everything_once(
    total: int, page_size: int, limit: int | None, *, offset: bool
) -> None:
    server = Server(lambda _, start: (range(start if offset else 0, total), False))
    assert numbers(all_pages(server, limit=limit, page_size=page_size)) == list(
        range(total if limit is None else min(limit, total))
    )


def test_a_server_that_has_more_and_cannot_be_made_to_give_it_is_an_error_and_not_a_cut() -> None:
    server = capped(25, 10, warns=True, offset=False)
    with pytest.raises(ProtocolError, match="ignores 'offset'"):
        list(all_pages(server, limit=None, page_size=10))


def test_a_server_that_may_have_more_is_said(caplog: pytest.LogCaptureFixture) -> None:
    server = capped(25, 10, offset=False)
    with caplog.at_level(logging.WARNING):
        assert numbers(all_pages(server, limit=None, page_size=10)) == list(range(10))
    assert "not known whether it has more" in caplog.text


def test_the_first_of_fifty_thousand_results_comes_before_the_second_page_and_none_are_kept() -> None:
    server = capped(50_000, 10**6)
    stream = all_pages(server, limit=None)
    assert next(stream)
    assert server.asked == [(1000, 0)]
    tracemalloc.start()
    try:
        count = 1 + sum(1 for _ in stream)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert count == 50_000
    assert len(server.asked) == 51
    # Two pages of a thousand small results; fifty of them would be thirty times that.
    assert peak < 5_000_000


def test_results_without_uids_are_told_apart_by_all_that_they_say() -> None:
    pages = [[{"00100020": {"vr": "LO", "Value": [str(number)]}}] for number in range(3)]
    found = list(all_pages(lambda _, offset: (pages[offset] if offset < 3 else [], False), limit=None, page_size=1))
    assert found == [page[0] for page in pages]
