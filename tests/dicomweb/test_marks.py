"""A file is believed to be whole only if it has the bytes that it had when it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.marks import RECORD, Checksum, Mark, Marks

KEY = "studies/1/series/2/instances/3"


@pytest.fixture(params=[True, False], ids=["attributes", "a hidden file"])
def marks(request: pytest.FixtureRequest, tmp_path: Path) -> Marks:
    """Both ways to mark a file."""
    return Marks(tmp_path, attributes=request.param)


def marked(marks: Marks, path: Path, content: bytes, key: str = KEY) -> Path:
    path.write_bytes(content)
    checksum = Checksum()
    checksum.add(content[:5])
    checksum.add(content[5:])
    marks.set(path, Mark(key, checksum.size, checksum.text))
    return path


def test_the_checksum_is_the_one_of_the_standard() -> None:
    checksum = Checksum()
    checksum.add(b"123456789")  # the check value of CRC-32C
    assert (checksum.text, checksum.size) == ("e3069283", 9)


def test_a_marked_file_is_whole_also_for_another_process_and_under_another_name(marks: Marks, tmp_path: Path) -> None:
    path = marked(marks, tmp_path / "a", b"content of it").rename(tmp_path / "b")
    assert marks.whole(path, KEY) == Marks(tmp_path).whole(path, KEY) == Mark(KEY, 13, str(marks.whole(path, KEY))[:8])


@pytest.mark.parametrize("change", ["cut", "longer", "changed", "replaced", "gone", "folder", "other key", "empty"])
def test_a_file_that_is_not_as_it_was_is_not_whole(marks: Marks, tmp_path: Path, change: str) -> None:
    path = marked(marks, tmp_path / "a", b"content of it")
    assert marks.whole(path, KEY) is not None
    key = "studies/1/series/2/instances/4" if change == "other key" else KEY
    if change in {"gone", "folder", "replaced"}:
        path.unlink()
    match change:
        case "cut":
            os.truncate(path, 12)
        case "empty":
            os.truncate(path, 0)
        case "longer":
            with path.open("ab") as file:
                file.write(b"!")
        case "changed":
            with path.open("r+b") as file:
                file.write(b"C")
        case "replaced":
            (tmp_path / "new").write_bytes(b"content of IT")
            (tmp_path / "new").replace(path)
        case "folder":
            path.mkdir()
    assert marks.whole(path, key) is None


def test_a_file_without_a_mark_is_not_whole(marks: Marks, tmp_path: Path) -> None:
    (tmp_path / "foreign").write_bytes(b"content of it")
    assert marks.whole(tmp_path / "foreign", KEY) is None


def test_where_there_are_attributes_nothing_else_lies_in_the_folder(tmp_path: Path) -> None:
    marked(Marks(tmp_path, attributes=True), tmp_path / "a", b"x")
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_hidden_file_is_private_and_survives_a_line_that_was_cut(tmp_path: Path) -> None:
    marks = Marks(tmp_path, attributes=False)
    path = marked(marks, tmp_path / "a", b"x")
    record = tmp_path / RECORD
    assert record.stat().st_mode & 0o777 == 0o600
    whole = record.read_bytes()
    record.write_bytes(b'{"\n3\n[1]\n"a b c"\n' + whole + whole[:20])
    assert Marks(tmp_path).whole(path, KEY) is not None
    assert json.loads(whole) == str(marks.whole(path, KEY))


@pytest.mark.parametrize("text", ["", "a", "a b", "a b c", "a -1 c", "a 1 ", "a 1.5 c", " 1 c x"])
def test_what_is_no_mark_is_none(text: str) -> None:
    assert Mark.parse(text) in {None, Mark("c x", 1, "")}


def test_a_mark_is_read_as_it_was_written() -> None:
    mark = Mark("studies/1/rendered image/png (('viewport', '1,2'),)", 5, "e3069283")
    assert Mark.parse(str(mark)) == mark
