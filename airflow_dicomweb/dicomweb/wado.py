"""Values of the retrieve transaction: what is accepted, and what an answer is made of.

How what is asked for is asked for, and how the parts of an answer are read; what becomes of them is not known here.

Source: DICOM PS3.18 section 10.4 (retrieve transaction), section 8.7.3 (media types).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from airflow_dicomweb.dicomweb.media_types import DICOM, MULTIPART, MediaType
from airflow_dicomweb.dicomweb.multipart import Event, Parser, PartData, PartEnd, PartStart
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, TransportError

ACCEPT_STORED = f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*'
"""Instances as they were stored: without ``*`` a server may decompress them."""

ACCEPT_STORED_SINGLE = f"{DICOM}; transfer-syntax=*"

RENDERED = ("image/png", "image/jpeg")


@dataclass(frozen=True, slots=True)
class RetrievedFile:
    """A file of its own, here or in a bucket.

    :param location: Where it is, such as ``destination/study/series/instance.dcm``: a path, or a ``gs://`` URI.
    :param resource: What it holds: the identity of an instance, from its own data set; for metadata, a study or series.
    :param size: Bytes.
    :param frame: Number of the frame that it holds, from 1; None if it holds no single frame.
    """

    location: str
    resource: ResourcePath
    size: int
    frame: int | None = None

    @property
    def path(self) -> Path:
        """Where it is, if it is here.

        :raises ConfigurationError: If it is in a bucket.
        """
        if self.location.startswith("gs://"):
            raise ConfigurationError("a retrieved file that is an object in a bucket has a location, and no path")
        return Path(self.location)

    @property
    def instance(self) -> InstancePath:
        """The instance that it holds, or holds something of.

        :raises ConfigurationError: If it holds something of a study or series.
        """
        if not isinstance(self.resource, InstancePath):
            raise ConfigurationError("what was retrieved is of a study or a series, not of one instance")
        return self.resource

    def __fspath__(self) -> str:
        return str(self.path)


def parts(blocks: Iterable[bytes], content_type: str | None, part_type: str = DICOM) -> Iterator[Event]:
    """Read the parts of an answer: of a multipart body, or the one that a single part body is.

    :param content_type: The answer's Content-Type.
    :param part_type: Media type of a single part.
    :raises ProtocolError: If the answer is neither.
    :raises TransportError: If it is cut.
    """
    media_type = MediaType.parse(content_type)
    name = media_type.name
    if name == MULTIPART:
        parser = Parser(media_type.parameters.get("boundary", ""))
        for block in blocks:
            yield from parser.feed(block)
        try:
            parser.close()
        except ProtocolError as cut:
            # Without a length, this is how a broken connection shows: asking again may help.
            raise TransportError(str(cut)) from None
    elif name == part_type:
        yield PartStart({"content-type": content_type or ""})
        for block in blocks:
            yield PartData(block)
        yield PartEnd()
    else:
        shown = name or "without a Content-Type"
        raise ProtocolError(f"{part_type} was expected, alone or in {MULTIPART}; the answer is {shown}")


def only_part(events: Iterable[Event]) -> Iterator[bytes]:
    """Give the content of the one part that there must be.

    :raises ProtocolError: If there are more, or none.
    """
    count = 0
    for event in events:
        if isinstance(event, PartData):
            yield event.data
        count += isinstance(event, PartStart)
        if count > 1:
            break
    if count != 1:
        raise ProtocolError(f"one part was expected, the answer has {'more' if count else 'none'}")


def first_part(events: Iterable[Event]) -> bytes:
    """Give the content of the first part.

    :raises ProtocolError: If there is none.
    """
    content = bytearray()
    for event in events:
        if isinstance(event, PartData):
            content += event.data
        elif isinstance(event, PartEnd):
            return bytes(content)
    raise ProtocolError("the answer has no part")


def digest(blocks: Iterable[bytes]) -> str:
    """Give the SHA-256 of some bytes, in hexadecimal."""
    summed = hashlib.sha256()
    for block in blocks:
        summed.update(block)
    return summed.hexdigest()


def check_whole(status: int, path: str) -> None:
    """See that a successful answer holds what was asked for.

    :param path: What was asked for, without a query.
    :raises NotFoundError: If the server says that there is nothing (204).
    :raises ProtocolError: If it gives only some of it (206), or something else.
    """
    if status == 204:
        raise NotFoundError(status, "GET", path, "the server says that there is nothing")
    if status == 206:
        raise ProtocolError(f"the server gives only a part of {path} (status 206): nothing of the answer is used")
    if status != 200:
        raise ProtocolError(f"{path} was asked for, and the answer is neither that nor an error: status {status}")


def check_viewport(viewport: object) -> str:
    """Write the size of a picture as a query has it.

    :raises ConfigurationError: If it is none.
    """
    match viewport:
        case (int(width), int(height)) if width > 0 and height > 0:
            return f"{width},{height}"
    raise ConfigurationError("a viewport must be (width, height), whole numbers of pixels, such as (256, 256)")


def is_part_of(instance: InstancePath, wanted: ResourcePath) -> bool:
    """Tell whether an instance is what was asked for, or belongs to it."""
    return str(instance) == str(wanted) or str(instance).startswith(f"{wanted}/")
