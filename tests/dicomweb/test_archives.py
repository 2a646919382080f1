"""ZIP files are folders of their members: each has its outcome, none is extracted, a broken archive never passes."""

from __future__ import annotations

import io
import shutil
import tempfile
import tracemalloc
import warnings
import zipfile
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, BinaryIO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.archives import members
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.entries import Entry, UnlistedDirectoryError, UnreadableSourceError
from airflow_dicomweb.dicomweb.sources import Source, list_sources
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.dicomweb.instances import PYDICOM_FILES, part10, series_of

CONTENT = {"b/2": b"two" * 1000, "a": b"one", "b.txt": b"", "b/1": bytes(100_000)}


def zipped(content: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for name, data in content.items():
            archive.writestr(zipfile.ZipInfo(name), data, compress_type=method)
    return stream.getvalue()


def listed(source: Any, **more: Any) -> list[Source]:
    return list(list_sources(source, **more))


def read(source: Source | Entry) -> bytes:
    with source.open() as stream:
        return stream.read()


def refusal(source: Source | Entry) -> str:
    """Why it cannot be read, however it is tried."""
    with pytest.raises(UnreadableSourceError) as refused:
        read(source)
    return refused.value.strerror


def entries(content: bytes) -> list[Entry]:
    return list(members(Entry.from_bytes("x.zip", content)))


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_members_are_listed_by_name_and_read_as_often_as_needed(tmp_path: Path, method: int) -> None:
    path = tmp_path / "in.ZIP"
    path.write_bytes(zipped(CONTENT, method))
    found = listed(path)
    assert [each.name for each in found] == [f"{path}/{name}" for name in sorted(CONTENT)]
    assert [each.size for each in found] == [len(CONTENT[name]) for name in sorted(CONTENT)]
    for _ in range(2):
        assert [read(each) for each in found] == [CONTENT[name] for name in sorted(CONTENT)]


def test_an_archive_is_found_by_name_in_a_directory_by_a_glob_and_in_a_list(tmp_path: Path) -> None:
    (tmp_path / "night").mkdir()
    (tmp_path / "night" / "a.zip").write_bytes(zipped(CONTENT))
    (tmp_path / "night" / "a.zip.bak").write_bytes(b"beside it")
    (tmp_path / "night" / "c").write_bytes(b"after it")
    inside = [f"night/a.zip/{name}" for name in sorted(CONTENT)]

    def names(source: Any) -> list[str]:
        return [str(Path(each.name).relative_to(tmp_path)) for each in listed(source)]

    assert names(tmp_path) == ["night/a.zip.bak", *inside, "night/c"]
    assert names(tmp_path) == sorted(names(tmp_path))
    assert names(f"{tmp_path}/night/*.zip") == inside
    assert names([tmp_path / "night" / "c", tmp_path / "night" / "a.zip"]) == [*inside, "night/c"]
    assert names(f"{tmp_path}/**/2") == ["night/a.zip/b/2"]
    assert names(f"{tmp_path}/night/*/a") == ["night/a.zip/a"]
    assert names(f"{tmp_path}/night/c*") == ["night/c"]


def test_a_folder_whose_name_ends_in_zip_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.zip").mkdir()
    (tmp_path / "a.zip" / "1").write_bytes(b"one")
    assert [read(each) for each in listed(tmp_path)] == [b"one"]


def test_names_of_members_are_labels_and_lead_nowhere(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(b"not in the archive")
    content = {"../secret": b"1", f"{tmp_path}/secret": b"2", "..\\secret": b"3", "a/../../secret": b"4"}
    (tmp_path / "in" / "x.zip").write_bytes(zipped(content))
    before = sorted(tmp_path.rglob("*"))
    assert sorted(read(each) for each in listed(tmp_path / "in")) == sorted(content.values())
    assert sorted(tmp_path.rglob("*")) == before


def test_two_members_of_one_name_are_two_sources(tmp_path: Path) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("same", b"first")
        with pytest.warns(UserWarning, match="Duplicate"):
            archive.writestr("same", b"second")
    assert [read(each) for each in entries(stream.getvalue())] == [b"first", b"second"]


def test_folders_in_an_archive_are_no_members() -> None:
    assert [each.relative for each in entries(zipped({"a/": b"", "b\\": b"", "a/1": b"1"}))] == ["x.zip/a/1"]


def test_what_has_bytes_is_a_file_whatever_its_name() -> None:
    assert [read(each) for each in entries(zipped({"a/": b"1", "b\\": b"2"}))] == [b"1", b"2"]


def test_an_archive_behind_other_bytes_is_read() -> None:
    assert sorted(map(read, entries(b"#!/bin/sh\n" * 20 + zipped(CONTENT)))) == sorted(CONTENT.values())


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"PK\x05\x06",
        b"no archive at all" * 100,
        zipped(CONTENT)[:-30],
        zipped(CONTENT)[200:],
        zipped({}),
        zipped({"folder/": b""}),
    ],
    ids=["empty", "begun", "text", "end missing", "beginning missing", "nothing in it", "nothing but folders"],
)
def test_a_broken_archive_never_passes(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(part10())
    (tmp_path / "b.zip").write_bytes(content)
    for source in (tmp_path, f"{tmp_path}/**", f"{tmp_path}/**/*", [tmp_path / "a.dcm", tmp_path / "b.zip"]):
        good, *broken = listed(source)
        assert read(good) == part10()
        assert broken
        assert "ZIP" in refusal(broken[0]) or "damaged" in refusal(broken[0])
    assert isinstance(_raised(listed(tmp_path / "b.zip")[0]), UnlistedDirectoryError) == (len(broken) == 1)


def _raised(source: Source) -> Exception:
    with pytest.raises(OSError) as raised:
        read(source)
    return raised.value


def test_a_glob_that_may_mean_members_names_an_archive_that_cannot_be_listed(tmp_path: Path) -> None:
    (tmp_path / "a.dcm").write_bytes(part10())
    (tmp_path / "b.zip").write_bytes(b"broken")
    assert len(listed(f"{tmp_path}/**.dcm")) == 2
    assert len(listed(f"{tmp_path}/*.dcm")) == 1


def test_an_encrypted_member_fails_with_the_reason_and_the_others_are_read() -> None:
    content = bytearray(zipped({"a": b"one", "b": b"two"}))
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    encrypted, other = entries(bytes(content))
    assert refusal(encrypted) == "it is encrypted in its ZIP file"
    assert read(other) == b"two"


@pytest.mark.parametrize(("method", "number"), [(zipfile.ZIP_BZIP2, 12), (zipfile.ZIP_LZMA, 14)])
def test_another_compression_is_named(method: int, number: int) -> None:
    (entry,) = entries(zipped({"a": b"one"}, method))
    assert f"method {number} of ZIP files; 0 (stored) and 8 (deflate) can be read" in refusal(entry)


def test_an_archive_in_an_archive_fails_and_says_what_to_do() -> None:
    inner, other = entries(zipped({"inner.zip": zipped(CONTENT), "other": b"1"}))
    assert refusal(inner) == "a ZIP file inside of a ZIP file, which is not opened: unpack the outer one"
    assert read(other) == b"1"


def changed(content: bytes, **fields: int) -> bytes:
    """The archive of one member with other numbers in its central directory."""
    places = {"crc": 16, "compressed": 20, "size": 24, "offset": 42}
    result, start = bytearray(content), content.index(b"PK\x01\x02")
    for name, value in fields.items():
        result[start + places[name] : start + places[name] + 4] = value.to_bytes(4, "little")
    return bytes(result)


@pytest.mark.parametrize("method", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_last_bytes_of_a_member_come_only_if_it_is_what_the_archive_says(method: int) -> None:
    data = bytes(range(256)) * 1000
    whole = zipped({"a": data}, method)
    for content, reason in [
        (changed(whole, crc=zlib.crc32(data) ^ 1), "its checksum"),
        (changed(whole, size=len(data) - 1), "longer than" if method else "longer than|checksum"),
        (changed(whole, size=len(data) + 1), "shorter than"),
        (changed(whole, offset=7), "damaged there"),
    ]:
        (entry,) = entries(content)
        came: list[bytes] = []
        with pytest.raises(UnreadableSourceError, match=reason):
            read_into(came, entry)
        assert sum(map(len, came)) < entry.size


def read_into(came: list[bytes], entry: Entry) -> None:
    with entry.open() as stream:
        came.extend(iter(lambda: stream.read(65536), b""))


def test_a_damaged_member_fails_and_its_neighbours_are_read() -> None:
    content = bytearray(zipped({"a": b"one" * 100, "b": bytes(range(256)) * 10, "c": b"three"}))
    content[content.index(b"b", 40) + 20] ^= 0xFF
    first, second, third = entries(bytes(content))
    assert (read(first), read(third)) == (b"one" * 100, b"three")
    assert refusal(second)


def test_a_member_that_is_longer_than_it_says_is_not_inflated_further() -> None:
    bomb = zipped({"a": bytes(200 * 2**20)})
    assert len(bomb) < 2**20
    (entry,) = entries(changed(bomb, size=1000))
    tracemalloc.start()
    try:
        assert "longer than" in refusal(entry)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_a_large_member_is_streamed() -> None:
    (entry,) = entries(zipped({"a": bytes(64 * 2**20)}))
    tracemalloc.start()
    try:
        with entry.open() as stream:
            assert sum(len(block) for block in iter(lambda: stream.read(65536), b"")) == entry.size
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20


def test_several_threads_open_members_at_once(tmp_path: Path) -> None:
    content = {f"{number:03}": bytes([number]) * (number * 1000 + 1) for number in range(100)}
    (tmp_path / "x.zip").write_bytes(zipped(content))
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(read, listed(tmp_path))) == list(content.values())


def test_an_archive_that_went_away_or_changed_fails_by_member(tmp_path: Path) -> None:
    path = tmp_path / "x.zip"
    path.write_bytes(zipped(CONTENT))
    found = listed(path)
    path.write_bytes(b"something else" * 10_000)
    assert all("damaged there, or changed" in refusal(each) for each in found)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        read(found[0])


def test_an_archive_that_cannot_seek_is_named() -> None:
    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    def opened() -> BinaryIO:
        return Pipe(zipped(CONTENT))

    (entry,) = members(Entry("x.zip", "x.zip", 1, opened))
    assert "only be read from the beginning" in refusal(entry)


GOOD = zipped({"a": b"one" * 50, "b/c": bytes(3000), "d": bytes(range(256))})


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(0, 255)), max_size=6), st.integers(0, len(GOOD)))
def test_damage_anywhere_ends_in_the_right_bytes_or_in_a_reason(changes: list[tuple[int, int]], lost: int) -> None:
    content = bytearray(GOOD)
    for position, value in changes:
        content[position] = value
    del content[len(content) - (lost if lost < 40 else 0) :]
    found = entries(bytes(content))
    assert found
    for entry in found:
        try:
            data = read(entry)
        except UnreadableSourceError:
            continue
        assert len(data) == entry.size


def test_damage_never_gives_other_bytes() -> None:
    for position in range(GOOD.index(b"a") + 1, GOOD.index(b"PK\x01\x02")):
        content = bytearray(GOOD)
        content[position] ^= 0x10
        for entry, data in zip(entries(bytes(content)), (b"one" * 50, bytes(3000), bytes(range(256))), strict=True):
            try:
                came = read(entry)
            except UnreadableSourceError:
                continue
            assert came == data, position


def test_a_delivery_of_archives_is_stored_and_what_is_broken_in_it_fails(
    server: DicomWebClient, tmp_path: Path
) -> None:
    files = series_of(tmp_path / "files", 12)
    good = zipped({path.name: path.read_bytes() for path in files[:10]} | {"readme.txt": b"see the images"})
    damaged = bytearray(zipped({path.name: path.read_bytes() for path in files[10:]}, zipfile.ZIP_STORED))
    damaged[damaged.index(b"DICM") - 10] ^= 1
    delivery = tmp_path / "delivery"
    delivery.mkdir()
    (delivery / "good.zip").write_bytes(good)
    (delivery / "damaged.zip").write_bytes(damaged)
    (delivery / "cut.zip").write_bytes(good[:-100])
    result = server.store(delivery, workers=3, batch_count=4, check="structure")
    assert (result.created, result.failed, result.skipped) == (11, 2, 1)
    assert sorted(each.reason for each in result.outcomes if each.outcome == "failed") == [
        "it cannot be read: a ZIP file that is damaged or not whole",
        "it cannot be read: its checksum (CRC-32) is not the one in its ZIP file",
    ]
    back = server.retrieve(result.studies[0], destination=tmp_path / "back")
    assert sorted(file.path.read_bytes() for file in back) == sorted(p.read_bytes() for p in [*files[:10], files[11]])


def test_a_large_member_that_is_damaged_at_its_end_is_not_stored(server: DicomWebClient, tmp_path: Path) -> None:
    # The header is sound: the damage is met while it is sent.
    data = part10(PixelData=bytes(3 * 2**20), Rows=1024, Columns=1536, BitsAllocated=16, SamplesPerPixel=1)
    content = bytearray(zipped({"image": data}, zipfile.ZIP_STORED))
    content[content.index(b"PK\x01\x02") - 1] ^= 1
    (tmp_path / "x.zip").write_bytes(content)
    result = server.store(tmp_path)
    assert [each.outcome for each in result.outcomes] == ["failed"]
    assert "its checksum" in result.outcomes[0].reason
    assert list(server.search_instances()) == []


def test_the_files_of_pydicom_are_the_same_zipped(server: DicomWebClient, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        plain = server.store(PYDICOM_FILES / "dicomdirtests" / "77654033")
        archive = shutil.make_archive(str(Path(folder) / "x"), "zip", PYDICOM_FILES / "dicomdirtests" / "77654033")
        again = server.store(archive)
    assert plain.created == again.identical > 0
    assert (again.created, again.failed) == (0, 0)


def test_an_archive_in_a_bucket_is_opened_too(bucket: str) -> None:
    buckets = Buckets()
    buckets.write(bucket, "in/x.zip", zipped(CONTENT))
    buckets.write(bucket, "in/y", b"beside it")
    found = listed(f"gs://{bucket}/in/**", buckets=buckets)
    root = f"gs://{bucket}/in"
    assert [each.name for each in found] == [*(f"{root}/x.zip/{name}" for name in sorted(CONTENT)), f"{root}/y"]
    assert [read(each) for each in found[:-1]] == [CONTENT[name] for name in sorted(CONTENT)]
    buckets.write(bucket, "in/x.zip", zipped(CONTENT)[:-30])
    assert "damaged or not whole" in refusal(listed(f"gs://{bucket}/in/*.zip", buckets=buckets)[0])
