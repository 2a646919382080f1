"""Routes of operations: get, list, cancel; and those that start one: import, export, delete, create a dataset.

Source: Cloud Healthcare API v1 discovery document, ``datasets.operations``, ``dicomStores.import``,
``dicomStores.export``, ``studies.delete``, ``series.delete``.
"""

from __future__ import annotations

import re
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.dicomweb.media_types import MediaType
from airflow_dicomweb.dicomweb.resources import InstancePath, SeriesPath
from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.paging import page_of
from airflow_dicomweb.emulator.proto_json import Fields, read_message
from airflow_dicomweb.emulator.records import Record
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import (
    EXPORT_MEDIA_TYPES,
    GcsPattern,
    GcsPrefix,
    check_storage_class,
)

IMPORT: Fields = {"gcsSource": {"uri": str}, "blobStorageSettings": {"blobStorageClass": str}}
EXPORT: Fields = {
    "gcsDestination": {"uriPrefix": str, "mimeType": str},
    "bigqueryDestination": {
        "tableUri": str,
        "force": bool,
        "writeDisposition": str,
        "includeSourceStore": bool,
        "schemaJson": {},
        "schemaFlattened": {},
    },
    "filterConfig": {"resourcePathsGcsUri": str},
}
_EMULATED_SYNTAXES = {None, "*", "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.1.99"}
_TERM = re.compile(r"""\s*([\w.]+)\s*(!=|<=|>=|=|<|>|:)\s*("[^"]*"|'[^']*'|[^\s"'()]+)\s*""")


def start_import(call: Call) -> Response:
    """Start an import."""
    row = call.store_row()
    body = read_message(call.body, IMPORT)
    uri = body.get("gcsSource", {}).get("uri", "")
    storage_class = body.get("blobStorageSettings", {}).get("blobStorageClass", "STANDARD")
    try:
        pattern = GcsPattern.parse(uri)
        check_storage_class(storage_class)
    except ConfigurationError as error:
        raise ApiError(400, f"invalid import request: {error}") from None
    arguments = {"store": row, "uri": str(pattern), "storage_class": storage_class}
    return started(call.start_operation("import", arguments))


def start_export(call: Call) -> Response:
    """Start an export."""
    row = call.store_row()
    body = read_message(call.body, EXPORT)
    if ("gcsDestination" in body) == ("bigqueryDestination" in body):
        raise ApiError(400, "exactly one destination is expected: gcsDestination or bigqueryDestination")
    if "bigqueryDestination" in body:
        raise ApiError(501, "Export to BigQuery is not emulated.")
    destination = body["gcsDestination"]
    filter_uri = body.get("filterConfig", {}).get("resourcePathsGcsUri", "")
    try:
        prefix = GcsPrefix.parse(destination.get("uriPrefix", ""))
        wild = bool(filter_uri) and GcsPattern.parse(filter_uri).has_wildcard
    except ConfigurationError as error:
        raise ApiError(400, f"invalid export request: {error}") from None
    if wild:
        raise ApiError(400, "invalid export request: a filter file is one object, without wildcards")
    arguments = {"store": row, "uri_prefix": str(prefix), "filter": filter_uri}
    arguments["media_type"] = _export_type(destination.get("mimeType", ""))
    return started(call.start_operation("export", arguments))


def _export_type(text: str) -> str:
    media_type = MediaType.parse(text)
    if text and str(media_type) not in {str(MediaType.parse(known)) for known in EXPORT_MEDIA_TYPES | {"image/jpeg"}}:
        raise ApiError(400, "unsupported mimeType for an export")
    if media_type.name == "application/dicom" and media_type.transfer_syntax not in _EMULATED_SYNTAXES:
        raise ApiError(501, "Export to a compressed transfer syntax is not emulated.")
    return str(media_type)


def delete(call: Call) -> Response:
    """Delete an instance at once; start an operation that deletes a study or series."""
    row, path = call.store_row(), call.resource()
    found = call.service.instances.find(row, path)
    if not found:
        raise ApiError(404, f"{path} is not there, or the caller has no access to it.")
    plain = call.service.settings.plain_study_delete and call.version == "v1beta1"
    if isinstance(path, InstancePath) or plain:
        call.service.instances.delete(found)
        return json_answer({})
    kind = "delete_series" if isinstance(path, SeriesPath) else "delete_study"
    arguments = {"store": row, "path": str(path), "count": len(found)}
    return started(call.start_operation(kind, arguments, target=f"{row}/{path}"))


def started(record: Record) -> Response:
    """Answer with an operation that was just started: the service gives its name alone."""
    return json_answer({"name": record.name})


def get_operation(call: Call) -> Response:
    """Give an operation."""
    return json_answer(_described(call, _record(call)))


def list_operations(call: Call) -> Response:
    """List the operations of a dataset, newest first."""
    records = call.service.records.all(call.dataset)
    if not records:
        call.service.stores.check_dataset(call.dataset)
    described = [_described(call, record) for record in records]
    terms = _terms(call.parameter("filter"))
    return json_answer(page_of(call, "operations", [each for each in described if _fits(each, terms)], 1000))


def cancel_operation(call: Call) -> Response:
    """Ask an operation to stop; one that has ended stays as it is."""
    read_message(call.body, {})
    record = _record(call)
    if record.ended is None:
        call.service.runner.cancel(record.name)
    return json_answer({})


def _record(call: Call) -> Record:
    name = f"{call.dataset}/operations/{call.names['operation']}"
    try:
        return call.service.records.get(name)
    except KeyError:
        raise ApiError(404, f"operation {name} is not there, or the caller has no access to it.") from None


def _described(call: Call, record: Record) -> dict[str, Any]:
    return record.operation(f"{call.origin}/_emulator/logs/{record.name}").to_json()


def _terms(text: str) -> list[tuple[str, str, str]]:
    """Read a filter: comparisons joined by AND.

    :raises ApiError: 400 for any other expression.
    """
    terms = []
    for part in re.split(r"\s+AND\s+", text.strip()) if text.strip() else ():
        match = _TERM.fullmatch(part)
        if match is None:
            raise ApiError(400, 'invalid filter: comparisons such as done=true, joined by "AND", are emulated')
        terms.append((match[1], match[2], match[3].strip("\"'")))
    return terms


def _fits(described: dict[str, Any], terms: list[tuple[str, str, str]]) -> bool:
    return all(_compares(_field(described, path), sign, wanted) for path, sign, wanted in terms)


def _field(described: dict[str, Any], path: str) -> str:
    value: Any = described
    for name in path.split("."):
        camel = re.sub(r"_([a-z])", lambda match: match[1].upper(), name)
        value = value.get(camel) if isinstance(value, dict) else None
    if value is None:
        return "false" if path in {"done", "metadata.cancelRequested"} else ""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _compares(value: str, sign: str, wanted: str) -> bool:
    if value.isdigit() and wanted.isdigit():
        value, wanted = value.zfill(20), wanted.zfill(20)
    results = {
        "=": value == wanted,
        "!=": value != wanted,
        ":": wanted in value,
        "<": value < wanted,
        ">": value > wanted,
        "<=": value <= wanted,
        ">=": value >= wanted,
    }
    return results[sign]
