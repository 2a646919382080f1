"""Where requests go: base URLs, and the URLs built on them.

A path that an HTTP library would normalise is refused: a DELETE of ``.../series/..`` would arrive as the DELETE of the
study. A URL on another server is refused too: credentials belong to one origin.

Source: RFC 3986 sections 3.2, 5.2.4 and 6.2; RFC 6454 section 4 (origin).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import SplitResult, quote, unquote, urlencode, urlsplit

from airflow_dicomweb.errors import ConfigurationError

_DEFAULT_PORTS = {"http": 80, "https": 443}
_NOT_IN_URLS = re.compile(r"[\s\x00-\x1f\x7f\\]")
# What may stand in a path as it is (RFC 3986 pchar); "%" because parts of a server's own URLs come encoded.
_PATH_SAFE = "/:@!$&'()*+,;=~%"
# Legal in a query as they are, and meant as signs: a list of fields, wildcards. Orthanc 1.10 does not decode them.
_QUERY_SAFE = "*,?"


@dataclass(frozen=True, slots=True)
class BaseUrl:
    """The URL under which a server's resources are.

    :param text: Scheme and host in lower case, no slash at the end.
    :param scheme: ``http`` or ``https``.
    :param host: Host name or address, an IPv6 address without its brackets.
    """

    text: str
    scheme: str
    host: str

    @classmethod
    def parse(cls, url: object) -> BaseUrl:
        """Read a base URL.

        :raises ConfigurationError: If it is not one, or holds user info, a query or a fragment.
        """
        parts = _split(url)
        if parts.query or parts.fragment or "?" in str(url) or "#" in str(url):
            raise ConfigurationError("a base URL must not have a query or a fragment")
        if {".", ".."} & set(unquote(parts.path).split("/")):
            raise ConfigurationError("a base URL must not have '.' or '..' in its path")
        path = quote(parts.path, safe=_PATH_SAFE).rstrip("/")
        return cls(f"{parts.scheme}://{parts.netloc.lower()}{path}", parts.scheme, parts.hostname or "")

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        parts = urlsplit(self.text)
        return f"{parts.scheme}://{parts.netloc}"

    def url(self, path: str, query: Iterable[tuple[str, str]] = ()) -> str:
        """Build the URL of a resource.

        :param path: Relative to the base, without a query; or a whole URL of this server.
        :param query: Names and values, not encoded.
        :raises ConfigurationError: If the path could be normalised into another, or belongs to another server.
        """
        if re.match(r"[a-zA-Z][a-zA-Z0-9+.\-]*://", path):
            whole = _split(path)
            if _origin(whole) != _origin(urlsplit(self.text)):
                raise ConfigurationError(f"a URL on another server than {self.origin} is not requested")
            if whole.fragment:
                raise ConfigurationError("a URL to request must not have a fragment")
            start, path, own = self.origin, whole.path, whole.query
        else:
            start, own = self.text, ""
            if re.search(r"[?#\\\x00-\x1f\x7f]", path):
                raise ConfigurationError("a path must not hold a query, a fragment, a backslash or control characters")
        if "//" in unquote(path) or {".", ".."} & set(unquote(path).split("/")):
            raise ConfigurationError("a path must not have an empty segment, '.' or '..'")
        encoded = "&".join(part for part in (own, urlencode(list(query), safe=_QUERY_SAFE, quote_via=quote)) if part)
        path = quote(path.lstrip("/"), safe=_PATH_SAFE)
        slash = "/" if path or not urlsplit(start).path else ""
        return f"{start}{slash}{path}" + (f"?{encoded}" if encoded else "")


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address is this machine, without asking a name server."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def _split(url: object) -> SplitResult:
    expected = "a URL must be http:// or https:// with a host, such as https://server.example:8443/dicom-web"
    # urlsplit drops line ends and tabs silently.
    if not isinstance(url, str) or _NOT_IN_URLS.search(url) or not url.isascii():
        raise ConfigurationError(expected)
    try:
        parts = urlsplit(url)
        port_is_valid = parts.port != 0
    except ValueError:
        raise ConfigurationError(expected) from None
    if parts.scheme not in _DEFAULT_PORTS or not parts.hostname or not port_is_valid:
        raise ConfigurationError(expected)
    if "@" in parts.netloc:
        raise ConfigurationError("a URL must not hold a user name or password; give credentials instead")
    return parts


def _origin(parts: SplitResult) -> tuple[str, str, int]:
    return parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme]
