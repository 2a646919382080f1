"""Small Part 10 files, told apart by their UIDs."""

from __future__ import annotations

from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage

STUDY = "1.2.826.0.1.3680043.8.498.1"
PATIENT = "Sentinel^Patient"


def instance(study: str, series: int, number: int, *, comment: str = "") -> Dataset:
    """One instance: series and instance UIDs are the study's with numbers appended."""
    data = Dataset()
    data.file_meta = FileMetaDataset()
    data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data.SOPClassUID = data.file_meta.MediaStorageSOPClassUID = SecondaryCaptureImageStorage
    data.StudyInstanceUID = study
    data.SeriesInstanceUID = f"{study}.{series}"
    data.SOPInstanceUID = data.file_meta.MediaStorageSOPInstanceUID = f"{study}.{series}.{number}"
    data.PatientName, data.PatientID = PATIENT, "sentinel-id"
    data.StudyDate, data.AccessionNumber, data.Modality = "20260102", "sentinel-acc", "OT"
    data.SeriesNumber, data.InstanceNumber = series, number
    data.ImageComments = comment
    return data


def write_study(folder: Path, study: str = STUDY, *, series: int = 2, instances: int = 2) -> list[Path]:
    """Write a study to files whose names say nothing; gives them in the order of their names."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for index in range(1, series + 1):
        for number in range(1, instances + 1):
            path = folder / f"{study[-3:]}-{index}-{number}"
            instance(study, index, number).save_as(path, enforce_file_format=True)
            paths.append(path)
    return sorted(paths)
