"""Google accounts as credentials: service account keys, Application Default Credentials, impersonation.

google-auth does the work; this module decides when it does it, with which time-outs, and says what went wrong in this
package's terms. google-auth is loaded at the first request.

Source: https://google.aip.dev/auth/4110 (Application Default Credentials), RFC 7523 (key),
https://cloud.google.com/iam/docs/reference/credentials/rest/v1/projects.serviceAccounts/generateAccessToken
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_dicomweb.dicomweb.addresses import is_loopback
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.dicomweb.token_requests import TokenRequest
from airflow_dicomweb.errors import ConfigurationError, DicomWebError

if TYPE_CHECKING:
    from google.auth.credentials import Credentials as GoogleCredentials

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"

_PATIENT = RetryPolicy(attempts=4, first_wait=0.5, longest_wait=8.0, total_timeout=60.0)
_ONCE = RetryPolicy(attempts=1)
_ACCOUNT = re.compile(r"[^\s/:?#@,]+@[^\s/:?#@,]+")
_KEY_INFO = "key_info (keyfile_dict in a connection)"


class Google:
    """A Google account: a service account key, a configuration file, or Application Default Credentials.

    Nothing is read or sent before the first request; one object may be used by many threads.

    :param key_path: Service account key file.
    :param key_info: Content of such a file, as mapping or JSON text.
    :param credential_config_file: File of any other kind that google-auth reads, such as workload identity
        federation; or its content, as mapping or JSON text.
    :param impersonation_chain: Service account to act as; in a list or comma list the last one is acted as, those
        before it are the delegates that lead there.
    :param quota_project_id: Project that requests are counted for.
    :param scopes: OAuth scopes, as sequence or comma list.
    :param iam_endpoint: Base URL of the IAM Credentials API, where it is not Google's own.
    :raises ConfigurationError: If arguments contradict each other or cannot be read.
    """

    def __init__(
        self,
        *,
        key_path: str | PathLike[str] | None = None,
        key_info: Mapping[str, Any] | str | None = None,
        credential_config_file: Mapping[str, Any] | str | PathLike[str] | None = None,
        impersonation_chain: str | Sequence[str] | None = None,
        quota_project_id: str | None = None,
        scopes: str | Sequence[str] = (CLOUD_PLATFORM,),
        iam_endpoint: str | None = None,
    ) -> None:
        if sum(bool(source) for source in (key_path, key_info, credential_config_file)) > 1:
            raise ConfigurationError(f"give only one of key_path, {_KEY_INFO} and credential_config_file")
        self._key_path, self._config = key_path or None, credential_config_file or None
        if isinstance(self._config, str) and self._config.lstrip().startswith("{"):
            self._config = _json_object(self._config, "credential_config_file")
        self._key_info = _json_object(key_info, _KEY_INFO) if isinstance(key_info, str) and key_info else key_info
        self._chain = _items(impersonation_chain)
        if not all(_ACCOUNT.fullmatch(account) for account in self._chain):
            raise ConfigurationError("impersonation_chain must be service account e-mails, separated by commas")
        self._scopes = _items(scopes) or (CLOUD_PLATFORM,)
        self._quota_project_id = quota_project_id or None
        self._iam_endpoint = _checked_endpoint(iam_endpoint) if iam_endpoint else None
        # Re-entrant: who wants headers may be the first to load the account.
        self._lock = threading.RLock()
        self._loaded: GoogleCredentials | None = None
        self._request: TokenRequest | None = None
        self._used = threading.local()

    def __repr__(self) -> str:
        return f"Google({self.identity})"

    @property
    def identity(self) -> str:
        """E-mail of the service account as far as it is known, else what kind of credentials these are."""
        if self._chain:
            return self._chain[-1]
        email = getattr(self._loaded, "service_account_email", None) or (self._key_info or {}).get("client_email")
        if isinstance(email, str) and "@" in email:
            return email
        if self._key_path or self._key_info:
            return "service account key"
        return "credential configuration file" if self._config else "application default credentials"

    def headers(self) -> dict[str, str]:
        """Give the Authorization header, and the quota project's if there is one; fetches a token when it is time.

        :raises ConfigurationError: If the credentials cannot be read, or there are none.
        :raises AuthorizationError: If the token was refused.
        :raises TransportError: If the token server did not answer, after some tries.
        :raises UnavailableError: If the token server could not answer, after some tries.
        """
        with self._lock:
            credentials = self.google_credentials()
            if not credentials.valid:
                self._renew(credentials)
            headers: dict[str, str] = {}
            credentials.apply(headers)
            self._used.token = credentials.token
            return headers

    def refresh(self) -> bool:
        """Forget the token that this thread used last, and the account's source with it; the next request reads anew.

        Several threads that were refused with the same token cause one renewal.
        """
        with self._lock:
            if self._loaded is not None and self._loaded.token == getattr(self._used, "token", None):
                self._loaded = None
            return True

    def google_credentials(self) -> GoogleCredentials:
        """Give google-auth's object, for Google's own clients; it may not hold a token yet.

        :raises ConfigurationError: If the credentials cannot be read, or there are none.
        """
        with self._lock:
            if self._loaded is None:
                self._loaded = self._load()
            return self._loaded

    def _renew(self, credentials: GoogleCredentials) -> None:
        from google.auth.credentials import TokenState

        usable = credentials.token_state != TokenState.INVALID
        try:
            # google-auth renews some minutes early; while the old token still serves there is no need to wait here.
            (_ONCE if usable else _PATIENT).run(lambda: self._fetch(credentials))
        except DicomWebError as error:
            if not (usable and error.retryable):
                raise

    def _fetch(self, credentials: GoogleCredentials) -> None:
        """Get a token once.

        ``refresh`` and not ``before_request``: the latter also asks Google for regional boundaries, in a thread.
        """
        from google.auth.exceptions import GoogleAuthError

        request = self._token_request()
        request.forget()
        failure: DicomWebError
        try:
            credentials.refresh(request)
        except GoogleAuthError as error:
            failure = request.failure(error, self.identity)
        except (OSError, ValueError, KeyError) as error:
            failure = ConfigurationError(f"the Google credentials cannot be used: {type(error).__name__}")
        else:
            return
        # Not inside the handler: google-auth's message repeats what the token server wrote.
        raise failure

    def _token_request(self) -> TokenRequest:
        if self._request is None:
            self._request = TokenRequest()
        return self._request

    def _load(self) -> GoogleCredentials:
        from google.auth.exceptions import GoogleAuthError, TransportError

        failure: DicomWebError | None = None
        try:
            return self._impersonating(self._source())
        except ConfigurationError:
            raise
        except TransportError as error:
            failure = self._token_request().failure(error, self.identity)
        except (GoogleAuthError, ValueError, KeyError, TypeError, AttributeError):
            given = self._key_path or self._key_info or self._config
            problem = "the Google credentials given are not usable" if given else "no Google credentials were found"
        # Not inside the handler: google-auth's messages name files and repeat their content.
        raise failure or ConfigurationError(
            f"{problem}: give a service account key (key_path, or {_KEY_INFO}), a file that google-auth reads "
            "(credential_config_file), or none of them where Application Default Credentials are set up"
        )

    def _source(self) -> GoogleCredentials:
        import google.auth
        from google.oauth2 import service_account

        credentials: GoogleCredentials
        options: dict[str, Any] = {"request": self._token_request(), "quota_project_id": self._quota_project_id}
        if self._key_path or self._key_info:
            info = self._key_info or _read_json(self._key_path, "key_path")
            key = service_account.Credentials.from_service_account_info(info, scopes=self._scopes)
            credentials = key.with_quota_project(self._quota_project_id) if self._quota_project_id else key
            return credentials
        if self._config is None:
            credentials, _ = google.auth.default(scopes=self._scopes, **options)
            return credentials
        info = (
            dict(self._config)
            if isinstance(self._config, Mapping)
            else _read_json(self._config, "credential_config_file")
        )
        # google-auth's DeprecationWarning here is about files from strangers; this one comes from the connection. It is not
        # silenced: that would change the filters of all threads.
        credentials, _ = google.auth.load_credentials_from_dict(info, scopes=self._scopes, **options)
        return credentials

    def _impersonating(self, source: GoogleCredentials) -> GoogleCredentials:
        if not self._chain:
            return source
        from google.auth import impersonated_credentials

        *delegates, target = self._chain
        endpoint = self._iam_endpoint and (
            f"{self._iam_endpoint}/v1/projects/-/serviceAccounts/{target}:generateAccessToken"
        )
        return impersonated_credentials.Credentials(
            source,
            target_principal=target,
            target_scopes=list(self._scopes),
            delegates=delegates,
            quota_project_id=self._quota_project_id,
            iam_endpoint_override=endpoint,
        )


def _checked_endpoint(url: str) -> str:
    parts = urlsplit(url)
    secure = parts.scheme == "https" or (parts.scheme == "http" and is_loopback(parts.hostname or ""))
    if not secure or not parts.hostname or "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigurationError("iam_endpoint must be an https:// URL with a host and without user info or query")
    return url.rstrip("/")


def _items(value: str | Sequence[str] | None) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else (value or ())
    return tuple(part.strip() for part in parts if part.strip())


def _read_json(path: Any, argument: str) -> dict[str, Any]:
    try:
        return _json_object(Path(path).read_text(encoding="utf-8"), argument)
    except OSError as error:
        problem = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        problem = "not UTF-8"
    raise ConfigurationError(f"the file given as {argument} for Google credentials cannot be read: {problem}")


def _json_object(text: str, argument: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        # Not chained: the parser's error carries the text, which holds a private key.
        raise ConfigurationError(f"{argument} for Google credentials must be a JSON object") from None
    return value
