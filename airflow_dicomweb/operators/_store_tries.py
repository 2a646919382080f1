"""What the tries of one store task know of each other: a retry sends only what is not stored yet.

Airflow's task state store holds one small record: the run's name, and a salted fingerprint of the arguments. With a
``report_uri`` the report itself says what is stored, however much that is. Without one, the record holds the UIDs of some
hundred instances, compressed, and digests instead of names; what goes beyond is sent again, and found identical.

A record is for tries with the same arguments, until one succeeds. So a retry goes on, and a Clear of a finished task
starts anew. Only what was stored counts: what failed is tried again.

Source: Apache Airflow, "Task state store" (AIP-103).
"""

from __future__ import annotations

import base64
import json
import logging
import os
import time
import zlib
from collections.abc import Mapping
from typing import Any

from airflow.sdk.execution_time.context import NEVER_EXPIRE

from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.operators._earlier import EarlierDigests
from airflow_dicomweb.operators._records import StateStore, fingerprint_of

log = logging.getLogger(__name__)

KEY = "dicomweb_store"

# Airflow warns of values of more than 65,535 bytes.
_MOST_CHARACTERS = 60_000
_SECONDS_BETWEEN_WRITES = 5.0


class StoreTries:
    """The record of one store task.

    :param store: The state store; None where Airflow gives none, as in a plain call of ``execute``.
    :param arguments: What must be the same for a try to go on from another one.
    :param digests: Whether the record itself says what is stored: there is no report that does.
    """

    def __init__(self, store: StateStore | None, arguments: Mapping[str, Any], *, digests: bool) -> None:
        self._store, self._with_digests = store, digests
        self._arguments = json.dumps(arguments, sort_keys=True, default=str)
        found = store.get(KEY) if store is not None else None
        self.run, self._fingerprint, settled = self._read(found)
        self.goes_on = found is not None and self._fingerprint != ""
        """There was a try of the same task before this one, and it did not succeed."""
        self._digests = EarlierDigests(self.run, settled)
        self._written = -_SECONDS_BETWEEN_WRITES

    def _read(self, found: Any) -> tuple[str, str, dict[str, Any]]:
        match found:
            case {"phase": "storing", "fingerprint": str(fingerprint), "run": str(run), "settled": str(settled)}:
                salt = fingerprint.partition(":")[0]
                try:
                    if fingerprint == fingerprint_of(self._arguments, bytes.fromhex(salt)):
                        return run, fingerprint, _unpacked(settled)
                except ValueError:
                    pass
        return os.urandom(8).hex(), "", {}

    def find(self, source: Source) -> InstanceOutcome | None:
        """Give the outcome that a source had in an earlier try, if the record itself knows."""
        return self._digests.find(source)

    def begin(self) -> None:
        """Write the record before there is anything with the run's name: a try that is killed early leaves no more."""
        if not self.goes_on:
            self.write()

    def add(self, outcome: InstanceOutcome) -> None:
        """Remember an outcome, and now and then write the record."""
        if self._with_digests:
            self._digests.add(outcome)
        if self._written < 0 or (self._with_digests and time.monotonic() - self._written > _SECONDS_BETWEEN_WRITES):
            self.write()

    def write(self, phase: str = "storing") -> None:
        """Write the record."""
        if self._store is None:
            return
        self._fingerprint = self._fingerprint or fingerprint_of(self._arguments, os.urandom(16))
        settled = _packed(self._digests.to_json()) if phase == "storing" and self._with_digests else ""
        record = {"phase": phase, "fingerprint": self._fingerprint, "run": self.run, "settled": settled}
        self._written = time.monotonic()
        try:
            self._store.set(KEY, record, retention=NEVER_EXPIRE)
        except Exception:  # noqa: BLE001 - of Airflow, its database or a backend; without the record a retry sends more
            log.warning("The task state store cannot be written: a retry will not know what was stored")

    @property
    def began(self) -> bool:
        """Whether this try has written the record."""
        return self._written >= 0

    def consume(self) -> None:
        """Remember that the task has succeeded: what comes next starts anew."""
        self.write("consumed")


def _packed(settled: dict[str, Any]) -> str:
    """Compress, and leave out the last ones if it is too long all the same."""
    while True:
        text = base64.b85encode(zlib.compress(json.dumps(settled, separators=(",", ":")).encode(), 6)).decode()
        if len(text) <= _MOST_CHARACTERS:
            return text
        settled = dict(list(settled.items())[: len(settled) * 3 // 4])


def _unpacked(text: str) -> dict[str, Any]:
    """Decompress.

    :raises ValueError: If it was written by another version.
    """
    if not text:
        return {}
    try:
        found = json.loads(zlib.decompress(base64.b85decode(text)))
    except zlib.error:
        raise ValueError("no record") from None
    return found if isinstance(found, dict) else {}
