"""Looking further than the verdict of an import: was everything that was listed dealt with, and is it in the store.

Source: Cloud Healthcare API v1, ``ProgressCounter``; design of this package.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from airflow_dicomweb.dicomweb.inventory import find_instances
from airflow_dicomweb.errors import OperationFailedError
from airflow_dicomweb.healthcare.bodies import GcsPattern

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.resources import InstancePath
    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.operations import Operation

log = logging.getLogger(__name__)

_SHOWN = 10


def check_counts(operation: Operation, listed: int) -> None:
    """Compare the counters of an import with the number of objects listed before it.

    :raises OperationFailedError: If objects are not accounted for.
    """
    counted = operation.success + operation.failure
    if counted < listed:
        raise OperationFailedError(
            f"{operation.name} accounts for {counted} objects ({operation.success} succeeded, {operation.failure} "
            f"failed), but {listed} were listed before it: {listed - counted} were passed over"
        )
    if counted > listed:
        log.info("%d objects arrived between listing and import", counted - listed)


def check_instances(client: HealthcareClient, gcs_uri: str, *, max_failures: int) -> None:
    """Read the header of each object, and look for its instance in the store.

    :param max_failures: Instances that may be missing.
    :raises OperationFailedError: If more are missing; the message names some by their UIDs.
    """
    expected, unusable = _identities(client, gcs_uri)
    there = set(find_instances(client, {path.study for path in expected}))
    missing = sorted(expected - there)
    log.info("%d instances expected, %d missing, %d objects are no instances", len(expected), len(missing), unusable)
    if len(missing) > max_failures:
        shown = ", ".join(str(path) for path in missing[:_SHOWN])
        raise OperationFailedError(
            f"{len(missing)} of {len(expected)} imported instances are not in the store, such as {shown}"
        )


def _identities(client: HealthcareClient, gcs_uri: str) -> tuple[set[InstancePath], int]:
    """Give the distinct identities of the objects, and how many objects have none."""
    from airflow_dicomweb.dicomweb.part10 import UnusableFile, read_header

    expected: set[InstancePath] = set()
    unusable = 0
    for item in client.buckets.list(GcsPattern.parse(gcs_uri)):
        with client.buckets.open(item) as stream:
            try:
                expected.add(read_header(stream).path)
            except UnusableFile:
                unusable += 1
    return expected, unusable
