"""What ObjectStoragePath opens is stored like local files; connections, paths and a storage's words are never shown."""

from __future__ import annotations

import io
import uuid
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from airflow.sdk import ObjectStoragePath
from airflow.sdk.io import attach
from fsspec.implementations.memory import MemoryFileSystem

from airflow_dicomweb.dicomweb.dicomdir import MISSING
from airflow_dicomweb.dicomweb.entries import Entry
from airflow_dicomweb.dicomweb.sources import list_sources
from airflow_dicomweb.errors import ConfigurationError, TransportError
from airflow_dicomweb.operators import DicomWebStoreInstancesOperator
from airflow_dicomweb.operators.object_storage import ObjectStorage, openable
from tests.airflow.files import STUDY, write_study
from tests.airflow.task_state import context
from tests.dicomweb.test_dicomdir import dicomdir


class Memory(MemoryFileSystem):
    """fsspec's file system in memory, as a storage of its own, with things that go wrong."""

    protocol = "memory"
    store: dict[str, Any] = {}  # noqa: RUF012 - fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012

    def ls(self, path: str, detail: bool = True, **kwargs: Any) -> Any:
        if "closed" in path:
            raise PermissionError(13, f"{path} is closed to Doe^John")
        return super().ls(path, detail, **kwargs)

    def _open(self, path: str, mode: str = "rb", *args: Any, **kwargs: Any) -> Any:
        if mode != "rb":
            return super()._open(path, mode, *args, **kwargs)
        if "broken" in path:
            raise RuntimeError(f"{path} of Doe^John")
        return io.BytesIO(self.store[path].getvalue())

    def info(self, path: str, **kwargs: Any) -> Any:
        if "down" in path:
            raise RuntimeError(f"{path} of Doe^John")
        return super().info(path, **kwargs)


@pytest.fixture
def bucket_in_memory() -> Iterator[str]:
    """The name of a new bucket in a storage that Airflow knows, with and without a connection."""
    files = Memory()
    for conn_id in (None, "secret_conn"):
        attach("memory", conn_id=conn_id, fs=files)
    yield uuid.uuid4().hex
    files.store.clear()


def put(bucket: str, content: dict[str, bytes]) -> None:
    for name, data in content.items():
        Memory().pipe_file(f"/{bucket}/{name}", data)


def names(source: Any) -> list[str]:
    return [each.name for each in list_sources(openable(source))]


def archive(content: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as file:
        for name, data in content.items():
            file.writestr(name, data)
    return stream.getvalue()


def reason(source: Any) -> str:
    try:
        source.open().close()
    except OSError as error:
        return error.strerror or ""
    return ""


@pytest.mark.parametrize("conn", ["", "secret_conn@"])
@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("in", ["in/a", "in/b/1", "in/b.dcm", "in/c.zip/x"]),
        ("in/", ["in/a", "in/b/1", "in/b.dcm", "in/c.zip/x"]),
        ("in/**", ["in/a", "in/b/1", "in/b.dcm", "in/c.zip/x"]),
        ("in/*.zip", ["in/c.zip/x"]),
        ("in/*/1", ["in/b/1"]),
        ("in/[ab]", ["in/a"]),
        ("in/b.dcm", ["in/b.dcm"]),
        ("*/a", ["in/a"]),
    ],
)
def test_directories_globs_and_files_are_listed_without_their_connection(
    bucket_in_memory: str, conn: str, pattern: str, expected: list[str]
) -> None:
    put(bucket_in_memory, {"in/a": b"1", "in/b/1": b"2", "in/b.dcm": b"3", "in/c.zip": archive({"x": b"4"}), "z": b"5"})
    uri = f"memory://{conn}{bucket_in_memory}/{pattern}"
    wanted = sorted(f"memory://{bucket_in_memory}/{name}" for name in expected)
    assert names(uri) == wanted
    assert names(ObjectStoragePath(uri)) == wanted
    assert names(iter([uri])) == wanted
    contents = [source.open().read() for source in list_sources(openable([uri]))]
    assert all(contents)


def test_a_wildcard_at_the_end_is_no_query(bucket_in_memory: str) -> None:
    put(bucket_in_memory, {"in/a": b"1", "in/ab": b"2", "in/ac": b"3"})
    root = f"memory://secret_conn@{bucket_in_memory}/in"
    assert [name[-2:] for name in names(f"{root}/a?")] == ["ab", "ac"]
    assert names(f"{root}/?") == [f"memory://{bucket_in_memory}/in/a"]
    for uri in (f"{root}/a#", f"{root}/b?"):
        with pytest.raises(ConfigurationError):
            names(uri)


def test_shards_of_a_storage_are_a_partition(bucket_in_memory: str) -> None:
    put(bucket_in_memory, {f"in/{number}": b"x" for number in range(20)} | {"in/c.zip": archive({"x": b"", "y": b""})})
    source = f"memory://{bucket_in_memory}/in"
    shards = [[each.name for each in list_sources(openable(source), shard=(index, 3))] for index in range(3)]
    assert sorted(name for shard in shards for name in shard) == names(source)


def test_a_cd_in_a_storage_misses_what_its_dicomdir_names(bucket_in_memory: str) -> None:
    put(bucket_in_memory, {"cd/dicomdir": dicomdir(("IMAGES", "IM1"), ("IMAGES", "IM2")), "cd/images/im1": b"x"})
    found = {
        each.name.split("/cd/")[1]: reason(each) for each in list_sources(openable(f"memory://{bucket_in_memory}"))
    }
    assert found == {"IMAGES/IM2": MISSING, "dicomdir": "", "images/im1": ""}


def test_what_goes_wrong_below_is_that_sources_failure_and_nothing_is_shown(bucket_in_memory: str) -> None:
    put(bucket_in_memory, {"in/broken": b"x", "in/closed/1": b"x", "in/fine": b"x"})
    found = [reason(each) for each in list_sources(openable(f"memory://{bucket_in_memory}/in"))]
    assert found == ["RuntimeError", "a directory that cannot be listed (Permission denied)", ""]


@pytest.mark.parametrize(
    ("uri", "error", "words"),
    [
        ("memory://secret_conn@BUCKET/Doe^John", ConfigurationError, "does not exist"),
        ("memory://secret_conn@BUCKET/Doe^John/*", ConfigurationError, "does not exist"),
        ("memory://secret_conn@BUCKET/in/*.Doe", ConfigurationError, "matches no file"),
        ("memory://secret_conn@BUCKET/down/Doe^John", TransportError, "RuntimeError"),
        ("s3://secret_conn@bucket/Doe^John", ConfigurationError, "provider"),
        ("nosuch://secret_conn@bucket/Doe^John", ConfigurationError, "provider"),
    ],
)
def test_what_cannot_be_opened_is_an_error_at_once_that_shows_nothing(
    bucket_in_memory: str, uri: str, error: type[Exception], words: str
) -> None:
    put(bucket_in_memory, {"in/a": b"x"})
    with pytest.raises(error, match=words) as refused:
        list_sources(openable(uri.replace("BUCKET", bucket_in_memory)))
    assert not any(word in str(refused.value) for word in ("secret_conn", "Doe", bucket_in_memory))
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_what_needs_no_opener_stays_as_it_is(tmp_path: Path) -> None:
    entry = Entry.from_bytes("a", b"")
    for source in ("gs://bucket/x/**", "/in/*", "", tmp_path, entry, 3, None, b"x"):
        assert openable(source) is source
    assert openable([tmp_path, "gs://bucket/x"]) == [tmp_path, "gs://bucket/x"]
    assert openable("file:///in/x*") == "/in/x*"
    assert openable(ObjectStoragePath("file:///in/x")) == openable(ObjectStoragePath("/in/x")) == "/in/x"
    assert openable(ObjectStoragePath("gs://bucket/in/x")) == "gs://bucket/in/x"
    assert isinstance(openable(("s3://bucket/x",))[0], ObjectStorage)
    assert "bucket" not in repr(openable("s3://conn@bucket/x"))


def test_the_operator_stores_what_a_storage_has(store: Any, client: Any, tmp_path: Path, bucket_in_memory: str) -> None:
    paths = write_study(tmp_path / "in")
    put(bucket_in_memory, {"in/x.zip": archive({paths[0].name: paths[0].read_bytes()})})
    put(bucket_in_memory, {f"in/{path.name}": path.read_bytes() for path in paths[1:3]})
    source = [f"memory://secret_conn@{bucket_in_memory}/in/**", f"file://{paths[3]}"]
    operator = DicomWebStoreInstancesOperator(task_id="store", source=source, check="structure")
    assert operator.execute(context())["created"] == 4
    assert len(list(client.search_instances(study=STUDY))) == 4
    again = DicomWebStoreInstancesOperator(
        task_id="again", source=ObjectStoragePath(f"memory://{bucket_in_memory}/in"), verify="bytes"
    )
    assert again.execute(context())["identical"] == 3


def test_the_operator_refuses_a_file_that_is_cut_short(store: Any, tmp_path: Path) -> None:
    paths = write_study(tmp_path / "in")
    paths[0].write_bytes(paths[0].read_bytes()[:-3])
    operator = DicomWebStoreInstancesOperator(
        task_id="store", source=str(tmp_path / "in"), check="structure", max_failures=1
    )
    result = operator.execute(context())
    assert (result["created"], result["failed"]) == (3, 1)
    with pytest.raises(ConfigurationError, match="check must be one of"):
        DicomWebStoreInstancesOperator(task_id="store", source=str(tmp_path / "in"), check="all").execute(context())
