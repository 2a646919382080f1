"""Instances are told apart as far as a server keeps them: by their bytes, their data sets, or their elements."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from pydicom import dcmread
from pydicom.uid import ImplicitVRLittleEndian

from airflow_dicomweb.dicomweb.comparing import same_data_set
from airflow_dicomweb.dicomweb.habits import SERVERS
from airflow_dicomweb.errors import ConfigurationError
from tests.dicomweb.instances import PYDICOM_FILES, part10, series_of
from tests.dicomweb.scripted import STUDY, found, instance, kinds, posts, storing


def rewritten(content: bytes, *, meta: bool = True, lengths: bool = False, **changed: object) -> bytes:
    """The same instance, written by somebody else: another group 0002, other lengths of sequences, other values."""
    data_set = dcmread(BytesIO(content), force=True)
    if meta:
        data_set.file_meta.ImplementationVersionName = "SOMEBODY ELSE"
    if lengths:
        for element in data_set:
            if element.VR == "SQ":
                element.is_undefined_length = not element.is_undefined_length
                for item in element.value:
                    item.is_undefined_length_sequence_item = not item.is_undefined_length_sequence_item
    for keyword, value in changed.items():
        setattr(data_set, keyword, value)
    stream = BytesIO()
    data_set.save_as(stream, enforce_file_format=True)
    return stream.getvalue()


def same(one: bytes, other: bytes, *, elements: bool) -> bool:
    return same_data_set(BytesIO(one), BytesIO(other), rewritten=elements)


SEQUENCES = (PYDICOM_FILES / "CT_small.dcm").read_bytes()
REPORT = (PYDICOM_FILES / "reportsi.dcm").read_bytes()


@pytest.mark.parametrize("elements", [True, False])
def test_what_differs_in_group_0002_alone_is_the_same_data_set(elements):
    content = part10()
    other = rewritten(content)
    assert other != content
    assert same(content, other, elements=elements)
    assert same(content, content, elements=elements)


@pytest.mark.parametrize("elements", [True, False])
@pytest.mark.parametrize(
    "other",
    [
        rewritten(part10(), InstanceNumber=2),
        part10()[:-2],
        part10(ImplicitVRLittleEndian),
        b"",
        b"no DICOM at all",
        part10()[:140],
    ],
    ids=["a value", "cut", "another transfer syntax", "empty", "text", "a header"],
)
def test_another_data_set_is_another_one(other, elements):
    assert not same(part10(), other, elements=elements)
    assert not same(other, part10(), elements=elements)


def test_stray_bytes_at_the_end_do_not_count_where_elements_do():
    assert same(part10(), part10() + b"\0\0", elements=True)
    assert not same(part10(), part10() + b"\0\0", elements=False)


def test_lengths_of_sequences_do_not_count_where_elements_do():
    other = rewritten(REPORT, lengths=True)
    assert len(other) != len(REPORT)
    assert same(REPORT, other, elements=True)
    assert not same(REPORT, other, elements=False)


@pytest.mark.parametrize(
    ("server", "stored", "kind"),
    [
        ("orthanc", SEQUENCES, "identical"),
        ("orthanc", rewritten(SEQUENCES), "conflict"),
        ("tiny-pacs", rewritten(SEQUENCES), "identical"),
        ("tiny-pacs", rewritten(SEQUENCES, PatientName="Other"), "conflict"),
        ("dcm4chee", rewritten(SEQUENCES, lengths=True), "identical"),
        ("dcm4chee", rewritten(SEQUENCES, lengths=True, PatientName="Other"), "conflict"),
    ],
)
def test_what_is_stored_again_is_compared_as_far_as_the_server_keeps_it(tmp_path, server, stored, kind):
    data_set = dcmread(BytesIO(SEQUENCES))
    (tmp_path / "one.dcm").write_bytes(SEQUENCES)
    search = found(0).body.replace(f"{STUDY}.1.0".encode(), data_set.SOPInstanceUID.encode())
    search = search.replace(f'"{STUDY}.1"'.encode(), f'"{data_set.SeriesInstanceUID}"'.encode())
    answer = found(0)
    script = (type(answer)(answer.status, answer.headers, search), instance(stored))
    if server == "tiny-pacs":
        series = search  # this one is asked for the series of the study first
        script = (type(answer)(answer.status, answer.headers, series), script[0], script[1])
    with storing(*script, server=server) as (client, received):
        result = client.store(tmp_path)
    assert kinds(result) == [kind]
    assert posts(received) == []


@pytest.mark.parametrize("server", [name for name, habits in SERVERS.items() if not habits.keeps_bytes])
def test_bytes_are_not_verified_where_they_are_known_not_to_be_kept(tmp_path: Path, server):
    series_of(tmp_path, 1)
    with storing(server=server) as (client, received):
        with pytest.raises(ConfigurationError, match=r"verify='bytes'.*verify='exists'"):
            client.store(tmp_path, verify="bytes")
        assert received.received == []
