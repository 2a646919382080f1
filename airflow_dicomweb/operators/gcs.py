"""Importing from Cloud Storage into a DICOM store, and exporting to it.

Source: Cloud Healthcare API v1, ``dicomStores.import`` and ``dicomStores.export``.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.inventory import find_studies
from airflow_dicomweb.dicomweb.qido import search_query
from airflow_dicomweb.dicomweb.resources import ResourcePath, StudyPath, parse_path, resource_path
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError, NotFoundError
from airflow_dicomweb.healthcare.bodies import GcsPattern, GcsPrefix, export_body, filter_file, import_body
from airflow_dicomweb.operators._base import DicomWebOperator, reveal, whole_number
from airflow_dicomweb.operators._import_check import check_counts, check_instances
from airflow_dicomweb.operators._long_running import LongRunningOperator

if TYPE_CHECKING:
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.operations import Operation

_UIDS = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")


class DicomWebImportFromGcsOperator(LongRunningOperator):
    """Import objects of a bucket into a DICOM store.

    :param gcs_uri: ``gs://bucket/object``. ``*`` stands for any characters but a slash, ``?`` for one, ``**`` at the
        end, with or without an extension after it, for any characters.
    :param storage_class: ``STANDARD``, ``NEARLINE``, ``COLDLINE`` or ``ARCHIVE``; None for the store's default.
    :param verify: ``none`` trusts the operation's verdict. ``counts`` compares its counters with a listing taken before
        the submit. ``instances`` also reads the header of each object, and looks for the instance in the store.
    :param max_failures: Objects that may fail before the task does.
    """

    template_fields: Sequence[str] = (*DicomWebOperator.template_fields, "gcs_uri", "storage_class", "max_failures")
    method = "ImportDicomData"

    def __init__(
        self,
        *,
        gcs_uri: str,
        storage_class: str | None = None,
        verify: str = "none",
        max_failures: int = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcs_uri = gcs_uri
        self.storage_class = storage_class
        self.verify = verify
        self.max_failures = max_failures

    def arguments(self) -> dict[str, Any]:
        """Check the URI and the rest."""
        check_choice(self.verify, "verify", ("none", "counts", "instances"))
        self.max_failures = whole_number(self.max_failures, "max_failures")
        return import_body(self.gcs_uri, self.storage_class)

    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]:
        """Count what is there to import, if that is to be compared."""
        if self.verify == "none":
            return {}
        return {"listed": sum(1 for _ in client.buckets.list(GcsPattern.parse(self.gcs_uri)))}

    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation:
        """Start the import."""
        return client.import_from_gcs(self.gcs_uri, storage_class=self.storage_class)

    def verify_end(self, client: HealthcareClient, operation: Operation | None, details: Mapping[str, Any]) -> None:
        """Compare with the listing, and look for each instance."""
        if operation is not None and self.verify != "none":
            check_counts(operation, details["listed"])
        if self.verify == "instances":
            check_instances(client, self.gcs_uri, max_failures=self.max_failures)

    def result(self, operation: Operation | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Give the operation's result."""
        return operation.to_xcom() if operation is not None else {}


class DicomWebExportToGcsOperator(LongRunningOperator):
    """Export a DICOM store, or some of it, to a bucket.

    At most one of ``filter_gcs_uri``, ``resources`` and ``query`` may be given; without any the whole store is exported.
    For the last two a filter file is written beside the destination folder, and removed when the operation ended.

    :param gcs_uri_prefix: Destination folder, ``gs://bucket/folder``; the bucket must exist.
    :param media_type: How instances are written, such as ``application/dicom; transfer-syntax=*``; None as they are.
    :param filter_gcs_uri: Object that lists what to export, one ``/studies/...`` path a line.
    :param resources: What to export: Study Instance UIDs, ``studies/...`` paths, or results of a search.
    :param query: Filters by keyword or tag: the studies that match are exported. Never shown by Airflow.
    """

    template_fields: Sequence[str] = (
        *DicomWebOperator.template_fields,
        *("gcs_uri_prefix", "media_type", "filter_gcs_uri", "resource_paths", "query"),
    )
    private_fields = ("query",)
    method = "ExportDicomData"

    def __init__(
        self,
        *,
        gcs_uri_prefix: str,
        media_type: str | None = None,
        filter_gcs_uri: str | None = None,
        resources: Iterable[str | Mapping[str, Any]] | None = None,
        query: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.gcs_uri_prefix = gcs_uri_prefix
        self.media_type = media_type
        self.filter_gcs_uri = filter_gcs_uri
        # Not self.resources: to Airflow that is what a task needs of a machine.
        self.resource_paths = resources
        self.query = query

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """Begin a mapped task.

        :raises ConfigurationError: If ``resources`` is not mapped: Airflow would take it for what a task needs of a
            machine, and could not load the DAG any more.
        """
        if "resources" in kwargs:
            raise ConfigurationError("resources cannot be given to partial(): give it to expand() or expand_kwargs()")
        return super().partial(**kwargs)

    def arguments(self) -> dict[str, Any]:
        """Check the destination, and what to export."""
        query = reveal(self.query)
        choices = {"filter_gcs_uri": self.filter_gcs_uri, "resources": self.resource_paths, "query": query}
        given = [name for name, value in choices.items() if value is not None]
        if len(given) > 1:
            raise ConfigurationError(f"only one of {', '.join(given)} can say what to export")
        if query is not None:
            if not isinstance(query, Mapping) or not query:
                raise ConfigurationError("query must be a mapping of keywords or tags to values, with at least one")
            search_query(query)
        resources = None if self.resource_paths is None else [str(path) for path in self._resources()]
        body = export_body(self.gcs_uri_prefix, self.media_type, self.filter_gcs_uri)
        return {**body, "resources": resources, "query": query}

    def prepare(self, client: HealthcareClient, interrupted: Mapping[str, Any] | None) -> dict[str, Any]:
        """Choose a name for the filter file, if one has to be written."""
        if self.resource_paths is None and self.query is None:
            return {}
        destination = GcsPrefix.parse(self.gcs_uri_prefix)
        beside = f"{destination.prefix.rstrip('/')}.filter-" if destination.prefix else "filter/"
        return {"filter": f"gs://{destination.bucket}/{beside}{uuid.uuid4().hex}.txt"}

    def submit(self, client: HealthcareClient, details: Mapping[str, Any]) -> Operation:
        """Write the filter file, and start the export."""
        filter_gcs_uri = self.filter_gcs_uri
        if "filter" in details:
            target = GcsPattern.parse(details["filter"])
            content = filter_file(self._selected(client)).encode()
            client.buckets.write(target.bucket, target.pattern, content, "text/plain")
            filter_gcs_uri = str(target)
        return client.export_to_gcs(self.gcs_uri_prefix, media_type=self.media_type, filter_gcs_uri=filter_gcs_uri)

    def clean_up(self, client: HealthcareClient, details: Mapping[str, Any]) -> None:
        """Remove the filter file."""
        if "filter" in details:
            target = GcsPattern.parse(details["filter"])
            try:
                client.buckets.delete(target.bucket, target.pattern)
            except NotFoundError:
                return

    def result(self, operation: Operation | None, details: Mapping[str, Any]) -> dict[str, Any]:
        """Give the operation's result with the folder."""
        if not self.wait and "filter" in details:
            self.log.info("The filter file %s stays: nobody waits for the end", details["filter"])
        result = operation.to_xcom() if operation is not None else {}
        return {**result, "prefix": str(GcsPrefix.parse(self.gcs_uri_prefix))}

    def _selected(self, client: HealthcareClient) -> list[ResourcePath]:
        if self.query is None:
            return self._resources()
        studies = sorted(find_studies(client, reveal(self.query)))
        if not studies:
            raise ConfigurationError("the query selects no study: there is nothing to export")
        self.log.info("The query selects %d studies", len(studies))
        return [StudyPath(study) for study in studies]

    def _resources(self) -> list[ResourcePath]:
        given = self.resource_paths
        if given is None or isinstance(given, str | Mapping) or not isinstance(given, Iterable):
            raise ConfigurationError("resources must be a list of Study Instance UIDs or studies/... paths")
        paths = [_resource(entry) for entry in given]
        if not paths:
            raise ConfigurationError("resources is empty: at least one study, series or instance must be named")
        return paths


def _resource(entry: Any) -> ResourcePath:
    if isinstance(entry, Mapping):
        study, series, instance = (entry.get(name) for name in _UIDS)
        return resource_path(check_uid(study, "StudyInstanceUID"), series, instance)
    if isinstance(entry, str) and "/" not in entry:
        return StudyPath(entry)
    return parse_path(str(entry))
