"""A file on its way: what is written to it is summed, and its beginning is known without reading it.

Source: design of this package.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import BinaryIO, cast

from airflow_dicomweb.dicomweb.marks import Checksum, Mark
from airflow_dicomweb.errors import ConfigurationError

# The UIDs of an instance are nearly always in so many bytes; what came with them is held too, one block.
_BEGINNING = 4096


class Incoming:
    """A file on its way, not whole yet.

    :param file: Where it is written; removed when it is closed, unless ``path`` says where it stays.
    :param path: Its path for now.
    """

    def __init__(self, file: BinaryIO, path: str | os.PathLike[str] | None = None) -> None:
        self.file, self.path, self._checksum = file, path, Checksum()
        self._beginning = b""

    @property
    def size(self) -> int:
        """Bytes so far."""
        return self._checksum.size

    def write(self, data: bytes) -> None:
        """Take the next bytes.

        :raises ConfigurationError: If they cannot be written.
        """
        try:  # a context manager would cost as much as the checksum
            self.file.write(data)
        except OSError as error:
            raise _unwritable(error) from None
        self._checksum.add(data)
        if len(self._beginning) < _BEGINNING:
            self._beginning += data

    def beginning(self) -> BinaryIO:
        """Give something to read it from its beginning, once, which takes what it can from memory."""
        found, self._beginning = self._beginning, b""
        return cast("BinaryIO", _Beginning(found, self.file))

    def rewound(self) -> BinaryIO:
        """Give the file, at its beginning.

        :raises ConfigurationError: If it could not be written.
        """
        with writing():
            self.file.seek(0)
        return self.file

    def mark(self, key: str) -> Mark:
        """Say what it holds, now that it is whole."""
        return Mark(key, self.size, self._checksum.text)

    def discard(self) -> None:
        """Let nothing be left of it."""
        with suppress(OSError):
            self.file.close()
        if self.path is not None:
            with suppress(FileNotFoundError):
                os.unlink(self.path)  # noqa: PTH108 - without making a path object of each


class _Beginning:
    """Reads a file that was just written without asking the system for what is known."""

    def __init__(self, known: bytes, file: BinaryIO) -> None:
        self._known, self._file, self._at = known, file, 0

    def read(self, size: int) -> bytes:
        """Read up to so many bytes."""
        end = self._at + size
        if end <= len(self._known):
            found = self._known[self._at : end]
        else:
            with writing():
                self._file.seek(self._at)
                found = self._file.read(size)
        self._at += len(found)
        return found


@contextmanager
def writing() -> Iterator[None]:
    """Say why files cannot be written, without their names.

    :raises ConfigurationError: In place of an OSError.
    """
    try:
        yield
    except OSError as error:
        raise _unwritable(error) from None


def _unwritable(error: OSError) -> ConfigurationError:
    reason = error.strerror or type(error).__name__
    return ConfigurationError(f"the destination must be a folder that can be written to: {reason}")
