"""Media types of pixel data, and the transfer syntaxes that each is for.

Source: Cloud Healthcare API, DICOM conformance statement, "Store transaction" and "Retrieve transaction"; DICOM PS3.18
section 8.7.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_JPEG_FAMILY = "1.2.840.10008.1.2.4."


def _syntaxes(numbers: str) -> frozenset[str]:
    return frozenset(_JPEG_FAMILY + number for number in numbers.split())


_BOTH = {
    "image/jpeg": _syntaxes("50 51 57 70"),
    "image/dicom-rle": frozenset(["1.2.840.10008.1.2.5"]),
    "image/jls": _syntaxes("80 81"),
    "image/jp2": _syntaxes("90 91"),
}
STORED: Final[Mapping[str, frozenset[str]]] = {**_BOTH, "image/jpx": _syntaxes("92 93")}
"""What compressed pixel data can be given as, beside metadata."""

RETRIEVED: Final[Mapping[str, frozenset[str]]] = {
    **_BOTH,
    "image/jphc": _syntaxes("201 202 203"),
    "image/jxl": _syntaxes("110 112"),
}
"""What compressed frames can be retrieved as."""
