"""HTTP for DICOMweb: the only way out of this package, besides Google's own libraries.

One request is three promises. Every attempt carries the whole body, with Content-Length. A request that must not happen
twice is not sent again once the server may have got it. Credentials go to one origin, redirects are not followed, and
no message or log line holds a query value or a secret.

Source: RFC 9110 sections 9.2.2 (idempotence), 11 (authentication) and 15; DICOM PS3.18 section 8.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Self
from urllib.parse import urlsplit

import requests

from airflow_dicomweb.dicomweb.addresses import BaseUrl, is_loopback
from airflow_dicomweb.dicomweb.answers import Answer, StreamedAnswer, server_words
from airflow_dicomweb.dicomweb.auth import Anonymous, Credentials
from airflow_dicomweb.dicomweb.connections import Connections, Failure
from airflow_dicomweb.dicomweb.resources import without_query
from airflow_dicomweb.dicomweb.retries import (
    RetryPolicy,
    add_to_message,
    check_seconds,
    leave_in_doubt,
    parse_retry_after,
    settle,
)
from airflow_dicomweb.dicomweb.sending import SendableBody
from airflow_dicomweb.errors import (
    ConfigurationError,
    DicomWebError,
    ProtocolError,
    ResponseError,
    TransportError,
    error_for_status,
)

__all__ = ["Answer", "SendableBody", "StreamedAnswer", "Transport"]

MAX_ANSWER_BYTES = 512 * 2**20
# After these the server has not taken up the request; after other failures it may have.
_NOT_TAKEN_UP = frozenset({408, 425, 429, 503})


@dataclass(slots=True)
class _Call:
    """One request as the caller means it; attempts are made from it."""

    method: str
    url: str
    headers: Mapping[str, str]
    query: tuple[tuple[str, str], ...]
    body: bytes | SendableBody | None = None
    idempotent: bool = True
    refreshed: bool = field(default=False, init=False)
    in_doubt: bool = field(default=False, init=False)
    """The server may have carried it out, whatever it says of a later attempt."""

    @property
    def shown(self) -> str:
        """Method and URL, fit for messages."""
        return f"{self.method} {without_query(self.url)}"


class Transport:
    """Sends requests to one server, from any number of threads.

    :param base_url: URL that paths are relative to, ``http`` or ``https``, without user info and query.
    :param credentials: Who requests are sent as.
    :param retry_policy: How often a failed request is repeated.
    :param connect_timeout: Seconds to establish a connection.
    :param request_timeout: Seconds without progress, nothing sent nor received, after which an attempt is given up.
    :param verify: Whether TLS certificates are checked, or the CA file or folder they are checked with.
    :param client_cert: Client certificate: a PEM file with certificate and key, or a pair of files.
    :param allow_insecure_auth: Whether credentials may go over plain http to another machine.
    :param max_answer_bytes: Most bytes of an answer that is read whole.
    :raises ConfigurationError: If an argument is out of its range, or credentials would go over an open line.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials,
        retry_policy: RetryPolicy = RetryPolicy(),  # noqa: B008 - a frozen value
        connect_timeout: float = 10.0,
        request_timeout: float = 300.0,
        verify: bool | str | os.PathLike[str] = True,
        client_cert: str | tuple[str, str] | None = None,
        allow_insecure_auth: bool = False,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self.base = BaseUrl.parse(base_url)
        if self.base.scheme == "http" and not (
            isinstance(credentials, Anonymous) or allow_insecure_auth or is_loopback(self.base.host)
        ):
            raise ConfigurationError(
                f"credentials would go to {self.base.host} over plain http, readable by everyone on the way; "
                "use https, or set allow_insecure_auth where the line is trusted"
            )
        self.credentials, self.retry_policy = credentials, retry_policy
        self._max_answer_bytes = max_answer_bytes
        self._connections = Connections(
            connect_timeout=check_seconds(connect_timeout, "connect_timeout"),
            request_timeout=check_seconds(request_timeout, "request_timeout"),
            verify=verify if isinstance(verify, bool) else os.fspath(verify),
            client_cert=client_cert,
        )

    def __repr__(self) -> str:
        return f"Transport({self.base.text!r}, credentials={self.credentials.identity!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections of all threads."""
        self._connections.close()

    def send(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
        body: bytes | SendableBody | None = None,
        idempotent: bool = True,
        accept_errors: Collection[int] = frozenset(),
    ) -> Answer:
        """Send a request and read the whole answer, with the repetitions that the retry policy allows.

        :param path: Relative to the base URL, built from checked UIDs and names; or a whole URL of the same server.
        :param query: Names and values, not encoded.
        :param body: Its length is sent as Content-Length; each attempt iterates over it from its beginning.
        :param idempotent: False if the request must not be carried out twice: it is then not sent again after a
            failure that leaves open whether the server got it.
        :param accept_errors: Statuses of 300 and more whose answers are wanted, as they are.
        :raises ConfigurationError: If the request cannot be sent as it was meant.
        :raises TransportError: If there was no answer, or a broken one.
        :raises ProtocolError: If the answer is larger than can be held.
        :raises ResponseError: Of the class that fits the status.
        """
        call = self._call(method, path, query, headers, body, idempotent=idempotent)
        try:
            return self.retry_policy.run(lambda: self._attempt(call, accept_errors))
        except DicomWebError as error:
            if call.in_doubt:
                leave_in_doubt(error)
            raise

    @contextmanager
    def stream(
        self,
        method: str,
        path: str,
        *,
        query: Iterable[tuple[str, str]] = (),
        headers: Mapping[str, str] | None = None,
    ) -> Iterator[StreamedAnswer]:
        """Send a request once and give its answer before the body is read.

        Not repeated, but for one renewal of the credentials: whoever writes the body somewhere knows how to start over,
        and runs the whole by ``retry_policy``.

        :param path: As for :meth:`send`.
        :param query: Names and values, not encoded.
        :raises DicomWebError: As :meth:`send`.
        """
        call = self._call(method, path, query, headers)
        with self._open(call) as response:
            if response.status_code >= 300:
                raise self._refusal(call, response)
            yield StreamedAnswer(
                response.status_code, response.headers, lambda decode: self._blocks(call, response, decode=decode)
            )

    def _call(
        self,
        method: str,
        path: str,
        query: Iterable[tuple[str, str]],
        headers: Mapping[str, str] | None,
        body: bytes | SendableBody | None = None,
        *,
        idempotent: bool = True,
    ) -> _Call:
        pairs = tuple(query)
        url = self.base.url(path, pairs)
        if requests.Request(method, url).prepare().url != url:
            raise ConfigurationError("the HTTP library would request another URL than the one that was meant")
        return _Call(method, url, dict(headers or {}), pairs, body, idempotent=idempotent)

    def _attempt(self, call: _Call, accept_errors: Collection[int]) -> Answer:
        """Do it once, and judge the answer."""
        with self._open(call) as response:
            if response.status_code >= 300 and response.status_code not in accept_errors:
                raise self._refusal(call, response)
            return self._answer(call, response, self._whole(call, response))

    @contextmanager
    def _open(self, call: _Call) -> Iterator[requests.Response]:
        """Get the head of the answer; renew the credentials after a 401, once for all attempts of a call."""
        response = self._response(call)
        try:
            if response.status_code == 401 and not call.refreshed:
                call.refreshed = True
                if self.credentials.refresh():
                    response.close()
                    response = self._response(call)
            yield response
        finally:
            response.close()

    def _response(self, call: _Call) -> requests.Response:
        headers = {**call.headers, **self.credentials.headers()}
        result = self._connections.exchange(call.method, call.url, headers, call.body, fresh=not call.idempotent)
        if isinstance(result, Failure):
            raise self._failed(call, result)
        return result

    def _blocks(self, call: _Call, response: requests.Response, *, decode: bool = True) -> Iterator[bytes]:
        for block in self._connections.read(response, decode=decode):
            if isinstance(block, Failure):
                raise self._failed(call, block, began=True)
            yield block

    def _whole(self, call: _Call, response: requests.Response) -> bytes:
        content = bytearray()
        for block in self._blocks(call, response):
            content += block
            if len(content) > self._max_answer_bytes:
                raise ProtocolError(f"the answer to {call.shown} is larger than {self._max_answer_bytes} bytes")
        return bytes(content)

    def _answer(self, call: _Call, response: requests.Response, content: bytes) -> Answer:
        return Answer(response.status_code, response.headers, content, call.shown)

    def _refusal(self, call: _Call, response: requests.Response) -> ResponseError:
        """Make the error for an answer of 300 and more."""
        content = b""
        # The status counts; of the words one block is enough, and it may be missing.
        with suppress(TransportError):
            content = next(self._blocks(call, response), b"")
        status, headers = response.status_code, response.headers
        reason = server_words(self._answer(call, response, content), call.query)
        if status < 400:
            target = without_query(headers.get("Location", "")) or "nowhere"
            reason = f"redirects are not followed; this one leads to {target}"
        error = error_for_status(status)(
            status,
            call.method,
            without_query(call.url),
            reason,
            retry_after=parse_retry_after(headers.get("Retry-After"), headers.get("Date")),
            identity=self.credentials.identity if status in {401, 403} else None,
        )
        if error.retryable and status not in _NOT_TAKEN_UP:
            call.in_doubt = True
            self._only_once(call, error)
        return error

    def _failed(self, call: _Call, problem: Failure, *, began: bool = False) -> DicomWebError:
        """Make the error for an answer that did not come, or not whole."""
        path = urlsplit(call.url).path
        where = f"no answer from {self.base.origin} to {call.method} {path}"
        if problem.permanent:
            return ConfigurationError(f"{where}: {problem.cause}")
        error = TransportError(f"{f'the answer to {call.shown} broke off' if began else where}: {problem.cause}")
        if problem.sent:
            call.in_doubt = True
            self._only_once(call, error)
        return error

    def _only_once(self, call: _Call, error: DicomWebError) -> None:
        if not call.idempotent:
            add_to_message(settle(error), "the server may have carried it out, so it was not sent again")
