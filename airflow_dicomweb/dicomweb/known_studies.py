"""What a server has of the studies that are being stored, asked once a study.

Source: DICOM PS3.18 section 10.6 (search transaction).
"""

from __future__ import annotations

import logging
from collections import OrderedDict

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.settling import Sender, StoreServer, is_unusable
from airflow_dicomweb.errors import DicomWebError

_log = logging.getLogger(__name__)

_STUDIES = 64
_INSTANCES = 100_000


class KnownStudies:
    """Remembers the studies that were asked about last.

    :param server: Who is asked.
    :param sender: Told when the server cannot be asked.
    """

    def __init__(self, server: StoreServer, sender: Sender) -> None:
        self._server, self._sender = server, sender
        # Hashes, not UIDs: a study may have very many instances. A false hit, one in 10**13 of a million, is an instance
        # that counts as identical; where bytes are compared, it is found not to be there.
        self._known: OrderedDict[str, set[int] | DicomWebError] = OrderedDict()

    def has(self, path: InstancePath) -> bool | DicomWebError:
        """Tell whether the server has an instance, or why that cannot be known."""
        study = path.study
        if study in self._known:
            self._known.move_to_end(study)
        elif self._sender.stop is None:
            self._known[study] = self._search(study)
            while len(self._known) > 1 and (len(self._known) > _STUDIES or self._size() > _INSTANCES):
                self._known.popitem(last=False)
        known = self._known.get(study, set())
        return known if isinstance(known, DicomWebError) else hash((path.series, path.instance)) in known

    def add(self, path: InstancePath) -> None:
        """Remember an instance that was stored now."""
        known = self._known.get(path.study)
        if isinstance(known, set):
            known.add(hash((path.series, path.instance)))

    def forget(self, study: str) -> None:
        """Have a study asked about again."""
        self._known.pop(study, None)

    def _size(self) -> int:
        return sum(len(known) for known in self._known.values() if isinstance(known, set))

    def _search(self, study: str) -> set[int] | DicomWebError:
        try:
            return {hash(pair) for pair in self._server.instances_of(study)}
        except DicomWebError as error:
            if is_unusable(error):
                self._sender.note(error, stop=True)
            elif self._server.habits.reports_conflicts:
                _log.warning("new and identical instances of study %s will not be told apart: %s", study, error)
            else:
                self._sender.error = self._sender.error or error
                return error
        return set()
