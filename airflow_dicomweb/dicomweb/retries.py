"""When a failed request is sent again, and when not any more.

Waits are drawn with full jitter, so that many workers which failed together do not come back together. A server's
Retry-After is a lower bound for the wait, never cut short.

Source: RFC 9110 section 10.2.3 (Retry-After);
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ ("full jitter").
"""

from __future__ import annotations

import logging
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from itertools import count
from typing import TypeVar

from airflow_dicomweb.errors import ConfigurationError, DicomWebError, ResponseError

log = logging.getLogger(__name__)

T = TypeVar("T")
E = TypeVar("E", bound=DicomWebError)

_SETTLED = "_settled"
_IN_DOUBT = "_in_doubt"
_MOST_DOUBLINGS = 60


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, how soon and how long a request is repeated.

    :param attempts: Most attempts, the first included; 1 or more.
    :param first_wait: Upper bound of the first random wait, in seconds; doubled for every further wait.
    :param longest_wait: Upper bound of every random wait, in seconds. A longer Retry-After is honoured all the same.
    :param total_timeout: Seconds since the first attempt after which no other attempt begins.
    :raises ConfigurationError: If a value is out of its range.
    """

    attempts: int = 5
    first_wait: float = 1.0
    longest_wait: float = 30.0
    total_timeout: float = 300.0

    def __post_init__(self) -> None:
        attempts: object = self.attempts
        if not isinstance(attempts, int) or isinstance(attempts, bool) or attempts < 1:
            raise ConfigurationError("attempts must be a whole number, 1 or more")
        for name in ("first_wait", "longest_wait", "total_timeout"):
            check_seconds(getattr(self, name), name, zero=True)

    def wait_before(
        self, attempt: int, retry_after: float | None = None, random: Callable[[], float] = random.random
    ) -> float:
        """Draw the seconds to wait before an attempt.

        :param attempt: Number of the attempt that is to follow: 2 is the first repetition.
        :param retry_after: Seconds that the server asked to wait, if it did.
        :param random: Gives a number from 0.0 to 1.0.
        """
        doublings = min(max(attempt - 2, 0), _MOST_DOUBLINGS)
        drawn = random() * min(self.longest_wait, self.first_wait * 2.0**doublings)
        return max(drawn, retry_after or 0.0)

    def run(
        self,
        fn: Callable[[], T],
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        random: Callable[[], float] = random.random,
    ) -> T:
        """Call ``fn`` until it returns, fails for good, or the budget is spent.

        An error is repeated if it says ``retryable`` and no policy has given up on it before, so policies may nest.

        :param fn: One whole attempt; it must be able to start from the beginning again.
        :raises DicomWebError: The last error, of its own class; when the budget is spent its message says so.
        """
        start = clock()
        for attempt in count(1):
            try:
                return fn()
            except DicomWebError as error:
                if not error.retryable or is_settled(error):
                    raise
                asked: float | None = getattr(error, "retry_after", None)
                wait, elapsed = self.wait_before(attempt + 1, asked, random), clock() - start
                if attempt >= self.attempts or elapsed + wait > self.total_timeout:
                    self._give_up(error, attempt, elapsed, asked)
                    raise
                log.info("%s; attempt %d of %d, the next in %.1f s", error, attempt, self.attempts, wait)
            sleep(wait)
        raise AssertionError  # pragma: no cover - the loop has no end

    def _give_up(self, error: DicomWebError, attempts: int, elapsed: float, asked: float | None) -> None:
        """Close the case: a policy further out must not start over what cost a whole budget."""
        settle(error)
        if self.attempts == 1:
            return
        note = f"gave up after {attempts} attempt{'s' if attempts > 1 else ''} in {elapsed:.0f} s"
        if attempts < self.attempts:
            note += f" of {self.total_timeout:.0f} s"
            if asked:
                note += f", because the server asked to wait {asked:.0f} s more"
        add_to_message(error, note)


def settle(error: E) -> E:
    """Mark an error as final for every policy, although a later request may succeed; gives the error back."""
    error.__dict__[_SETTLED] = True
    return error


def is_settled(error: DicomWebError) -> bool:
    """Tell whether the error was given up on, or must not be repeated."""
    return bool(error.__dict__.get(_SETTLED))


def leave_in_doubt(error: DicomWebError) -> None:
    """Mark an error: it is about the last attempt, and an earlier one may have been carried out."""
    error.__dict__[_IN_DOUBT] = True


def is_in_doubt(error: DicomWebError) -> bool:
    """Tell whether the request may have been carried out in spite of the error."""
    return bool(error.__dict__.get(_IN_DOUBT))


def add_to_message(error: DicomWebError, note: str) -> None:
    """Add words to the end of an error's message; its class and its attributes stay."""
    if isinstance(error, ResponseError):
        # Its message is made from its attributes, also when it is unpickled.
        reason = f"{error.reason}; {note}" if error.reason else note
        ResponseError.__init__(
            error,
            error.status,
            error.method,
            error.url,
            reason,
            retry_after=error.retry_after,
            identity=error.identity,
        )
    else:
        error.args = (f"{error}; {note}", *error.args[1:])


def parse_retry_after(value: str | None, date: str | None = None) -> float | None:
    """Read a Retry-After header: seconds from now, or None if it says nothing readable.

    :param value: Seconds, or an HTTP date.
    :param date: The same answer's Date header: a date is taken relative to the server's clock where it is known.
    """
    text = (value or "").strip()
    try:
        seconds = float(text)
    except ValueError:
        moment = _moment(text)
        if moment is None:
            return None
        now = _moment(date or "")
        seconds = moment - (time.time() if now is None else now)
    return max(seconds, 0.0) if math.isfinite(seconds) else None


def _moment(text: str) -> float | None:
    try:
        return parsedate_to_datetime(text).timestamp()
    except (ValueError, TypeError, OverflowError):
        return None


def check_seconds(value: object, name: str, *, zero: bool = False) -> float:
    """Return a duration if it is one.

    :param zero: Whether 0 is accepted.
    :raises ConfigurationError: If it is not a finite number of seconds in range.
    """
    seconds = float(value) if isinstance(value, int | float) and not isinstance(value, bool) else math.nan
    if math.isfinite(seconds) and (seconds > 0 or (zero and seconds == 0)):
        return seconds
    raise ConfigurationError(f"{name} must be a number of seconds, {'0 or more' if zero else 'more than 0'}")
