"""Files of what a server makes of instances: pictures, frames, metadata.

Source: DICOM PS3.18 sections 10.4.1.1.2 (metadata), 10.4.1.1.3 (frames) and 10.4.1.1.4 (rendered resources).
"""

from __future__ import annotations

from collections.abc import Sequence

from airflow_dicomweb.dicomweb.downloading import in_parallel, name_of, while_more_comes
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.folders import Place, arriving
from airflow_dicomweb.dicomweb.frames import EXTENSIONS, OTHER_EXTENSION, Frame, accepted, read_frames
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON
from airflow_dicomweb.dicomweb.metadata import data_sets
from airflow_dicomweb.dicomweb.multipart import PartData, PartEnd
from airflow_dicomweb.dicomweb.qido import Query
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath
from airflow_dicomweb.dicomweb.wado import RetrievedFile, parts
from airflow_dicomweb.errors import NotFoundError, ProtocolError

_EXTENSIONS = {"image/png": ".png", "image/jpeg": ".jpg"}


def download_pictures(
    exchanges: Exchanges,
    wanted: ResourcePath,
    place: Place,
    *,
    media_type: str,
    query: Query,
    frames: Sequence[int],
    workers: int,
    resume: bool,
) -> list[RetrievedFile]:
    """Write a picture of each instance, or of each of some frames of one, to files of their own."""
    if not (named := sorted(exchanges.named(wanted))):
        raise NotFoundError(404, "GET", str(wanted), "the server's search finds no instance of it")
    pieces: list[tuple[InstancePath, int | None]]
    pieces = [(path, frame) for path in named for frame in frames or (None,)]
    keys = {f"{_rendered(*piece)} {media_type} {query}": piece for piece in pieces}
    names = {key: _name(*piece, _EXTENSIONS[media_type]) for key, piece in keys.items()}

    def fetch(key: str) -> None:
        with exchanges.stream(_rendered(*keys[key]), media_type, query) as answer, arriving(place) as incoming:
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
            in_parallel([key for key in keys if key not in here], fetch, workers)
        finally:
            place.settle()

    with place:
        if resume:
            place.look(names.items())
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, path, kept[key].size, frame) for key, (path, frame) in keys.items()]


def download_frames(
    exchanges: Exchanges, instance: InstancePath, place: Place, *, frames: Sequence[int], resume: bool
) -> list[RetrievedFile]:
    """Write frames as they are stored to files of their own."""
    numbers = tuple(dict.fromkeys(frames))
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
        if resume:
            endings = dict.fromkeys([*EXTENSIONS.values(), OTHER_EXTENSION])
            place.look((key, _name(instance, number, end)) for number, key in keys.items() for end in endings)
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, instance, kept[key].size, number) for number, key in keys.items()]


def download_metadata(exchanges: Exchanges, wanted: ResourcePath, place: Place, *, resume: bool) -> list[RetrievedFile]:
    """Write the metadata of a study, series or instance to one file of DICOM JSON, as the server sent it."""
    key = f"{wanted}/metadata"
    name = metadata_name(wanted)

    def attempt() -> None:
        if key in place.keys:
            return place.settle()
        with arriving(place) as incoming:
            with exchanges.stream(key, DICOM_JSON) as answer:
                for block in answer.blocks():
                    incoming.write(block)
            file = incoming.rewound()
            # Read once more, data set by data set: what is kept is whole, and an array.
            if not sum(1 for _ in data_sets(iter(lambda: file.read(2**18), b""))):
                raise ProtocolError(f"the metadata of {wanted} is empty")
            place.keep(incoming, key, name)
        return place.settle()

    with place:
        if resume:
            place.look([(key, name)])
        while_more_comes(exchanges.retry_policy, place, attempt)
        kept = place.finish()
    return [RetrievedFile(kept[key].location, wanted, kept[key].size)]


def example_name(wanted: ResourcePath, media_type: str) -> str:
    """Give the name, or one like the names, of what is to be written, to see whether it can be."""
    if media_type == DICOM_JSON:
        return metadata_name(wanted)
    if isinstance(wanted, InstancePath):
        return _name(wanted, None, _EXTENSIONS.get(media_type, ".dcm"))
    return f"{wanted.study}/{getattr(wanted, 'series', '-')}/-.dcm"


def metadata_name(wanted: ResourcePath) -> str:
    """Give the name of a file with metadata below the destination."""
    if isinstance(wanted, InstancePath):
        return _name(wanted, None, ".json")
    return f"{wanted.study}/{f'{wanted.series}/' if isinstance(wanted, SeriesPath) else ''}metadata.json"


def _rendered(instance: InstancePath, frame: int | None) -> str:
    return f"{instance}/rendered" if frame is None else f"{instance}/frames/{frame}/rendered"


def _name(instance: InstancePath, frame: int | None, extension: str) -> str:
    return name_of(instance).removesuffix(".dcm") + ("" if frame is None else f"-{frame}") + extension
