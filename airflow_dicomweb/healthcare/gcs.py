"""Cloud Storage: list, open, read and write objects, through Google's own client.

``STORAGE_EMULATOR_HOST`` is honoured by that client; with it no credentials are looked for. Object names often hold
patients' names: they are in no message of this module.

Source: https://cloud.google.com/storage/docs/json_api/v1/objects; https://cloud.google.com/storage/docs/retry-strategy
"""

from __future__ import annotations

import io
import os
import re
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, BinaryIO, Self, TypeVar, cast

from airflow_dicomweb.dicomweb.log_privacy import keep_queries_out_of_logs
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    DicomWebError,
    TransportError,
    error_for_status,
)
from airflow_dicomweb.healthcare.bodies import GcsPattern, GcsPrefix
from airflow_dicomweb.healthcare.gcs_objects import BLOCK, MARK, GcsObject, ObjectReader
from airflow_dicomweb.healthcare.gcs_places import BucketPlace

if TYPE_CHECKING:
    from google.cloud import storage

    from airflow_dicomweb.dicomweb.auth import Google

__all__ = ["Buckets", "GcsObject"]

T = TypeVar("T")

_EMULATOR = "STORAGE_EMULATOR_HOST"
_PERMISSION = re.compile(r"\bstorage\.[a-zA-Z]+\.[a-zA-Z]+\b")


class Buckets:
    """Cloud Storage as this package needs it, for any number of threads; nothing is sent before the first use.

    Every method raises NotFoundError, AuthorizationError, UnavailableError or TransportError; transient failures were
    then repeated for ``retry_timeout`` already.

    :param credentials: Google credentials; None for Application Default Credentials. Not used with an emulator.
    :param request_timeout: Seconds without progress after which an attempt is given up.
    :param retry_timeout: Seconds after which a failed request is not repeated any more.
    """

    def __init__(
        self, credentials: Google | None = None, *, request_timeout: float = 60.0, retry_timeout: float = 120.0
    ) -> None:
        self._credentials = credentials
        self._request_timeout, self._retry_timeout = request_timeout, retry_timeout
        self._thread = threading.local()
        self._clients: weakref.WeakSet[storage.Client] = weakref.WeakSet()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the idle connections of all threads."""
        with self._lock:
            clients = list(self._clients)
        for client in clients:
            client.close()

    def list(self, pattern: GcsPattern) -> Iterator[GcsObject]:
        """Give the objects that a pattern stands for, in the order of their names.

        Names that end in a slash are left out: they stand for folders.
        """
        if pattern.has_wildcard:
            listed: Iterable[GcsObject] = self._listed(pattern.bucket, pattern.prefix)
        else:
            # By prefix it would be one of all objects whose names begin like this one's.
            found = self._call(pattern.bucket, "GET", lambda: self._bucket(pattern.bucket).get_blob(pattern.pattern))
            listed = [] if found is None else [_object(found)]
        return (item for item in listed if not item.name.endswith("/") and pattern.matches(item.name))

    def find(self, uri: str) -> Iterator[GcsObject]:
        """Give the objects that ``gs://bucket/pattern`` stands for, as :meth:`list` does.

        :raises ConfigurationError: At once, if it is no such URI.
        """
        return self.list(GcsPattern.parse(uri))

    def list_prefix(self, prefix: GcsPrefix) -> Iterator[GcsObject]:
        """Give the objects in a folder and below it, in the order of their names; no folders."""
        return (item for item in self._listed(prefix.bucket, prefix.prefix) if not item.name.endswith("/"))

    def open(self, item: GcsObject) -> BinaryIO:
        """Open a version of an object; bytes are asked for when they are read, a block at a time.

        Read from the beginning to the end, its checksum is compared.
        """
        blob = self._bucket(item.bucket).blob(item.name, generation=item.generation)

        def read(start: int, end: int) -> bytes:
            def download() -> bytes:
                # Part of an object cannot be compared with the checksum of the whole.
                return cast(
                    "bytes", blob.download_as_bytes(start=start, end=end - 1, checksum=None, **self._options(raw=True))
                )

            return self._call(item.bucket, "GET", download)

        return cast("BinaryIO", io.BufferedReader(ObjectReader(item, read)))

    def read(self, bucket: str, name: str) -> bytes:
        """Read an object whole; its checksum is compared."""
        blob = self._bucket(bucket).blob(name)
        return self._call(bucket, "GET", lambda: cast("bytes", blob.download_as_bytes(**self._options(raw=True))))

    def write(self, bucket: str, name: str, data: bytes, content_type: str = "application/octet-stream") -> None:
        """Write an object whole, over the one that may be there."""
        blob = self._bucket(bucket).blob(name)
        self._call(bucket, "POST", lambda: blob.upload_from_string(data, content_type, **self._options()))

    def upload(
        self,
        bucket: str,
        name: str,
        source: str | os.PathLike[str] | IO[bytes],
        content_type: str = "application/octet-stream",
        *,
        mark: str = "",
    ) -> None:
        """Write a file to an object, over the one that may be there, without holding it in memory.

        The object appears whole, with the checksum of what was read, or not at all.

        :param source: Path, or a seekable file open for reading, which is taken from its beginning.
        :param mark: What a listing is to say of it, as long as it is this version.
        """
        # The library would hold 100 MiB of a resumable upload at a time.
        blob = self._bucket(bucket).blob(name, chunk_size=BLOCK)
        if mark:
            blob.metadata = {MARK: mark}
        with _opened(source) as file:
            options = {"rewind": True, "content_type": content_type, **self._options()}
            self._call(bucket, "POST", lambda: blob.upload_from_file(file, **options))

    def place(self, uri: str, workers: int = 4) -> BucketPlace:
        """Give a place for retrieved files.

        :param uri: ``gs://bucket`` or ``gs://bucket/prefix``.
        :param workers: Files uploaded at the same time.
        :raises ConfigurationError: If it is no such URI.
        """
        return BucketPlace(self, GcsPrefix.parse(uri), workers)

    def delete(self, bucket: str, name: str) -> None:
        """Delete an object.

        :raises NotFoundError: If it is not there.
        """
        blob = self._bucket(bucket).blob(name)
        self._call(bucket, "DELETE", lambda: blob.delete(**self._options()))

    def exists_bucket(self, name: str) -> bool:
        """Tell whether a bucket is there; takes no more than the right to list its objects."""
        client = self._client()
        try:
            self._call(name, "GET", lambda: next(iter(client.list_blobs(name, max_results=1, **self._options())), None))
        except DicomWebError as error:
            if getattr(error, "status", None) == 404:
                return False
            raise
        return True

    def _listed(self, bucket: str, prefix: str) -> Iterator[GcsObject]:
        wanted = f"items(name,size,generation,crc32c,metadata/{MARK}),nextPageToken"
        blobs = iter(self._client().list_blobs(bucket, prefix=prefix, fields=wanted, **self._options()))
        while (blob := self._call(bucket, "GET", lambda: next(blobs, None))) is not None:
            yield _object(blob)

    def _options(self, *, raw: bool = False) -> dict[str, Any]:
        from google.cloud.storage.retry import DEFAULT_RETRY

        # Given explicitly: the library does not repeat an upload or a delete by itself, although these may be repeated.
        options = {"timeout": self._request_timeout, "retry": DEFAULT_RETRY.with_timeout(self._retry_timeout)}
        return options | {"raw_download": True} if raw else options

    def _bucket(self, name: str) -> Any:
        return self._client().bucket(name)

    def _client(self) -> storage.Client:
        """Give the client of this thread: its session is one of requests."""
        client = getattr(self._thread, "client", None)
        if client is None:
            from google.cloud import storage

            keep_queries_out_of_logs()
            # Without a project the library does not look for one.
            client = storage.Client(project=None, credentials=self._google_credentials())
            # For traces that are off it would ask about every bucket in a thread of its own, over this one's session.
            cast("Any", client)._bucket_metadata_cache = None  # noqa: SLF001
            with self._lock:
                self._clients.add(client)
            self._thread.client = client
        return client

    def _google_credentials(self) -> Any:
        from google.auth.credentials import AnonymousCredentials

        if os.environ.get(_EMULATOR):
            return AnonymousCredentials()
        with self._lock:
            if self._credentials is None:
                from airflow_dicomweb.dicomweb.auth import Google

                self._credentials = Google()
        from airflow_dicomweb.healthcare.gcs_credentials import SharedToken

        return SharedToken(self._credentials)

    def _call(self, bucket: str, method: str, step: Callable[[], T]) -> T:
        from google.api_core.exceptions import GoogleAPIError
        from google.auth.exceptions import GoogleAuthError
        from google.cloud.storage.exceptions import DataCorruption, InvalidResponse

        try:
            return step()
        except (GoogleAPIError, GoogleAuthError, DataCorruption, InvalidResponse, OSError) as error:
            failure = self._failure(bucket, method, error)
        # Not inside the handler: the library's messages hold object names.
        raise failure

    def _failure(self, bucket: str, method: str, error: Exception) -> DicomWebError:
        from google.api_core.exceptions import GoogleAPICallError, RetryError
        from google.auth.exceptions import GoogleAuthError, RefreshError
        from google.cloud.storage.exceptions import DataCorruption

        where = f"gs://{bucket}"
        identity = self._credentials.identity if self._credentials else "nobody"
        if isinstance(error, RetryError) and isinstance(error.cause, Exception):
            error = error.cause
        if isinstance(error, DataCorruption):
            return TransportError(f"what came from {where} does not have the checksum that it should have")
        if isinstance(error, RefreshError):
            return AuthorizationError(401, method, where, "no token was given", identity=identity)
        status = error.code if isinstance(error, GoogleAPICallError) else None
        if status is None:
            cause = "no token" if isinstance(error, GoogleAuthError) else type(error).__name__
            return TransportError(f"no answer from Cloud Storage about {where}: {cause}")
        missing = _PERMISSION.search(str(error)) if status in {401, 403} else None
        return error_for_status(int(status))(
            int(status),
            method,
            where,
            f"permission {missing[0]} is missing, or there is no such bucket" if missing else "",
            identity=identity if status in {401, 403} else None,
        )


def _object(blob: Any) -> GcsObject:
    mark = (blob.metadata or {}).get(MARK, "")
    return GcsObject(blob.bucket.name, blob.name, int(blob.size), int(blob.generation), blob.crc32c or "", mark)


@contextmanager
def _opened(source: str | os.PathLike[str] | IO[bytes]) -> Iterator[IO[bytes]]:
    if not isinstance(source, str | os.PathLike):
        yield source
        return
    try:
        file = Path(source).open("rb")  # noqa: SIM115 - closed below
    except OSError as error:
        raise ConfigurationError(f"the file to upload cannot be read: {error.strerror}") from None
    with file:
        yield file
