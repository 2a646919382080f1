"""How an earlier retrieval's files are known to be whole: by a mark that was made when they were.

A mark says what a file holds, how many bytes it has, and their CRC-32C (the checksum of Cloud Storage). It is made when
the part of the answer that became the file was whole, and is compared with the bytes before the file is believed. A file
that was cut, changed, or put there by something else has no mark, or another one than its bytes: it is fetched again.

A mark is an extended attribute of the file: it goes where the file goes, and nothing else lies in the folder. Where
the file system has no extended attributes, marks are lines of a hidden file.

Source: xattr(7); RFC 3720 section 12.1 (CRC-32C).
"""

from __future__ import annotations

import json
import os
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE

ATTRIBUTE = "user.airflow-dicomweb"
RECORD = ".airflow-dicomweb.jsonl"


class Checksum:
    """CRC-32C of bytes as they come."""

    def __init__(self) -> None:
        from google_crc32c import extend  # with its C library, it costs nothing beside writing

        self._extend, self._value, self.size = extend, 0, 0

    def add(self, data: bytes) -> None:
        """Take the next bytes."""
        self._value = self._extend(self._value, data)
        self.size += len(data)

    @property
    def text(self) -> str:
        """Eight hexadecimal digits."""
        return f"{self._value:08x}"


@dataclass(frozen=True, slots=True)
class Mark:
    """What a file held when it was whole.

    :param key: What it is of, such as ``studies/.../instances/...``.
    :param size: Bytes.
    :param crc32c: Eight hexadecimal digits.
    """

    key: str
    size: int
    crc32c: str

    def __str__(self) -> str:
        return f"{self.crc32c} {self.size} {self.key}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Read a mark; None if it is none."""
        crc32c, _, rest = text.partition(" ")
        size, _, key = rest.partition(" ")
        return cls(key, int(size), crc32c) if key and size.isdecimal() else None

    def fits(self, file: Path) -> bool:
        """Tell whether a file has exactly these bytes."""
        found = Checksum()
        with suppress(OSError), file.open("rb", buffering=0) as stream:
            if os.fstat(stream.fileno()).st_size != self.size:
                return False
            while block := stream.read(BLOCK_SIZE):
                found.add(block)
            return (found.size, found.text) == (self.size, self.crc32c)
        return False


class Marks:
    """The marks of the files in a folder; safe for several threads.

    :param folder: Where the hidden file is, if one is needed.
    :param attributes: Whether extended attributes are tried.
    """

    def __init__(self, folder: Path, *, attributes: bool = hasattr(os, "setxattr")) -> None:
        self._record, self._attributes, self._lock = folder / RECORD, attributes, threading.Lock()
        self._lines: dict[str, Mark] | None = None

    def set(self, file: int | Path, mark: Mark) -> None:
        """Mark a file: it is whole.

        :param file: Its path, or a descriptor of it.
        :raises OSError: If it cannot be marked.
        """
        if self._attributes:
            try:
                os.setxattr(file, ATTRIBUTE, str(mark).encode())
                return
            except OSError:
                self._attributes = False
        with self._lock:
            # One write each: lines of several processes do not get mixed up.
            with os.fdopen(os.open(self._record, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab", 0) as record:
                record.write(f"{json.dumps(str(mark))}\n".encode())
            if self._lines is not None:
                self._lines[mark.key] = mark

    def whole(self, file: Path, key: str) -> Mark | None:
        """Give the mark of a file if it is of this, and the file has the bytes that it says."""
        mark = self._attribute(file) or self._recorded().get(key)
        return mark if mark is not None and mark.key == key and mark.fits(file) else None

    def _attribute(self, file: Path) -> Mark | None:
        with suppress(OSError, AttributeError, UnicodeDecodeError):
            return Mark.parse(os.getxattr(file, ATTRIBUTE).decode())
        return None

    def _recorded(self) -> dict[str, Mark]:
        with self._lock:
            if self._lines is None:
                self._lines = {}
                with suppress(OSError):
                    for line in self._record.read_bytes().splitlines():
                        with suppress(ValueError):  # the line of a process that was killed
                            if (mark := Mark.parse(str(json.loads(line)))) is not None:
                                self._lines[mark.key] = mark
            return self._lines
