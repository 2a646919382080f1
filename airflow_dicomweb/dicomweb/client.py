"""A client for any DICOMweb server: one method for each transaction of the standard.

Source: DICOM PS3.18 chapter 10 (Studies service): sections 10.4 retrieve, 10.5 store, 10.6 search.
"""

from __future__ import annotations

import os
from typing import Self

from airflow_dicomweb.dicomweb.auth import Anonymous, Credentials
from airflow_dicomweb.dicomweb.backups import open_backup
from airflow_dicomweb.dicomweb.creation import Creations
from airflow_dicomweb.dicomweb.deleting import Deletions
from airflow_dicomweb.dicomweb.exchanges import Exchanges, Places
from airflow_dicomweb.dicomweb.habits import ServerHabits, named
from airflow_dicomweb.dicomweb.replacing import Replacing
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.retrieving import Retrievals
from airflow_dicomweb.dicomweb.searching import Searches
from airflow_dicomweb.dicomweb.sources import Buckets, Shard, SourceArgument, list_sources, would_list
from airflow_dicomweb.dicomweb.storing import Earlier, OnOutcome, StoreHooks, store_all
from airflow_dicomweb.dicomweb.stow import StoreOptions, StoreResult
from airflow_dicomweb.dicomweb.transport import Transport
from airflow_dicomweb.errors import ConfigurationError

MEBIBYTE = 2**20


class DicomWebClient(Searches, Creations, Retrievals, Deletions):
    """Stores, searches, retrieves and deletes at one DICOMweb server; safe for several threads.

    :param base_url: Root of the server's DICOMweb services, such as ``https://pacs.example/dicom-web``.
    :param credentials: Who requests are sent as.
    :param retry_policy: How often a failed request is repeated.
    :param request_timeout: Seconds without progress after which one attempt of a request is given up.
    :param verify: Whether TLS certificates are checked, or the CA file or folder they are checked with.
    :param client_cert: Client certificate: a PEM file with certificate and key, or a pair of files.
    :param qido_prefix: Path below ``base_url`` where searches go; likewise ``wado_prefix`` and ``stow_prefix``.
    :param allow_insecure_auth: Whether credentials may go over plain http to another machine.
    :param server: Which server it is, if its habits matter and do not show in its answers: ``orthanc``, ``dcm4chee``,
        ``tiny-pacs``, ``google``, ``standard-with-delete`` or ``standard`` (see :mod:`airflow_dicomweb.dicomweb.habits`).
    :param buckets: Reads ``gs://`` sources of :meth:`store`.
    :raises ConfigurationError: If an argument cannot be meant; nothing is sent until the first method is called.
    """

    def __init__(
        self,
        base_url: str,
        *,
        credentials: Credentials | None = None,
        retry_policy: RetryPolicy | None = None,
        request_timeout: float = 300.0,
        verify: bool | str | os.PathLike[str] = True,
        client_cert: str | tuple[str, str] | None = None,
        qido_prefix: str = "",
        wado_prefix: str = "",
        stow_prefix: str = "",
        allow_insecure_auth: bool = False,
        server: str | None = None,
        buckets: Buckets | None = None,
    ) -> None:
        self._transport = Transport(
            base_url,
            credentials=Anonymous() if credentials is None else credentials,
            retry_policy=RetryPolicy() if retry_policy is None else retry_policy,
            request_timeout=request_timeout,
            verify=verify,
            client_cert=client_cert,
            allow_insecure_auth=allow_insecure_auth,
        )
        habits = None if server is None else named(server)
        self._exchanges = Exchanges(self._transport, Places(qido_prefix, wado_prefix, stow_prefix), habits)
        self._buckets = buckets

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._transport!r})"

    @property
    def habits(self) -> ServerHabits:
        """In what the server differs from others, as far as that is known by now."""
        return self._exchanges.habits

    def close(self) -> None:
        """Close idle connections; the client can be used again."""
        self._transport.close()

    def store(
        self,
        source: SourceArgument,
        *,
        study: str | None = None,
        workers: int = 4,
        batch_bytes: int = 64 * MEBIBYTE,
        batch_count: int = 50,
        storage_class: str | None = None,
        on_conflict: str = "fail",
        verify: str = "response",
        check: str = "header",
        shard: Shard | None = None,
        backup_uri: str | os.PathLike[str] | None = None,
        checksums: bool = False,
        keep_outcomes: bool = True,
        on_outcome: OnOutcome | None = None,
        earlier: Earlier | None = None,
    ) -> StoreResult:
        """Store instances, byte for byte as they are, and say what became of each.

        :param source: File, directory (everything below it), glob, ``gs://bucket/pattern``, or several of these.
        :param shard: ``(i, n)``: only the i-th of n parts of the listing, not of the identities: where conflicts are not
            reported, two that send different files under one identity may both say ``created``; ``verify="bytes"`` tells.
        :param backup_uri: Folder or ``gs://bucket/prefix`` where bytes go, whole and compared, before they are replaced.
        :param on_outcome: Called in this thread with each outcome as soon as it is final.
        :param earlier: Gives the outcome of a source that an earlier call stored; it is sent only if it is not there now.
        :param study: This and all others: see :class:`airflow_dicomweb.dicomweb.stow.StoreOptions`.
        :return: One outcome for each source, in the order of their names. Refused instances raise nothing.
        :raises ConfigurationError: If something cannot be meant, matches nothing, or cannot be done safely. Nothing was
            sent then.
        :raises DicomWebError: If not a single instance could be asked about.
        """
        options = StoreOptions(
            study=study,
            workers=workers,
            batch_bytes=batch_bytes,
            batch_count=batch_count,
            storage_class=storage_class,
            on_conflict=on_conflict,
            verify=verify,
            check=check,
            checksums=checksums,
            keep_outcomes=keep_outcomes,
        )
        hooks = StoreHooks(on_outcome=on_outcome, earlier=earlier)
        return self._store(source, shard, backup_uri, options, hooks)

    def _store(
        self,
        source: SourceArgument,
        shard: Shard | None,
        backup_uri: str | os.PathLike[str] | None,
        options: StoreOptions,
        hooks: StoreHooks,
    ) -> StoreResult:
        options.check_possible(self.habits)
        replacing = None
        if options.on_conflict == "replace":
            backup = open_backup(backup_uri, self._buckets) if backup_uri is not None else None
            replacing = Replacing(self._exchanges, backup)
            if backup_uri is not None and would_list(source, f"{os.fspath(backup_uri)}/study/series/instance.dcm"):
                raise ConfigurationError(
                    "backup_uri lies within the source, which would store what was replaced again at the next time: a "
                    "place outside of it is accepted"
                )
        elif backup_uri is not None:
            raise ConfigurationError("backup_uri is for on_conflict='replace'")
        sources = list_sources(source, shard=shard, buckets=self._buckets)
        return store_all(self._exchanges, sources, options, hooks, replacing)
