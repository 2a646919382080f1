"""Copies of what is about to be replaced on a server: whole, read again and compared before anything is deleted.

A copy is ``study/series/instance-SHA256.dcm`` below a folder, or a ``gs://`` prefix: other bytes have another name, so
that no copy is ever written over. Files are for their owner alone (0600).

Source: POSIX ``fsync`` (what a crash of the machine leaves), Cloud Storage JSON API v1 (objects).
"""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Protocol, cast

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.sources import Buckets
from airflow_dicomweb.dicomweb.wado import digest
from airflow_dicomweb.errors import ConfigurationError, DicomWebError, ProtocolError

Copier = Callable[[BinaryIO], str | None]
"""Writes an instance to a file and gives the SHA-256 of what it wrote; None if there is no such instance."""

_GCS = re.compile(r"gs://(?P<bucket>[a-z0-9][a-z0-9._-]{1,220}[a-z0-9])(?:/(?P<prefix>[^*?\[\]#\r\n]*))?")
_ACCEPTED = "backup_uri must be the absolute path of a folder that can be written to, or gs://BUCKET/PREFIX"


class BackupError(DicomWebError):
    """A copy could not be made, or is not what it should be."""


class Backup(Protocol):
    """Where copies go."""

    def keep(self, path: InstancePath, copy: Copier) -> str | None:
        """Make a copy of an instance and give its name below the place; None if there is no such instance.

        :raises DicomWebError: If there is no copy now that is whole.
        """
        ...


class BackupBuckets(Buckets, Protocol):
    """Cloud Storage as copies need it; ``airflow_dicomweb.healthcare.gcs.Buckets`` is one."""

    def upload(self, bucket: str, name: str, source: Any) -> None:
        """Write a file to an object."""
        ...


def open_backup(uri: object, buckets: Buckets | None) -> Backup:
    """Read where copies are to go; a folder is made, for its owner alone.

    :param uri: Folder, or ``gs://bucket/prefix``.
    :raises ConfigurationError: If it is neither, or cannot be written to.
    """
    text = os.fspath(uri) if isinstance(uri, str | os.PathLike) else None
    if not isinstance(text, str):
        raise ConfigurationError(_ACCEPTED)
    if text.startswith("gs://"):
        match = _GCS.fullmatch(text)
        if match is None:
            raise ConfigurationError(_ACCEPTED)
        if not hasattr(buckets, "upload"):
            raise ConfigurationError("a gs:// backup_uri needs buckets=: airflow_dicomweb.healthcare.gcs.Buckets()")
        return _Objects(cast("BackupBuckets", buckets), match["bucket"], (match["prefix"] or "").strip("/"))
    folder = Path(text)
    if not folder.is_absolute() or "\0" in text:
        raise ConfigurationError(_ACCEPTED)
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigurationError(f"{_ACCEPTED}: {error.strerror or type(error).__name__}") from None
    return _Folder(folder)


class _Folder:
    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, path: InstancePath, copy: Copier) -> str | None:
        try:
            return self._keep(path, copy)
        except OSError as error:
            raise BackupError(f"the backup cannot be written: {error.strerror or type(error).__name__}") from None

    def _keep(self, path: InstancePath, copy: Copier) -> str | None:
        series = self._folder / path.study / path.series
        series.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Made with mode 0600 under a name that nobody else can have.
        descriptor, part = tempfile.mkstemp(prefix=".", suffix=".part", dir=series)
        try:
            with os.fdopen(descriptor, "w+b") as file:
                sha256 = copy(file)
                if sha256 is None:
                    return None
                file.flush()
                os.fsync(file.fileno())
            with Path(part).open("rb") as file:
                _compare(sha256, _blocks(file))
            name = _name(path, sha256)
            Path(part).replace(self._folder / name)
            _sync(series)
            return name
        finally:
            with suppress(FileNotFoundError):
                os.unlink(part)  # noqa: PTH108 - a name as mkstemp gives it


class _Objects:
    def __init__(self, buckets: BackupBuckets, bucket: str, prefix: str) -> None:
        self._buckets, self._bucket, self._prefix = buckets, bucket, prefix

    def keep(self, path: InstancePath, copy: Copier) -> str | None:
        with tempfile.TemporaryFile() as file:
            sha256 = copy(file)
            if sha256 is None:
                return None
            name = _name(path, sha256)
            whole = f"{self._prefix}/{name}" if self._prefix else name
            self._buckets.upload(self._bucket, whole, file)
        for found in self._buckets.find(f"gs://{self._bucket}/{whole}"):
            try:
                with self._buckets.open(found) as stream:
                    _compare(sha256, _blocks(stream))
            except OSError as error:
                raise BackupError(
                    f"the backup cannot be read again: {error.strerror or type(error).__name__}"
                ) from None
            return name
        raise BackupError("the backup is not there after it was written")


def _name(path: InstancePath, sha256: str) -> str:
    return f"{path.study}/{path.series}/{path.instance}-{sha256[:32]}.dcm"


def _compare(sha256: str, blocks: Iterator[bytes]) -> None:
    if digest(blocks) != sha256:
        raise ProtocolError("the backup does not hold what was written to it")


def _blocks(stream: BinaryIO) -> Iterator[bytes]:
    while block := stream.read(BLOCK_SIZE):
        yield block


def _sync(folder: Path) -> None:
    """Have the name survive a crash of the machine; file systems that cannot do that do without."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
