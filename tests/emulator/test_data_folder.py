"""The emulator opens its own data folder, and touches nothing that is not its own."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
from contextlib import closing

import pytest

from airflow_dicomweb.emulator import running_emulator
from airflow_dicomweb.errors import ConfigurationError
from tests.emulator.api import PATIENCE, Api, instance

OWN_NAME = "0123456789abcdef" * 2
NOT_OURS = "error: the data folder is not empty and was not made by the emulator: choose a new or empty folder\n"


def refusal(folder):
    """Start on a folder that is refused; give what was said, when nothing in the folder has changed."""
    before = contents(folder)
    command = [sys.executable, "-m", "airflow_dicomweb.emulator", "--port", "0", "--data-dir", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert contents(folder) == before
    assert done.stdout == ""
    return done.stderr


def contents(folder):
    return {path: path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def write(path, data=b"somebody's"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize(
    "name",
    [
        "scan.dcm",
        "incoming/scan.dcm",
        f"incoming/{OWN_NAME}",
        f"instances/01/{OWN_NAME}.dcm",
        "lock",
        "other/deep/file",
    ],
)
def test_a_folder_with_files_of_somebody_elses_is_refused_and_left_as_it_is(tmp_path, name):
    write(tmp_path / "data" / name)
    assert refusal(tmp_path / "data") == NOT_OURS


def test_a_folder_with_a_database_of_somebody_elses_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    with closing(sqlite3.connect(tmp_path / "data" / "index.sqlite3")) as database:
        database.execute("PRAGMA journal_mode = WAL")
        database.execute("CREATE TABLE books (title TEXT)")
    assert refusal(tmp_path / "data") == NOT_OURS


def test_stored_files_without_their_index_are_refused_not_swept(tmp_path):
    with running_emulator(tmp_path / "data") as emulator:
        Api(emulator).store(instance())
    (tmp_path / "data" / "index.sqlite3").unlink()
    assert refusal(tmp_path / "data") == NOT_OURS
    write(tmp_path / "data" / "index.sqlite3", b"")
    assert refusal(tmp_path / "data") == NOT_OURS


@pytest.mark.parametrize("intact", [0, 4096])
def test_a_broken_index_is_told_in_one_line(tmp_path, intact):
    with running_emulator(tmp_path / "data") as emulator:
        Api(emulator).store(instance())
    index = tmp_path / "data" / "index.sqlite3"
    index.write_bytes(index.read_bytes()[:intact] + b"not a database " * 4000)
    words = refusal(tmp_path / "data")
    assert words.startswith("error: index.sqlite3 in the data folder cannot be used (")
    assert words.endswith("): restore it, or choose a new folder\n")
    assert words.count("\n") == 1


def test_an_empty_folder_and_one_of_a_start_that_was_killed_are_opened(tmp_path):
    for name in ("empty/", "killed/incoming/", "killed/instances/"):
        (tmp_path / name).mkdir(parents=True)
    write(tmp_path / "killed" / "lock", b"")
    for name in ("empty", "killed"):
        with running_emulator(tmp_path / name) as emulator:
            assert Api(emulator).store(instance()).status_code == 200


def test_own_leftovers_are_swept_and_all_else_in_the_folder_survives(tmp_path):
    data = tmp_path / "data"
    with running_emulator(data) as emulator:
        Api(emulator).store(instance())
    stored = list((data / "instances").rglob("*.dcm"))
    left = [write(data / "incoming" / name) for name in (OWN_NAME, "tmpab_c1d2e")]
    left += [write(data / "instances" / "01" / f"{OWN_NAME}.dcm")]
    foreign = [
        write(data / name)
        for name in (
            "notes.txt",
            "incoming/scan.dcm",
            f"incoming/{OWN_NAME}.dcm",
            f"incoming/{'ab' * 16}/file",
            "instances/scan.dcm",
            "instances/01/scan.dcm",
            f"instances/99/{OWN_NAME}.dcm",
        )
    ]
    target = write(tmp_path / "elsewhere")
    (data / "incoming" / ("cd" * 16)).symlink_to(target)
    with running_emulator(data) as emulator:
        assert len(Api(emulator).tuples()) == 1
    assert [path for path in left if path.exists()] == []
    assert [path for path in [*foreign, *stored, target, data / "incoming" / ("cd" * 16)] if not path.exists()] == []


def test_an_empty_name_of_a_folder_is_refused():
    with pytest.raises(ConfigurationError, match="not an empty string"), running_emulator(""):
        pass
