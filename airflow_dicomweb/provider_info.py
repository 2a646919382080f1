"""What Airflow learns about this provider from its entry point.

Called in every process of an Airflow, so nothing is imported here.

Source: Apache Airflow, ``provider_info.schema.json``; "Custom connection types" of the provider documentation.
"""

from __future__ import annotations

from typing import Any

INTEGRATION = "DICOMweb"


def get_provider_info() -> dict[str, Any]:
    """Give the provider's description as Airflow's schema wants it."""
    modules = {
        kind: [{"integration-name": INTEGRATION, "python-modules": [f"airflow_dicomweb.{kind}"]}]
        for kind in ("hooks", "operators", "sensors", "triggers")
    }
    return {
        "package-name": "airflow-dicomweb",
        "name": "DICOMweb",
        "description": (
            "Moves medical images in and out of DICOMweb servers, with Google's Cloud Healthcare API first: store, "
            "search, retrieve, import, export and delete, with long-running operations that are waited for without a "
            "worker."
        ),
        "integrations": [
            {
                "integration-name": INTEGRATION,
                "external-doc-url": "https://www.dicomstandard.org/using/dicomweb",
                "tags": ["protocol", "healthcare"],
            }
        ],
        **modules,
        "connection-types": [_connection_type()],
        "extra-links": ["airflow_dicomweb.links.OperationLink", "airflow_dicomweb.links.OperationLogsLink"],
        "asset-uris": [
            {
                "schemes": ["dicomweb"],
                "handler": "airflow_dicomweb.assets.sanitize_uri",
                "factory": "airflow_dicomweb.assets.create_asset",
            }
        ],
    }


def _connection_type() -> dict[str, Any]:
    return {
        "connection-type": "dicomweb",
        "hook-class-name": "airflow_dicomweb.hooks.DicomWebHook",
        "hook-name": "DICOMweb",
        "ui-field-behaviour": {
            "hidden-fields": [],
            "relabeling": {"host": "Base URL", "schema": "Scheme", "password": "Password or token"},
            "placeholders": {
                "host": "https://healthcare.googleapis.com, or a DICOMweb root such as http://pacs:8042/dicom-web",
                "schema": "http or https, when the base URL does not say",
                "login": "user name for basic authentication",
                "password": "password, or the token for bearer authentication",
            },
        },
        "conn-fields": {**_server_fields(), **_google_fields(), **_transport_fields()},
    }


def _server_fields() -> dict[str, Any]:
    return {
        "dicom_store": _text(
            "DICOM store",
            "projects/P/locations/L/datasets/D/dicomStores/S makes this a connection to the Cloud Healthcare API",
        ),
        "api_version": _choice("API version", "Version of the Cloud Healthcare API", ("v1", "v1beta1")),
        "server": _choice(
            "Server",
            "What the server is, where that matters and does not show; left empty: found out from its answers",
            ("standard", "standard-with-delete", "orthanc", "google", "google-v1beta1", "tiny-pacs", "dcm4chee"),
        ),
        "auth": _choice(
            "Authentication",
            "Left empty: google with a DICOM store, else basic with a login, else none",
            ("google", "basic", "bearer", "none"),
        ),
    }


def _google_fields() -> dict[str, Any]:
    return {
        "gcp_conn_id": _text("Google Cloud connection", "Take the Google credentials from this connection"),
        "keyfile_dict": _secret("Key file JSON", "Service account key, as JSON"),
        "key_path": _text("Key file path", "Service account key, as a file on the workers and triggerers"),
        "credential_config_file": _secret(
            "Credential configuration", "Workload identity federation: a path, or the JSON itself"
        ),
        "impersonation_chain": _text(
            "Impersonation chain", "Service accounts, separated by commas; the last one is impersonated"
        ),
        "quota_project_id": _text("Quota project", "Project that pays for the requests"),
        "scopes": _text("Scopes", "OAuth scopes, separated by commas; left empty: cloud-platform"),
    }


def _transport_fields() -> dict[str, Any]:
    return {
        "request_timeout": {
            "label": "Request time-out",
            "description": "Seconds for one HTTP request",
            "schema": {"type": ["number", "null"], "minimum": 1},
        },
        "verify": _text("Verify TLS", "true, false, or a path to a file of certificate authorities"),
        "client_cert": _text("Client certificate", "Path to a PEM file with certificate and key"),
        "qido_prefix": _text("Search prefix", "Path between the base URL and /studies for searches"),
        "wado_prefix": _text("Retrieve prefix", "The same for retrievals"),
        "stow_prefix": _text("Store prefix", "The same for stores"),
        "allow_insecure_auth": {
            "label": "Allow insecure authentication",
            "description": "Send credentials over plain http to a host that is not loopback",
            "schema": {"type": ["boolean", "null"], "default": False},
        },
    }


def _text(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"]}}


def _secret(label: str, description: str) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "format": "password"}}


def _choice(label: str, description: str, values: tuple[str, ...]) -> dict[str, Any]:
    return {"label": label, "description": description, "schema": {"type": ["string", "null"], "enum": [*values, None]}}
