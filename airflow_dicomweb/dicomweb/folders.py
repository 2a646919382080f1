"""Where retrieved files go: a folder here; a bucket is another such place.

Files get their names together, when all that was asked for came. Until then they lie in a hidden folder of mode 0700
beside their future places (``staging.py``), each marked when it was whole, so that a repetition goes on from there, after
an error as well as after the end of the process. Names are made from checked UIDs.

Source: design of this package; rename(2).
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
import threading
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, Self

from airflow_dicomweb.dicomweb.incoming import Incoming, writing
from airflow_dicomweb.dicomweb.marks import Marks
from airflow_dicomweb.dicomweb.staging import Staging
from airflow_dicomweb.errors import ConfigurationError

# With one slash too: that is what pathlib.Path makes of two.
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")


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
    :param label: What is retrieved, fit for a file name: what retrievals of one label leave is found by the next.
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
        self._staging = Staging(self._folder, label)
        self._marks = Marks(self._folder) if marks is None else marks
        self._kept: dict[str, tuple[Kept, str | None]] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._staging.leave()

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
        return os.path.lexists(f"{self._text}{folder}") or self._staging.may_hold

    def look(self, candidates: Iterable[tuple[str, str]]) -> None:
        """Find what an earlier retrieval brought, and is whole, with its name or on its way to it."""
        with writing():  # where nobody may look, nobody can write either
            if has_staged := self._staging.may_hold:
                self._staging.take()
            for key, name in candidates:
                staged = [self._staging.place_of(key)] if has_staged else []
                for path in (*staged, f"{self._text}{name}"):
                    there = key not in self._kept and Path(path).is_file()
                    if there and (mark := self._marks.whole(Path(path), key)) is not None:
                        self._kept[key] = self._entry(name, mark.size), path if path in staged else None

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
            with self._lock:
                self._staging.take()
            descriptor, path = self._staging.begin()
            return Incoming(os.fdopen(descriptor, "w+b"), path)

    def keep(self, incoming: Incoming, key: str, name: str) -> None:
        """Keep a file: it is whole.

        :raises ConfigurationError: If it cannot be written after all.
        """
        path, staged = incoming.path, self._staging.place_of(key)
        assert path is not None  # noqa: S101 - files of this class have one
        with writing():
            incoming.file.flush()
            self._marks.set(incoming.file.fileno(), incoming.mark(key))
            incoming.file.close()
            os.replace(path, staged)  # noqa: PTH105 - without making another path object of each
        with self._lock:
            self._kept[key] = self._entry(name, incoming.size), staged

    def drop(self, keys: Collection[str]) -> None:
        """Forget files that were kept, as far as they have not got their names."""
        for key in keys:
            with self._lock:
                _, staged = self._kept.pop(key, (None, None))
            if staged is not None:
                with suppress(FileNotFoundError):
                    os.unlink(staged)  # noqa: PTH108 - as above

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
        self._staging.remove()
        return {key: kept for key, (kept, _) in self._kept.items()}

    def _entry(self, name: str, size: int) -> Kept:
        return Kept(name, f"{self._text}{name}", size)


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
