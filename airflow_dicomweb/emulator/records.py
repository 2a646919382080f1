"""Operations in the index: each survives a restart, finished or not.

Source: Cloud Healthcare API v1 ``Operation``, ``OperationMetadata``.
"""

from __future__ import annotations

import json
import sqlite3
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from airflow_dicomweb.emulator.database import Database
from airflow_dicomweb.emulator.messages import CANCELLED
from airflow_dicomweb.healthcare.operations import Operation

_METHODS = {
    "import": "dicom.DicomService.ImportDicomData",
    "export": "dicom.DicomService.ExportDicomData",
    "delete_study": "dicomweb.DicomWebService.DeleteStudy",
    "delete_series": "dicomweb.DicomWebService.DeleteSeries",
    "set_storage_class": "storageinfo.StorageInfoService.SetBlobStorageSettings",
    "create_dataset": "dataset.DatasetService.CreateDataset",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One item of an operation that failed.

    :param source: What failed: a ``gs://`` URI or a resource path.
    :param code: ``google.rpc.Code``.
    :param message: Why.
    """

    source: str
    code: int
    message: str


@dataclass(frozen=True, slots=True)
class Record:
    """An operation as the index holds it.

    :param kind: What it does: a key of the table of methods.
    :param version: Version of the call that started it.
    :param target: What it works on, ``STORE_ROW/studies/...`` for deletions.
    :param arguments: What it needs to be run, and run again after a restart.
    :param seconds: How long it takes at least.
    :param created: Unix time.
    """

    name: str
    dataset: str
    kind: str
    version: str
    target: str
    arguments: Mapping[str, Any]
    seconds: float
    created: float
    ended: float | None
    success: int
    failure: int
    pending: int
    cancel_requested: bool
    error_code: int | None
    error_message: str
    response: Mapping[str, Any] | None

    def operation(self, logs_url: str) -> Operation:
        """Give it in the form that goes over the wire."""
        done = self.ended is not None
        return Operation(
            name=self.name,
            method=f"google.cloud.healthcare.{self.version}.{_METHODS[self.kind]}",
            api_version=self.version,
            create_time=rfc3339(self.created),
            end_time=None if self.ended is None else rfc3339(self.ended),
            success=self.success,
            failure=self.failure,
            pending=self.pending,
            logs_url=logs_url if done else None,
            cancel_requested=self.cancel_requested,
            done=done,
            error_code=self.error_code,
            error_message=self.error_message,
            response=self.response,
        )


class Records:
    """The table of operations.

    :param database: The index.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._last_id = 0
        self._lock = threading.Lock()

    def _new_id(self) -> int:
        # 19 digits, as the service's are, and in the order of their making.
        with self._lock:
            self._last_id = max(self._last_id + 1, time.time_ns())
            return self._last_id

    def add(
        self, kind: str, dataset: str, *, version: str, target: str, arguments: Mapping[str, Any], seconds: float
    ) -> Record:
        """Note an operation that begins now; its fields are those of :class:`Record`."""
        name = f"{dataset}/operations/{self._new_id()}"
        with self._database.writing() as index:
            index.execute(
                "INSERT INTO operations (name, dataset, kind, version, target, arguments, seconds, created) "
                "VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                [name, dataset, kind, version, target, json.dumps(dict(arguments)), seconds, time.time()],
            )
        return self.get(name)

    def get(self, name: str) -> Record:
        """Read one operation.

        :raises KeyError: If there is none of that name.
        """
        with self._database.reading() as index:
            row = index.execute("SELECT * FROM operations WHERE name = ?", [name]).fetchone()
        if row is None:
            raise KeyError(name)
        return _record(row)

    def all(self, dataset: str | None = None) -> list[Record]:
        """List the operations of a dataset, or of all, newest first."""
        where, values = ("WHERE dataset = ?", [dataset]) if dataset is not None else ("", [])
        with self._database.reading() as index:
            rows = index.execute(f"SELECT * FROM operations {where} ORDER BY created DESC, name DESC", values)  # noqa: S608
            return [_record(row) for row in rows]

    def unfinished(self) -> list[Record]:
        """List what was running when the emulator was stopped."""
        return [record for record in self.all() if record.ended is None]

    def count(self, name: str, success: int, failure: int, pending: int, failures: Sequence[Failure] = ()) -> None:
        """Note how far an operation has come."""
        with self._database.writing() as index:
            index.execute(
                "UPDATE operations SET success = ?, failure = ?, pending = ? WHERE name = ?",
                [success, failure, pending, name],
            )
            # Its dataset may have been deleted meanwhile, and its note with it.
            index.executemany(
                "INSERT INTO operation_errors (operation, source, code, message) "
                "SELECT name, ?, ?, ? FROM operations WHERE name = ?",
                [(each.source, each.code, each.message, name) for each in failures],
            )

    def begin_again(self, name: str) -> None:
        """Forget the failures of a run that a restart cut short: the items are tried once more."""
        with self._database.writing() as index:
            index.execute("DELETE FROM operation_errors WHERE operation = ?", [name])

    def request_cancel(self, name: str) -> None:
        """Note that somebody wants it to stop; one that has ended stays as it is."""
        with self._database.writing() as index:
            index.execute("UPDATE operations SET cancel_requested = 1 WHERE name = ? AND ended IS NULL", [name])

    def end(self, name: str, error: tuple[int, str] | None, response: Mapping[str, Any] | None) -> None:
        """Note how it ended."""
        code, message = error or (None, "")
        text = None if response is None else json.dumps(dict(response))
        with self._database.writing() as index:
            index.execute(
                "UPDATE operations SET ended = ?, pending = CASE ? WHEN ? THEN pending ELSE 0 END, "
                "error_code = ?, error_message = ?, response = ? WHERE name = ?",
                [time.time(), code, CANCELLED, code, message, text, name],
            )

    def forget(self, dataset: str) -> None:
        """Remove the notes of a dataset's operations."""
        with self._database.writing() as index:
            index.execute("DELETE FROM operations WHERE dataset = ?", [dataset])

    def failures(self, name: str) -> list[Failure]:
        """List the items that failed."""
        with self._database.reading() as index:
            rows = index.execute(
                "SELECT source, code, message FROM operation_errors WHERE operation = ? ORDER BY id", [name]
            )
            return [Failure(row["source"], row["code"], row["message"]) for row in rows]


def rfc3339(moment: float) -> str:
    """Write Unix time as the service does."""
    return datetime.fromtimestamp(moment, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _record(row: sqlite3.Row) -> Record:
    fields: dict[str, Any] = dict(row)
    fields["arguments"] = json.loads(row["arguments"])
    fields["response"] = None if row["response"] is None else json.loads(row["response"])
    fields["cancel_requested"] = bool(row["cancel_requested"])
    return Record(**fields)
