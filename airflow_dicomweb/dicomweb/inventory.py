"""What a store holds, found out by searching: the studies of a query, the instances of a study, what is left of one.

And what somebody asks for: a list of studies.

Results of searches carry patients' attributes; only UIDs leave this module.

Source: DICOM PS3.18 section 10.6 (search transaction).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any, Protocol

from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.uids import check_uid
from airflow_dicomweb.errors import ConfigurationError, NotFoundError

# The Healthcare API refuses them in a search for studies.
_SERIES_ATTRIBUTES = {"Modality", "00080060"}


class Store(Protocol):
    """What is asked of a server; ``DicomWebClient`` has it."""

    def search_studies(
        self, filters: Mapping[str, Any] | None = None, *, include_fields: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Give the studies that match."""
        ...

    def search_series(
        self, filters: Mapping[str, Any] | None = None, *, study: str | None = None, include_fields: Sequence[str] = ()
    ) -> Iterator[dict[str, Any]]:
        """Give the series that match."""
        ...

    def search_instances(
        self,
        filters: Mapping[str, Any] | None = None,
        *,
        study: str | None = None,
        series: str | None = None,
        include_fields: Sequence[str] = (),
    ) -> Iterator[dict[str, Any]]:
        """Give the instances of a study or series."""
        ...

    def retrieve(
        self, study: str, series: str | None = None, instance: str | None = None, *, destination: str
    ) -> Sequence[os.PathLike[str]]:
        """Write instances to files."""
        ...


def requested_studies(*lists: object) -> dict[str, int | None]:
    """Read what somebody asks for, such as studies to delete.

    :param lists: Lists of Study Instance UIDs, or of ``{"study": UID, "instances": n}`` with the number of instances
        that is expected of the study. A mixture is fine, and so is a study that is named more than once.
    :return: Each study once, in the order of the lists, with the number expected or None.
    :raises ConfigurationError: If it is anything else, or if two numbers are expected of one study.
    """
    studies: dict[str, int | None] = {}
    for entries in lists:
        if not isinstance(entries, list | tuple):
            raise ConfigurationError('studies must be a list of UIDs, or of {"study": UID, "instances": n}')
        for study, expected in map(_requested_study, entries):
            known = studies.get(study)
            if None not in (expected, known) and expected != known:
                raise ConfigurationError(f"different numbers of instances are expected of study {study}")
            studies[study] = known if expected is None else expected
    return studies


def _requested_study(entry: object) -> tuple[str, int | None]:
    asked = entry if isinstance(entry, Mapping) else {"study": entry}
    study, expected = check_uid(asked.get("study"), "a requested study"), asked.get("instances")
    if unknown := set(asked) - {"study", "instances"}:
        raise ConfigurationError(f"a requested study has study and instances, not {', '.join(map(repr, unknown))}")
    if expected is not None and (not isinstance(expected, int) or isinstance(expected, bool) or expected < 1):
        raise ConfigurationError(f"the number of instances expected of study {study} must be 1 or more")
    return study, expected


def find_studies(store: Store, filters: Mapping[str, Any]) -> frozenset[str]:
    """Find the studies that match a query; a modality is an attribute of their series, and is asked for there.

    :param filters: Keywords or tags of studies, and ``Modality``.
    :return: Study Instance UIDs.
    """
    search = store.search_series if _SERIES_ATTRIBUTES & set(filters) else store.search_studies
    return frozenset(found["StudyInstanceUID"] for found in search(filters, include_fields=("StudyInstanceUID",)))


def find_instances(store: Store, studies: Iterable[str]) -> Iterator[InstancePath]:
    """Find all instances of some studies, by one search a study; a study that is not there has none.

    :param studies: Study Instance UIDs.
    """
    for study in sorted(studies):
        try:
            for found in store.search_instances(study=study, include_fields=("StudyInstanceUID", "SeriesInstanceUID")):
                yield InstancePath(study, found["SeriesInstanceUID"], found["SOPInstanceUID"])
        except NotFoundError:
            continue


def find_below(store: Store, path: ResourcePath) -> Iterator[InstancePath]:
    """Find the instances of a study or series, or the one that is meant; what is not there has none.

    :param path: Study, series or instance.
    """
    if isinstance(path, StudyPath):
        yield from find_instances(store, [path.study])
        return
    try:
        for found in store.search_instances(study=path.study, series=path.series):
            if found["SOPInstanceUID"] == getattr(path, "instance", found["SOPInstanceUID"]):
                yield InstancePath(path.study, path.series, found["SOPInstanceUID"])
    except NotFoundError:
        return


def is_elsewhere(store: Store, path: ResourcePath) -> bool:
    """Tell whether a series or an instance is there, but not where it is said to be.

    :param path: Study, series or instance, of which :func:`find_below` finds nothing.
    """
    try:
        match path:
            case InstancePath():
                found = store.search_instances({"SOPInstanceUID": path.instance})
                return any(each.get("SOPInstanceUID") == path.instance for each in found)
            case SeriesPath():
                found = store.search_series({"SeriesInstanceUID": path.series})
                return any(each.get("SeriesInstanceUID") == path.series for each in found)
    except NotFoundError:
        pass
    return False


def instances_left(
    store: Store,
    study: str,
    *,
    looks: int = 5,
    look_interval: float = 5.0,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Count what a deletion left of a study: 0 only if two searches in a row found nothing.

    :param study: Study Instance UID.
    :param looks: How often to look in all, at least 2; searches may lag behind a deletion by some seconds.
    :param look_interval: Seconds between two looks.
    """
    left, empty = 0, 0
    for look in range(looks):
        if look:
            sleep(look_interval)
        found = sum(1 for _ in find_instances(store, [study]))
        left, empty = (left, empty + 1) if found == 0 else (found, 0)
        if empty == 2:
            return 0
    return max(left, 1)


def missing_and_unexpected(
    found: Collection[InstancePath], *, before: Collection[InstancePath], after: Collection[InstancePath]
) -> tuple[list[InstancePath], list[InstancePath]]:
    """Compare a copy with its original, which was looked at before and after the copy was made.

    What came or went in between may be in the copy or not; everything else must agree.

    :param found: Instances in the copy.
    :param before: Instances of the original before it was copied.
    :param after: Instances of the original afterwards.
    :return: What is missing in the copy, and what is in it although it never was in the original; sorted.
    """
    missing = (set(before) & set(after)) - set(found)
    unexpected = set(found) - (set(before) | set(after))
    return sorted(missing), sorted(unexpected)
