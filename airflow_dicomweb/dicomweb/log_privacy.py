"""Queries and object names stay out of the log lines of the HTTP libraries.

At DEBUG urllib3 writes every URL with its query, at WARNING those whose answers have odd headers; a search by name would
be in the log of the task. Names of Cloud Storage objects are file paths, and hold names as well.

Source: DICOM PS3.15 annex E (what identifies a patient), applied to URLs.
"""

from __future__ import annotations

import logging
import re

_LOGGERS = (
    "urllib3.connection",
    "urllib3.connectionpool",
    "urllib3.poolmanager",
    "urllib3.util.retry",
    "google.api_core.retry",
)
_QUERY = re.compile(r"\?[^\s\"']+")
_OBJECT = re.compile(r"(/b/[^\s\"'/?]+/o/)[^\s\"'?]+")


class _WithoutQueries(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        """Shorten the URLs of a record; it is never dropped."""
        message = record.getMessage()
        record.msg, record.args = _OBJECT.sub(r"\1...", _QUERY.sub("?...", message)), ()
        return True


_FILTER = _WithoutQueries()


def keep_queries_out_of_logs() -> None:
    """See to it, in this process, from now on; calling it again changes nothing."""
    for name in _LOGGERS:
        logging.getLogger(name).addFilter(_FILTER)
