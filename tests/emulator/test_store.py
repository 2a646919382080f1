"""Store transactions, by the vectors of the contract."""

from __future__ import annotations

import hashlib
import re
from xml.etree import ElementTree as ET

import pytest
import requests

from tests.emulator.api import SECONDARY_CAPTURE, VECTORS, envelope, instance, multipart

STORE = VECTORS["store"]
XML, JSON = "application/dicom+xml", "application/dicom+json"


def canonical(xml):
    """Give XML without blanks between elements, attributes in one order."""
    return ET.canonicalize(xml, strip_text=True)


def filled(template, api, **values):
    text = re.sub(r"https://healthcare\.googleapis\.com/\{API_VERSION\}/.*?/dicomWeb", api.web, template)
    for key, value in {"base": api.web, "sop_class": SECONDARY_CAPTURE, **values}.items():
        text = text.replace(f"{{{key}}}", value)
    return text


def case_ids():
    return {case["id"]: case for case in STORE["cases"]}


def test_a_new_instance_is_answered_with_the_printed_xml(api):
    answer = api.store(instance(), accept=None)
    case = case_ids()["ST-1"]
    assert (answer.status_code, answer.headers["Content-Type"]) == (case["status"], case["ctype"])
    expected = filled(
        STORE["success_xml_template"]["text"],
        api,
        STUDY="1.1",
        SERIES="1.1.1",
        INSTANCE="1.1.1.1",
        SOP_INSTANCE="1.1.1.1",
        SOP_CLASS=SECONDARY_CAPTURE,
    )
    assert canonical(answer.text) == canonical(expected)
    assert not answer.text.startswith("<?xml")


def test_json_is_answered_to_who_asks_for_it(api):
    answer = api.store(instance())
    case = case_ids()["ST-2"]
    assert (answer.status_code, answer.headers["Content-Type"]) == (case["status"], case["ctype"])
    base = api.web
    assert answer.json() == {
        "00081190": {"vr": "UR", "Value": [f"{base}/studies/1.1"]},
        "00081199": {
            "vr": "SQ",
            "Value": [
                {
                    "00081150": {"vr": "UI", "Value": [SECONDARY_CAPTURE]},
                    "00081155": {"vr": "UI", "Value": ["1.1.1.1"]},
                    "00081190": {"vr": "UR", "Value": [f"{base}/studies/1.1/series/1.1.1/instances/1.1.1.1"]},
                }
            ],
        },
    }
    assert list(STORE["success_json"]["body"]) == list(answer.json())


def test_the_same_bytes_again_are_stored_already(api):
    first, second = api.store(instance()), api.store(instance())
    assert first.status_code == second.status_code == case_ids()["ST-3"]["status"]
    assert first.content == second.content
    assert len(api.tuples()) == 1


def test_other_bytes_under_the_same_identity_are_refused_in_the_printed_words(api):
    api.store(instance())
    other = instance(PatientID="other")
    as_xml, as_json = api.store(other, accept=None), api.store(other)
    assert as_xml.status_code == as_json.status_code == STORE["failure_xml"]["status"]
    expected = filled(STORE["failure_xml"]["body"], api, study="1.1", sop_instance="1.1.1.1")
    assert canonical(as_xml.text) == canonical(expected)
    failed = as_json.json()["00081198"]["Value"][0]
    expected_item = STORE["failure_json"]["body"]["00081198"]["Value"][0]
    assert failed["00081197"] == expected_item["00081197"]
    assert failed["00091097"] == expected_item["00091097"]
    assert list(failed) == list(expected_item)


def test_what_can_be_stored_is_stored_beside_what_cannot(api):
    api.store(instance())
    answer = api.store(instance(PatientID="other"), instance(uid="1.1.1.2"))
    assert answer.status_code == case_ids()["ST-5"]["status"]
    body = answer.json()
    assert [len(body[tag]["Value"]) for tag in ("00081198", "00081199")] == [1, 1]
    assert body["00081199"]["Value"][0]["00081155"]["Value"] == ["1.1.1.2"]
    assert sorted(uid for _, _, uid in api.tuples()) == ["1.1.1.1", "1.1.1.2"]


def test_an_instance_of_another_study_than_the_urls_is_refused(api):
    answer = api.store(instance(study="1.2"), study="1.1")
    assert answer.status_code == case_ids()["ST-6"]["status"]
    assert answer.json()["00081190"]["Value"] == [f"{api.web}/studies/1.1"]
    assert api.tuples() == []
    assert api.store(instance(study="1.2"), study="1.2").status_code == 200


@pytest.mark.parametrize("body", [b"no DICOM at all", b"", bytes(128) + b"DICM", bytes(128) + b"DICM" + bytes(50)])
def test_what_is_no_dicom_file_is_named_as_failed(api, body):
    answer = api.store(body)
    assert answer.status_code == case_ids()["ST-8"]["status"]
    failed = answer.json()["00081198"]["Value"]
    assert len(failed) == 1
    assert failed[0]["00081197"]["Value"] == [272]
    assert failed[0]["00091097"]["Value"][0]
    assert "00081199" not in answer.json()


@pytest.mark.parametrize("uid", ["", "1.2.x", "..", "1..2", "1." * 32 + "1", " "])
def test_an_instance_without_a_usable_identity_is_refused(api, uid):
    answer = api.store(instance(series=uid))
    assert answer.status_code == 409
    assert "SeriesInstanceUID" in answer.json()["00081198"]["Value"][0]["00091097"]["Value"][0]
    assert api.tuples() == []


@pytest.mark.parametrize("content_type", ["application/x-www-form-urlencoded", "text/plain", "", "application/json"])
def test_other_media_types_are_a_bad_request(api, content_type):
    answer = api.ask("POST", "studies", data=instance(), headers={"Content-Type": content_type})
    envelope(answer, case_ids()["ST-8b"]["status"])


def test_an_unknown_storage_class_is_a_bad_request_and_a_known_one_is_not(api):
    envelope(api.store(instance(), **{"Storage-Class": "BOGUS"}), case_ids()["ST-10"]["status"])
    assert api.tuples() == []
    assert api.store(instance(), **{"Storage-Class": "NEARLINE"}).status_code == 200


def test_nobody_stores_without_a_token(api):
    answer = requests.post(f"{api.web}/studies", data=instance(), headers={"Content-Type": "application/dicom"})
    envelope(answer, case_ids()["ST-11"]["status"])
    assert answer.headers["WWW-Authenticate"].startswith("Bearer")
    basic = requests.post(f"{api.web}/studies", data=instance(), auth=("user", "password"))
    envelope(basic, 401)
    with_parameter = requests.post(
        f"{api.web}/studies?access_token=x", data=instance(), headers={"Content-Type": "application/dicom"}
    )
    assert with_parameter.status_code == 200


def test_a_cut_multipart_body_stores_nothing(api):
    headers = {"Content-Type": 'multipart/related; type="application/dicom"; boundary=XX'}
    whole = multipart([instance(), instance(uid="1.1.1.2")])
    for body in (whole[: len(whole) // 2], whole[:-2], b"", b"--XX--", b"nothing"):
        envelope(api.ask("POST", "studies", data=body, headers=headers), 400)
    assert api.tuples() == []


@pytest.mark.parametrize(
    ("content_type", "status"),
    [
        ('multipart/related; type="application/dicom"', 400),
        (f'multipart/related; type="application/dicom"; boundary={"x" * 71}', 400),
        ('multipart/related; type="image/jpeg"; boundary=XX', 400),
        ('multipart/related; type="application/dicom+json"; boundary=XX', 400),
        ("multipart/related; boundary=XX", 200),
        ("multipart/related; type=application/dicom; boundary=XX", 200),
        ('Multipart/Related; Boundary="XX"; Type="application/dicom"', 200),
    ],
)
def test_the_type_of_a_multipart_body_is_parsed(api, content_type, status):
    answer = api.ask("POST", "studies", data=multipart([instance()]), headers={"Content-Type": content_type})
    assert answer.status_code == status, answer.text


def test_parts_of_other_types_are_a_bad_request(api):
    body = multipart([instance()]).replace(b"application/dicom", b"image/jpeg")
    answer = api.ask("POST", "studies", data=body, headers={"Content-Type": "multipart/related; boundary=XX"})
    assert "image/jpeg" in envelope(answer, 400)


@pytest.mark.parametrize(
    ("accept", "status", "content_type"),
    [
        *(
            (c["accept"], 406 if c["returns"] == 406 else 200, c["returns"])
            for c in VECTORS["accept"]
            if c["op"] == "store"
        ),
        ("application/json", 200, JSON),
        ("application/dicom+xml;q=0.1, application/dicom+json", 200, JSON),
        ("application/dicom+json;q=0.1, */*", 200, XML),
    ],
)
def test_the_answer_has_the_form_that_is_accepted(api, accept, status, content_type):
    answer = api.store(instance(), accept=accept)
    if status == 406:
        envelope(answer, 406)
        assert api.tuples() == []
    else:
        assert (answer.status_code, answer.headers["Content-Type"]) == (status, content_type)


def test_instances_of_several_studies_have_no_url_in_common(api):
    body = api.store(instance(), instance(study="1.2")).json()
    assert "00081190" not in body
    assert len(body["00081199"]["Value"]) == 2


def test_the_second_of_two_parts_with_one_identity_is_a_conflict(api):
    answer = api.store(instance(), instance(PatientID="other"))
    assert answer.status_code == 409
    stored = api.get("studies/1.1/series/1.1.1/instances/1.1.1.1", "application/dicom; transfer-syntax=*")
    assert hashlib.sha256(stored.content).digest() == hashlib.sha256(instance()).digest()


def test_the_urls_of_an_answer_have_the_version_and_host_of_the_request(api):
    beta = api.web.replace("/v1/", "/v1beta1/").replace("127.0.0.1", "localhost")
    answer = api.ask(
        "POST", f"{beta}/studies", data=instance(), headers={"Content-Type": "application/dicom", "Accept": JSON}
    )
    assert answer.json()["00081190"]["Value"] == [f"{beta}/studies/1.1"]


def test_a_body_of_unknown_length_is_stored(api):
    def blocks():
        for start in range(0, len(body), 7):
            yield body[start : start + 7]

    body = multipart([instance(), instance(uid="1.1.1.2")])
    headers = {"Content-Type": "multipart/related; boundary=XX"}
    assert api.ask("POST", "studies", data=blocks(), headers=headers).status_code == 200
    assert len(api.tuples()) == 2
