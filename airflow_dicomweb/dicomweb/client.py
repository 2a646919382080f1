"""A client for any DICOMweb server: one method for each transaction of the standard.

Source: DICOM PS3.18 chapter 10 (Studies service): sections 10.4 retrieve, 10.5 store, 10.6 search.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, ClassVar, Self, TypedDict, Unpack

from airflow_dicomweb.dicomweb.auth import Anonymous, Credentials
from airflow_dicomweb.dicomweb.dicom_json import DicomJson, check_answer, flat
from airflow_dicomweb.dicomweb.exchanges import Exchanges, Places
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON
from airflow_dicomweb.dicomweb.qido import PAGE_SIZE, Filters, Level, all_pages, check_count, search_path, search_query
from airflow_dicomweb.dicomweb.resources import InstancePath, resource_path
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.settling import ServerHabits, StoreOptions
from airflow_dicomweb.dicomweb.sources import Buckets, Shard, SourceArgument, list_sources
from airflow_dicomweb.dicomweb.storing import OnOutcome, store_all
from airflow_dicomweb.dicomweb.stow import StoreResult, check_choice
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.dicomweb.wado import RENDERED, RetrievedFile, check_destination, check_viewport, first_part, parts
from airflow_dicomweb.errors import ConfigurationError

MEBIBYTE = 2**20

SearchResults = Iterator[dict[str, Any]]
"""Results one by one, pages asked for as they are needed."""


class SearchOptions(TypedDict, total=False):
    """How to search, and what to give.

    :param include_fields: Keywords or tags of further attributes, or ``all``.
    :param fuzzy_matching: Match names fuzzily, where the server can.
    :param limit: Most results in all; None, the default, for all there are.
    :param offset: Results to pass over.
    :param page_size: Results asked for in one request, 1 or more.
    :param raw: Give DICOM JSON instead of plain dictionaries by keyword.
    """

    include_fields: Iterable[str]
    fuzzy_matching: bool
    limit: int | None
    offset: int
    page_size: int | None
    raw: bool


class DicomWebClient:
    """Stores, searches and retrieves at one DICOMweb server; safe for several threads.

    :param base_url: Root of the server's DICOMweb services, such as ``https://pacs.example/dicom-web``.
    :param credentials: Who requests are sent as.
    :param retry_policy: How often a failed request is repeated.
    :param request_timeout: Seconds without progress after which one attempt of a request is given up.
    :param verify: Whether TLS certificates are checked, or the CA file or folder they are checked with.
    :param client_cert: Client certificate: a PEM file with certificate and key, or a pair of files.
    :param qido_prefix: Path below ``base_url`` where searches go; likewise ``wado_prefix`` and ``stow_prefix``.
    :param allow_insecure_auth: Whether credentials may go over plain http to another machine.
    :param buckets: Reads ``gs://`` sources of :meth:`store`.
    :raises ConfigurationError: If an argument cannot be meant; nothing is sent until the first method is called.
    """

    habits: ClassVar[ServerHabits] = ServerHabits()

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None = None,
        retry_policy: RetryPolicy | None = None,
        request_timeout: float = 300.0,
        verify: bool | str | os.PathLike[str] = True,
        client_cert: str | tuple[str, str] | None = None,
        qido_prefix: str = "",
        wado_prefix: str = "",
        stow_prefix: str = "",
        allow_insecure_auth: bool = False,
        buckets: Buckets | None = None,
    ) -> None:
        self._transport = Transport(
            base_url,
            credentials=Anonymous() if credentials is None else credentials,
            retry_policy=RetryPolicy() if retry_policy is None else retry_policy,
            request_timeout=request_timeout,
            verify=verify,
            client_cert=client_cert,
            allow_insecure_auth=allow_insecure_auth,
        )
        self._exchanges = Exchanges(self._transport, Places(qido_prefix, wado_prefix, stow_prefix), self.habits)
        self._buckets = buckets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        self._transport.close()

    def store(
        self,
        source: SourceArgument,
        *,
        study: str | None = None,
        workers: int = 4,
        batch_bytes: int = 64 * MEBIBYTE,
        batch_count: int = 50,
        storage_class: str | None = None,
        on_conflict: str = "fail",
        verify: str = "response",
        shard: Shard | None = None,
        on_outcome: OnOutcome | None = None,
    ) -> StoreResult:
        """Store instances, byte for byte as they are, and say what became of each.

        :param source: File, directory (everything below it), glob, ``gs://bucket/pattern``, or several of these.
        :param study: Store into this study: instances of another one fail.
        :param workers: Requests at the same time, 1 or more.
        :param batch_bytes: Most bytes in one request; a larger instance goes alone.
        :param batch_count: Most instances in one request.
        :param storage_class: Of a DICOM store of the Cloud Healthcare API; None for its default.
        :param on_conflict: What an instance under whose identity the server has other bytes means to
            ``StoreResult.raise_for_failures``: ``fail`` or ``keep``. The server keeps what it has either way.
        :param verify: How far to look: ``response`` believes the answers, ``exists`` searches afterwards for everything
            that was accepted, ``bytes`` fetches it again and compares.
        :param shard: ``(i, n)``: only the i-th of n parts of the listing, not of the identities: where conflicts are not
            reported, two that send different files under one identity may both say ``created``; ``verify="bytes"`` tells.
        :param on_outcome: Called in this thread with each outcome as soon as it is final.
        :return: One outcome for each source, in the order of their names. Refused instances raise nothing.
        :raises ConfigurationError: If an argument cannot be meant, a source does not exist or matches nothing. Nothing
            was sent then.
        :raises DicomWebError: If not a single instance could be asked about: the server cannot be reached, refuses the
            sender, or gives unreadable answers.
        """
        options = StoreOptions(
            study=study,
            workers=workers,
            batch_bytes=batch_bytes,
            batch_count=batch_count,
            storage_class=storage_class,
            on_conflict=on_conflict,
            verify=verify,
        )
        if storage_class is not None and not self.habits.storage_classes:
            raise ConfigurationError("storage_class is for DICOM stores of the Cloud Healthcare API only")
        if storage_class is not None:
            check_choice(storage_class, "storage_class", self.habits.storage_classes)
        sources = list_sources(source, shard=shard, buckets=self._buckets)
        return store_all(self._exchanges, sources, options, on_outcome)

    def search_studies(self, filters: Filters | None = None, **options: Unpack[SearchOptions]) -> SearchResults:
        """Search for studies.

        :param filters: Values by keyword or tag, such as ``{"StudyDate": "20260101-20260131"}``; a date is accepted too.
        :param options: See :class:`SearchOptions`.
        :raises ConfigurationError: At once, if an argument cannot be meant.
        """
        return self._search("studies", None, None, filters, **options)

    def search_series(
        self, filters: Filters | None = None, *, study: str | None = None, **options: Unpack[SearchOptions]
    ) -> SearchResults:
        """Search for series.

        :param filters: As for :meth:`search_studies`.
        :param study: Only of this study.
        :param options: See :class:`SearchOptions`.
        :raises ConfigurationError: At once, if an argument cannot be meant.
        """
        return self._search("series", study, None, filters, **options)

    def search_instances(
        self,
        filters: Filters | None = None,
        *,
        study: str | None = None,
        series: str | None = None,
        **options: Unpack[SearchOptions],
    ) -> SearchResults:
        """Search for instances.

        :param filters: As for :meth:`search_studies`.
        :param study: Only of this study.
        :param series: Only of this series of the study.
        :param options: See :class:`SearchOptions`.
        :raises ConfigurationError: At once, if an argument cannot be meant.
        """
        return self._search("instances", study, series, filters, **options)

    def _search(
        self,
        level: Level,
        study: str | None,
        series: str | None,
        filters: Filters | None,
        *,
        include_fields: Iterable[str] = (),
        fuzzy_matching: bool = False,
        limit: int | None = None,
        offset: int = 0,
        page_size: int | None = None,
        raw: bool = False,
    ) -> SearchResults:
        path = search_path(level, study, series)
        query = search_query(filters, include_fields, fuzzy=fuzzy_matching)
        found = all_pages(
            partial(self._exchanges.search, path, query),
            limit=None if limit is None else check_count(limit, "limit"),
            offset=check_count(offset, "offset"),
            page_size=PAGE_SIZE if page_size is None else check_count(page_size, "page_size", least=1),
        )
        return (dict(data_set) if raw else flat(data_set) for data_set in found)

    def retrieve(
        self,
        study: str,
        series: str | None = None,
        instance: str | None = None,
        *,
        destination: str | os.PathLike[str],
    ) -> list[RetrievedFile]:
        """Retrieve a study, series or instance to files, byte for byte as it is stored: all of it or nothing.

        :param study: Study Instance UID.
        :param series: Series Instance UID, or None for the whole study.
        :param instance: SOP Instance UID, or None for the whole series.
        :param destination: Folder; files are ``study/series/instance.dcm`` below it, only their owner can read them, and
            those that exist are replaced.
        :return: The files, in the order of the UIDs.
        :raises ConfigurationError: If a UID is not one, or files cannot be written to the destination.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else came than was asked for, or not what the server's own search names.
        :raises TransportError: If the answer was cut, every time it was asked for.
        """
        wanted = resource_path(study, series, instance)
        check_destination(destination, wanted)
        return self._exchanges.download(wanted, destination)

    def retrieve_metadata(self, study: str, series: str | None = None, instance: str | None = None) -> list[DicomJson]:
        """Retrieve all attributes but bulk data, as DICOM JSON, one data set for each instance.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :raises ConfigurationError: If a UID is not one.
        :raises NotFoundError: If it is not there.
        """
        answer = self._exchanges.get(f"{resource_path(study, series, instance)}/metadata", DICOM_JSON)
        return check_answer(answer.json())

    def retrieve_rendered(
        self,
        study: str,
        series: str,
        instance: str,
        *,
        media_type: str = "image/png",
        viewport: tuple[int, int] | None = None,
    ) -> bytes:
        """Retrieve an instance as a picture; of several frames the first one.

        :param study: Study Instance UID; ``series`` and ``instance`` as for :meth:`retrieve`.
        :param media_type: ``image/png`` or ``image/jpeg``.
        :param viewport: Width and height in pixels to scale to, or None for the size of the image.
        :raises ConfigurationError: If an argument cannot be meant.
        :raises NotFoundError: If it is not there.
        :raises ProtocolError: If something else than such a picture came.
        """
        path = InstancePath(study, series, instance)
        check_choice(media_type, "media_type", RENDERED)
        query = (("viewport", check_viewport(viewport)),) if viewport is not None else ()
        answer = self._exchanges.get(f"{path}/rendered", media_type, query)
        return first_part(parts([answer.content], answer.headers.get("Content-Type"), media_type))
