"""Retrieve frames: as they are stored, or decompressed.

Source: DICOM PS3.18 section 10.4.1.1.3; Cloud Healthcare API, DICOM conformance statement, "DICOM frames".
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import IO

from starlette.responses import Response

from airflow_dicomweb.dicomweb.media_types import MULTIPART, OCTET_STREAM, MediaType
from airflow_dicomweb.emulator.conversion import AS_STORED, DEFAULT, PLAIN, is_decodable
from airflow_dicomweb.emulator.decoders import ConversionError
from airflow_dicomweb.emulator.instances import Stored
from airflow_dicomweb.emulator.media import RETRIEVED
from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.pieces import Piece, multipart_answer, pieces_of, single_answer
from airflow_dicomweb.emulator.pixel_data import NoPixelsError, native_frames
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.emulator.wado import stored_of

_NUMBERS = re.compile(r"[0-9]{1,9}(,[0-9]{1,9})*")


@dataclass(frozen=True, slots=True)
class _Form:
    """One form of the answer.

    :param single: Whether it is one frame by itself.
    :param compressed: Whether frames stay compressed.
    :param media_type: Content-Type of a frame.
    """

    single: bool
    compressed: bool
    media_type: str


def retrieve_frames(call: Call) -> Response:
    """Answer with frames of an instance."""
    numbers = frame_numbers(call)
    stored = stored_of(call)[0]
    check_numbers(stored, numbers)
    native = _native(stored, numbers)
    form = _form(call, stored, len(numbers))
    opened: list[IO[bytes]] = []
    pieces = native or _extracted(call, stored, numbers, opened, compressed=form.compressed)
    parts = [piece.part(form.media_type) for piece in pieces]
    return single_answer(parts[0], opened) if form.single else multipart_answer(parts, opened)


def frame_numbers(call: Call) -> list[int]:
    """Give the frames that the path asks for.

    :raises ApiError: 400 if it is no list of numbers.
    """
    text = call.names["frames"]
    if not _NUMBERS.fullmatch(text):
        raise ApiError(400, "invalid frame list: numbers from 1, separated by commas, are expected")
    return [int(number) for number in text.split(",")]


def check_numbers(stored: Stored, numbers: list[int]) -> None:
    """Do nothing if the instance has these frames.

    :raises ApiError: 400 for frame 0, 404 for frames behind the last one.
    """
    if min(numbers) < 1:
        raise ApiError(400, "invalid frame list: the first frame is 1")
    if max(numbers) > stored.frames:
        raise ApiError(404, f"The instance has {stored.frames} frames, and not all of those.")


def _native(stored: Stored, numbers: list[int]) -> list[Piece] | None:
    try:
        return native_frames(stored, numbers)
    except NoPixelsError as error:
        raise ApiError(400, str(error)) from None


def _form(call: Call, stored: Stored, count: int) -> _Form:
    for media_type in call.accept():
        parts = media_type.accepts(MULTIPART)
        # Whoever takes pictures of any kind takes several of them, too.
        multipart = parts or (count > 1 and media_type.name.endswith("/*"))
        if not multipart and count > 1:
            continue
        inner = MediaType.parse(media_type.parameters.get("type")) if parts else media_type
        wanted = media_type.transfer_syntax or inner.transfer_syntax or ""
        if (found := _frame_type(inner, wanted, stored)) is not None:
            compressed, name = found
            return _Form(not multipart, compressed, name)
    raise ApiError(406, "None of the accepted media types and transfer syntaxes can be answered for these frames.")


def _frame_type(accepted: MediaType, wanted: str, stored: Stored) -> tuple[bool, str] | None:
    """Give whether frames stay compressed, and their media type; None if this cannot be answered."""
    syntax = stored.transfer_syntax
    if not accepted.name or accepted.accepts(OCTET_STREAM):
        if wanted in {"", DEFAULT} and (syntax in PLAIN or is_decodable(syntax)):
            return False, OCTET_STREAM
        if wanted == AS_STORED:
            plain = syntax in PLAIN
            return not plain, OCTET_STREAM if plain else f"{OCTET_STREAM}; transfer-syntax={syntax}"
    for name, syntaxes in RETRIEVED.items():
        if accepted.name and accepted.accepts(name) and syntax in syntaxes and wanted in {"", AS_STORED, syntax}:
            return True, f"{name}; transfer-syntax={syntax}"
    return None


def _extracted(
    call: Call, stored: Stored, numbers: list[int], opened: list[IO[bytes]], *, compressed: bool
) -> list[Piece]:
    service = call.service
    try:
        file, sizes = service.decoders.frames(
            stored.file, numbers, service.instances.incoming_folder, as_stored=compressed
        )
    except ConversionError as error:
        raise ApiError(406, str(error)) from None
    opened.append(file)
    return pieces_of(file, sizes)
