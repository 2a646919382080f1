"""The file of which an instance is made: found, and read as often as needed.

Source: DICOM PS3.18 section 8.7.2 (bulk data).
"""

from __future__ import annotations

import io
import os
from collections.abc import Iterator

from airflow_dicomweb.dicomweb.multipart import BLOCK_SIZE
from airflow_dicomweb.dicomweb.sources import Buckets, Entry, Opener, Source, list_sources
from airflow_dicomweb.errors import ConfigurationError

BulkDataArgument = str | os.PathLike[str] | bytes | Entry | Opener
"""A path, a ``gs://`` object, the bytes themselves, or what opens them."""

_ACCEPTED = "bulk_data must be the path of one file, its gs:// URI or its bytes"


def find_bulk_data(bulk_data: object, buckets: Buckets | None) -> Source:
    """Find the one file that bulk data is.

    :raises ConfigurationError: If it is none, several or empty.
    """
    if isinstance(bulk_data, bytes):
        content = bulk_data
        found = [Source(0, "", len(content), lambda: io.BytesIO(content))]
    elif isinstance(bulk_data, str | os.PathLike | Entry | Opener) and bulk_data != "":
        listed = list_sources(bulk_data, buckets=buckets)
        found = [source for source, _ in zip(listed, range(2), strict=False)]
    else:
        raise ConfigurationError(f"{_ACCEPTED}; it is {'empty' if bulk_data == '' else type(bulk_data).__name__}")
    if len(found) != 1:
        raise ConfigurationError(f"{_ACCEPTED}; there are several files")
    if not found[0].size:
        raise ConfigurationError(f"{_ACCEPTED}; the file is empty")
    return found[0]


def blocks_of(bulk: Source) -> Iterator[bytes]:
    """Read bulk data from its beginning.

    :raises ConfigurationError: If it cannot be read.
    """
    try:
        with bulk.open() as stream:
            while block := stream.read(BLOCK_SIZE):
                yield block
    except OSError as error:
        raise ConfigurationError(f"bulk_data cannot be read: {error.strerror or type(error).__name__}") from None
