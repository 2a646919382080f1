"""How one search becomes pages, on servers that page as the standard has it and on others.

- The end is a page with fewer results than were asked for, unless the server says that it has more.
- A server may give fewer than were asked for and not say so; such limits are round numbers, so after a page of a round
  number the next one is asked for.
- A server that ignores ``limit`` gives everything at once.
- A server that ignores ``offset`` would give the first page for ever. It is asked for larger first pages instead.
- Pages may overlap, because something was stored in between: what was on the page before is not given again.

Source: DICOM PS3.18 section 8.3.4.4 (paging, and its Warning header).
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, text
from airflow_dicomweb.dicomweb.qido import PAGE_SIZE, Page
from airflow_dicomweb.errors import ProtocolError

_log = logging.getLogger(__name__)

Fetch = Callable[[int, int], Page]
"""Gets up to so many results from an offset on."""

_ROUND = 50
_IDENTITY = ("0020000D", "0020000E", "00080018")


def all_pages(fetch: Fetch, *, limit: int | None, offset: int = 0, page_size: int = PAGE_SIZE) -> Iterator[DicomJson]:
    """Give the results of a search, page by page; the next one is asked for when it is needed.

    :param limit: Most results in all, or None for all there are.
    :raises ProtocolError: If the server has more results than it can be made to give.
    """
    asked_from, given, earlier, previous = offset, 0, 0, set[Any]()
    while limit is None or given < limit:
        wanted, known = page_size if limit is None else min(page_size, limit - given), 0
        page, more = fetch(wanted, asked_from)
        if previous and page and {identity_of(each) for each in page} <= previous:
            page, more = _first_pages(fetch, offset, asked_from - offset), False
            # They begin with the pages that came before the previous one.
            wanted, known = 0, earlier
        new = [each for each in page[known:] if identity_of(each) not in previous]
        new = new if limit is None else new[: limit - given]
        yield from new
        given, earlier, asked_from = given + len(new), given, asked_from + len(page)
        previous = set(map(identity_of, page))
        if not page or not wanted or (len(page) != wanted and len(page) % _ROUND and not more):
            return
        if len(page) > wanted and not more:
            return


def identity_of(data_set: DicomJson) -> Any:
    """Give what tells a result from others: its UIDs, or all of it if it has none."""
    uids = tuple(text(data_set, tag) for tag in _IDENTITY)
    return uids if any(uids) else repr(data_set)


def _first_pages(fetch: Fetch, offset: int, size: int) -> list[DicomJson]:
    """Ask for larger first pages until one is not full."""
    known = size
    while True:
        size *= 2
        page, more = fetch(size, offset)
        if len(page) <= known and more:
            raise ProtocolError(
                f"the server ignores 'offset' and gives no more than {known} of its results: narrow the filters"
            )
        if len(page) == known:
            _log.warning(
                "the server ignores 'offset': %d results were given, and it is not known whether it has more", known
            )
        if len(page) < size or len(page) <= known:
            return page
        known = len(page)
