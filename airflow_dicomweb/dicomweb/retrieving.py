"""The retrievals of a client.

Source: DICOM PS3.18 section 10.4 (retrieve transaction).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Protocol, TypedDict, Unpack, runtime_checkable

from airflow_dicomweb.dicomweb.bulk_data import (
    ACCEPT,
    ACCEPT_SINGLE,
    MAX_BYTES,
    BulkData,
    check_file,
    into_file,
    into_memory,
    resolve,
)
from airflow_dicomweb.dicomweb.dicom_json import DicomJson
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.folders import Folder, Place
from airflow_dicomweb.dicomweb.frames import Frame, accepted, check_frames, read_frames
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON, DICOM_XML
from airflow_dicomweb.dicomweb.metadata import ACCEPT_XML, data_sets, documents
from airflow_dicomweb.dicomweb.products import Wish, checked_wish, download_files
from airflow_dicomweb.dicomweb.qido import check_count
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, resource_path
from airflow_dicomweb.dicomweb.sources import Buckets
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.dicomweb.wado import RENDERED, RetrievedFile, check_viewport, first_part, parts
from airflow_dicomweb.errors import ConfigurationError


@runtime_checkable
class Prefixes(Protocol):
    """Makes places of prefixes in buckets; ``healthcare.gcs.Buckets`` does."""

    def place(self, uri: str, workers: int) -> Place:
        """Give the place that ``gs://bucket/prefix`` is."""
        ...


class FileOptions(TypedDict, total=False):
    """What files are retrieved, and how.

    :param frames: Numbers of frames of the instance, from 1: only these, ``instance-number`` with an extension.
    :param media_type: ``application/dicom``, the default, for what is stored; ``image/png`` or ``image/jpeg`` for a picture
        of each instance, or of each frame that is named; ``application/dicom+json`` for metadata, in one file.
    :param viewport: Width and height in pixels of pictures, or None, the default, for the size of the image.
    :param workers: Requests at the same time once more than one is needed, 1 or more; 4 by default.
    :param resume: Whether files that an earlier call brought, and that are as they were then, are left as they are: True
        by default. False for the server's answer of today.
    """

    frames: Sequence[int] | None
    media_type: str
    viewport: tuple[int, int] | None
    workers: int
    resume: bool


class PictureOptions(TypedDict, total=False):
    """What a picture is like.

    :param media_type: ``image/png`` or ``image/jpeg``.
    :param viewport: Width and height in pixels to scale to, or None for the size of the image.
    """

    media_type: str
    viewport: tuple[int, int] | None


class Retrievals:
    """Retrieves what is stored; part of ``DicomWebClient``."""

    _exchanges: Exchanges
    _buckets: Buckets | None

    def retrieve(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        destination: str | os.PathLike[str],
        **options: Unpack[FileOptions],
    ) -> list[RetrievedFile]:
        """Retrieve a study, series or instance to files, byte for byte as it is stored; or what is made of it.

        All of it or an error. In a folder the files get their names together, when all of them are there; in a bucket
        each one appears when it is whole. What was whole when something failed is not asked for again the next time.

        :param study: Study Instance UID.
        :param series: Series Instance UID, or None for the whole study.
        :param instance: SOP Instance UID, or None for the whole series.
        :param destination: Folder, or ``gs://bucket/prefix``. Files are ``study/series/instance.dcm`` below it; in a
            folder only their owner can read them. Those that exist are replaced.
        :param options: See :class:`FileOptions`.
        :return: The files, in the order of the UIDs, those that were there already included.
        :raises ConfigurationError: If an argument cannot be meant, or files cannot be written to the destination.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came than was asked for, or not what the server's own search names.
        :raises TransportError: If the answer was cut, every time it was asked for.
        """
        wanted = resource_path(study, series, instance)
        wish = checked_wish(wanted, **options)
        return download_files(self._exchanges, wanted, self._place(destination, wanted, wish), wish)

    def retrieve_frames(
        self, study: str, series: str, instance: str, frames: Sequence[int], *, transfer_syntax: str = "*"
    ) -> Iterator[Frame]:
        """Retrieve frames of an instance, one by one, in the order in which they are asked for.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :param frames: Their numbers, from 1.
        :param transfer_syntax: ``*`` for frames as they are stored; ``1.2.840.10008.1.2.1`` for uncompressed ones.
        :return: Frames; each is asked for again as long as it did not come whole.
        :raises ConfigurationError: At once, if an argument cannot be meant.
        :raises ProtocolError: If not as many came as were asked for, or others.
        """
        path, numbers = InstancePath(study, series, instance), check_frames(frames)
        accept = accepted(transfer_syntax)
        return read_frames(self._exchanges.stream, self._exchanges.retry_policy, path, numbers, accept)

    def retrieve_metadata(self, study: str, series: str | None = None, instance: str | None = None) -> list[DicomJson]:
        """Retrieve all attributes but bulk data, as DICOM JSON, one data set for each instance.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :raises ConfigurationError: If a UID is not one.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came.
        """
        path = f"{resource_path(study, series, instance)}/metadata"

        def attempt() -> list[DicomJson]:
            with self._exchanges.stream(path, DICOM_JSON) as answer:
                return list(data_sets(answer.blocks()))

        return self._exchanges.retry_policy.run(attempt)

    def iterate_metadata(
        self, study: str, series: str | None = None, instance: str | None = None
    ) -> Iterator[DicomJson]:
        """Retrieve metadata data set by data set, however many there are.

        What was yielded cannot be asked for again, so a broken answer is an error here.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :raises ConfigurationError: At once, if a UID is not one.
        :raises DicomWebError: As :meth:`retrieve_metadata`; TransportError if the answer breaks off.
        """
        path = f"{resource_path(study, series, instance)}/metadata"

        def iterate() -> Iterator[DicomJson]:
            with self._exchanges.stream(path, DICOM_JSON) as answer:
                yield from data_sets(answer.blocks())

        return iterate()

    def retrieve_metadata_xml(self, study: str, series: str | None = None, instance: str | None = None) -> list[bytes]:
        """Retrieve metadata as XML: one document of the Native DICOM Model for each instance.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :raises ConfigurationError: If a UID is not one.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came.
        """
        answer = self._exchanges.get(f"{resource_path(study, series, instance)}/metadata", ACCEPT_XML)
        return list(documents(parts([answer.content], answer.headers.get("Content-Type"), DICOM_XML)))

    def retrieve_rendered(
        self, study: str, series: str, instance: str, *, frame: int | None = None, **options: Unpack[PictureOptions]
    ) -> bytes:
        """Retrieve a picture of an instance, or of one of its frames.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :param frame: Its number, from 1; None for the first one.
        :param options: See :class:`PictureOptions`.
        :raises ConfigurationError: If an argument cannot be meant.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else than such a picture came.
        """
        path = f"{InstancePath(study, series, instance)}{f'/frames/{check_frames([frame])[0]}' if frame is not None else ''}"
        media_type, viewport = options.get("media_type", RENDERED[0]), options.get("viewport")
        check_choice(media_type, "media_type", RENDERED)
        query = (("viewport", check_viewport(viewport)),) if viewport is not None else ()
        answer = self._exchanges.get(f"{path}/rendered", media_type, query)
        return first_part(parts([answer.content], answer.headers.get("Content-Type"), media_type))

    def retrieve_bulkdata(
        self,
        uri: str,
        *,
        of: ResourcePath | None = None,
        destination: str | os.PathLike[str] | None = None,
        max_bytes: int = MAX_BYTES,
    ) -> BulkData:
        """Retrieve the value that metadata has no more of than a URI.

        :param uri: As the metadata has it: a URL of this server below its DICOMweb root, a path, or relative.
        :param of: What the metadata is of; a relative URI is relative to it. None: relative to the root.
        :param destination: Path of a file for the value, which only its owner can read; None to have it in memory.
        :param max_bytes: Most bytes in memory.
        :raises ConfigurationError: If the URI leads to another server or out of the DICOMweb root, or the file cannot be
            written; nothing was sent then.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came than one value, or more in memory than allowed.
        """
        url = resolve(uri, self._exchanges.retrieve_root, of)
        check_count(max_bytes, "max_bytes", least=1)
        accept = ACCEPT_SINGLE if self._exchanges.habits.single_part else ACCEPT
        stream = self._exchanges.stream
        if destination is None:
            return self._exchanges.retry_policy.run(lambda: into_memory(stream, url, accept, max_bytes))
        target = check_file(destination)
        return self._exchanges.retry_policy.run(lambda: into_file(stream, url, accept, target))

    def _place(self, destination: object, wanted: ResourcePath, wish: Wish) -> Place:
        """Give the place that a destination is, and see that files can go there."""
        place: Place
        if isinstance(destination, str) and destination.startswith("gs://"):
            if not isinstance(self._buckets, Prefixes):
                raise ConfigurationError("a destination in a bucket needs a client that was made with buckets")
            place = self._buckets.place(destination, wish.workers)
        else:
            place = Folder(destination, wish.label(wanted))
        place.check([wish.example(wanted)])
        return place
