"""Cloud Storage as operations use it: its failures in their words, and filter files.

Source: Cloud Healthcare API v1 discovery document, ``DicomFilterConfig``.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from airflow_dicomweb.dicomweb.resources import ResourcePath
from airflow_dicomweb.emulator.messages import (
    INTERNAL,
    INVALID_ARGUMENT,
    NOT_FOUND,
    PERMISSION_DENIED,
    UNAVAILABLE,
)
from airflow_dicomweb.emulator.runner import OperationError
from airflow_dicomweb.errors import AuthorizationError, ConfigurationError, DicomWebError, NotFoundError
from airflow_dicomweb.healthcare.bodies import GcsPattern, parse_filter_file
from airflow_dicomweb.healthcare.gcs import Buckets

_NO_RIGHT = (
    "Healthcare API doesn't have required Cloud Storage permission. See "
    "https://cloud.google.com/healthcare/docs/how-tos/permissions-healthcare-api-gcp-products for more information"
)


@contextmanager
def cloud_storage() -> Iterator[None]:
    """Turn what Cloud Storage answers into what an operation says of it."""
    try:
        yield
    except NotFoundError:
        raise OperationError(NOT_FOUND, "the Cloud Storage bucket or object does not exist") from None
    except AuthorizationError:
        raise OperationError(PERMISSION_DENIED, _NO_RIGHT) from None
    except DicomWebError as error:
        code = UNAVAILABLE if error.retryable else INTERNAL
        raise OperationError(code, "Cloud Storage could not be reached") from None


def filter_paths(buckets: Buckets, uri: str) -> list[ResourcePath]:
    """Read a filter file.

    :raises OperationError: If it cannot be read, or a line of it cannot.
    """
    source = GcsPattern.parse(uri)
    with cloud_storage():
        content = buckets.read(source.bucket, source.pattern)
    try:
        return parse_filter_file(content.decode("utf-8-sig"))
    except (ConfigurationError, UnicodeDecodeError):
        raise OperationError(INVALID_ARGUMENT, "invalid_argument: the filter file has an invalid line") from None
