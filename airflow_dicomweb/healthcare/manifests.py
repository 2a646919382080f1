"""Private lists of a run: JSON Lines in a folder (mode 0600) or in a bucket.

A list of files may hold patients' names, and a list of instances may be long. Neither belongs into XCom: the list goes
into a private file, and only its URI is passed on.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError
from airflow_dicomweb.healthcare.bodies import GcsPattern

_CONTENT_TYPE = "application/jsonl"


class Bucket(Protocol):
    """What is asked of Cloud Storage; ``Buckets`` has it."""

    def read(self, bucket: str, name: str) -> bytes:
        """Read an object."""
        ...

    def write(self, bucket: str, name: str, data: bytes, content_type: str) -> None:
        """Write an object."""
        ...


def manifest_uri(folder: str, name: str, run_id: str) -> str:
    """Give the place of a run's list: the same for every try of the run, another one for every other run.

    :param folder: Absolute path of a folder, or ``gs://bucket/prefix``.
    :param name: What kind of list it is, such as the DAG's id.
    :param run_id: Airflow's run id.
    :raises ConfigurationError: If the folder is neither.
    """
    if not folder.startswith(("/", "gs://")):
        raise ConfigurationError("the folder of a manifest must be an absolute path or gs://BUCKET/PREFIX")
    digest = hashlib.sha256(run_id.encode()).hexdigest()[:16]
    return f"{folder.rstrip('/')}/{re.sub(r'[^A-Za-z0-9_.-]', '-', name)}-{digest}.jsonl"


def write_manifest(uri: str, lines: Iterable[Mapping[str, Any]], buckets: Bucket) -> None:
    """Write a list, whole or not at all; an earlier one of the same name is replaced.

    :param uri: As :func:`manifest_uri` gives it. A folder is created if it is missing, for the owner alone.
    :param lines: One JSON object each.
    :param buckets: Used for ``gs://``.
    """
    data = "".join(f"{json.dumps(line, separators=(',', ':'))}\n" for line in lines).encode()
    if uri.startswith("gs://"):
        target = GcsPattern.parse(uri)
        buckets.write(target.bucket, target.pattern, data, _CONTENT_TYPE)
        return
    path = Path(uri)
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with os.fdopen(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as stream:
        stream.write(data)
    part.replace(path)


def read_manifest(uri: str, buckets: Bucket) -> Iterator[dict[str, Any]]:
    """Read a list.

    :raises ConfigurationError: If it is not there: removed, or written on another machine.
    :raises ProtocolError: If it is not a list of JSON objects.
    """
    try:
        for line in _read(uri, buckets).decode().splitlines():
            yield json.loads(line)
    except (FileNotFoundError, NotFoundError):
        raise ConfigurationError(
            "the manifest of this run is not there: it was removed, or written on a worker with another disk; clear "
            "the run from its first task, and keep manifests where all workers reach them"
        ) from None
    except ValueError:
        raise ProtocolError("the manifest of this run is damaged: clear the run from its first task") from None


def _read(uri: str, buckets: Bucket) -> bytes:
    if uri.startswith("gs://"):
        source = GcsPattern.parse(uri)
        return buckets.read(source.bucket, source.pattern)
    return Path(uri).read_bytes()
