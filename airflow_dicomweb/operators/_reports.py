"""Private reports: what is too long or too personal for XCom.

Source: design of this package.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.dicomweb.retries import add_to_message
from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.healthcare.bodies import GcsPattern
from airflow_dicomweb.healthcare.manifests import write_manifest

if TYPE_CHECKING:
    from airflow_dicomweb.settings import ClientSettings


def check_report_uri(uri: Any) -> str:
    """Return the place of a report if it is one.

    :raises ConfigurationError: If it is neither an absolute path nor one ``gs://`` object, or if there is something that
        is no regular file: a report takes the place of what is there, and a device or a pipe is not to be replaced.
    """
    if isinstance(uri, str) and uri.startswith("gs://"):
        try:
            if not GcsPattern.parse(uri).has_wildcard:
                return uri
        except ConfigurationError:  # it speaks of sources, where wildcards are fine
            pass
        raise ConfigurationError(
            "report_uri in Cloud Storage must be gs://BUCKET/OBJECT: one object, without wildcards"
        )
    if not isinstance(uri, str) or not Path(uri).is_absolute():
        raise ConfigurationError("report_uri must be the absolute path of a file, or gs://BUCKET/OBJECT")
    if os.path.exists(uri) and not os.path.isfile(uri):  # noqa: PTH110, PTH113 - pathlib raises where it may not look
        raise ConfigurationError(
            "report_uri names a folder, a device or a pipe: a regular file, or one that is not there yet, is accepted"
        )
    return uri


def check_writable(uri: str, settings: ClientSettings) -> None:
    """Make sure, before anything is sent, that a report can be written: write an empty one beside it, and remove it.

    :raises ConfigurationError: If the file cannot be written.
    :raises DicomWebError: If the object cannot be written.
    """
    # Not the report itself: an earlier one stays until there is a new one, and it may be that nobody may replace it.
    beside, buckets = f"{uri}.{uuid.uuid4().hex[:8]}", settings.buckets()
    try:
        write_manifest(beside, (), buckets)
        if not uri.startswith("gs://"):
            Path(beside).unlink()
            return
    except OSError as error:
        raise ConfigurationError(
            f"the report could not be written: {_cause(error)}; nothing was sent. report_uri must be the path of a file "
            "that the worker may write, or gs://BUCKET/OBJECT"
        ) from None
    except DicomWebError as error:
        add_to_message(error, "the report could not be written; nothing was sent")
        raise
    target = GcsPattern.parse(beside)
    # Who may create objects may not always delete them.
    with suppress(DicomWebError):
        buckets.delete(target.bucket, target.pattern)


def write_report(uri: str, lines: Iterable[Mapping[str, Any]], settings: ClientSettings, done: str) -> None:
    """Write a report, whole or not at all, for its owner's eyes only (0600).

    :param done: What was done, for the message of an error: it is done all the same.
    :raises DicomWebError: If it cannot be written.
    """
    try:
        write_manifest(uri, lines, settings.buckets())
    except OSError as error:
        raise DicomWebError(f"the report could not be written: {_cause(error)}; {done}") from None
    except DicomWebError as error:
        add_to_message(error, f"the report could not be written; {done}")
        raise


def _cause(error: OSError) -> str:
    return error.strerror or type(error).__name__
