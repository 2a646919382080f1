"""Files of this machine: what there is at a path, and everything below a directory in the order of the whole names.

Source: POSIX.1 (directories, symbolic links); DICOM PS3.10 section 8.2 (file ids have no extension).
"""

from __future__ import annotations

import errno
import heapq
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from airflow_dicomweb.dicomweb.archives import is_archive
from airflow_dicomweb.dicomweb.dicomdir import Folders, index_entries, is_dicomdir
from airflow_dicomweb.dicomweb.entries import Entry, PlainFile

_HERE = Path()
_NO_TARGET = frozenset({errno.ELOOP, errno.ENOENT, errno.ENOTDIR})


def mode_of(path: Path, *, may_be_too_long: bool = False) -> int | None:
    """Look up what there is at a path, if anything.

    :param may_be_too_long: A name longer than any can be is that of nothing.
    :raises OSError: If that cannot be found out.
    """
    try:
        return path.stat().st_mode
    except ValueError:  # a null byte, say: no path at all
        return None
    except OSError as error:
        if error.errno in _NO_TARGET or (error.errno == errno.ENAMETOOLONG and may_be_too_long):
            return None
        raise


def file_entry(path: str | os.PathLike[str], relative: str) -> Entry:
    """Give a file, whatever it is: opening what cannot be opened says so."""
    name = os.fspath(path)
    try:
        found = os.stat(name)  # noqa: PTH116 - a path object of each file costs more than the rest of its listing
    except OSError:  # a dangling link, say: opening it will say so, and it gets its outcome
        return Entry(name, relative, 0, PlainFile(name))
    if stat.S_ISREG(found.st_mode):
        return Entry(name, relative, found.st_size, PlainFile(name), str(found.st_mtime_ns))
    return Entry.unreadable(name, relative, "not a regular file")


def below(root: Path, relative: str = "", ancestors: frozenset[tuple[int, int]] = frozenset()) -> Iterator[Entry]:
    """List everything below a directory in the order of the whole names, one directory in memory at a time.

    What a DICOMDIR names and is missing is among it. An archive is one entry, where its members belong.
    """
    folder = root / relative
    try:
        found = folder.stat()
        names = _names_in(folder)
    except OSError:  # not readable: nothing below it may be passed over silently
        yield Entry.unlisted(f"{folder}/", relative, "a directory that cannot be listed")
        return
    identity = (found.st_dev, found.st_ino)
    if identity in ancestors:  # a symbolic link to a directory above
        return
    indexes = [name for name in names if is_dicomdir(name)]
    listed = _listed(root, relative, [name for name in names if name not in indexes], ancestors | {identity})
    if not indexes:
        yield from listed
        return
    folders = Folders(lambda above: _names_in(folder / above))
    indexed = [
        each
        for name in indexes
        for each in index_entries(file_entry(folder / name, f"{relative}{name}"), folders.exists)
    ]
    yield from heapq.merge(listed, sorted(indexed, key=_name_of), key=_name_of)


def _listed(root: Path, relative: str, names: list[str], ancestors: frozenset[tuple[int, int]]) -> Iterator[Entry]:
    # With its slash, a directory sorts where its files belong, and so does an archive.
    above = "" if root == _HERE else os.path.join(root, "")  # noqa: PTH118 - to put names behind
    for name in sorted(names, key=lambda name: f"{name}/" if is_archive(name) else name):
        if name.endswith("/"):
            yield from below(root, f"{relative}{name}", ancestors)
        else:
            yield file_entry(f"{above}{relative}{name}", f"{relative}{name}")


def _name_of(entry: Entry) -> str:
    return entry.name


def _names_in(folder: Path) -> list[str]:
    with os.scandir(folder) as listing:
        return [f"{entry.name}/" if _is_directory(entry) else entry.name for entry in listing]


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Tell whether there may be files below an entry; one that is broken says nothing about the others."""
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself leads nowhere; one that may not be followed may lead to a directory.
        return error.errno not in _NO_TARGET
