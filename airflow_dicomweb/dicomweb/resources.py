"""Studies, series and instances as values, and their paths.

Source: DICOM PS3.18 section 10.1 (resource paths of the Studies service).
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError

_PATH = re.compile(r"/?studies/(?P<study>[^/]+)(?:/series/(?P<series>[^/]+)(?:/instances/(?P<instance>[^/]+))?)?")


@dataclass(frozen=True, slots=True, order=True)
class StudyPath:
    """A study.

    :param study: Study Instance UID.
    :raises ConfigurationError: If a UID is not one.
    """

    study: str

    def __post_init__(self) -> None:
        check_uid(self.study, "StudyInstanceUID")

    def __str__(self) -> str:
        return f"studies/{self.study}"


@dataclass(frozen=True, slots=True, order=True)
class SeriesPath:
    """A series of a study.

    :param study: Study Instance UID.
    :param series: Series Instance UID.
    :raises ConfigurationError: If a UID is not one.
    """

    study: str
    series: str

    def __post_init__(self) -> None:
        check_uid(self.study, "StudyInstanceUID")
        check_uid(self.series, "SeriesInstanceUID")

    def __str__(self) -> str:
        return f"studies/{self.study}/series/{self.series}"


@dataclass(frozen=True, slots=True, order=True)
class InstancePath:
    """An instance: the tuple that identifies it everywhere in this package.

    :param study: Study Instance UID.
    :param series: Series Instance UID.
    :param instance: SOP Instance UID.
    :raises ConfigurationError: If a UID is not one.
    """

    study: str
    series: str
    instance: str

    def __post_init__(self) -> None:
        check_uid(self.study, "StudyInstanceUID")
        check_uid(self.series, "SeriesInstanceUID")
        check_uid(self.instance, "SOPInstanceUID")

    def __str__(self) -> str:
        return f"studies/{self.study}/series/{self.series}/instances/{self.instance}"


ResourcePath = StudyPath | SeriesPath | InstancePath


def resource_path(study: str, series: str | None = None, instance: str | None = None) -> ResourcePath:
    """Build the path of a study, series or instance from the UIDs that are given.

    :raises ConfigurationError: If a UID is not one, or if an instance is given without its series.
    """
    if instance is not None:
        if series is None:
            raise ConfigurationError("an instance is given without its series: SeriesInstanceUID is needed too")
        return InstancePath(study, series, instance)
    return StudyPath(study) if series is None else SeriesPath(study, series)


def parse_path(text: str) -> ResourcePath:
    """Read ``studies/{uid}[/series/{uid}[/instances/{uid}]]``, with or without a leading slash.

    :raises ConfigurationError: If the text is anything else.
    """
    match = _PATH.fullmatch(text)
    if match is None:
        raise ConfigurationError(
            "a resource path must be studies/{uid}, studies/{uid}/series/{uid} or "
            "studies/{uid}/series/{uid}/instances/{uid}"
        )
    return resource_path(match["study"], match["series"], match["instance"])


def join_url(base: str, *segments: str) -> str:
    """Join a base URL and path segments with single slashes; the base keeps its own path.

    :param segments: Already checked and encoded; a segment may hold slashes of its own.
    """
    return "/".join([base.rstrip("/"), *(segment.strip("/") for segment in segments if segment.strip("/"))])


def without_query(url: str) -> str:
    """Give a URL fit for logs and messages: no user info, no query, no fragment."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
