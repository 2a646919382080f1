"""Ordinary files have a quick reader of their own, which never says anything else than the thorough one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from airflow_dicomweb.dicomweb.part10 import Header, UnusableFile, _judge, _parse, ordinary_header, read_header
from tests.dicomweb.instances import all_files, part10

HEAD = 32 * 1024
SYNTAXES = (ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit, DeflatedExplicitVRLittleEndian)

words = st.text(st.characters(codec="ascii", categories=("L", "N")), max_size=16)
uids = st.from_regex(r"[0-9]{1,4}(\.[0-9]{1,9}){0,6}", fullmatch=True) | st.sampled_from(("", "1..2", "x", "0.01"))
data_sets = st.fixed_dictionaries(
    {"StudyInstanceUID": uids, "SeriesInstanceUID": uids, "SOPInstanceUID": uids, "SOPClassUID": uids},
    optional={
        "SpecificCharacterSet": st.sampled_from(("ISO_IR 100", "ISO_IR 192", "no such set", "")),
        "AccessionNumber": words,
        "StudyDescription": words,
        "Rows": st.integers(0, 65535),
        "ReferencedStudySequence": st.lists(
            st.builds(lambda uid: item(ReferencedSOPInstanceUID=uid), words), max_size=2
        ),
        "PatientComments": words,
    },
)


def item(**elements: Any) -> Dataset:
    """An item of a sequence."""
    data_set = Dataset()
    for keyword, value in elements.items():
        setattr(data_set, keyword, value)
    return data_set


def thorough(content: bytes) -> Header | str:
    """What the thorough reader says of the first bytes of a file, or why it says nothing."""
    try:
        return _judge(_parse(content, whole=len(content) < HEAD))
    except UnusableFile as reason:
        return type(reason).__name__


def agree(content: bytes) -> bool:
    """Whether the quick reader says something; then it is what the thorough one says."""
    found = ordinary_header(content)
    if found is not None:
        assert found == thorough(content)
    return found is not None


@pytest.mark.parametrize("path", all_files(), ids=lambda path: path.name)
def test_both_readers_agree_on_every_file_of_pydicom_and_on_its_beginnings(path: Path) -> None:
    content = path.read_bytes()[:HEAD]
    agree(content)
    for end in range(132, min(len(content), 1200), 11):
        agree(content[:end])


def test_most_files_are_ordinary() -> None:
    readable = 0
    for path in all_files():
        try:
            readable += bool(read_header(path))
        except UnusableFile:
            continue
    assert readable == 145
    assert sum(ordinary_header(path.read_bytes()[:HEAD]) is not None for path in all_files()) == 125


@pytest.mark.filterwarnings("ignore::UserWarning")  # pydicom's, about values that are none
@settings(max_examples=300, deadline=None)
@given(
    syntax=st.sampled_from(SYNTAXES),
    elements=data_sets,
    places=st.lists(st.integers(132, 700), max_size=2),
    new=st.data(),
)
def test_both_readers_agree_on_data_sets_that_were_made_up_and_damaged(
    syntax: str, elements: dict[str, Any], places: list[int], new: st.DataObject
) -> None:
    content = bytearray(part10(syntax, BitsAllocated=8, **elements))
    agree(bytes(content))
    for place in places:
        content[place : place + 1] = new.draw(st.binary(max_size=2))
    agree(bytes(content))


@pytest.mark.parametrize("syntax", [ExplicitVRLittleEndian, ImplicitVRLittleEndian, JPEGBaseline8Bit])
def test_a_sequence_of_known_length_before_the_uids_is_ordinary(syntax: str) -> None:
    sequence = [item(ReferencedSOPInstanceUID="1.2.3")]
    assert agree(part10(syntax, ReferencedStudySequence=sequence, BitsAllocated=8, PatientComments="of what follows"))


@pytest.mark.parametrize("syntax", [DeflatedExplicitVRLittleEndian, ExplicitVRBigEndian])
def test_other_encodings_are_left_to_the_thorough_reader(syntax: str) -> None:
    content = part10().replace(ExplicitVRLittleEndian.encode() + b"\0", syntax.encode().ljust(20, b"\0"))
    assert not agree(content)


@pytest.mark.parametrize(
    "elements",
    [{"SOPClassUID": "1.2.840.10008.1.3.10"}, {"StudyInstanceUID": None}, {"SeriesInstanceUID": "1.02"}],
    ids=["an index", "no study", "a leading zero"],
)
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_what_must_be_refused_or_warned_of_is_left_to_the_thorough_reader(elements: dict[str, Any]) -> None:
    assert not agree(part10(**elements))
