"""A client for a DICOM store of the Cloud Healthcare API: DICOMweb, and what Google adds to it.

Source: Cloud Healthcare API v1, ``projects.locations.datasets.dicomStores`` and ``...datasets.operations``; its DICOM
conformance statement.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from typing import Any

from airflow_dicomweb.dicomweb.auth import Credentials, Google
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.habits import GOOGLE, GOOGLE_BETA
from airflow_dicomweb.dicomweb.resources import ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.retries import RetryPolicy, check_seconds
from airflow_dicomweb.dicomweb.stow import check_choice
from airflow_dicomweb.errors import OperationTimeoutError, ProtocolError
from airflow_dicomweb.healthcare.bodies import export_body, import_body
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.healthcare.names import DicomStoreName, OperationName
from airflow_dicomweb.healthcare.operations import Operation

BASE_URL = "https://healthcare.googleapis.com"
API_VERSIONS = ("v1", "v1beta1")

_JSON = {"Content-Type": "application/json; charset=utf-8", "Accept": "application/json"}


class HealthcareClient(DicomWebClient):
    """Stores, searches, retrieves, imports, exports and deletes in one DICOM store; safe for several threads.

    :param dicom_store: ``projects/P/locations/L/datasets/D/dicomStores/S``.
    :param base_url: Root of the API, or of an emulator.
    :param credentials: Who requests are sent as; None for Application Default Credentials.
    :param api_version: ``v1`` or ``v1beta1``.
    :param retry_policy: How often a failed request is repeated.
    :param request_timeout: Seconds without progress after which one attempt of a request is given up.
    :param verify: Whether TLS certificates are checked, or the CA file or folder they are checked with.
    :param client_cert: Client certificate: a PEM file with certificate and key, or a pair of files.
    :param allow_insecure_auth: Whether credentials may go over plain http to another machine.
    :raises ConfigurationError: If an argument cannot be meant; nothing is sent until the first method is called.
    """

    def __init__(
        self,
        dicom_store: str | DicomStoreName,
        *,
        base_url: str = BASE_URL,
        credentials: Credentials | None = None,
        api_version: str = "v1",
        retry_policy: RetryPolicy | None = None,
        request_timeout: float = 300.0,
        verify: bool | str | os.PathLike[str] = True,
        client_cert: str | tuple[str, str] | None = None,
        allow_insecure_auth: bool = False,
    ) -> None:
        self.dicom_store = DicomStoreName.parse(str(dicom_store))
        self._version = check_choice(api_version, "api_version", API_VERSIONS)
        account = Google() if credentials is None else credentials
        self.buckets = Buckets(account if isinstance(account, Google) else None)
        root = f"{self._version}/{self.dicom_store}/dicomWeb"
        super().__init__(
            base_url,
            credentials=account,
            retry_policy=retry_policy,
            request_timeout=request_timeout,
            verify=verify,
            client_cert=client_cert,
            qido_prefix=root,
            wado_prefix=root,
            stow_prefix=root,
            allow_insecure_auth=allow_insecure_auth,
            server=(GOOGLE if self._version == "v1" else GOOGLE_BETA).name,
            buckets=self.buckets,
        )

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        super().close()
        self.buckets.close()

    def import_from_gcs(self, gcs_uri: str, *, storage_class: str | None = None) -> Operation:
        """Start an import of the objects that a URI stands for.

        Not sent again when it is not known whether the service got it: look for it with :meth:`list_operations`.

        :param gcs_uri: ``gs://bucket/object``, with the wildcards ``*``, ``?`` and ``**``.
        :param storage_class: One of STANDARD, NEARLINE, COLDLINE, ARCHIVE; None for the store's default.
        :raises ConfigurationError: If the service would refuse an argument.
        """
        return self._start(f"{self._version}/{self.dicom_store}:import", import_body(gcs_uri, storage_class))

    def export_to_gcs(
        self, gcs_uri_prefix: str, *, media_type: str | None = None, filter_gcs_uri: str | None = None
    ) -> Operation:
        """Start an export of the store, or of the resources that a filter file lists.

        Not sent again when it is not known whether the service got it: look for it with :meth:`list_operations`.

        :param gcs_uri_prefix: ``gs://bucket/folder``; the bucket must exist.
        :param media_type: What to convert instances to; None leaves them as they are stored.
        :param filter_gcs_uri: ``gs://`` URI of a filter file, or None for the whole store.
        :raises ConfigurationError: If the service would refuse an argument.
        """
        body = export_body(gcs_uri_prefix, media_type, filter_gcs_uri)
        return self._start(f"{self._version}/{self.dicom_store}:export", body)

    def delete_study(self, study: str) -> Operation | None:
        """Start the deletion of a study; None if the service says that it is done already.

        Not sent again when it is not known whether the service got it: look for it with :meth:`list_operations`. What a
        second one deletes may have been stored in between.

        :raises ConfigurationError: If the UID is not one.
        """
        return self._delete(StudyPath(study))

    def delete_series(self, study: str, series: str) -> Operation | None:
        """Start the deletion of a series; None if the service says that it is done already.

        As for a study, not sent again when it is not known whether the service got it.

        :raises ConfigurationError: If a UID is not one.
        """
        return self._delete(SeriesPath(study, series))

    def get_operation(self, name: str) -> Operation:
        """Ask how an operation stands.

        :param name: ``projects/P/locations/L/datasets/D/operations/O``.
        """
        return Operation.from_json(self._transport.send("GET", self._operation_path(name), headers=_accept()).json())

    def list_operations(self, *, filter: str = "") -> Iterator[Operation]:  # noqa: A002 - the service's own name
        """Give the operations of the store's dataset, asked for page by page.

        :param filter: In the service's filter language.
        """
        path, token, seen = f"{self._version}/{self.dicom_store.dataset}/operations", "", set[str]()
        while True:
            query = [(key, value) for key, value in (("filter", filter), ("pageToken", token)) if value]
            page = self._transport.send("GET", path, query=query, headers=_accept()).json()
            if not isinstance(page, dict) or not isinstance(page.get("operations", []), list):
                raise ProtocolError("the answer is not a list of operations")
            yield from map(Operation.from_json, page.get("operations", []))
            token = str(page.get("nextPageToken") or "")
            if not token:
                return
            if token in seen:
                raise ProtocolError("the list of operations begins again: the service repeats a page token")
            seen.add(token)

    def cancel_operation(self, name: str) -> None:
        """Ask for an operation to be cancelled; it goes on until the service gets to it.

        :param name: As for :meth:`get_operation`.
        """
        self._transport.send("POST", f"{self._operation_path(name)}:cancel", headers=_JSON, body=b"{}")

    def wait_for_operation(
        self,
        operation_or_name: Operation | str,
        *,
        poll_interval: float = 10.0,
        wait_timeout: float = 86400.0,
        on_look: Callable[[Operation], object] | None = None,
    ) -> Operation:
        """Wait until an operation has ended, well or not.

        :param operation_or_name: The operation.
        :param poll_interval: Seconds between two looks.
        :param wait_timeout: Most seconds to wait, from now on.
        :param on_look: Called with what each look found.
        :return: Its last state; how it ended is its ``verdict``.
        :raises OperationTimeoutError: If it has not ended by then; it goes on.
        """
        name = operation_or_name.name if isinstance(operation_or_name, Operation) else operation_or_name
        check_seconds(poll_interval, "poll_interval", zero=True)
        deadline = time.monotonic() + check_seconds(wait_timeout, "wait_timeout", zero=True)
        while True:
            operation = self.get_operation(name)
            if on_look is not None:
                on_look(operation)
            if operation.done:
                return operation
            left = deadline - time.monotonic()
            if left <= 0:
                raise OperationTimeoutError(f"{operation.describe()}; it has not ended within {wait_timeout:g} s")
            time.sleep(min(poll_interval, left))

    def _start(self, path: str, body: dict[str, Any]) -> Operation:
        content = json.dumps(body).encode()
        answer = self._transport.send("POST", path, headers=_JSON, body=content, idempotent=False)
        return Operation.from_json(answer.json())

    def _delete(self, path: ResourcePath) -> Operation | None:
        answer = self._exchanges.request_deletion(path)
        # {} is done; nothing at all is what other servers answer.
        body = answer.json() if answer.content.strip() else {}
        return Operation.from_json(body) if body else None

    def _operation_path(self, name: str) -> str:
        return f"{self._version}/{OperationName.parse(name)}"


def _accept() -> dict[str, str]:
    return {"Accept": _JSON["Accept"]}
