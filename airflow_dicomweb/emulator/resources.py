"""Routes of datasets and DICOM stores: create, get, list, change, delete.

Source: Cloud Healthcare API v1 discovery document, ``projects.locations.datasets`` and ``datasets.dicomStores``.
"""

from __future__ import annotations

from typing import Any

from starlette.responses import Response

from airflow_dicomweb.emulator.messages import ApiError, json_answer
from airflow_dicomweb.emulator.notifications import check_topics
from airflow_dicomweb.emulator.operations import started
from airflow_dicomweb.emulator.paging import page_of
from airflow_dicomweb.emulator.proto_json import Fields, camel_case, read_message
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.names import DatasetName, DicomStoreName

DATASET: Fields = {"name": str, "timeZone": str, "encryptionSpec": {"kmsKeyName": str}}
_BIGQUERY: Fields = {
    "tableUri": str,
    "force": bool,
    "writeDisposition": str,
    "includeSourceStore": bool,
    "schemaJson": {},
    "schemaFlattened": {},
}
STORE: Fields = {
    "name": str,
    "labels": dict,
    "notificationConfig": {"pubsubTopic": str, "sendForBulkImport": bool},
    "notificationConfigs": [{"pubsubTopic": str}],
    "streamConfigs": [{"bigqueryDestination": _BIGQUERY}],
}


def create_dataset(call: Call) -> Response:
    """Start the creation of a dataset."""
    name = f"{call.location}/datasets/{call.parameter('datasetId')}"
    try:
        DatasetName.parse(name)
    except ConfigurationError:
        raise ApiError(400, "invalid datasetId: 1 to 256 letters, digits, '_', '-' and '.' are expected") from None
    body = _kept(read_message(call.body, DATASET))
    if call.service.stores.has_dataset(name):
        raise ApiError(409, f"dataset {name} already exists.")
    arguments = {"name": name, "body": body}
    return started(call.start_operation("create_dataset", arguments, dataset=name))


def get_dataset(call: Call) -> Response:
    """Give a dataset."""
    return json_answer(call.service.stores.dataset(call.dataset))


def list_datasets(call: Call) -> Response:
    """List the datasets of a location."""
    return json_answer(page_of(call, "datasets", call.service.stores.list_datasets(call.location), 1000))


def delete_dataset(call: Call) -> Response:
    """Delete a dataset and all it holds."""
    service = call.service
    service.stores.check_dataset(call.dataset)
    for record in service.records.all(call.dataset):
        if record.ended is None:
            service.runner.cancel(record.name)
    service.stores.delete_dataset(call.dataset)
    service.records.forget(call.dataset)
    return json_answer({})


def create_store(call: Call) -> Response:
    """Create a DICOM store."""
    call.service.stores.check_dataset(call.dataset)
    name = f"{call.dataset}/dicomStores/{call.parameter('dicomStoreId')}"
    try:
        DicomStoreName.parse(name)
    except ConfigurationError:
        raise ApiError(400, "invalid dicomStoreId: 1 to 256 letters, digits, '_', '-' and '.' are expected") from None
    body = _kept(read_message(call.body, STORE))
    check_topics(body)
    return json_answer(call.service.stores.create_store(call.dataset, name, body))


def get_store(call: Call) -> Response:
    """Give a DICOM store."""
    return json_answer(call.service.stores.store(call.store))


def list_stores(call: Call) -> Response:
    """List the DICOM stores of a dataset."""
    call.service.stores.check_dataset(call.dataset)
    found = call.service.stores.list_stores(call.dataset)
    if expression := call.parameter("filter"):
        key, _, wanted = expression.partition("=")
        if not key.startswith("labels."):
            raise ApiError(400, "invalid filter: labels.KEY=VALUE is expected")
        found = [store for store in found if store.get("labels", {}).get(key[7:]) == wanted.strip("\"'")]
    return json_answer(page_of(call, "dicomStores", found, 1000))


def patch_dataset(call: Call) -> Response:
    """Change a dataset."""
    known = call.service.stores.dataset(call.dataset)
    return json_answer(call.service.stores.update_dataset(call.dataset, _changed(call, known, DATASET)))


def patch_store(call: Call) -> Response:
    """Change a DICOM store."""
    known = call.service.stores.store(call.store)
    changed = _changed(call, known, STORE)
    check_topics(changed)
    return json_answer(call.service.stores.update_store(call.store, changed))


def _changed(call: Call, known: dict[str, Any], fields: Fields) -> dict[str, Any]:
    """Give a description as ``updateMask`` changes it: what it names and the body has not is removed."""
    body = read_message(call.body, fields)
    mask = call.parameter("updateMask") or call.parameter("update_mask")
    if not mask and call.version == "v1":
        raise ApiError(400, "updateMask is required")
    names = [camel_case(name.strip()) for name in mask.split(",")] if mask else list(body)
    if names == ["*"]:
        names = list(fields)
    unknown = [name for name in names if name not in fields]
    if unknown:
        raise ApiError(400, f"invalid updateMask: there is no field {', '.join(unknown)}")
    return _kept({**{k: v for k, v in known.items() if k not in names}, **{n: body[n] for n in names if n in body}})


def delete_store(call: Call) -> Response:
    """Delete a DICOM store and all it holds."""
    call.service.stores.delete_store(call.store)
    return json_answer({})


def _kept(body: dict[str, Any]) -> dict[str, Any]:
    """Leave out what the proto3 mapping leaves out, and the name, which the path gives."""
    return {key: value for key, value in body.items() if key != "name" and value not in ("", {}, [])}
