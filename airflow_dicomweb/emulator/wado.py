"""Retrieve: instances as they were stored or in explicit little endian, and their metadata.

Source: DICOM PS3.18 section 10.4; Cloud Healthcare API, DICOM conformance statement, "Retrieve transaction".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from typing import IO

from starlette.responses import Response

from airflow_dicomweb.dicomweb.media_types import DICOM, MULTIPART, MediaType
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator.conversion import DEFAULT, can_convert, is_as_stored
from airflow_dicomweb.emulator.decoders import ConversionError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.messages import ApiError, dicom_json_stream
from airflow_dicomweb.emulator.metadata import UnreadableFileError, metadata, read_data_set
from airflow_dicomweb.emulator.pieces import Piece, multipart_answer, single_answer
from airflow_dicomweb.emulator.qido import as_answer, wants_xml
from airflow_dicomweb.emulator.service import Call


def retrieve(call: Call) -> Response:
    """Answer with the instances of a study or series, or with one instance."""
    stored = stored_of(call)
    single = isinstance(call.resource(), InstancePath)
    for media_type in call.accept():
        kind, wanted = _kind(media_type, single=single)
        if kind and all(can_convert(each, wanted) for each in stored):
            return _answer(call, stored, kind, wanted)
    raise ApiError(406, "None of the accepted media types and transfer syntaxes can be answered for these instances.")


def stored_of(call: Call) -> list[Stored]:
    """List the instances that the path means.

    :raises ApiError: 404 if there are none.
    """
    path = call.resource()
    stored = call.service.instances.find(call.store_row(), path)
    if not stored:
        raise ApiError(404, f"{path} is not there, or the caller has no access to it.")
    return stored


def _kind(media_type: MediaType, *, single: bool) -> tuple[str, str]:
    """Give the form of the answer and its transfer syntax; an empty form if the type cannot be answered."""
    inner = MediaType.parse(media_type.parameters.get("type"))
    wanted = media_type.transfer_syntax or inner.transfer_syntax or DEFAULT
    if media_type.accepts(MULTIPART) and inner.name in {DICOM, ""}:
        return MULTIPART, wanted
    if single and media_type.accepts(DICOM):
        return DICOM, wanted
    return "", wanted


def _answer(call: Call, stored: Sequence[Stored], kind: str, wanted: str) -> Response:
    opened: list[IO[bytes]] = []
    try:
        parts = [_piece(call, each, wanted, opened).part(DICOM) for each in stored]
    except ConversionError as error:
        for file in opened:
            file.close()
        raise ApiError(406, str(error)) from None
    return single_answer(parts[0], opened) if kind == DICOM else multipart_answer(parts, opened)


def _piece(call: Call, stored: Stored, wanted: str, opened: list[IO[bytes]]) -> Piece:
    if is_as_stored(stored, wanted):
        return Piece(stored.file, 0, stored.size)
    # Converted before the answer begins: once it has, there is no way to say that it cannot be done.
    file = call.service.decoders.convert(stored.file, wanted, call.service.instances.incoming_folder)
    opened.append(file)
    return Piece(file, 0, file.seek(0, 2))


def retrieve_metadata(call: Call) -> Response:
    """Answer with the attributes of instances, bulk data by URL."""
    as_xml = wants_xml(call.accept())
    stored = stored_of(call)
    described = (_metadata(call, each) for each in stored)
    if as_xml:
        return as_answer(list(described), as_xml=True)
    return dicom_json_stream(described)


def _metadata(call: Call, stored: Stored) -> dict[str, object]:
    start = f"{call.dicom_web}/{stored.path}/bulkdata/"
    uri: Callable[[str], str] = start.__add__
    try:
        return metadata(read_data_set(stored.file), uri)
    except UnreadableFileError:
        # What lies behind the attributes of the index is damaged; they were readable when it came.
        return dict(json.loads(call.service.instances.attributes(stored)))
