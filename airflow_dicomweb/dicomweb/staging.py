"""The hidden folder in which retrieved files wait until all that was asked for came.

One retrieval at a time has the folder of what it asks for, and finds there what an earlier one brought. It locks the folder;
the lock ends with the process, however that ends. One that runs meanwhile has a folder of its own, which goes with it. Where
the file system has no locks, nobody can tell, and they share.

Source: flock(2), rename(2).
"""

from __future__ import annotations

import fcntl
import glob
import hashlib
import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path

_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


class Staging:
    """A hidden folder of mode 0700. Its errors are OSErrors.

    :param folder: In which folder; made with it if it does not exist.
    :param label: What is retrieved, fit for a file name.
    """

    def __init__(self, folder: Path, label: str) -> None:
        self._folder, self._first = folder, folder / f".{label}.part"
        self._path, self._lock = "", -1
        # Names that no other process can have where there are no locks.
        self._token, self._numbers = secrets.token_hex(8), count()

    @property
    def may_hold(self) -> bool:
        """Whether an earlier retrieval may have left something."""
        return os.path.lexists(self._first)

    def take(self) -> None:
        """Have a folder, if there is none yet."""
        if self._lock >= 0:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        path, lock = str(self._first), _locked(self._first)
        while lock is None:
            path = tempfile.mkdtemp(prefix=f"{self._first.name}.", dir=self._folder)
            lock = _locked(Path(path))
        self._path, self._lock = f"{path}/", lock

    def begin(self) -> tuple[int, str]:
        """Make a file that only its owner can read, and give its descriptor and its path."""
        path = f"{self._path}{self._token}-{next(self._numbers)}.tmp"
        return os.open(path, _NEW, 0o600), path

    def place_of(self, key: str) -> str:
        """Give the path of a file that is whole."""
        return f"{self._path}{hashlib.sha256(key.encode()).hexdigest()[:40]}"

    def leave(self) -> None:
        """Leave what is whole for a later retrieval, if that will look there, and nothing else."""
        if self._lock < 0:
            return
        if self._path == f"{self._first}/":
            for leftover in self._first.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
            with suppress(OSError):
                self._first.rmdir()
        else:
            shutil.rmtree(self._path, ignore_errors=True)
        os.close(self._lock)
        self._lock = -1

    def remove(self) -> None:
        """Remove the folder, and what processes that were killed have left of this retrieval."""
        if self._lock >= 0:
            shutil.rmtree(self._path, ignore_errors=True)
        for other in self._left_alone():
            shutil.rmtree(other, ignore_errors=True)

    def _left_alone(self) -> Iterator[str]:
        """Give the folders of which no process has the lock, while it is had here."""
        for path in glob.glob(f"{glob.escape(str(self._first))}*"):  # noqa: PTH207 - hidden ones too, as they are
            try:
                lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            except OSError:
                continue
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                yield path
            except OSError:
                continue
            finally:
                os.close(lock)


def _locked(path: Path) -> int | None:
    """Make a folder and lock it; None if another has the lock."""
    while True:
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
        try:
            lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # who had it removed it just now
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            return None
        except OSError:
            return lock  # a file system without locks
        with suppress(FileNotFoundError):
            if path.stat().st_ino == os.fstat(lock).st_ino:
                return lock
        os.close(lock)
