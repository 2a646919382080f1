"""Cloud Storage through Google's client, against an emulator that is not ours."""

from __future__ import annotations

import io
import os
import pickle
import threading
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Google
from airflow_dicomweb.errors import AuthorizationError, ConfigurationError, NotFoundError, TransportError
from airflow_dicomweb.healthcare.bodies import GcsPattern, GcsPrefix
from airflow_dicomweb.healthcare.gcs import Buckets, GcsObject
from airflow_dicomweb.healthcare.gcs_objects import BLOCK, FIRST_BLOCK, ObjectReader
from tests.servers.faulty import Fault, FaultyServer, faulty
from tests.servers.token_server import TokenServer


@pytest.fixture
def buckets(bucket: str):
    with Buckets() as opened:
        yield opened


def names(items) -> list[str]:
    return [item.name for item in items]


def fill(buckets: Buckets, bucket: str, *object_names: str) -> None:
    for name in object_names:
        buckets.write(bucket, name, b"content of an object")


def test_a_pattern_lists_what_it_stands_for_in_the_order_of_names(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "b/2.dcm", "a/1.dcm", "a/b/3.dcm", "a/x", "a/b/", "ab/4.dcm", "a/É.dcm")
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/a/**"))) == ["a/1.dcm", "a/b/3.dcm", "a/x", "a/É.dcm"]
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/a/*.dcm"))) == ["a/1.dcm", "a/É.dcm"]
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/?/?"))) == ["a/x"]
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/**"))) == [
        *("a/1.dcm", "a/b/3.dcm", "a/x", "a/É.dcm", "ab/4.dcm", "b/2.dcm")
    ]


def test_a_pattern_without_wildcards_is_one_object_or_none(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "a/1", "a/12", "folder/")
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/a/1"))) == ["a/1"]
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/a/"))) == []
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/folder/"))) == []


def test_a_listing_of_several_pages_is_whole(buckets: Buckets, bucket: str):
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda index: buckets.write(bucket, f"many/{index:05}", b"x"), range(1203)))
    listed = names(buckets.list_prefix(GcsPrefix.parse(f"gs://{bucket}/many")))
    assert listed == [f"many/{index:05}" for index in range(1203)]


def test_a_prefix_is_a_folder_not_the_beginning_of_a_name(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "run/1", "run/2/3", "runs/4")
    assert names(buckets.list_prefix(GcsPrefix.parse(f"gs://{bucket}/run"))) == ["run/1", "run/2/3"]
    assert names(buckets.list_prefix(GcsPrefix.parse(f"gs://{bucket}"))) == ["run/1", "run/2/3", "runs/4"]


def test_listed_objects_say_size_version_and_checksum(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "one")
    (item,) = buckets.list(GcsPattern.parse(f"gs://{bucket}/*"))
    (same,) = buckets.list(GcsPattern.parse(f"gs://{bucket}/one"))
    assert item == same
    assert (item.size, item.uri) == (20, f"gs://{bucket}/one")
    assert item.generation > 0
    assert item.crc32c


@pytest.mark.parametrize("size", [0, 1, FIRST_BLOCK, FIRST_BLOCK + 1, FIRST_BLOCK + BLOCK + 7])
def test_an_opened_object_reads_like_the_file_that_it_was(buckets: Buckets, bucket: str, tmp_path: Path, size: int):
    content = os.urandom(size)
    (tmp_path / "file").write_bytes(content)
    buckets.upload(bucket, "object", tmp_path / "file", "application/dicom")
    (item,) = buckets.list(GcsPattern.parse(f"gs://{bucket}/object"))
    assert item.size == size
    with buckets.open(item) as file:
        assert file.read() == content
        file.seek(size // 2)
        assert file.read(10) == content[size // 2 : size // 2 + 10]
        assert file.seek(0, io.SEEK_END) == size
        assert file.read() == b""
    with buckets.open(item) as file:
        assert b"".join(iter(lambda: file.read(100_000), b"")) == content


def test_a_file_object_is_uploaded_from_its_beginning(buckets: Buckets, bucket: str):
    file = io.BytesIO(b"head and body")
    file.seek(5)
    buckets.upload(bucket, "object", file)
    assert buckets.read(bucket, "object") == b"head and body"


def test_a_large_file_is_neither_uploaded_nor_read_through_memory(buckets: Buckets, bucket: str, tmp_path: Path):
    size = 48 * 2**20
    with (tmp_path / "file").open("wb") as file:
        file.truncate(size)
    tracemalloc.start()
    try:
        buckets.upload(bucket, "object", tmp_path / "file")
        (item,) = buckets.find(f"gs://{bucket}/object")
        with buckets.open(item) as file:
            assert sum(map(len, iter(lambda: file.read(2**20), b""))) == size
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size


def test_writing_again_replaces_and_the_old_version_cannot_be_read_by_mistake(buckets: Buckets, bucket: str):
    buckets.write(bucket, "object", b"first", "text/plain")
    (first,) = buckets.list(GcsPattern.parse(f"gs://{bucket}/object"))
    buckets.write(bucket, "object", b"other", "text/plain")
    assert buckets.read(bucket, "object") == b"other"
    with buckets.open(first) as file, pytest.raises(NotFoundError):
        file.read()


def test_what_is_missing_is_not_found_and_no_object_name_is_told(buckets: Buckets, bucket: str):
    gone = GcsObject(bucket, "DOE^JANE", 10, 1)
    for attempt in (
        lambda: buckets.read(bucket, "DOE^JANE"),
        lambda: buckets.delete(bucket, "DOE^JANE"),
        lambda: buckets.open(gone).read(),
        lambda: list(buckets.list(GcsPattern.parse("gs://no-such-bucket/DOE^JANE/**"))),
    ):
        with pytest.raises(NotFoundError) as caught:
            attempt()
        assert "DOE" not in repr(caught.value)
        assert caught.value.__cause__ is caught.value.__context__ is None


def test_a_deleted_object_is_gone(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "one", "two")
    buckets.delete(bucket, "one")
    assert names(buckets.list(GcsPattern.parse(f"gs://{bucket}/**"))) == ["two"]


def test_a_bucket_is_there_or_not(buckets: Buckets, bucket: str):
    assert buckets.exists_bucket(bucket)
    assert not buckets.exists_bucket("no-such-bucket")


def test_an_emulator_is_used_without_credentials(buckets: Buckets, bucket: str, token_server: TokenServer):
    fill(buckets, bucket, "one")
    assert token_server.requests == []


def without_emulator(monkeypatch: pytest.MonkeyPatch, server: FaultyServer) -> None:
    """Let Google's client take a server of ours for Cloud Storage itself."""
    monkeypatch.delenv("STORAGE_EMULATOR_HOST", raising=False)
    monkeypatch.setenv("API_ENDPOINT_OVERRIDE", server.url)


def test_without_an_emulator_the_account_is_used_and_renewed_after_a_401(
    token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    account = Google(key_info=token_server.write_key(tmp_path / "key.json"), quota_project_id="billing")
    listing = b'{"items": [{"name": "a/1", "size": "3", "generation": "7", "crc32c": "AAAAAA=="}]}'
    answer = Fault(body=listing, headers=(("Content-Type", "application/json"),))
    with faulty(answer, Fault(401), answer, Fault(503), answer) as server, Buckets(account) as buckets:
        without_emulator(monkeypatch, server)
        for _ in range(3):
            assert list(buckets.find("gs://bucket/a/*")) == [GcsObject("bucket", "a/1", 3, 7, "AAAAAA==")]
    tokens = [request.header("authorization")[0] for request in server.received]
    assert tokens == ["Bearer tok-1", "Bearer tok-1", "Bearer tok-2", "Bearer tok-2", "Bearer tok-2"]
    assert {request.header("x-goog-user-project")[0] for request in server.received} == {"billing"}


def test_default_credentials_are_looked_for_where_none_are_given(
    token_server: TokenServer, monkeypatch: pytest.MonkeyPatch
):
    with faulty(Fault(404)) as server, Buckets() as buckets:
        without_emulator(monkeypatch, server)
        assert not buckets.exists_bucket("bucket")
    assert [request.header("authorization") for request in server.received] == [["Bearer tok-1"]]
    assert [asked.kind for asked in token_server.requests] == ["metadata"]


def test_a_missing_permission_is_named_with_the_account_and_without_the_object(
    token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    account = Google(key_info=token_server.write_key(tmp_path / "key.json", "me@project.iam.gserviceaccount.com"))
    words = b'{"error": {"code": 403, "message": "me@p does not have storage.objects.get access to bucket/DOE^JANE"}}'
    with faulty(Fault(403, body=words)) as server, Buckets(account) as buckets:
        without_emulator(monkeypatch, server)
        with pytest.raises(AuthorizationError) as caught:
            buckets.read("bucket", "DOE^JANE")
    assert str(caught.value) == (
        "GET gs://bucket was answered with 403 (sent as me@project.iam.gserviceaccount.com): "
        "permission storage.objects.get is missing, or there is no such bucket"
    )


def test_an_account_that_gets_no_token_is_refused_with_the_token_servers_reason(
    token_server: TokenServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    account = Google(key_info=token_server.write_key(tmp_path / "key.json"))
    token_server.reset()
    with faulty() as server, Buckets(account) as buckets:
        without_emulator(monkeypatch, server)
        with pytest.raises(AuthorizationError, match="invalid_grant"):
            buckets.read("bucket", "object")
    assert server.received == []


def test_one_object_serves_many_threads_with_a_client_each(buckets: Buckets, bucket: str):
    fill(buckets, bucket, "one")
    barrier = threading.Barrier(4)

    def read(_: int) -> bytes:
        barrier.wait(timeout=30)
        return buckets.read(bucket, "one")

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(read, range(4))) == {b"content of an object"}


def test_an_unreachable_server_is_a_transport_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", "http://127.0.0.1:1")
    with Buckets(retry_timeout=0.5) as buckets, pytest.raises(TransportError, match="gs://bucket") as caught:
        buckets.read("bucket", "DOE^JANE")
    assert "DOE" not in str(caught.value)


def test_a_file_that_cannot_be_read_is_a_bad_argument_and_its_path_is_not_told(buckets: Buckets, bucket: str):
    with pytest.raises(ConfigurationError, match="No such file") as caught:
        buckets.upload(bucket, "object", "/nowhere/DOE^JANE")
    assert "DOE" not in str(caught.value)


def test_a_range_that_came_short_is_an_error_not_a_short_file():
    reader = ObjectReader(GcsObject("bucket", "name", 10, 1), lambda start, end: b"x" * (end - start - 1))
    with pytest.raises(TransportError, match="9 of 10 bytes"):
        reader.read()


def test_other_bytes_than_the_checksum_says_are_an_error():
    item = GcsObject("bucket", "name", 10, 1, crc32c="AAAAAA==")
    with pytest.raises(TransportError, match="checksum"):
        ObjectReader(item, lambda start, end: b"x" * (end - start)).read()


def test_a_header_is_read_without_the_rest_of_the_object():
    asked: list[tuple[int, int]] = []

    def fetch(start: int, end: int) -> bytes:
        asked.append((start, end))
        return bytes(end - start)

    with io.BufferedReader(ObjectReader(GcsObject("bucket", "name", 10**9, 1), fetch)) as file:
        assert file.read(132) == bytes(132)
        assert file.read(5000) == bytes(5000)
    assert asked == [(0, FIRST_BLOCK)]


def test_an_object_survives_pickling():
    item = GcsObject("bucket", "name", 10, 1, "crc")
    assert pickle.loads(pickle.dumps(item)) == item
