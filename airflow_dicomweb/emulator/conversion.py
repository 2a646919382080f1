"""Instances in another transfer syntax: decompressed, and in the plain encodings. Nothing is ever compressed here.

Source: Cloud Healthcare API, DICOM conformance statement, "Retrieve transaction" (transfer syntaxes).
"""

from __future__ import annotations

from pathlib import Path

import pydicom
from pydicom.dataset import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from airflow_dicomweb.emulator.decoders import ConversionError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.metadata import WORD_BYTES, swapped

AS_STORED = "*"
DEFAULT = str(ExplicitVRLittleEndian)

_WRITTEN = frozenset(map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian)))
PLAIN = _WRITTEN | {str(ExplicitVRBigEndian)}
"""Transfer syntaxes without compression of pixel data."""
_PIXEL_DATA = 0x7FE00010


def is_as_stored(stored: Stored, wanted: str) -> bool:
    """Tell whether the file itself is the answer."""
    return wanted in {AS_STORED, stored.transfer_syntax}


def can_convert(stored: Stored, wanted: str) -> bool:
    """Tell whether the attempt is worth while: the file may still turn out to be damaged."""
    return is_as_stored(stored, wanted) or (
        wanted in _WRITTEN and (stored.transfer_syntax in PLAIN or is_decodable(stored.transfer_syntax))
    )


def is_decodable(transfer_syntax: str) -> bool:
    """Tell whether there is a decoder for compressed pixel data."""
    from pydicom.pixels.decoders.base import get_decoder

    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except NotImplementedError:
        return False


def convert(file: Path, wanted: str, target: Path) -> None:
    """Write an instance in another transfer syntax.

    :raises ConversionError: If it cannot be done.
    """
    try:
        data_set = pydicom.dcmread(str(file))
        if "PixelData" in data_set and data_set.file_meta.TransferSyntaxUID not in PLAIN:
            data_set.decompress(as_rgb=False, generate_instance_uid=False)
        big = data_set.original_encoding[1] is False
        if big:
            swap(data_set)
        data_set.file_meta.TransferSyntaxUID = UID(wanted)
        data_set.preamble = data_set.preamble or bytes(128)
        # The writer refuses another byte order unless it is forced to: numbers were read by now, and binary data was
        # turned round, so it is all in hand.
        how = {"force_encoding": True} if big else {"enforce_file_format": True}
        implicit = wanted == ImplicitVRLittleEndian
        pydicom.dcmwrite(target, data_set, implicit_vr=implicit, little_endian=True, **how)
    except Exception as error:
        raise ConversionError(f"an instance cannot be converted to {wanted}") from error


def swap(data_set: Dataset) -> None:
    """Turn big endian data round: the writer does so for numbers that were read, but not for binary data."""
    for element in data_set.iterall():  # Reads every number there is.
        if not isinstance(element.value, bytes):
            continue
        element.value = swapped(element.value, word_width(element.tag, element.VR, data_set))


def word_width(tag: int, vr: str, data_set: Dataset) -> int:
    """Give the number of bytes in a word of binary data.

    :param vr: As it was read: the VR of pixel data may be open.
    :param data_set: The instance, for its BitsAllocated.
    """
    vr = "OW" if vr == "OB or OW" else vr
    width = WORD_BYTES.get(vr, 1)
    if tag == _PIXEL_DATA and vr == "OW":
        width = max(width, int(data_set.get("BitsAllocated", 16)) // 8)
    return width
