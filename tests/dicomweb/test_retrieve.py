"""A retrieval gives files that are byte for byte what is stored, all of them or none, whatever happens on the way."""

from __future__ import annotations

import json
import os
import resource
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.multipart import Body, Part
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import AuthorizationError, ConfigurationError, NotFoundError, ProtocolError, TransportError
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import PYDICOM_FILES, part10, series_of
from tests.dicomweb.scripted import NOTHING, QUICK, STUDY, Reporting, answer, found, instance, sop, storing
from tests.servers.faulty import Fault, FaultyServer
from tests.servers.orthanc import Orthanc

SERIES = f"{STUDY}.1"


def content(number: int) -> bytes:
    return part10(StudyInstanceUID=STUDY, SeriesInstanceUID=SERIES, SOPInstanceUID=sop(number))


def multipart(*contents: bytes, **more: Any) -> Fault:
    body = Body(
        [Part("application/dicom", len(each), lambda each=each: [each]) for each in contents], "application/dicom"
    )  # type: ignore[misc]
    return answer(b"".join(body), content_type=body.content_type, **more)


def left(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def named(folder: Path) -> list[Path]:
    """Files under their names: not those that wait for the rest of an answer."""
    return [path for path in left(folder) if not path.parent.name.endswith(".part")]


def test_study_series_and_instance_come_back_as_they_were_stored(server: DicomWebClient, tmp_path: Path) -> None:
    first = series_of(tmp_path / "in" / "a", 5)
    second = series_of(tmp_path / "in" / "b", 2, SeriesInstanceUID=f"{STUDY}.2", StudyInstanceUID=STUDY, study="1.9")
    assert server.store(tmp_path / "in").created == 7
    study = server.retrieve(STUDY, destination=tmp_path / "study")
    assert sorted(Path(file).read_bytes() for file in study) == sorted(path.read_bytes() for path in first + second)
    assert all(file.size == file.path.stat().st_size for file in study)
    assert sorted(left(tmp_path / "study")) == sorted(file.path for file in study)
    series = server.retrieve(STUDY, SERIES, destination=str(tmp_path / "series"))
    assert [file.instance for file in series] == [InstancePath(STUDY, SERIES, sop(number)) for number in range(5)]
    (one,) = server.retrieve(STUDY, SERIES, sop(3), destination=tmp_path / "one")
    assert one.path == tmp_path / "one" / STUDY / SERIES / f"{sop(3)}.dcm"
    assert one.path.read_bytes() == first[3].read_bytes()


def test_what_is_not_there_is_an_error_and_leaves_nothing(server: DicomWebClient, tmp_path: Path) -> None:
    series_of(tmp_path / "in", 1)
    server.store(tmp_path / "in")
    for uids in [("1.9",), (STUDY, "1.9"), (STUDY, SERIES, "1.9")]:
        with pytest.raises(NotFoundError):
            server.retrieve(*uids, destination=tmp_path / "out")
        with pytest.raises(NotFoundError):
            server.retrieve_metadata(*uids)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    "destination", [None, "", b"out", 3, "Doe\0", "s3://Doe/x", "file:///Doe", Path("gs://Doe/x"), "gs:/Doe/x"]
)
def test_a_destination_that_is_no_path_is_refused_before_anything_is_sent(destination: Any) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError, match="destination") as refusal:
            client.retrieve(STUDY, destination=destination)
        assert server.received == []
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize("name", ["", STUDY, f"{STUDY}/{SERIES}"])
def test_a_file_in_the_place_of_a_folder_is_refused_before_anything_is_sent(tmp_path: Path, name: str) -> None:
    taken = tmp_path / "Doe" / name
    taken.parent.mkdir(parents=True, exist_ok=True)
    taken.write_text("x")
    with storing() as (client, server):
        with pytest.raises(ConfigurationError, match=r"destination .*Not a directory") as refusal:
            client.retrieve(STUDY, SERIES, destination=tmp_path / "Doe")
        assert server.received == []
    assert "Doe" not in str(refusal.value)
    assert left(tmp_path) == [taken]


def test_a_folder_in_the_place_of_an_instance_is_refused_and_no_file_gets_its_name(tmp_path: Path) -> None:
    (tmp_path / STUDY / SERIES / f"{sop(1)}.dcm").mkdir(parents=True)
    with storing(found(0, 1), multipart(content(0), content(1))) as (client, server):
        with pytest.raises(ConfigurationError, match=r"destination .*Is a directory"):
            client.retrieve(STUDY, SERIES, sop(1), destination=tmp_path)
        assert server.received == []
        with pytest.raises(ConfigurationError, match=r"destination .*Is a directory"):
            client.retrieve(STUDY, destination=tmp_path)
    assert named(tmp_path) == []


@pytest.mark.parametrize("destination", ["closed", "closed/new"])
def test_a_folder_that_may_not_be_written_to_is_refused_before_anything_is_sent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, destination: str
) -> None:
    (tmp_path / "closed").mkdir(mode=0o555)
    tmp_path.chmod(0o755)
    monkeypatch.chdir(tmp_path)  # the folders above are private to the user of the tests
    user = os.geteuid()
    with storing() as (client, server):
        if user == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(ConfigurationError, match=r"destination .*Permission denied") as refusal:
                client.retrieve(STUDY, destination=destination)
        finally:
            os.seteuid(user)
        assert server.received == []
    assert "closed" not in str(refusal.value)


def test_a_full_disk_is_an_error_without_a_name_and_leaves_nothing_that_is_not_whole(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with storing(found(0, 1), multipart(content(0), content(1) + bytes(2**20))) as (client, _server):
        resource.setrlimit(resource.RLIMIT_FSIZE, (2**19, limits[1]))  # what does not fit is refused as by a full disk
        try:
            with pytest.raises(ConfigurationError, match=r"destination .*File too large") as refusal:
                client.retrieve(STUDY, destination=tmp_path / "Doe")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "Doe" not in str(refusal.value)
    assert named(tmp_path) == []
    (whole,) = left(tmp_path)
    assert whole.read_bytes() == content(0)


def test_metadata_has_the_attributes_of_each_instance(server: DicomWebClient, tmp_path: Path) -> None:
    series_of(tmp_path, 3, PatientName="Doe^Jane")
    server.store(tmp_path)
    assert len(server.retrieve_metadata(STUDY)) == 3
    (data_set,) = server.retrieve_metadata(STUDY, SERIES, sop(2))
    assert data_set["00080018"]["Value"] == [sop(2)]
    assert data_set["00100010"]["Value"] == [{"Alphabetic": "Doe^Jane"}]


@pytest.mark.parametrize(("media_type", "magic"), [("image/png", b"\x89PNG"), ("image/jpeg", b"\xff\xd8\xff")])
def test_an_image_is_rendered(server: DicomWebClient, media_type: str, magic: bytes) -> None:
    (outcome,) = server.store(PYDICOM_FILES / "CT_small.dcm").outcomes
    path = outcome.path
    assert path is not None
    assert server.retrieve_rendered(path.study, path.series, path.instance, media_type=media_type).startswith(magic)


@pytest.mark.parametrize(
    "arguments",
    [("..",), ("",), ("1." * 33,), ("1.2", ".."), ("1.2", "1.2", "a"), ("1.2", None, "1.2.3"), (None,), (1,)],
)
def test_a_bad_uid_is_refused_before_anything_is_sent(tmp_path: Path, arguments: tuple[Any, ...]) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError):
            client.retrieve(*arguments, destination=tmp_path / "out")
        with pytest.raises(ConfigurationError):
            client.retrieve_metadata(*arguments)
        assert server.received == []
    assert not (tmp_path / "out").exists()


def test_the_request_asks_for_what_is_stored_in_the_form_that_the_server_has(tmp_path: Path) -> None:
    with storing(found(0), multipart(content(0)), instance(content(0))) as (client, server):
        client.retrieve(STUDY, destination=tmp_path)
        client.retrieve(STUDY, SERIES, sop(0), destination=tmp_path / "other")
    assert len(server.received) == 3
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    for request in server.received[1:]:
        assert request.header("accept") == [accept]
        assert request.header("accept-encoding") == ["identity"]
    with storing(multipart(content(0)), client=Reporting) as (client, server):
        client.retrieve(STUDY, SERIES, sop(0), destination=tmp_path / "single")
    assert server.received[0].header("accept") == ["application/dicom; transfer-syntax=*"]


def paths(server: FaultyServer) -> list[str]:
    return [request.line.partition("/dicom-web/")[2].partition("?")[0] for request in server.received]


def test_of_a_cut_answer_what_did_not_come_whole_is_asked_for_again(tmp_path: Path) -> None:
    contents = [content(number) for number in range(3)]
    whole, last = multipart(*contents), multipart(contents[2])
    script = [
        found(0, 1, 2),
        Fault(whole.status, whole.headers, whole.body, cut=len(whole.body) - 100),
        Fault(last.status, last.headers, last.body[:-100], then="close"),  # complete, by its Content-Length
        last,
    ]
    with storing(*script, policy=QUICK) as (client, server):
        files = client.retrieve(STUDY, destination=tmp_path)
    assert [Path(file).read_bytes() for file in files] == contents
    assert sorted(left(tmp_path)) == sorted(file.path for file in files)
    assert paths(server)[1:] == [f"studies/{STUDY}", *[f"studies/{STUDY}/series/{SERIES}/instances/{sop(2)}"] * 2]


def test_what_was_cut_before_anything_was_whole_is_asked_for_as_a_whole_again(tmp_path: Path) -> None:
    whole = multipart(content(0), content(1))
    script = [found(0, 1), Fault(whole.status, whole.headers, whole.body, cut=300), whole]
    with storing(*script, policy=QUICK) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert paths(server)[1:] == [f"studies/{STUDY}"] * 2


@pytest.mark.parametrize("declared", [-1, None])
def test_an_answer_that_is_always_cut_is_an_error_and_leaves_nothing_that_is_not_whole(
    tmp_path: Path, declared: int | None
) -> None:
    def cut(*contents: bytes) -> Fault:
        whole = multipart(*contents)
        return Fault(whole.status, whole.headers, whole.body[:-30], declared=declared, then="close")

    script = [found(0, 1), cut(content(0), content(1)), *[cut(content(1))] * 5]
    with storing(*script, policy=QUICK) as (client, server), pytest.raises(TransportError):
        client.retrieve(STUDY, destination=tmp_path)
    # Three attempts, and three more because something had arrived.
    assert len(server.received) == 7
    assert named(tmp_path) == []
    (waiting,) = left(tmp_path)
    assert waiting.read_bytes() == content(0)


@pytest.mark.parametrize(
    ("script", "finding"),
    [
        ([found(0), multipart(part10())], "was asked for"),
        ([found(0), multipart(content(0), part10())], "was asked for"),
        ([found(0), multipart(content(0), content(0))], "twice"),
        ([found(0), multipart(content(0), b"not dicom")], "is not an instance"),
        ([found(0), multipart(content(0), b"")], "is not an instance"),
        ([found(0), multipart(part10(StudyInstanceUID=None))], "is not an instance"),
        ([found(0), answer(b"<html>", content_type="text/html")], "text/html"),
        (
            [
                found(0),
                answer(b"--x--", content_type="multipart/related; boundary=x"),
                Fault(404),
                Fault(404),
                found(0),
            ],
            "1 instances",
        ),
        ([found(0), answer(b"", 206, content_type="multipart/related; boundary=x")], "only a part .* 206"),
        ([found(0), answer(b"", 202, content_type="multipart/related; boundary=x")], "status 202"),
    ],
)
def test_an_answer_that_is_not_what_was_asked_for_is_an_error_and_leaves_nothing(
    tmp_path: Path, script: list[Fault], finding: str
) -> None:
    with storing(*script, policy=QUICK) as (client, server), pytest.raises(ProtocolError, match=finding):
        client.retrieve(STUDY, destination=tmp_path)
    assert len(server.received) == len(script)
    assert left(tmp_path) == []


def test_what_the_search_names_and_the_server_does_not_give_is_asked_for_alone_and_is_then_an_error(
    tmp_path: Path,
) -> None:
    script = [found(0, 1, 2), multipart(content(0)), Fault(404), instance(content(2)), found(0, 1, 2)]
    with storing(*script, policy=QUICK) as (client, server):
        with pytest.raises(ProtocolError, match=r"1 instances are missing, 0 are not named; GET .* answered with 404"):
            client.retrieve(STUDY, destination=tmp_path, workers=1)
        assert len(server.received) == len(script)
        assert named(tmp_path) == []
        # The others are whole: only the missing one is asked for again.
        server.script += [found(0, 1, 2), instance(content(1))]
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 3
    assert paths(server)[len(script) + 1 :] == [f"studies/{STUDY}/series/{SERIES}/instances/{sop(1)}"]
    assert len(left(tmp_path)) == 3


def test_what_was_deleted_meanwhile_need_not_come(tmp_path: Path) -> None:
    script = [found(0, 1), multipart(content(0)), Fault(404), found(0)]
    with storing(*script) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 1
    assert len(server.received) == len(script)


def test_what_came_and_the_search_does_not_name_is_an_error_and_is_not_kept(tmp_path: Path) -> None:
    with storing(found(0), multipart(content(0), content(1)), found(0)) as (client, _server):
        with pytest.raises(ProtocolError, match="0 instances are missing, 1 are not named"):
            client.retrieve(STUDY, destination=tmp_path)
        assert [path.read_bytes() for path in left(tmp_path)] == [content(0)]
        assert named(tmp_path) == []


@pytest.mark.parametrize("status", [400, 404, 405, 501])
def test_where_no_search_is_possible_what_came_is_taken_and_that_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, status: int
) -> None:
    searches = [Fault(status)] * (2 if status == 404 else 1)
    with storing(*searches, multipart(content(0), content(1))) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2
    assert len(server.received) == len(searches) + 1
    assert f"cannot be used (status {status})" in caplog.text


def test_a_search_that_is_forbidden_is_an_error(tmp_path: Path) -> None:
    with storing(Fault(403)) as (client, _), pytest.raises(AuthorizationError):
        client.retrieve(STUDY, destination=tmp_path)


def test_an_answer_without_content_says_that_there_is_nothing(tmp_path: Path) -> None:
    with storing(NOTHING, NOTHING) as (client, _), pytest.raises(NotFoundError, match="204"):
        client.retrieve(STUDY, destination=tmp_path)
    assert left(tmp_path) == []


def test_an_instance_that_arrives_meanwhile_is_taken_when_a_second_search_names_it(tmp_path: Path) -> None:
    with storing(found(0), multipart(content(0), content(1)), found(0, 1)) as (client, _):
        assert len(client.retrieve(STUDY, destination=tmp_path)) == 2


def test_a_wrong_part_length_is_an_error(tmp_path: Path) -> None:
    one = content(0)
    head = f"--x\r\nContent-Type: application/dicom\r\nContent-Length: {len(one) + 1}\r\n\r\n".encode()
    lying = answer(head + one + b"\r\n--x--", content_type="multipart/related; boundary=x")
    with storing(found(0), lying) as (client, _), pytest.raises(ProtocolError, match="declares"):
        client.retrieve(STUDY, destination=tmp_path)
    assert left(tmp_path) == []


def test_the_emulator_s_faults_are_survived(dicomweb_emulator: Emulator, tmp_path: Path) -> None:
    series_of(tmp_path / "in", 4)
    policy = RetryPolicy(attempts=5, first_wait=0.01, longest_wait=0.05)
    with HealthcareClient(
        dicomweb_emulator.dicom_store,
        base_url=dicomweb_emulator.base_url,
        credentials=Bearer("any"),
        retry_policy=policy,
    ) as client:
        dicomweb_emulator.faults(
            {"method": "POST", "match": "/studies$", "status": 503, "times": 1},
            {"method": "POST", "match": "/studies$", "drop": "after", "times": 1},
        )
        result = client.store(tmp_path / "in")
        assert result.created == 4
        dicomweb_emulator.faults(
            {"method": "GET", "match": f"/studies/{STUDY}$", "cut": 300, "times": 2},
            {
                "method": "GET",
                "match": f"/studies/{STUDY}$",
                "status": 429,
                "headers": {"Retry-After": "0"},
                "times": 1,
            },
        )
        assert len(client.retrieve(STUDY, destination=tmp_path / "out")) == 4
    assert [fault["fired"] for fault in dicomweb_emulator.faults()] == [1, 1, 2, 1]
    assert len(left(tmp_path / "out")) == 4


def test_an_empty_metadata_answer_of_another_kind_is_an_error() -> None:
    with storing(answer(json.dumps({}).encode())) as (client, _), pytest.raises(ProtocolError):
        client.retrieve_metadata(STUDY)
    with storing(NOTHING) as (client, _), pytest.raises(NotFoundError):
        client.retrieve_metadata(STUDY)
    with storing(answer(b"x", content_type="image/jpeg")) as (client, _), pytest.raises(ProtocolError):
        client.retrieve_rendered(STUDY, SERIES, sop(0))


def test_dicomweb_client_gets_the_same_study_metadata_bulk_data_and_picture(
    empty_orthanc: Orthanc, tmp_path: Path
) -> None:
    """A client that nobody here wrote, against a server that nobody here wrote."""
    import pydicom
    from dicomweb_client.api import DICOMwebClient
    from dicomweb_client.session_utils import create_session_from_user_pass

    with (
        DicomWebClient(
            empty_orthanc.dicomweb_url, credentials=Basic(empty_orthanc.user, empty_orthanc.password)
        ) as ours,
        create_session_from_user_pass(empty_orthanc.user, empty_orthanc.password) as session,
    ):
        (outcome,) = ours.store(PYDICOM_FILES / "CT_small.dcm").outcomes
        assert outcome.path is not None
        uids = (outcome.path.study, outcome.path.series, outcome.path.instance)
        theirs = DICOMwebClient(empty_orthanc.dicomweb_url, session=session)
        (file,) = ours.retrieve(uids[0], destination=tmp_path)
        assert pydicom.dcmread(file) == theirs.retrieve_study(uids[0])[0]
        (data_set,) = ours.retrieve_metadata(*uids)
        # Theirs asks without a port, and the URIs of bulk data then have none.
        same = {tag: each for tag, each in data_set.items() if "BulkDataURI" not in each}
        assert same.items() <= theirs.retrieve_instance_metadata(*uids).items()
        assert len(same) > 200
        uri = data_set["7FE00010"]["BulkDataURI"]
        assert [ours.retrieve_bulkdata(uri).data] == theirs.retrieve_bulkdata(
            uri, media_types=("application/octet-stream",)
        )
        picture = theirs.retrieve_instance_rendered(*uids, media_types=("image/png",))
        assert ours.retrieve_rendered(*uids) == picture
