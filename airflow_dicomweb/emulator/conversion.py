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

_WRITTEN = frozenset(map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian)))
_PLAIN = _WRITTEN | {str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)}
_PIXEL_DATA = 0x7FE00010


def is_as_stored(stored: Stored, wanted: str) -> bool:
    """Tell whether the file itself is the answer."""
    return wanted in {AS_STORED, stored.transfer_syntax}


def can_convert(stored: Stored, wanted: str) -> bool:
    """Tell whether the attempt is worth while: the file may still turn out to be damaged."""
    return is_as_stored(stored, wanted) or (
        wanted in _WRITTEN and (stored.transfer_syntax in _PLAIN or _is_decodable(stored.transfer_syntax))
    )


def _is_decodable(transfer_syntax: str) -> bool:
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
        if "PixelData" in data_set and data_set.file_meta.TransferSyntaxUID not in _PLAIN:
            data_set.decompress(as_rgb=False, generate_instance_uid=False)
        big = data_set.original_encoding[1] is False
        if big:
            _swap(data_set)
        data_set.file_meta.TransferSyntaxUID = UID(wanted)
        data_set.preamble = data_set.preamble or bytes(128)
        # The writer refuses another byte order unless it is forced to: numbers were read by now, and binary data was
        # turned round, so it is all in hand.
        how = {"force_encoding": True} if big else {"enforce_file_format": True}
        implicit = wanted == ImplicitVRLittleEndian
        pydicom.dcmwrite(target, data_set, implicit_vr=implicit, little_endian=True, **how)
    except Exception as error:
        raise ConversionError(f"an instance cannot be converted to {wanted}") from error


def _swap(data_set: Dataset) -> None:
    """Turn big endian data round: the writer does so for numbers that were read, but not for binary data."""
    for element in data_set.iterall():  # Reads every number there is.
        if not isinstance(element.value, bytes):
            continue
        vr = "OW" if element.VR == "OB or OW" else element.VR
        width = WORD_BYTES.get(vr, 1)
        if element.tag == _PIXEL_DATA and vr == "OW":
            width = max(width, int(data_set.get("BitsAllocated", 16)) // 8)
        element.value = swapped(element.value, width)
