"""The hook, from every kind of connection to an answer."""

from __future__ import annotations

import asyncio
import json

import pytest

from airflow_dicomweb.dicomweb import DicomWebClient
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.hooks import DicomWebHook


def test_making_a_hook_reads_nothing():
    hook = DicomWebHook("no_such_connection", dicom_store="..", impersonation_chain=["nobody"])
    assert hook.dicomweb_conn_id == "no_such_connection"


def test_a_connection_with_a_dicom_store_gives_a_healthcare_client(store, study):
    with DicomWebHook().get_conn() as client:
        assert isinstance(client, HealthcareClient)
        assert [found["StudyInstanceUID"] for found in client.search_studies()] == [study]


def test_a_connection_to_another_server_gives_a_dicomweb_client(store, study, set_connection):
    set_connection("pacs", host=store.dicom_web_url, password="loopback-token", extra={"auth": "bearer"})
    with DicomWebHook("pacs").get_conn() as client:
        assert type(client) is DicomWebClient
        assert [found["StudyInstanceUID"] for found in client.search_studies()] == [study]
    with pytest.raises(ConfigurationError, match="needs a DICOM store"):
        DicomWebHook("pacs").get_healthcare_conn()


def test_the_argument_leads_to_another_store(store, study, set_connection):
    other = store.create_store(store.dicom_store.replace("images", "other"))
    with DicomWebHook(dicom_store="other").get_healthcare_conn() as client:
        assert str(client.dicom_store) == other.dicom_store
        assert list(client.search_studies()) == []


def test_the_connection_is_read_on_an_event_loop_too(store):
    hook = DicomWebHook()
    assert asyncio.run(hook.asettings()) == hook.settings()


def test_google_credentials_are_application_default_ones_unless_told_otherwise(
    store, study, set_connection, token_server
):
    set_connection(host=store.base_url, extra={"dicom_store": store.dicom_store})
    ok, message = DicomWebHook().test_connection()
    assert ok, message
    assert token_server.tokens


@pytest.mark.parametrize("where", ["key file", "key in the connection", "google connection"])
def test_google_credentials_come_from_a_key(store, study, set_connection, token_server, tmp_path, where):  # noqa: PLR0917
    key = token_server.write_key(tmp_path / "key.json", "night@p.iam.gserviceaccount.com")
    extra = {"dicom_store": store.dicom_store}
    if where == "key file":
        extra["key_path"] = str(tmp_path / "key.json")
    elif where == "key in the connection":
        extra["keyfile_dict"] = json.dumps(key)
    else:
        set_connection("google_night", conn_type="google_cloud_platform", extra={"keyfile_dict": json.dumps(key)})
        extra["gcp_conn_id"] = "google_night"
    set_connection(host=store.base_url, extra=extra)
    with DicomWebHook().get_conn() as client:
        assert len(list(client.search_studies())) == 1
    assert token_server.tokens
    ok, message = DicomWebHook().test_connection()
    assert ok, message
    assert ("night@p.iam.gserviceaccount.com" in message) is (where != "key file")


@pytest.mark.parametrize("stored", [True, False])
def test_a_test_of_the_connection_says_where_who_and_how_it_went(store, stored, request):
    if stored:
        request.getfixturevalue("study")
    ok, message = DicomWebHook().test_connection()
    assert ok
    for words in (store.base_url, store.dicom_store, "bearer token", "200", "studies found"):
        assert words in message
    assert ("no studies found" in message) is not stored
    assert store.requests()[-1]["status"] == (200 if stored else 204)


def test_a_login_and_a_password_are_enough_for_another_server(orthanc, set_connection):
    set_connection(host=orthanc.dicomweb_url, login=orthanc.user, password=orthanc.password)
    ok, message = DicomWebHook().test_connection()
    assert ok, message
    assert f"basic user '{orthanc.user}'" in message
    assert orthanc.password not in message


def test_a_test_of_a_connection_that_is_refused_says_the_status_and_who_asked(store, set_connection):
    store.faults({"method": "GET", "match": "/dicomWeb/studies", "status": 403, "times": 1})
    set_connection(host=store.base_url, password="token", extra={"dicom_store": store.dicom_store, "auth": "bearer"})
    ok, message = DicomWebHook().test_connection()
    assert not ok
    assert store.faults()[0]["fired"] == 1
    for words in (store.base_url, "403", "bearer token"):
        assert words in message


def test_a_test_of_a_connection_without_a_server_says_so(set_connection):
    set_connection(host="http://127.0.0.1:9/dicom-web")
    ok, message = DicomWebHook().test_connection()
    assert not ok
    assert "127.0.0.1:9" in message


def test_a_test_of_a_connection_that_cannot_be_meant_says_what_would_be_accepted(set_connection):
    set_connection(login="user")
    ok, message = DicomWebHook().test_connection()
    assert (ok, "neither a host nor a dicom_store" in message) == (False, True)
