"""Files that are being received. Each lies where it will stay; it is an instance once a row of the index names it."""

from __future__ import annotations

import hashlib
import itertools
import os
import secrets
from contextlib import suppress
from pathlib import Path

_FILES_IN_A_FOLDER = 256
_FOLDERS = 256


class Incoming:
    """A file that is being received.

    :param path: Where it lies; its name without the suffix is its id.
    """

    def __init__(self, path: Path) -> None:
        self.id, self.path = path.stem, path
        self.size = 0
        self._hash = hashlib.sha256()
        self._kept = False
        # Instances are patients' data: nobody else may read them.
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._descriptor, view) :]

    @property
    def sha256(self) -> str:
        """Digest of what has come so far."""
        return self._hash.hexdigest()

    def close(self) -> None:
        """Say that the file is complete."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)

    def sync(self) -> None:
        """Put the bytes on the disk."""
        descriptor = os.open(self.path, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    def keep(self) -> None:
        """Say that a row of the index names the file now."""
        self._kept = True

    def discard(self) -> None:
        """Remove the file, unless it was stored."""
        self.close()
        if not self._kept:
            with suppress(FileNotFoundError):
                self.path.unlink()


class Places:
    """Where files lie: 256 folders, filled one after the other.

    Those that come together lie together, so that one sync of a folder is enough for many of them.

    :param folder: The folder of the folders.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._numbers = itertools.count(secrets.randbelow(_FOLDERS) * _FILES_IN_A_FOLDER)
        self._made: set[str] = set()

    def path(self, name: str) -> Path:
        """Give the place of a file by its id."""
        return self._folder / name[:2] / f"{name}.dcm"

    def receive(self) -> Incoming:
        """Begin to receive a file."""
        number = next(self._numbers) // _FILES_IN_A_FOLDER % _FOLDERS
        path = self.path(f"{number:02x}{secrets.token_hex(15)}")
        if path.parent.name not in self._made:
            path.parent.mkdir(exist_ok=True)
            sync_folder(self._folder)
            self._made.add(path.parent.name)
        return Incoming(path)


def sync_folder(folder: Path) -> None:
    """Put the names of the files in a folder on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
