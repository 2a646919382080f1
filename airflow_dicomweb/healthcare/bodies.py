"""Request bodies of the Cloud Healthcare API's import and export, and the rules for ``gs://`` URIs.

Source: Cloud Healthcare API v1 discovery document, ``ImportDicomDataRequest``, ``ExportDicomDataRequest``,
``GoogleCloudHealthcareV1DicomGcsSource``, ``...GcsDestination``, ``DicomFilterConfig``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from airflow_dicomweb.dicomweb.resources import ResourcePath, parse_path
from airflow_dicomweb.errors import ConfigurationError

STORAGE_CLASSES = ("STANDARD", "NEARLINE", "COLDLINE", "ARCHIVE")

_EXPLICIT = "1.2.840.10008.1.2.1"
_JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
_DICOM_SYNTAXES = (
    *("1.2.840.10008.1.2", _EXPLICIT, "1.2.840.10008.1.2.1.99", "1.2.840.10008.1.2.5", "1.2.840.10008.1.2.8.1", "*"),
    *(f"1.2.840.10008.1.2.4.{n}" for n in (50, 51, 57, 70, 80, 81, 90, 91, 110, 111, 112, 201, 202, 203)),
)
EXPORT_MEDIA_TYPES = frozenset(
    {
        "application/dicom",
        *(f"application/dicom; transfer-syntax={syntax}" for syntax in _DICOM_SYNTAXES),
        *(f"application/octet-stream; transfer-syntax={syntax}" for syntax in (_EXPLICIT, "*")),
        f"image/jpeg; transfer-syntax={_JPEG_BASELINE}",
        "image/png",
    }
)

_BUCKET = r"[a-z0-9][a-z0-9._\-]{1,220}[a-z0-9]"
_OBJECT_URI = re.compile(rf"gs://(?P<bucket>{_BUCKET})/(?P<object>[^\r\n]{{1,1024}})")
_PREFIX_URI = re.compile(rf"gs://(?P<bucket>{_BUCKET})(?:/(?P<object>[^\r\n]{{0,1024}}))?")
_DOUBLE_STAR_LAST = re.compile(r"[^*?]*\*\*(\.[^*?/]+)?")


@dataclass(frozen=True, slots=True)
class GcsPattern:
    """Objects of one bucket, by the wildcards of the Healthcare API.

    ``*`` stands for any characters but ``/``, ``?`` for one such character, ``**`` for any characters; ``**`` only at
    the end, alone, optionally followed by a file extension.

    :param bucket: Bucket name.
    :param pattern: Object name with wildcards.
    """

    bucket: str
    pattern: str

    @classmethod
    def parse(cls, uri: object) -> GcsPattern:
        """Read ``gs://bucket/object``, wildcards included.

        :raises ConfigurationError: If the service would refuse it.
        """
        match = _OBJECT_URI.fullmatch(uri) if isinstance(uri, str) else None
        if match is None:
            raise ConfigurationError(
                "a Cloud Storage source must be gs://BUCKET/OBJECT with a valid bucket name; wildcards (*, **, ?) are "
                "allowed in OBJECT, such as gs://BUCKET/DIRECTORY/**"
            )
        if "**" in match["object"] and not _DOUBLE_STAR_LAST.fullmatch(match["object"]):
            raise ConfigurationError(
                "** is only allowed once, at the end of the path, with no other wildcard, optionally followed by a "
                "file extension: gs://BUCKET/DIRECTORY/** or gs://BUCKET/DIRECTORY/**.dcm"
            )
        return cls(match["bucket"], match["object"])

    @property
    def prefix(self) -> str:
        """The part of the object name before the first wildcard: what to list by."""
        return re.split(r"[*?]", self.pattern, maxsplit=1)[0]

    @property
    def has_wildcard(self) -> bool:
        """Whether the pattern may stand for more than one object."""
        return self.prefix != self.pattern

    def matches(self, name: str) -> bool:
        """Tell whether an object of the bucket is meant; case matters."""
        tokens = re.findall(r"\*\*|\*|\?|[^*?]+", self.pattern)
        expressions = {"**": ".*", "*": "[^/]*", "?": "[^/]"}
        return re.fullmatch("".join(expressions.get(t) or re.escape(t) for t in tokens), name, re.DOTALL) is not None

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.pattern}"


@dataclass(frozen=True, slots=True)
class GcsPrefix:
    """A folder of a bucket, as the service takes it for an export's destination.

    :param bucket: Bucket name.
    :param prefix: Object name prefix: empty, or ending in one slash.
    """

    bucket: str
    prefix: str

    @classmethod
    def parse(cls, uri: object) -> GcsPrefix:
        """Read ``gs://bucket[/directory[/]]``.

        :raises ConfigurationError: If it is anything else, wildcards included.
        """
        match = _PREFIX_URI.fullmatch(uri) if isinstance(uri, str) else None
        if match is None or re.search(r"[*?]", match["object"] or "") or "//" in "/" + (match["object"] or ""):
            raise ConfigurationError(
                "a Cloud Storage destination must be gs://BUCKET or gs://BUCKET/DIRECTORY, without wildcards"
            )
        directory = (match["object"] or "").strip("/")
        return cls(match["bucket"], f"{directory}/" if directory else "")

    def __str__(self) -> str:
        return f"gs://{self.bucket}/{self.prefix}"


def check_storage_class(name: object) -> str:
    """Return the name of a storage class if it is one.

    :raises ConfigurationError: If it is not.
    """
    if isinstance(name, str) and name in STORAGE_CLASSES:
        return name
    raise ConfigurationError(f"a storage class must be one of {', '.join(STORAGE_CLASSES)}")


def import_body(gcs_uri: str, storage_class: str | None = None) -> dict[str, Any]:
    """Write the body of ``dicomStores.import``.

    :param gcs_uri: Object or wildcard pattern; checked by :class:`GcsPattern`.
    :param storage_class: One of :data:`STORAGE_CLASSES`, or None for the store's default.
    :raises ConfigurationError: If the service would refuse an argument.
    """
    body: dict[str, Any] = {"gcsSource": {"uri": str(GcsPattern.parse(gcs_uri))}}
    if storage_class is not None:
        body["blobStorageSettings"] = {"blobStorageClass": check_storage_class(storage_class)}
    return body


def export_body(
    gcs_uri_prefix: str, media_type: str | None = None, filter_gcs_uri: str | None = None
) -> dict[str, Any]:
    """Write the body of ``dicomStores.export`` to Cloud Storage.

    :param gcs_uri_prefix: Destination folder; the bucket must exist.
    :param media_type: One of :data:`EXPORT_MEDIA_TYPES`; None leaves instances as they were stored.
    :param filter_gcs_uri: One object that lists resource paths; None exports the whole store.
    :raises ConfigurationError: If the service would refuse an argument.
    """
    destination = {"uriPrefix": str(GcsPrefix.parse(gcs_uri_prefix)).rstrip("/")}
    if media_type is not None:
        if media_type not in EXPORT_MEDIA_TYPES:
            raise ConfigurationError(
                "a media type for an export must be one of: " + ", ".join(sorted(EXPORT_MEDIA_TYPES))
            )
        destination["mimeType"] = media_type
    body: dict[str, Any] = {"gcsDestination": destination}
    if filter_gcs_uri is not None:
        source = GcsPattern.parse(filter_gcs_uri)
        if source.has_wildcard:
            raise ConfigurationError("a filter file is one object: no wildcards are accepted in its URI")
        body["filterConfig"] = {"resourcePathsGcsUri": str(source)}
    return body


def filter_file(resources: Iterable[ResourcePath]) -> str:
    """Write a filter file: one ``/studies/...`` path a line, sorted, each once.

    :raises ConfigurationError: If there is nothing to list: an empty filter file means nothing to the service.
    """
    lines = sorted({f"/{path}" for path in resources})
    if not lines:
        raise ConfigurationError("a filter needs at least one study, series or instance")
    return "".join(f"{line}\n" for line in lines)


def parse_filter_file(text: str) -> list[ResourcePath]:
    r"""Read a filter file; lines end in ``\n`` or ``\r\n``, blank ones are passed over.

    :raises ConfigurationError: If a line is not ``/studies/{uid}[/series/{uid}[/instances/{uid}]]``.
    """
    lines = [line for line in re.split(r"\r?\n", text) if line]
    if any(not line.startswith("/") for line in lines):
        raise ConfigurationError("each line of a filter file must start with /studies/")
    return [parse_path(line) for line in lines]
