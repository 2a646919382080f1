"""Searching: what goes into XCom is harmless unless the author says otherwise, and complete or an error."""

from __future__ import annotations

import json
import os
import stat
from datetime import date
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.errors import ConfigurationError, DicomWebError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.hooks import DicomWebHook
from airflow_dicomweb.operators import DicomWebSearchOperator
from tests.airflow.files import PATIENT, STUDY, write_study
from tests.airflow.task_state import context


def search(**arguments: Any) -> list[dict[str, Any]]:
    return DicomWebSearchOperator(task_id="search", **arguments).execute(context())


@pytest.mark.parametrize(("level", "count"), [("study", 1), ("series", 2), ("instance", 4)])
def test_each_level_gives_uids_modality_and_counts_and_nothing_about_the_patient(study, level, count):
    found = search(level=level)
    assert len(found) == count
    assert {each["StudyInstanceUID"] for each in found} == {study}
    for word in ("sentinel", "Sentinel", "20260102"):
        assert word not in json.dumps(found)


def test_counts_come_along_where_the_server_gives_them(empty_orthanc, set_connection, tmp_path):
    set_connection(host=empty_orthanc.dicomweb_url, login=empty_orthanc.user, password=empty_orthanc.password)
    with DicomWebHook().get_conn() as client:
        client.store(write_study(tmp_path / "in"))
    (found,) = search()
    assert (found["NumberOfStudyRelatedSeries"], found["NumberOfStudyRelatedInstances"]) == (2, 4)
    assert "PatientName" not in found


def test_filters_and_return_fields_reach_the_server(client, study, tmp_path):
    client.store(write_study(tmp_path / "other", f"{STUDY}.9"))
    filters = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.2"}
    found = search(level="instance", filters=filters, return_fields=["InstanceNumber", "Modality"])
    assert sorted(each["InstanceNumber"] for each in found) == [1, 2]
    assert {each["Modality"] for each in found} == {"OT"}
    assert search(filters={"PatientID": "sentinel-id", "StudyInstanceUID": STUDY})[0]["StudyInstanceUID"] == STUDY
    assert search(filters={"PatientID": "nobody"}) == []


@pytest.mark.parametrize("fields", [["StudyDate"], ["00100010"], ["PatientName", "Modality"], ["all"]])
def test_attributes_that_may_identify_a_patient_need_a_decision(store, study, fields, tmp_path):
    with pytest.raises(ConfigurationError, match="may identify a patient"):
        search(return_fields=fields)
    assert store.requests() == []
    (found,) = search(return_fields=fields, include_identifying=True)
    assert len(found) > 4
    report = tmp_path / "report.jsonl"
    (harmless,) = search(return_fields=fields, report_uri=str(report))
    assert "PatientName" not in harmless
    assert json.loads(report.read_text()) == {"ordinal": 0, **found}


def test_with_the_authors_word_all_attributes_go_into_xcom(study):
    (found,) = search(include_identifying=True)
    assert found["PatientName"] == PATIENT


def test_a_report_is_private(study, tmp_path):
    report = tmp_path / "reports" / "found.jsonl"
    search(level="instance", report_uri=str(report))
    lines = [json.loads(line) for line in report.read_text().splitlines()]
    assert [line["ordinal"] for line in lines] == [0, 1, 2, 3]
    assert {line["PatientName"] for line in lines} <= {PATIENT, None}
    assert stat.S_IMODE(report.stat().st_mode) == 0o600


def test_a_report_does_not_take_the_place_of_what_is_no_regular_file(study, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="a regular file, or one that is not there yet"):
        search(level="instance", report_uri=str(tmp_path / "pipe"))
    assert (tmp_path / "pipe").is_fifo()


def test_a_report_may_go_to_a_bucket(study, bucket):
    search(level="instance", report_uri=f"gs://{bucket}/reports/found.jsonl")
    assert len(Buckets().read(bucket, "reports/found.jsonl").splitlines()) == 4


def test_a_result_with_as_many_as_the_limit_is_complete(study):
    assert len(search(level="instance", limit=4)) == 4


@pytest.mark.parametrize("limit", [3, "3", 1])
def test_a_result_with_more_than_the_limit_is_an_error_and_not_cut(study, limit, tmp_path):
    report = tmp_path / "report.jsonl"
    with pytest.raises(DicomWebError, match=f"more than {limit} results, and none of them is returned: raise limit"):
        search(level="instance", limit=limit, report_uri=str(report))
    assert not report.exists()


def test_dates_and_lists_of_uids_are_filters_and_templates(store, client, study, tmp_path):
    client.store(write_study(tmp_path / "other", f"{STUDY}.9"))
    operator = DicomWebSearchOperator(
        task_id="search",
        filters={"StudyDate": (date(2026, 1, 1), None), "StudyInstanceUID": ["{{ study }}", f"{STUDY}.9"]},
    )
    operator.render_template_fields({"study": STUDY})
    assert json.dumps(operator.filters.serialize()) == json.dumps({"StudyDate": "***", "StudyInstanceUID": "***"})
    assert [found["StudyInstanceUID"] for found in operator.execute(context())] == [STUDY, f"{STUDY}.9"]
    assert search(filters={"StudyDate": [None, date(2025, 12, 31)]}) == []


def test_names_are_matched_fuzzily_where_the_server_can(store, study):
    assert len(search(filters={"PatientName": "sentinel"}, fuzzy_matching=True)) == 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"level": "patient"}, "'study', 'series', 'instance'"),
        ({"filters": ["PatientID"]}, "mapping of keywords"),
        ({"filters": {"PatientsName": "x"}}, "not an attribute"),
        ({"filters": {"StudyInstanceUID": ".."}}, "not a DICOM UID"),
        ({"filters": {"0020000D": "1.2.x"}}, "not a DICOM UID"),
        ({"filters": {"SeriesInstanceUID": ""}}, "empty"),
        ({"filters": {"SOPInstanceUID": "1" * 65}}, "not a DICOM UID"),
        ({"filters": {"StudyDate": "yesterday"}}, "no date"),
        ({"return_fields": "StudyDate"}, "list of keywords"),
        ({"return_fields": ["StudyDay"]}, "not an attribute"),
        ({"limit": 0}, "1 or more"),
        ({"limit": "many"}, "whole number, 0 or more; a value of type str"),
        ({"limit": -1}, "-1 was given"),
        ({"limit": None}, "type NoneType"),
        ({"filters": {"StudyDate": (None, None)}}, "neither start nor end"),
        ({"filters": {"StudyDate": [date(2026, 2, 1), date(2026, 1, 1)]}}, "ends before it starts"),
        ({"report_uri": "report.jsonl"}, "absolute path"),
        ({"report_uri": "gs://bucket/*.jsonl"}, "without wildcards"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(store, arguments, words):
    with pytest.raises(ConfigurationError, match=words):
        search(**arguments)
    assert store.requests() == []


def test_a_report_that_cannot_be_written_is_said_without_its_name_before_anything_is_sent(store, study, tmp_path):
    (tmp_path / "Doe^John").write_text("a file where a folder is needed")
    with pytest.raises(ConfigurationError, match="could not be written") as refused:
        search(report_uri=str(Path(tmp_path) / "Doe^John" / "report.jsonl"))
    assert "Doe" not in str(refused.value)
    assert store.requests() == []


def test_a_disk_that_is_full_after_all_is_said_with_the_number_of_results(study, tmp_path):
    # What is written there is written to a full disk.
    (tmp_path / f"report.jsonl.{os.getpid()}.part").symlink_to("/dev/full")
    with pytest.raises(DicomWebError, match="No space left on device; 4 results were found"):
        search(level="instance", report_uri=str(tmp_path / "report.jsonl"))
