"""The emulator's own routes, its page and its fixtures."""

from __future__ import annotations

import pytest
import requests

from airflow_dicomweb.errors import ConfigurationError
from tests.emulator.api import Api, envelope, instance


def control(api, method, path, **kwargs):
    return requests.request(method, f"{api.emulator.base_url}{path}", timeout=30, **kwargs)


def test_health_is_answered_without_a_token(api):
    assert control(api, "GET", "/_emulator/health").json() == {"status": "ok"}


def test_the_log_of_requests_has_no_query_values_and_not_the_emulators_own_routes(api):
    api.store(instance())
    api.get("studies?PatientName=Sentinel&limit=1")
    control(api, "GET", "/_emulator/health")
    control(api, "GET", "/")
    log = control(api, "GET", "/_emulator/requests")
    assert "Sentinel" not in log.text
    path = f"/v1/{api.emulator.dicom_store}/dicomWeb/studies"
    first, second = log.json()
    assert (first["method"], first["path"], first["status"]) == ("POST", path, 200)
    assert first["received"] == len(instance())
    assert (second["method"], second["path"], second["status"]) == ("GET", path, 204)
    assert second["parameters"] == ["PatientName", "limit"]
    assert second["seconds"] >= 0
    assert control(api, "DELETE", "/_emulator/requests").json() == {}
    assert api.emulator.requests() == []


def test_operations_take_as_long_as_the_settings_say(api):
    api.emulator.set_operation_seconds(2.5)
    assert control(api, "GET", "/_emulator/settings").json()["operation_seconds"] == 2.5
    for body in ({}, {"operation_seconds": -1}, {"operation_seconds": "1"}, {"operation_seconds": True}, {"x": 1}, []):
        envelope(control(api, "POST", "/_emulator/settings", json=body), 400)


@pytest.mark.parametrize("path", ["/_emulator/", "/_emulator/nothing", "/_emulator/logs/x", "/_emulator/health/x"])
def test_there_is_nothing_else(api, path):
    envelope(control(api, "GET", path), 404)
    envelope(control(api, "POST", "/_emulator/health"), 404)


def test_the_page_says_first_what_is_not_emulated_and_then_what_is_there(api):
    api.store(instance(PatientName="Sentinel^Patient"))
    api.emulator.faults({"match": "<script>", "status": 500})
    page = control(api, "GET", "/")
    assert page.headers["Content-Type"].startswith("text/html")
    text = page.text
    assert 0 < text.index("emulate") < text.index("de-identification") < text.index(api.emulator.dicom_store)
    assert "Sentinel" not in text
    assert "<script>" not in text


def test_each_test_has_a_store_of_its_own(dicomweb_emulator_server, dicomweb_emulator, api):
    assert dicomweb_emulator.dicom_store != dicomweb_emulator_server.dicom_store
    assert dicomweb_emulator.base_url == dicomweb_emulator_server.base_url
    assert dicomweb_emulator.requests() == []
    assert api.tuples() == []


def test_an_emulator_that_refuses_says_why(dicomweb_emulator):
    with pytest.raises(ConfigurationError, match="already exists"):
        dicomweb_emulator.create_store(dicomweb_emulator.dicom_store)


def test_v1_and_v1beta1_show_the_same_store(api):
    api.store(instance())
    beta = Api(api.emulator)
    beta.web = api.web.replace("/v1/", "/v1beta1/")
    assert beta.tuples() == api.tuples()
