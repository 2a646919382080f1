"""The hook: from the id of an Airflow connection to a client.

Source: Apache Airflow, "Connections & hooks".
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from airflow.sdk import BaseHook

from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.errors import DicomWebError, ResponseError
from airflow_dicomweb.extras import read_extra, read_google_extra, warn_of_unknown
from airflow_dicomweb.settings import ClientSettings, read_settings

if TYPE_CHECKING:
    from airflow.sdk import Connection

    from airflow_dicomweb.dicomweb.client import DicomWebClient
    from airflow_dicomweb.healthcare.client import HealthcareClient

DEFAULT_CONNECTION = "dicomweb_default"


class DicomWebHook(BaseHook):
    """Connects to a DICOMweb server, or to a DICOM store of the Cloud Healthcare API.

    Nothing is read or sent when it is made.

    :param dicomweb_conn_id: Airflow connection of type ``dicomweb``.
    :param dicom_store: Another store than the connection's: a short id in the same dataset, or a full name.
    :param impersonation_chain: Other service accounts than the connection's; the last one is impersonated, the ones
        before lead to it.
    """

    conn_name_attr = "dicomweb_conn_id"
    default_conn_name = DEFAULT_CONNECTION
    conn_type = "dicomweb"
    hook_name = "DICOMweb"

    def __init__(
        self,
        dicomweb_conn_id: str = DEFAULT_CONNECTION,
        *,
        dicom_store: str | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.dicomweb_conn_id = dicomweb_conn_id
        self.dicom_store = dicom_store
        self.impersonation_chain = impersonation_chain

    def get_conn(self) -> DicomWebClient | HealthcareClient:
        """Give a client; close it, or use it as a context manager.

        :raises ConfigurationError: If the connection or an argument is not what it should be.
        """
        return self.settings().client()

    def get_healthcare_conn(self) -> HealthcareClient:
        """Give a client of the Cloud Healthcare API; close it, or use it as a context manager.

        :raises ConfigurationError: If the connection is to another kind of server, or not what it should be.
        """
        return self.settings().healthcare_client()

    def settings(self) -> ClientSettings:
        """Read the connection, in a task."""
        connection = self.get_connection(self.dicomweb_conn_id)
        given = connection.extra_dejson
        extra = read_extra(given, self.dicomweb_conn_id)
        # Here alone: a triggerer is told what its worker was told already.
        warn_of_unknown(given, self.dicomweb_conn_id)
        google: Mapping[str, Any] = {}
        if gcp_conn_id := extra.get("gcp_conn_id"):
            google = read_google_extra(self.get_connection(gcp_conn_id).extra_dejson)
        return self._read(connection, extra, google)

    async def asettings(self) -> ClientSettings:
        """Read the connection, on the event loop of a triggerer."""
        connection = await self.aget_connection(self.dicomweb_conn_id)
        extra = read_extra(await _aextra(connection), self.dicomweb_conn_id)
        google: Mapping[str, Any] = {}
        if gcp_conn_id := extra.get("gcp_conn_id"):
            google = read_google_extra(await _aextra(await self.aget_connection(gcp_conn_id)))
        return self._read(connection, extra, google)

    def test_connection(self) -> tuple[bool, str]:
        """Search for one study, and say at which URL, as whom, and how it went."""
        try:
            settings = self.settings()
            identity = settings.credentials().identity
            place = (
                settings.base_url if settings.dicom_store is None else f"{settings.base_url}: {settings.dicom_store}"
            )
            with settings.client(retry_policy=RetryPolicy(attempts=1), request_timeout=30.0) as client:
                found = sum(1 for _ in client.search_studies(limit=1))
        except ResponseError as error:
            return False, f"{error}{'' if error.identity else f' (sent as {identity})'}"
        except DicomWebError as error:
            return False, str(error)
        status = "200, studies found" if found else "200 or 204, no studies found"
        return True, f"{place} answered a search as {identity} with status {status}"

    def _read(self, connection: Connection, extra: Mapping[str, Any], google: Mapping[str, Any]) -> ClientSettings:
        return read_settings(
            connection, extra, google, dicom_store=self.dicom_store, impersonation_chain=self.impersonation_chain
        )


async def _aextra(connection: Connection) -> Mapping[str, Any]:
    """Read the extra without blocking the loop: Airflow tells its supervisor what to mask in logs."""
    if hasattr(connection, "aextra_dejson"):
        return await connection.aextra_dejson()
    # Some secrets backends give the metadata database's class, which has no such method.
    return await asyncio.to_thread(lambda: connection.extra_dejson)
