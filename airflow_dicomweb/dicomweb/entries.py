"""One thing in a listing: what it is called, and how its bytes are opened.

Source: DICOM PS3.10 chapter 8 (file sets).
"""

from __future__ import annotations

import errno
import io
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from typing import BinaryIO, Protocol, Self, runtime_checkable

from airflow_dicomweb.errors import DicomWebError

_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0)


class PlainFile:
    """Opens a regular file of this machine, as a stream or without the cost of one.

    :param path: Its path.
    """

    __slots__ = ("_path",)

    def __init__(self, path: str) -> None:
        self._path = path

    def __call__(self) -> BinaryIO:
        """Open it at its start."""
        # Its own buffer size would make Python ask whether the file is a terminal.
        return open(self._path, "rb", io.DEFAULT_BUFFER_SIZE)  # noqa: PTH123 - a path object costs as much as opening

    def beginning(self, size: int) -> bytes:
        """Read at most so many bytes from its start.

        :raises OSError: If it cannot be read.
        """
        descriptor = os.open(self._path, _READING)
        try:
            return os.read(descriptor, size)
        finally:
            os.close(descriptor)


@dataclass(frozen=True, slots=True)
class Entry:
    """Something that can be opened and read, as often as needed, by any thread.

    :param name: What reports call it. Private: it may hold a patient's name.
    :param relative: Its name without the part that depends on where the listing is: shards are made of it.
    :param size: Bytes.
    :param open: Opens it at its start; raises OSError or a DicomWebError if it cannot.
    :param version: Differs whenever the bytes under this name do; empty if there is nothing to tell by.
    """

    name: str
    relative: str
    size: int
    open: Callable[[], BinaryIO]
    version: str = ""

    @classmethod
    def from_bytes(cls, name: str, content: bytes) -> Self:
        """Make something to store of bytes in memory.

        :param name: What reports call it; of a ZIP file it ends in ``.zip``.
        :param content: A whole file.
        """
        return cls(name, name, len(content), partial(BytesIO, content))

    @classmethod
    def unreadable(cls, name: str, relative: str, reason: str) -> Self:
        """Make one that says why it cannot be opened: it gets its outcome like any other."""
        return cls(name, relative, 0, partial(_refuse, UnreadableSourceError, reason))

    @classmethod
    def unlisted(cls, name: str, relative: str, reason: str) -> Self:
        """Make one that stands for all that may be below it; its relative name ends with a slash."""
        return cls(name, relative, 0, partial(_refuse, UnlistedDirectoryError, reason))


class UnreadableSourceError(OSError):
    """The bytes of a source cannot be had.

    :param reason: Why, without its name.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(errno.EIO, reason)


class UnlistedDirectoryError(UnreadableSourceError):
    """A source is a directory or an archive that cannot be listed: nobody knows how many files are in it."""


@runtime_checkable
class Opener(Protocol):
    """A source that lists by itself what it can open: another kind of storage, say."""

    def find_entries(self) -> Iterator[Entry]:
        """List everything, in a stable order.

        :raises ConfigurationError: If there is nothing, or it is not to be found.
        """
        ...


def reason_of(error: OSError | DicomWebError) -> str:
    """Say why something cannot be read, without its name."""
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)


def _refuse(error: type[UnreadableSourceError], reason: str) -> BinaryIO:
    raise error(reason)
