"""An answer becomes files, all of it under checked names, or it becomes an error and leaves nothing."""

from __future__ import annotations

import stat
from collections.abc import Iterable, Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.multipart import Body, Event, Part
from airflow_dicomweb.dicomweb.resources import InstancePath, ResourcePath, SeriesPath, StudyPath
from airflow_dicomweb.dicomweb.wado import (
    Download,
    check_complete,
    check_viewport,
    digest,
    first_part,
    only_part,
    parts,
)
from airflow_dicomweb.errors import ConfigurationError, ProtocolError, TransportError
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


def left(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_parts_become_files_named_by_their_own_uids(tmp_path: Path) -> None:
    with Download(tmp_path / "out") as files:
        came = files.receive(events(TWO, ONE), STUDY)
        assert [name[-5:] for name in left(tmp_path / "out")] == [".part", ".part"]
        named = files.finish()
    assert came == {InstancePath("1.2", "1.2.3", "1.2.3.1"), InstancePath("1.2", "1.2.9", "1.2.3.2")}
    assert left(tmp_path / "out") == ["1.2/1.2.3/1.2.3.1.dcm", "1.2/1.2.9/1.2.3.2.dcm"]
    assert [Path(file).read_bytes() for file in named] == [ONE, TWO]
    assert [(file.instance.instance, file.size) for file in named] == [("1.2.3.1", len(ONE)), ("1.2.3.2", len(TWO))]


def test_files_are_for_their_owner_alone(tmp_path: Path) -> None:
    with Download(tmp_path) as files:
        files.receive(events(ONE), STUDY)
        modes = {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
        modes |= {stat.S_IMODE(file.path.stat().st_mode) for file in files.finish()}
    assert modes == {0o600}


def test_an_older_file_is_replaced_only_at_the_end(tmp_path: Path) -> None:
    old = tmp_path / "1.2" / "1.2.3" / "1.2.3.1.dcm"
    old.parent.mkdir(parents=True)
    old.write_bytes(b"old")
    with Download(tmp_path) as files:
        files.receive(events(ONE), STUDY)
        assert old.read_bytes() == b"old"
        files.finish()
    assert old.read_bytes() == ONE


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


def test_an_answer_without_its_closing_delimiter_is_a_broken_connection_and_leaves_nothing(tmp_path: Path) -> None:
    content, content_type = multipart(ONE, TWO)
    for cut in (len(content) - 2, len(content) - 60, len(ONE) + 200, len(ONE) // 2, 10, 0):
        with Download(tmp_path) as files, pytest.raises(TransportError, match="closing delimiter"):
            files.receive(parts(blocks(content[:cut]), content_type), STUDY)
        assert left(tmp_path) == []


@pytest.mark.parametrize(
    ("contents", "wanted", "finding"),
    [
        ((ONE, ONE), STUDY, "twice"),
        ((ONE,), StudyPath("1"), "was asked for"),
        ((ONE,), StudyPath("1.2.3"), "was asked for"),
        ((ONE, TWO), SeriesPath("1.2", "1.2.3"), "was asked for"),
        ((TWO,), InstancePath("1.2", "1.2.9", "1.2.3.1"), "was asked for"),
        ((b"not dicom",), STUDY, "is not an instance"),
        ((part10(StudyInstanceUID=None),), STUDY, "is not an instance"),
        ((b"",), STUDY, "is not an instance"),
    ],
)
def test_what_was_not_asked_for_is_an_error_and_leaves_nothing(
    tmp_path: Path, contents: tuple[bytes, ...], wanted: ResourcePath, finding: str
) -> None:
    with Download(tmp_path) as files, pytest.raises(ProtocolError, match=finding):
        files.receive(events(*contents), wanted)
    assert left(tmp_path) == []


def test_a_failure_in_the_middle_of_a_part_leaves_nothing(tmp_path: Path) -> None:
    def breaking(content: Iterable[bytes]) -> Iterator[bytes]:
        yield from content
        raise TransportError("broke off")

    content, content_type = multipart(ONE, TWO)
    with pytest.raises(TransportError, match="broke off"), Download(tmp_path) as files:
        files.receive(parts(breaking(blocks(content[:-200])), content_type), STUDY)
    assert left(tmp_path) == []


def test_a_destination_that_is_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="destination") as refusal, Download(tmp_path / "file"):
        pass
    assert str(tmp_path) not in str(refusal.value)


def test_what_came_must_be_what_the_search_names() -> None:
    one, none = frozenset({InstancePath("1", "2", "3")}), frozenset[InstancePath]()
    check_complete(STUDY, none, none)
    with pytest.raises(ProtocolError, match="1 instances are missing, 0 are not named"):
        check_complete(STUDY, one, none)
    with pytest.raises(ProtocolError, match="0 instances are missing, 1 are not named"):
        check_complete(STUDY, none, one)


def test_the_first_of_several_rendered_frames_is_taken() -> None:
    assert first_part(events(b"first", b"second")) == b"first"
    assert first_part(parts([b"pic", b"ture"], "image/png", "image/png")) == b"picture"


def test_a_viewport_is_two_whole_numbers() -> None:
    assert check_viewport((256, 128)) == "256,128"
    for bad in ("256,256", (0, 1), (1,), (1.5, 2), None):
        with pytest.raises(ConfigurationError, match="viewport"):
            check_viewport(bad)
