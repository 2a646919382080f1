"""The index: one SQLite file, one writer at a time, readers that never wait for it.

What a request acknowledges is one transaction, on the disk before the answer is sent.

Source: sqlite.org, write-ahead logging.
"""

from __future__ import annotations

import queue
import sqlite3
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Generic, TypeVar

from airflow_dicomweb.emulator.matching import fuzzy_match
from airflow_dicomweb.emulator.receiving import sync_folder

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS datasets (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS stores (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  dataset TEXT NOT NULL REFERENCES datasets (name) ON DELETE CASCADE,
  name TEXT NOT NULL UNIQUE,
  body TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS instances (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  store INTEGER NOT NULL REFERENCES stores (id) ON DELETE CASCADE,
  study TEXT NOT NULL,
  series TEXT NOT NULL,
  instance TEXT NOT NULL,
  sop_class TEXT NOT NULL,
  transfer_syntax TEXT NOT NULL,
  frames INTEGER NOT NULL,
  size INTEGER NOT NULL,
  sha256 TEXT NOT NULL,
  file TEXT NOT NULL,
  storage_class TEXT NOT NULL,
  stored_at REAL NOT NULL,
  patient_name TEXT NOT NULL,
  patient_id TEXT NOT NULL,
  accession_number TEXT NOT NULL,
  referring_physician_name TEXT NOT NULL,
  study_date TEXT NOT NULL,
  modality TEXT NOT NULL,
  attributes TEXT NOT NULL,
  UNIQUE (store, study, series, instance)
);
CREATE INDEX IF NOT EXISTS instances_of_store ON instances (store);
CREATE INDEX IF NOT EXISTS instances_by_uid ON instances (store, instance);
CREATE INDEX IF NOT EXISTS instances_by_patient ON instances (store, patient_id);
CREATE TABLE IF NOT EXISTS operations (
  name TEXT PRIMARY KEY,
  dataset TEXT NOT NULL,
  kind TEXT NOT NULL,
  version TEXT NOT NULL,
  target TEXT NOT NULL,
  arguments TEXT NOT NULL,
  seconds REAL NOT NULL,
  created REAL NOT NULL,
  ended REAL,
  success INTEGER NOT NULL DEFAULT 0,
  failure INTEGER NOT NULL DEFAULT 0,
  pending INTEGER NOT NULL DEFAULT 0,
  cancel_requested INTEGER NOT NULL DEFAULT 0,
  error_code INTEGER,
  error_message TEXT NOT NULL DEFAULT '',
  response TEXT
);
CREATE INDEX IF NOT EXISTS operations_unfinished ON operations (target) WHERE ended IS NULL;
CREATE TABLE IF NOT EXISTS policies (resource TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS operation_errors (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  operation TEXT NOT NULL REFERENCES operations (name) ON DELETE CASCADE,
  source TEXT NOT NULL,
  code INTEGER NOT NULL,
  message TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS operation_errors_of ON operation_errors (operation);
CREATE TABLE IF NOT EXISTS topics (name TEXT PRIMARY KEY, body TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS subscriptions (
  name TEXT PRIMARY KEY,
  topic TEXT NOT NULL,
  ack_deadline INTEGER NOT NULL,
  body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS subscriptions_of_topic ON subscriptions (topic);
CREATE TABLE IF NOT EXISTS messages (
  id INTEGER PRIMARY KEY AUTOINCREMENT,
  subscription TEXT NOT NULL REFERENCES subscriptions (name) ON DELETE CASCADE,
  message_id TEXT NOT NULL,
  data TEXT NOT NULL,
  attributes TEXT NOT NULL,
  published REAL NOT NULL,
  ack_id TEXT UNIQUE,
  visible_from REAL NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS messages_of_subscription ON messages (subscription, id);
CREATE INDEX IF NOT EXISTS messages_by_message_id ON messages (message_id);
"""


class _Part(Generic[T]):
    """What one thread writes in a transaction of several."""

    def __init__(self, write: Callable[[sqlite3.Connection], T], folders: Iterable[Path]) -> None:
        self._write, self.folders = write, folders
        self.result: T | None = None
        self.error: BaseException | None = None
        self.done = False

    def write_apart(self, connection: sqlite3.Connection) -> None:
        connection.execute("SAVEPOINT part")
        try:
            self.result = self._write(connection)
        except Exception as error:  # noqa: BLE001 - it is the waiting thread's
            self.error = error
            connection.execute("ROLLBACK TO part")
        connection.execute("RELEASE part")


class Database:
    """Connections to the index, shared between threads.

    :param path: The file; made when it is not there.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: queue.SimpleQueue[sqlite3.Connection] = queue.SimpleQueue()
        self._writer_lock = threading.Lock()
        self._waiting: deque[_Part[Any]] = deque()
        self._writer = self._connect()
        self._writer.executescript(_SCHEMA)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, isolation_level=None, check_same_thread=False, timeout=60)
        connection.row_factory = sqlite3.Row
        connection.execute("PRAGMA journal_mode = WAL")
        # An answer says "stored": FULL syncs the log at each commit.
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.create_function("fuzzy_match", 2, fuzzy_match, deterministic=True)
        return connection

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Lend a connection that sees one state of the index, however long the reading takes."""
        try:
            connection = self._idle.get_nowait()
        except queue.Empty:
            connection = self._connect()
        try:
            connection.execute("BEGIN")
            yield connection
        finally:
            connection.rollback()
            self._idle.put(connection)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """Lend the writing connection for one transaction: committed at the end, or undone by an exception."""
        with self._writer_lock:
            self._writer.execute("BEGIN IMMEDIATE")
            try:
                yield self._writer
                self._writer.execute("COMMIT")
            except BaseException:
                self._writer.rollback()
                raise

    def write_together(self, write: Callable[[sqlite3.Connection], T], folders: Iterable[Path] = ()) -> T:
        """Write in one transaction with whatever other threads wait to write: they share one sync of the disk.

        :param write: Writes, and gives what this gives once that is on the disk; an exception undoes this part alone.
        :param folders: Where the files are that the rows will name; their names are put on the disk first.
        """
        part = _Part(write, folders)
        self._waiting.append(part)
        with self._writer_lock:
            if not part.done:
                self._write_waiting()
        if part.error is not None:
            raise part.error
        return part.result  # type: ignore[return-value]  # it is done, and did not fail

    def _write_waiting(self) -> None:
        parts = [self._waiting.popleft() for _ in range(len(self._waiting))]
        try:
            for folder in {folder for part in parts for folder in part.folders}:
                sync_folder(folder)
            self._writer.execute("BEGIN IMMEDIATE")
            for part in parts:
                part.write_apart(self._writer)
            self._writer.execute("COMMIT")
        except BaseException as error:  # noqa: BLE001 - as above
            self._writer.rollback()
            for part in parts:
                part.error = part.error or error
        finally:
            for part in parts:
                part.done = True

    def close(self) -> None:
        """Close what no thread is using."""
        with self._writer_lock:
            self._writer.close()
        while not self._idle.empty():
            self._idle.get().close()
