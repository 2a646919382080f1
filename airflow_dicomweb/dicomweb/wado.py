"""Values of the retrieve transaction: what is accepted, and how an answer becomes files.

An answer becomes files or it does not: parts are written to ``.part`` files that only their owner can read, and get
their names when the answer came whole, holds what was asked for, and as much of it as the server's own search names.
Names are made from checked UIDs, which are read from what was written.

Source: DICOM PS3.18 section 10.4 (retrieve transaction), section 8.7.3 (media types).
"""

from __future__ import annotations

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airflow_dicomweb.dicomweb.media_types import DICOM, MULTIPART, MediaType
from airflow_dicomweb.dicomweb.multipart import Event, Parser, PartData, PartEnd, PartStart
from airflow_dicomweb.dicomweb.part10 import UnusableFile, read_header
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath
from airflow_dicomweb.errors import ConfigurationError, ProtocolError, TransportError

ACCEPT_STORED = f'{MULTIPART}; type="{DICOM}"; transfer-syntax=*'
"""Instances as they were stored: without ``*`` a server may decompress them."""

ACCEPT_STORED_SINGLE = f"{DICOM}; transfer-syntax=*"

RENDERED = ("image/png", "image/jpeg")


@dataclass(frozen=True, slots=True)
class RetrievedFile:
    """An instance in a file of its own.

    :param path: Where it is: ``destination/study/series/instance.dcm``.
    :param instance: Its identity, from its own data set.
    :param size: Bytes.
    """

    path: Path
    instance: InstancePath
    size: int

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


class Download:
    """The files of one answer on their way; those that did not get their names are removed in the end.

    :param destination: Folder for the files; made with the first of them if it does not exist.
    :raises ConfigurationError: If files cannot be written there.
    """

    def __init__(self, destination: str | os.PathLike[str]) -> None:
        self._destination = Path(destination)
        self._unnamed: dict[InstancePath, tuple[Path, int]] = {}
        self._open: Path | None = None

    def __enter__(self) -> Self:
        check_destination(self._destination)
        return self

    def __exit__(self, *exc_info: object) -> None:
        for path, _ in self._unnamed.values():
            path.unlink(missing_ok=True)
        if self._open is not None:
            self._open.unlink(missing_ok=True)

    def receive(self, events: Iterator[Event], wanted: ResourcePath) -> frozenset[InstancePath]:
        """Write each part to a file and read its identity.

        :param events: Of one answer.
        :param wanted: What was asked for.
        :return: The instances that came.
        :raises ProtocolError: If one came twice, is no instance, or is not part of what was asked for.
        """
        for event in events:
            if isinstance(event, PartStart):
                instance, size = self._write(events)
                if not _is_part_of(instance, wanted):
                    raise ProtocolError(f"{wanted} was asked for, the answer holds {instance}")
                if instance in self._unnamed:
                    raise ProtocolError(f"the answer holds {instance} twice")
                if self._open is not None:
                    self._unnamed[instance] = (self._open, size)
                self._open = None
        return frozenset(self._unnamed)

    def _write(self, events: Iterator[Event]) -> tuple[InstancePath, int]:
        with _writing():  # what breaks while events are read is a TransportError, never an OSError
            self._destination.mkdir(parents=True, exist_ok=True)
            # Made with mode 0600 under a name that nobody else can have.
            descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=self._destination)
            self._open = Path(name)
            with os.fdopen(descriptor, "wb") as file:
                for event in events:
                    if isinstance(event, PartEnd):
                        break
                    if isinstance(event, PartData):
                        file.write(event.data)
                size = file.tell()
            try:
                return read_header(self._open).path, size
            except UnusableFile as reason:
                raise ProtocolError(f"a part of the answer is not an instance: {reason}") from None

    def finish(self) -> list[RetrievedFile]:
        """Give the files their names, in the order of the instances; files of the same names are replaced.

        :raises ConfigurationError: If one of them cannot get its name; then none does.
        """
        for instance in self._unnamed:
            check_destination(self._destination, instance)
        named = []
        with _writing():
            for instance in self._unnamed:
                (self._destination / instance.study / instance.series).mkdir(parents=True, exist_ok=True)
            for instance in sorted(self._unnamed):
                part, size = self._unnamed[instance]
                path = self._destination / instance.study / instance.series / f"{instance.instance}.dcm"
                part.replace(path)
                named.append(RetrievedFile(path, instance, size))
                del self._unnamed[instance]
        return named


def check_destination(destination: object, wanted: ResourcePath | None = None) -> None:
    """See that files can be written to a folder, or that it can be made; nothing is made.

    :param wanted: What is going there, to see that its own folders and names are free as well.
    :raises ConfigurationError: If not.
    """
    text = os.fspath(destination) if isinstance(destination, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text:
        raise ConfigurationError("the destination must be the path of a folder: text, or a pathlib.Path")
    folder = Path(text)
    if wanted is not None:
        folder = folder / wanted.study / getattr(wanted, "series", "")
    with _writing():
        while not os.path.lexists(folder):
            folder = folder.parent
        # Only writing tells: a file system may be read-only, or its permissions more than mode bits.
        tempfile.TemporaryFile(dir=folder).close()
        if isinstance(wanted, InstancePath) and (folder / f"{wanted.instance}.dcm").is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))


@contextmanager
def _writing() -> Iterator[None]:
    """Say why files cannot be written, without their names."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise ConfigurationError(f"the destination must be a folder that can be written to: {reason}") from None


def check_complete(wanted: ResourcePath, missing: frozenset[InstancePath], unnamed: frozenset[InstancePath]) -> None:
    """Judge the difference between what came and what the server's own search names.

    :param missing: Named, and did not come.
    :param unnamed: Came, and not named.
    :raises ProtocolError: If there is a difference.
    """
    if missing or unnamed:
        raise ProtocolError(
            f"what came of {wanted} is not what the server's own search names: "
            f"{len(missing)} instances are missing, {len(unnamed)} are not named"
        )


def check_viewport(viewport: object) -> str:
    """Write the size of a picture as a query has it.

    :raises ConfigurationError: If it is none.
    """
    match viewport:
        case (int(width), int(height)) if width > 0 and height > 0:
            return f"{width},{height}"
    raise ConfigurationError("a viewport must be (width, height), whole numbers of pixels, such as (256, 256)")


def _is_part_of(instance: InstancePath, wanted: ResourcePath) -> bool:
    return str(instance) == str(wanted) or str(instance).startswith(f"{wanted}/")
