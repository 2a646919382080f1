"""A report that is written as it goes, and survives the task that writes it.

Each line is on its way when its outcome is final. A file is ``REPORT.RUN.TRY.part`` beside the report's place until the
try has ended, readable for its owner alone (0600); then it becomes the report. In a bucket, parts of up to
1,000 lines are objects ``REPORT.RUN.TRY-N.part``; a line that comes half a minute or more after the last part makes one,
too. In the end the whole report becomes one object, and the parts are deleted. ``RUN`` and ``TRY`` are random names, ``RUN`` the same for all tries of a task: a killed try leaves
its parts, and the next one reads them. What was the report before stays until there is a new one.

Source: POSIX ``rename``; Cloud Storage JSON API v1 (objects are whole or not there).
"""

from __future__ import annotations

import json
import os
import re
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from io import TextIOWrapper
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from airflow_dicomweb.dicomweb.retries import add_to_message
from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.healthcare.bodies import GcsPattern

if TYPE_CHECKING:
    from airflow_dicomweb.healthcare.gcs import Buckets

_CONTENT_TYPE = "application/jsonl"
_LINES_OF_A_PART = 1000
_SECONDS_OF_A_PART = 30.0


class RunningReport(Protocol):
    """Where lines go."""

    def earlier(self) -> Iterator[Any]:
        """Give the lines that earlier tries of the run have left."""
        ...

    def write(self, line: Mapping[str, Any]) -> None:
        """Write a line.

        :raises OSError: If it cannot be written; likewise DicomWebError.
        """
        ...

    def finish(self) -> None:
        """Make the lines the report.

        :raises OSError: If that is not possible; likewise DicomWebError.
        """
        ...

    def abandon(self) -> None:
        """Leave the lines where they are, for the next try; nothing if there are none."""
        ...


def open_report(uri: str, run: str, buckets: Buckets) -> RunningReport:
    """Begin a report, and see before anything is sent that it can be written.

    :raises ConfigurationError: If the file cannot be written.
    :raises DicomWebError: If the object cannot be written.
    """
    try:
        if uri.startswith("gs://"):
            return _ObjectReport(GcsPattern.parse(uri), run, buckets)
        return _FileReport(Path(uri), run)
    except OSError as error:
        raise ConfigurationError(
            f"the report could not be written: {cause(error)}; nothing was sent. report_uri must be the path of a file "
            "that the worker may write, or gs://BUCKET/OBJECT"
        ) from None
    except DicomWebError as error:
        add_to_message(error, "the report could not be written; nothing was sent")
        raise


def cause(error: OSError) -> str:
    """Say why a file cannot be written, without its name."""
    return error.strerror or type(error).__name__


class _FileReport:
    def __init__(self, path: Path, run: str) -> None:
        self._path, self._left = path, list[Path]()
        self._parts = re.compile(rf"{re.escape(f'{path.name}.{run}.')}[0-9a-f]+\.part")
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._part = path.with_name(f"{path.name}.{run}.{os.urandom(4).hex()}.part")
        # Every line is written at once: what a killed task has written is there.
        self._stream = os.fdopen(os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb", buffering=0)

    def earlier(self) -> Iterator[Any]:
        found = sorted(each for each in self._path.parent.iterdir() if self._parts.fullmatch(each.name))
        self._left = [each for each in found if each != self._part]
        for path in (*self._left, self._path):
            with suppress(FileNotFoundError), path.open("rb") as stream:
                yield from _lines(stream)

    def write(self, line: Mapping[str, Any]) -> None:
        data = _encoded(line)
        while data:
            data = data[self._stream.write(data) :]

    def finish(self) -> None:
        self._stream.close()
        self._part.replace(self._path)
        for each in self._left:
            each.unlink(missing_ok=True)

    def abandon(self) -> None:
        self._stream.close()
        with suppress(OSError):
            if self._part.stat().st_size == 0:
                self._part.unlink()


class _ObjectReport:
    def __init__(self, target: GcsPattern, run: str, buckets: Buckets) -> None:
        self._target, self._buckets = target, buckets
        self._prefix, self._try = f"{target.pattern}.{run}.", os.urandom(4).hex()
        self._left: list[str] = []
        self._written: list[str] = []
        self._lines: list[bytes] = []
        self._empty = True
        self._since = time.monotonic()
        self._flush()
        self._whole = tempfile.TemporaryFile()  # noqa: SIM115 - closed in the end

    def earlier(self) -> Iterator[Any]:
        part = re.compile(rf"{re.escape(self._prefix)}[0-9a-f]+-\d+\.part")
        found = [each.name for each in self._buckets.find(f"gs://{self._target.bucket}/{self._prefix}**")]
        self._left = [name for name in found if part.fullmatch(name) and name not in self._written]
        places = [f"gs://{self._target.bucket}/{name}" for name in self._left]
        for place in (*places, str(self._target)):
            for item in self._buckets.find(place):
                with self._buckets.open(item) as stream:
                    yield from _lines(stream)

    def write(self, line: Mapping[str, Any]) -> None:
        data = _encoded(line)
        self._empty = False
        self._whole.write(data)
        self._lines.append(data)
        if len(self._lines) >= _LINES_OF_A_PART or time.monotonic() - self._since >= _SECONDS_OF_A_PART:
            self._flush()

    def _flush(self) -> None:
        name = f"{self._prefix}{self._try}-{len(self._written):06}.part"
        self._buckets.write(self._target.bucket, name, b"".join(self._lines), _CONTENT_TYPE)
        self._written.append(name)
        self._lines, self._since = [], time.monotonic()

    def finish(self) -> None:
        self._buckets.upload(self._target.bucket, self._target.pattern, self._whole, _CONTENT_TYPE)
        self._whole.close()
        self._delete([*self._left, *self._written])

    def abandon(self) -> None:
        if self._empty:
            self._delete(self._written)
        elif self._lines:
            # What happened is more important than what could not be written about it.
            with suppress(DicomWebError):
                self._flush()
        self._whole.close()

    def _delete(self, names: list[str]) -> None:
        # Who may create objects may not always delete them.
        with suppress(DicomWebError):
            for name in names:
                self._buckets.delete(self._target.bucket, name)


def _encoded(line: Mapping[str, Any]) -> bytes:
    return f"{json.dumps(line, separators=(',', ':'))}\n".encode()


def _lines(stream: BinaryIO) -> Iterator[Any]:
    """Read lines of JSON; what a killed task has left half-written is no line."""
    with TextIOWrapper(stream, "utf-8", "replace") as text:
        for each in text:
            with suppress(ValueError):
                yield json.loads(each)
