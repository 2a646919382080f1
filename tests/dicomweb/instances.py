"""Instances to test with: pydicom's own files, and small ones made to measure."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian

PYDICOM_FILES = Path(pydicom.__file__).parent / "data" / "test_files"

SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"


def all_files() -> list[Path]:
    """All 176 files of pydicom's wheel, DICOM or not."""
    return sorted(path for path in PYDICOM_FILES.rglob("*") if path.is_file())


def part10(syntax: str = ExplicitVRLittleEndian, **elements: Any) -> bytes:
    """A small instance; elements given as None are left out. Group 0002 has another SOP Instance UID."""
    data_set = Dataset()
    wanted = {
        "SOPClassUID": SECONDARY_CAPTURE,
        "SOPInstanceUID": "1.2.3.4",
        "Modality": "OT",
        "StudyInstanceUID": "1.2",
        "SeriesInstanceUID": "1.2.3",
        "InstanceNumber": 1,
    } | elements
    for keyword, value in wanted.items():
        if value is not None:
            setattr(data_set, keyword, value)
    data_set.file_meta = FileMetaDataset()
    data_set.file_meta.MediaStorageSOPClassUID = SECONDARY_CAPTURE
    data_set.file_meta.MediaStorageSOPInstanceUID = "9.9.9"
    data_set.file_meta.TransferSyntaxUID = UID(syntax)
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def series_of(folder: Path, count: int, *, study: str = "1.2.840.1", **elements: Any) -> list[Path]:
    """Write a series of so many instances, one file each, and give the files in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"{number:04}.dcm" for number in range(count)]
    for number, path in enumerate(paths):
        uids = {"StudyInstanceUID": study, "SeriesInstanceUID": f"{study}.1", "SOPInstanceUID": f"{study}.1.{number}"}
        path.write_bytes(part10(**{**uids, "InstanceNumber": number, **elements}))
    return paths
