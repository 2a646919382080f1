"""RetryPolicy on a clock of its own."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError
from email.utils import formatdate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.retries import RetryPolicy, is_settled, parse_retry_after, settle
from airflow_dicomweb.errors import (
    ConfigurationError,
    DicomWebError,
    NotFoundError,
    ProtocolError,
    TransportError,
    UnavailableError,
)


class Clock:
    """Time that passes only when somebody sleeps, or an attempt takes long."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.sleeps: list[float] = []

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        self.now += seconds


def run(policy: RetryPolicy, clock: Clock, *outcomes: object, takes: float = 0.0, random: float = 1.0) -> object:
    """Run attempts with the outcomes given, one after another; errors are raised, the last one for ever."""
    left = list(outcomes)

    def attempt() -> object:
        clock.now += takes
        outcome = left.pop(0) if len(left) > 1 else left[0]
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return policy.run(attempt, sleep=clock.sleep, clock=clock, random=lambda: random)


def unavailable(retry_after: float | None = None, reason: str = "") -> UnavailableError:
    return UnavailableError(503, "GET", "http://host/studies", reason, retry_after=retry_after)


def test_a_first_success_costs_no_wait():
    clock = Clock()
    assert run(RetryPolicy(), clock, "done") == "done"
    assert clock.sleeps == []


def test_waits_double_up_to_the_longest():
    clock = Clock()
    policy = RetryPolicy(attempts=7, first_wait=1.0, longest_wait=5.0)
    assert run(policy, clock, *[TransportError("x") for _ in range(6)], "done") == "done"
    assert clock.sleeps == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]


@given(st.integers(2, 2000), st.floats(0, 1), st.none() | st.floats(0, 100))
def test_a_wait_is_drawn_between_nothing_and_the_bound_and_never_below_retry_after(
    attempt: int, drawn: float, asked: float | None
):
    policy = RetryPolicy(attempts=2000, first_wait=0.5, longest_wait=30.0)
    wait = policy.wait_before(attempt, asked, lambda: drawn)
    assert wait == max(drawn * min(30.0, 0.5 * 2.0 ** min(attempt - 2, 100)), asked or 0.0)


def test_a_server_that_asks_for_time_gets_it_even_beyond_the_longest_wait():
    clock = Clock()
    assert run(RetryPolicy(longest_wait=2.0), clock, unavailable(retry_after=45.0), "done", random=0.0) == "done"
    assert clock.sleeps == [45.0]


def test_the_last_error_says_how_often_and_how_long_and_keeps_its_class():
    clock = Clock()
    with pytest.raises(TransportError) as caught:
        run(RetryPolicy(), clock, TransportError("no answer from http://127.0.0.1:1: connection refused"), takes=1.0)
    assert str(caught.value) == (
        "no answer from http://127.0.0.1:1: connection refused; gave up after 5 attempts in 20 s"
    )
    assert clock.sleeps == [1.0, 2.0, 4.0, 8.0]


def test_the_note_of_an_answered_error_survives_pickling():
    with pytest.raises(UnavailableError) as caught:
        run(RetryPolicy(attempts=2), Clock(), unavailable(reason="busy", retry_after=3.0))
    assert str(caught.value) == ("GET http://host/studies was answered with 503: busy; gave up after 2 attempts in 3 s")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.retry_after, copy.status) == (str(caught.value), 3.0, 503)


def test_no_attempt_begins_after_the_total_time():
    clock = Clock()
    policy = RetryPolicy(attempts=100, first_wait=10.0, longest_wait=10.0, total_timeout=25.0)
    with pytest.raises(TransportError, match=r"gave up after 3 attempts in 23 s of 25 s"):
        run(policy, clock, TransportError("x"), takes=1.0)
    assert clock.sleeps == [10.0, 10.0]


def test_a_server_that_asks_for_more_time_than_there_is_is_not_waited_for():
    clock = Clock()
    with pytest.raises(
        UnavailableError, match="after 1 attempt in 0 s of 300 s, because the server asked to wait 900 s"
    ):
        run(RetryPolicy(), clock, unavailable(retry_after=900.0))
    assert clock.sleeps == []


def test_what_is_not_retryable_is_raised_as_it_is():
    for error in (NotFoundError(404, "GET", "http://host/x"), ProtocolError("odd"), ConfigurationError("bad")):
        clock, before = Clock(), str(error)
        with pytest.raises(type(error)) as caught:
            run(RetryPolicy(), clock, error)
        assert (str(caught.value), clock.sleeps) == (before, [])


def test_an_error_for_good_after_repetitions_is_raised_as_it_is():
    clock = Clock()
    with pytest.raises(NotFoundError) as caught:
        run(RetryPolicy(), clock, unavailable(), NotFoundError(404, "GET", "http://host/x"))
    assert "gave up" not in str(caught.value)
    assert len(clock.sleeps) == 1


def test_errors_of_others_pass():
    with pytest.raises(KeyError):
        run(RetryPolicy(), Clock(), KeyError("x"))


def test_a_single_attempt_is_not_called_giving_up():
    with pytest.raises(TransportError) as caught:
        run(RetryPolicy(attempts=1), Clock(), TransportError("broken"))
    assert str(caught.value) == "broken"


def test_policies_nest_without_multiplying():
    attempts: list[int] = []

    def inner_attempt() -> None:
        attempts.append(1)
        raise TransportError("broken")

    def on(clock: Clock, fn: Callable[[], None]) -> None:
        RetryPolicy(attempts=3).run(fn, sleep=clock.sleep, clock=clock)

    clock = Clock()
    with pytest.raises(TransportError, match=r"^broken; gave up after 3 attempts in \d+ s$"):
        on(clock, lambda: on(clock, inner_attempt))
    assert len(attempts) == 3


def test_a_settled_error_stays_retryable_for_whoever_asks_later():
    error = settle(TransportError("broken"))
    assert is_settled(error)
    assert error.retryable
    clock = Clock()
    with pytest.raises(TransportError):
        run(RetryPolicy(), clock, error)
    assert clock.sleeps == []


@pytest.mark.parametrize(
    "values",
    [
        {"attempts": 0},
        {"attempts": 2.0},
        {"attempts": True},
        {"first_wait": -1},
        {"longest_wait": math.nan},
        {"total_timeout": math.inf},
        {"first_wait": "1"},
        {"total_timeout": None},
    ],
)
def test_values_out_of_range_are_refused(values: dict[str, object]):
    with pytest.raises(ConfigurationError, match=next(iter(values))):
        RetryPolicy(**values)


def test_a_policy_is_a_value():
    assert RetryPolicy() == RetryPolicy(5, 1.0, 30.0, 300.0)
    assert len({RetryPolicy(), RetryPolicy()}) == 1
    with pytest.raises(FrozenInstanceError):
        RetryPolicy().attempts = 3


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("1.5", 1.5),
        ("-3", 0.0),
        ("", None),
        (None, None),
        ("soon", None),
        ("inf", None),
        ("nan", None),
    ],
)
def test_retry_after_in_seconds(value: str | None, seconds: float | None):
    assert parse_retry_after(value) == seconds


def test_retry_after_as_a_date_is_taken_by_the_servers_clock():
    assert parse_retry_after("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 30.0
    assert parse_retry_after("Wed, 21 Oct 2015 07:27:00 GMT", "Wed, 21 Oct 2015 07:28:00 GMT") == 0.0


def test_retry_after_as_a_date_without_a_servers_clock_is_taken_by_ours():
    assert parse_retry_after(formatdate(0, usegmt=True)) == 0.0
    far = parse_retry_after("Fri, 31 Dec 9999 00:00:00 GMT")
    assert far is not None
    assert far > 1e9


def test_every_retryable_class_is_repeated():
    for error in (TransportError("x"), unavailable()):
        assert isinstance(error, DicomWebError)
        clock = Clock()
        assert run(RetryPolicy(), clock, error, "done") == "done"
        assert len(clock.sleeps) == 1
