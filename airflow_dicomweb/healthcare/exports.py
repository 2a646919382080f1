"""What an export left in a bucket.

Source: Cloud Healthcare API v1 discovery document, ``GoogleCloudHealthcareV1DicomGcsDestination``: objects are named
``{study}/{series}/{instance}.dcm`` below the prefix.
"""

from __future__ import annotations

from collections.abc import Iterable

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.uids import is_uid

_SUFFIX = ".dcm"


def exported_instances(names: Iterable[str], prefix: str) -> tuple[frozenset[InstancePath], int]:
    """Read the identities from the names of exported DICOM objects.

    :param names: Names of the objects below the prefix.
    :param prefix: The export's prefix, empty or ending in a slash.
    :return: The instances, and how many objects are named in another way.
    """
    found, others = set(), 0
    for name in names:
        parts = name.removeprefix(prefix).removesuffix(_SUFFIX).split("/")
        if name.endswith(_SUFFIX) and len(parts) == 3 and all(map(is_uid, parts)):
            found.add(InstancePath(*parts))
        else:
            others += 1
    return frozenset(found), others
