"""What a store puts on the wire: whole files, in bounded batches, to the right place; and nothing for bad arguments."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from requests_toolbelt.multipart.decoder import MultipartDecoder

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.errors import (
    ConfigurationError,
)
from tests.dicomweb.instances import series_of
from tests.dicomweb.scripted import (
    NOTHING,
    QUICK,
    STUDY,
    Reporting,
    kinds,
    posts,
    sent,
    stored,
    storing,
)
from tests.servers.faulty import Fault, faulty


def test_files_are_sent_as_they_are_in_one_multipart_with_a_length(tmp_path: Path) -> None:
    files = series_of(tmp_path, 3, PatientName="Jürgen^Test", SpecificCharacterSet="ISO_IR 192")
    contents = [file.read_bytes() for file in files]
    with storing(NOTHING, stored(0, 1, 2)) as (client, server):
        result = client.store(tmp_path, checksums=True)
    search, post = server.received
    assert search.line == (f"GET /dicom-web/studies/{STUDY}/instances?includefield=SeriesInstanceUID&limit=1000")
    assert search.header("accept") == ["application/dicom+json"]
    assert post.line == "POST /dicom-web/studies"
    assert post.header("accept") == ["application/dicom+json"]
    assert post.header("content-length") == [str(len(post.body))]
    assert post.header("transfer-encoding") == []
    assert post.header("authorization") == ["Bearer t"]
    assert sent(post) == contents
    decoder = MultipartDecoder(post.body, post.header("content-type")[0])
    assert [part.content for part in decoder.parts] == contents
    assert [each.sha256 for each in result.outcomes] == [hashlib.sha256(each).hexdigest() for each in contents]
    assert (kinds(result), result.bytes) == (["created"] * 3, sum(map(len, contents)))


def test_one_instance_is_sent_single_part_only_to_a_server_that_takes_it(tmp_path: Path) -> None:
    (file,) = series_of(tmp_path, 1)
    with storing(NOTHING, stored(0), client=Reporting) as (client, server):
        assert kinds(client.store(file)) == ["created"]
    (post,) = posts(server)
    assert post.header("content-type") == ["application/dicom"]
    assert post.body == file.read_bytes()
    with storing(NOTHING, stored(0)) as (client, server):
        client.store(file)
    assert sent(posts(server)[0]) == [file.read_bytes()]


def test_storing_into_a_study_goes_to_its_path_and_leaves_other_studies_out(tmp_path: Path) -> None:
    series_of(tmp_path / "a", 1)
    series_of(tmp_path / "b", 1, study="1.2.840.2")
    with storing(NOTHING, stored(0)) as (client, server):
        result = client.store(tmp_path, study=STUDY)
    assert posts(server)[0].line == f"POST /dicom-web/studies/{STUDY}"
    assert len(sent(posts(server)[0])) == 1
    assert kinds(result) == ["created", "failed"]
    assert "another study" in result.outcomes[1].reason


def test_each_transaction_has_a_prefix_of_its_own(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    with (
        faulty(NOTHING, stored(0)) as server,
        DicomWebClient(server.url, qido_prefix="/qido/", stow_prefix="rs/stow") as client,
    ):
        client.store(tmp_path)
    assert [each.line.split("?")[0] for each in server.received] == [
        f"GET /qido/studies/{STUDY}/instances",
        "POST /rs/stow/studies",
    ]


def test_batches_have_a_bounded_number_of_files_and_bytes(tmp_path: Path) -> None:
    files = series_of(tmp_path, 5)
    size = files[0].stat().st_size
    for options, expected in [
        ({"batch_count": 2}, [[0, 1], [2, 3], [4]]),
        ({"batch_bytes": 3 * size}, [[0, 1, 2], [3, 4]]),
        ({"batch_bytes": 1}, [[0], [1], [2], [3], [4]]),
    ]:
        with storing(NOTHING, *(stored(*batch) for batch in expected)) as (client, server):
            assert kinds(client.store(tmp_path, workers=1, **options)) == ["created"] * 5
        assert [len(sent(post)) for post in posts(server)] == [len(batch) for batch in expected]


def test_a_retry_sends_the_whole_body_again(tmp_path: Path) -> None:
    series_of(tmp_path, 3)
    script = [NOTHING, Fault(503), Fault(drop="reset", read=100), stored(0, 1, 2)]
    with storing(*script, policy=QUICK) as (client, server):
        assert kinds(client.store(tmp_path)) == ["created"] * 3
    whole = posts(server)[0].body
    assert [post.body for post in posts(server)[2:]] == [whole]
    assert len(sent(posts(server)[2])) == 3


@pytest.mark.parametrize(
    "arguments",
    [
        {"workers": 0},
        {"workers": True},
        {"batch_bytes": 0},
        {"batch_count": 0},
        {"batch_count": 1.5},
        {"on_conflict": "replace"},
        {"verify": "hash"},
        {"study": ".."},
        {"study": ""},
        {"storage_class": "NEARLINE"},
        {"shard": (1, 1)},
        {"source": "/nowhere"},
        {"source": []},
    ],
)
def test_bad_arguments_are_refused_before_anything_is_sent(tmp_path: Path, arguments: dict[str, Any]) -> None:
    series_of(tmp_path, 1)
    with storing() as (client, server):
        with pytest.raises(ConfigurationError):
            client.store(arguments.pop("source", tmp_path), **arguments)
        assert server.received == []
