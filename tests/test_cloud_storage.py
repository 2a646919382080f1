"""The Cloud Storage emulator of tests and demonstration, used through Google's own client."""

from __future__ import annotations

import urllib.error
import urllib.request
from pathlib import Path

import pytest
from google.auth.credentials import AnonymousCredentials
from google.cloud import storage

from demo.cloud_storage import running_cloud_storage


def test_what_is_written_to_a_bucket_is_listed_and_read_back(bucket: str) -> None:
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        client.bucket(bucket).blob("prefix/one").upload_from_string(b"\x00\x01")
        assert [blob.name for blob in client.list_blobs(bucket, prefix="prefix/")] == ["prefix/one"]
        assert client.bucket(bucket).blob("prefix/one").download_as_bytes() == b"\x00\x01"


def test_more_requests_than_a_pipe_holds_do_not_stop_the_server(bucket: str) -> None:
    with storage.Client(project="project", credentials=AnonymousCredentials()) as client:
        assert [client.bucket(bucket).blob("absent").exists() for _ in range(600)] == [False] * 600


def test_the_server_is_gone_after_an_error(tmp_path: Path) -> None:
    base_urls: list[str] = []
    with pytest.raises(KeyError, match="on purpose"):
        fail_while_it_runs(tmp_path / "log", base_urls)
    with pytest.raises(urllib.error.URLError):
        urllib.request.urlopen(f"{base_urls[0]}/storage/v1/b?project=any", timeout=30)


def fail_while_it_runs(log_path: Path, base_urls: list[str]) -> None:
    with running_cloud_storage(log_path) as base_url:
        urllib.request.urlopen(f"{base_url}/storage/v1/b?project=any", timeout=30).close()
        base_urls.append(base_url)
        raise KeyError("on purpose")
