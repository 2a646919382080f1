"""Searches, by the vectors of the contract."""

from __future__ import annotations

import pytest

from airflow_dicomweb.emulator.attributes import COLUMNS
from airflow_dicomweb.emulator.matching import fuzzy_match
from airflow_dicomweb.emulator.qido import LIMITS, MAX_OFFSET
from tests.emulator.api import FURTHER, VECTORS, envelope, instance

QIDO = VECTORS["qido"]
UID_TAGS = {"studies": "0020000D", "series": "0020000E", "instances": "00080018"}
WITH_EXPECTATION = [case for case in (*QIDO["cases"], *FURTHER["qido"]["cases"]) if "same_as" not in case]


@pytest.fixture
def filled(api):
    """The store of the vectors."""
    for study in QIDO["store"]:
        common = {key: value for key, value in study.items() if key not in {"study", "series"}}
        for series in study["series"]:
            bodies = [
                instance(study["study"], series["uid"], uid, Modality=series["Modality"], **common)
                for uid in series["instances"]
            ]
            assert api.store(*bodies).status_code == 200
    return api


@pytest.mark.parametrize("case", WITH_EXPECTATION, ids=lambda case: case["id"])
def test_a_search_finds_what_the_contract_says(filled, case):
    answer = filled.get(f"{case['path']}?{case['query']}")
    assert answer.status_code == case["status"], answer.text
    if case["status"] == 400:
        assert case.get("body_contains", "") in envelope(answer, 400)
        return
    if case["status"] == 204:
        assert answer.content == b""
        return
    assert answer.headers["Content-Type"] == "application/dicom+json"
    for level, tag in UID_TAGS.items():
        if level in case:
            assert [item[tag]["Value"][0] for item in answer.json()] == case[level]
    if "count" in case:
        assert len(answer.json()) == case["count"]


def test_plus_and_percent_20_are_the_same_blank(api):
    api.store(instance(PatientName="Sally Zhang"))
    for query in ("PatientName=Sally%20Zhang", "PatientName=Sally+Zhang"):
        assert len(api.get(f"studies?{query}").json()) == 1


def test_the_limits_are_the_documented_ones():
    defaults = QIDO["defaults"]
    assert {level: limits[0] for level, limits in LIMITS.items()} == defaults["limit"]
    assert {level: limits[1] for level, limits in LIMITS.items()} == defaults["max_limit"]
    assert defaults["max_offset"] == MAX_OFFSET


def test_the_attributes_that_can_be_matched_are_the_documented_ones():
    documented = list(QIDO["searchable"]["study"])
    assert list(COLUMNS["studies"]) == documented
    documented += [name.lstrip("+") for name in QIDO["searchable"]["series"]]
    assert list(COLUMNS["series"]) == documented
    documented += [name.lstrip("+") for name in QIDO["searchable"]["instance"]]
    assert list(COLUMNS["instances"]) == documented


def test_pages_are_in_one_order_and_overlap_nowhere(api):
    uids = [f"1.1.1.{number}" for number in range(1, 8)]
    for uid in uids:
        api.store(instance(uid=uid))
    pages = [api.get(f"instances?limit=3&offset={offset}") for offset in (0, 3, 6, 9)]
    found = [[item["00080018"]["Value"][0] for item in page.json()] for page in pages[:3]]
    assert [len(page) for page in found] == [3, 3, 1]
    assert [*found[0], *found[1], *found[2]] == uids
    assert pages[3].status_code == 204


@pytest.mark.parametrize("query", ["limit=0", "limit=-1", "limit=x", "offset=-1", "fuzzymatching=maybe", "limit="])
def test_numbers_and_flags_that_cannot_be_are_a_bad_request(api, query):
    envelope(api.get(f"studies?{query}"), 400)


@pytest.mark.parametrize(
    ("level", "name"),
    [
        ("studies", "Modality"),
        ("studies", "SeriesInstanceUID"),
        ("series", "SOPInstanceUID"),
        ("instances", "SOPClassUID"),
        ("studies", "ModalitiesInStudy"),
        ("studies", "00080061"),
        ("studies", "NoSuchAttribute"),
        ("studies", "TimezoneOffsetFromUTC"),
    ],
)
def test_attributes_of_lower_levels_and_others_cannot_be_matched(api, level, name):
    assert f"unknown/unsupported QIDO attribute: {name}" in envelope(api.get(f"{level}?{name}=1"), 400)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("20240105", True),
        ("20240104-20240106", True),
        ("20240105-20240105", True),
        ("-20240105", True),
        ("20240106-", False),
        ("20240101-20240104", False),
        ("", True),
    ],
)
def test_dates_are_matched_alone_and_in_ranges(api, query, found):
    api.store(instance(StudyDate="20240105"))
    api.store(instance(study="1.9"))
    studies = [] if not found else ["1.1"]
    answer = api.get(f"studies?StudyDate={query}&StudyInstanceUID=1.1")
    assert [item["0020000D"]["Value"][0] for item in (answer.json() if answer.content else [])] == studies


@pytest.mark.parametrize("query", ["2024", "2024-01-05", "-", "today", "20240105-x"])
def test_a_date_that_cannot_be_is_a_bad_request(api, query):
    envelope(api.get(f"studies?StudyDate={query}"), 400)


@pytest.mark.parametrize("query", ["jo", "Do", "John Doe", "JOHN", "döe^x"])
def test_a_fuzzy_name_matches_by_the_beginning_of_any_token(query):
    assert fuzzy_match(query, "John^Döe")
    assert not fuzzy_match("ohn", "John^Doe")
    assert not fuzzy_match("", "John^Doe")


def test_the_fuzzy_rule_is_for_patients_names_alone(api):
    api.store(instance(PatientName="Doe^John", PatientID="P1", ReferringPhysicianName="Roe^Jane"))
    assert api.get("studies?PatientName=jo&fuzzymatching=true").status_code == 200
    assert api.get("studies?PatientID=p&fuzzymatching=true").status_code == 204
    assert api.get("studies?ReferringPhysicianName=ja&fuzzymatching=true").status_code == 204
    assert api.get("studies?PatientName=jo").status_code == 204


def test_lower_levels_return_the_attributes_of_upper_ones(api):
    api.store(instance(PatientName="Doe^John", Modality="CT", StudyID="", StudyDescription="of the head", Rows=4))
    study, series, single = (api.get(level).json()[0] for level in ("studies", "series", "instances"))
    assert set(study) == {"00100010", "0020000D", "00200010"}
    assert set(series) == {*study, "00080060", "0020000E"}
    assert set(single) == {*series, "00080016", "00080018", "00280010"}
    assert study["00200010"] == QIDO["seed_shapes"]["empty_element"]["value"]
    assert study["00100010"] == {"vr": "PN", "Value": [{"Alphabetic": "Doe^John"}]}


def test_further_attributes_come_when_they_are_asked_for(api):
    api.store(instance(StudyDescription="of the head", SeriesNumber=3, ImageComments="hm"))
    asked = "includefield=StudyDescription,00200011&includefield=ImageComments"
    assert "00081030" in api.get("studies?includefield=00081030").json()[0]
    assert {"00081030", "00200011"} <= set(api.get(f"series?{asked}").json()[0])
    found = api.get(f"instances?{asked}").json()[0]
    assert {"00081030", "00200011", "00204000"} <= set(found)
    assert "00020010" not in found
    assert "unknown/unsupported" in envelope(api.get("studies?includefield=Nonsense"), 400)


def test_all_attributes_of_an_instance_are_those_of_its_metadata(api):
    api.store(instance(ImageComments="hm", PixelData=bytes(16), Rows=4, Columns=4, BitsAllocated=8))
    found = api.get("instances?includefield=all").json()
    assert found == api.get("studies/1.1/series/1.1.1/instances/1.1.1.1/metadata").json()
    assert api.get("studies?includefield=all").json()[0].keys() <= found[0].keys()


def test_a_search_can_be_answered_in_xml(api):
    api.store(instance(PatientName="Doe^John"), instance(study="1.2"))
    answer = api.get("studies", 'multipart/related; type="application/dicom+xml"')
    assert answer.status_code == 200
    assert answer.headers["Content-Type"].startswith('multipart/related; type="application/dicom+xml"')
    assert answer.text.count("<NativeDicomModel>") == 2
    assert '<PersonName number="1"><Alphabetic><FamilyName>Doe</FamilyName>' in answer.text


@pytest.mark.parametrize("accept", ["application/dicom", "image/png", "text/html", "application/dicom+json;q=0"])
def test_a_search_in_other_forms_is_not_acceptable(api, accept):
    envelope(api.get("studies", accept), 406)


def test_a_search_under_a_study_or_series_finds_only_what_is_in_it(filled):
    assert len(filled.get("studies/1.1/series").json()) == 2
    assert len(filled.get("studies/1.1/series/1.1.1/instances").json()) == 2
    assert filled.get("studies/1.2/series/1.1.1/instances").status_code == 204
    assert filled.get("studies/9.9/series").status_code == 204


def test_names_in_other_characters_are_found(api):
    api.store(instance(SpecificCharacterSet="ISO_IR 192", PatientName="Yamada^Tarou=山田^太郎=やまだ^たろう"))
    name = api.get("studies").json()[0]["00100010"]["Value"][0]
    assert name == {"Alphabetic": "Yamada^Tarou", "Ideographic": "山田^太郎", "Phonetic": "やまだ^たろう"}
    assert api.get("studies?PatientName=Yamada^Tarou").status_code == 200
    assert api.get("studies?PatientName=山田&fuzzymatching=true").status_code == 200
