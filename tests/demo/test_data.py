"""The demonstration's input: real files, a drawn series, and the same ones every time."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest
from pydicom import dcmread

from demo.data import NOT_DICOM_NAME, fill_folder, halve_by_study, pydicom_files, read_identity
from demo.phantom import draw, write_ct_series


def test_pydicoms_files_are_116_instances_in_29_studies() -> None:
    files = pydicom_files()
    assert len(files) == len({file.identity for file in files}) == 116
    assert len({file.identity.study for file in files}) == 29


def test_the_first_file_by_name_stands_for_an_instance_that_several_files_hold() -> None:
    names = [file.name for file in pydicom_files() if file.name.startswith("MR_small")]
    assert names == ["MR_small.dcm"]


def test_files_with_and_without_an_extension_are_among_them() -> None:
    suffixes = {Path(file.name).suffix for file in pydicom_files()}
    assert {".dcm", ""} <= suffixes


def test_a_file_that_is_not_dicom_has_no_identity(tmp_path: Path) -> None:
    path = tmp_path / "notes"
    path.write_text("not DICOM")
    assert read_identity(path) is None


def test_halves_share_no_study_and_lose_no_file() -> None:
    files = pydicom_files()
    first, second = halve_by_study(files)
    assert {file.identity.study for file in first}.isdisjoint(file.identity.study for file in second)
    assert sorted(file.name for file in (*first, *second)) == sorted(file.name for file in files)
    assert min(len(first), len(second)) >= 30


def test_halves_do_not_depend_on_the_order_of_the_files() -> None:
    files = pydicom_files()
    assert halve_by_study(reversed(files)) == halve_by_study(files)


def test_the_folder_holds_the_files_under_their_names_and_one_that_is_not_dicom(tmp_path: Path) -> None:
    files = pydicom_files()[:20]
    fill_folder(tmp_path / "incoming", files)
    found = {path.relative_to(tmp_path / "incoming").as_posix() for path in (tmp_path / "incoming").rglob("*.*")}
    assert NOT_DICOM_NAME in found
    for file in files:
        assert (tmp_path / "incoming" / file.name).read_bytes() == file.path.read_bytes()


def test_the_drawn_series_is_a_volume_that_a_viewer_can_stack(tmp_path: Path) -> None:
    slices = [dcmread(file.path) for file in write_ct_series(tmp_path, slices=4)]
    assert len({data_set.SeriesInstanceUID for data_set in slices}) == 1
    assert len({data_set.FrameOfReferenceUID for data_set in slices}) == 1
    depths = [float(data_set.ImagePositionPatient[2]) for data_set in slices]
    assert np.diff(depths).tolist() == pytest.approx([-float(slices[0].SliceThickness)] * 3)
    assert all(data_set.pixel_array.shape == (data_set.Rows, data_set.Columns) for data_set in slices)


def test_the_drawn_series_has_the_same_bytes_every_time(tmp_path: Path) -> None:
    def digests(folder: Path) -> list[str]:
        files = write_ct_series(folder, slices=2)
        return [hashlib.sha256(file.path.read_bytes()).hexdigest() for file in files]

    assert digests(tmp_path / "first") == digests(tmp_path / "second")


def test_a_drawn_slice_shows_air_lung_tissue_and_bone() -> None:
    image = draw(0.5, seed=1, size=128)
    assert (image < -950).any()
    assert ((image > -870) & (image < -770)).any()
    assert ((image > 0) & (image < 100)).any()
    assert (image > 500).any()
