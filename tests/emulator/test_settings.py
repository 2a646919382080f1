"""Switches: each changes what it says, and nothing for good."""

from __future__ import annotations

from pathlib import Path

import pytest
import requests
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from airflow_dicomweb.emulator.settings import Settings
from airflow_dicomweb.errors import ConfigurationError
from tests.emulator.api import envelope, instance

DOCUMENT = Path(__file__).parents[2] / "docs" / "emulator.md"


def test_every_setting_is_documented_and_shown(api):
    page = requests.get(api.emulator.base_url, timeout=30).text
    for name in Settings().to_json():
        assert f"| `{name}` |" in DOCUMENT.read_text()
        assert name in page


def test_settings_are_taken_back(api):
    before = api.emulator.settings()
    assert before == Settings().to_json()
    assert api.emulator.settings(missing_status=403, operation_seconds=1)["missing_status"] == 403
    api.emulator.restore_settings()
    assert api.emulator.settings() == before


@pytest.mark.parametrize(
    "changes",
    [
        {"colour": "red"},
        {"empty_search_status": 404},
        {"missing_status": "404"},
        {"plain_study_delete": 1},
        {"rejected_tokens": "a"},
        {"partial_failure": None},
        {"operation_seconds": True},
    ],
)
def test_what_cannot_be_set_is_refused(api, changes):
    with pytest.raises(ConfigurationError, match=next(iter(changes))):
        api.emulator.settings(**changes)
    assert api.emulator.settings() == Settings().to_json()


def test_an_empty_search_can_be_an_empty_list(api):
    assert api.get("studies").status_code == 204
    api.emulator.settings(empty_search_status=200)
    answer = api.get("studies")
    assert (answer.status_code, answer.json()) == (200, [])


def test_what_is_missing_can_look_forbidden(api):
    api.emulator.settings(missing_status=403)
    envelope(api.get("studies/9.9"), 403)
    envelope(api.ask("DELETE", "studies/9.9"), 403)
    headers = {"Content-Type": "application/dicom"}
    envelope(api.ask("POST", f"{api.web.replace('test-', 'no-')}/studies", data=instance(), headers=headers), 403)
    api.emulator.restore_settings()
    envelope(api.get("studies/9.9"), 404)


def test_a_partial_failure_can_have_a_response(api, bucket):
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        for name, content in (("a", instance()), ("b", b"no DICOM at all")):
            client.bucket(bucket).blob(f"in/{name}").upload_from_string(content)
    body = {"gcsSource": {"uri": f"gs://{bucket}/in/*"}}
    api.emulator.settings(partial_failure="response")
    operation = api.run(api.ask("POST", f"{api.store_url}:import", json=body))
    assert operation["metadata"]["counter"] == {"success": "1", "failure": "1"}
    assert "error" not in operation
    assert operation["response"]["@type"].endswith("ImportDicomDataResponse")
    api.emulator.settings(partial_failure="error")
    operation = api.run(api.ask("POST", f"{api.store_url}:import", json=body))
    assert operation["error"]["code"] == 3
    assert "response" not in operation


def test_limits_can_be_clamped(api):
    api.store(instance())
    for query in ("limit=5001", "limit=0", "offset=1000001"):
        envelope(api.get(f"studies?{query}"), 400)
    api.emulator.settings(search_limits="clamp")
    assert len(api.get("studies?limit=5001").json()) == len(api.get("studies?limit=0").json()) == 1
    assert api.get("studies?offset=1000001").status_code == 204
    envelope(api.get("studies?limit=-1"), 400)


def test_unknown_attributes_can_be_ignored(api):
    api.store(instance())
    envelope(api.get("studies?StudyDescription=x"), 400)
    api.emulator.settings(unknown_attribute="ignore")
    assert len(api.get("studies?StudyDescription=x").json()) == 1
    assert api.get("studies?PatientID=x").status_code == 204


def test_v1beta1_can_delete_a_study_at_once(api):
    api.store(instance())
    api.emulator.settings(plain_study_delete=True)
    assert "name" in api.ask("DELETE", "studies/1.1").json()
    api.store(instance(study="1.2"))
    assert api.ask("DELETE", f"{api.web.replace('/v1/', '/v1beta1/')}/studies/1.2").json() == {}


def test_tokens_can_be_rejected(api):
    api.emulator.settings(rejected_tokens=["token"])
    envelope(api.get("studies"), 401)
    envelope(requests.get(f"{api.web}/studies?access_token=token", timeout=30), 401)
    assert requests.get(f"{api.web}/studies?access_token=other", timeout=30).status_code == 204
