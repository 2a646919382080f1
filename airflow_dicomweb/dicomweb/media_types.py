"""Media types: parsed, never compared as strings.

A well-known client compares ``Content-Type`` with a constant and reads ``application/dicom+json; charset=utf-8`` as an
empty answer. Orthanc quotes whole types, semicolon included, inside a parameter. Both are why the standard library's
header parser does the work here.

Source: RFC 9110 sections 8.3.1 and 12.5.1; DICOM PS3.18 section 8.7.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from email.utils import collapse_rfc2231_value
from types import MappingProxyType

DICOM = "application/dicom"
DICOM_JSON = "application/dicom+json"
DICOM_XML = "application/dicom+xml"
JSON = "application/json"
MULTIPART = "multipart/related"
OCTET_STREAM = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class MediaType:
    """A media type and its parameters; names are lower case, values unquoted.

    :param name: Type and subtype, such as ``multipart/related``; may be ``*/*`` or ``image/*`` in an Accept header.
    :param parameters: Such as ``boundary`` or ``transfer-syntax``.
    """

    name: str
    parameters: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @classmethod
    def parse(cls, text: str | None) -> MediaType:
        """Read the value of a Content-Type header; nothing at all gives a type with an empty name."""
        if not text or not text.strip():
            return cls("")
        message = Message()
        message["content-type"] = " ".join(text.split())
        pairs = message.get_params(failobj=[("", "")], unquote=True)
        name, _ = pairs[0]
        values = {key.lower(): collapse_rfc2231_value(value) for key, value in pairs[1:] if key}
        return cls(name.strip().lower(), MappingProxyType(values))

    @property
    def quality(self) -> float:
        """The ``q`` of an Accept header: 0.0 to 1.0, 1.0 when absent or unreadable."""
        try:
            return min(max(float(self.parameters.get("q", "1")), 0.0), 1.0)
        except ValueError:
            return 1.0

    @property
    def transfer_syntax(self) -> str | None:
        """The ``transfer-syntax`` parameter: a UID, ``*`` or None."""
        return self.parameters.get("transfer-syntax")

    @property
    def type_parameter(self) -> str:
        """Name of the media type in the ``type`` parameter of a multipart type, or an empty string."""
        return MediaType.parse(self.parameters.get("type")).name

    def accepts(self, name: str) -> bool:
        """Tell whether this type of an Accept header covers a type, wildcards included."""
        if self.name in {"*/*", name}:
            return True
        return self.name.endswith("/*") and name.startswith(self.name[:-1])

    def __str__(self) -> str:
        return "; ".join([self.name, *(f"{key}={_quoted(value)}" for key, value in self.parameters.items())])


def parse_accept(text: str | None) -> list[MediaType]:
    """Read an Accept header, best first (by ``q``, then as written); no header means ``*/*``.

    Types that the caller refuses (``q=0``) are left out.
    """
    types = [MediaType.parse(item) for item in _split_commas(text or "*/*")]
    return sorted((t for t in types if t.name and t.quality > 0), key=lambda t: -t.quality)


def _split_commas(text: str) -> list[str]:
    """Split at commas outside quotes."""
    items, start, quoted, escaped = [], 0, False, False
    for index, char in enumerate(text):
        if escaped:
            escaped = False
        elif quoted and char == "\\":
            escaped = True
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            items.append(text[start:index])
            start = index + 1
    return [item for item in (*items, text[start:]) if item.strip()]


def _quoted(value: str) -> str:
    """Quote a parameter value when it is not a plain token (RFC 9110 section 5.6.2)."""
    if value and all(char.isalnum() or char in "!#$%&'*+-.^_`|~" for char in value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
