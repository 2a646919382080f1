"""Assets of the scheme ``dicomweb``: a DICOM store, or a study, series or instance in it.

``dicomweb://HOST[:PORT]/PATH[/studies/UID[/series/UID[/instances/UID]]]``. UIDs are the only things about a patient
that an asset may hold: URIs are kept in Airflow's database and shown in its UI.

Source: Apache Airflow, "Asset URIs" of the provider documentation (AIP-60).
"""

from __future__ import annotations

from typing import Any
from urllib.parse import SplitResult, urlsplit

from airflow.sdk import Asset

from airflow_dicomweb.dicomweb.resources import parse_path, resource_path
from airflow_dicomweb.errors import ConfigurationError

SCHEME = "dicomweb"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """Check and normalise a URI of this scheme for Airflow.

    :raises ValueError: If it names no host, carries more than a path, or holds something else than UIDs after ``/studies``.
    """
    if not uri.hostname:
        raise ConfigurationError(f"an asset of the scheme {SCHEME} must name a host: {SCHEME}://HOST/PATH")
    if uri.query or uri.fragment or uri.username is not None:
        raise ConfigurationError(f"an asset of the scheme {SCHEME} has no query, fragment or user")
    path = uri.path.rstrip("/")
    base, separator, rest = path.partition("/studies/")
    if separator:
        path = f"{base}/{parse_path(f'studies/{rest}')}"
    return uri._replace(netloc=uri.netloc.lower(), path=path or "/")


def create_asset(
    *,
    base_url: str,
    dicom_store: str | None = None,
    study: str | None = None,
    series: str | None = None,
    instance: str | None = None,
    extra: dict[str, Any] | None = None,
) -> Asset:
    """Give the asset of a store, study, series or instance.

    :param base_url: The DICOMweb root, or the address of the Cloud Healthcare API.
    :param dicom_store: ``projects/P/locations/L/datasets/D/dicomStores/S`` for the Cloud Healthcare API.
    :param study: Study Instance UID; None for the whole store.
    :param series: Series Instance UID.
    :param instance: SOP Instance UID.
    :param extra: What else Airflow shall keep with it. Nothing about a patient.
    :raises ConfigurationError: If an argument is not what it should be.
    """
    server = urlsplit(base_url)
    path = server.path.rstrip("/")
    if dicom_store is not None:
        path += f"/{dicom_store}"
    if study is not None:
        path += f"/{resource_path(study, series, instance)}"
    uri = sanitize_uri(SplitResult(SCHEME, server.netloc.rpartition("@")[2], path, "", "")).geturl()
    return Asset(name=uri, uri=uri, extra=extra or {})
