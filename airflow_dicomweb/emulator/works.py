"""What operations do: import, export, delete, create a dataset; to set a storage class is in a module of its own.

Source: Cloud Healthcare API v1 discovery document, ``ImportDicomDataRequest``, ``ExportDicomDataRequest``,
``DicomFilterConfig``; "Best practices for long-running operations" (an error is shown if any item failed).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from airflow_dicomweb.dicomweb.media_types import DICOM, OCTET_STREAM, MediaType
from airflow_dicomweb.dicomweb.resources import ResourcePath, parse_path
from airflow_dicomweb.emulator.cloud_storage import cloud_storage, filter_paths
from airflow_dicomweb.emulator.conversion import AS_STORED, PLAIN, is_as_stored
from airflow_dicomweb.emulator.decoders import ConversionError, Decoders, RenderingError
from airflow_dicomweb.emulator.incoming import RefusedError, examine
from airflow_dicomweb.emulator.instances import Instances, Outcome, Stored
from airflow_dicomweb.emulator.messages import (
    ALREADY_EXISTS,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    ApiError,
)
from airflow_dicomweb.emulator.records import Failure, Record
from airflow_dicomweb.emulator.runner import OperationError, Work
from airflow_dicomweb.emulator.storage_class import SetStorageClass
from airflow_dicomweb.emulator.stores import Stores
from airflow_dicomweb.healthcare.bodies import GcsPattern, GcsPrefix
from airflow_dicomweb.healthcare.gcs import Buckets, GcsObject

_BLOCK_SIZE = 1024 * 1024
_RETRY_SECONDS = 10.0
_EMPTY = {"@type": "type.googleapis.com/google.protobuf.Empty"}
_EXTENSIONS = {"image/png": "png", "image/jpeg": "jpg"}
_SEE_LOGS = "Please use the link in the metadata.logsUrl field to view the error logs for this operation."
_DIFFERS = (
    "An instance already exists in this DICOM Store with the same Study/Series/SOPInstance UID, but the DICOM files "
    "differ (checksum mismatch)."
)
_NOT_STORED: dict[Outcome, tuple[int, str]] = {
    "conflict": (
        ALREADY_EXISTS,
        _DIFFERS,
    ),
    "deleting": (INVALID_ARGUMENT, "a deletion of the study or series is under way"),
    "no store": (NOT_FOUND, "the DICOM store was deleted meanwhile"),
}


def work_for(record: Record, instances: Instances, stores: Stores, decoders: Decoders) -> Work:
    """Give the work of an operation."""
    arguments = record.arguments
    if record.kind == "import":
        return Import(arguments, instances, record.version)
    if record.kind == "export":
        return Export(arguments, instances, decoders, record.version)
    if record.kind == "create_dataset":
        return CreateDataset(arguments, stores, record.version)
    if record.kind == "set_storage_class":
        return SetStorageClass(arguments, instances)
    return Deletion(arguments, instances)


class Import:
    """``dicomStores.import``: each object that the pattern means is stored, or counted as failed."""

    at_once = 1
    failed_message = f"invalid_argument: importing one or more resources failed. {_SEE_LOGS}"

    def __init__(self, arguments: Mapping[str, Any], instances: Instances, version: str) -> None:
        self._store, self._instances = arguments["store"], instances
        self._pattern = GcsPattern.parse(arguments["uri"])
        self._storage_class = arguments["storage_class"]
        self._version = version
        self._buckets = Buckets(retry_timeout=_RETRY_SECONDS)

    def items(self) -> Sequence[GcsObject]:
        """List the objects."""
        with cloud_storage():
            objects = list(self._buckets.list(self._pattern))
        if not objects:
            raise OperationError(INVALID_ARGUMENT, "invalid_argument: no matching objects found for the gcsSource URI")
        return objects

    def done_before(self) -> int:
        """Nothing: what was imported before is found there, and counts as done."""
        return 0

    def do(self, items: Sequence[GcsObject]) -> list[Failure]:
        """Import some objects."""
        failures = []
        for item in items:
            problem = self._import(item)
            if problem is not None:
                failures.append(Failure(item.uri, *problem))
        return failures

    def _import(self, item: GcsObject) -> tuple[int, str] | None:
        incoming = self._instances.receive()
        try:
            with cloud_storage(), self._buckets.open(item) as stream:
                while block := stream.read(_BLOCK_SIZE):
                    incoming.write(block)
            incoming.close()
            candidates = [examine(incoming)]
            (outcome,) = self._instances.store(self._store, candidates, self._storage_class, action="ImportDicomData")
        except RefusedError as refusal:
            return INVALID_ARGUMENT, refusal.detail
        except OperationError as error:
            return error.code, error.message
        except ApiError as error:
            return PERMISSION_DENIED, error.message
        finally:
            incoming.discard()
        return _NOT_STORED.get(outcome)

    def finish(self) -> Mapping[str, Any]:
        """Give the response."""
        return {"@type": f"type.googleapis.com/google.cloud.healthcare.{self._version}.dicom.ImportDicomDataResponse"}


class Export:
    """``dicomStores.export``: each instance that the filter selects becomes an object, or one for each frame."""

    at_once = 1
    failed_message = f"invalid_argument: exporting one or more resources failed. {_SEE_LOGS}"

    def __init__(self, arguments: Mapping[str, Any], instances: Instances, decoders: Decoders, version: str) -> None:
        self._store, self._instances, self._decoders = arguments["store"], instances, decoders
        self._prefix = GcsPrefix.parse(arguments["uri_prefix"])
        self._media_type = MediaType.parse(arguments["media_type"])
        self._filter = arguments["filter"]
        self._version = version
        self._buckets = Buckets(retry_timeout=_RETRY_SECONDS)

    def items(self) -> Sequence[Stored | ResourcePath]:
        """List the instances, and the paths of the filter that select none."""
        with cloud_storage():
            if not self._buckets.exists_bucket(self._prefix.bucket):
                raise OperationError(NOT_FOUND, "the destination bucket does not exist")
        if not self._filter:
            return self._instances.find(self._store)
        return self._instances.select(self._store, filter_paths(self._buckets, self._filter))

    def done_before(self) -> int:
        """Nothing: objects are written again."""
        return 0

    def do(self, items: Sequence[Stored | ResourcePath]) -> list[Failure]:
        """Export some instances."""
        failures = []
        for item in items:
            problem = self._export(item) if isinstance(item, Stored) else (NOT_FOUND, "nothing of that name is stored")
            if problem is not None:
                failures.append(Failure(str(item.path if isinstance(item, Stored) else item), *problem))
        return failures

    def _export(self, stored: Stored) -> tuple[int, str] | None:
        path = stored.path
        place = f"{self._prefix.prefix}{path.study}/{path.series}/{path.instance}"
        writers = {DICOM: self._export_dicom, "": self._export_dicom, OCTET_STREAM: self._export_frames}
        write = writers.get(self._media_type.name, self._export_pictures)
        try:
            with cloud_storage():
                write(stored, place)
        except FileNotFoundError:
            return NOT_FOUND, "the instance was deleted meanwhile"
        except (ConversionError, RenderingError) as error:
            return INVALID_ARGUMENT, str(error)
        except OperationError as error:
            return error.code, error.message
        return None

    def _export_dicom(self, stored: Stored, place: str) -> None:
        wanted = self._media_type.transfer_syntax or AS_STORED
        as_stored = is_as_stored(stored, wanted)
        folder = self._instances.incoming_folder
        with stored.file.open("rb") if as_stored else self._decoders.convert(stored.file, wanted, folder) as file:
            self._buckets.upload(self._prefix.bucket, f"{place}.dcm", file, DICOM)

    def _export_pictures(self, stored: Stored, place: str) -> None:
        name = self._media_type.name
        extension = _EXTENSIONS[name]
        for frame in range(1, stored.frames + 1):
            picture = self._decoders.render(stored.file, name, frame)
            target = f"{place}/{frame}.{extension}" if stored.frames > 1 else f"{place}.{extension}"
            self._buckets.write(self._prefix.bucket, target, picture, name)

    def _export_frames(self, stored: Stored, place: str) -> None:
        as_stored = self._media_type.transfer_syntax == AS_STORED and stored.transfer_syntax not in PLAIN
        file, sizes = self._decoders.frames(stored.file, None, self._instances.incoming_folder, as_stored=as_stored)
        with file:
            for number, size in enumerate(sizes, 1):
                target = f"{place}/{number}" if len(sizes) > 1 else place
                self._buckets.write(self._prefix.bucket, target, file.read(size), OCTET_STREAM)

    def finish(self) -> Mapping[str, Any]:
        """Give the response."""
        return {"@type": f"type.googleapis.com/google.cloud.healthcare.{self._version}.dicom.ExportDicomDataResponse"}


class Deletion:
    """``studies.delete`` and ``series.delete``."""

    at_once = 200
    failed_message = "internal: some instances could not be deleted"

    def __init__(self, arguments: Mapping[str, Any], instances: Instances) -> None:
        self._store, self._instances = arguments["store"], instances
        self._path = parse_path(arguments["path"])
        self._count = int(arguments["count"])
        self._left = 0

    def items(self) -> Sequence[Stored]:
        """List the instances."""
        found = self._instances.find(self._store, self._path)
        self._left = len(found)
        return found

    def done_before(self) -> int:
        """Give the number of instances that a restart no longer finds."""
        return max(self._count - self._left, 0)

    def do(self, items: Sequence[Stored]) -> list[Failure]:
        """Delete some instances."""
        self._instances.delete(items)
        return []

    def finish(self) -> Mapping[str, Any]:
        """Give the response."""
        return _EMPTY


class CreateDataset:
    """``datasets.create``."""

    at_once = 1
    failed_message = ""

    def __init__(self, arguments: Mapping[str, Any], stores: Stores, version: str) -> None:
        self._name, self._body, self._stores = arguments["name"], arguments["body"], stores
        self._version = version

    def items(self) -> Sequence[str]:
        """Nothing: a dataset has no items to count."""
        return ()

    def done_before(self) -> int:
        """Nothing."""
        return 0

    def do(self, items: Sequence[str]) -> list[Failure]:
        """Do nothing."""
        return []

    def finish(self) -> Mapping[str, Any]:
        """Make the dataset; give the response."""
        try:
            made = self._stores.create_dataset(self._name, self._body)
        except ApiError as error:
            raise OperationError(ALREADY_EXISTS, error.message) from None
        return {"@type": f"type.googleapis.com/google.cloud.healthcare.{self._version}.dataset.Dataset", **made}
