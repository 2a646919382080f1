"""Proof that what was handed over is in the store: a frozen listing, the identities in its headers, a comparison.

A listing is taken once, before anything is sent; files that arrive later belong to the next one. What is expected in
the store are the distinct identities (Study, Series, SOP Instance UID) in the headers of the listed files. Each is
looked for by an instance search of its study. Dates play no part: the day of arrival is not the day of acquisition.

Names of files may hold a patient's name. They stay in the listing and in its report, which are private files; counts
and messages have none.

Source: DICOM PS3.18 section 10.6 (search transaction), PS3.3 section C.12.1 (SOP Instance UID).
"""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal, Self

from airflow_dicomweb.dicomweb.inventory import Store, find_instances
from airflow_dicomweb.dicomweb.part10 import NotDicom, UnusableFile, read_header
from airflow_dicomweb.dicomweb.resources import InstancePath, parse_path
from airflow_dicomweb.dicomweb.sources import Buckets, Source, UnlistedDirectoryError, is_empty_folder, list_sources
from airflow_dicomweb.errors import NotFoundError, ProtocolError

Outcome = Literal["stored", "identical", "conflicting", "unusable", "not_dicom", "missing", "unlisted"]
OUTCOMES: tuple[Outcome, ...] = ("stored", "identical", "conflicting", "unusable", "not_dicom", "missing", "unlisted")

_BLOCK = 1 << 20
_UNLISTED = "a directory or ZIP file that cannot be listed: what is in it is not known"
_GONE = "cannot be read, or is not there any more"


@dataclass(frozen=True, slots=True)
class ListedFile:
    """One file of a listing.

    :param name: Path or ``gs://`` URI. Private: it may hold a patient's name.
    :param size: Bytes.
    :param path: Identity from the header; None when none could be read.
    :param outcome: ``stored``: to be stored, or found in the store. ``identical``: the same bytes are under this
        identity already, in the store or earlier in the listing. ``conflicting``: other bytes are. ``unusable``: DICOM,
        or not to be opened, but no instance that a server could take. ``not_dicom``: something else. ``missing``:
        looked for, and not found in the store. ``unlisted``: a directory or ZIP file that cannot be listed: nobody knows
        which files are below it: nothing is proved as long as there is one.
    :param reason: Why no identity could be read; empty when it could.
    """

    name: str
    size: int
    path: InstancePath | None
    outcome: Outcome = "stored"
    reason: str = ""

    def to_json(self) -> dict[str, Any]:
        """Write one line of a listing: builtins only."""
        path = None if self.path is None else str(self.path)
        return {"name": self.name, "size": self.size, "path": path, "outcome": self.outcome, "reason": self.reason}

    @classmethod
    def from_json(cls, line: Mapping[str, Any]) -> Self:
        """Read one line of a listing: the inverse of :meth:`to_json`."""
        path = None if line["path"] is None else parse_path(line["path"])
        if path is not None and not isinstance(path, InstancePath):
            raise ProtocolError("a line of a listing names a study or a series where an instance is expected")
        return cls(line["name"], line["size"], path, line["outcome"], line["reason"])


@dataclass(frozen=True, slots=True)
class Completeness:
    """How each file of a listing ended: every file has exactly one outcome.

    :param files: The listed files with their outcomes, in the order of the listing.
    """

    files: tuple[ListedFile, ...]

    @property
    def distinct(self) -> int:
        """Distinct identities in the listing: the instances that have to be in the store."""
        return len(expected_instances(self.files))

    @property
    def missing(self) -> tuple[InstancePath, ...]:
        """Instances that are not in the store, each once, sorted."""
        return tuple(sorted({file.path for file in self.files if file.outcome == "missing" and file.path is not None}))

    def count(self, outcome: Outcome) -> int:
        """Files with this outcome."""
        return sum(file.outcome == outcome for file in self.files)

    def to_xcom(self) -> dict[str, int]:
        """Give the counts: ``files``, ``distinct``, and the files of each outcome, which add up to ``files``."""
        counts = Counter(file.outcome for file in self.files)
        return {"files": len(self.files), "distinct": self.distinct, **{name: counts[name] for name in OUTCOMES}}


def list_if_any(source: str, *, buckets: Buckets | None = None) -> list[Source]:
    """List the files of a folder or of a ``gs://`` pattern; nothing there is nothing listed.

    :param source: Folder, or ``gs://bucket/pattern``.
    :param buckets: Needed for ``gs://``.
    :raises ConfigurationError: If the folder does not exist: a share that is not mounted is not an empty night.
    """
    if source.startswith("gs://"):
        empty = buckets is not None and next(buckets.find(source), None) is None
    else:
        empty = is_empty_folder(source)
    return [] if empty else list(list_sources(source, buckets=buckets))


def take_listing(sources: Sequence[Source], store: Store, *, workers: int = 8) -> list[ListedFile]:
    """Read the identity of every listed file, and find out which of them the store will not take as new.

    Whole files are read only where two can claim one identity: when it occurs again in the listing, or is in the store
    already. Everywhere else the header is enough.

    :param sources: The frozen listing.
    :param store: Where the files are going.
    :param workers: Headers read at the same time.
    """
    with ThreadPoolExecutor(workers) as pool:
        listed = list(pool.map(_read_identity, sources))
    claims: dict[InstancePath, list[int]] = {}
    for number, file in enumerate(listed):
        if file.path is not None:
            claims.setdefault(file.path, []).append(number)
    known = claims.keys() & set(find_instances(store, {path.study for path in claims}))
    for path, numbers in claims.items():
        if len(numbers) > 1 or path in known:
            digest = _digest_in_store(store, path) if path in known else None
            for number in numbers:
                digest, listed[number] = _compare(digest, listed[number], sources[number])
    return listed


def expected_instances(files: Iterable[ListedFile]) -> frozenset[InstancePath]:
    """Give the distinct identities of a listing."""
    return frozenset(file.path for file in files if file.path is not None)


def check_completeness(
    store: Store,
    files: Sequence[ListedFile],
    *,
    looks: int = 3,
    look_interval: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> Completeness:
    """Look for every listed instance in the store.

    Searches may lag behind a store or an import by some seconds: what is not found is looked for again.

    :param looks: How often to look for what is missing, at least 1.
    :param look_interval: Seconds between two looks.
    """
    missing = set(expected_instances(files))
    for look in range(looks):
        if look:
            sleep(look_interval)
        missing -= set(find_instances(store, {path.study for path in missing}))
        if not missing:
            break
    return Completeness(tuple(replace(file, outcome="missing") if file.path in missing else file for file in files))


def _read_identity(source: Source) -> ListedFile:
    try:
        with source.open() as stream:
            return ListedFile(source.name, source.size, read_header(stream).path)
    except NotDicom as finding:
        return ListedFile(source.name, source.size, None, "not_dicom", str(finding))
    except UnusableFile as finding:
        return ListedFile(source.name, source.size, None, "unusable", str(finding))
    except UnlistedDirectoryError:
        return ListedFile(source.name, source.size, None, "unlisted", _UNLISTED)
    except (OSError, NotFoundError):
        return ListedFile(source.name, source.size, None, "unusable", _GONE)


def _compare(known: str | None, file: ListedFile, source: Source) -> tuple[str | None, ListedFile]:
    """Compare a file with what is known under its identity; the first one becomes what is known."""
    try:
        digest = _digest(source.open)
    except (OSError, NotFoundError):
        return known, replace(file, path=None, outcome="unusable", reason=_GONE)
    if known is None:
        return digest, file
    return known, replace(file, outcome="identical" if digest == known else "conflicting")


def _digest_in_store(store: Store, path: InstancePath) -> str:
    with tempfile.TemporaryDirectory(prefix="airflow-dicomweb-") as folder:
        (file,) = store.retrieve(path.study, path.series, path.instance, destination=folder)
        return _digest(lambda: Path(file).open("rb"))


def _digest(opener: Callable[[], BinaryIO]) -> str:
    digest = hashlib.sha256()
    with opener() as stream:
        while block := stream.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
