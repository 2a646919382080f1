"""Iterators, entries and openers are sources too, and shards of any mixture leave nothing out and take nothing twice."""

from __future__ import annotations

import io
import tempfile
import zipfile
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.dicomdir import MISSING
from airflow_dicomweb.dicomweb.entries import Entry, Opener
from airflow_dicomweb.dicomweb.sources import UnlistedDirectoryError, UnreadableSourceError, list_sources
from airflow_dicomweb.errors import ConfigurationError, TransportError
from tests.dicomweb.instances import part10, series_of
from tests.dicomweb.scripted import NOTHING, kinds, stored, storing
from tests.dicomweb.test_dicomdir import dicomdir


def named(source: object, **options: object) -> list[str]:
    return [Path(each.name).name for each in list_sources(source, **options)]  # type: ignore[arg-type]


class Shelf:
    """An opener: a place that lists by itself what it can open."""

    def __init__(self, content: dict[str, bytes], error: Exception | None = None) -> None:
        self._content, self._error = content, error

    def find_entries(self) -> Iterator[Entry]:
        for name, data in sorted(self._content.items()):
            yield Entry.from_bytes(name, data)
        if self._error is not None:
            raise self._error


def archive_of(*names: str) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, name.encode())
    return stream.getvalue()


def test_an_iterator_is_taken_in_its_order_and_no_further_than_needed(tmp_path: Path) -> None:
    files = series_of(tmp_path, 5)
    taken: list[Path] = []

    def night() -> Iterator[Path]:
        for path in reversed(files):
            taken.append(path)
            yield path

    listing = list_sources(night())
    assert len(taken) == 1
    assert [next(listing).name for _ in range(2)] == [str(path) for path in files[:2:-1]]
    assert len(taken) <= 3
    assert [Path(each.name) for each in listing] == files[2::-1]
    assert [each.ordinal for each in list_sources(iter(files))] == [0, 1, 2, 3, 4]


def test_an_iterator_without_end_can_be_begun(tmp_path: Path) -> None:
    (path,) = series_of(tmp_path, 1)
    listing = list_sources(path for _ in count())
    assert [next(listing).ordinal for _ in range(1000)] == list(range(1000))


def test_what_an_iterator_gives_and_is_not_there_fails_alone(tmp_path: Path) -> None:
    first, last = series_of(tmp_path, 2)
    (tmp_path / "folder").mkdir()
    given: list[object] = [tmp_path / "gone", first, tmp_path / "folder", "s3://bucket/x", 7, "", "gs://bucket/x", last]
    with storing(NOTHING, stored(0, 1)) as (client, _):
        result = client.store(iter(given))  # type: ignore[arg-type]
    assert kinds(result) == ["failed", "created", *["failed"] * 5, "created"]
    reasons = [each.reason for each in result.outcomes]
    assert all(
        words in why
        for words, why in zip(
            ["does not exist", "", "matches no file", "s3:", "type int", "empty", "buckets="], reasons, strict=False
        )
    )
    with pytest.raises(UnlistedDirectoryError):
        next(list_sources(iter([tmp_path / "gone"]))).open()


def test_an_iterator_of_nothing_is_refused_at_once() -> None:
    with pytest.raises(ConfigurationError, match="there is no source"):
        list_sources(iter([]))


def test_an_iterator_may_give_directories_archives_and_globs(tmp_path: Path) -> None:
    series_of(tmp_path / "b", 2)
    (tmp_path / "a.zip").write_bytes(archive_of("2", "1"))
    assert named(iter([tmp_path / "b", tmp_path / "a.zip", f"{tmp_path}/b/*1.dcm"])) == [
        *("0000.dcm", "0001.dcm"),
        *("1", "2"),
        "0001.dcm",
    ]


def test_bytes_in_memory_are_stored_under_a_name(tmp_path: Path) -> None:
    entries = [
        Entry.from_bytes("b", part10(SOPInstanceUID="1.2.840.1.1.1")),
        Entry.from_bytes("a.zip", archive_of("x")),
    ]
    assert named(entries) == ["x", "b"]
    assert named(iter(entries)) == ["b", "x"]
    assert named(entries[0]) == ["b"]
    (source,) = list_sources(entries[0])
    for _ in range(2):
        with source.open() as stream:
            assert len(stream.read()) == source.size


def test_an_opener_is_a_source_alone_and_among_others(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    shelf = Shelf({"one": b"1", "two.zip": archive_of("x", "y")})
    assert isinstance(shelf, Opener)
    assert named(shelf) == ["one", "x", "y"]
    assert named([shelf, tmp_path]) == ["0000.dcm", "one", "x", "y"]
    with pytest.raises(ConfigurationError, match="matches no file"):
        list_sources([Shelf({}), tmp_path])
    with pytest.raises(TransportError):
        list_sources(Shelf({}, TransportError("no answer")))
    assert named(iter([Shelf({"one": b""}, TransportError("no answer")), tmp_path])) == ["one", "Shelf", "0000.dcm"]


def test_another_scheme_is_refused_and_says_who_opens_it_without_showing_what_is_in_it() -> None:
    for uri in ("s3://secret_conn@bucket/Doe^John/**", "abfs://container/x", Path("s3://bucket/x")):
        with pytest.raises(ConfigurationError, match=r"opened in Airflow only.*openable") as refused:
            list_sources(uri)
        assert not any(word in str(refused.value) for word in ("secret_conn", "Doe", "bucket/", "container"))


NAMES = st.text(st.sampled_from("abIM01.-^é \U0001f600"), min_size=1, max_size=8).filter(lambda name: name.strip(". "))


@settings(deadline=None, max_examples=40)
@given(
    files=st.sets(NAMES, max_size=6),
    inside=st.sets(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1), max_size=6),
    named_files=st.lists(st.text("ABIM012", min_size=1, max_size=4), max_size=5),
    on_shelf=st.sets(NAMES, max_size=4),
    shards=st.integers(1, 5),
    as_iterator=st.booleans(),
)
def test_shards_of_files_members_missing_files_and_openers_are_a_partition(
    *, files: set[str], inside: set[str], named_files: list[str], on_shelf: set[str], shards: int, as_iterator: bool
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        for name in files:
            (root / name).write_bytes(b"x")
        (root / "x.zip").write_bytes(archive_of(*inside))
        (root / "DICOMDIR").write_bytes(dicomdir(*((name,) for name in named_files)))
        (root / "broken.zip").write_bytes(b"PK")

        def given_again() -> object:
            sources = [root, Shelf(dict.fromkeys(on_shelf, b"y"))] if on_shelf else [root]
            return iter(sources) if as_iterator else sources

        everything = list(list_sources(given_again()))  # type: ignore[arg-type]
        again = list(list_sources(given_again()))  # type: ignore[arg-type]
        parts = [list(list_sources(given_again(), shard=(index, shards))) for index in range(shards)]  # type: ignore[arg-type]
    whole = [(each.ordinal, each.name, each.size) for each in everything]
    assert whole == [(each.ordinal, each.name, each.size) for each in again]
    assert [ordinal for ordinal, _, _ in whole] == list(range(len(whole)))
    together = [(each.ordinal, each.name, each.size) for part in parts for each in part]
    assert sorted(together) == whole
    lowered = {name.rstrip(". ").casefold() for name in files}
    missing = {name for name in named_files if name.casefold() not in lowered}
    said = [each for each in everything if _reason(each) == MISSING]
    assert {Path(each.name).name for each in said} == missing
    assert len(whole) == len(files) + max(len(inside), 1) + len(missing) + 2 + len(on_shelf)


def _reason(source: object) -> str:
    try:
        source.open().close()  # type: ignore[attr-defined]
    except UnreadableSourceError as error:
        return error.strerror
    except OSError:
        pass
    return ""
