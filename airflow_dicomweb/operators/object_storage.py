"""Sources in any storage that Airflow's ObjectStoragePath opens: ``s3://``, ``abfs://``, ``sftp://`` and others.

The provider of that storage must be installed (``apache-airflow-providers-amazon`` for ``s3://``). ``gs://`` is read by
this package itself, ``file://`` is a path. Listed as local folders are: everything below a directory, archives opened,
what a DICOMDIR names and is missing named; one directory of a storage is in memory at a time.

Names and messages never have the connection id of a URI, nor what a storage says about an error: it may repeat a path.

Source: Apache Airflow, "Object Storage"; fsspec, ``AbstractFileSystem``.
"""

from __future__ import annotations

import heapq
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, BinaryIO, cast

from airflow_dicomweb.dicomweb.archives import is_archive
from airflow_dicomweb.dicomweb.dicomdir import Folders, index_entries, is_dicomdir
from airflow_dicomweb.dicomweb.entries import Entry, Opener, UnreadableSourceError
from airflow_dicomweb.dicomweb.globs import is_glob, matching, split_glob
from airflow_dicomweb.errors import ConfigurationError, TransportError

if TYPE_CHECKING:
    from airflow.sdk import ObjectStoragePath

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.\-]*)://")
_LOCAL = frozenset({"", "file", "local"})
_BLOCK = 4 * 2**20
_VERSIONS = ("ETag", "etag", "generation", "mtime", "LastModified", "last_modified", "created")


def openable(source: Any) -> Any:
    """Make a source argument that any client can store of one that names other storage.

    :param source: What :class:`~airflow_dicomweb.operators.DicomWebStoreInstancesOperator` takes: also URIs such as
        ``s3://conn_id@bucket/prefix/**`` and ``ObjectStoragePath`` objects, alone or among others. An iterator stays one.
    :return: The same with an opener in the place of each of these.
    """
    from airflow.sdk import ObjectStoragePath

    if isinstance(source, ObjectStoragePath):
        return _openable_path(source)
    if isinstance(source, str):
        scheme = _SCHEME.match(source)
        if scheme is None or scheme[1].lower() == "gs":
            return source
        if scheme[1].lower() in _LOCAL:
            return source[scheme.end() :]
        return ObjectStorage(source)
    if isinstance(source, bytes | os.PathLike | Entry | Opener | Mapping) or not isinstance(source, Iterable):
        return source
    return map(openable, source) if isinstance(source, Iterator) else [openable(each) for each in source]


def _openable_path(path: ObjectStoragePath) -> Any:
    if path.protocol in _LOCAL:
        return path.path
    if path.protocol == "gs" and path.conn_id is None:
        return f"gs://{path.path}"
    return ObjectStorage(path)


class ObjectStorage:
    """A file, directory or glob in a storage that Airflow knows.

    Nothing is read when it is made.

    :param path: URI, with ``conn_id@`` before the bucket if a connection is needed, or an ObjectStoragePath.
    """

    def __init__(self, path: str | ObjectStoragePath) -> None:
        self._path = path

    def __repr__(self) -> str:
        return f"{type(self).__name__}(...)"

    def find_entries(self) -> Iterator[Entry]:
        """List the files, by name within each directory.

        :raises ConfigurationError: If there is no such thing, or no provider for this kind of storage.
        :raises TransportError: If the storage cannot be asked.
        """
        found = _look(self._path)
        if found is not None:
            place, kind = found
            return place.below("") if kind["type"] == "directory" else iter([place.entry(kind, place.last_name)])
        if is_glob(str(self._path)):
            fixed, rest = split_glob(str(self._path)) if isinstance(self._path, str) else _split(self._path)
            folder = _look(fixed)
            if folder is not None and folder[1]["type"] == "directory":
                return matching(rest, folder[0].below(""))
            raise ConfigurationError("the folder of a glob in object storage does not exist")
        raise ConfigurationError("a source in object storage does not exist")


def _split(path: ObjectStoragePath) -> tuple[ObjectStoragePath, str]:
    from airflow.sdk import ObjectStoragePath

    fixed, rest = split_glob(f"{path.protocol}://{path.path.lstrip('/')}")
    return ObjectStoragePath(fixed, conn_id=path.conn_id), rest


def _look(path: str | ObjectStoragePath) -> tuple[_Place, dict[str, Any]] | None:
    """Give what there is at a path, if anything."""
    from airflow.sdk import ObjectStoragePath

    scheme = path.split("://", 1)[0] if isinstance(path, str) else path.protocol
    try:
        where = ObjectStoragePath(path)
        files = where.fs
    except (ValueError, ImportError, AttributeError):
        raise ConfigurationError(
            f"{scheme}:// cannot be opened: install the Airflow provider of that storage, and see that the connection of the "
            "URI exists"
        ) from None
    except Exception as error:  # noqa: BLE001 - each storage has errors of its own
        raise ConfigurationError(f"{scheme}:// cannot be opened: {type(error).__name__}") from None
    place = _Place(files, where.path.rstrip("/") or where.path, scheme)
    if not str(path).rstrip("/").endswith(place.last_name):
        return None  # a wildcard at the end was taken for the mark of a query, and is lost
    with _asking(scheme):
        files.invalidate_cache()
        try:
            return place, files.info(place.root)
        except (FileNotFoundError, NotADirectoryError):
            return None


@contextmanager
def _asking(scheme: str) -> Iterator[None]:
    try:
        yield
    except Exception as error:  # noqa: BLE001 - each storage has errors of its own
        raise TransportError(f"the storage of {scheme}:// cannot be asked: {_reason(error)}") from None


class _Place:
    """Everything at and below a path of a storage.

    :param files: The fsspec file system.
    :param root: Path as it knows it.
    :param scheme: For the names in reports.
    """

    def __init__(self, files: Any, root: str, scheme: str) -> None:
        self._files, self.root, self._scheme = files, root, scheme

    @property
    def last_name(self) -> str:
        """The last part of the path."""
        return self.root.rsplit("/", 1)[-1]

    def entry(self, info: Mapping[str, Any], relative: str) -> Entry:
        """Give a file."""
        name = f"{self._scheme}://{str(info['name']).lstrip('/')}"
        size = info.get("size")
        if info["type"] == "other" or not isinstance(size, int):
            return Entry.unreadable(name, relative, "not a regular file, or one whose size is not known")
        version = next((str(info[key]) for key in _VERSIONS if info.get(key)), "")
        return Entry(name, relative, size, partial(_open, self._files, info["name"]), version)

    def below(self, relative: str) -> Iterator[Entry]:
        """List everything below a folder of it."""
        try:
            children = self._children(relative)
        except OSError as error:
            name = f"{self._scheme}://{self.root.lstrip('/')}/{relative}"
            yield Entry.unlisted(name, relative, f"a directory that cannot be listed ({_reason(error)})")
            return
        indexes = {name: info for name, info in children.items() if is_dicomdir(name)}
        listed = self._listed(relative, {name: info for name, info in children.items() if name not in indexes})
        if not indexes:
            yield from listed
            return
        folders = Folders(lambda above: self._children(f"{relative}{above}"))
        indexed = [
            each
            for name, info in indexes.items()
            for each in index_entries(self.entry(info, f"{relative}{name}"), folders.exists)
        ]
        yield from heapq.merge(listed, sorted(indexed, key=_name_of), key=_name_of)

    def _listed(self, relative: str, children: Mapping[str, Mapping[str, Any]]) -> Iterator[Entry]:
        # With its slash, a directory sorts where its files belong, and so does an archive.
        for name in sorted(children, key=lambda name: f"{name}/" if is_archive(name) else name):
            if name.endswith("/"):
                yield from self.below(f"{relative}{name}")
            else:
                yield self.entry(children[name], f"{relative}{name}")

    def _children(self, relative: str) -> dict[str, Mapping[str, Any]]:
        folder = f"{self.root}/{relative}".rstrip("/")
        try:
            found = self._files.ls(folder, detail=True)
        except OSError:
            raise
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise UnreadableSourceError(_reason(error)) from None
        # Some storages list a folder among what is in it.
        inside = [info for info in found if str(info["name"]).strip("/") != folder.strip("/")]
        return {_short(info): info for info in inside}


def _name_of(entry: Entry) -> str:
    return entry.name


def _short(info: Mapping[str, Any]) -> str:
    name = str(info["name"]).rstrip("/").rsplit("/", 1)[-1]
    return f"{name}/" if info["type"] == "directory" else name


def _reason(error: Exception) -> str:
    """Say what went wrong in words of this machine: those of a storage may have a path in them."""
    if isinstance(error, UnreadableSourceError):
        return str(error.strerror)
    return os.strerror(error.errno) if isinstance(error, OSError) and error.errno else type(error).__name__


def _open(files: Any, path: str) -> BinaryIO:
    try:
        return cast("BinaryIO", io.BufferedReader(_Reader(files.open(path, "rb", block_size=_BLOCK)), 1 << 16))
    except Exception as error:  # noqa: BLE001 - each storage has errors of its own
        raise UnreadableSourceError(_reason(error)) from None


class _Reader(io.RawIOBase):
    """A file of a storage, whose errors say what happened and not where.

    :param file: As the storage opened it.
    """

    def __init__(self, file: Any) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        """Yes."""
        return True

    def seekable(self) -> bool:
        """Ask the storage."""
        return bool(self._file.seekable())

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a position."""
        self._file.seek(offset, whence)
        return int(self._file.tell())

    def tell(self) -> int:
        """Give the position."""
        return int(self._file.tell())

    def readinto(self, buffer: Any, /) -> int:
        """Fill a buffer as far as it goes."""
        try:
            block = self._file.read(len(buffer))
        except Exception as error:  # noqa: BLE001 - each storage has errors of its own
            raise UnreadableSourceError(_reason(error)) from None
        buffer[: len(block)] = block
        return len(block)

    def close(self) -> None:
        """Close the storage's file too."""
        if not self.closed:
            self._file.close()
        super().close()
