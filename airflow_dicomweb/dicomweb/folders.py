"""Where retrieved files go: a folder here; a bucket is another such place.

Files get their names together, when all that was asked for came. Until then they lie in a hidden folder of mode 0700
beside their future places, each marked when it was whole, so that a repetition goes on from there, after an error as
well as after the end of the process. Names are made from checked UIDs.

Source: design of this package; rename(2).
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol, Self

from airflow_dicomweb.dicomweb.marks import Checksum, Mark, Marks
from airflow_dicomweb.errors import ConfigurationError

# With one slash too: that is what pathlib.Path makes of two.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")


class Incoming:
    """A file on its way, not whole yet.

    :param file: Where it is written; removed when it is closed, unless ``path`` says where it stays.
    :param path: Its path for now.
    """

    def __init__(self, file: BinaryIO, path: Path | None = None) -> None:
        self.file, self.path, self._checksum = file, path, Checksum()

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
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True, slots=True)
class Kept:
    """A file that is whole.

    :param name: Path below the destination.
    :param location: Where it is or will be: a path, or a ``gs://`` URI.
    :param size: Bytes.
    """

    name: str
    location: str
    size: int


class Place(Protocol):
    """Where files go. Each file has a key, which says what it is of, and a name."""

    def __enter__(self) -> Self:
        """Begin."""
        ...

    def __exit__(self, *exc_info: object) -> None:
        """End: nothing that is not whole is left."""
        ...

    def check(self, names: Iterable[str]) -> None:
        """See that files of these names can be written; nothing is written."""
        ...

    def may_hold(self, folder: str) -> bool:
        """Tell whether an earlier retrieval may have brought something below this name."""
        ...

    def look(self, candidates: Iterable[tuple[str, str]]) -> None:
        """Find what an earlier retrieval brought, and is whole: by keys and the names that a key may have."""
        ...

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the files that are whole."""
        ...

    def begin(self) -> Incoming:
        """Begin a file."""
        ...

    def keep(self, incoming: Incoming, key: str, name: str) -> None:
        """Keep a file: it is whole."""
        ...

    def drop(self, keys: Collection[str]) -> None:
        """Forget files that were kept, as far as they have not got their names."""
        ...

    def settle(self) -> None:
        """Wait until all that was kept is safe."""
        ...

    def finish(self) -> dict[str, Kept]:
        """Give all files their names."""
        ...


class Folder:
    """A folder for files that belong together.

    :param destination: Path of the folder; made with the first file if it does not exist.
    :param label: What is retrieved, fit for a file name: one folder has one retrieval of a label at a time.
    :param marks: How whole files are known.
    :raises ConfigurationError: If it is no path.
    """

    def __init__(self, destination: object, label: str, marks: Marks | None = None) -> None:
        text = local_path(destination)
        if text is None:
            raise ConfigurationError(
                "the destination must be the path of a folder (text, or a pathlib.Path), or the text gs://BUCKET/PREFIX"
            )
        self._folder = Path(text)
        self._text = os.path.join(self._folder, "")  # noqa: PTH118 - to put names behind
        self._staging = self._folder / f".{label}.part"
        self._marks = Marks(self._folder) if marks is None else marks
        self._kept: dict[str, tuple[Kept, Path | None]] = {}
        self._lock = threading.Lock()
        self._ready = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        if self._ready:
            for leftover in self._staging.glob("*.tmp"):
                leftover.unlink(missing_ok=True)
            with suppress(OSError):
                self._staging.rmdir()

    def check(self, names: Iterable[str]) -> None:
        """See that files of these names can be written; nothing is written.

        :raises ConfigurationError: If not, without the names.
        """
        paths = [f"{self._text}{name}" for name in names]
        with writing():
            for folder in {path.rpartition("/")[0] for path in paths}:
                above = Path(folder)
                while not os.path.lexists(above):
                    above = above.parent
                # Only writing tells: a file system may be read-only, or its permissions more than mode bits.
                tempfile.TemporaryFile(dir=above).close()
            if any(map(os.path.isdir, paths)):
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))

    def may_hold(self, folder: str) -> bool:
        """Tell whether an earlier retrieval may have brought something below this name, or on its way to it."""
        return os.path.lexists(f"{self._text}{folder}") or os.path.lexists(self._staging)

    def look(self, candidates: Iterable[tuple[str, str]]) -> None:
        """Find what an earlier retrieval brought, and is whole, with its name or on its way to it."""
        for key, name in candidates:
            for path, staged in ((self._staged(key), True), (self._folder / name, False)):
                with writing():  # where nobody may look, nobody can write either
                    there = key not in self._kept and path.is_file()
                if there and (mark := self._marks.whole(path, key)) is not None:
                    self._kept[key] = self._entry(name, mark.size), path if staged else None

    @property
    def keys(self) -> frozenset[str]:
        """Keys of the files that are whole."""
        with self._lock:
            return frozenset(self._kept)

    def begin(self) -> Incoming:
        """Begin a file, which only its owner can read.

        :raises ConfigurationError: If it cannot be written.
        """
        with writing():
            if not self._ready:
                self._folder.mkdir(parents=True, exist_ok=True)
                self._staging.mkdir(mode=0o700, exist_ok=True)
                self._ready = True
            # Made with mode 0600 under a name that nobody else can have.
            descriptor, name = tempfile.mkstemp(suffix=".tmp", dir=self._staging)
            return Incoming(os.fdopen(descriptor, "w+b"), Path(name))

    def keep(self, incoming: Incoming, key: str, name: str) -> None:
        """Keep a file: it is whole.

        :raises ConfigurationError: If it cannot be written after all.
        """
        path, staged = incoming.path, self._staged(key)
        assert path is not None  # noqa: S101 - files of this class have one
        with writing():
            incoming.file.close()
            self._marks.set(path, incoming.mark(key))
            os.replace(path, staged)  # noqa: PTH105 - without making another path object of each
        with self._lock:
            self._kept[key] = self._entry(name, incoming.size), staged

    def drop(self, keys: Collection[str]) -> None:
        """Forget files that were kept, as far as they have not got their names."""
        for key in keys:
            with self._lock:
                _, staged = self._kept.pop(key, (None, None))
            if staged is not None:
                staged.unlink(missing_ok=True)

    def settle(self) -> None:
        """Do nothing: what is kept is written."""

    def finish(self) -> dict[str, Kept]:
        """Give the files their names; files of the same names are replaced.

        :raises ConfigurationError: If one of them cannot get its name; then none does.
        """
        arrived = {kept.name: staged for kept, staged in self._kept.values() if staged is not None}
        if arrived:
            self.check(arrived)
        with writing():
            for folder in {f"{self._text}{name}".rpartition("/")[0] for name in arrived}:
                Path(folder).mkdir(parents=True, exist_ok=True)
            for name, staged in arrived.items():
                os.replace(staged, f"{self._text}{name}")  # noqa: PTH105 - as above
        # With it goes what processes that were killed have left of this retrieval.
        shutil.rmtree(self._staging, ignore_errors=True)
        return {key: kept for key, (kept, _) in self._kept.items()}

    def _entry(self, name: str, size: int) -> Kept:
        return Kept(name, f"{self._text}{name}", size)

    def _staged(self, key: str) -> Path:
        return self._staging / hashlib.sha256(key.encode()).hexdigest()[:40]


def local_path(given: object) -> str | None:
    """Give the text of a path; None if it is no path of this machine: a URL would become a folder of that name."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else None
    if not isinstance(text, str) or not text or "\0" in text or _URL.match(text):
        return None
    return text


@contextmanager
def arriving(place: Place) -> Iterator[Incoming]:
    """Begin a file of which nothing is left if something fails before it is kept."""
    incoming = place.begin()
    try:
        yield incoming
    except BaseException:
        incoming.discard()
        raise


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
