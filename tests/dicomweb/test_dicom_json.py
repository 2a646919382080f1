"""Reading DICOM JSON by keyword or tag."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_dicomweb.dicomweb.dicom_json import (
    _KNOWN,
    check_answer,
    element,
    flat,
    items,
    keyword_of,
    tag_of,
    text,
    values,
)
from airflow_dicomweb.errors import ConfigurationError, ProtocolError

STUDY = {
    "00080020": {"vr": "DA", "Value": ["20260101"]},
    "00080050": {"vr": "SH"},
    "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^John", "Ideographic": "x"}]},
    "00080061": {"vr": "CS", "Value": ["CT", "MR"]},
    "00081199": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.2.3"]}}]},
    "7FE00010": {"vr": "OW", "BulkDataURI": "bulk"},
    "00091001": {"vr": "LO", "Value": ["private"]},
}


@pytest.mark.parametrize("name", ["StudyDate", "00080020", "0008,0020", "(0008,0020)"])
def test_an_attribute_has_several_names(name):
    assert tag_of(name) == "00080020"
    assert text(STUDY, name) == "20260101"


@pytest.mark.parametrize("name", ["", "StudyDat", "studydate", "0008002", "PatientName=Doe"])
def test_what_is_no_attribute_is_refused(name):
    with pytest.raises(ConfigurationError, match="keyword such as 'StudyDate'"):
        tag_of(name)


def test_absent_and_empty_elements_read_alike():
    assert values(STUDY, "AccessionNumber") == values(STUDY, "PatientID") == []
    assert text(STUDY, "AccessionNumber") == text(STUDY, "PatientID") == ""


def test_a_data_set_is_flattened_by_keyword():
    assert flat(STUDY) == {
        "StudyDate": "20260101",
        "AccessionNumber": None,
        "PatientName": "Doe^John",
        "ModalitiesInStudy": ["CT", "MR"],
        "ReferencedSOPSequence": [{"ReferencedSOPInstanceUID": "1.2.3"}],
        "00091001": "private",
    }


def test_sequences_give_their_items():
    assert [text(item, "ReferencedSOPInstanceUID") for item in items(STUDY, "ReferencedSOPSequence")] == ["1.2.3"]


def test_an_element_without_value_has_no_value():
    assert element("SH") == {"vr": "SH"}
    assert element("IS", 1, 2) == {"vr": "IS", "Value": [1, 2]}
    assert keyword_of("0020000D") == "StudyInstanceUID"


@pytest.mark.parametrize("answer", [{}, None, "x", [1], [[]]])
def test_an_answer_that_is_no_array_of_data_sets_is_an_error(answer):
    with pytest.raises(ProtocolError):
        check_answer(answer)


@pytest.mark.parametrize(
    "broken", [{"00080020": None}, {"00080020": "x"}, {"00080020": {"Value": "text"}}, {"00080020": {"Value": None}}]
)
def test_broken_elements_read_as_empty(broken):
    assert values(broken, "StudyDate") == []
    assert flat(broken) == {"StudyDate": None}


def test_the_attributes_that_need_no_dictionary_are_those_of_the_dictionary():
    from pydicom.datadict import tag_for_keyword

    assert {keyword: f"{tag_for_keyword(keyword):08X}" for keyword in _KNOWN} == _KNOWN
    assert {keyword: tag_of(keyword) for keyword in _KNOWN} == _KNOWN


def test_a_flat_data_set_has_one_shape_for_each_kind_of_value() -> None:
    found = flat(
        {
            "00080008": {"vr": "CS", "Value": ["ORIGINAL", None, "AXIAL"]},
            "00080018": {"vr": "UI", "Value": ["1.2"]},
            "00080020": {"vr": "DA"},
            "00100010": {"vr": "PN", "Value": [{"Alphabetic": "Doe^Jane", "Ideographic": "x"}]},
            "00101001": {"vr": "PN", "Value": [{"Alphabetic": "Roe^Jane"}, {"Phonetic": "y"}]},
            "00101010": {"vr": "AS", "Value": []},
            "00280010": {"vr": "US", "Value": [512]},
            "00280030": {"vr": "DS", "Value": [0.5, 0.5]},
            "00081140": {"vr": "SQ", "Value": [{"00081155": {"vr": "UI", "Value": ["1.3"]}}]},
            "00081115": {"vr": "SQ"},
            "00082112": {"vr": "SQ", "Value": [{}, {"00082112": {"vr": "SQ", "Value": [{}]}}]},
            "7FE00010": {"vr": "OW", "BulkDataURI": "https://pacs.example/x"},
            "00282000": {"vr": "OB", "InlineBinary": "AAAA"},
            "00091001": {"vr": "LO", "Value": ["private"]},
            "60000010": {"vr": "US", "Value": [1]},
            "60020010": {"vr": "US", "Value": [2]},
        }
    )
    assert found == {
        "ImageType": ["ORIGINAL", None, "AXIAL"],
        "SOPInstanceUID": "1.2",
        "StudyDate": None,
        "PatientName": "Doe^Jane",
        "OtherPatientNames": ["Roe^Jane", None],
        "PatientAge": None,
        "Rows": 512,
        "PixelSpacing": [0.5, 0.5],
        "ReferencedImageSequence": [{"ReferencedSOPInstanceUID": "1.3"}],
        "ReferencedSeriesSequence": None,
        "SourceImageSequence": [{}, {"SourceImageSequence": [{}]}],
        "00091001": "private",
        "60000010": 1,
        "60020010": 2,
    }


@pytest.mark.parametrize(
    "strange", [{"PatientID": {"Value": ["1"]}}, {"00100020": "1"}, {"00100020": {"Value": "1"}}, {"": 1}]
)
def test_a_data_set_that_is_none_breaks_nothing(strange: dict[str, Any]) -> None:
    assert list(flat(strange)) in (["PatientID"], [""])
