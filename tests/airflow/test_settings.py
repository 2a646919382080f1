"""What is read from connections, and what is refused before anything is sent."""

from __future__ import annotations

import json

import pytest

from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer
from airflow_dicomweb.dicomweb.habits import SERVERS, STANDARD
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.settings import ClientSettings

STORE = "projects/p/locations/l/datasets/d/dicomStores/s"
OTHER = "projects/q/locations/m/datasets/e/dicomStores/t"


@pytest.fixture
def read(set_connection):
    """Read the settings of a connection with these fields."""

    def read_fields(*, dicom_store=None, impersonation_chain=None, extra=None, **fields) -> ClientSettings:
        set_connection(extra=extra, **fields)
        return DicomWebHook(dicom_store=dicom_store, impersonation_chain=impersonation_chain).settings()

    return read_fields


@pytest.mark.parametrize(
    ("fields", "base_url"),
    [
        ({"host": "http://pacs:8042/dicom-web"}, "http://pacs:8042/dicom-web"),
        ({"host": "http://pacs/dicom-web/", "port": 8042}, "http://pacs:8042/dicom-web"),
        ({"host": "pacs", "port": 8042, "schema": "http"}, "http://pacs:8042"),
        ({"host": "pacs/dicom-web", "schema": "HTTP"}, "http://pacs/dicom-web"),
        ({"host": "pacs"}, "https://pacs"),
        ({"host": "[::1]", "port": 1, "schema": "http"}, "http://[::1]:1"),
        ({"host": "http://[::1]:2/x", "port": 1}, "http://[::1]:2/x"),
        ({"extra": {"dicom_store": STORE}}, "https://healthcare.googleapis.com"),
        ({"host": "http://127.0.0.1:8085", "extra": {"dicom_store": STORE}}, "http://127.0.0.1:8085"),
    ],
)
def test_the_base_url_is_put_together_from_the_fields(read, fields, base_url):
    assert read(**fields).base_url == base_url


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"extra": {"dicom_store": STORE}}, "google"),
        ({"extra": {"dicom_store": STORE}, "login": "x", "password": "y"}, "google"),
        ({"extra": {"dicom_store": STORE, "auth": "none"}}, "none"),
        ({"host": "pacs", "login": "x", "password": "y"}, "basic"),
        ({"host": "pacs"}, "none"),
        ({"host": "pacs", "password": "y", "extra": {"auth": "bearer"}}, "bearer"),
        ({"host": "pacs", "extra": {"auth": "google"}}, "google"),
    ],
)
def test_the_kind_of_authentication_has_a_default_that_fits_the_server(read, fields, kind):
    assert read(**fields).auth == kind


def test_basic_bearer_and_no_credentials_are_made_of_login_and_password(read):
    assert read(host="pacs", login="x", password="y").credentials() == Basic("x", "y")
    assert read(host="pacs", password="y", extra={"auth": "bearer"}).credentials() == Bearer("y")
    assert read(host="pacs").credentials() == Anonymous()


def test_google_credentials_take_all_their_fields_from_the_connection(read):
    extra = {
        "dicom_store": STORE,
        "keyfile_dict": json.dumps({"client_email": "robot@p.iam.gserviceaccount.com"}),
        "impersonation_chain": "a@p, b@p",
        "quota_project_id": "q",
        "scopes": "https://www.googleapis.com/auth/cloud-healthcare",
    }
    secrets = json.loads(read(extra=extra).secrets)
    assert secrets == {
        "key_info": extra["keyfile_dict"],
        "impersonation_chain": "a@p, b@p",
        "quota_project_id": "q",
        "scopes": "https://www.googleapis.com/auth/cloud-healthcare",
    }
    assert read(extra=extra).credentials().identity == "b@p"
    assert read(extra=extra, impersonation_chain=["c@p"]).credentials().identity == "c@p"


@pytest.mark.parametrize("prefix", ["", "extra__google_cloud_platform__"])
def test_google_credentials_come_from_a_google_connection_that_is_named(read, set_connection, prefix):
    google = {"keyfile_dict": {"client_email": "robot@p"}, "scope": "one,two", "project": "p", "num_retries": 5}
    set_connection(
        "google_night",
        conn_type="google_cloud_platform",
        extra={f"{prefix}{name}": value for name, value in google.items()},
    )
    settings = read(extra={"dicom_store": STORE, "gcp_conn_id": "google_night", "quota_project_id": "q"})
    assert json.loads(settings.secrets) == {
        "key_info": {"client_email": "robot@p"},
        "scopes": "one,two",
        "quota_project_id": "q",
    }


def test_a_google_connection_of_an_exotic_kind_is_refused(read, set_connection):
    set_connection("google_night", conn_type="google_cloud_platform", extra={"key_secret_name": "k"})
    with pytest.raises(ConfigurationError, match="key_secret_name"):
        read(extra={"dicom_store": STORE, "gcp_conn_id": "google_night"})


@pytest.mark.parametrize(
    ("own", "argument", "used"),
    [(STORE, None, STORE), (STORE, "other", STORE[:-1] + "other"), (STORE, OTHER, OTHER), (None, OTHER, OTHER)],
)
def test_another_store_is_named_by_its_short_id_or_its_full_name(read, own, argument, used):
    extra = {"dicom_store": own} if own else {}
    assert str(read(extra=extra, dicom_store=argument).dicom_store) == used


def test_the_transport_gets_its_options_in_the_right_types(read):
    extra = {
        "request_timeout": "30",
        "verify": "false",
        "client_cert": "/etc/pki/client.pem",
        "qido_prefix": "qido",
        "allow_insecure_auth": True,
        "wado_prefix": "",
        "stow_prefix": None,
    }
    assert json.loads(read(host="pacs", extra=extra).transport) == {
        "request_timeout": 30.0,
        "verify": False,
        "client_cert": "/etc/pki/client.pem",
        "qido_prefix": "qido",
        "allow_insecure_auth": True,
    }
    assert json.loads(read(host="pacs", extra={"verify": "/etc/ca.pem"}).transport) == {"verify": "/etc/ca.pem"}


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({}, "neither a host nor a dicom_store"),
        ({"host": "ftp://pacs"}, "http or https"),
        ({"host": "pacs", "schema": "dicom-web"}, "http or https"),
        ({"extra": {"dicom_store": "s"}}, "projects/P/locations/L/datasets/D/dicomStores/S"),
        ({"host": "pacs", "dicom_store": "s"}, "projects/P/locations/L/datasets/D/dicomStores/S"),
        ({"extra": {"dicom_store": STORE}, "dicom_store": ".."}, "DICOM store name"),
        ({"host": "pacs", "extra": {"auth": "kerberos"}}, "google, basic, bearer, none"),
        ({"host": "pacs", "extra": {"auth": "basic"}}, "needs a login"),
        ({"host": "pacs", "extra": {"auth": "bearer"}}, "token as the password"),
        ({"host": "pacs", "password": "y"}, "password but no login"),
        ({"host": "pacs", "impersonation_chain": "a@p"}, "needs the auth kind 'google'"),
        ({"extra": {"dicom_store": STORE, "api_version": "v2"}}, "v1, v1beta1"),
        ({"host": "pacs", "extra": {"request_timeout": "soon"}}, "number of seconds"),
        ({"host": "pacs", "extra": {"request_timeout": 0}}, "more than 0"),
        ({"host": "pacs", "extra": {"allow_insecure_auth": "perhaps"}}, "true or false"),
        ({"host": "pacs", "extra": {"audit_uri": "gs://audit/x"}}, "writes no audit records"),
        ({"extra": {"dicom_store": STORE, "credential_config_file": "{"}}, "a path or a JSON object"),
        ({"extra": {"dicom_store": STORE, "qido_prefix": "qido"}}, "for other servers"),
        ({"host": "pacs", "extra": {"server": "ortanc"}}, "did you mean 'orthanc'"),
        ({"host": "pacs", "extra": {"server": "vendor neutral archive"}}, "standard, standard-with-delete, orthanc"),
        ({"host": "pacs", "extra": {"server": ["orthanc"]}}, "server must be one of"),
        ({"extra": {"dicom_store": STORE, "server": "orthanc"}}, "does not go with a dicom_store"),
        ({"extra": {"dicom_stor": STORE}}, "did you mean 'dicom_store'"),
        ({"host": "pacs", "extra": {"extra__dicomweb__verify": "false"}}, "did you mean 'verify'"),
        ({"host": "pacs", "extra": {"verfiy": "false"}}, "did you mean 'verify'"),
        ({"extra": {"dicom_store": STORE, "impersonation-chain": "a@p"}}, "did you mean 'impersonation_chain'"),
        ({"extra": {"dicom_store": STORE, "key_info": {"a": "b"}}}, "did you mean 'keyfile_dict'"),
        ({"extra": {"dicom_store": STORE, "keyfile_dict": "no json"}}, "keyfile_dict in a connection"),
        ({"extra": {"dicom_store": STORE, "keyfile_dict": "{}", "key_path": "k"}}, "keyfile_dict in a connection"),
    ],
)
def test_a_connection_that_cannot_be_meant_is_refused_with_what_would_be_accepted(read, fields, words):
    with pytest.raises(ConfigurationError, match=words):
        read(**fields).credentials()


@pytest.mark.parametrize(("server", "name"), [("orthanc", "orthanc"), (" Tiny_PACS ", "tiny-pacs"), ("dcm4chee",) * 2])
def test_a_connection_names_the_server_whose_habits_matter(read, server, name):
    with read(host="https://pacs", extra={"server": server}).client() as client:
        assert client.habits is SERVERS[name]


def test_a_server_that_is_not_named_counts_as_a_standard_one_and_a_dicom_store_always_is_googles(read):
    with read(host="https://pacs").client() as client:
        assert client.habits is STANDARD
    for extra, name in (
        ({}, "google"),
        ({"api_version": "v1beta1"}, "google-v1beta1"),
        ({"server": "google"}, "google"),
    ):
        with read(extra={"dicom_store": STORE, "auth": "none", **extra}).client() as client:
            assert client.habits is SERVERS[name]


def test_what_others_keep_in_an_extra_is_left_alone_and_named_in_a_warning(read, caplog):
    settings = read(host="pacs", extra={"cost_center": "radiology", "__extra__": "x", "verify": False})
    assert json.loads(settings.transport) == {"verify": False}
    (message,) = [each.getMessage() for each in caplog.records if each.name == "airflow_dicomweb.extras"]
    assert "'cost_center'" in message
    assert "no effect" in message
    assert "radiology" not in message
    assert "__extra__" not in message


@pytest.mark.parametrize("auth", ["basic", "bearer", "google"])
def test_credentials_over_plain_http_go_to_the_loopback_interface_alone(read, auth):
    fields = {"login": "x", "password": "y", "extra": {"auth": auth}}
    with pytest.raises(ConfigurationError, match="http"):
        read(host="http://pacs:8042/dicom-web", **fields).client()
    read(host="http://127.0.0.1:8042/dicom-web", **fields).client().close()


def test_settings_show_no_secret(read):
    shown = repr(read(host="pacs", login="x", password="hush")) + repr(DicomWebHook())
    assert "hush" not in shown


def test_a_server_without_a_dicom_store_gives_no_healthcare_client(read):
    with pytest.raises(ConfigurationError, match="needs a DICOM store"):
        read(host="pacs").healthcare_client()
