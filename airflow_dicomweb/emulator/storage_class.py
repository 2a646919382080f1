"""Changing the storage class of what is stored: the route, and what its operation does.

Source: Cloud Healthcare API v1 discovery document, ``SetBlobStorageSettingsRequest``; "Change the storage class".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from starlette.responses import Response

from airflow_dicomweb.dicomweb.resources import ResourcePath, parse_path
from airflow_dicomweb.emulator.cloud_storage import filter_paths
from airflow_dicomweb.emulator.instances import Instances, Stored
from airflow_dicomweb.emulator.messages import NOT_FOUND, ApiError
from airflow_dicomweb.emulator.operations import started
from airflow_dicomweb.emulator.proto_json import Fields, read_message
from airflow_dicomweb.emulator.records import Failure
from airflow_dicomweb.emulator.service import Call
from airflow_dicomweb.emulator.wado import stored_of
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import GcsPattern, check_storage_class
from airflow_dicomweb.healthcare.gcs import Buckets

_REQUEST: Fields = {
    "blobStorageSettings": {"blobStorageClass": str},
    "filterConfig": {"resourcePathsGcsUri": str},
}
_RETRY_SECONDS = 10.0


def set_storage_class(call: Call) -> Response:
    """Start to change the storage class of a study, series or instance, or of what a filter file names."""
    row = call.store_row()
    body = read_message(call.body, _REQUEST)
    filter_uri = body.get("filterConfig", {}).get("resourcePathsGcsUri", "")
    path = call.resource()
    if (path is None) != bool(filter_uri):
        raise ApiError(400, "filterConfig is for a whole DICOM store, and is required there")
    try:
        wanted = check_storage_class(body.get("blobStorageSettings", {}).get("blobStorageClass", ""))
        wild = bool(filter_uri) and GcsPattern.parse(filter_uri).has_wildcard
    except ConfigurationError as error:
        raise ApiError(400, f"invalid request: {error}") from None
    if wild:
        raise ApiError(400, "invalid request: a filter file is one object, without wildcards")
    if path is not None:
        stored_of(call)
    arguments = {"store": row, "path": str(path or ""), "filter": filter_uri, "storage_class": wanted}
    return started(call.start_operation("set_storage_class", arguments))


class SetStorageClass:
    """``setBlobStorageSettings``."""

    at_once = 200
    failed_message = "invalid_argument: setting the storage class of one or more resources failed."

    def __init__(self, arguments: Mapping[str, Any], instances: Instances) -> None:
        self._arguments, self._instances = arguments, instances

    def items(self) -> Sequence[Stored | ResourcePath]:
        """List the instances, and the paths of the filter that name none."""
        if self._arguments["filter"]:
            paths = filter_paths(Buckets(retry_timeout=_RETRY_SECONDS), self._arguments["filter"])
        else:
            paths = [parse_path(self._arguments["path"])]
        return self._instances.select(self._arguments["store"], paths)

    def done_before(self) -> int:
        """Nothing: it is done again."""
        return 0

    def do(self, items: Sequence[Stored | ResourcePath]) -> list[Failure]:
        """Change some instances."""
        self._instances.set_storage_class(
            [item for item in items if isinstance(item, Stored)], self._arguments["storage_class"]
        )
        missing = [item for item in items if not isinstance(item, Stored)]
        return [Failure(str(path), NOT_FOUND, "nothing of that name is stored") for path in missing]

    def finish(self) -> Mapping[str, Any]:
        """Give the response."""
        return {"@type": "type.googleapis.com/google.protobuf.Empty"}
