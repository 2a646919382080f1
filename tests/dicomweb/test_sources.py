"""Sources come in one stable order, each exactly once, and what is missing is an error before anything is done."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

import pytest

from airflow_dicomweb.dicomweb.sources import UnlistedDirectoryError, list_sources, would_list
from airflow_dicomweb.errors import ConfigurationError

NAMES = ["b.dcm", "a/IM0001", "a/x/1.dcm", "a.dcm", "a-b/2.dcm", "c", ".hidden", "a/x/[odd].dcm"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "incoming"
    for name in NAMES:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    return root


def relative(folder: Path, *arguments: object, **options: object) -> list[str]:
    source = arguments[0] if len(arguments) == 1 else list(arguments)
    return [str(Path(found.name).relative_to(folder)) for found in list_sources(source or folder, **options)]  # type: ignore[arg-type]


def test_a_directory_is_everything_below_it_in_the_order_of_the_whole_names(folder: Path) -> None:
    assert relative(folder, folder) == sorted(NAMES)
    assert relative(folder, str(folder) + "/") == sorted(NAMES)


def test_a_listing_is_the_same_as_a_list_of_its_files_in_any_order(folder: Path) -> None:
    files = [folder / name for name in NAMES]
    random.Random(7).shuffle(files)
    listed = [(each.ordinal, each.name, each.size) for each in list_sources(files)]
    assert listed == [(each.ordinal, each.name, each.size) for each in list_sources(folder)]
    assert [ordinal for ordinal, _, _ in listed] == list(range(len(NAMES)))


def test_a_source_can_be_opened_more_than_once(folder: Path) -> None:
    for source in list_sources(folder):
        for _ in range(2):
            with source.open() as stream:
                content = stream.read()
            assert content.decode() == str(Path(source.name).relative_to(folder))
            assert len(content) == source.size


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("*.dcm", ["a.dcm", "b.dcm"]),
        ("**", sorted(NAMES)),
        ("**/*.dcm", ["a-b/2.dcm", "a.dcm", "a/x/1.dcm", "a/x/[odd].dcm", "b.dcm"]),
        ("a/**", ["a/IM0001", "a/x/1.dcm", "a/x/[odd].dcm"]),
        ("?", ["c"]),
        ("*/?.dcm", ["a-b/2.dcm"]),
        ("[ab].dcm", ["a.dcm", "b.dcm"]),
        ("[!a].dcm", ["b.dcm"]),
        ("[!]b].dcm", ["a.dcm"]),
        ("a/x/[odd].dcm", ["a/x/[odd].dcm"]),
        ("a/x/[[]odd*", ["a/x/[odd].dcm"]),
    ],
)
@pytest.mark.filterwarnings("error::FutureWarning")
def test_a_glob_matches_with_these_rules(folder: Path, pattern: str, expected: list[str]) -> None:
    assert relative(folder, f"{folder}/{pattern}") == expected


def test_a_glob_that_cannot_be_meant_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="range that ends before it starts"):
        list_sources(f"{folder}/[z-a]*")


def test_a_glob_without_a_folder_is_about_the_current_one(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert [each.name for each in list_sources("*.dcm")] == ["a.dcm", "b.dcm"]


def test_what_a_glob_leaves_out_is_counted_in_the_log(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    list(list_sources(f"{folder}/**.dcm"))
    assert "3 files below the folder of the pattern do not match" in caplog.text
    assert str(folder) not in caplog.text


def test_several_sources_are_merged_by_name(folder: Path) -> None:
    merged = relative(folder, folder / "c", folder / "a", f"{folder}/*.dcm")
    assert merged == ["a.dcm", "a/IM0001", "a/x/1.dcm", "a/x/[odd].dcm", "b.dcm", "c"]


@pytest.mark.parametrize("count", [1, 2, 5])
def test_shards_are_a_partition_that_keeps_numbers_and_does_not_depend_on_where_the_folder_is(
    folder: Path, tmp_path: Path, count: int
) -> None:
    shards = [list(list_sources(folder, shard=(index, count))) for index in range(count)]
    everything = sorted((each.ordinal, each.name) for shard in shards for each in shard)
    assert everything == [(each.ordinal, each.name) for each in list_sources(folder)]
    moved = folder.rename(tmp_path / "moved")
    assert [relative(moved, moved, shard=(index, count)) for index in range(count)] == [
        [str(Path(each.name).relative_to(folder)) for each in shard] for shard in shards
    ]


@pytest.mark.parametrize("shard", [(2, 2), (-1, 2), (0, 0), ("0", 2), (0,), "01", (0.0, 2)])
def test_a_shard_that_is_none_is_refused(folder: Path, shard: object) -> None:
    with pytest.raises(ConfigurationError, match="shard"):
        list_sources(folder, shard=shard)  # type: ignore[arg-type]


def test_missing_and_empty_sources_are_refused_at_once_without_naming_them(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for source in [
        tmp_path / "missing",
        tmp_path / "missing" / "*.dcm",
        tmp_path / "empty",
        folder / "*.nii",
        [folder, tmp_path / "missing"],
        [folder, tmp_path / "empty"],
        [],
        "",
        3,
        [b"incoming"],
        "s3://bucket/prefix",
        "gs://bucket/prefix/**",
    ]:
        with pytest.raises(ConfigurationError) as refusal:
            list_sources(source)  # type: ignore[arg-type]
        assert str(tmp_path) not in str(refusal.value)


def test_symbolic_links_are_followed_but_not_in_circles(folder: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "1.dcm").write_text("x")
    (folder / "link").symlink_to(elsewhere)
    (folder / "a" / "up").symlink_to(folder)
    assert relative(folder, folder) == sorted([*NAMES, "link/1.dcm"])


def test_what_cannot_be_read_is_listed_and_says_so_when_it_is_opened(folder: Path) -> None:
    (folder / "dangling").symlink_to(folder / "nowhere")
    os.mkfifo(folder / "pipe")
    listed = {Path(each.name).name: each for each in list_sources(folder)}
    for name in ("dangling", "pipe"):
        with pytest.raises(OSError, match=r"regular file|No such file"):
            listed[name].open()


@pytest.fixture
def not_root():
    """Whoever runs the tests, root can list every directory: be nobody for a while."""
    user = os.geteuid()
    if user == 0:
        os.seteuid(65534)
    yield
    os.seteuid(user)


def test_a_directory_that_cannot_be_listed_is_a_source_that_cannot_be_opened(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (folder / "closed").mkdir(mode=0o000)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)  # the folders above are private to the user of the tests
    request.getfixturevalue("not_root")
    listed = [each for each in list_sources(Path()) if each.name.endswith("closed/")]
    assert len(listed) == 1
    with pytest.raises(OSError, match="cannot be listed"):
        listed[0].open()


def test_a_broken_link_hides_nothing_but_itself(tmp_path: Path) -> None:
    good = [tmp_path / f"{number}.dcm" for number in range(5)]
    for path in good:
        path.write_text("x")
    (tmp_path / "3.self").symlink_to("3.self")
    (tmp_path / "dangling").symlink_to("nowhere")
    readable, unreadable = [], []
    for source in list_sources(tmp_path):
        try:
            source.open().close()
        except OSError:
            unreadable.append(Path(source.name).name)
        else:
            readable.append(Path(source.name))
    assert readable == good
    assert unreadable == ["3.self", "dangling"]


@pytest.mark.parametrize("pattern", ["", "*.dcm"])
def test_a_link_that_may_not_be_followed_hides_nothing_but_itself(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, pattern: str
) -> None:
    (folder / "closed" / "inside.dcm").mkdir(parents=True)
    (folder / "link.dcm").symlink_to(Path("closed", "inside.dcm"))
    (folder / "closed").chmod(0o000)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    request.getfixturevalue("not_root")
    listed = {each.name: each for each in list_sources(pattern or Path())}
    assert {"a.dcm", "b.dcm", "link.dcm/"} <= set(listed)
    with pytest.raises(UnlistedDirectoryError):
        listed["link.dcm/"].open()


def test_what_cannot_be_looked_at_is_refused_with_the_reason_and_without_its_name(
    folder: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    (folder / "closed").mkdir(mode=0o000)
    folder.chmod(0o755)
    monkeypatch.chdir(folder)
    request.getfixturevalue("not_root")
    for source in ("closed/Doe", "closed/Doe/*.dcm", ["a.dcm", "closed/Doe"]):
        with pytest.raises(ConfigurationError, match="Permission denied") as refusal:
            list_sources(source)
        assert "Doe" not in str(refusal.value)
    with pytest.raises(ConfigurationError, match="name too long") as refusal:
        list_sources("Doe" * 100)
    assert "Doe" not in str(refusal.value)


def test_a_glob_may_be_longer_than_a_name(folder: Path) -> None:
    assert relative(folder, f"{folder}/[{'b' * 300}].dcm") == ["b.dcm"]


@dataclass(frozen=True)
class Object:
    name: str
    content: bytes

    @property
    def uri(self) -> str:
        return f"gs://bucket/{self.name}"

    @property
    def size(self) -> int:
        return len(self.content)


class OneBucket:
    """A bucket in memory: what a listing is given, and nothing more."""

    def find(self, uri: str) -> Iterator[Object]:
        assert uri == "gs://bucket/prefix/**"
        yield Object("prefix/1", b"one")
        yield Object("prefix/2.dcm", b"two")

    def open(self, found: Object) -> BinaryIO:
        return BytesIO(found.content)


def test_objects_of_a_bucket_are_sources_among_others(folder: Path) -> None:
    listed = list(list_sources(["gs://bucket/prefix/**", folder / "c"], buckets=OneBucket()))
    assert [each.name for each in listed] == [str(folder / "c"), "gs://bucket/prefix/1", "gs://bucket/prefix/2.dcm"]
    with listed[2].open() as stream:
        assert stream.read() == b"two"


@pytest.mark.parametrize(
    ("source", "name", "listed"),
    [
        ("{0}", "{0}/b/1/2/3.dcm", True),
        ("{0}/link", "{0}/in/b", True),
        ("{0}/in", "{0}/link/b", True),
        ("{0}/in", "{0}/into/b", False),
        ("{0}/in", "{0}/in/../b", False),
        ("{0}/**", "{0}/b/1/2/3.dcm", True),
        ("{0}/**/*.dcm", "{0}/b/1/2/3.dcm", True),
        ("{0}/*.dcm", "{0}/b/1/2/3.dcm", False),
        ("{0}/*/x", "{0}/r.jsonl", False),
        (["{0}/in", "{0}/*"], "{0}/r.jsonl", True),
        ("{0}/in/file", "{0}/in/file.part", False),
        ("gs://b/in/**", "gs://b/in/r.jsonl", True),
        ("gs://b/in/**", "gs://b/out/r.jsonl", False),
        ("gs://b/in/**", "{0}/in/r.jsonl", False),
        ("{0}", "gs://b/in/r.jsonl", False),
    ],
)
def test_it_is_known_before_whether_a_source_would_list_a_file(
    tmp_path: Path, source: str | list[str], name: str, listed: bool
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "file").touch()
    (tmp_path / "link").symlink_to("in")
    given = [each.format(tmp_path) for each in ([source] if isinstance(source, str) else source)]
    assert would_list(given if isinstance(source, list) else given[0], name.format(tmp_path)) is listed
    assert would_list(iter(given), name.format(tmp_path)) is False
