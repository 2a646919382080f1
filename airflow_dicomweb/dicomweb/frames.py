"""Frames of an image: how they are asked for, and what comes.

Numbers are counted from 1. A frame comes as it is stored (``transfer-syntax=*``): compressed ones with the media type of
their compression, all others as the bytes of their pixels. Frames that were not yielded when an answer broke off are
asked for again.

Source: DICOM PS3.18 sections 10.4.1.1.3 (frames resources) and 8.7.3.3 (media types of frames).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass

from airflow_dicomweb.dicomweb.answers import StreamedAnswer
from airflow_dicomweb.dicomweb.media_types import MULTIPART, OCTET_STREAM, MediaType
from airflow_dicomweb.dicomweb.multipart import Event, PartData, PartEnd, PartStart
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.uids import is_uid
from airflow_dicomweb.dicomweb.wado import parts
from airflow_dicomweb.errors import ConfigurationError, ProtocolError, ResponseError, TransportError

MAX_FRAME_BYTES = 2**30

EXTENSIONS = {
    "image/jpeg": ".jpg",
    "image/jp2": ".jp2",
    "image/jpx": ".jpx",
    "image/jls": ".jls",
    "image/jphc": ".jphc",
    "image/jxl": ".jxl",
    "image/png": ".png",
    "image/dicom-rle": ".rle",
    "image/x-dicom-rle": ".rle",
    "video/mpeg": ".mpg",
    "video/mp4": ".mp4",
    OCTET_STREAM: ".raw",
}
"""What files of frames end in; others end in ``.frame``."""

OTHER_EXTENSION = ".frame"

Ask = Callable[[str, str], AbstractContextManager[StreamedAnswer]]
"""Asks for a path with an Accept header."""


@dataclass(frozen=True, slots=True)
class Frame:
    """One frame.

    :param number: From 1.
    :param media_type: Such as ``application/octet-stream`` or ``image/jpeg``.
    :param transfer_syntax: UID, or an empty string if the server did not say.
    :param data: The bytes of the frame.
    """

    number: int
    media_type: str
    transfer_syntax: str
    data: bytes

    @property
    def extension(self) -> str:
        """What the name of a file with it ends in."""
        return EXTENSIONS.get(self.media_type, OTHER_EXTENSION)


def check_frames(frames: object) -> tuple[int, ...]:
    """Return the numbers of frames if they are.

    :raises ConfigurationError: If there is none, or one is not a whole number from 1.
    """
    if isinstance(frames, Sequence) and not isinstance(frames, str | bytes) and len(frames):
        numbers = tuple(int(each) if isinstance(each, str) and each.isdecimal() else each for each in frames)
        if all(isinstance(each, int) and not isinstance(each, bool) and 0 < each < 2**31 for each in numbers):
            return numbers
    raise ConfigurationError("frames must be a list of whole numbers, counted from 1, such as [1, 3]")


def accepted(transfer_syntax: object) -> tuple[str, ...]:
    """Give the Accept headers to try, one after the other.

    :param transfer_syntax: ``*`` for what is stored, or a UID.
    :raises ConfigurationError: If it is neither.
    """
    if transfer_syntax != "*" and not is_uid(transfer_syntax):
        raise ConfigurationError("the transfer syntax of frames must be '*', as they are stored, or a UID")
    # Servers that take the standard at its word have octet streams of uncompressed frames alone.
    return tuple(f'{MULTIPART}; type="{kind}"; transfer-syntax={transfer_syntax}' for kind in (OCTET_STREAM, "image/*"))


def read_frames(
    ask: Ask, policy: RetryPolicy, instance: InstancePath, numbers: Sequence[int], accept: Sequence[str]
) -> Iterator[Frame]:
    """Give frames in the order of their numbers, each when it has come whole.

    :raises ProtocolError: If others came than were asked for.
    """
    left = list(numbers)
    while left:
        with ExitStack() as opened:

            def first(opened: ExitStack = opened) -> tuple[Frame, Iterator[Frame]]:
                with ExitStack() as attempt:
                    frames = _frames(_answer(attempt, ask, instance, left, accept), tuple(left))
                    found = next(frames)
                    opened.push(attempt.pop_all())
                return found, frames

            frame, others = policy.run(first)
            yield frame
            left.pop(0)
            try:
                for frame in others:
                    yield frame
                    left.pop(0)
            except TransportError:
                continue


def _answer(
    opened: ExitStack, ask: Ask, instance: InstancePath, numbers: Sequence[int], accept: Sequence[str]
) -> StreamedAnswer:
    """Ask once for frames; a server that cannot give them in one form is asked for the next."""
    path = f"{instance}/frames/{','.join(map(str, numbers))}"
    for each in accept[:-1]:
        try:
            return opened.enter_context(ask(path, each))
        except ResponseError as error:
            if error.status != 406:
                raise
    return opened.enter_context(ask(path, accept[-1]))


def _frames(answer: StreamedAnswer, numbers: Sequence[int]) -> Iterator[Frame]:
    """Read the frames of an answer: as many as were asked for, and in that order."""
    content_type = answer.headers.get("Content-Type")
    own = MediaType.parse(content_type)
    single = own.name if own.name.startswith(("image/", "video/")) else OCTET_STREAM
    # The syntax of all parts may stand in the type of the whole.
    common = own.transfer_syntax or MediaType.parse(own.parameters.get("type")).transfer_syntax
    events = parts(answer.blocks(), content_type, single)
    count = 0
    for event in events:
        if isinstance(event, PartStart):
            if count == len(numbers):
                raise ProtocolError(f"{len(numbers)} frames were asked for, the answer has more")
            number = numbers[count]
            _check_place(event, number)
            data = _content(events)
            count += 1
            yield Frame(number, event.media_type.name, event.media_type.transfer_syntax or common or "", data)
    if count != len(numbers):
        raise ProtocolError(f"{len(numbers)} frames were asked for, the answer has {count}")


def _check_place(part: PartStart, number: int) -> None:
    """See that a part is the frame that is its turn, where it says which one it is."""
    start, found, last = part.headers.get("content-location", "").rstrip("/").rpartition("/frames/")
    if start and found and last.isdecimal() and int(last) != number:
        raise ProtocolError(f"frame {number} was expected, the answer holds frame {last} in its place")


def _content(events: Iterator[Event]) -> bytes:
    content = bytearray()
    for event in events:
        if isinstance(event, PartEnd):
            break
        if isinstance(event, PartData):
            content += event.data
            if len(content) > MAX_FRAME_BYTES:
                raise ProtocolError(f"a frame is larger than {MAX_FRAME_BYTES} bytes")
    return bytes(content)
