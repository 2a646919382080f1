"""The fields of a connection's extra, and the ones that are read of a Google connection's.

A field that is misspelt would do the opposite of what was meant, and nobody would notice: it is an error. One that is
like none of ours is somebody else's, of a secrets backend or of a site's own tools: it is left alone, and named in a
warning.

Source: Apache Airflow, "Connections & hooks"; the Google provider's "Google Cloud connection".
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Mapping
from typing import Any

from airflow_dicomweb.errors import ConfigurationError

_log = logging.getLogger(__name__)

PREFIXES = ("qido_prefix", "wado_prefix", "stow_prefix")

_GOOGLE_FIELDS = ("key_path", "keyfile_dict", "credential_config_file", "impersonation_chain", "quota_project_id")
_GOOGLE_PREFIX = "extra__google_cloud_platform__"

EXTRAS = (
    *("dicom_store", "api_version", "server", "auth", "gcp_conn_id", *_GOOGLE_FIELDS, "scopes"),
    *("request_timeout", "verify", "client_cert", *PREFIXES, "allow_insecure_auth"),
)
"""The fields of a connection's extra that are read."""

# What somebody may write who knows another client or another connection type.
_OTHER_NAMES = {"key_info": "keyfile_dict", "scope": "scopes", "timeout": "request_timeout", "server_type": "server"}


def read_extra(extra: object, conn_id: str) -> dict[str, Any]:
    """Take the fields that say something: a form leaves the others empty.

    :raises ConfigurationError: If it is no JSON object, or a field is misspelt.
    """
    if not isinstance(extra, Mapping):
        raise ConfigurationError(f"the extra of connection {conn_id!r} must be a JSON object")
    given = {key: value for key, value in extra.items() if value not in (None, "")}
    if "audit_uri" in given:
        raise ConfigurationError("audit_uri: this version writes no audit records; remove it from the connection")
    for key in unknown_extras(given):
        meant = _nearest(key)
        if meant:
            raise ConfigurationError(f"the extra of connection {conn_id!r} has {key!r}: did you mean {meant!r}?")
    return {key: value for key, value in given.items() if key in EXTRAS}


def unknown_extras(extra: Mapping[str, Any]) -> list[str]:
    """Name the fields that nobody here reads; those with an underscore in front are Airflow's own."""
    return sorted(key for key in map(str, extra) if key not in EXTRAS and not key.startswith("_"))


def warn_of_unknown(extra: Mapping[str, Any], conn_id: str) -> None:
    """Say which fields have no effect."""
    if unknown := unknown_extras(extra):
        shown = ", ".join(repr(key[:40]) for key in unknown)
        _log.warning(
            "connection %r: these fields of its extra have no effect: %s; accepted are %s",
            conn_id,
            shown,
            ", ".join(EXTRAS),
        )


def read_google_extra(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Read the extras of a ``google_cloud_platform`` connection under our names."""
    plain = {key.removeprefix(_GOOGLE_PREFIX): value for key, value in extra.items() if value not in (None, "")}
    for exotic in ("key_secret_name", "idp_issuer_url"):
        if plain.get(exotic):
            raise ConfigurationError(
                f"the Google connection uses {exotic}, which is not supported here: key_path, keyfile_dict, "
                "credential_config_file or Application Default Credentials are"
            )
    found = {name: plain[name] for name in _GOOGLE_FIELDS if name in plain}
    return {**found, "scopes": plain["scope"]} if "scope" in plain else found


def _nearest(key: str) -> str | None:
    plain = key.strip().lower().replace("-", "_").removeprefix("extra__dicomweb__")
    if plain in EXTRAS:
        return plain
    return _OTHER_NAMES.get(plain) or next(iter(difflib.get_close_matches(plain, EXTRAS, 1, 0.8)), None)
