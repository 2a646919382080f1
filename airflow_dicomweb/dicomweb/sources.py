"""What to store: files, directories, globs and Cloud Storage objects, as one stable stream of sources.

Sources come in the order of their names, whatever order they were given or listed in, and one by one: a directory of a
million files is never held in memory. Everything below a directory is listed, extension or not, hidden or not, through
symbolic links: what is not DICOM is found out by reading it, and named in the result.

A glob knows ``*`` (any characters but a slash), ``?`` (one of them), ``[...]`` (one of these) and ``**`` (any characters,
slashes included): ``incoming/**`` is everything below ``incoming``.

Source: PS3.10 section 8.2 (file ids have no extension), Cloud Healthcare API v1 ``GcsSource`` (its wildcards).
"""

from __future__ import annotations

import errno
import hashlib
import heapq
import logging
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from airflow_dicomweb.errors import ConfigurationError

_log = logging.getLogger(__name__)

SourceArgument = str | os.PathLike[str] | Iterable[str | os.PathLike[str]]
"""A path of a file or directory, a glob, a ``gs://`` pattern, or several of these."""

Shard = tuple[int, int]
"""``(i, n)``: the i-th of n parts, counted from 0."""

_MAGIC = re.compile(r"[*?[]")
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://")
_NO_TARGET = frozenset({errno.ELOOP, errno.ENOENT, errno.ENOTDIR})
_ACCEPTED = "an existing file or directory, a glob such as 'incoming/**', or gs://BUCKET/PREFIX/** is accepted"


@dataclass(frozen=True, slots=True)
class Source:
    """Something that can be opened and read, as often as needed.

    :param ordinal: Position in the whole listing, from 0, before shards are taken: a source has the same number in
        every shard.
    :param name: Path or ``gs://`` URI. Private: it may hold a patient's name.
    :param size: Bytes, when it was listed.
    :param open: Opens it at its start; raises OSError or a DicomWebError if it cannot, UnlistedDirectoryError if it is
        a directory.
    :param version: Differs whenever the bytes under this name do: a time of change, or a generation; empty if there is
        nothing to tell by.
    """

    ordinal: int
    name: str
    size: int
    open: Callable[[], BinaryIO]
    version: str = ""


class UnlistedDirectoryError(OSError):
    """A source is a directory that cannot be listed: nobody knows how many files are below it."""


class Buckets(Protocol):
    """Where ``gs://`` sources are listed and opened; ``airflow_dicomweb.healthcare.gcs.Buckets`` is one."""

    def find(self, uri: str) -> Iterator[Any]:
        """List the objects that ``gs://bucket/pattern`` stands for, by name: each has ``uri``, ``name`` and ``size``."""
        ...

    def open(self, found: Any) -> BinaryIO:
        """Open one of them at its start."""
        ...


@dataclass(frozen=True, slots=True)
class _Found:
    name: str
    relative: str
    size: int
    open: Callable[[], BinaryIO]
    version: str = ""


def list_sources(
    source: SourceArgument, *, shard: Shard | None = None, buckets: Buckets | None = None
) -> Iterator[Source]:
    """List what a source argument stands for, in the order of the names.

    :param source: See :data:`SourceArgument`. A path that exists is never taken for a glob.
    :param shard: ``(i, n)`` lists only the sources whose relative path hashes to i modulo n: n tasks that get the same
        source and one shard each list everything, and nothing twice.
    :param buckets: Needed for ``gs://`` sources.
    :raises ConfigurationError: At once, if something does not exist, nothing matches, or the shard is none.
    """
    index, count = _check_shard(shard)
    given: list[object] = [source]
    if isinstance(source, Iterable) and not isinstance(source, str | os.PathLike):
        given = list(source)
    if not given:
        raise ConfigurationError(f"there is no source: {_ACCEPTED}")
    listings = [_checked(_listing(each, buckets)) for each in given]
    # Merged, not sorted: only the next name of each listing is held.
    merged = listings[0] if len(listings) == 1 else heapq.merge(*listings, key=lambda found: found.name)
    return (
        Source(ordinal, found.name, found.size, found.open, found.version)
        for ordinal, found in enumerate(merged)
        if count == 1 or _shard_of(found.relative, count) == index
    )


def _check_shard(shard: Shard | None) -> Shard:
    if shard is None:
        return 0, 1
    match shard:
        case (int(index), int(count)) if 0 <= index < count:
            return index, count
    raise ConfigurationError("a shard must be (i, n) with whole numbers and 0 <= i < n, such as (0, 4)")


def _shard_of(relative: str, count: int) -> int:
    return int.from_bytes(hashlib.sha256(os.fsencode(relative)).digest()[:8]) % count


def _checked(listing: Iterator[_Found]) -> Iterator[_Found]:
    """Take the first, so that an empty match is an error before anything is done."""
    first = next(listing, None)
    if first is None:
        raise ConfigurationError(f"a source matches no file: {_ACCEPTED}")
    return chain([first], listing)


def _listing(source: object, buckets: Buckets | None) -> Iterator[_Found]:
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigurationError(f"a source of type {type(source).__name__} is not usable: {_ACCEPTED}")
    if not text:
        raise ConfigurationError(f"a source is empty: {_ACCEPTED}")
    if text.startswith("gs://"):
        return _objects(text, buckets)
    if _SCHEME.match(text):
        raise ConfigurationError(f"a source with a scheme must be gs://: {_ACCEPTED}")
    path = Path(text)
    mode = _mode(path)
    if mode is not None and stat.S_ISDIR(mode):
        return _below(path, "", frozenset())
    if mode is not None:
        return iter([_file(path, path.name)])
    if _MAGIC.search(text):
        return _matching(text)
    raise ConfigurationError(f"a source does not exist: {_ACCEPTED}")


def is_empty_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a folder with nothing to store in it or below it.

    :raises ConfigurationError: If that cannot be found out.
    """
    folder = Path(path)
    mode = _mode(folder)
    return mode is not None and stat.S_ISDIR(mode) and next(_below(folder, "", frozenset()), None) is None


def _mode(path: Path) -> int | None:
    """Look up what there is at a path, if anything."""
    try:
        return path.stat().st_mode
    except ValueError:  # a null byte, say: no path at all
        return None
    except OSError as error:
        # A glob may be longer than any name.
        if error.errno in _NO_TARGET or (error.errno == errno.ENAMETOOLONG and _MAGIC.search(str(path))):
            return None
        raise ConfigurationError(f"a source cannot be read: {error.strerror}; {_ACCEPTED}") from None


def _objects(uri: str, buckets: Buckets | None) -> Iterator[_Found]:
    if buckets is None:
        raise ConfigurationError("gs:// sources need buckets=: airflow_dicomweb.healthcare.gcs.Buckets() is accepted")
    return (
        _Found(each.uri, each.name, each.size, partial(buckets.open, each), str(getattr(each, "generation", "")))
        for each in buckets.find(uri)
    )


def _file(path: Path, relative: str) -> _Found:
    try:
        found = path.stat()
    except OSError:  # a dangling link, say: opening it will say so, and it gets its outcome
        return _Found(str(path), relative, 0, partial(_open, path))
    if stat.S_ISREG(found.st_mode):
        return _Found(str(path), relative, found.st_size, partial(_open, path), str(found.st_mtime_ns))
    return _Found(str(path), relative, 0, partial(_refuse, OSError, "not a regular file"))


def _open(path: Path) -> BinaryIO:
    return path.open("rb")


def _refuse(error: type[OSError], reason: str) -> BinaryIO:
    raise error(reason)


def _below(root: Path, relative: str, ancestors: frozenset[tuple[int, int]]) -> Iterator[_Found]:
    """List everything below a directory in the order of the whole names, one directory in memory at a time."""
    folder = root / relative
    try:
        found = folder.stat()
        with os.scandir(folder) as listing:
            entries = sorted(f"{entry.name}/" if _is_directory(entry) else entry.name for entry in listing)
    except OSError:  # not readable: nothing below it may be passed over silently
        refuse = partial(_refuse, UnlistedDirectoryError, "a directory that cannot be listed")
        yield _Found(f"{folder}/", relative, 0, refuse)
        return
    identity = (found.st_dev, found.st_ino)
    if identity in ancestors:  # a symbolic link to a directory above
        return
    for entry in entries:  # with its slash, a directory sorts where its files belong
        if entry.endswith("/"):
            yield from _below(root, f"{relative}{entry}", ancestors | {identity})
        else:
            yield _file(folder / entry, f"{relative}{entry}")


def _is_directory(entry: os.DirEntry[str]) -> bool:
    """Tell whether there may be files below an entry; one that is broken says nothing about the others."""
    try:
        return entry.is_dir()
    except OSError as error:
        # A link to itself leads nowhere; one that may not be followed may lead to a directory.
        return error.errno not in _NO_TARGET


def _matching(pattern: str) -> Iterator[_Found]:
    first = next(_MAGIC.finditer(pattern)).start()
    fixed = pattern[: pattern.rfind("/", 0, first) + 1]
    mode = _mode(Path(fixed))
    if mode is None or not stat.S_ISDIR(mode):
        raise ConfigurationError(f"the folder of a glob does not exist: {_ACCEPTED}")
    return _only(pattern[len(fixed) :], _below(Path(fixed), "", frozenset()))


def _only(pattern: str, listing: Iterator[_Found]) -> Iterator[_Found]:
    """Pass what matches; how many do not is logged, so that nobody misses them unawares."""
    left_out, expression = 0, re.compile(_expression(pattern), re.DOTALL)
    for found in listing:
        unlisted = found.relative == "" or found.relative.endswith("/")
        # What cannot be listed may be a link to a file.
        if expression.fullmatch(found.relative.rstrip("/")) or (unlisted and _may_hold(pattern, found.relative)):
            yield found
        else:
            left_out += 1
    if left_out:
        _log.info("%d files below the folder of the pattern do not match it and are left out", left_out)


def _may_hold(pattern: str, directory: str) -> bool:
    """Tell whether something below a directory could match."""
    folders, depth = pattern.split("/")[:-1], directory.count("/")
    if depth == 0 or "**" in pattern:
        return True
    return re.fullmatch(_expression("".join(f"{each}/" for each in folders[:depth])), directory) is not None


def _expression(pattern: str) -> str:
    tokens: Sequence[str] = re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    expressions = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(expressions.get(token) or _one_of(token) for token in tokens)


def _one_of(token: str) -> str:
    if len(token) < 3:
        return re.escape(token)
    inside = token[1:-1].replace("\\", r"\\")
    return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
