"""Every error of this package, in one tree.

::

    DicomWebError
    ├── ConfigurationError (ValueError)      bad argument or connection; says what would be accepted
    ├── TransportError        retryable      no answer, or a broken one
    ├── ProtocolError                        the answer is not what the standard describes
    ├── ResponseError                        status, method, URL without query
    │   ├── UnavailableError  retryable      408 425 429 5xx; honours Retry-After
    │   ├── AuthorizationError               401 403, with the identity used
    │   ├── NotFoundError                    404 410
    │   └── ConflictError                    409
    ├── StoreRefusedError                    carries the StoreResult
    ├── OperationFailedError                 the operation ended with an error, or too many of its items failed
    ├── OperationCancelledError              somebody cancelled the operation
    ├── OperationTimeoutError                the operation was still running at its deadline
    └── EventError                           an event that a resumed task cannot read

They are plain exceptions, so that Airflow's ``ExceptionRetryPolicy`` can match them by class. No message carries
credentials, data set values, file paths or query strings.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.stow import StoreResult

RETRYABLE_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504})


class DicomWebError(Exception):
    """Base of all errors raised by this package; ``retryable`` says whether the same request may succeed later."""

    retryable: ClassVar[bool] = False


class ConfigurationError(DicomWebError, ValueError):
    """A bad argument or connection, or a source or destination that cannot be used; says what would be accepted.

    What can be known beforehand is refused before anything is sent.
    """


class TransportError(DicomWebError):
    """No answer, or a broken one: refused, reset, timed out, cut short."""

    retryable: ClassVar[bool] = True


class ProtocolError(DicomWebError):
    """The answer came whole but is not what the standard describes."""


class ResponseError(DicomWebError):
    """The server answered with an error status.

    :param status: HTTP status code.
    :param method: Request method.
    :param url: Requested URL; its query and user info must have been removed by the caller.
    :param reason: The server's own words, shortened, or an empty string.
    :param retry_after: Seconds the server asked to wait, if it said so.
    :param identity: Who the request was sent as, for 401 and 403.
    """

    def __init__(
        self,
        status: int,
        method: str,
        url: str,
        reason: str = "",
        *,
        retry_after: float | None = None,
        identity: str | None = None,
    ) -> None:
        self.status, self.method, self.url, self.reason = status, method, url, reason
        self.retry_after, self.identity = retry_after, identity
        message = f"{method} {url} was answered with {status}"
        if identity is not None:
            message += f" (sent as {identity})"
        super().__init__(f"{message}: {reason}" if reason else message)

    def __reduce__(self) -> tuple[object, tuple[object, ...], dict[str, object]]:
        """Pickle by the constructor's arguments: errors cross process boundaries in Airflow."""
        return (type(self), (self.status, self.method, self.url, self.reason), self.__dict__)


class UnavailableError(ResponseError):
    """The server cannot answer now: 408, 425, 429, 500, 502, 503, 504."""

    retryable: ClassVar[bool] = True


class AuthorizationError(ResponseError):
    """401 or 403: the identity is not known, or lacks a permission (Google also answers 403 for what is not there)."""


class NotFoundError(ResponseError):
    """404 or 410: the resource is not there."""


class ConflictError(ResponseError):
    """409: the resource exists already, or is in another state than the request needs."""


class StoreRefusedError(DicomWebError):
    """More instances were not stored than the caller tolerates.

    :param message: Counts and the first reasons.
    :param result: The complete result: what was stored is stored.
    """

    def __init__(self, message: str, result: StoreResult) -> None:
        self.result = result
        super().__init__(message)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        """Pickle by the constructor's arguments."""
        return (type(self), (str(self), self.result))


class OperationFailedError(DicomWebError):
    """A long-running operation ended with an error, or more of its items failed than the caller tolerates."""


class OperationCancelledError(DicomWebError):
    """A long-running operation was cancelled."""


class OperationTimeoutError(DicomWebError):
    """A long-running operation was still running when its deadline passed."""


class EventError(DicomWebError):
    """A resumed task got an event that this version cannot read."""


def error_for_status(status: int) -> type[ResponseError]:
    """Give the class that stands for an HTTP status of 300 or more."""
    if status in RETRYABLE_STATUSES:
        return UnavailableError
    by_status: dict[int, type[ResponseError]] = {
        401: AuthorizationError,
        403: AuthorizationError,
        404: NotFoundError,
        409: ConflictError,
        410: NotFoundError,
    }
    return by_status.get(status, ResponseError)
