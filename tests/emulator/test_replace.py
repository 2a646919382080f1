"""``PUT`` of v1beta1: stored, or replaced."""

from __future__ import annotations

import subprocess
import threading

import pytest

from airflow_dicomweb.emulator import running_emulator
from tests.emulator.api import Api, envelope, instance, multipart
from tests.emulator.test_durability import STORE, files_in

PLACE = "studies/1.1/series/1.1.1/instances/1.1.1.1"
AS_STORED = "application/dicom; transfer-syntax=*"


def put(api, *bodies, study="", content_type="multipart/related; boundary=XX"):
    """Send instances; a store answers in JSON."""
    beta = api.web.replace("/v1/", "/v1beta1/")
    body = multipart(bodies) if content_type.startswith("multipart") else bodies[0]
    headers = {"Content-Type": content_type, "Accept": "application/dicom+json"}
    return api.ask("PUT", f"{beta}/studies/{study}".rstrip("/"), data=body, headers=headers)


def test_a_new_instance_is_stored(api):
    answer = put(api, instance())
    assert answer.status_code == 200
    base = api.web.replace("/v1/", "/v1beta1/")
    assert answer.json()["00081199"]["Value"][0]["00081190"]["Value"] == [f"{base}/{PLACE}"]
    assert api.get(PLACE, AS_STORED).content == instance()


def test_an_instance_that_is_there_is_replaced_whole(api):
    api.store(instance(PatientID="old"), instance(uid="1.1.1.2"))
    answer = put(api, instance(PatientID="new"), content_type="application/dicom")
    assert answer.status_code == 200
    assert "00081198" not in answer.json()
    assert api.get(PLACE, AS_STORED).content == instance(PatientID="new")
    assert len(api.tuples()) == 2
    assert api.get("studies?PatientID=old").status_code == 204
    assert len(api.get("instances?PatientID=new").json()) == 1


def test_the_same_bytes_again_change_nothing(api):
    assert put(api, instance()).content == put(api, instance()).content
    assert len(api.tuples()) == 1


def test_the_last_of_two_parts_with_one_identity_stays(api):
    api.store(instance())
    assert put(api, instance(PatientID="A"), instance(PatientID="B")).status_code == 200
    assert api.get(PLACE, AS_STORED).content == instance(PatientID="B")


def test_an_instance_of_another_study_than_the_urls_replaces_nothing(api):
    api.store(instance())
    assert put(api, instance(PatientID="A"), study="1.2").status_code == 409
    assert put(api, b"no DICOM at all").status_code == 409
    assert api.get(PLACE, AS_STORED).content == instance()
    assert put(api, instance(PatientID="A"), study="1.1").status_code == 200


def test_a_study_that_is_being_deleted_takes_no_replacement(api):
    api.store(instance())
    api.emulator.set_operation_seconds(600)
    name = api.ask("DELETE", "studies/1.1").json()["name"]
    assert put(api, instance(PatientID="A")).status_code == 409
    api.ask("POST", f"{api.root}/{name}:cancel")
    api.ended(name)
    assert put(api, instance(PatientID="A")).status_code == 200


def test_only_v1beta1_replaces_and_not_from_metadata(api):
    envelope(api.ask("PUT", "studies", data=instance(), headers={"Content-Type": "application/dicom"}), 405)
    envelope(put(api, instance(), content_type='multipart/related; type="application/dicom+json"; boundary=XX'), 400)
    envelope(put(api, b"", content_type="text/plain"), 400)
    assert api.tuples() == []


def test_curl_replaces_an_instance(api, tmp_path):
    api.store(instance())
    (tmp_path / "new.dcm").write_bytes(instance(PatientID="A"))
    command = ["curl", "-sS", "-f", "-T", str(tmp_path / "new.dcm"), "-H", "Authorization: Bearer token"]
    command += ["-H", "Content-Type: application/dicom", f"{api.web.replace('/v1/', '/v1beta1/')}/studies"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    assert "ReferencedSOPSequence" in done.stdout
    assert api.get(PLACE, AS_STORED).content == instance(PatientID="A")


@pytest.mark.parametrize("clients", [4])
def test_replacements_at_once_leave_one_whole_instance_and_no_files_besides(tmp_path, clients):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:

        def replace(number):
            api = Api(emulator)
            for turn in range(10):
                assert put(api, instance(PatientID=f"{number}.{turn}")).status_code == 200

        threads = [threading.Thread(target=replace, args=[number]) for number in range(clients)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        api = Api(emulator)
        content = api.get(PLACE, AS_STORED).content
        assert content in {instance(PatientID=f"{number}.9") for number in range(clients)}
        assert len(files_in(tmp_path / "data" / "instances")) == len(api.tuples()) == 1
    assert files_in(tmp_path / "data" / "incoming") == []
