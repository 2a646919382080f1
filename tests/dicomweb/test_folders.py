"""Files get their names together, or stay hidden and private until they do."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.folders import Folder
from airflow_dicomweb.dicomweb.marks import Marks
from airflow_dicomweb.errors import ConfigurationError


def keep(folder: Folder, name: str, content: bytes) -> None:
    incoming = folder.begin()
    incoming.write(content)
    folder.keep(incoming, f"key of {name}", name)


def files(path: Path) -> list[str]:
    return sorted(str(each.relative_to(path)) for each in path.rglob("*") if each.is_file())


@pytest.fixture(params=[True, False], ids=["attributes", "a hidden file"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Folder:
    """A folder, with both ways to mark files."""
    return Folder(tmp_path, "1.2", Marks(tmp_path, attributes=request.param))


def test_files_get_their_names_together_and_replace_older_ones(tmp_path: Path) -> None:
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "b").write_bytes(b"old")
    with Folder(tmp_path, "1.2") as folder:
        keep(folder, "x/a", b"one")
        keep(folder, "x/b", b"two")
        assert (tmp_path / "x" / "b").read_bytes() == b"old"
        assert not (tmp_path / "x" / "a").exists()
        kept = folder.finish()
    assert files(tmp_path) == ["x/a", "x/b"]
    assert (tmp_path / "x" / "b").read_bytes() == b"two"
    assert kept["key of x/a"].location == str(tmp_path / "x" / "a")
    assert kept["key of x/a"].size == 3


def test_files_are_for_their_owner_alone_from_the_beginning(tmp_path: Path) -> None:
    with Folder(tmp_path, "1.2") as folder:
        incoming = folder.begin()
        incoming.write(b"x")
        assert incoming.path is not None
        modes = [stat.S_IMODE(each.stat().st_mode) for each in (Path(incoming.path).parent, Path(incoming.path))]
        folder.keep(incoming, "key", "a")
        modes += [stat.S_IMODE(each.stat().st_mode) for each in (tmp_path / ".1.2.part").iterdir()]
        folder.finish()
    assert [*modes, stat.S_IMODE((tmp_path / "a").stat().st_mode)] == [0o700, 0o600, 0o600, 0o600]


def test_what_was_whole_is_found_by_the_next_one_and_what_was_not_is_gone(folder: Folder, tmp_path: Path) -> None:
    with folder:
        keep(folder, "a", b"one")
        half = folder.begin()
        half.write(b"half")
        half.file.close()
    with Folder(tmp_path, "1.2") as again:
        again.look([("key of a", "a"), ("key of b", "b")])
        assert again.keys == {"key of a"}
        again.finish()
    assert (tmp_path / "a").read_bytes() == b"one"
    assert [name for name in files(tmp_path) if not name.startswith(".airflow")] == ["a"]


def test_what_has_its_name_already_is_found_and_stays(folder: Folder, tmp_path: Path) -> None:
    with folder:
        keep(folder, "a", b"one")
        folder.finish()
    before = (tmp_path / "a").stat()
    with Folder(tmp_path, "1.2") as again:
        again.look([("key of a", "a")])
        assert again.keys == {"key of a"}
        again.drop(["key of a", "another"])
        assert again.keys == frozenset()
    assert (tmp_path / "a").stat() == before


def test_what_is_dropped_is_gone(tmp_path: Path) -> None:
    with Folder(tmp_path, "1.2") as folder:
        keep(folder, "a", b"one")
        keep(folder, "b", b"two")
        folder.drop(["key of a"])
        folder.finish()
    assert files(tmp_path) == ["b"]


def test_a_name_that_is_taken_by_a_folder_stops_all_and_loses_nothing(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    with Folder(tmp_path, "1.2") as folder:
        keep(folder, "a", b"one")
        keep(folder, "b", b"two")
        with pytest.raises(ConfigurationError, match="Is a directory"):
            folder.finish()
    assert not (tmp_path / "a").exists()
    (tmp_path / "b").rmdir()
    with Folder(tmp_path, "1.2") as again:
        again.look([("key of a", "a"), ("key of b", "b")])
        again.finish()
    assert files(tmp_path) == ["a", "b"]


def test_two_retrievals_into_one_folder_do_not_touch_each_other(tmp_path: Path) -> None:
    with Folder(tmp_path, "1.2") as one, Folder(tmp_path, "1.3") as other:
        keep(one, "a", b"one")
        keep(other, "b", b"two")
        one.finish()
        assert other.keys == {"key of b"}
        other.finish()
    assert files(tmp_path) == ["a", "b"]


def test_two_of_the_same_at_a_time_both_end_right_and_leave_nothing_else(tmp_path: Path) -> None:
    with Folder(tmp_path, "1.2") as first, Folder(tmp_path, "1.2") as second:
        for folder in (first, second):
            keep(folder, "x/a", b"one")
            keep(folder, "x/b", b"two")
        half = second.begin()
        first.finish()
        half.write(b"three")
        second.keep(half, "key of x/c", "x/c")
        assert set(second.finish()) == {"key of x/a", "key of x/b", "key of x/c"}
    assert files(tmp_path) == ["x/a", "x/b", "x/c"]
    assert [(tmp_path / "x" / name).read_bytes() for name in "abc"] == [b"one", b"two", b"three"]
    assert sorted(each.name for each in tmp_path.iterdir()) == ["x"]


def test_one_that_fails_beside_another_of_the_same_takes_nothing_from_it(tmp_path: Path) -> None:
    with Folder(tmp_path, "1.2") as first:
        keep(first, "a", b"one")
        with Folder(tmp_path, "1.2") as second:
            second.look([("key of a", "a")])
            keep(second, "b", b"two")
            second.begin().file.close()
        assert first.keys == {"key of a"}
        keep(first, "b", b"two")
        first.finish()
    assert files(tmp_path) == ["a", "b"]


def test_what_several_killed_processes_left_is_removed_and_that_of_a_living_one_is_not(tmp_path: Path) -> None:
    for name in (".1.2.part", ".1.2.part.killed", ".1.2.3.part"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "left.tmp").write_bytes(b"half")
    with Folder(tmp_path, "1.2") as first, Folder(tmp_path, "1.2") as second:
        keep(first, "a", b"one")
        keep(second, "b", b"two")
        first.finish()
        assert not (tmp_path / ".1.2.part.killed").exists()
        second.finish()
    assert files(tmp_path) == [".1.2.3.part/left.tmp", "a", "b"]


def test_a_link_in_the_place_of_the_hidden_folder_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / ".1.2.part").symlink_to(tmp_path / "elsewhere")
    with Folder(tmp_path, "1.2") as folder, pytest.raises(ConfigurationError, match="destination"):
        folder.begin()
    assert files(tmp_path) == []


def test_what_killed_processes_left_is_removed_with_the_end_of_a_retrieval(tmp_path: Path) -> None:
    (tmp_path / ".1.2.part").mkdir()
    (tmp_path / ".1.2.part" / "left.tmp").write_bytes(b"half")
    (tmp_path / ".1.2.part" / "0123").write_bytes(b"something")
    with Folder(tmp_path, "1.2") as folder:
        keep(folder, "a", b"one")
        folder.finish()
    assert files(tmp_path) == ["a"]


def test_a_destination_that_is_a_file_is_refused_without_its_name(tmp_path: Path) -> None:
    (tmp_path / "Doe").write_text("")
    with pytest.raises(ConfigurationError, match="destination") as refusal:
        Folder(tmp_path / "Doe", "1.2").check(["x/a"])
    assert "Doe" not in str(refusal.value)
    assert files(tmp_path) == ["Doe"]


@pytest.mark.parametrize("name", ["Doe" * 100, "Doe"])
def test_a_place_that_cannot_be_looked_at_is_refused_without_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    (tmp_path / "Doe").mkdir(mode=0)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above are private to the user of the tests
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    try:
        with pytest.raises(ConfigurationError, match="destination") as refusal:
            Folder(name, "1.2").look([("key", "a")])
    finally:
        os.seteuid(user)
    assert "Doe" not in str(refusal.value)
