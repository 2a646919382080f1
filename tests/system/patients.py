"""Made-up patients, each in files of its own: everything that would tell who they are is a sentinel."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from pydicom import config, dcmread
from pydicom.data import get_testdata_file
from pydicom.dataset import FileDataset
from pydicom.uid import UID, generate_uid

from demo.data import Identity, SourceFile
from tests.system.sentinels import Sentinel, random_birth_date, random_word


class Patient:
    """A patient, and the study made of one of pydicom's files that shows them.

    :param who: What messages call the patient.
    """

    def __init__(self, who: str) -> None:
        self.attributes = {
            "PatientName": f"{random_word()}ö^{random_word()}",
            "PatientID": f"{random_word()}/{random_word()}",
            "PatientBirthDate": random_birth_date(),
            "AccessionNumber": random_word(),
            "ReferringPhysicianName": f"{random_word()}^{random_word()}",
            "StudyDescription": f"follow-up of {random_word()} & {random_word()}",
            "PatientComments": f'"{random_word()}", says the neighbour\n{random_word()}',
            # No time: libraries like to complain about such values, and to quote them.
            "PatientBirthTime": random_word(),
        }
        # With what URLs and patterns trip over: a comma, a blank, a letter beyond ASCII.
        self.label = f"{random_word()}, {random_word()}ß"
        self.study = str(generate_uid())
        self._series = str(generate_uid())
        named = {**self.attributes, "files are named after": self.label}
        self.sentinels = tuple(Sentinel(f"{who}: {name}", value) for name, value in named.items())

    def write_files(self, folder: Path, *, below: str, count: int) -> tuple[SourceFile, ...]:
        """Write instances into a folder that is named after the patient.

        :param folder: Where that folder is made.
        :param below: What their names begin with.
        :param count: How many.
        """
        return tuple(
            self._write(folder, f"{below}{self.label}/{self.label} {number}.dcm", number)
            for number in range(1, count + 1)
        )

    def write_conflict(self, source: SourceFile, target: Path) -> None:
        """Write other bytes under the identity of an instance."""
        data_set = dcmread(source.path)
        data_set.ContentTime = "235959"
        target.parent.mkdir(parents=True, exist_ok=True)
        data_set.save_as(target)

    def write_nameless(self, source: SourceFile, target: Path) -> None:
        """Write an instance that has a word where its UID should be."""
        data_set = dcmread(source.path)
        with config.disable_value_validation():
            data_set.SOPInstanceUID = self.attributes["AccessionNumber"]
        target.parent.mkdir(parents=True, exist_ok=True)
        data_set.save_as(target)

    def write_broken(self, source: SourceFile, target: Path) -> None:
        """Write an instance up to where its identity would begin."""
        content = source.path.read_bytes()
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content[: content.index(self.study.encode())])

    def _write(self, folder: Path, name: str, number: int) -> SourceFile:
        instance = str(generate_uid())
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        self._data_set(instance, number).save_as(path)
        return SourceFile(path, name, Identity(self.study, self._series, instance))

    def _data_set(self, instance: str, number: int) -> FileDataset:
        data_set = dcmread(str(get_testdata_file("CT_small.dcm")))
        data_set.SpecificCharacterSet = "ISO_IR 192"
        with config.disable_value_validation():
            for keyword, value in self.attributes.items():
                setattr(data_set, keyword, value)
        data_set.StudyInstanceUID, data_set.SeriesInstanceUID = self.study, self._series
        data_set.SOPInstanceUID = data_set.file_meta.MediaStorageSOPInstanceUID = UID(instance)
        data_set.InstanceNumber = number
        return data_set


def all_sentinels(patients: Sequence[Patient]) -> tuple[Sentinel, ...]:
    """Give the sentinels of several patients."""
    return tuple(sentinel for patient in patients for sentinel in patient.sentinels)
