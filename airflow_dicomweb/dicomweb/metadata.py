"""Metadata as it comes: data sets of an array of any length one by one, and XML documents.

Source: DICOM PS3.18 section 10.4.1.1.2 (metadata resources), annex F (DICOM JSON model); PS3.19 annex A.1 (Native DICOM
Model); RFC 8259.
"""

from __future__ import annotations

import codecs
import json
from collections.abc import Iterable, Iterator
from io import BytesIO
from typing import Any
from xml.etree import ElementTree as ET

from airflow_dicomweb.dicomweb.dicom_json import DicomJson
from airflow_dicomweb.dicomweb.media_types import DICOM_XML, MULTIPART
from airflow_dicomweb.dicomweb.multipart import Event, PartData, PartEnd, PartStart
from airflow_dicomweb.errors import ProtocolError

ACCEPT_XML = f'{MULTIPART}; type="{DICOM_XML}"'
MAX_DATA_SET_CHARACTERS = 256 * 2**20

_WHITE_SPACE = " \t\r\n"
_ROOT = "NativeDicomModel"


def data_sets(blocks: Iterable[bytes]) -> Iterator[DicomJson]:
    """Read an array of data sets one by one; of the text, no more is held than of one data set and a block.

    :raises ProtocolError: If it is no such array, or not whole.
    """
    text = _Text(blocks)
    if not text.skips("["):
        raise ProtocolError("metadata must be an array of objects in JSON")
    if not text.skips("]"):
        while True:
            found = text.value()
            if not isinstance(found, dict):
                raise ProtocolError("metadata must be an array of objects in JSON")
            yield found
            if text.skips("]"):
                break
            if not text.skips(","):
                raise ProtocolError("metadata is not JSON, or not whole")
    if not text.at_end():
        raise ProtocolError("metadata goes on after its end")


class _Text:
    """Text that comes in blocks."""

    def __init__(self, blocks: Iterable[bytes]) -> None:
        self._blocks, self._decode = iter(blocks), codecs.getincrementaldecoder("utf-8-sig")()
        self._text, self._at, self._ended = "", 0, False
        self._wanted = 1

    def skips(self, char: str) -> bool:
        """Pass over white space and a character, if it is this one."""
        if self._next() != char:
            return False
        self._at += 1
        return True

    def at_end(self) -> bool:
        """Tell whether nothing but white space is left."""
        return not self._next()

    def value(self) -> Any:
        """Read one JSON value, as far as it goes."""
        self._next()
        # Tried anew only when twice as much has come: a large value is not read a thousand times.
        self._wanted = 1
        while True:
            if len(self._text) - self._at >= self._wanted or self._ended:
                try:
                    found, self._at = json.JSONDecoder().raw_decode(self._text, self._at)
                except (ValueError, RecursionError):
                    if self._ended:
                        raise ProtocolError("metadata is not JSON, or not whole") from None
                    self._wanted = 2 * (len(self._text) - self._at)
                else:
                    return found
            self._more()

    def _next(self) -> str:
        while True:
            while self._at < len(self._text) and self._text[self._at] in _WHITE_SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def _more(self) -> None:
        block = next(self._blocks, None)
        self._ended = block is None
        try:
            self._text = self._text[self._at :] + self._decode.decode(block or b"", final=self._ended)
        except UnicodeDecodeError:
            raise ProtocolError("metadata is not UTF-8") from None
        self._at = 0
        if len(self._text) > MAX_DATA_SET_CHARACTERS:
            raise ProtocolError(f"a data set of the metadata is longer than {MAX_DATA_SET_CHARACTERS} characters")


def documents(events: Iterable[Event]) -> Iterator[bytes]:
    """Read XML documents of the Native DICOM Model, one of each instance.

    :raises ProtocolError: If a part is none.
    """
    content = bytearray()
    for event in events:
        if isinstance(event, PartStart):
            content = bytearray()
        elif isinstance(event, PartData):
            content += event.data
        elif isinstance(event, PartEnd):
            yield _checked(bytes(content))


def _checked(document: bytes) -> bytes:
    """See that it is a well-formed document of the model."""
    head = document[:4096].lower()
    try:
        # A document type could define entities that grow without bound; the model has none.
        found = "" if b"<!doctype" in head else str(ET.parse(BytesIO(document)).getroot().tag)  # noqa: S314
    except ET.ParseError:
        found = ""
    if found.rpartition("}")[2] != _ROOT:
        raise ProtocolError(f"metadata in XML must be documents with the root {_ROOT}; a part of the answer is not one")
    return document
