"""Who a request is sent as: nobody, a user with a password, the bearer of a token, or a Google account.

None of them shows its secret in ``repr``, in a message or in a log line.

Source: RFC 7617 (Basic), RFC 6750 (Bearer).
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass, field
from typing import Protocol

from airflow_dicomweb.dicomweb.google_account import Google
from airflow_dicomweb.errors import ConfigurationError

__all__ = ["Anonymous", "Basic", "Bearer", "Credentials", "Google"]

_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f]*")


class Credentials(Protocol):
    """What a transport asks of credentials; any object of this shape will do."""

    @property
    def identity(self) -> str:
        """Who this is, for messages; never a secret."""
        ...

    def headers(self) -> dict[str, str]:
        """Give the headers that a request is sent with; may fetch a token."""
        ...

    def refresh(self) -> bool:
        """Take notice of a 401: forget what was used, and tell whether one more try makes sense."""
        ...


@dataclass(frozen=True, slots=True)
class Anonymous:
    """No credentials."""

    identity: str = field(default="nobody", init=False)

    def headers(self) -> dict[str, str]:
        """Give no headers."""
        return {}

    def refresh(self) -> bool:
        """Nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class Basic:
    """User name and password.

    :param username: Without a colon.
    :param password: Sent as UTF-8.
    :raises ConfigurationError: If the user name is empty or one of them holds what a header cannot carry.
    """

    username: str
    password: str = field(repr=False)

    def __post_init__(self) -> None:
        pair: dict[str, object] = {"user name": self.username, "password": self.password}
        for name, value in pair.items():
            if not isinstance(value, str) or not _PRINTABLE.fullmatch(value):
                raise ConfigurationError(f"the {name} for basic authentication must be text without control characters")
        if not self.username or ":" in self.username:
            raise ConfigurationError("the user name for basic authentication must not be empty nor hold a colon")

    @property
    def identity(self) -> str:
        """The user's name."""
        return f"basic user {self.username!r}"

    def headers(self) -> dict[str, str]:
        """Give the Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return {"Authorization": f"Basic {base64.b64encode(pair).decode('ascii')}"}

    def refresh(self) -> bool:
        """Nothing to renew."""
        return False


@dataclass(frozen=True, slots=True)
class Bearer:
    """A token that somebody else keeps fresh.

    :param token: Without the word ``Bearer``.
    :raises ConfigurationError: If it is empty or holds what a header cannot carry.
    """

    token: str = field(repr=False)
    identity: str = field(default="bearer token", init=False)

    def __post_init__(self) -> None:
        token: object = self.token
        if not isinstance(token, str) or not re.fullmatch(r"[\x21-\x7e]+", token):
            raise ConfigurationError("a bearer token must be visible ASCII characters without blanks, at least one")

    def headers(self) -> dict[str, str]:
        """Give the Authorization header."""
        return {"Authorization": f"Bearer {self.token}"}

    def refresh(self) -> bool:
        """Nothing to renew."""
        return False
