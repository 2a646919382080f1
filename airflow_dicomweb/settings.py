"""What an Airflow connection says, as plain values from which a client is made.

The values are read where Airflow allows it: in a task, or on a triggerer's event loop. The client is made where it is
needed, in a thread too. Airflow itself is not known here.

Source: Apache Airflow, the Google provider's "Google Cloud connection" for the extras behind ``gcp_conn_id``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from airflow_dicomweb.dicomweb.habits import GOOGLE, GOOGLE_BETA, named
from airflow_dicomweb.dicomweb.resources import join_url
from airflow_dicomweb.dicomweb.retries import RetryPolicy, check_seconds
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.extras import PREFIXES
from airflow_dicomweb.healthcare.names import DicomStoreName

if TYPE_CHECKING:
    from airflow_dicomweb.dicomweb.auth import Credentials
    from airflow_dicomweb.dicomweb.client import DicomWebClient
    from airflow_dicomweb.healthcare.client import HealthcareClient
    from airflow_dicomweb.healthcare.gcs import Buckets

GOOGLE_BASE_URL = "https://healthcare.googleapis.com"

_API_VERSIONS = ("v1", "v1beta1")
_AUTH_KINDS = ("google", "basic", "bearer", "none")


class Connection(Protocol):
    """The fields of an Airflow connection that are read here."""

    conn_id: str
    host: str | None
    schema: str | None
    login: str | None
    password: str | None
    port: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClientSettings:
    """All that a client is made from.

    :param base_url: Address of the API, or the DICOMweb root.
    :param dicom_store: The DICOM store, for the Cloud Healthcare API.
    :param api_version: ``v1`` or ``v1beta1``, for the Cloud Healthcare API.
    :param auth: ``google``, ``basic``, ``bearer`` or ``none``.
    :param secrets: Arguments of the credentials, as JSON; never shown.
    :param transport: Further arguments of the client, as JSON.
    """

    base_url: str
    dicom_store: DicomStoreName | None = None
    api_version: str = "v1"
    auth: str = "none"
    secrets: str = field(default="{}", repr=False)
    transport: str = "{}"

    def credentials(self) -> Credentials:
        """Make the credentials; nothing is read or sent yet."""
        from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer, Google

        kinds = {"google": Google, "basic": Basic, "bearer": Bearer, "none": Anonymous}
        made: Credentials = kinds[self.auth](**json.loads(self.secrets))
        return made

    def buckets(self) -> Buckets:
        """Give access to Cloud Storage: with the connection's Google credentials, or else with the default ones."""
        from airflow_dicomweb.dicomweb.auth import Google
        from airflow_dicomweb.healthcare.gcs import Buckets

        credentials = self.credentials()
        return Buckets(credentials if isinstance(credentials, Google) else None)

    def client(
        self, *, retry_policy: RetryPolicy | None = None, request_timeout: float | None = None
    ) -> DicomWebClient | HealthcareClient:
        """Make the client that fits the server; nothing is sent yet.

        :param retry_policy: Another one than the default.
        :param request_timeout: Seconds; shortens what the connection says.
        :raises ConfigurationError: If the connection's values do not fit together.
        """
        if self.dicom_store is not None:
            return self.healthcare_client(retry_policy=retry_policy, request_timeout=request_timeout)
        from airflow_dicomweb.dicomweb.client import DicomWebClient

        return DicomWebClient(
            self.base_url,
            credentials=self.credentials(),
            buckets=self.buckets(),
            **self._options(retry_policy, request_timeout),
        )

    def healthcare_client(
        self, *, retry_policy: RetryPolicy | None = None, request_timeout: float | None = None
    ) -> HealthcareClient:
        """Make a client of the Cloud Healthcare API; nothing is sent yet.

        :param retry_policy: Another one than the default.
        :param request_timeout: Seconds; shortens what the connection says.
        :raises ConfigurationError: If the connection is to another kind of server, or its values do not fit together.
        """
        if self.dicom_store is None:
            raise ConfigurationError(
                "this needs a DICOM store of the Cloud Healthcare API: set dicom_store in the connection or as argument"
            )
        from airflow_dicomweb.healthcare.client import HealthcareClient

        return HealthcareClient(
            str(self.dicom_store),
            base_url=self.base_url,
            credentials=self.credentials(),
            api_version=self.api_version,
            **self._options(retry_policy, request_timeout),
        )

    def _options(self, retry_policy: RetryPolicy | None, request_timeout: float | None) -> dict[str, Any]:
        options: dict[str, Any] = json.loads(self.transport)
        if retry_policy is not None:
            options["retry_policy"] = retry_policy
        if request_timeout is not None:
            options["request_timeout"] = min(request_timeout, options.get("request_timeout", request_timeout))
        return options


def read_settings(
    connection: Connection,
    extra: Mapping[str, Any],
    google: Mapping[str, Any],
    *,
    dicom_store: str | None = None,
    impersonation_chain: str | Sequence[str] | None = None,
) -> ClientSettings:
    """Read a connection.

    :param connection: The connection.
    :param extra: Its extra, as :func:`~airflow_dicomweb.extras.read_extra` gives it.
    :param google: Extra of the Google connection that it names, as :func:`~airflow_dicomweb.extras.read_google_extra`
        gives it, or nothing.
    :param dicom_store: Another store than the connection's: a short id in the same dataset, or a full name.
    :param impersonation_chain: Other service accounts than the connection's.
    :raises ConfigurationError: If the connection or an argument is not what it should be.
    """
    store = _dicom_store(extra.get("dicom_store"), dicom_store)
    kind = _choice(extra, "auth", _AUTH_KINDS) or ("google" if store else "basic" if connection.login else "none")
    if connection.password and kind == "none" and "auth" not in extra:
        raise ConfigurationError(
            f"connection {connection.conn_id!r} has a password but no login: set auth to 'bearer' if it is a token"
        )
    if impersonation_chain and kind != "google":
        raise ConfigurationError(f"impersonation_chain needs the auth kind 'google', not {kind!r}")
    if store is not None and any(name in extra for name in PREFIXES):
        raise ConfigurationError(f"{', '.join(PREFIXES)} are for other servers than the Cloud Healthcare API")
    return ClientSettings(
        base_url=_base_url(connection, store),
        dicom_store=store,
        api_version=_choice(extra, "api_version", _API_VERSIONS) or "v1",
        auth=kind,
        secrets=json.dumps(_secrets(kind, connection, {**google, **extra}, impersonation_chain)),
        transport=json.dumps(_transport(extra) | _server(extra, store)),
    )


def _dicom_store(own: object, other: str | None) -> DicomStoreName | None:
    store = DicomStoreName.parse(own) if own is not None else None
    if other is None:
        return store
    return store.sibling(other) if store is not None else DicomStoreName.parse(other)


def _base_url(connection: Connection, store: DicomStoreName | None) -> str:
    host = (connection.host or "").strip()
    if not host:
        if store is not None:
            return GOOGLE_BASE_URL
        raise ConfigurationError(
            f"connection {connection.conn_id!r} has neither a host nor a dicom_store: set the base URL of a DICOMweb "
            "server, or projects/P/locations/L/datasets/D/dicomStores/S, or both"
        )
    scheme, separator, rest = host.rpartition("://")
    scheme = (scheme if separator else connection.schema or "https").lower()
    if scheme not in ("http", "https"):
        raise ConfigurationError(f"connection {connection.conn_id!r} has another scheme than http or https")
    authority, _, path = rest.partition("/")
    if connection.port and ":" not in authority.rpartition("]")[2]:
        authority += f":{connection.port}"
    return join_url(f"{scheme}://{authority}", path)


def _secrets(
    kind: str, connection: Connection, extra: Mapping[str, Any], chain: str | Sequence[str] | None
) -> dict[str, Any]:
    if kind == "basic":
        if not connection.login:
            raise ConfigurationError("the auth kind 'basic' needs a login and a password in the connection")
        return {"username": connection.login, "password": connection.password or ""}
    if kind == "bearer":
        if not connection.password:
            raise ConfigurationError("the auth kind 'bearer' needs the token as the password of the connection")
        return {"token": connection.password}
    if kind == "none":
        return {}
    config = extra.get("credential_config_file")
    arguments = {
        "key_path": extra.get("key_path"),
        "key_info": extra.get("keyfile_dict"),
        "credential_config_file": _json_object(config)
        if isinstance(config, str) and config.startswith("{")
        else config,
        "impersonation_chain": chain or extra.get("impersonation_chain"),
        "quota_project_id": extra.get("quota_project_id"),
        "scopes": extra.get("scopes"),
    }
    return {name: value for name, value in arguments.items() if value is not None}


def _transport(extra: Mapping[str, Any]) -> dict[str, Any]:
    options: dict[str, Any] = {name: str(extra[name]) for name in (*PREFIXES, "client_cert") if name in extra}
    if "request_timeout" in extra:
        options["request_timeout"] = _seconds(extra["request_timeout"], "request_timeout")
    if "verify" in extra:
        options["verify"] = _flag(extra["verify"])
    if "allow_insecure_auth" in extra:
        allowed = _flag(extra["allow_insecure_auth"])
        if not isinstance(allowed, bool):
            raise ConfigurationError("allow_insecure_auth in the connection must be true or false")
        options["allow_insecure_auth"] = allowed
    return options


def _server(extra: Mapping[str, Any], store: DicomStoreName | None) -> dict[str, str]:
    if "server" not in extra:
        return {}
    name = named(extra["server"]).name
    if store is None:
        return {"server": name}
    if name not in {GOOGLE.name, GOOGLE_BETA.name}:
        raise ConfigurationError(f"server {name!r} does not go with a dicom_store: that is always {GOOGLE.name!r}")
    return {}


def _choice(extra: Mapping[str, Any], name: str, accepted: tuple[str, ...]) -> str | None:
    value = extra.get(name)
    if value is None or value in accepted:
        return value
    raise ConfigurationError(f"{name} in the connection must be one of {', '.join(accepted)}")


def _seconds(value: object, name: str) -> float:
    try:
        return check_seconds(float(value) if isinstance(value, str) else value, f"{name} in the connection")
    except ValueError:
        raise ConfigurationError(f"{name} in the connection must be a number of seconds, more than 0") from None


def _flag(value: object) -> bool | str:
    """Read true or false, which a form gives as text; anything else is a path."""
    if isinstance(value, bool):
        return value
    return {"true": True, "false": False}.get(str(value).strip().lower(), str(value))


def _json_object(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        raise ConfigurationError("credential_config_file in the connection must be a path or a JSON object") from None
