"""The deletions of a client. The standard has none; a server that has them takes ``DELETE`` of a resource's path.

A request whose answer was lost is not sent again: what it would hit by then may have been stored in between. What became
of it is looked up instead, and where that does not settle it, the error says what is open.

Source: Cloud Healthcare API v1, ``dicomStores.studies.delete``, ``...series.delete``, ``...instances.delete``; DICOM
PS3.18 chapter 10 (the resources of the Studies service).
"""

from __future__ import annotations

import logging

from airflow_dicomweb.dicomweb.exchanges import Exchanges
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.errors import (
    ConfigurationError,
    DicomWebError,
    NotFoundError,
    ProtocolError,
    ResponseError,
    TransportError,
)

_log = logging.getLogger(__name__)

# Statuses that come when a request was taken up and its answer was lost on the way, or within the server.
_TAKEN_UP = frozenset({500, 502, 504})


class Deletions:
    """Deletes what is stored; part of ``DicomWebClient``."""

    _exchanges: Exchanges

    def delete_study(self, study: str) -> object:
        """Delete a study; it is gone when this returns.

        :param study: Study Instance UID.
        :raises ConfigurationError: If the UID is not one, or the server is not known to delete (``server`` of the
            client): the message says how it does that. Nothing is sent then.
        :raises NotFoundError: If it is not there.
        """
        return self._delete_now(StudyPath(study))

    def delete_series(self, study: str, series: str) -> object:
        """Delete a series; it is gone when this returns.

        :param study: Study Instance UID.
        :param series: Series Instance UID.
        :raises ConfigurationError: As for :meth:`delete_study`.
        :raises NotFoundError: If it is not there.
        """
        return self._delete_now(SeriesPath(study, series))

    def delete_instance(self, study: str, series: str, instance: str) -> None:
        """Delete an instance; it is gone when this returns, but searches for its study may lag by seconds.

        :param study: Study Instance UID.
        :param series: Series Instance UID.
        :param instance: SOP Instance UID.
        :raises ConfigurationError: As for :meth:`delete_study`.
        :raises NotFoundError: If it is not there.
        """
        self._delete_now(InstancePath(study, series, instance))

    def check_deletes(self) -> None:
        """See that the server is one that deletes.

        :raises ConfigurationError: If it is not known to; the message says how it does that.
        """
        habits = self._exchanges.habits
        if not habits.deletes:
            raise ConfigurationError(f"{habits.title} is not known to delete by DICOMweb: {habits.own_way}")

    def _delete_now(self, path: ResourcePath) -> object:
        self.check_deletes()
        if self._exchanges.habits.deletes_by_operation and not isinstance(path, InstancePath):
            raise ConfigurationError(
                "this server deletes studies and series by long-running operations: use HealthcareClient, or set "
                "dicom_store in the connection"
            )
        try:
            self._exchanges.request_deletion(path)
        except DicomWebError as error:
            if not may_be_done(error) or self._is_there(path):
                raise
            _log.info("the answer to the deletion of %s was lost; a search says that it is gone", path)
        return None

    def _is_there(self, path: ResourcePath) -> bool:
        try:
            found = self._exchanges.named(path if isinstance(path, StudyPath) else SeriesPath(path.study, path.series))
        except NotFoundError:
            return False
        except DicomWebError:
            return True  # The first error says more.
        return path in found if isinstance(path, InstancePath) else bool(found)


def may_be_done(error: DicomWebError) -> bool:
    """Tell whether a request may have been carried out although it failed."""
    if isinstance(error, ResponseError):
        return error.status in _TAKEN_UP
    return isinstance(error, TransportError | ProtocolError)
