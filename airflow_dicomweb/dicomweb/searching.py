"""The searches of a client.

Source: DICOM PS3.18 section 10.6 (search transaction).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any, TypedDict, Unpack

from airflow_dicomweb.dicomweb.dicom_json import flat
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.qido import PAGE_SIZE, Filters, Level, all_pages, check_count, search_path, search_query

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


class Searches:
    """Searches for studies, series and instances; part of ``DicomWebClient``."""

    _exchanges: Exchanges

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
