"""The account of this package, in the form that Google's own clients take.

Source: https://googleapis.dev/python/google-auth/latest/reference/google.auth.credentials.html
"""

from __future__ import annotations

from collections.abc import MutableMapping
from typing import Any

from google.auth.credentials import Credentials

from airflow_dicomweb.dicomweb.auth import Google


class SharedToken(Credentials):
    """One token for DICOM and for Cloud Storage, fetched with the same time-outs, repetitions and errors.

    google-auth's own objects would also ask Google for regional boundaries, in a thread of which nobody knows.

    :param account: Whose token.
    """

    def __init__(self, account: Google) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._account = account

    def before_request(self, request: Any, method: str, url: str, headers: MutableMapping[str, str]) -> None:
        """Add the account's headers to a request."""
        headers.update(self._account.headers())

    def refresh(self, request: Any) -> None:
        """Take notice of a 401."""
        self._account.refresh()
