"""The answer to one request, whole or streamed, and what a server's error answer says in words fit for a message.

Source: RFC 9110 section 15; https://cloud.google.com/apis/design/errors (Google's error envelope);
https://orthanc.uclouvain.be/book/users/rest.html (Orthanc's).
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from html.entities import codepoint2name
from typing import Any

from airflow_dicomweb.dicomweb.media_types import DICOM, MULTIPART, MediaType
from airflow_dicomweb.errors import ProtocolError

MAX_WORDS = 300
"""Most characters of a server's words that go into a message."""

# Values of these parameters are the request's form, never a patient's.
_HARMLESS = {"limit", "offset", "includefield", "fuzzymatching", "viewport", "quality", "pagesize", "pagetoken"}
# UIDs of these may be shown; a value of another attribute may look like one (an accession number 12.34).
_UID_TAGS = {"0020000D", "0020000E", "00080018", "00080016"}
_UIDS = re.compile(r"[0-9]+(\.[0-9]+)+([,\\][0-9]+(\.[0-9]+)+)*")


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer.

    :param status: HTTP status code.
    :param headers: Names in any case.
    :param content: The body, its content encoding undone.
    :param request: Method and URL without query, for messages.
    """

    status: int
    headers: Mapping[str, str]
    content: bytes
    request: str = "the request"

    @property
    def media_type(self) -> MediaType:
        """Content-Type of the body."""
        return MediaType.parse(self.headers.get("Content-Type"))

    def json(self) -> Any:
        """Read the body as JSON, whatever its type says: some servers name none.

        :raises ProtocolError: If it is not JSON.
        """
        try:
            return json.loads(self.content)
        except (ValueError, RecursionError):
            pass
        named = self.media_type.name or "no Content-Type"
        raise ProtocolError(
            f"the answer to {self.request} is not JSON: status {self.status}, {named}, {len(self.content)} bytes"
        )


class StreamedAnswer:
    """An answer whose body has not been read yet.

    :param status: HTTP status code.
    :param headers: Names in any case.
    :param read: Reads the body, with its content encoding undone or as it came.
    """

    def __init__(self, status: int, headers: Mapping[str, str], read: Callable[[bool], Iterator[bytes]]) -> None:
        self.status, self.headers, self._read = status, headers, read

    @property
    def media_type(self) -> MediaType:
        """Content-Type of the body."""
        return MediaType.parse(self.headers.get("Content-Type"))

    def blocks(self) -> Iterator[bytes]:
        """Read the body once, in blocks of up to 256 KiB.

        :raises TransportError: If the body is shorter than its Content-Length, or the connection breaks.
        """
        encoding = self.headers.get("Content-Encoding", "").strip().lower()
        return self._read(encoding not in {"", "identity"})


def server_words(answer: Answer, query: Iterable[tuple[str, str]] = ()) -> str:
    """Take a short reason from an error answer, on one line; an empty string if there is none.

    Never a DICOM body; and what the query asked for is masked, because servers repeat it.
    """
    name = answer.media_type.name
    if name.startswith((DICOM, MULTIPART, "image/", "video/")):
        return ""
    text = answer.content[:65536].decode("utf-8", "replace")
    words = _from_json(text)
    if words is None:
        words = _from_markup(text)
    if words is None:
        words = text if name.startswith("text/") or not name else ""
    # All at once and the long ones first: a short value must not break up a longer one that holds it.
    if private := sorted({value for key, value in query if _is_private(key, value)}, key=len, reverse=True):
        words = re.sub("|".join(map(_in_any_form, private)), "***", words, flags=re.IGNORECASE)
    words = " ".join("".join(char if char.isprintable() else " " for char in words).split())
    return words if len(words) <= MAX_WORDS else f"{words[: MAX_WORDS - 3]}..."


def _is_private(key: str, value: str) -> bool:
    if not value or key.lower() in _HARMLESS:
        return False
    return not ((key.endswith("UID") or key in _UID_TAGS) and _UIDS.fullmatch(value))


def _in_any_form(value: str) -> str:
    """Give a pattern for a value as it is, percent-encoded, or escaped for HTML, as a whole or in part, also twice."""
    return "".join(map(_character, value))


def _character(char: str) -> str:
    forms = [r"\+"] if char == " " else []
    for each in dict.fromkeys((char, char.lower(), char.upper())):
        forms.append(re.escape(each))
        encodings = {each.encode("utf-8", "replace"), each.encode("latin-1", "ignore")} - {b""}
        forms += ["".join(f"%(?:25)*{byte:02x}" for byte in octets) for octets in sorted(encodings)]
    for code in sorted({ord(each) for each in (char, char.lower(), char.upper()) if len(each) == 1}):
        names = ["apos"] if code == ord("'") else []
        names += [codepoint2name[code]] if code in codepoint2name else []
        forms.append(f"&(?:amp;)*(?:{'|'.join([*names, f'#0*{code}', f'#x0*{code:x}'])});")
    return f"(?:{'|'.join(forms)})"


def _from_json(text: str) -> str | None:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if isinstance(value, list) and value:
        value = value[0]
    if not isinstance(value, dict):
        return ""
    inner = value.get("error", value.get("Error"))
    if isinstance(inner, dict):
        return ": ".join(str(inner[key]) for key in ("status", "message") if inner.get(key))
    keys = ("Message", "Details", "message", "detail", "errorMessage", "error_description")
    found = [inner, *(value.get(key) for key in keys)]
    return ": ".join(dict.fromkeys(item for item in found if isinstance(item, str) and item))


def _from_markup(text: str) -> str | None:
    if not text.lstrip().startswith("<"):
        return None
    title = re.search(r"<(title|message|h1)\b[^>]*>(.*?)</\1>", text, re.DOTALL | re.IGNORECASE)
    return re.sub(r"<[^>]*>", " ", title[2]) if title else ""
