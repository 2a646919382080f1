"""Making instances of files that are no DICOM yet.

Source: DICOM PS3.18 section 10.5 (store transaction).
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.stow import VERIFY, check_choice
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import GcsPattern, check_storage_class
from airflow_dicomweb.operators._base import DicomWebOperator, reveal
from airflow_dicomweb.operators.object_storage import openable

if TYPE_CHECKING:
    from airflow.sdk import Context

    from airflow_dicomweb.settings import ClientSettings

_ACCEPTED = "metadata_uri must be the path of a JSON file, or gs://BUCKET/OBJECT"


class DicomWebCreateInstanceOperator(DicomWebOperator):
    """Make an instance of a JPEG image, a PDF document or a video, and store it.

    UIDs that the metadata lacks are derived from the DAG run, the task, its map index and the file: a retry makes the same
    instance, and finds it stored already.

    :param bulk_data: Path of the file, its ``gs://`` URI, or what else Airflow's ``ObjectStoragePath`` opens. Local paths are never shown by Airflow.
    :param metadata: Attributes by keyword or tag, as plain values or DICOM JSON. ``PatientID`` must be among them, if only
        as None. Never shown by Airflow once rendered, but whoever reads the DAG's source reads it.
    :param metadata_uri: Path or ``gs://`` URI of a JSON file with the same instead: a mapping, or an array of one.
    :param as_part10: Send a Part 10 file that is made here (True), or a JPEG as JSON metadata with bulk data (False);
        None does what the server takes.
    :param storage_class: Storage class of the Cloud Healthcare API; None for the store's default.
    :param on_conflict: What to do when the server has another instance of the same identity: ``fail`` fails the task,
        ``keep`` leaves the server's. Neither replaces it.
    :param verify: ``response`` trusts the server's answer, ``exists`` looks for the instance, ``bytes`` reads it back.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("bulk_data", "metadata", "metadata_uri", "storage_class"),
    )
    private_fields = ("bulk_data", "metadata", "metadata_uri")

    def __init__(
        self,
        *,
        bulk_data: str | os.PathLike[str],
        metadata: Mapping[str, Any] | None = None,
        metadata_uri: str | None = None,
        as_part10: bool | None = None,
        storage_class: str | None = None,
        on_conflict: str = "fail",
        verify: str = "response",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.bulk_data = bulk_data
        self.metadata = metadata
        self.metadata_uri = metadata_uri
        self.as_part10 = as_part10
        self.storage_class = storage_class
        self.on_conflict = on_conflict
        self.verify = verify

    def execute(self, context: Context) -> dict[str, Any]:
        """Make and store the instance, and fail if the server did not take it.

        :raises ConfigurationError: If an argument, the metadata or the file cannot be used: nothing was sent.
        :raises StoreRefusedError: If it was refused, or the server has another one of the same identity.
        """
        self._check()
        settings = self.hook.settings()
        metadata = reveal(self.metadata)
        if metadata is None:
            metadata = _read(reveal(self.metadata_uri), settings)
        with settings.client() as client:
            result = client.create_instance(
                metadata,
                openable(reveal(self.bulk_data)),
                namespace=_namespace(context),
                as_part10=self.as_part10,
                storage_class=self.storage_class,
                on_conflict=self.on_conflict,
                verify=self.verify,
            )
        (made,) = result.outcomes
        self.log.info("%s: %s%s", made.path, made.outcome, f": {made.reason}" if made.reason else "")
        result.raise_for_failures(0, self.on_conflict)
        return result.to_xcom()

    def _check(self) -> None:
        metadata, uri, bulk_data = map(reveal, (self.metadata, self.metadata_uri, self.bulk_data))
        if (metadata is None) == (uri is None):
            raise ConfigurationError("one of metadata and metadata_uri is needed")
        if uri is not None and (not isinstance(uri, str) or not uri):
            raise ConfigurationError(_ACCEPTED)
        if bulk_data is None or isinstance(bulk_data, bytes) or not str(bulk_data):
            raise ConfigurationError("bulk_data must be the path of a file, gs://BUCKET/OBJECT or an ObjectStoragePath")
        check_choice(self.on_conflict, "on_conflict", ("fail", "keep"))
        check_choice(self.verify, "verify", VERIFY)
        if self.storage_class is not None:
            check_storage_class(self.storage_class)


def _namespace(context: Context) -> str:
    """Name this task of this run: the same in every try."""
    task = context["ti"]
    return json.dumps([task.dag_id, task.run_id, task.task_id, task.map_index])


def _read(uri: str, settings: ClientSettings) -> Any:
    """Read metadata; what is wrong with it is said without its place or content."""
    if uri.startswith("gs://"):
        place = GcsPattern.parse(uri)
        if place.has_wildcard:
            raise ConfigurationError(f"{_ACCEPTED}, without wildcards")
        content = settings.buckets().read(place.bucket, place.pattern)
    else:
        try:
            content = Path(uri).read_bytes()
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigurationError(f"the metadata cannot be read: {reason}; {_ACCEPTED}") from None
    try:
        return json.loads(content)
    except (ValueError, RecursionError):
        raise ConfigurationError(
            "the metadata is no JSON: a mapping by keyword or tag, or DICOM JSON, is accepted"
        ) from None
