"""Requests for Google access tokens, and what a failed one means in this package's terms.

Source: RFC 6749 section 5.2 (error answers of a token server); https://cloud.google.com/apis/design/errors
"""

from __future__ import annotations

import json
from typing import Any

from airflow_dicomweb.dicomweb.resources import without_query
from airflow_dicomweb.errors import (
    RETRYABLE_STATUSES,
    AuthorizationError,
    ConfigurationError,
    DicomWebError,
    TransportError,
    UnavailableError,
)

TOKEN_TIMEOUT = 30.0
"""Seconds without progress after which a request for a token is given up."""


class TokenRequest:
    """google-auth's own transport, which remembers how its last request ended: its errors do not say."""

    def __init__(self) -> None:
        from google.auth.transport.requests import Request

        self._request = Request()
        self.session = self._request.session
        # Without it a .netrc entry would replace the Authorization header of an impersonation.
        self.session.auth = _as_it_is
        self.forget()

    def forget(self) -> None:
        """Start a new case."""
        self._method, self._url, self._status = "POST", "", 0

    def __call__(self, url: str, method: str = "GET", timeout: float | None = None, **options: Any) -> Any:
        """Send one request, in the form that google-auth calls for."""
        self._method, self._url, self._status = method, without_query(url), 0
        response = self._request(url, method=method, timeout=timeout or TOKEN_TIMEOUT, **options)
        self._status = response.status
        return response

    def failure(self, error: Exception, identity: str) -> DicomWebError:
        """Say what a failed renewal was, in our terms."""
        if not self._url:
            return ConfigurationError(f"the Google credentials cannot be used: {type(error).__name__}")
        if not self._status:
            return TransportError(f"no answer from the token server at {self._url}")
        if self._status in RETRYABLE_STATUSES or getattr(error, "retryable", False):
            return UnavailableError(self._status, self._method, self._url, "no token for now", identity=identity)
        return AuthorizationError(self._status, self._method, self._url, _reason(error), identity=identity)


def _reason(error: Exception) -> str:
    """Take the standard fields from the token server's answer, and nothing else of it."""
    answer: Any = next((arg for arg in error.args[1:] if isinstance(arg, dict | str)), None)
    if isinstance(answer, str):
        try:
            answer = json.loads(answer)
        except ValueError:
            answer = None
    if not isinstance(answer, dict):
        return "no token was given"
    inner = answer.get("error")
    words = [inner.get("status"), inner.get("message")] if isinstance(inner, dict) else [inner]
    words.append(answer.get("error_description"))
    return ": ".join(str(word) for word in words if word)[:300] or "no token was given"


def _as_it_is(request: Any) -> Any:
    return request
