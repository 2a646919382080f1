"""Search: studies, series and instances, by the documented attributes only.

Source: DICOM PS3.18 section 10.6; Cloud Healthcare API, DICOM conformance statement, "Search transaction".
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.dicomweb.dicom_json import keyword_of
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON, DICOM_XML, JSON, MULTIPART, MediaType
from airflow_dicomweb.dicomweb.multipart import Body, Part
from airflow_dicomweb.emulator.attributes import AVAILABLE, COLUMNS, DEFAULTS, Level, tag_of_field
from airflow_dicomweb.emulator.matching import date_condition
from airflow_dicomweb.emulator.messages import ApiError, dicom_json_answer, dicom_json_stream
from airflow_dicomweb.emulator.metadata import UnreadableFileError, metadata, read_data_set
from airflow_dicomweb.emulator.native_xml import native_xml
from airflow_dicomweb.emulator.service import Call

LIMITS: dict[Level, tuple[int, int]] = {"studies": (100, 5_000), "series": (100, 5_000), "instances": (1_000, 50_000)}
"""Default and maximum of ``limit``."""
MAX_OFFSET = 1_000_000
_MOST_AT_ONCE = 1_000
"""Longer answers are written while they are sent, and need no more memory."""

_NO_ATTRIBUTES = {"fuzzymatching", "includefield", "limit", "offset"}
_GROUPED = {"studies": "GROUP BY study", "series": "GROUP BY study, series", "instances": ""}


@dataclass(slots=True)
class _Where:
    """Conditions of an SQL statement and their values."""

    conditions: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)

    def add(self, condition: str, *values: object) -> None:
        self.conditions.append(condition)
        self.values += values

    def __str__(self) -> str:
        return " AND ".join(self.conditions)


def search(call: Call, level: Level) -> Response:
    """Answer a search at one level: all of the store, or of the study or series in the path."""
    as_xml = wants_xml(call.accept())
    where = _where(call, level)
    default, most = LIMITS[level]
    clamp = call.service.settings.search_limits == "clamp"
    limit = call.count("limit", default, most, least=1, clamp=clamp)
    offset = call.count("offset", 0, MAX_OFFSET, clamp=clamp)
    tags = _fields(call, level)
    # The oldest instance speaks for its series and study. Its row is looked up only for the page that is returned.
    first = "MIN(id)" if _GROUPED[level] else "id"
    # Only a page of everything is found by the order; with conditions, SQLite is to take the index of one of those.
    order = "first" if len(where.conditions) == 1 else "+first"
    page = f"SELECT {first} AS first FROM instances WHERE {where} {_GROUPED[level]} ORDER BY {order} LIMIT ? OFFSET ?"  # noqa: S608
    chosen = f"SELECT study, series, instance, file, attributes FROM ({page}) JOIN instances ON id = first ORDER BY id"  # noqa: S608
    with call.service.instances.database.reading() as index:
        rows = index.execute(chosen, [*where.values, limit, offset]).fetchall()
    if not rows and (as_xml or call.service.settings.empty_search_status == 204):
        return Response(status_code=204)
    if level == "instances" and (tags is None or not tags <= AVAILABLE[level]):
        found = (_of_file(call, row, tags) for row in rows)
    else:
        found = (_of_index(call, row, tags or AVAILABLE[level]) for row in rows)
    return as_answer(found, as_xml=as_xml) if as_xml or len(rows) <= _MOST_AT_ONCE else dicom_json_stream(found)


def wants_xml(accepted: Sequence[MediaType]) -> bool:
    """Tell which of the two forms of data sets the caller prefers.

    :raises ApiError: 406 if it takes neither.
    """
    for media_type in accepted:
        if media_type.accepts(DICOM_JSON) or media_type.name == JSON:
            return False
        if media_type.name in {MULTIPART, "multipart/*"} and media_type.type_parameter in {DICOM_XML, ""}:
            return True
    raise ApiError(406, f'{DICOM_JSON} or {MULTIPART}; type="{DICOM_XML}" can be answered.')


def as_answer(data_sets: Iterable[dict[str, Any]], *, as_xml: bool) -> Response:
    """Answer with data sets, in the form that the caller prefers."""
    if not as_xml:
        return dicom_json_answer(list(data_sets))
    texts = [native_xml(data_set) for data_set in data_sets]
    body = Body([Part(DICOM_XML, len(text), lambda text=text: [text]) for text in texts], DICOM_XML)  # type: ignore[misc]
    return Response(b"".join(body), media_type=body.content_type)


def _where(call: Call, level: Level) -> _Where:
    where = _Where()
    where.add("store = ?", call.store_row())
    resource = call.resource()
    for column in ("study", "series"):
        if (uid := getattr(resource, column, None)) is not None:
            where.add(f"{column} = ?", uid)
    fuzzy = _flag(call, "fuzzymatching")
    for name, value in call.query:
        known = COLUMNS[level].get(_keyword(name)) is not None
        if name not in _NO_ATTRIBUTES and (known or call.service.settings.unknown_attribute == "reject"):
            _match(where, COLUMNS[level].get(_keyword(name)), name, value, fuzzy=fuzzy)
    return where


def _keyword(name: str) -> str:
    tag = tag_of_field(name)
    return keyword_of(tag) if tag else name


def _match(where: _Where, column: str | None, name: str, value: str, *, fuzzy: bool) -> None:
    if column is None:
        raise ApiError(400, f"unknown/unsupported QIDO attribute: {name}")
    if not value:
        return  # An empty value matches everything (PS3.4 C.2.2.2.3).
    if column == "study_date":
        condition, values = date_condition(column, value)
        where.add(f"({condition})", *values)
    elif column == "patient_name" and fuzzy:
        where.add("fuzzy_match(?, patient_name)", value)
    elif column in {"patient_name", "referring_physician_name"}:
        # The alphabetic group alone may be asked for.
        where.add(f"({column} = ? OR substr({column}, 1, length(?)) = ?)", value, f"{value}=", f"{value}=")
    else:
        where.add(f"{column} = ?", value)


def _flag(call: Call, name: str) -> bool:
    text = call.parameter(name, "false").lower()
    if text not in {"true", "false"}:
        raise ApiError(400, f"invalid {name}: true or false is expected")
    return text == "true"


def _fields(call: Call, level: Level) -> frozenset[str] | None:
    """Give the tags to return; None for all that there are."""
    asked = [name for key, value in call.query if key == "includefield" for name in value.split(",") if name]
    tags = set(DEFAULTS[level])
    for name in asked:
        if name.lower() == "all":
            continue
        tag = tag_of_field(name)
        if tag is None:
            raise ApiError(400, f"unknown/unsupported QIDO attribute: {name}")
        tags.add(tag)
    return None if any(name.lower() == "all" for name in asked) else frozenset(tags)


def _of_index(call: Call, row: Any, tags: frozenset[str]) -> dict[str, Any]:
    kept = json.loads(row["attributes"])
    return _with_uris({tag: element for tag, element in kept.items() if tag in tags}, bulk_uri(call, row))


def _of_file(call: Call, row: Any, tags: frozenset[str] | None) -> dict[str, Any]:
    try:
        found = metadata(read_data_set(call.service.instances.file(row["file"])), bulk_uri(call, row))
    except UnreadableFileError:
        return _of_index(call, row, tags or AVAILABLE["instances"])
    return {tag: element for tag, element in found.items() if tags is None or tag in tags}


def bulk_uri(call: Call, row: Any) -> Callable[[str], str]:
    """Give the function that makes the URLs of an instance's bulk data."""
    start = f"{call.dicom_web}/studies/{row['study']}/series/{row['series']}/instances/{row['instance']}/bulkdata/"
    return lambda path: start + path


def _with_uris(data_set: dict[str, Any], uri: Callable[[str], str]) -> dict[str, Any]:
    """Put the URLs of this request into attributes out of the index, which holds only their last part."""
    for element in data_set.values():
        if "BulkDataURI" in element:
            element["BulkDataURI"] = uri(element["BulkDataURI"])
        elif element["vr"] == "SQ":
            for item in element.get("Value", ()):
                _with_uris(item, uri)
    return data_set
