"""The Orthanc that the other tests use is the server that they need."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from tests.servers import missing
from tests.servers.orthanc import Orthanc


def test_orthanc_refuses_a_request_without_a_password(orthanc: Orthanc) -> None:
    with pytest.raises(urllib.error.HTTPError) as refusal:
        urllib.request.urlopen(f"{orthanc.dicomweb_url}/studies", timeout=30)
    refusal.value.close()
    assert refusal.value.code == 401


def test_an_empty_orthanc_finds_no_study(empty_orthanc: Orthanc) -> None:
    assert json.loads(empty_orthanc.get("/dicom-web/studies")) == []


def test_orthanc_listens_on_loopback_and_serves_dicomweb(orthanc: Orthanc) -> None:
    assert orthanc.url.startswith("http://127.0.0.1:")
    assert "dicom-web" in json.loads(orthanc.get("/plugins"))


@pytest.mark.parametrize(("ci", "outcome"), [("true", pytest.fail.Exception), ("", pytest.skip.Exception)])
def test_a_missing_server_is_a_failure_where_ci_runs(
    ci: str, outcome: type[BaseException], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    with pytest.raises(outcome, match="apt-get install"):
        missing("not installed: apt-get install it")
