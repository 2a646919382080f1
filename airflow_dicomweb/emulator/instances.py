"""The instances: files on the disk, rows in the index.

::

    DATA_DIR/
      lock                       held by the running emulator
      index.sqlite3              datasets, stores, instances, operations (see database.py)
      instances/3f/3f2a....dcm   one file for each stored instance, byte for byte as it came
      incoming/3f2a...           what is made of instances on the way to a client

A file is written and synced before the row that names it is committed, and its row goes before it does. So a row never
lacks its file; a file without a row, left by a request under way or a kill, is removed at the next start.
"""

from __future__ import annotations

import fcntl
import sqlite3
import time
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath
from airflow_dicomweb.emulator.data_folder import INDEX, old_leftovers, own_files, refuse_foreign, unusable
from airflow_dicomweb.emulator.database import Database
from airflow_dicomweb.emulator.notifications import Action, Announce, Change
from airflow_dicomweb.emulator.receiving import Incoming, Places
from airflow_dicomweb.errors import ConfigurationError

Outcome = Literal["created", "replaced", "identical", "conflict", "deleting", "no store"]


@dataclass(frozen=True, slots=True)
class Candidate:
    """A received file that can be stored.

    :param incoming: The file.
    :param path: Identity, read from the data set.
    :param sop_class: SOP Class UID, or an empty string.
    :param transfer_syntax: Transfer Syntax UID.
    :param frames: Number of frames, 1 or more.
    :param search: The values that a search can match, by column.
    :param attributes: The attributes that a search returns, as DICOM JSON text.
    """

    incoming: Incoming
    path: InstancePath
    sop_class: str
    transfer_syntax: str
    frames: int
    search: dict[str, str] = field(default_factory=dict)
    attributes: str = "{}"


@dataclass(frozen=True, slots=True)
class Stored:
    """An instance of a store.

    :param id: Row number: instances are listed in the order in which they were stored.
    :param file: Where its bytes are.
    """

    id: int
    path: InstancePath
    file: Path
    size: int
    sop_class: str
    transfer_syntax: str
    frames: int
    sha256: str


_SEARCH_COLUMNS = (
    "patient_name",
    "patient_id",
    "accession_number",
    "referring_physician_name",
    "study_date",
    "modality",
)
_COLUMNS = (
    *("store", "study", "series", "instance", "sop_class", "transfer_syntax", "frames", "size", "sha256", "file"),
    *("storage_class", "stored_at", *_SEARCH_COLUMNS, "attributes"),
)
_INSERT = f"INSERT INTO instances ({', '.join(_COLUMNS)}) VALUES ({', '.join('?' * len(_COLUMNS))})"  # noqa: S608


class Instances:
    """All instances of all stores under one data folder.

    :param folder: The data folder; made when it is not there.
    :param announce: Called in the transaction that changes instances: what it writes is on the disk together with the
        change, and an exception undoes both.
    :raises ConfigurationError: If another emulator uses it, it was not made by the emulator, or its index is broken.
    """

    def __init__(self, folder: Path, announce: Announce) -> None:
        self._announce = announce
        refuse_foreign(folder)
        self.incoming_folder, self._files = folder / "incoming", folder / "instances"
        for each in (folder, self.incoming_folder, self._files):
            each.mkdir(parents=True, exist_ok=True)
        self._places = Places(self._files)
        self._lock = (folder / "lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._lock.close()
            raise ConfigurationError("another emulator is using this data folder: choose another one") from None
        try:
            self.database = Database(folder / INDEX)
            self._sweep()
        except sqlite3.DatabaseError as error:
            self._lock.close()
            raise unusable(error) from None

    def _sweep(self) -> None:
        """Remove what a kill left behind, and nothing that anybody else put there."""
        for left in (*own_files(self.incoming_folder), *old_leftovers(self.incoming_folder)):
            left.unlink()
        with self.database.reading() as index:
            known = {row["file"] for row in index.execute("SELECT file FROM instances")}
        for folder in filter(Path.is_dir, self._files.iterdir()):
            for file in own_files(folder, ".dcm"):
                if file.stem not in known and file == self.file(file.stem):
                    file.unlink()

    def close(self) -> None:
        """Let go of the data folder."""
        self.database.close()
        self._lock.close()

    def receive(self) -> Incoming:
        """Begin to receive a file."""
        return self._places.receive()

    def store(
        self,
        store: int,
        candidates: Sequence[Candidate],
        storage_class: str = "STANDARD",
        *,
        replace: bool = False,
        action: Action = "StoreInstances",
    ) -> list[Outcome]:
        """Store what can be stored, all in one transaction; when this returns, it is on the disk.

        :param store: Row number of the store.
        :param replace: Whether other bytes take the place of those that are there.
        :param action: What stores them.
        :return: One outcome for each candidate, in order.
        """
        for candidate in candidates:
            candidate.incoming.sync()
        folders = {candidate.incoming.path.parent for candidate in candidates}
        superseded: set[str] = set()

        def insert(index: sqlite3.Connection) -> list[Outcome]:
            outcomes = []
            for candidate in candidates:
                outcome, old = self._insert(index, store, candidate, storage_class, replace=replace)
                outcomes.append(outcome)
                superseded.update(old)
            changes = [
                Change(candidate.path, candidate.search.get("modality", ""), storage_class)
                for candidate, outcome in zip(candidates, outcomes, strict=True)
                if outcome in {"created", "replaced"}
            ]
            self._announce(index, store, action, changes)
            return outcomes

        outcomes = self.database.write_together(insert, folders)
        for candidate, outcome in zip(candidates, outcomes, strict=True):
            if outcome in {"created", "replaced"} and candidate.incoming.id not in superseded:
                candidate.incoming.keep()
        for name in superseded:
            self.file(name).unlink(missing_ok=True)
        return outcomes

    def file(self, name: str) -> Path:
        """Give the place of a stored file by its name in the index."""
        return self._places.path(name)

    def _insert(
        self, index: sqlite3.Connection, store: int, candidate: Candidate, storage_class: str, *, replace: bool
    ) -> tuple[Outcome, set[str]]:
        """Write a row; give what happened, and the file that the row before it named."""
        path, incoming = candidate.path, candidate.incoming
        if index.execute("SELECT 1 FROM stores WHERE id = ?", [store]).fetchone() is None:
            return "no store", set()
        known = index.execute(
            "SELECT id, sha256, file FROM instances WHERE store = ? AND study = ? AND series = ? AND instance = ?",
            [store, path.study, path.series, path.instance],
        ).fetchone()
        if known is not None and (known["sha256"] == incoming.sha256 or not replace):
            return "identical" if known["sha256"] == incoming.sha256 else "conflict", set()
        if self._is_being_deleted(index, store, path):
            return "deleting", set()
        if known is not None:
            # A new row, not a changed one: who listed the old one before deletes or reads that, and never the new one.
            index.execute("DELETE FROM instances WHERE id = ?", [known["id"]])
        row: list[object] = [store, path.study, path.series, path.instance]
        row += [candidate.sop_class, candidate.transfer_syntax, candidate.frames, incoming.size, incoming.sha256]
        row += [incoming.id, storage_class, time.time()]
        row += [candidate.search.get(column, "") for column in _SEARCH_COLUMNS]
        index.execute(_INSERT, [*row, candidate.attributes])
        return ("created", set()) if known is None else ("replaced", {known["file"]})

    @staticmethod
    def _is_being_deleted(index: sqlite3.Connection, store: int, path: InstancePath) -> bool:
        # Inserts into a study or series fail while an operation deletes it.
        targets = [f"{store}/studies/{path.study}", f"{store}/{SeriesPath(path.study, path.series)}"]
        found = index.execute("SELECT 1 FROM operations WHERE ended IS NULL AND target IN (?, ?)", targets)
        return found.fetchone() is not None

    def find(self, store: int, path: ResourcePath | None = None) -> list[Stored]:
        """List the instances of a store, or of one of its studies or series, or one instance; oldest first."""
        where, values = _condition(store, path)
        columns = "id, study, series, instance, file, size, sop_class, transfer_syntax, frames, sha256"
        with self.database.reading() as index:
            rows = index.execute(f"SELECT {columns} FROM instances WHERE {where} ORDER BY id", values)  # noqa: S608
            return [self._stored(row) for row in rows]

    def select(self, store: int, paths: Iterable[ResourcePath]) -> list[Stored | ResourcePath]:
        """List what paths stand for, each instance once, and then the paths under which nothing is stored."""
        selected: dict[int, Stored] = {}
        missing: list[ResourcePath] = []
        for path in paths:
            found = self.find(store, path)
            selected.update((stored.id, stored) for stored in found)
            missing += [] if found else [path]
        return [*selected.values(), *missing]

    def _stored(self, row: sqlite3.Row) -> Stored:
        path = InstancePath(row["study"], row["series"], row["instance"])
        file = self.file(row["file"])
        kept = {key: row[key] for key in ("id", "size", "sop_class", "transfer_syntax", "frames", "sha256")}
        return Stored(path=path, file=file, **kept)

    def attributes(self, stored: Stored) -> str:
        """Give what the index holds of an instance's attributes, as DICOM JSON text."""
        with self.database.reading() as index:
            row = index.execute("SELECT attributes FROM instances WHERE id = ?", [stored.id]).fetchone()
        return "{}" if row is None else str(row["attributes"])

    def set_storage_class(self, instances: Sequence[Stored], storage_class: str) -> None:
        """Change the storage class of instances; ``stored_at`` says since when it is theirs."""
        with self.database.writing() as index:
            self._change(index, "SetBlobSettings", instances, storage_class)
            index.executemany(
                "UPDATE instances SET storage_class = ?, stored_at = ? WHERE id = ?",
                [(storage_class, time.time(), instance.id) for instance in instances],
            )

    def delete(self, instances: Sequence[Stored]) -> int:
        """Delete instances in one transaction; give the number of those that were still there."""
        with self.database.writing() as index:
            self._change(index, "DeleteInstances", instances)
            deleted = [
                instance
                for instance in instances
                if index.execute("DELETE FROM instances WHERE id = ?", [instance.id]).rowcount
            ]
        self.forget(deleted)
        return len(deleted)

    def _change(
        self, index: sqlite3.Connection, action: Action, instances: Sequence[Stored], storage_class: str = ""
    ) -> None:
        """Announce what happens to instances of one store that are still there."""
        changes, store = [], 0
        for each in instances:
            row = index.execute(
                "SELECT store, modality, storage_class FROM instances WHERE id = ?", [each.id]
            ).fetchone()
            if row is not None:
                store, before = row["store"], row["storage_class"]
                previous = before if storage_class else ""
                changes.append(Change(each.path, row["modality"], storage_class or before, previous))
        self._announce(index, store, action, changes)

    def forget(self, instances: Iterable[Stored]) -> None:
        """Remove the files of instances whose rows are gone."""
        for instance in instances:
            with suppress(FileNotFoundError):
                instance.file.unlink()


def _condition(store: int, path: ResourcePath | None) -> tuple[str, list[object]]:
    where, values = "store = ?", [store]
    parts: list[object] = list(values)
    for column in ("study", "series", "instance"):
        uid = getattr(path, column, None)
        if uid is not None:
            where += f" AND {column} = ?"
            parts.append(uid)
    return where, parts
