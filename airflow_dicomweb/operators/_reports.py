"""Private reports: what is too long or too personal for XCom.

Source: design of this package.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.bodies import GcsPattern
from airflow_dicomweb.healthcare.manifests import write_manifest

if TYPE_CHECKING:
    from airflow_dicomweb.settings import ClientSettings


def check_report_uri(uri: Any) -> str:
    """Return the place of a report if it is one.

    :raises ConfigurationError: If it is neither an absolute path nor one ``gs://`` object.
    """
    if isinstance(uri, str) and uri.startswith("gs://"):
        if GcsPattern.parse(uri).has_wildcard:
            raise ConfigurationError("report_uri is one object: no wildcards are accepted in it")
        return uri
    if isinstance(uri, str) and Path(uri).is_absolute() and not Path(uri).is_dir():
        return uri
    raise ConfigurationError("report_uri must be the absolute path of a file, or gs://BUCKET/OBJECT")


def write_report(uri: str, lines: Iterable[Mapping[str, Any]], settings: ClientSettings) -> None:
    """Write a report, whole or not at all, for its owner's eyes only (0600).

    :raises ConfigurationError: If the file cannot be written.
    """
    try:
        write_manifest(uri, lines, settings.buckets())
    except OSError as error:
        raise ConfigurationError(f"the report could not be written: {error.strerror or type(error).__name__}") from None
