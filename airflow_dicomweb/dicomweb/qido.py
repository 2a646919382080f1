"""Values of the search transaction: what is asked, and how one search becomes pages.

What a filter holds may identify a patient, so no message repeats it.

Source: DICOM PS3.18 sections 8.3.4 (search parameters) and 10.6 (search transaction), PS3.4 section C.2.2.2 (matching).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import date, datetime
from typing import Any, Literal

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, tag_of
from airflow_dicomweb.dicomweb.resources import resource_path
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError

Level = Literal["studies", "series", "instances"]
Filters = Mapping[str, Any]
Query = tuple[tuple[str, str], ...]
Page = tuple[list[DicomJson], bool]
"""The results of one request, and whether the server says that it has more."""

PAGE_SIZE = 1000
"""Results asked for at a time; the Healthcare API gives up to 5000."""

_DATE = r"\d{4}(?:\d{4}|\.\d{2}\.\d{2})"  # the form with dots is of before 1993, and still found
_DATES = re.compile(rf"{_DATE}(?:-(?:{_DATE})?)?|-{_DATE}")
_ACCEPTED = "one value is accepted: text, a number, or a date"


def search_path(level: Level, study: str | None = None, series: str | None = None) -> str:
    """Build the path of a search.

    :param study: Only below this study.
    :param series: Only below this series of the study.
    :raises ConfigurationError: If a UID is not one, or a series is given without its study.
    """
    if study is None:
        if series is not None:
            raise ConfigurationError("a series is given without its study: StudyInstanceUID is needed too")
        return level
    return f"{resource_path(study, series)}/{level}"


def search_query(filters: Filters | None = None, include_fields: Iterable[str] = (), *, fuzzy: bool = False) -> Query:
    """Build the query of a search, but for its page.

    :param filters: Values by keyword or tag; dots join the steps into a sequence. Ranges of dates are ``a-b``, ``a-``
        or ``-b``.
    :param include_fields: Keywords or tags of further attributes, or ``all``.
    :param fuzzy: Match names fuzzily.
    :return: Names and values, not encoded.
    :raises ConfigurationError: If an attribute does not exist, or a value cannot be meant.
    """
    if filters is not None and not isinstance(filters, Mapping):
        kind = type(filters).__name__
        raise ConfigurationError(f"filters must be a mapping such as {{'PatientID': '123'}}, not of type {kind}")
    if not isinstance(include_fields, Iterable):
        kind = type(include_fields).__name__
        raise ConfigurationError(f"include_fields must be a list of keywords or tags, not of type {kind}")
    pairs = [(_attribute(name), _value(name, value)) for name, value in (filters or {}).items()]
    wanted = [include_fields] if isinstance(include_fields, str) else list(include_fields)
    fields = [field if field == "all" else _attribute(field) for field in wanted]
    if fields:
        pairs.append(("includefield", ",".join(fields)))
    if fuzzy:
        pairs.append(("fuzzymatching", "true"))
    return tuple(pairs)


def _attribute(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"an attribute must be a keyword or a tag, not of type {type(name).__name__}")
    for step in name.split("."):
        tag_of(step)
    return name.strip("()").replace(",", "")


def _value(name: str, value: object) -> str:
    if isinstance(value, date) and not isinstance(value, datetime):
        return f"{value:%Y%m%d}"
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ConfigurationError(f"the value for {name} is of type {type(value).__name__}: {_ACCEPTED}")
    text = str(value)
    # An empty value matches everything: nobody deletes what an empty variable selects.
    if not text.strip() or not text.isprintable():
        raise ConfigurationError(f"the value for {name} is empty or has control characters: {_ACCEPTED}")
    kind = _vr(name)
    if kind == "DA" and not _DATES.fullmatch(text):
        raise ConfigurationError(f"the value for {name} is no date: YYYYMMDD or a range YYYYMMDD-YYYYMMDD is accepted")
    if kind == "UI":
        for uid in text.split(","):
            check_uid(uid, name)
    return text


def _vr(name: str) -> str:
    from pydicom.datadict import dictionary_VR  # costs a quarter of a second, and only searches with filters need it

    try:
        return dictionary_VR(int(tag_of(name.rpartition(".")[2]), 16))
    except KeyError:  # private
        return ""


def check_count(value: object, name: str, *, least: int = 0) -> int:
    """Return a whole number if it is large enough.

    :raises ConfigurationError: If it is not.
    """
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise ConfigurationError(f"{name} must be a whole number, {least} or more")


def all_pages(
    fetch: Callable[[int, int], Page], *, limit: int | None, offset: int = 0, page_size: int = PAGE_SIZE
) -> Iterator[DicomJson]:
    """Give the results of a search, page by page.

    The end is a page with fewer results than were asked for, unless the server says that it has more. A server that
    ignores ``limit`` gives all at once; one that ignores ``offset`` would give the first page for ever, and is asked for
    larger first pages instead.

    :param fetch: Gets up to so many results from an offset on.
    :param limit: Most results in all, or None for all there are.
    """
    given, size, first = 0, page_size, None
    while limit is None or given < limit:
        wanted = size if limit is None else min(size, limit - given)
        page, more = fetch(wanted, offset + given)
        if first is not None and page and page[0] == first:
            page, more, wanted = _first_page(fetch, offset, given)[given:], False, 0
        first = page[0] if page and first is None else first
        yield from page if limit is None else page[: limit - given]
        given += len(page)
        if not page or (len(page) != wanted and not more):
            return


def _first_page(fetch: Callable[[int, int], Page], offset: int, size: int) -> list[DicomJson]:
    """Ask for larger first pages until one is not full, or no larger than the one before."""
    known = size
    while True:
        size *= 2
        page, _ = fetch(size, offset)
        if len(page) < size or len(page) <= known:
            return page
        known = len(page)
