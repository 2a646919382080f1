"""The demonstration's input: what a hospital might find in a bucket and in a folder one night.

The files are pydicom's own test files, one for each instance (they come in pydicom's wheel), and a generated CT
series. Nothing is downloaded.
"""

from __future__ import annotations

import logging
import shutil
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from pydicom import data as pydicom_data
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError

NOT_DICOM_NAME = "README.txt"
_NOT_DICOM_TEXT = (
    "Exported by the scanner in room 2. This file is not a DICOM file: the ingestion names it and goes on.\n"
)
_UID_KEYWORDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class Identity(NamedTuple):
    """What makes two files the same instance: the three UIDs of the data set."""

    study: str
    series: str
    instance: str


@dataclass(frozen=True, slots=True)
class SourceFile:
    """One file of the input.

    :param path: Where it is now.
    :param name: Path that it gets below the folder or the bucket's prefix, with ``/`` between the parts.
    :param identity: The instance in it.
    """

    path: Path
    name: str
    identity: Identity


def read_identity(path: Path) -> Identity | None:
    """Read the identity of a Part 10 file; None when the file is not one, or lacks one of its UIDs."""
    try:
        with warnings.catch_warnings():
            # These files break the standard on purpose; that is not news here.
            warnings.simplefilter("ignore")
            data_set = dcmread(path, specific_tags=list(_UID_KEYWORDS), stop_before_pixels=True)
        identity = Identity(*(check_uid(str(data_set.get(keyword, "")), keyword) for keyword in _UID_KEYWORDS))
    except (InvalidDicomError, ConfigurationError):
        return None
    return identity


def pydicom_files() -> tuple[SourceFile, ...]:
    """One of pydicom's test files for each instance among them: the first by its relative path."""
    root = Path(pydicom_data.__file__).parent / "test_files"
    names = sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())
    found: dict[Identity, SourceFile] = {}
    level = logging.getLogger("pydicom").level
    logging.getLogger("pydicom").setLevel(logging.ERROR)
    try:
        for name in names:
            identity = read_identity(root / name)
            if identity is not None and identity not in found:
                found[identity] = SourceFile(root / name, name, identity)
    finally:
        logging.getLogger("pydicom").setLevel(level)
    return tuple(found.values())


def halve_by_study(files: Iterable[SourceFile]) -> tuple[tuple[SourceFile, ...], tuple[SourceFile, ...]]:
    """Two halves of the studies, large and small ones in both; the first half has the largest.

    The same files give the same halves.
    """
    studies: dict[str, list[SourceFile]] = {}
    for file in files:
        studies.setdefault(file.identity.study, []).append(file)
    ordered = sorted(studies.values(), key=lambda members: (-len(members), members[0].identity.study))
    first, second = (
        tuple(sorted((file for members in half for file in members), key=lambda file: file.name))
        for half in (ordered[::2], ordered[1::2])
    )
    return first, second


def fill_folder(folder: Path, files: Iterable[SourceFile]) -> None:
    """Copy files into a folder, under their names, and one beside them that is not DICOM.

    :param folder: Is created.
    """
    folder.mkdir(parents=True)
    for file in files:
        target = folder / file.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file.path, target)
    (folder / NOT_DICOM_NAME).write_text(_NOT_DICOM_TEXT)
