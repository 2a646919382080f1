"""Files of what a server makes of instances: pictures, frames, metadata.

Source: DICOM PS3.18 sections 10.4.1.1.2 (metadata), 10.4.1.1.3 (frames) and 10.4.1.1.4 (rendered resources).
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

from airflow_dicomweb.dicomweb.dicom_json import text
from airflow_dicomweb.dicomweb.downloading import download, in_parallel, name_of, while_more_comes
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.folders import Place, arriving
from airflow_dicomweb.dicomweb.frames import EXTENSIONS, OTHER_EXTENSION, Frame, accepted, check_frames, read_frames
from airflow_dicomweb.dicomweb.media_types import DICOM, DICOM_JSON
from airflow_dicomweb.dicomweb.metadata import data_sets
from airflow_dicomweb.dicomweb.multipart import PartData, PartEnd
from airflow_dicomweb.dicomweb.qido import Query, check_count
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.dicomweb.wado import RENDERED, RetrievedFile, check_viewport, parts
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    NotFoundError,
    ProtocolError,
    ResponseError,
)

FILE_TYPES = (DICOM, *RENDERED, DICOM_JSON)
"""What files can be retrieved: instances or frames as they are stored, pictures, metadata."""

_EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg"}


@dataclass(frozen=True, slots=True)
class Wish:
    """What files are retrieved, and how; checked.

    :param frames: Numbers of frames; none for all of an instance.
    :param media_type: One of :data:`FILE_TYPES`.
    :param query: Of pictures.
    :param workers: Requests at the same time.
    :param resume: Whether what is there and whole is left as it is.
    """

    frames: tuple[int, ...]
    media_type: str
    query: Query
    workers: int
    resume: bool

    def label(self, wanted: ResourcePath) -> str:
        """Name what is retrieved, fit for a file name."""
        uid = str(wanted).rpartition("/")[2]
        kind = "frames" if self.frames else self.media_type.rpartition("/")[2]
        return uid if self.media_type == DICOM and not self.frames else f"{uid}.{kind}"

    def example(self, wanted: ResourcePath) -> str:
        """Give the name, or one like the names, of what is to be written, to see whether it can be."""
        if self.media_type == DICOM_JSON:
            return metadata_name(wanted)
        if isinstance(wanted, InstancePath):
            return _name(wanted, None, _EXTENSIONS.get(self.media_type, ".dcm"))
        return f"{wanted.study}/{getattr(wanted, 'series', '-')}/-.dcm"


def checked_wish(
    wanted: ResourcePath,
    *,
    frames: Sequence[int] | None = None,
    media_type: str = DICOM,
    viewport: tuple[int, int] | None = None,
    workers: int = 4,
    resume: bool = True,
) -> Wish:
    """Check what a caller wants.

    :raises ConfigurationError: If it cannot be meant.
    """
    numbers = () if frames is None else check_frames(frames)
    check_choice(media_type, "media_type", FILE_TYPES)
    check_count(workers, "workers", least=1)
    if numbers and (not isinstance(wanted, InstancePath) or media_type == DICOM_JSON):
        raise ConfigurationError("frames are of one instance: its series and instance UID are needed, and no metadata")
    if viewport is not None and media_type not in RENDERED:
        raise ConfigurationError("a viewport is for pictures: image/png or image/jpeg")
    query = (("viewport", check_viewport(viewport)),) if viewport is not None else ()
    return Wish(tuple(dict.fromkeys(numbers)), media_type, query, workers, resume)


def download_files(exchanges: Exchanges, wanted: ResourcePath, place: Place, wish: Wish) -> list[RetrievedFile]:
    """Write what is wished for to files."""
    if wish.media_type == DICOM_JSON:
        return download_metadata(exchanges, wanted, place, resume=wish.resume)
    if wish.media_type in RENDERED:
        return download_pictures(exchanges, wanted, place, wish)
    if isinstance(wanted, InstancePath) and wish.frames:
        return download_frames(exchanges, wanted, place, wish)
    return download(exchanges, wanted, place, workers=wish.workers, resume=wish.resume)


def download_pictures(exchanges: Exchanges, wanted: ResourcePath, place: Place, wish: Wish) -> list[RetrievedFile]:
    """Write a picture of each instance, or of each of some frames of one, to files of their own."""
    if not (named := sorted(exchanges.named(wanted))):
        raise NotFoundError(404, "GET", str(wanted), "the server's search finds no instance of it")
    pieces: list[tuple[InstancePath, int | None]]
    pieces = [(path, frame) for path in named for frame in wish.frames or (None,)]
    media_type = wish.media_type
    keys = {f"{_rendered(*piece)} {media_type} {wish.query}": piece for piece in pieces}
    names = {key: _name(*piece, _EXTENSIONS[media_type]) for key, piece in keys.items()}

    def fetch(key: str) -> None:
        with exchanges.stream(_rendered(*keys[key]), media_type, wish.query) as answer, arriving(place) as incoming:
            for event in parts(answer.blocks(), answer.headers.get("Content-Type"), media_type):
                if isinstance(event, PartData):
                    incoming.write(event.data)
                elif isinstance(event, PartEnd):
                    break  # of several frames the first one
            if not incoming.size:
                raise ProtocolError(f"the picture of {keys[key][0]} is empty")
            place.keep(incoming, key, names[key])

    def attempt() -> None:
        here = place.keys
        try:
            in_parallel([key for key in keys if key not in here], fetch, wish.workers)
        finally:
            place.settle()

    with place:
        if wish.resume:
            place.look(names.items())
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, path, kept[key].size, frame) for key, (path, frame) in keys.items()]


def download_frames(exchanges: Exchanges, instance: InstancePath, place: Place, wish: Wish) -> list[RetrievedFile]:
    """Write frames as they are stored to files of their own."""
    numbers = wish.frames
    keys = {number: f"{instance}/frames/{number}" for number in numbers}

    def keep(frame: Frame) -> None:
        with arriving(place) as incoming:
            incoming.write(frame.data)
            place.keep(incoming, keys[frame.number], _name(instance, frame.number, frame.extension))

    def attempt() -> None:
        missing = [number for number in numbers if keys[number] not in place.keys]
        if missing:
            for frame in read_frames(exchanges.stream, exchanges.retry_policy, instance, missing, accepted("*")):
                keep(frame)
        place.settle()

    with place:
        if wish.resume:
            endings = dict.fromkeys([*EXTENSIONS.values(), OTHER_EXTENSION])
            place.look((key, _name(instance, number, end)) for number, key in keys.items() for end in endings)
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, instance, kept[key].size, number) for number, key in keys.items()]


def download_metadata(exchanges: Exchanges, wanted: ResourcePath, place: Place, *, resume: bool) -> list[RetrievedFile]:
    """Write the metadata of a study, series or instance to one file of DICOM JSON, as the server sent it.

    :raises ProtocolError: If it lacks an instance that the server's own search names.
    """
    named = _named(exchanges, wanted)
    name, path = metadata_name(wanted), f"{wanted}/metadata"
    # Of other instances than today's a file is not whole, however whole it was when it came.
    key = f"{path} {hashlib.sha256(' '.join(sorted(map(str, named))).encode()).hexdigest()}"

    def attempt() -> None:
        if key in place.keys:
            return place.settle()
        with arriving(place) as incoming:
            with exchanges.stream(path, DICOM_JSON) as answer:
                for block in answer.blocks():
                    incoming.write(block)
            file = incoming.rewound()
            # Read once more, data set by data set: what is kept is whole, and an array.
            came = {text(each, "SOPInstanceUID") for each in data_sets(iter(lambda: file.read(2**18), b""))}
            if not came:
                raise ProtocolError(f"the metadata of {wanted} is empty")
            missing = {each for each in named if each.instance not in came}
            if missing and (missing := missing & exchanges.named(wanted)):  # what is deleted meanwhile need not come
                raise ProtocolError(f"the metadata of {wanted} lacks {len(missing)} instances that the search names")
            place.keep(incoming, key, name)
        return place.settle()

    with place:
        if resume:
            place.look([(key, name)])
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, wanted, kept[key].size)]


def _named(exchanges: Exchanges, wanted: ResourcePath) -> frozenset[InstancePath]:
    """Find what the server's own search names; nothing if it cannot be searched."""
    try:
        return exchanges.named(wanted)
    except ResponseError as error:
        if error.retryable or isinstance(error, AuthorizationError):
            raise
        return frozenset()


def metadata_name(wanted: ResourcePath) -> str:
    """Give the name of a file with metadata below the destination."""
    if isinstance(wanted, InstancePath):
        return _name(wanted, None, ".json")
    return f"{wanted.study}/{f'{wanted.series}/' if isinstance(wanted, SeriesPath) else ''}metadata.json"


def _rendered(instance: InstancePath, frame: int | None) -> str:
    return f"{instance}/rendered" if frame is None else f"{instance}/frames/{frame}/rendered"


def _name(instance: InstancePath, frame: int | None, extension: str) -> str:
    return name_of(instance).removesuffix(".dcm") + ("" if frame is None else f"-{frame}") + extension
