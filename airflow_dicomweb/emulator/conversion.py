"""Instances in another transfer syntax: decompressed, and in the plain encodings. Nothing is ever compressed here.

Source: Cloud Healthcare API, DICOM conformance statement, "Retrieve transaction" (transfer syntaxes).
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import IO

import pydicom
from pydicom.dataset import Dataset
from pydicom.pixels.decoders.base import get_decoder
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.metadata import little_endian

AS_STORED = "*"
DEFAULT = str(ExplicitVRLittleEndian)

_WRITTEN = frozenset(map(str, (ImplicitVRLittleEndian, ExplicitVRLittleEndian)))
_PLAIN = _WRITTEN | {str(DeflatedExplicitVRLittleEndian), str(ExplicitVRBigEndian)}
_BINARY = {"OD", "OF", "OL", "OV", "OW"}


class ConversionError(Exception):
    """An instance that cannot be given in the transfer syntax that was asked for."""


def is_as_stored(stored: Stored, wanted: str) -> bool:
    """Tell whether the file itself is the answer."""
    return wanted in {AS_STORED, stored.transfer_syntax}


def can_convert(stored: Stored, wanted: str) -> bool:
    """Tell whether the attempt is worth while: the file may still turn out to be damaged."""
    return is_as_stored(stored, wanted) or (
        wanted in _WRITTEN and (stored.transfer_syntax in _PLAIN or _is_decodable(stored.transfer_syntax))
    )


def _is_decodable(transfer_syntax: str) -> bool:
    try:
        return bool(get_decoder(UID(transfer_syntax)).is_available)
    except NotImplementedError:
        return False


def convert(stored: Stored, wanted: str, folder: Path) -> IO[bytes]:
    """Write an instance in another transfer syntax.

    :param folder: Where there is room for it; the file has no name and goes when it is closed.
    :return: The file, at its beginning.
    :raises ConversionError: If it cannot be done.
    """
    output = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115 - the caller closes it
    try:
        data_set = pydicom.dcmread(str(stored.file))
        if stored.transfer_syntax not in _PLAIN and "PixelData" in data_set:
            data_set.decompress(as_rgb=False, generate_instance_uid=False)
        if data_set.original_encoding[1] is False:
            _swap(data_set)
        data_set.file_meta.TransferSyntaxUID = UID(wanted)
        data_set.save_as(
            output, implicit_vr=wanted == ImplicitVRLittleEndian, little_endian=True, enforce_file_format=True
        )
    except Exception as error:
        output.close()
        raise ConversionError(f"an instance cannot be converted to {wanted}") from error
    output.seek(0)
    return output


def _swap(data_set: Dataset) -> None:
    """Turn big endian words round: the writer does so for numbers, but not for binary data."""
    for element in data_set.iterall():
        vr = "OW" if element.VR == "OB or OW" else element.VR
        if vr in _BINARY and isinstance(element.value, bytes):
            element.value = little_endian(element.value, vr, data_set)
