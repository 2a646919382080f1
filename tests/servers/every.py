"""The servers that the same tests run against, and instances for them: studies of their own, because not all delete.

What is expected of a server stands in the table of habits, and nowhere else.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

from pydicom import dcmread
from pydicom.encaps import generate_frames
from pydicom.uid import UID

from airflow_dicomweb.dicomweb import Basic, Bearer, DicomWebClient
from airflow_dicomweb.dicomweb.habits import SERVERS, ServerHabits
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare import HealthcareClient
from tests.dicomweb.instances import PYDICOM_FILES, part10
from tests.servers.orthanc import Orthanc
from tests.servers.tiny_pacs import TinyPacs

NAMES = ("google", "orthanc", "tiny-pacs")
"""Servers of the table that run here; Google's is the emulator."""

FRAMES = 3
FRAME_BYTES = 8192
_MULTI_FRAME_WORD = "1.2.840.10008.5.1.4.1.1.7.3"


@dataclass(frozen=True, slots=True)
class Server:
    """A server of the table that runs.

    :param habits: What the table says of it.
    :param url: Root of its DICOMweb services.
    :param running: The server itself.
    """

    habits: ServerHabits
    url: str
    running: Emulator | Orthanc | TinyPacs

    @contextmanager
    def client(self, *, named: bool = True, **options: Any) -> Iterator[DicomWebClient]:
        """Give a client.

        :param named: Say to the client which server it is; otherwise it has to find out what matters.
        """
        server = self.habits.name if named else None
        match self.running:
            case Emulator():
                with HealthcareClient(
                    self.running.dicom_store,
                    base_url=self.running.base_url,
                    credentials=Bearer("any"),
                    **options,
                ) as client:
                    yield client
            case Orthanc(user=user, password=password):
                with DicomWebClient(self.url, credentials=Basic(user, password), server=server, **options) as client:
                    yield client
            case TinyPacs():
                with DicomWebClient(self.url, server=server, **options) as client:
                    yield client


def server_of(running: Emulator | Orthanc | TinyPacs) -> Server:
    """Give what the table says of a running server."""
    match running:
        case Emulator():
            return Server(SERVERS["google"], running.dicom_web_url, running)
        case Orthanc():
            return Server(SERVERS["orthanc"], running.dicomweb_url, running)
    return Server(SERVERS["tiny-pacs"], running.dicomweb_url, running)


def new_uid() -> str:
    """Give a UID that nobody else has, short enough to append to."""
    return f"1.2.826.0.1.3680043.8.498.{secrets.randbelow(10**15) + 1}"


def write_study(folder: Path, study: str, *, series: int = 2, instances: int = 2) -> list[InstancePath]:
    """Write small instances, one file each, of several series; gives their identities in order."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = [
        InstancePath(study, f"{study}.{row}", f"{study}.{row}.{number}")
        for row in range(1, series + 1)
        for number in range(1, instances + 1)
    ]
    for path in paths:
        uids = {"StudyInstanceUID": path.study, "SeriesInstanceUID": path.series, "SOPInstanceUID": path.instance}
        number = int(path.instance.rpartition(".")[2])
        (folder / f"{path.instance}.dcm").write_bytes(
            part10(**uids, InstanceNumber=number, PatientID="P1", PatientName="Servers^Test", StudyDate="20260102")
        )
    return paths


def write_image(folder: Path, study: str) -> InstancePath:
    """Write an image of several frames that any server can render; gives its identity."""
    folder.mkdir(parents=True, exist_ok=True)
    data_set = dcmread(PYDICOM_FILES / "MR_small.dcm")
    path = InstancePath(study, f"{study}.1", f"{study}.1.1")
    data_set.StudyInstanceUID, data_set.SeriesInstanceUID, data_set.SOPInstanceUID = (
        path.study,
        path.series,
        path.instance,
    )
    data_set.SOPClassUID = data_set.file_meta.MediaStorageSOPClassUID = UID(_MULTI_FRAME_WORD)
    data_set.file_meta.MediaStorageSOPInstanceUID = UID(path.instance)
    data_set.NumberOfFrames = FRAMES
    data_set.PixelData *= FRAMES
    data_set.save_as(folder / "image.dcm")
    return path


def jpeg() -> bytes:
    """Give a JPEG image."""
    data_set = dcmread(PYDICOM_FILES / "SC_rgb_small_odd_jpeg.dcm")
    return next(generate_frames(data_set.PixelData, number_of_frames=1))


def data_set_bytes(content: bytes) -> bytes:
    """Give what comes after the preamble and group 0002."""
    stream = BytesIO(content)
    start = dcmread(stream, specific_tags=[]).file_meta.FileMetaInformationGroupLength
    return content[144 + start :]
