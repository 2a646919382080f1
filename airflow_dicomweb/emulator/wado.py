"""Retrieve: instances as they were stored or in explicit little endian, their metadata, and pictures of them.

Source: DICOM PS3.18 section 10.4; Cloud Healthcare API, DICOM conformance statement, "Retrieve transaction".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import IO

from starlette.responses import Response, StreamingResponse

from airflow_dicomweb.dicomweb.media_types import DICOM, DICOM_JSON, MULTIPART, MediaType
from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE, Body, Part, exactly
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator.conversion import DEFAULT, can_convert, is_as_stored
from airflow_dicomweb.emulator.decoders import PICTURE_FORMATS, ConversionError, RenderingError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.messages import ApiError, dicom_json_bytes
from airflow_dicomweb.emulator.metadata import UnreadableFileError, metadata, read_data_set
from airflow_dicomweb.emulator.qido import as_answer, wants_xml
from airflow_dicomweb.emulator.service import Call


def retrieve(call: Call) -> Response:
    """Answer with the instances of a study or series, or with one instance."""
    stored = _stored(call)
    single = isinstance(call.resource(), InstancePath)
    for media_type in call.accept():
        kind, wanted = _kind(media_type, single=single)
        if kind and all(can_convert(each, wanted) for each in stored):
            return _answer(call, stored, kind, wanted)
    raise ApiError(406, "None of the accepted media types and transfer syntaxes can be answered for these instances.")


def _stored(call: Call) -> list[Stored]:
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
        parts = [_part(call, each, wanted, opened) for each in stored]
    except ConversionError as error:
        _close(opened)
        raise ApiError(406, str(error)) from None
    if kind == DICOM:
        blocks: Iterable[bytes] = exactly(parts[0].read(), parts[0].size)
        headers = {"content-type": DICOM, "content-length": str(parts[0].size)}
    else:
        body = Body(parts, DICOM)
        blocks, headers = body, {"content-type": body.content_type, "content-length": str(len(body))}
    return StreamingResponse(_closing(blocks, opened), headers=headers)


def _part(call: Call, stored: Stored, wanted: str, opened: list[IO[bytes]]) -> Part:
    if is_as_stored(stored, wanted):
        return Part(DICOM, stored.size, lambda: _file_blocks(stored))
    # Converted before the answer begins: once it has, there is no way to say that it cannot be done.
    file = call.service.decoders.convert(stored.file, wanted, call.service.instances.incoming_folder)
    opened.append(file)
    return Part(DICOM, file.seek(0, 2), lambda: _blocks(file))


def _file_blocks(stored: Stored) -> Iterator[bytes]:
    with stored.file.open("rb", buffering=0) as file:
        yield from _blocks(file)


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    file.seek(0)
    while block := file.read(BLOCK_SIZE):
        yield block


def _closing(blocks: Iterable[bytes], opened: Sequence[IO[bytes]]) -> Iterator[bytes]:
    try:
        yield from blocks
    finally:
        _close(opened)


def _close(opened: Iterable[IO[bytes]]) -> None:
    for file in opened:
        file.close()


def retrieve_metadata(call: Call) -> Response:
    """Answer with the attributes of instances, bulk data by URL."""
    as_xml = wants_xml(call.accept())
    stored = _stored(call)
    described = (_metadata(call, each) for each in stored)
    if as_xml:
        return as_answer(list(described), as_xml=True)
    return StreamingResponse(_json_array(described), media_type=DICOM_JSON)


def _json_array(items: Iterable[object]) -> Iterator[bytes]:
    yield b"["
    for index, item in enumerate(items):
        yield (b"," if index else b"") + dicom_json_bytes(item)
    yield b"]"


def _metadata(call: Call, stored: Stored) -> dict[str, object]:
    start = f"{call.dicom_web}/{stored.path}/bulkdata/"
    uri: Callable[[str], str] = start.__add__
    try:
        return metadata(read_data_set(stored.file), uri)
    except UnreadableFileError:
        # What lies behind the attributes of the index is damaged; they were readable when it came.
        return dict(json.loads(call.service.instances.attributes(stored)))


def retrieve_rendered(call: Call) -> Response:
    """Answer with a picture of an instance: its first frame."""
    media_type = _picture_type(call.accept())
    unknown = {name for name, _ in call.query} - {"viewport"}
    if unknown:
        raise ApiError(400, f"unsupported query parameter: {', '.join(sorted(unknown))}")
    stored = _stored(call)[0]
    try:
        picture = call.service.decoders.render(stored.file, media_type, viewport=call.parameter("viewport"))
    except RenderingError as error:
        raise ApiError(400, str(error)) from None
    return Response(picture, media_type=media_type)


def _picture_type(accepted: Sequence[MediaType]) -> str:
    for media_type in accepted:
        for name in PICTURE_FORMATS:
            if media_type.accepts(name):
                return name
    raise ApiError(406, f"A picture can be {' or '.join(PICTURE_FORMATS)}.")
