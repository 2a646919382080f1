"""Retrieve bulk data: the bytes of one element, never compressed.

Source: DICOM PS3.18 section 10.4.1.1.5; Cloud Healthcare API, DICOM conformance statement, "Bulkdata resources".
"""

from __future__ import annotations

import io
import re
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

from pydicom.dataset import Dataset
from starlette.responses import Response

from airflow_dicomweb.dicomweb.media_types import MULTIPART, OCTET_STREAM, MediaType
from airflow_dicomweb.emulator.conversion import AS_STORED, DEFAULT, word_width
from airflow_dicomweb.emulator.decoders import ConversionError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.metadata import UnreadableFileError, is_bulk, read_data_set, swapped
from airflow_dicomweb.emulator.pieces import Piece, multipart_answer, single_answer
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.emulator.wado import stored_of

_PATH = re.compile(r"(?:[0-9A-Fa-f]{8}/[0-9]{1,6}/)*[0-9A-Fa-f]{8}/?")
_PIXEL_DATA = 0x7FE00010
_UNDEFINED_LENGTH = 0xFFFFFFFF


def retrieve_bulk_data(call: Call) -> Response:
    """Answer with the bytes of one element."""
    path = call.names["any"]
    if not _PATH.fullmatch(path):
        raise ApiError(400, "invalid path of bulk data: TAG, or TAG/ITEM/TAG for an element of a sequence, is expected")
    single = _is_single(call)
    piece = _found(call, stored_of(call)[0], path.strip("/").split("/"))
    opened = [] if isinstance(piece.file, Path) else [piece.file]
    part = piece.part(OCTET_STREAM)
    return single_answer(part, opened) if single else multipart_answer([part], opened)


def _is_single(call: Call) -> bool:
    for media_type in call.accept():
        multipart = media_type.accepts(MULTIPART)
        inner = MediaType.parse(media_type.parameters.get("type")) if multipart else media_type
        wanted = media_type.transfer_syntax or inner.transfer_syntax or AS_STORED
        if wanted in {AS_STORED, DEFAULT} and (not inner.name or inner.accepts(OCTET_STREAM)):
            return not multipart
    raise ApiError(406, f"Bulk data is {OCTET_STREAM}, alone or in {MULTIPART}.")


def _found(call: Call, stored: Stored, steps: Sequence[str]) -> Piece:
    try:
        data_set = read_data_set(stored.file)
        item = _item(data_set, steps)
        element: Any = item.get_item(int(steps[-1], 16), keep_deferred=True)
    except (UnreadableFileError, KeyError, IndexError, TypeError):
        element = None
    if element is None or not is_bulk(element):
        raise ApiError(404, "The instance has no bulk data of that path.")
    is_pixels = len(steps) == 1 and element.tag == _PIXEL_DATA
    if is_pixels and getattr(element, "length", 0) == _UNDEFINED_LENGTH:
        return _decoded(call, stored)
    big = data_set.original_encoding[1] is False
    if element.value is None and not big:
        return Piece(stored.file, element.value_tell, element.length)
    value = item[element.tag].value if element.value is None else element.value
    if not isinstance(value, bytes):
        raise ApiError(404, "The instance has no bulk data of that path.")
    return _in_memory(swapped(value, word_width(element.tag, element.VR or "", data_set)) if big else value)


def _item(data_set: Dataset, steps: Sequence[str]) -> Dataset:
    """Go into sequences as far as the path does."""
    for tag, number in zip(steps[:-1:2], steps[1::2], strict=True):
        data_set = data_set[int(tag, 16)].value[int(number)]
    return data_set


def _decoded(call: Call, stored: Stored) -> Piece:
    service = call.service
    try:
        file, sizes = service.decoders.frames(stored.file, None, service.instances.incoming_folder, as_stored=False)
    except ConversionError as error:
        raise ApiError(406, str(error)) from None
    return Piece(file, 0, sum(sizes))


def _in_memory(value: bytes) -> Piece:
    file: IO[bytes] = io.BytesIO(value)
    return Piece(file, 0, len(value))
