"""Pictures come whole, one for each instance or frame, several at a time, and are not made twice."""

from __future__ import annotations

import io
import stat
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.errors import ConfigurationError, NotFoundError, ProtocolError, ResponseError, TransportError
from tests.dicomweb.instances import PYDICOM_FILES
from tests.dicomweb.scripted import QUICK, STUDY, answer, found, sop, storing
from tests.dicomweb.test_retrieve import SERIES, left, named, paths
from tests.servers.faulty import Fault

PNG = "image/png"


def png(content: bytes = b"\x89PNG", **more: Any) -> Fault:
    return answer(content, content_type=PNG, **more)


def rendered(number: int) -> str:
    return f"studies/{STUDY}/series/{SERIES}/instances/{sop(number)}/rendered"


def test_each_instance_gives_a_picture_in_a_private_file(tmp_path: Path) -> None:
    with storing(found(0, 1), png(b"one"), png(b"two")) as (client, server):
        files = client.retrieve(STUDY, destination=tmp_path, media_type=PNG, viewport=(64, 32), workers=1)
    assert [(file.path.name, file.path.read_bytes()) for file in files] == [
        (f"{sop(0)}.png", b"one"),
        (f"{sop(1)}.png", b"two"),
    ]
    assert {stat.S_IMODE(file.path.stat().st_mode) for file in files} == {0o600}
    assert paths(server)[1:] == [rendered(0), rendered(1)]
    for request in server.received[1:]:
        assert request.line.endswith("rendered?viewport=64,32") or request.line.endswith("rendered?viewport=64%2C32")
        assert request.header("accept") == [PNG]
        assert request.header("accept-encoding") == ["identity"]


def test_frames_give_a_picture_each(tmp_path: Path) -> None:
    with storing(png(b"two"), png(b"one")) as (client, server):
        files = client.retrieve(STUDY, SERIES, sop(0), frames=[2, 1], destination=tmp_path, media_type=PNG, workers=1)
    assert [(file.frame, file.path.name, file.path.read_bytes()) for file in files] == [
        (2, f"{sop(0)}-2.png", b"two"),
        (1, f"{sop(0)}-1.png", b"one"),
    ]
    assert [path.rpartition("/instances/")[2] for path in paths(server)] == [
        f"{sop(0)}/frames/2/rendered",
        f"{sop(0)}/frames/1/rendered",
    ]


def test_one_frame_is_rendered_in_memory() -> None:
    with storing(png(b"seven")) as (client, server):
        assert client.retrieve_rendered(STUDY, SERIES, sop(0), frame=7) == b"seven"
        assert paths(server) == [rendered(0).replace("/rendered", "/frames/7/rendered")]
        for frame in (0, -1, 1.5, True, "x"):
            with pytest.raises(ConfigurationError, match="counted from 1"):
                client.retrieve_rendered(STUDY, SERIES, sop(0), frame=frame)
        assert len(server.received) == 1


def test_pictures_that_are_there_are_not_made_again_but_others_are(tmp_path: Path) -> None:
    with storing(found(0, 1), png(b"one"), Fault(403)) as (client, server):
        with pytest.raises(ResponseError):
            client.retrieve(STUDY, destination=tmp_path, media_type=PNG, workers=1)
        assert named(tmp_path) == []
        assert len(left(tmp_path)) == 1
        server.script += [found(0, 1), png(b"two"), found(0, 1), found(0, 1), png(b"1"), png(b"2")]
        assert len(client.retrieve(STUDY, destination=tmp_path, media_type=PNG)) == 2
        client.retrieve(STUDY, destination=tmp_path, media_type=PNG)
        # Another size is another picture.
        client.retrieve(STUDY, destination=tmp_path, media_type=PNG, viewport=(1, 1), workers=1)
    asked = [path for path in paths(server) if path.endswith("/rendered")]
    assert asked == [rendered(0), rendered(1), rendered(1), rendered(0), rendered(1)]
    assert sorted(path.read_bytes() for path in left(tmp_path)) == [b"1", b"2"]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (png(b""), ProtocolError),
        (answer(b"x", content_type="image/jpeg"), ProtocolError),
        (answer(b"x", content_type="text/html"), ProtocolError),
        (png(b"x", declared=9, then="close"), TransportError),
        (Fault(404), NotFoundError),
        (Fault(406), ResponseError),
    ],
)
def test_what_is_no_whole_picture_is_an_error_and_leaves_nothing(
    said: Fault, error: type[Exception], tmp_path: Path
) -> None:
    with storing(found(0), said) as (client, _), pytest.raises(error):
        client.retrieve(STUDY, destination=tmp_path, media_type=PNG)
    assert left(tmp_path) == []


def test_a_cut_picture_is_asked_for_again_alone(tmp_path: Path) -> None:
    script = [found(0, 1), png(b"one"), png(b"tw", declared=9, then="close"), png(b"two")]
    with storing(*script, policy=QUICK) as (client, server):
        client.retrieve(STUDY, destination=tmp_path, media_type=PNG, workers=1)
    assert paths(server)[1:] == [rendered(0), rendered(1), rendered(1)]


def test_a_study_without_instances_gives_no_pictures(tmp_path: Path) -> None:
    with storing(answer([])) as (client, _), pytest.raises(NotFoundError):
        client.retrieve(STUDY, destination=tmp_path, media_type=PNG)


def test_real_servers_draw_instances_and_frames(server: DicomWebClient, tmp_path: Path) -> None:
    (outcome,) = server.store(PYDICOM_FILES / "SC_rgb_rle_2frame.dcm").outcomes
    assert outcome.path is not None
    uids = (outcome.path.study, outcome.path.series, outcome.path.instance)
    (whole,) = server.retrieve(uids[0], destination=tmp_path / "whole", media_type=PNG)
    frames = server.retrieve(*uids, frames=[1, 2], destination=tmp_path / "frames", media_type=PNG)
    sizes = [Image.open(io.BytesIO(file.path.read_bytes())).size for file in (whole, *frames)]
    assert sizes == [(100, 100)] * 3
    assert whole.path.read_bytes() == frames[0].path.read_bytes() == server.retrieve_rendered(*uids, frame=1)
    assert frames[1].path.read_bytes() == server.retrieve_rendered(*uids, frame=2) != frames[0].path.read_bytes()
    small = server.retrieve_rendered(*uids, frame=2, media_type="image/jpeg", viewport=(50, 50))
    assert Image.open(io.BytesIO(small)).format == "JPEG"
