"""Retrieve rendered: pictures of an instance or of some of its frames.

Source: DICOM PS3.18 section 10.4.1.1.4; Cloud Healthcare API, DICOM conformance statement, "Rendered resources"; release
notes, 2025-12-17 (an instance of several frames is answered in parts).
"""

from __future__ import annotations

import tempfile
from typing import IO

from starlette.responses import Response

from airflow_dicomweb.dicomweb.media_types import MULTIPART, MediaType
from airflow_dicomweb.emulator.decoders import PICTURE_FORMATS, RenderingError
from airflow_dicomweb.emulator.frames import check_numbers, frame_numbers
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.pieces import multipart_answer, pieces_of
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.emulator.wado import stored_of


def retrieve_rendered(call: Call) -> Response:
    """Answer with a picture of each frame: alone if there is one, else in parts."""
    unknown = {name for name, _ in call.query} - {"viewport"}
    if unknown:
        raise ApiError(400, f"unsupported query parameter: {', '.join(sorted(unknown))}")
    asked = frame_numbers(call) if "frames" in call.names else None
    media_type, in_parts = _picture_type(call)
    stored = stored_of(call)[0]
    numbers = asked or list(range(1, stored.frames + 1))
    check_numbers(stored, numbers)
    if len(numbers) == 1 and not in_parts:
        return Response(_rendered(call, stored, media_type, numbers[0]), media_type=media_type)
    file: IO[bytes] = tempfile.TemporaryFile(dir=call.service.instances.incoming_folder)  # noqa: SIM115 - the answer closes it
    try:
        sizes = [file.write(_rendered(call, stored, media_type, number)) for number in numbers]
    except ApiError:
        file.close()
        raise
    return multipart_answer([piece.part(media_type) for piece in pieces_of(file, sizes)], [file])


def _rendered(call: Call, stored: Stored, media_type: str, frame: int) -> bytes:
    try:
        return call.service.decoders.render(stored.file, media_type, frame, call.parameter("viewport"))
    except RenderingError as error:
        raise ApiError(400, str(error)) from None


def _picture_type(call: Call) -> tuple[str, bool]:
    """Give the media type of a picture, and whether even a single one is wanted as a part."""
    for media_type in call.accept():
        in_parts = media_type.name in {MULTIPART, "multipart/*"}
        inner = MediaType.parse(media_type.parameters.get("type")) if in_parts else media_type
        for name in PICTURE_FORMATS:
            if not inner.name or inner.accepts(name):
                return name, in_parts
    raise ApiError(406, f"A picture can be {' or '.join(PICTURE_FORMATS)}.")
