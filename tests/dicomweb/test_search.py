"""Searches find what is stored, on three levels and page by page, on servers of different habits."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError, ProtocolError, ResponseError
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import series_of
from tests.dicomweb.scripted import NOTHING, Reporting, answer, found, storing
from tests.servers.faulty import Fault
from tests.servers.orthanc import Orthanc


@pytest.fixture
def server(server: DicomWebClient, tmp_path: Path) -> DicomWebClient:
    """A client of each server, with two studies: a CT with 7 instances in two series, and an MR with 2."""
    common = {"PatientName": "Zhang^Sally", "PatientID": "P1", "StudyDate": "20240105", "StudyDescription": "Head"}
    series_of(tmp_path / "1", 5, study="1.1", Modality="CT", **common)
    series_of(tmp_path / "2", 2, study="1.3", Modality="CT", **common, StudyInstanceUID="1.1")
    series_of(
        tmp_path / "3", 2, study="1.2", Modality="MR", PatientName="Doe^John", PatientID="P2", StudyDate="20240210"
    )
    assert server.store(tmp_path).created == 9
    return server


def studies(client: DicomWebClient, filters: dict[str, Any] | None = None, **options: Any) -> list[str]:
    return sorted(found["StudyInstanceUID"] for found in client.search_studies(filters, **options))


def test_studies_are_found_by_what_they_are(server: DicomWebClient) -> None:
    assert studies(server) == ["1.1", "1.2"]
    assert studies(server, {"PatientID": "P1"}) == ["1.1"]
    assert studies(server, {"00100020": "P2"}) == ["1.2"]
    assert studies(server, {"StudyDate": "20240101-20240131"}) == ["1.1"]
    assert studies(server, {"StudyDate": "20240201-"}) == ["1.2"]
    assert studies(server, {"StudyInstanceUID": "1.2"}) == ["1.2"]
    assert studies(server, {"PatientID": "nobody"}) == []


def test_results_are_plain_dictionaries_by_keyword_or_dicom_json(server: DicomWebClient) -> None:
    (study,) = server.search_studies({"PatientID": "P1"}, include_fields=["StudyDescription"])
    assert (study["PatientName"], study["StudyDate"], study["StudyDescription"]) == ("Zhang^Sally", "20240105", "Head")
    (raw,) = server.search_studies({"PatientID": "P1"}, raw=True)
    assert raw["0020000D"]["Value"] == ["1.1"]


def test_several_fields_and_a_wildcard_arrive(server: DicomWebClient) -> None:
    fields = ["StudyDescription", "PatientBirthDate", "00080061"]
    (study,) = server.search_studies({"PatientID": "P1"}, include_fields=fields)
    assert study["StudyDescription"] == "Head"
    if not isinstance(server, HealthcareClient):  # which matches single values only
        assert studies(server, {"PatientID": "P*"}) == ["1.1", "1.2"]
        assert studies(server, {"PatientID": "?2"}) == ["1.2"]


def test_series_and_instances_are_found_everywhere_and_below(server: DicomWebClient) -> None:
    assert len(list(server.search_series())) == 3
    assert {found["SeriesInstanceUID"] for found in server.search_series(study="1.1")} == {"1.1.1", "1.3.1"}
    assert {found["StudyInstanceUID"] for found in server.search_series({"Modality": "MR"})} == {"1.2"}
    assert len(list(server.search_instances())) == 9
    assert len(list(server.search_instances(study="1.1"))) == 7
    assert len(list(server.search_instances(study="1.1", series="1.3.1"))) == 2
    (one,) = server.search_instances({"SOPInstanceUID": "1.2.1.1"}, study="1.2")
    assert one["SOPInstanceUID"] == "1.2.1.1"
    assert list(server.search_instances(study="1.9")) == []


@pytest.mark.parametrize("page_size", [1, 2, 3, 9, 10])
def test_pages_add_up_to_everything_once(server: DicomWebClient, page_size: int) -> None:
    everything = [found["SOPInstanceUID"] for found in server.search_instances(page_size=page_size)]
    assert (len(everything), len(set(everything))) == (9, 9)
    assert len(list(server.search_instances(limit=4, page_size=page_size))) == 4
    assert len(list(server.search_instances(offset=7, page_size=page_size))) == 2


def test_fuzzy_matching_is_asked_for(dicomweb_emulator: Emulator, tmp_path: Path) -> None:
    series_of(tmp_path, 1, PatientName="Zhang^Sally")
    with HealthcareClient(
        dicomweb_emulator.dicom_store, base_url=dicomweb_emulator.base_url, credentials=Bearer("any")
    ) as client:
        client.store(tmp_path)
        assert studies(client, {"PatientName": "sal"}, fuzzy_matching=True) == ["1.2.840.1"]
        assert studies(client, {"PatientName": "sal"}) == []


def test_a_query_is_encoded_and_says_only_what_was_asked() -> None:
    with storing(NOTHING, NOTHING) as (client, server):
        filters = {"PatientName": "Müller & Söhne+?=", "StudyDate": "20260101-"}
        assert (
            list(client.search_studies(filters, include_fields=["StudyDescription", "00080061"], limit=7, offset=3))
            == []
        )
    request, _ = server.received
    assert request.line == (
        "GET /dicom-web/studies?PatientName=M%C3%BCller%20%26%20S%C3%B6hne%2B?%3D&StudyDate=20260101-"
        "&includefield=StudyDescription,00080061&limit=7&offset=3"
    )
    assert request.header("accept") == ["application/dicom+json"]


def test_several_uids_are_found_whether_the_server_matches_lists_or_not(server: DicomWebClient) -> None:
    assert studies(server, {"StudyInstanceUID": ["1.1", "1.2", "1.9"]}) == ["1.1", "1.2"]
    wanted = [f"1.1.1.{number}" for number in range(5)] + [f"1.9.{number}" for number in range(60)]
    assert len(list(server.search_instances({"SOPInstanceUID": wanted}))) == 5
    assert len(list(server.search_instances({"SOPInstanceUID": wanted}, offset=1, limit=3))) == 3
    assert studies(server, {"StudyInstanceUID": ["1.1", "1.2"], "PatientID": "P2"}) == ["1.2"]


def test_a_server_known_to_match_lists_gets_them_in_pieces(empty_orthanc: Orthanc, tmp_path: Path) -> None:
    series_of(tmp_path, 60, study="1.1")
    with DicomWebClient(
        empty_orthanc.dicomweb_url, credentials=Basic(empty_orthanc.user, empty_orthanc.password), server="orthanc"
    ) as client:
        client.store(tmp_path)
        wanted = [f"1.1.1.{number}" for number in range(0, 120, 2)]
        found = [each["SOPInstanceUID"] for each in client.search_instances({"SOPInstanceUID": wanted})]
    assert sorted(found) == sorted(wanted[:30])
    with storing(NOTHING, NOTHING) as (_, server):
        with DicomWebClient(f"{server.url}/dicom-web", server="orthanc") as client:
            assert list(client.search_instances({"SOPInstanceUID": wanted})) == []
        assert [request.line.count(",") for request in server.received] == [49, 9]


def test_a_pair_of_dates_is_a_range(server: DicomWebClient) -> None:
    assert studies(server, {"StudyDate": (date(2024, 1, 1), date(2024, 1, 31))}) == ["1.1"]
    assert studies(server, {"StudyDate": (date(2024, 2, 1), None)}) == ["1.2"]
    assert studies(server, {"StudyDate": (None, date(2023, 12, 31))}) == []


@pytest.mark.parametrize("name", ["Zhang^Sally", "Doe^John"])
def test_a_name_with_its_components_is_found(server: DicomWebClient, name: str) -> None:
    """Orthanc does not decode the sign between them."""
    assert [found["PatientName"] for found in server.search_studies({"PatientName": name})] == [name]
    assert studies(server, {"00100010": name, "PatientID": "nobody"}) == []


@pytest.mark.parametrize(
    ("filters", "count"),
    [
        ({"PatientName": "Müller^Jörg Peter"}, 1),
        ({"PatientName": "müller^jörg peter"}, 1),
        ({"PatientName": "M*^Jörg*"}, 1),
        ({"PatientName": "Müller Jörg Peter"}, 0),
        ({"PatientID": "A/1 (b)"}, 1),
        ({"PatientID": "A/1 (c)"}, 0),
        ({"PatientID": "A?1 ?b?"}, 1),
        ({"PatientName": "Müller^Jörg Peter", "PatientID": "A/1 (b)"}, 1),
        ({"PatientName": "Müller^Jörg Peter", "PatientID": "A/2"}, 0),
        ({"StudyDescription": "Kopf & Hals"}, 1),
    ],
)
def test_what_must_be_encoded_is_found_on_a_server_that_does_not_decode(
    empty_orthanc: Orthanc, tmp_path: Path, filters: dict[str, str], count: int
) -> None:
    more = {"SpecificCharacterSet": "ISO_IR 192", "StudyDescription": "Kopf & Hals"}
    series_of(tmp_path, 1, study="1.1", PatientName="Müller^Jörg Peter", PatientID="A/1 (b)", **more)
    series_of(
        tmp_path / "2",
        1,
        study="1.2",
        PatientName="Muller^Jorg",
        PatientID="A/2/(b)",
        **more | {"StudyDescription": "x"},
    )
    with DicomWebClient(
        empty_orthanc.dicomweb_url, credentials=Basic(empty_orthanc.user, empty_orthanc.password)
    ) as client:
        client.store(tmp_path)
        assert studies(client, filters) == ["1.1"] * count
        assert studies(client, filters, limit=1) == ["1.1"] * count
        assert studies(client, filters, offset=1) == []


@pytest.mark.parametrize("name", ["Yamada^Tarou^^^", "Yamada^Tarou=山田^太郎=やまだ^たろう", "yamada^tarou"])
def test_a_name_is_found_whatever_follows_it_on_a_server_that_does_not_decode(
    empty_orthanc: Orthanc, tmp_path: Path, name: str
) -> None:
    series_of(tmp_path / "1", 1, study="1.1", PatientName=name, SpecificCharacterSet="ISO_IR 192")
    series_of(tmp_path / "2", 1, study="1.2", PatientName="Yamada^Taroubei")
    with DicomWebClient(
        empty_orthanc.dicomweb_url, credentials=Basic(empty_orthanc.user, empty_orthanc.password)
    ) as client:
        client.store(tmp_path)
        assert studies(client, {"PatientName": "Yamada^Tarou"}) == ["1.1"]


def test_results_are_passed_over_on_a_server_that_does_not_decode(empty_orthanc: Orthanc, tmp_path: Path) -> None:
    names = {"1.1": "Doe^Jane", "1.2": "Doe^Jane", "1.3": "Doe Jane", "1.4": "Doe^Jane"}
    for uid, name in names.items():
        series_of(tmp_path / uid, 1, study=uid, PatientName=name)
    with DicomWebClient(
        empty_orthanc.dicomweb_url, credentials=Basic(empty_orthanc.user, empty_orthanc.password)
    ) as client:
        client.store(tmp_path)
        wanted = {"PatientName": "Doe^Jane"}
        everything = [each["StudyInstanceUID"] for each in client.search_studies(wanted)]
        assert sorted(everything) == ["1.1", "1.2", "1.4"]
        for offset in range(4):
            found = [each["StudyInstanceUID"] for each in client.search_studies(wanted, offset=offset)]
            (*one,) = client.search_studies(wanted, offset=offset, limit=1)
            assert found == everything[offset:]
            assert [each["StudyInstanceUID"] for each in one] == found[:1]


def test_only_what_was_encoded_and_not_found_is_searched_for_again() -> None:
    hit, miss = (
        {"0020000D": {"vr": "UI", "Value": [uid]}, "00100010": {"vr": "PN", "Value": [{"Alphabetic": name}]}}
        for uid, name in (("1.1", "Doe^Jane^"), ("1.2", "Doe Jane"))
    )
    with storing(NOTHING, answer([hit, miss]), NOTHING, answer([hit]), NOTHING) as (client, server):
        assert studies(client, {"PatientName": "Doe^Jane", "PatientID": "7"}) == ["1.1"]
        assert studies(client, {"PatientID": "7"}) == []
        assert studies(client, {"PatientName": "Doe^Jane"}) == ["1.1"]
        assert studies(client, {"PatientName": "Doe^Jane"}, fuzzy_matching=True) == []
    assert [request.line.partition("?")[2].partition("&limit")[0] for request in server.received] == [
        "PatientName=Doe%5EJane&PatientID=7",
        "PatientName=Doe?Jane*&PatientID=7&includefield=PatientName",
        "PatientID=7",
        "PatientName=Doe%5EJane",
        "PatientName=Doe%5EJane&fuzzymatching=true",
    ]


def test_a_server_known_to_decode_is_asked_once() -> None:
    with storing(NOTHING, client=Reporting) as (client, server):
        assert studies(client, {"PatientName": "Doe^Jane"}) == []
    assert len(server.received) == 1


@pytest.mark.parametrize("empty", [NOTHING, answer([]), Fault(body=b""), Fault(body=b"  ")])
def test_nothing_found_has_several_forms(empty: Fault) -> None:
    with storing(empty) as (client, _):
        assert list(client.search_studies()) == []


@pytest.mark.parametrize("body", [b"{}", b"<html>", b'["x"]', b"[{]"])
def test_an_answer_that_is_no_list_of_data_sets_is_an_error(body: bytes) -> None:
    with storing(answer(body)) as (client, _), pytest.raises(ProtocolError):
        list(client.search_studies())


def test_a_server_that_says_it_has_more_is_asked_on() -> None:
    page = found(1, 2)
    warned = Fault(
        200,
        (*page.headers, ("Warning", '299 server: "There are 1 additional results that can be requested"')),
        page.body,
    )
    with storing(warned, found(3)) as (client, server):
        assert len(list(client.search_instances(page_size=10))) == 3
    assert server.received[1].line.endswith("limit=10&offset=2")


@pytest.mark.parametrize(
    "arguments",
    [
        {"study": ".."},
        {"study": "1.2", "series": "x"},
        {"series": "1.2"},
        {"filters": {"Studydate": "20260101"}},
        {"filters": {"StudyDate": "2026-01-01"}},
        {"filters": {"Modality": ["CT", "MR"]}},
        {"filters": {"SOPInstanceUID": "1.2.x"}},
        {"include_fields": ["Nonsense"]},
        {"limit": -1},
        {"limit": "10"},
        {"offset": -1},
        {"page_size": 0},
    ],
)
def test_bad_arguments_are_refused_at_the_call(arguments: dict[str, Any]) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError):
            client.search_instances(**arguments)
        assert server.received == []


def test_a_refusal_does_not_repeat_what_was_asked_for() -> None:
    refusal = answer({"error": {"message": "bad value Doe^Jane"}}, 400, "application/json")
    with storing(refusal) as (client, _), pytest.raises(ResponseError) as error:
        list(client.search_studies({"PatientName": "Doe^Jane"}))
    assert "Doe" not in str(error.value)
