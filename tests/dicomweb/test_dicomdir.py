"""What a DICOMDIR names and is missing fails; everything else below its folder is listed, named or not."""

from __future__ import annotations

import io
import os
import shutil
import warnings
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import (
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    MediaStorageDirectoryStorage,
)

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.dicomdir import MISSING, Folders, fold, index_entries, parts_of
from airflow_dicomweb.dicomweb.entries import Entry, UnreadableSourceError
from airflow_dicomweb.dicomweb.sources import Source, list_sources
from tests.dicomweb.instances import PYDICOM_FILES, part10, series_of

CD = PYDICOM_FILES / "dicomdirtests"


def record(kind: str, *file_id: str, in_use: int = 0xFFFF) -> Dataset:
    item = Dataset()
    item.OffsetOfTheNextDirectoryRecord = item.OffsetOfReferencedLowerLevelDirectoryEntity = 0
    item.RecordInUseFlag, item.DirectoryRecordType = in_use, kind
    if file_id:
        with warnings.catch_warnings():  # names as CDs have them, not as they should be
            warnings.simplefilter("ignore")
            item.ReferencedFileID = list(file_id)
    return item


def dicomdir(*named: tuple[str, ...], syntax: str = ExplicitVRLittleEndian, unused: tuple[str, ...] = ()) -> bytes:
    """An index of a patient and images with these file IDs."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.MediaStorageSOPClassUID = MediaStorageDirectoryStorage
    data.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    data.file_meta.TransferSyntaxUID = syntax
    data.FileSetID = "CD"
    records = [record("IMAGE", *each) for each in named]
    records += [record("IMAGE", *unused, in_use=0)] if unused else []
    data.DirectoryRecordSequence = [record("PATIENT"), *records]
    stream = io.BytesIO()
    data.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def write(folder: Path, *names: str) -> Path:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(part10())
    return folder


def reason(source: Source | Entry) -> str:
    """Why a source cannot be read; nothing if it can."""
    try:
        source.open().close()
    except UnreadableSourceError as error:
        return error.strerror
    return ""


def listed(folder: Path) -> dict[str, str]:
    return {str(Path(each.name).relative_to(folder)): reason(each) for each in list_sources(folder)}


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, ExplicitVRBigEndian])
def test_what_is_named_and_missing_fails_and_what_is_not_named_is_listed(tmp_path: Path, syntax: str) -> None:
    write(tmp_path, "IMAGES/IM1", "IMAGES/EXTRA", "README")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2"), ("OTHER", "IM3"), syntax=syntax))
    found = listed(tmp_path)
    assert found == {
        "DICOMDIR": "",
        "IMAGES/EXTRA": "",
        "IMAGES/IM1": "",
        "IMAGES/IM2": MISSING,
        "OTHER/IM3": MISSING,
        "README": "",
    }
    assert list(found) == sorted(found)


@pytest.mark.parametrize("on_disk", ["IMAGES/IM1", "images/im1", "IMAGES/IM1.;1", "Images/Im1;1", "images/im1."])
@pytest.mark.parametrize("index", ["DICOMDIR", "dicomdir", "DICOMDIR.;1", "Dicomdir;1"])
def test_names_are_compared_as_a_cd_has_them(tmp_path: Path, on_disk: str, index: str) -> None:
    write(tmp_path, on_disk)
    (tmp_path / index).write_bytes(dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2")))
    assert set(listed(tmp_path).values()) == {"", MISSING}
    assert listed(tmp_path)[on_disk] == ""
    assert len(listed(tmp_path)) == 3


def test_two_folders_that_differ_in_case_alone_are_both_looked_into(tmp_path: Path) -> None:
    write(tmp_path, "IMAGES/IM1", "images/im2")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2")))
    assert set(listed(tmp_path).values()) == {""}


def test_a_folder_is_not_the_file_that_is_named(tmp_path: Path) -> None:
    write(tmp_path, "IMAGES/IM1/inside")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir(("IMAGES", "IM1")))
    assert listed(tmp_path)["IMAGES/IM1"] == MISSING


def test_a_cd_below_a_directory_is_one_too_and_each_miss_counts_once(tmp_path: Path) -> None:
    for name in ("first", "second"):
        write(tmp_path / "night" / name, "IM1")
        (tmp_path / "night" / name / "DICOMDIR").write_bytes(dicomdir(("IM1",), ("IM2",), ("IM2",), ("im2",)))
    assert [name for name, why in listed(tmp_path).items() if why] == [
        "night/first/IM2",
        "night/second/IM2",
    ]


def test_names_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    write(tmp_path, "cd/IM1", "outside")
    names = (("..", "outside"), ("", "outside"), ("IM1", "..", "..", "outside"), ("/", "etc", "passwd"))
    (tmp_path / "cd" / "DICOMDIR").write_bytes(dicomdir(*names))
    found = [(each.name, reason(each)) for each in list_sources(tmp_path / "cd")]
    assert len([why for _, why in found if why == MISSING]) == 4
    assert [Path(name).name for name, why in found if not why] == ["DICOMDIR", "IM1"]


def test_a_record_that_is_not_in_use_names_nothing(tmp_path: Path) -> None:
    write(tmp_path, "IM1")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir(("IM1",), unused=("GONE",)))
    assert set(listed(tmp_path).values()) == {""}


def test_a_dicomdir_that_is_cut_short_fails_itself(tmp_path: Path) -> None:
    write(tmp_path, "IM1")
    whole = dicomdir(("IM1",), ("IM2",), ("IM3",))
    (tmp_path / "DICOMDIR").write_bytes(whole[:-40])
    found = listed(tmp_path)
    assert found["DICOMDIR"].startswith("a DICOMDIR that cannot be read to its end (")
    assert (found["IM1"], found["IM2"]) == ("", MISSING)


def test_an_instance_that_only_has_the_name_is_judged_like_any_other(tmp_path: Path) -> None:
    (tmp_path / "DICOMDIR").write_bytes(part10())
    assert listed(tmp_path) == {"DICOMDIR": ""}


@pytest.mark.parametrize("content", [b"", b"not DICOM", bytes(500), dicomdir(("IM1",), ("IM2",))[132:]])
def test_a_dicomdir_that_is_no_dicom_file_fails_itself(tmp_path: Path, content: bytes) -> None:
    write(tmp_path, "IM1")
    (tmp_path / "DICOMDIR").write_bytes(content)
    assert listed(tmp_path) == {
        "DICOMDIR": "a file with the name of a DICOMDIR that is no DICOM file, so that files may be missing unseen",
        "IM1": "",
    }


def test_what_cannot_be_opened_has_the_reason_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, "IM1")
    os.mkfifo(tmp_path / "DICOMDIR")
    assert "not a regular file" in listed(tmp_path)["DICOMDIR"]


def test_a_folder_that_cannot_be_listed_is_a_failure_of_its_own_and_misses_nothing() -> None:
    def names_in(folder: str) -> list[str]:
        if folder:
            raise PermissionError(13, "Permission denied")
        return ["IMAGES/", "IM1"]

    entry = Entry.from_bytes("cd/DICOMDIR", dicomdir(("IMAGES", "IM7"), ("IM1",), ("IM2",)))
    assert [each.name for each in index_entries(entry, Folders(names_in).exists)] == ["cd/DICOMDIR", "cd/IM2"]


@pytest.mark.parametrize("pattern", ["**", "I*/IM*", "[I]MAGES/IM2"])
def test_a_glob_takes_what_is_missing_if_it_matches(tmp_path: Path, pattern: str) -> None:
    write(tmp_path, "IMAGES/IM1")
    (tmp_path / "DICOMDIR").write_bytes(dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2"), ("OTHER",)))
    found = [Path(each.name).name for each in list_sources(f"{tmp_path}/{pattern}") if reason(each) == MISSING]
    assert found == (["IM2", "OTHER"] if pattern == "**" else ["IM2"])


def test_a_dicomdir_in_an_archive_is_one_too(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "cd.zip", "w") as archive:
        archive.writestr("CD/DICOMDIR", dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2"), ("..", "top")))
        archive.writestr("CD\\images\\im1", part10())
        archive.writestr("top", part10())
    found = {each.name.removeprefix(f"{tmp_path}/"): reason(each) for each in list_sources(tmp_path)}
    assert found == {
        "cd.zip/CD/../top": MISSING,
        "cd.zip/CD/DICOMDIR": "",
        "cd.zip/CD/IMAGES/IM2": MISSING,
        "cd.zip/CD\\images\\im1": "",
        "cd.zip/top": "",
    }


def test_pydicoms_cd_is_complete_and_a_file_that_is_taken_away_is_missed(tmp_path: Path) -> None:
    assert MISSING not in {reason(each) for each in list_sources(CD)}
    shutil.copytree(CD, tmp_path / "cd")
    taken = min(path for path in (tmp_path / "cd" / "98892003").rglob("*") if path.is_file())
    taken.unlink()
    assert [name for name, why in listed(tmp_path / "cd").items() if why] == [str(taken.relative_to(tmp_path / "cd"))]


NAMED = dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2"))


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(0, len(NAMED) - 1), st.integers(0, 255)), max_size=6), st.integers(0, 300))
def test_a_damaged_dicomdir_is_an_entry_whatever_is_in_it(changes: list[tuple[int, int]], lost: int) -> None:
    content = bytearray(NAMED)
    for position, value in changes:
        content[position] = value
    entry = Entry.from_bytes("cd/DICOMDIR", bytes(content[: len(content) - lost]))
    first, *missing = index_entries(entry, lambda _: False)
    assert first.name == "cd/DICOMDIR"
    assert all(reason(each) == MISSING for each in missing)
    with suppress(UnreadableSourceError):
        first.open()


@given(st.text(max_size=20))
def test_any_text_splits_into_names_that_name_something(text: str) -> None:
    assert all(part.strip() and "/" not in part and "\\" not in part for part in parts_of(text))
    assert fold(fold(text)) == fold(text) or ";" in text


def test_a_cd_is_stored_without_its_index_and_what_is_missing_fails(server: DicomWebClient, tmp_path: Path) -> None:
    series_of(tmp_path / "cd" / "images", 4)
    named = [("IMAGES", f"{number:04}.DCM") for number in range(5)]
    (tmp_path / "cd" / "dicomdir").write_bytes(dicomdir(*named))
    result = server.store(tmp_path)
    outcomes = {Path(each.source).name: (each.outcome, each.reason) for each in result.outcomes}
    assert outcomes == {
        **{f"{number:04}.dcm": ("created", "") for number in range(4)},
        "0004.DCM": ("failed", "it cannot be read: named by the DICOMDIR and missing"),
        "dicomdir": ("skipped", "a DICOMDIR, which is an index and not an instance"),
    }


def test_a_cd_whose_index_was_overwritten_with_zeros_does_not_pass(server: DicomWebClient, tmp_path: Path) -> None:
    series_of(tmp_path / "cd", 1)
    (tmp_path / "cd" / "DICOMDIR").write_bytes(bytes(500))
    result = server.store(tmp_path)
    assert (result.created, result.failed, result.skipped) == (1, 1, 0)
