"""Frames come as they are stored, as many as were asked for, in that order, and say what they are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.encaps import generate_frames

from airflow_dicomweb.dicomweb.auth import Basic, Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.frames import Frame, accepted, check_frames
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, ResponseError, TransportError
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import PYDICOM_FILES
from tests.dicomweb.scripted import NOTHING, QUICK, answer, storing
from tests.servers.faulty import Fault
from tests.servers.orthanc import Orthanc

UIDS = ("1.2", "1.2.3", "1.2.3.4")
PATH = InstancePath(*UIDS)
OCTETS = "application/octet-stream"


def part(content: bytes, content_type: str = OCTETS, number: int | None = None) -> bytes:
    location = "" if number is None else f"Content-Location: http://pacs/{PATH}/frames/{number}\r\n"
    return f"--x\r\n{location}Content-Type: {content_type}\r\n\r\n".encode() + content


def multipart(*parts: bytes, more: str = "", **faults: Any) -> Fault:
    return answer(b"\r\n".join(parts) + b"\r\n--x--", content_type=f"multipart/related; boundary=x{more}", **faults)


def test_the_request_names_the_frames_and_asks_for_them_as_they_are_stored() -> None:
    with storing(multipart(part(b"three"), part(b"one"))) as (client, server):
        found = list(client.retrieve_frames(*UIDS, frames=[3, 1]))
        assert found == [Frame(3, OCTETS, "", b"three"), Frame(1, OCTETS, "", b"one")]
    (request,) = server.received
    assert request.line == f"GET /dicom-web/{PATH}/frames/3,1"
    assert request.header("accept") == ['multipart/related; type="application/octet-stream"; transfer-syntax=*']
    assert request.header("accept-encoding") == ["identity"]


def test_uncompressed_frames_are_asked_for_by_their_transfer_syntax() -> None:
    with storing(multipart(part(b"x", f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.1"))) as (client, server):
        (frame,) = client.retrieve_frames(*UIDS, [1], transfer_syntax="1.2.840.10008.1.2.1")
    assert (frame.media_type, frame.transfer_syntax) == (OCTETS, "1.2.840.10008.1.2.1")
    assert server.received[0].header("accept")[0].endswith("; transfer-syntax=1.2.840.10008.1.2.1")


@pytest.mark.parametrize(
    ("said", "media_type", "syntax"),
    [
        (multipart(part(b"f", "image/jpeg;transfer-syntax=1.2.3")), "image/jpeg", "1.2.3"),
        (multipart(part(b"f", "image/jpeg"), more="; transfer-syntax=1.2.3"), "image/jpeg", "1.2.3"),
        # Orthanc quotes a whole type, parameters included.
        (multipart(part(b"f", "image/jls"), more='; type="image/jls; transfer-syntax=1.2.3"'), "image/jls", "1.2.3"),
        (answer(b"f", content_type="image/jp2; transfer-syntax=1.2.3"), "image/jp2", "1.2.3"),
        (answer(b"f", content_type=OCTETS), OCTETS, ""),
        (answer(b"f", content_type="video/mp4"), "video/mp4", ""),
    ],
)
def test_a_frame_says_what_it_is_alone_or_in_a_part(said: Fault, media_type: str, syntax: str) -> None:
    with storing(said) as (client, _):
        (frame,) = client.retrieve_frames(*UIDS, [1])
    assert (frame.data, frame.media_type, frame.transfer_syntax) == (b"f", media_type, syntax)


def test_a_server_that_has_pictures_alone_is_asked_for_these() -> None:
    with storing(Fault(406), multipart(part(b"f", "image/jpeg"))) as (client, server):
        (frame,) = client.retrieve_frames(*UIDS, [1])
    assert frame.extension == ".jpg"
    assert [request.header("accept")[0] for request in server.received] == list(accepted("*"))
    assert server.received[1].header("accept") == ['multipart/related; type="image/*"; transfer-syntax=*']
    with storing(Fault(406), Fault(406)) as (client, _), pytest.raises(ResponseError, match="406"):
        list(client.retrieve_frames(*UIDS, [1]))


@pytest.mark.parametrize(
    ("said", "error", "finding"),
    [
        (multipart(part(b"1")), ProtocolError, "2 frames were asked for, the answer has 1"),
        (multipart(part(b"1"), part(b"2"), part(b"3")), ProtocolError, "2 frames .* has more"),
        (multipart(part(b"1", number=1), part(b"3", number=3)), ProtocolError, "frame 2 was expected, .* frame 3"),
        (multipart(part(b"2", number=2), part(b"1", number=1)), ProtocolError, "frame 1 was expected, .* frame 2"),
        (answer(b"1", content_type=OCTETS), ProtocolError, "2 frames were asked for, the answer has 1"),
        (answer(b"--x--", content_type="multipart/related; boundary=x"), ProtocolError, "the answer has 0"),
        (answer(b"<html>", content_type="text/html"), ProtocolError, "text/html"),
        (answer(b"1", 206, content_type=OCTETS), ProtocolError, "206"),
        (NOTHING, NotFoundError, "204"),
        (Fault(404), NotFoundError, "404"),
        (Fault(400), ResponseError, "400"),
    ],
)
def test_anything_else_than_what_was_asked_for_is_an_error(said: Fault, error: type[Exception], finding: str) -> None:
    with storing(said) as (client, _), pytest.raises(error, match=finding):
        list(client.retrieve_frames(*UIDS, [1, 2]))


@pytest.mark.parametrize("number", [1, 2])
def test_the_order_is_told_by_the_place_that_a_part_says(number: int) -> None:
    with storing(multipart(part(b"f", number=number))) as (client, _):
        assert [frame.number for frame in client.retrieve_frames(*UIDS, [number])] == [number]


def test_frames_that_did_not_come_whole_are_asked_for_again() -> None:
    cut = multipart(part(b"one"), part(b"two"), part(b"three"))
    script = [
        Fault(503),
        Fault(cut.status, cut.headers, cut.body[:-20], then="close"),
        Fault(drop="reset"),
        multipart(part(b"three")),
    ]
    with storing(*script, policy=QUICK) as (client, server):
        found = [frame.data for frame in client.retrieve_frames(*UIDS, [1, 2, 3])]
    assert found == [b"one", b"two", b"three"]
    asked = [request.line.rpartition("/")[2] for request in server.received]
    assert asked == ["1,2,3", "1,2,3", "3", "3"]


def test_what_is_always_cut_is_an_error_in_the_end() -> None:
    cut = answer(part(b"half"), content_type="multipart/related; boundary=x", then="close")
    with storing(*[cut] * 9, policy=QUICK) as (client, server), pytest.raises(TransportError):
        list(client.retrieve_frames(*UIDS, [1]))
    assert len(server.received) == 3


@pytest.mark.parametrize(
    "frames", [None, [], (), 1, "1", [0], [-1], [1.0], [True], ["a"], ["1.5"], [None], [2**31], {1: 2}, b"1", [""]]
)
def test_what_is_no_list_of_numbers_is_refused_before_anything_is_sent(frames: Any) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError, match="counted from 1"):
            client.retrieve_frames(*UIDS, frames)
        with pytest.raises(ConfigurationError, match="DICOM UID"):
            client.retrieve_frames("1.2", "..", "1", [1])
        with pytest.raises(ConfigurationError, match="transfer syntax"):
            client.retrieve_frames(*UIDS, [1], transfer_syntax="*/*")
        assert server.received == []
    assert check_frames(["2", 1, 1]) == (2, 1, 1)


@pytest.fixture(params=["emulator", "orthanc"])
def server(request: pytest.FixtureRequest) -> Iterator[tuple[DicomWebClient, Callable[[], Any]]]:
    """A client of ours, and a way to make one that nobody here wrote."""
    from dicomweb_client.api import DICOMwebClient
    from dicomweb_client.session_utils import create_session_from_user_pass
    from requests import Session

    if request.param == "emulator":
        emulator: Emulator = request.getfixturevalue("dicomweb_emulator")
        client: DicomWebClient = HealthcareClient(
            emulator.dicom_store, base_url=emulator.base_url, credentials=Bearer("any")
        )
        session = Session()
        session.headers["Authorization"] = "Bearer any"
        url = emulator.dicom_web_url
    else:
        orthanc: Orthanc = request.getfixturevalue("empty_orthanc")
        client = DicomWebClient(orthanc.dicomweb_url, credentials=Basic(orthanc.user, orthanc.password))
        session, url = create_session_from_user_pass(orthanc.user, orthanc.password), orthanc.dicomweb_url
    with client, session:
        yield client, lambda: DICOMwebClient(url, session=session)


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("SC_rgb_rle_2frame.dcm", "image/dicom-rle"),
        ("examples_ybr_color.dcm", "image/jpeg"),
        ("rtdose.dcm", OCTETS),
        ("MR_small_jp2klossless.dcm", "image/jp2"),
        ("CT_small.dcm", OCTETS),
    ],
)
def test_stored_frames_come_from_real_servers_byte_for_byte(
    server: tuple[DicomWebClient, Callable[[], Any]], tmp_path: Path, name: str, media_type: str
) -> None:
    client, _ = server
    file = PYDICOM_FILES / name
    (outcome,) = client.store(file).outcomes
    assert outcome.path is not None, outcome.reason
    data = pydicom.dcmread(file)
    count = int(data.get("NumberOfFrames", 1))
    if media_type == OCTETS:
        size = len(data.PixelData) // count
        expected = [data.PixelData[at * size : (at + 1) * size] for at in range(count)]
    else:
        expected = list(generate_frames(data.PixelData, number_of_frames=count))
    numbers = [count, 1] if count > 1 else [1]
    uids = (outcome.path.study, outcome.path.series, outcome.path.instance)
    found = list(client.retrieve_frames(*uids, numbers))
    assert [frame.number for frame in found] == numbers
    assert [frame.data for frame in found] == [expected[number - 1] for number in numbers]
    assert {frame.media_type for frame in found} <= {media_type, OCTETS}
    files = client.retrieve(*uids, frames=numbers, destination=tmp_path)
    assert [(file.frame, file.path.read_bytes()) for file in files] == [(each.number, each.data) for each in found]
    with pytest.raises(ResponseError):
        list(client.retrieve_frames(*uids, [count + 1]))


def test_dicomweb_client_gets_the_same_frames(server: tuple[DicomWebClient, Callable[[], Any]]) -> None:
    client, theirs = server
    (outcome,) = client.store(PYDICOM_FILES / "rtdose.dcm").outcomes
    assert outcome.path is not None
    uids = (outcome.path.study, outcome.path.series, outcome.path.instance)
    expected = theirs().retrieve_instance_frames(*uids, [2, 1], media_types=(OCTETS,))
    assert [frame.data for frame in client.retrieve_frames(*uids, [2, 1])] == expected
