"""Values of the search transaction: what is asked, and how one search becomes pages.

What a filter holds may identify a patient, so no message repeats it.

Source: DICOM PS3.18 sections 8.3.4 (search parameters) and 10.6 (search transaction), PS3.4 section C.2.2.2 (matching).
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from datetime import date, datetime, time
from itertools import product
from typing import Any, Literal

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, tag_of
from airflow_dicomweb.dicomweb.resources import resource_path
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError

Level = Literal["studies", "series", "instances"]
Filters = Mapping[str, Any]
Query = tuple[tuple[str, str], ...]
FIELDS, FUZZY = "includefield", "fuzzymatching"
Page = tuple[list[DicomJson], bool]
"""The results of one request, and whether the server says that it has more."""

PAGE_SIZE = 1000
"""Results asked for at a time; the Healthcare API gives up to 5000."""

UIDS_AT_ONCE = 50
"""UIDs of a list that go into one request: more would not fit into the URL that many servers take."""

_MOST_SEARCHES = 10_000

_DATE = r"\d{4}(?:\d{4}|\.\d{2}\.\d{2})"  # the form with dots is of before 1993, and still found
_DATES = re.compile(rf"{_DATE}(?:-(?:{_DATE})?)?|-{_DATE}")
_ACCEPTED = {
    "DA": "a date, a pair of dates, YYYYMMDD or YYYYMMDD-YYYYMMDD is accepted",
    "DT": "text, a datetime or a pair of datetimes is accepted",
    "TM": "text, a time or a pair of times is accepted",
    "UI": "a UID or a list of UIDs is accepted",
}
_MOMENTS = {"DA": date, "DT": datetime, "TM": time}
_FORMATS = {"DA": "%Y%m%d", "DT": "%Y%m%d%H%M%S.%f%z", "TM": "%H%M%S.%f"}


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
        or ``-b``, or pairs of Python dates of which one may be None; likewise of times and datetimes. Several UIDs are a
        list.
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
        pairs.append((FIELDS, ",".join(fields)))
    if fuzzy:
        pairs.append((FUZZY, "true"))
    return tuple(pairs)


def _attribute(name: object) -> str:
    if not isinstance(name, str):
        raise ConfigurationError(f"an attribute must be a keyword or a tag, not of type {type(name).__name__}")
    for step in name.split("."):
        tag_of(step)
    return name.strip("()").replace(",", "")


def _value(name: str, value: object) -> str:
    kind = vr_of(name)
    if isinstance(value, list | tuple):
        if kind == "UI" and value:
            return ",".join(_single(name, kind, uid) for uid in value)
        if kind in _MOMENTS and len(value) == 2:
            return _range(name, kind, *value)
    return _single(name, kind, value)


def _single(name: str, kind: str, value: object) -> str:
    if kind in _MOMENTS and type(value) is _MOMENTS[kind]:
        return f"{value:{_FORMATS[kind]}}"
    accepted = _ACCEPTED.get(kind, "one value is accepted: text or a number")
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ConfigurationError(f"the value for {name} is of type {type(value).__name__}: {accepted}")
    text = str(value)
    # An empty value matches everything: nobody deletes what an empty variable selects.
    if not text.strip() or not text.isprintable():
        raise ConfigurationError(f"the value for {name} is empty or has control characters: {accepted}")
    if kind == "DA":
        if not _DATES.fullmatch(text):
            raise ConfigurationError(f"the value for {name} is no date: {accepted}")
        _check_order(name, *text.split("-"))
    if kind == "UI":
        for uid in re.split(r"[,\\]", text):
            check_uid(uid, name)
        return text.replace("\\", ",")
    return text


def _range(name: str, kind: str, start: object, end: object) -> str:
    ends = ["" if each is None else _single(name, kind, each) for each in (start, end)]
    if ends == ["", ""]:
        raise ConfigurationError(f"the range for {name} has neither start nor end: one of them is needed")
    if any("-" in each for each in ends if kind != "DT"):
        raise ConfigurationError(f"the range for {name} is made of ranges: {_ACCEPTED[kind]}")
    if kind == "DA":
        _check_order(name, *ends)
    return "-".join(ends)


def _check_order(name: str, start: str, end: str = "") -> None:
    if start and end and start.replace(".", "") > end.replace(".", ""):
        raise ConfigurationError(f"the range for {name} ends before it starts")


def split_lists(query: Query, most: int) -> list[Query]:
    """Give queries that together ask for the same, none of them with more UIDs in a list.

    :param most: 1 for a server that does not match lists.
    :raises ConfigurationError: If several long lists make too many of them.
    """
    choices: list[list[tuple[str, str]]] = []
    for name, value in query:
        uids = list(dict.fromkeys(value.split(","))) if name != FIELDS and "," in value and vr_of(name) == "UI" else []
        pieces = [",".join(uids[at : at + most]) for at in range(0, len(uids), most)]
        choices.append([(name, piece) for piece in pieces or [value]])
    count = math.prod(map(len, choices))
    if count > _MOST_SEARCHES:
        raise ConfigurationError(
            f"the lists of UIDs make {count} searches: at most {_MOST_SEARCHES} are made, give fewer"
        )
    return list(product(*choices))


def vr_of(name: str) -> str:
    """Give the VR of an attribute, or an empty string for a private one."""
    from pydicom.datadict import dictionary_VR  # costs a quarter of a second, and only searches with filters need it

    try:
        return dictionary_VR(int(tag_of(name.rpartition(".")[2]), 16))
    except KeyError:  # private
        return ""


def check_count(value: object, name: str, *, least: int = 0) -> int:
    """Return a whole number if it is large enough.

    :raises ConfigurationError: If it is not.
    """
    is_number = isinstance(value, int) and not isinstance(value, bool)
    if isinstance(value, int) and is_number and value >= least:
        return value
    given = f"{value} was given" if is_number else f"a value of type {type(value).__name__} was given"
    raise ConfigurationError(f"{name} must be a whole number, {least} or more; {given}")
