"""The frames of an instance as bytes: where they lie in its file, or decoded.

Source: DICOM PS3.5 section 8 and annex A.4; PS3.18 section 8.7.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pydicom
from pydicom.dataset import FileDataset
from pydicom.encaps import get_frame
from pydicom.uid import ExplicitVRLittleEndian, ImplicitVRLittleEndian

from airflow_dicomweb.emulator.conversion import PLAIN, swap
from airflow_dicomweb.emulator.decoders import ConversionError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.metadata import UnreadableFileError, read_data_set
from airflow_dicomweb.emulator.pieces import Piece

_FLOAT, _DOUBLE, _INTEGER = 0x7FE00008, 0x7FE00009, 0x7FE00010
_KEYWORDS = {_FLOAT: "FloatPixelData", _DOUBLE: "DoubleFloatPixelData", _INTEGER: "PixelData"}
_ELEMENT_HEAD, _IMPLICIT_HEAD = 12, 8


class NoPixelsError(Exception):
    """An instance that has no frames, or none of that number."""


def native_frames(stored: Stored, numbers: Sequence[int]) -> list[Piece] | None:
    """Find frames that lie in the file as they are answered; None if they do not: compressed, or of odd bits.

    :param numbers: Which frames, from 1.
    :raises NoPixelsError: If the instance has no pixel data.
    """
    try:
        data_set = read_data_set(stored.file)
    except UnreadableFileError:
        raise NoPixelsError("the instance has no pixel data that can be read") from None
    tag = next((tag for tag in _KEYWORDS if tag in data_set), None)
    if tag is None:
        raise NoPixelsError("the instance has no pixel data")
    if stored.transfer_syntax not in {str(ImplicitVRLittleEndian), str(ExplicitVRLittleEndian)}:
        return None
    raw: Any = data_set.get_item(tag, keep_deferred=True)
    bits = _frame_bits(data_set)
    if bits % 8 or not bits:
        return None
    size = bits // 8
    if max(numbers) * size > raw.length:
        raise NoPixelsError("the pixel data is shorter than its frames")
    return [Piece(stored.file, raw.value_tell + (number - 1) * size, size) for number in numbers]


def _frame_bits(data_set: FileDataset) -> int:
    """Give the length of a native frame in bits; 0 if the attributes do not say it."""
    try:
        counts = [int(data_set[name].value) for name in ("Rows", "Columns", "BitsAllocated")]
        samples = int(data_set.get("SamplesPerPixel") or 1)
    except (KeyError, TypeError, ValueError):
        return 0
    if data_set.get("PhotometricInterpretation") == "YBR_FULL_422":
        samples = 2
    return math.prod(counts) * samples


def write_frames(file: Path, numbers: Iterable[int] | None, as_stored: bool, target: Path) -> list[int]:  # noqa: FBT001
    """Write frames one after the other: what the process of the decoders does.

    :param numbers: From 1; None for all.
    :param as_stored: Whether they stay compressed.
    :return: Their lengths in bytes.
    :raises ConversionError: If they cannot be had.
    """
    sizes = []
    try:
        with target.open("wb") as output:
            for frame in _compressed(file, numbers) if as_stored else _decoded(file, numbers):
                output.write(frame)
                sizes.append(len(frame))
    except Exception as error:
        raise ConversionError("the frames cannot be decoded") from error
    return sizes


def _compressed(file: Path, numbers: Iterable[int] | None) -> Iterator[bytes]:
    with file.open("rb") as opened:
        data_set = pydicom.dcmread(opened, stop_before_pixels=True)
        if not opened.read(_ELEMENT_HEAD)[4:6].isalpha():
            # The element has no VR, whatever group 0002 says: some files are so.
            opened.seek(_IMPLICIT_HEAD - _ELEMENT_HEAD, 1)
        count = _count(data_set)
        tables = [data_set.get(name) for name in ("ExtendedOffsetTable", "ExtendedOffsetTableLengths")]
        offsets: Any = tuple(tables) if all(tables) else None
        for number in _all(numbers, count):
            yield get_frame(opened, number - 1, number_of_frames=count, extended_offsets=offsets)


def _decoded(file: Path, numbers: Iterable[int] | None) -> Iterator[bytes]:
    from pydicom.pixels.decoders.base import get_decoder  # Loads numpy.

    data_set = pydicom.dcmread(file)
    wanted = _all(numbers, _count(data_set))
    syntax = data_set.file_meta.TransferSyntaxUID
    if syntax not in PLAIN:
        decoder = get_decoder(syntax)
        for number in wanted:
            yield _arranged(data_set, *decoder.as_buffer(data_set, index=number - 1, raw=True))
        return
    if data_set.original_encoding[1] is False:
        swap(data_set)
    data = next(data_set[tag].value for tag in _KEYWORDS if tag in data_set)
    bits = _frame_bits(data_set)
    for number in wanted:
        yield _cut(data, (number - 1) * bits, bits)


def _arranged(data_set: FileDataset, frame: Any, described: dict[str, Any]) -> bytes:
    """Give a decoded frame as the instance's PlanarConfiguration has it: some decoders give colour by colour."""
    import numpy as np  # Only the process of the decoders needs it.

    samples, found = described["samples_per_pixel"], described.get("planar_configuration", 0)
    if samples == 1 or found == int(data_set.get("PlanarConfiguration") or 0):
        return bytes(frame)
    shape = (samples, -1) if found else (-1, samples)
    values = np.frombuffer(frame, f"u{described['bits_allocated'] // 8}").reshape(shape)
    return values.T.tobytes()


def _cut(data: bytes, start: int, bits: int) -> bytes:
    """Take a native frame out; one that does not begin with a byte is moved to where one does."""
    if start + bits > len(data) * 8 or not bits:
        raise ConversionError("the pixel data is shorter than its frames")
    if start % 8 == bits % 8 == 0:
        return data[start // 8 : (start + bits) // 8]
    import numpy as np  # Only the process of the decoders needs it.

    around = np.frombuffer(data[start // 8 : (start + bits + 7) // 8], np.uint8)
    single = np.unpackbits(around, bitorder="little")[start % 8 : start % 8 + bits]
    return np.packbits(single, bitorder="little").tobytes()


def _count(data_set: FileDataset) -> int:
    try:
        return max(int(data_set.get("NumberOfFrames") or 1), 1)
    except ValueError:
        return 1


def _all(numbers: Iterable[int] | None, count: int) -> Iterable[int]:
    return range(1, count + 1) if numbers is None else numbers
