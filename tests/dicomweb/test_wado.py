"""An answer is read for what it is, and anything else than what was asked for is an error."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256

import pytest

from airflow_dicomweb.dicomweb.multipart import Body, Event, Part
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.wado import (
    RetrievedFile,
    check_viewport,
    check_whole,
    digest,
    first_part,
    is_part_of,
    only_part,
    parts,
)
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, TransportError
from tests.dicomweb.instances import part10

ONE = part10(SOPInstanceUID="1.2.3.1")
TWO = part10(SOPInstanceUID="1.2.3.2", SeriesInstanceUID="1.2.9")
STUDY = StudyPath("1.2")


def multipart(*contents: bytes) -> tuple[bytes, str]:
    body = Body(
        [Part("application/dicom", len(each), lambda each=each: [each]) for each in contents], "application/dicom"
    )  # type: ignore[misc]
    return b"".join(body), body.content_type


def blocks(content: bytes, size: int = 100) -> Iterator[bytes]:
    return (content[at : at + size] for at in range(0, len(content), size))


def events(*contents: bytes) -> Iterator[Event]:
    content, content_type = multipart(*contents)
    return parts(blocks(content), content_type)


@pytest.mark.parametrize("size", [1, 7, 100_000])
def test_a_single_part_answer_is_one_part(size: int) -> None:
    assert b"".join(only_part(parts(blocks(ONE, size), "application/dicom; transfer-syntax=1.2"))) == ONE
    assert digest(only_part(events(ONE))) == sha256(ONE).hexdigest()


@pytest.mark.parametrize("contents", [(), (ONE, TWO)])
def test_where_one_part_is_expected_none_or_more_are_an_error(contents: tuple[bytes, ...]) -> None:
    content, content_type = multipart(*contents) if contents else (b"--x--", "multipart/related; boundary=x")
    with pytest.raises(ProtocolError, match="one part was expected"):
        digest(only_part(parts([content], content_type)))


@pytest.mark.parametrize("content_type", [None, "", "text/html", "application/octet-stream", "application/dicom+json"])
def test_another_media_type_is_an_error(content_type: str | None) -> None:
    with pytest.raises(ProtocolError, match="application/dicom was expected"):
        list(parts([ONE], content_type))


def test_an_answer_without_its_closing_delimiter_is_a_broken_connection() -> None:
    content, content_type = multipart(ONE, TWO)
    for cut in (len(content) - 2, len(content) - 60, len(ONE) + 200, len(ONE) // 2, 10, 0):
        with pytest.raises(TransportError, match="closing delimiter"):
            list(parts(blocks(content[:cut]), content_type))


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (StudyPath("1.2"), True),
        (StudyPath("1"), False),
        (StudyPath("1.2.3"), False),
        (SeriesPath("1.2", "1.2.3"), True),
        (SeriesPath("1.2", "1.2.9"), False),
        (InstancePath("1.2", "1.2.3", "1.2.3.1"), True),
        (InstancePath("1.2", "1.2.3", "1.2.3.11"), False),
    ],
)
def test_an_instance_belongs_to_what_its_uids_say(wanted: ResourcePath, expected: bool) -> None:
    assert is_part_of(InstancePath("1.2", "1.2.3", "1.2.3.1"), wanted) is expected


@pytest.mark.parametrize(
    ("status", "error"), [(204, NotFoundError), (206, ProtocolError), (201, ProtocolError), (226, ProtocolError)]
)
def test_a_success_that_is_not_all_of_it_is_an_error(status: int, error: type[Exception]) -> None:
    check_whole(200, "studies/1")
    with pytest.raises(error, match=str(status)):
        check_whole(status, "studies/1")


def test_a_file_in_a_bucket_has_no_path() -> None:
    file = RetrievedFile("gs://bucket/1.2/x.dcm", StudyPath("1.2"), 1)
    for step in (lambda: file.path, lambda: file.instance):
        with pytest.raises(ConfigurationError):
            step()


def test_the_first_of_several_rendered_frames_is_taken() -> None:
    assert first_part(events(b"first", b"second")) == b"first"
    assert first_part(parts([b"pic", b"ture"], "image/png", "image/png")) == b"picture"


def test_a_viewport_is_two_whole_numbers() -> None:
    assert check_viewport((256, 128)) == "256,128"
    for bad in ("256,256", (0, 1), (1,), (1.5, 2), None):
        with pytest.raises(ConfigurationError, match="viewport"):
            check_viewport(bad)
