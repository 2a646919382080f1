"""Retrieving: all of it is at the destination or the task fails, a retry goes on, and no path is shown."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.errors import AuthorizationError, ConfigurationError, NotFoundError
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.operators import DicomWebRetrieveOperator
from airflow_dicomweb.operators._base import Private
from tests.airflow.files import STUDY, instance, write_study
from tests.airflow.task_state import context

SERIES, INSTANCE = f"{STUDY}.1", f"{STUDY}.1.1"


def retrieve(destination: Any, study: str = STUDY, **arguments: Any) -> dict[str, Any]:
    return DicomWebRetrieveOperator(task_id="retrieve", study=study, destination=destination, **arguments).execute(
        context()
    )


def bytes_below(folder: Path) -> list[bytes]:
    return sorted(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.fixture
def pictures(client, tmp_path) -> str:
    """A series with two images of two frames each."""
    for number in (1, 2):
        data = instance(STUDY, 1, number)
        data.Rows, data.Columns, data.NumberOfFrames, data.SamplesPerPixel = 4, 6, 2, 1
        data.PhotometricInterpretation, data.PixelRepresentation = "MONOCHROME2", 0
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelData = 7, bytes(range(48))
        data["PixelData"].VR = "OB"
        data.save_as(tmp_path / f"{number}.dcm", enforce_file_format=True)
        assert client.store(tmp_path / f"{number}.dcm").created == 1
    return SERIES


def test_a_study_is_retrieved_to_a_folder_byte_for_byte(study, tmp_path):
    stored = bytes_below(tmp_path / "stored")
    result = retrieve(tmp_path / "out")
    assert result == {"files": 4, "bytes": sum(map(len, stored)), "destination": str(tmp_path / "out")}
    assert json.loads(json.dumps(result)) == result
    assert bytes_below(tmp_path / "out") == stored
    assert retrieve(str(tmp_path / "series"), series=SERIES)["files"] == 2
    assert retrieve(str(tmp_path / "one"), series=SERIES, instance=INSTANCE)["files"] == 1
    assert (tmp_path / "one" / STUDY / SERIES / f"{INSTANCE}.dcm").is_file()


def test_a_study_is_retrieved_to_a_bucket_byte_for_byte(study, tmp_path, bucket):
    result = retrieve(f"gs://{bucket}/copies")
    assert (result["files"], result["destination"]) == (4, f"gs://{bucket}/copies")
    found = sorted(Buckets().find(f"gs://{bucket}/**"), key=lambda item: item.name)
    assert found[0].name == f"copies/{STUDY}/{SERIES}/{INSTANCE}.dcm"
    assert sorted(Buckets().read(bucket, item.name) for item in found) == bytes_below(tmp_path / "stored")


def test_another_server_gives_to_a_bucket_too(empty_orthanc, set_connection, tmp_path, bucket):
    from airflow_dicomweb.hooks import DicomWebHook

    set_connection(host=empty_orthanc.dicomweb_url, login=empty_orthanc.user, password=empty_orthanc.password)
    with DicomWebHook().get_conn() as client:
        client.store(write_study(tmp_path / "in"))
    assert retrieve(f"gs://{bucket}")["files"] == 4
    assert sorted(Buckets().read(bucket, item.name) for item in Buckets().find(f"gs://{bucket}/**")) == bytes_below(
        tmp_path / "in"
    )


@pytest.mark.parametrize("place", ["folder", "bucket"])
@pytest.mark.usefixtures("study")
def test_a_retried_task_asks_for_what_is_missing_alone(store, tmp_path, bucket, place):
    destination = str(tmp_path / "out") if place == "folder" else f"gs://{bucket}/out"
    size = len(bytes_below(tmp_path / "stored")[0])
    # The answer is cut in its third instance, and what is asked for after that is refused.
    store.faults(
        {"method": "GET", "match": f"/studies/{STUDY}$", "cut": size * 5 // 2, "times": 1},
        {"method": "GET", "match": r"/series/[0-9.]+$", "status": 403, "times": 1},
    )
    with pytest.raises(AuthorizationError):
        retrieve(destination)
    assert [fault["fired"] for fault in store.faults()] == [1, 1]
    store.reset()
    assert retrieve(destination)["files"] == 4
    asked = [each["path"].partition("/dicomWeb/")[2] for each in store.requests()]
    assert [path for path in asked if path] == [f"studies/{STUDY}/instances", f"studies/{STUDY}/series/{STUDY}.2"]


def test_pictures_frames_and_metadata_are_retrieved(pictures, tmp_path):
    assert retrieve(tmp_path / "png", series=pictures, media_type="image/png")["files"] == 2
    assert (tmp_path / "png" / STUDY / SERIES / f"{INSTANCE}.png").read_bytes().startswith(b"\x89PNG")
    one = {"series": SERIES, "instance": INSTANCE}
    result = retrieve(tmp_path / "jpg", **one, media_type="image/jpeg", viewport=[3, 2])
    assert result["files"] == 1
    assert (tmp_path / "jpg" / STUDY / SERIES / f"{INSTANCE}.jpg").read_bytes().startswith(b"\xff\xd8\xff")
    result = retrieve(tmp_path / "json", media_type="application/dicom+json")
    assert (result["files"], len(json.loads((tmp_path / "json" / STUDY / "metadata.json").read_text()))) == (1, 2)


@pytest.mark.parametrize("frames", [[2, 1], "2,1", ["2", 1], "[2, 1]"])
def test_frames_are_retrieved_by_their_numbers(pictures, tmp_path, frames):
    assert retrieve(tmp_path, series=SERIES, instance=INSTANCE, frames=frames)["files"] == 2
    files = sorted((tmp_path / STUDY / SERIES).iterdir())
    assert [(path.name, path.read_bytes()) for path in files] == [
        (f"{INSTANCE}-1.raw", bytes(range(24))),
        (f"{INSTANCE}-2.raw", bytes(range(24, 48))),
    ]


def test_what_is_not_there_fails_the_task_and_leaves_nothing(store, tmp_path):
    with pytest.raises(NotFoundError):
        retrieve(tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"destination": "Sentinel/out"}, "absolute path"),
        ({"destination": ""}, "absolute path"),
        ({"destination": None}, "absolute path"),
        ({"destination": 3}, "absolute path"),
        ({"destination": "s3://Sentinel/x"}, "absolute path"),
        ({"destination": "gs://"}, "gs://BUCKET"),
        ({"destination": "gs://Bucket/Sentinel"}, "gs://BUCKET"),
        ({"destination": "gs://bucket/*"}, "without wildcards"),
        ({"destination": "/dev/null/Sentinel"}, "can be written to"),
        ({"instance": "1.2"}, "without its series"),
        ({"media_type": "image/gif"}, "'image/png'"),
        ({"media_type": "png"}, "'image/png'"),
        ({"viewport": (1, 2)}, "viewport"),
        ({"media_type": "image/png", "viewport": (0, 2)}, "viewport"),
        ({"workers": 0}, "workers"),
        ({"workers": "many"}, "workers"),
        ({"frames": [1]}, "of one instance"),
        ({"frames": []}, "counted from 1"),
        *(
            ({"frames": bad, "series": "1.2", "instance": "1.2.3"}, "counted from 1")
            for bad in ([0], [-1], ["a"], "", "0", [1.5], [True], 3, [None])
        ),
        (
            {"frames": [1], "series": "1.2", "instance": "1.2.3", "media_type": "application/dicom+json"},
            "no metadata",
        ),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_sent(store, tmp_path, arguments, words):
    with pytest.raises(ConfigurationError, match=words) as refused:
        retrieve(**{"destination": tmp_path / "out", **arguments})
    assert "Sentinel" not in str(refused.value)
    assert store.requests() == []


def test_a_bucket_that_is_not_there_is_refused_before_anything_is_sent(store, bucket):
    with pytest.raises(NotFoundError, match="bucket of the destination"):
        retrieve("gs://no-such-bucket/out")
    assert store.requests() == []


def test_a_path_is_not_shown_in_rendered_fields_and_not_logged(study, tmp_path, capsys):
    task = DicomWebRetrieveOperator(
        task_id="retrieve", study="{{ study }}", destination=str(tmp_path / "Sentinel^{{ name }}")
    )
    task.render_template_fields({"study": STUDY, "name": "Patient"})
    assert task.study == STUDY
    assert isinstance(task.destination, Private)
    assert task.destination.serialize() == "***"
    assert task.execute(context())["files"] == 4
    assert len(bytes_below(tmp_path / "Sentinel^Patient")) == 4
    assert "Sentinel" not in capsys.readouterr().out


def test_the_hook_gives_a_client_that_writes_to_buckets(store, study, bucket, client):
    (file, *_) = client.retrieve(STUDY, destination=f"gs://{bucket}/hook")
    assert file.location.startswith(f"gs://{bucket}/hook/{STUDY}/")
