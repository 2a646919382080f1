"""A generated CT series of a chest that nobody owns.

Everything is drawn from ellipses with soft edges, slice by slice: ribs slope down, the heart swells and shrinks,
vessels branch into the lungs, and one lung holds a nodule. The same call draws the same bytes.

Source: PS3.3 A.3 (CT Image IOD), C.7.6.2 (Image Plane Module)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian, generate_uid

from demo.data import Identity, SourceFile

SLICES = 60
SIZE = 512
_SPACING = 0.75  # mm between pixels
_THICKNESS = 5.0  # mm between slices
_AIR, _FAT, _MUSCLE, _LUNG, _BLOOD, _BONE = -1000.0, -90.0, 50.0, -820.0, 220.0, 600.0  # Hounsfield units

Image = np.ndarray[Any, np.dtype[np.float64]]


def write_ct_series(folder: Path, *, name: str = "phantom", slices: int = SLICES) -> tuple[SourceFile, ...]:
    """Draw the series into a folder; every second file has no extension, as files from archives often have none.

    :param folder: Is created when missing.
    :param name: First part of the files' names.
    :param slices: Number of instances, from the shoulders down.
    """
    (folder / name).mkdir(parents=True, exist_ok=True)
    files = []
    for index in range(slices):
        data_set = _slice(index, slices)
        file_name = f"{name}/IM{index + 1:04d}" + (".dcm" if index % 2 else "")
        data_set.save_as(folder / file_name, enforce_file_format=True)
        identity = Identity(
            str(data_set.StudyInstanceUID), str(data_set.SeriesInstanceUID), str(data_set.SOPInstanceUID)
        )
        files.append(SourceFile(folder / file_name, file_name, identity))
    return tuple(files)


def _uid(*words: str) -> UID:
    return generate_uid(entropy_srcs=["airflow-dicomweb demo", *words])


def _slice(index: int, slices: int) -> FileDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = CTImageStorage
    meta.MediaStorageSOPInstanceUID = _uid("instance", str(index), str(slices))
    meta.TransferSyntaxUID = ExplicitVRLittleEndian
    data_set = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    data_set.SOPClassUID = CTImageStorage
    data_set.SOPInstanceUID = meta.MediaStorageSOPInstanceUID
    _describe(data_set, slices)
    z = -index * _THICKNESS
    data_set.InstanceNumber = index + 1
    data_set.SliceLocation = z
    data_set.ImagePositionPatient = [-SIZE * _SPACING / 2, -SIZE * _SPACING / 2, z]
    stored = np.clip(np.rint(draw(index / max(1, slices - 1), seed=index)) + 1024, 0, 4095)
    data_set.PixelData = stored.astype("<u2").tobytes()
    return data_set


def _describe(data_set: Dataset, slices: int) -> None:
    values: dict[str, Any] = {
        "SpecificCharacterSet": "ISO_IR 192",
        "ImageType": ["DERIVED", "PRIMARY", "AXIAL"],
        "StudyDate": "20260105",
        "SeriesDate": "20260105",
        "StudyTime": "213000",
        "Modality": "CT",
        "Manufacturer": "airflow-dicomweb",
        "StudyDescription": "Synthetic chest",
        "SeriesDescription": "Axial phantom",
        "PatientName": "Synthetic^Phantom",
        "PatientID": "SYNTHETIC-1",
        "PatientBirthDate": "",
        "PatientSex": "O",
        "BodyPartExamined": "CHEST",
        "PatientPosition": "HFS",
        "KVP": "120",
        "AccessionNumber": "",
        "ReferringPhysicianName": "",
        "StudyID": "1",
        "SeriesNumber": 1,
        "StudyInstanceUID": _uid("study", str(slices)),
        "SeriesInstanceUID": _uid("series", str(slices)),
        "FrameOfReferenceUID": _uid("frame of reference"),
        "PositionReferenceIndicator": "",
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "PixelSpacing": [_SPACING, _SPACING],
        "SliceThickness": _THICKNESS,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "Rows": SIZE,
        "Columns": SIZE,
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleIntercept": -1024,
        "RescaleSlope": 1,
        "RescaleType": "HU",
        "WindowCenter": -100,
        "WindowWidth": 1400,
    }
    for keyword, value in values.items():
        setattr(data_set, keyword, value)


def draw(depth: float, *, seed: int, size: int = SIZE) -> Image:
    """One slice in Hounsfield units.

    :param depth: 0 at the shoulders, 1 below the heart.
    :param seed: Of the noise.
    :param size: Rows and columns.
    """
    canvas = _Canvas(size)
    width, height = 0.80 - 0.06 * depth, 0.54 + 0.05 * depth
    canvas.ellipse(0, 0, width, height, _FAT)
    canvas.ellipse(0, 0, width - 0.045, height - 0.05, _MUSCLE)
    lung = math.sin(math.pi * (0.12 + 0.74 * depth)) ** 0.7
    for side in (-1, 1):
        _draw_lung(canvas, side, lung, depth)
    dome = max(0.0, (depth - 0.72) / 0.28) ** 0.5
    canvas.ellipse(-0.36, -0.02, 0.30 * dome, 0.34 * dome, 110.0, tilt=-0.2)  # the liver
    _draw_middle(canvas, depth)
    _draw_bones(canvas, depth, width, height)
    canvas.ellipse(0, height + 0.10, 0.62, 0.018, -300)  # the table
    noise = np.random.default_rng(seed).normal(0.0, 12.0, (size, size))
    return canvas.image + noise


def _draw_lung(canvas: _Canvas, side: int, lung: float, depth: float) -> None:
    across, along = 0.27 * lung + 0.01, 0.40 * lung + 0.01
    x, y = 0.37 * side, -0.01
    canvas.ellipse(x, y, across, along, _LUNG, tilt=0.18 * side)
    for branch in range(9):
        # Each vessel leaves the hilum in its own direction and moves outwards while the slices go down.
        angle = 0.72 * branch + 0.9 * side
        reach = (0.12 + 0.80 * ((depth * 1.7 + 0.113 * branch) % 1.0)) * 0.85
        radius = 0.022 * (1.15 - reach)
        canvas.ellipse(
            x - 0.10 * side * (1 - reach) + across * reach * math.cos(angle),
            y + along * reach * math.sin(angle),
            radius,
            radius * 1.3,
            40.0,
            tilt=angle,
        )
    if side > 0:
        size = max(0.0, 0.034 * (1.0 - abs(depth - 0.52) / 0.06))
        if size:
            canvas.ellipse(x + 0.08, y - 0.12, size, size, 60.0)  # the nodule


def _draw_middle(canvas: _Canvas, depth: float) -> None:
    heart = max(0.0, 1.0 - ((depth - 0.68) / 0.30) ** 2)
    if heart:
        canvas.ellipse(0.09, -0.12, 0.25 * heart**0.5, 0.20 * heart**0.5, 45.0, tilt=0.5)
        canvas.ellipse(0.15, -0.10, 0.10 * heart, 0.08 * heart, _BLOOD, tilt=0.5)
        canvas.ellipse(-0.03, -0.14, 0.08 * heart, 0.07 * heart, _BLOOD * 0.9, tilt=0.3)
    elif depth < 0.5:
        canvas.ellipse(0, -0.10, 0.12, 0.16, 20.0)
        canvas.ellipse(-0.05, -0.16, 0.055, 0.05, _BLOOD)
        canvas.ellipse(0.05, -0.18, 0.045, 0.05, _BLOOD)
    if depth < 0.42:
        canvas.ellipse(0, -0.02, 0.042, 0.038, _AIR)  # the trachea
    elif depth < 0.75:
        canvas.ellipse(-0.09, 0.02, 0.026, 0.024, _AIR)
        canvas.ellipse(0.09, 0.02, 0.024, 0.022, _AIR)
    canvas.ellipse(0.085, 0.15, 0.052, 0.052, _BLOOD)  # the descending aorta


def _draw_bones(canvas: _Canvas, depth: float, width: float, height: float) -> None:
    canvas.ellipse(0, 0.24, 0.105, 0.075, _BONE)
    canvas.ellipse(0, 0.24, 0.080, 0.052, 280.0)
    canvas.ellipse(0, 0.345, 0.062, 0.050, _BONE)
    canvas.ellipse(0, 0.340, 0.040, 0.032, 30.0)  # the spinal canal
    canvas.ellipse(0, 0.425, 0.016, 0.060, _BONE * 0.9)
    canvas.ellipse(0, -height + 0.085, 0.075, 0.026, _BONE * 0.8)  # the sternum
    for side in (-1, 1):
        for rib in range(7):
            angle = 0.42 * rib - 1.25 + 0.42 * ((depth * 6.0) % 1.0)
            x = side * (width - 0.115) * math.cos(angle)
            y = (height - 0.105) * math.sin(angle)
            canvas.ellipse(x, y, 0.055, 0.019, _BONE, tilt=side * (angle + math.pi / 2))


class _Canvas:
    """An image of -1 to 1 in both directions, air at first."""

    def __init__(self, size: int) -> None:
        self._axis = np.linspace(-1.0, 1.0, size)
        self._pixel = 2.0 / size
        self.image: Image = np.full((size, size), _AIR)

    def ellipse(self, x: float, y: float, across: float, along: float, value: float, *, tilt: float = 0.0) -> None:
        """Fill an ellipse; its edge is about two pixels soft, as a scanner would blur it.

        :param tilt: Radians, clockwise on the screen.
        """
        if min(across, along) < self._pixel:
            return
        reach = max(across, along) + 2.0 * self._pixel
        rows, columns = self._range(y, reach), self._range(x, reach)
        dx, dy = np.meshgrid(self._axis[columns] - x, self._axis[rows] - y)
        cos, sin = math.cos(tilt), math.sin(tilt)
        radius = np.hypot((dx * cos + dy * sin) / across, (dy * cos - dx * sin) / along)
        softness = 2.0 * self._pixel / min(across, along)
        cover = np.clip((1.0 - radius) / softness + 0.5, 0.0, 1.0)
        self.image[rows, columns] += cover * (value - self.image[rows, columns])

    def _range(self, middle: float, reach: float) -> slice:
        first, last = np.searchsorted(self._axis, (middle - reach, middle + reach))
        return slice(int(first), int(last))
