"""The data folder before it is opened: whose it is. What others put somewhere is never taken for the emulator's own.

Source: sqlite.org, URI filenames and the schema table.
"""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from airflow_dicomweb.errors import ConfigurationError

INDEX = "index.sqlite3"
"""Name of the index in the data folder: a folder that has one was made by the emulator."""

_NAME = re.compile(r"[0-9a-f]{32}")
_OLD_NAME = re.compile(r"tmp[a-z0-9_]{8}")
_TABLES = {
    *("datasets", "stores", "instances", "operations", "operation_errors", "policies"),
    *("topics", "subscriptions", "messages"),
}


def refuse_foreign(folder: Path) -> None:
    """Let through a folder that is not there, is empty, or was made by the emulator; nothing in it is touched.

    :param folder: The data folder.
    :raises ConfigurationError: If it holds anything else, or its index is broken.
    :raises OSError: If it cannot be read.
    """
    if not folder.exists():
        return
    tables = _tables(folder / INDEX)
    if "instances" in tables and tables <= _TABLES:
        return
    # An emulator that was killed while it started for the first time left no more than this.
    if tables or not all(_is_of_a_start(path) for path in folder.iterdir()):
        raise ConfigurationError(
            "the data folder is not empty and was not made by the emulator: choose a new or empty folder"
        )


def own_files(folder: Path, suffix: str = "") -> Iterator[Path]:
    """List the files in a folder that have a name such as the emulator gives; no folders, no links.

    :param suffix: What follows the name.
    """
    for path in folder.iterdir():
        name = path.name.removesuffix(suffix)
        if path.name == name + suffix and _NAME.fullmatch(name) and path.is_file() and not path.is_symlink():
            yield path


def old_leftovers(folder: Path) -> Iterator[Path]:
    """List the files that a kill of version 0.1 left where incoming files were: Python named them."""
    return (
        path for path in folder.iterdir() if _OLD_NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink()
    )


def unusable(error: sqlite3.DatabaseError) -> ConfigurationError:
    """Say that the index cannot be used."""
    return ConfigurationError(
        f"{INDEX} in the data folder cannot be used ({error}): restore it, or choose a new folder"
    )


def _tables(index: Path) -> set[str]:
    if not index.exists():
        return set()
    # SQLite makes files next to a database that it opens, unless it is told that nobody writes to it. While it has a
    # write-ahead log, they are there already, and the log may hold the tables.
    mode = "mode=ro" if index.with_name(f"{INDEX}-wal").exists() else "immutable=1"
    try:
        with closing(sqlite3.connect(f"{index.absolute().as_uri()}?{mode}", uri=True)) as connection:
            rows = connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall()
    except sqlite3.DatabaseError as error:
        raise unusable(error) from None
    return {name for (name,) in rows if not name.startswith("sqlite_")}


def _is_of_a_start(path: Path) -> bool:
    if path.name in {"incoming", "instances"}:
        return path.is_dir() and not any(path.iterdir())
    if path.name == "lock":
        return path.is_file() and path.stat().st_size == 0
    return path.name in {INDEX, f"{INDEX}-wal", f"{INDEX}-shm", f"{INDEX}-journal"}
