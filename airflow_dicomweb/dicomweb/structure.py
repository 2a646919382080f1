"""Whether a Part 10 file is whole: what a copy that broke off leaves is found before it is sent.

All elements end inside the file, in sequences, items and fragments too, and native pixel data is at least as long as the
image that the data set describes. Values are not judged.

Source: DICOM PS3.5 chapters 7 and 8 and annex A, PS3.3 section C.7.6.3 (image pixel module).
"""

from __future__ import annotations

import os
from typing import BinaryIO

from airflow_dicomweb.dicomweb.elements import PIXEL_DATA, UNDEFINED, BrokenStructure, Element, elements

_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _BITS = (
    *(0x00280002, 0x00280004, 0x00280008),
    *(0x00280010, 0x00280011, 0x00280100),
)
_IMAGE = frozenset({_SAMPLES, _PHOTOMETRIC, _FRAMES, _ROWS, _COLUMNS, _BITS})
# Implicit, explicit in both byte orders, and deflated: with any other transfer syntax pixel data may be as long as it likes.
_NATIVE = frozenset({"1.2.840.10008.1.2" + suffix for suffix in ("", ".1", ".2", ".1.99")})
# Two pixels share their colours, or four do: bytes are fewer than samples.
_SUBSAMPLED = {"YBR_FULL_422": (2, 3), "YBR_PARTIAL_422": (2, 3), "YBR_PARTIAL_420": (1, 2)}


def check_structure(source: str | os.PathLike[str] | BinaryIO) -> None:
    """Do nothing if a Part 10 file is whole.

    :param source: Path, or a stream at its start. Where it can seek, only the headers of the elements are read; where it
        cannot, it is read to its end. Memory does not grow with it.
    :raises UnusableFile: If it is not; the message says where it ends, and has no value of it.
    :raises OSError: If it cannot be read.
    """
    if isinstance(source, str | os.PathLike):
        with open(source, "rb") as stream:  # noqa: PTH123 - a path of any kind
            return check_structure(stream)
    image: dict[int, Element] = {}
    for element in elements(source, _IMAGE | PIXEL_DATA):
        if element.depth:
            continue
        if element.tag in PIXEL_DATA:
            _check_pixel_data(element, image)
        else:
            image[element.tag] = element
    return None


def _check_pixel_data(pixels: Element, image: dict[int, Element]) -> None:
    wanted = _wanted_bytes(image)
    if pixels.length == UNDEFINED or pixels.transfer_syntax not in _NATIVE or wanted is None:
        return
    if pixels.length < wanted:
        raise BrokenStructure(f"its pixel data ends early: {pixels.length} of {wanted} bytes")


def _wanted_bytes(image: dict[int, Element]) -> int | None:
    """Give the bytes that the pixels of an image need; None if it is not described well enough."""
    numbers = [image[tag].number() if tag in image else None for tag in (_ROWS, _COLUMNS, _SAMPLES, _BITS)]
    frames = image[_FRAMES].text() if _FRAMES in image else ""
    if not (frames or "1").isdecimal():
        return None
    bits = int(frames or "1")
    for number in numbers:
        if number is None:
            return None
        bits *= number
    photometric = image[_PHOTOMETRIC].text() if _PHOTOMETRIC in image else ""
    part, whole = _SUBSAMPLED.get(photometric, (1, 1)) if image[_SAMPLES].number() == 3 else (1, 1)
    return (bits * part // whole + 7) // 8
