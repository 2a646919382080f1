"""What to store: files, directories, globs, archives, objects and whatever opens itself, as one stable stream of sources.

Sources come one by one: a directory of a million files is never held in memory. Those of a list come in the order of
their names, whatever order they were given or listed in; those of an iterator are taken from it as they are needed, in
its order.

- Everything below a directory is listed, extension or not, hidden or not, through symbolic links: what is not DICOM is
  found out by reading it, and named in the result.
- A file whose name ends in ``.zip`` is a folder of its members, wherever it is found (``archives.py``).
- What the DICOMDIR of a directory or an archive names and is not there fails (``dicomdir.py``).
- A glob knows ``*`` (any characters but a slash), ``?`` (one of them), ``[...]`` (one of these) and ``**`` (any
  characters, slashes included): ``incoming/**`` is everything below ``incoming``.

Source: PS3.10 section 8.2 (file ids have no extension), Cloud Healthcare API v1 ``GcsSource`` (its wildcards).
"""

from __future__ import annotations

import hashlib
import heapq
import os
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO, Protocol

from airflow_dicomweb.dicomweb.archives import expanded
from airflow_dicomweb.dicomweb.entries import Entry, Opener, UnlistedDirectoryError, UnreadableSourceError
from airflow_dicomweb.dicomweb.globs import fits, is_glob, matching, split_glob
from airflow_dicomweb.dicomweb.local_files import below, file_entry, mode_of
from airflow_dicomweb.errors import ConfigurationError, DicomWebError

__all__ = [
    "Buckets",
    "Entry",
    "Opener",
    "Shard",
    "Source",
    "SourceArgument",
    "UnlistedDirectoryError",
    "UnreadableSourceError",
    "is_empty_folder",
    "list_sources",
    "would_list",
]

OneSource = str | os.PathLike[str] | Entry | Opener
SourceArgument = OneSource | Iterable[OneSource]
"""A path of a file, ZIP file or directory, a glob, a ``gs://`` pattern, an entry, an opener, or several of these: a list is
merged by name, an iterator is taken as it comes."""

Shard = tuple[int, int]
"""``(i, n)``: the i-th of n parts, counted from 0."""

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*):/")
_ACCEPTED = (
    "an existing file or directory, a ZIP file, a glob such as 'incoming/**', gs://BUCKET/PREFIX/**, an Entry or an Opener "
    "is accepted"
)


@dataclass(frozen=True, slots=True)
class Source:
    """Something that can be opened and read, as often as needed.

    :param ordinal: Position in the whole listing, from 0, before shards are taken: a source has the same number in
        every shard.
    :param name: Path or URI; of a member of an archive, the archive's and the member's. Private: it may hold a
        patient's name.
    :param size: Bytes, when it was listed.
    :param open: Opens it at its start; raises OSError or a DicomWebError if it cannot, UnlistedDirectoryError if it is
        a directory or an archive that cannot be listed.
    :param version: Differs whenever the bytes under this name do: a time of change, or a generation; empty if there is
        nothing to tell by.
    """

    ordinal: int
    name: str
    size: int
    open: Callable[[], BinaryIO]
    version: str = ""


class Buckets(Protocol):
    """Where ``gs://`` sources are listed and opened; ``airflow_dicomweb.healthcare.gcs.Buckets`` is one."""

    def find(self, uri: str) -> Iterator[Any]:
        """List the objects that ``gs://bucket/pattern`` stands for, by name: each has ``uri``, ``name`` and ``size``."""
        ...

    def open(self, found: Any) -> BinaryIO:
        """Open one of them at its start."""
        ...


def list_sources(
    source: SourceArgument, *, shard: Shard | None = None, buckets: Buckets | None = None
) -> Iterator[Source]:
    """List what a source argument stands for.

    :param source: See :data:`SourceArgument`. A path that exists is never taken for a glob.
    :param shard: ``(i, n)`` lists only the sources whose relative path hashes to i modulo n: n tasks that get the same
        source and one shard each list everything, and nothing twice.
    :param buckets: Needed for ``gs://`` sources.
    :raises ConfigurationError: At once, if something does not exist, nothing matches, or the shard is none. What an
        iterator gives and does not exist is a source that cannot be opened: others may have been stored by then.
    """
    index, count = _check_shard(shard)
    if isinstance(source, Iterator) and not isinstance(source, Opener):
        entries = _checked(_as_they_come(source, buckets), "there is no source")
    else:
        entries = _merged(source, buckets)
    return (
        Source(ordinal, found.name, found.size, found.open, found.version)
        for ordinal, found in enumerate(entries)
        if count == 1 or _shard_of(found.relative, count) == index
    )


def is_empty_folder(path: str | os.PathLike[str]) -> bool:
    """Tell whether there is a folder with nothing to store in it or below it.

    :raises ConfigurationError: If that cannot be found out.
    """
    folder = Path(path)
    mode = _mode(folder)
    return mode is not None and stat.S_ISDIR(mode) and next(below(folder), None) is None


def would_list(source: object, name: str) -> bool:
    """Tell whether a file or object of this name, once it is there, is among what paths, globs and URIs stand for.

    :param source: See :data:`SourceArgument`; of openers and iterators that is not known.
    :param name: Absolute path, or ``gs://`` URI.
    """
    given: list[object] = [source]
    if isinstance(source, Iterable) and not isinstance(source, str | os.PathLike | Opener | Iterator):
        given = list(source)
    return any(_would_list(text, name) for each in given if (text := _text(each)) is not None)


def _would_list(text: str, name: str) -> bool:
    if text.startswith("gs://") or name.startswith("gs://"):
        return fits(text, name)
    mode, place = _mode(Path(text)), Path(name).resolve()
    if mode is not None:
        return stat.S_ISDIR(mode) and place.is_relative_to(Path(text).resolve())
    fixed, rest = split_glob(text) if is_glob(text) and "\0" not in text else ("", "")
    folder = Path(fixed).resolve()
    return place.is_relative_to(folder) and fits(rest, place.relative_to(folder).as_posix())


def _merged(source: object, buckets: Buckets | None) -> Iterator[Entry]:
    given: list[object] = [source]
    if isinstance(source, Iterable) and not isinstance(source, str | os.PathLike | Opener):
        given = list(source)
    if not given:
        raise ConfigurationError(f"there is no source: {_ACCEPTED}")
    listings = [_checked(_listing(each, buckets), _nothing_at(each)) for each in given]
    # Merged, not sorted: only the next name of each listing is held.
    return listings[0] if len(listings) == 1 else heapq.merge(*listings, key=lambda found: found.name)


def _as_they_come(given: Iterator[object], buckets: Buckets | None) -> Iterator[Entry]:
    for each in given:
        name = _text(each) or type(each).__name__
        try:
            yield from _checked(_listing(each, buckets), _nothing_at(each))
        except DicomWebError as error:
            yield Entry.unlisted(name, f"{Path(name).name}/", str(error))


def _nothing_at(source: object) -> str:
    text = _text(source) or ""
    if text.startswith("gs://") and not is_glob(text):
        return "a source matches no file: without a wildcard gs://BUCKET/NAME is one object, what is in a folder is gs://BUCKET/NAME/**"
    return "a source matches no file"


def _checked(listing: Iterator[Entry], nothing: str) -> Iterator[Entry]:
    """Take the first, so that an empty match is an error before anything is done."""
    first = next(listing, None)
    if first is None:
        raise ConfigurationError(f"{nothing}: {_ACCEPTED}")
    return chain([first], listing)


def _check_shard(shard: Shard | None) -> Shard:
    if shard is None:
        return 0, 1
    match shard:
        case (int(index), int(count)) if 0 <= index < count:
            return index, count
    raise ConfigurationError("a shard must be (i, n) with whole numbers and 0 <= i < n, such as (0, 4)")


def _shard_of(relative: str, count: int) -> int:
    # The bytes of a name do not depend on the locale of the worker.
    return int.from_bytes(hashlib.sha256(relative.encode("utf-8", "surrogatepass")).digest()[:8]) % count


def _text(source: object) -> str | None:
    text = os.fspath(source) if isinstance(source, str | os.PathLike) else None
    return text if isinstance(text, str) else None


def _listing(source: object, buckets: Buckets | None) -> Iterator[Entry]:
    if isinstance(source, Entry):
        return expanded(iter([source]))
    if isinstance(source, Opener):
        return expanded(source.find_entries())
    text = _text(source)
    if text is None:
        raise ConfigurationError(f"a source of type {type(source).__name__} is not usable: {_ACCEPTED}")
    if not text:
        raise ConfigurationError(f"a source is empty: {_ACCEPTED}")
    if text.startswith("gs://"):
        return expanded(_objects(text, buckets))
    path = Path(text)
    mode = _mode(path)
    if mode is not None:
        return expanded(below(path) if stat.S_ISDIR(mode) else iter([file_entry(path, path.name)]))
    if scheme := _SCHEME.match(text):
        raise ConfigurationError(
            f"a source begins with {scheme[1]}:, which is opened in Airflow only: DicomWebStoreInstancesOperator takes it, and "
            f"airflow_dicomweb.operators.object_storage.openable() makes a source of it; {_ACCEPTED}"
        )
    if is_glob(text):
        return _matching(text)
    raise ConfigurationError(f"a source does not exist: {_ACCEPTED}")


def _mode(path: Path) -> int | None:
    try:
        # A glob may be longer than any name.
        return mode_of(path, may_be_too_long=is_glob(str(path)))
    except OSError as error:
        raise ConfigurationError(f"a source cannot be read: {error.strerror}; {_ACCEPTED}") from None


def _objects(uri: str, buckets: Buckets | None) -> Iterator[Entry]:
    if buckets is None:
        raise ConfigurationError("gs:// sources need buckets=: airflow_dicomweb.healthcare.gcs.Buckets() is accepted")
    return (
        Entry(each.uri, each.name, each.size, partial(buckets.open, each), str(getattr(each, "generation", "")))
        for each in buckets.find(uri)
    )


def _matching(pattern: str) -> Iterator[Entry]:
    fixed, rest = split_glob(pattern)
    mode = _mode(Path(fixed))
    if mode is None or not stat.S_ISDIR(mode):
        raise ConfigurationError(f"the folder of a glob does not exist: {_ACCEPTED}")
    return matching(rest, below(Path(fixed)))
