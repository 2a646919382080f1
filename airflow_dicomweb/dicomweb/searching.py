"""The searches of a client.

Source: DICOM PS3.18 section 10.6 (search transaction).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Any, TypedDict, Unpack

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, flat, text
from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.matching import with_wildcards
from airflow_dicomweb.dicomweb.paging import all_pages, identity_of
from airflow_dicomweb.dicomweb.qido import (
    PAGE_SIZE,
    UIDS_AT_ONCE,
    Filters,
    Level,
    Query,
    check_count,
    search_path,
    search_query,
    split_lists,
)
from airflow_dicomweb.dicomweb.uids import is_uid
from airflow_dicomweb.errors import NotFoundError

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
        most = None if limit is None else check_count(limit, "limit")
        first = check_count(offset, "offset")
        size = PAGE_SIZE if page_size is None else check_count(page_size, "page_size", least=1)
        found = self._found(path, query, most, first, size)
        if level == "instances" and study is not None and series is None:
            last = None if most is None else first + most
            found = _or_else(found, lambda: islice(self._by_series(study, query, size), first, last))
        return (dict(data_set) if raw else flat(data_set) for data_set in found)

    def _found(self, path: str, query: Query, limit: int | None, offset: int, page_size: int) -> Iterator[DicomJson]:
        """Search, in several searches where one would not do."""
        last = None if limit is None else offset + limit
        queries = split_lists(query, UIDS_AT_ONCE if self._exchanges.habits.matches_uid_lists else 1)
        if len(queries) > 1:
            everything = partial(self._pages, path, limit=None, offset=0, page_size=page_size)
            yield from islice(_once(everything(each) for each in queries), offset, last)
            return
        nothing = True
        for found in self._pages(path, query, limit=limit, offset=offset, page_size=page_size):
            nothing = False
            yield found
        if nothing and limit != 0 and not self._exchanges.habits.decodes_queries:
            again = with_wildcards(query)
            if again is not None:
                pages = self._pages(path, again.query, limit=None, offset=0, page_size=page_size)
                yield from islice(filter(again.matches, pages), offset, last)

    def _pages(self, path: str, query: Query, *, limit: int | None, offset: int, page_size: int) -> Iterator[DicomJson]:
        return all_pages(partial(self._exchanges.search, path, query), limit=limit, offset=offset, page_size=page_size)

    def _by_series(self, study: str, query: Query, page_size: int) -> Iterator[DicomJson]:
        """Search the series of a study one by one."""
        for series in self._pages(search_path("series", study), (), limit=None, offset=0, page_size=page_size):
            uid = text(series, "SeriesInstanceUID")
            if is_uid(uid):
                yield from self._found(search_path("instances", study, uid), query, None, 0, page_size)


def _once(searches: Iterable[Iterator[DicomJson]]) -> Iterator[DicomJson]:
    """Give what several searches find, each result once."""
    seen = set[Any]()
    for search in searches:
        for found in search:
            identity = identity_of(found)
            if identity not in seen:
                seen.add(identity)
                yield found


def _or_else(found: Iterator[DicomJson], otherwise: Callable[[], Iterator[DicomJson]]) -> Iterator[DicomJson]:
    """Search; and search otherwise, if the server does not know the first way."""
    try:
        first = next(found, None)
    except NotFoundError:
        yield from otherwise()
        return
    if first is not None:
        yield first
        yield from found
