"""Retrieved files become objects that are whole, say what they are, and are not written twice."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.errors import (
    AuthorizationError,
    ConfigurationError,
    NotFoundError,
    ProtocolError,
    ResponseError,
    TransportError,
)
from airflow_dicomweb.healthcare.gcs import Buckets
from airflow_dicomweb.healthcare.gcs_objects import MARK
from airflow_dicomweb.healthcare.gcs_places import IN_MEMORY, BucketPlace
from tests.dicomweb.instances import part10
from tests.dicomweb.scripted import QUICK, STUDY, answer, found, instance, sop
from tests.dicomweb.test_retrieve import SERIES, content, multipart, paths
from tests.servers.faulty import Fault, FaultyServer, faulty

WHOLE, SEARCH = f"studies/{STUDY}", f"studies/{STUDY}/instances"


@pytest.fixture
def buckets(bucket: str) -> Iterator[Buckets]:
    with Buckets(retry_timeout=2.0) as made:
        yield made


@contextmanager
def retrieving(buckets: Buckets, *script: Fault) -> Iterator[tuple[DicomWebClient, FaultyServer]]:
    with (
        faulty(*script) as server,
        DicomWebClient(
            f"{server.url}/dicom-web", credentials=Bearer("t"), retry_policy=QUICK, buckets=buckets
        ) as client,
    ):
        yield client, server


def objects(buckets: Buckets, bucket: str) -> dict[str, bytes]:
    return {item.name: buckets.read(bucket, item.name) for item in buckets.find(f"gs://{bucket}/**")}


def name(number: int, prefix: str = "out/") -> str:
    return f"{prefix}{STUDY}/{SERIES}/{sop(number)}.dcm"


@pytest.mark.parametrize("prefix", ["", "out/", "out/deep er/"])
def test_instances_become_objects_byte_for_byte(buckets: Buckets, bucket: str, prefix: str) -> None:
    with retrieving(buckets, found(0, 1, 2), multipart(*map(content, range(3)))) as (client, _):
        files = client.retrieve(STUDY, destination=f"gs://{bucket}/{prefix}", workers=2)
    assert objects(buckets, bucket) == {name(number, prefix): content(number) for number in range(3)}
    assert [file.location for file in files] == [f"gs://{bucket}/{name(number, prefix)}" for number in range(3)]
    assert [file.size for file in files] == [len(content(number)) for number in range(3)]


def test_an_object_says_what_it_is(buckets: Buckets, bucket: str) -> None:
    from google.auth.credentials import AnonymousCredentials
    from google.cloud import storage

    with retrieving(buckets, instance(content(0))) as (client, _):
        client.retrieve(STUDY, SERIES, sop(0), destination=f"gs://{bucket}")
    with storage.Client(project="p", credentials=AnonymousCredentials()) as library:
        blob = library.bucket(bucket).get_blob(name(0, ""))
    assert blob.content_type == "application/dicom"
    crc32c, size, key = blob.metadata[MARK].split(" ")
    assert (int(size), key) == (len(content(0)), f"studies/{STUDY}/series/{SERIES}/instances/{sop(0)}")
    assert base64.b64decode(blob.crc32c).hex() == crc32c


def test_what_is_there_and_whole_is_not_asked_for_again(buckets: Buckets, bucket: str) -> None:
    destination = f"gs://{bucket}/out"
    with retrieving(buckets, found(0, 1, 2, 3), multipart(*map(content, range(4)))) as (client, server):
        client.retrieve(STUDY, destination=destination)
        # One is gone, one is another's, one is a copy of another instance with its mark.
        buckets.delete(bucket, name(0))
        buckets.write(bucket, name(1), content(1))
        other = next(iter(buckets.find(f"gs://{bucket}/{name(3)}")))
        with buckets.open(other) as stream:
            buckets.upload(bucket, name(2), stream, mark=_mark(buckets, bucket, 3))
        del server.received[:]
        server.script += [found(0, 1, 2, 3), *[instance(content(number)) for number in range(3)]]
        client.retrieve(STUDY, destination=destination, workers=1)
        assert paths(server) == [SEARCH, *[f"{WHOLE}/series/{SERIES}/instances/{sop(number)}" for number in range(3)]]
        server.script += [found(0, 1, 2, 3), found(0, 1, 2, 3), multipart(*map(content, range(4)))]
        assert len(client.retrieve(STUDY, destination=destination)) == 4
        client.retrieve(STUDY, destination=destination, resume=False)
        assert paths(server)[4:] == [SEARCH, SEARCH, WHOLE]
    assert objects(buckets, bucket) == {name(number): content(number) for number in range(4)}


def _mark(buckets: Buckets, bucket: str, number: int) -> str:
    from airflow_dicomweb.healthcare.bodies import GcsPrefix

    (mark,) = [item.mark for item in buckets.list_prefix(GcsPrefix(bucket, "")) if item.name == name(number)]
    return mark


def test_a_cut_answer_goes_on_with_what_is_missing(buckets: Buckets, bucket: str) -> None:
    whole = multipart(*map(content, range(3)))
    cut = Fault(whole.status, whole.headers, whole.body[:-40], then="close")
    with retrieving(buckets, found(0, 1, 2), cut, instance(content(2))) as (client, server):
        assert len(client.retrieve(STUDY, destination=f"gs://{bucket}/out", workers=1)) == 3
    assert paths(server)[1:] == [WHOLE, f"{WHOLE}/series/{SERIES}/instances/{sop(2)}"]
    assert len(objects(buckets, bucket)) == 3


@pytest.mark.parametrize("size", [IN_MEMORY - 10_000, IN_MEMORY + 10_000, 9 * 2**20])
def test_large_instances_become_objects_too(buckets: Buckets, bucket: str, size: int) -> None:
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES}
    large = [
        part10(**uids, SOPInstanceUID=sop(number), EncapsulatedDocument=bytes([number]) * size) for number in range(3)
    ]
    with retrieving(buckets, found(0, 1, 2), multipart(*large)) as (client, _):
        client.retrieve(STUDY, destination=f"gs://{bucket}/out", workers=3)
    assert objects(buckets, bucket) == {name(number): large[number] for number in range(3)}


def test_pictures_and_metadata_become_objects(buckets: Buckets, bucket: str) -> None:
    png = answer(b"\x89PNG", content_type="image/png")
    json = answer([{}], content_type="application/dicom+json")
    with retrieving(buckets, found(0), png, answer([]), json) as (client, _):
        client.retrieve(STUDY, destination=f"gs://{bucket}", media_type="image/png")
        client.retrieve(STUDY, destination=f"gs://{bucket}", media_type="application/dicom+json")
    assert objects(buckets, bucket) == {
        f"{STUDY}/{SERIES}/{sop(0)}.png": b"\x89PNG",
        f"{STUDY}/metadata.json": b"[{}]",
    }


@pytest.mark.parametrize(("status", "error"), [(403, AuthorizationError), (400, ResponseError)])
def test_a_refused_upload_is_an_error_without_the_name(
    monkeypatch: pytest.MonkeyPatch, status: int, error: type[Exception]
) -> None:
    with faulty(Fault(body=b'{"items": []}'), *[Fault(status)] * 20) as cloud:
        monkeypatch.setenv("STORAGE_EMULATOR_HOST", cloud.url)
        with (
            Buckets() as buckets,
            retrieving(buckets, found(0), multipart(content(0))) as (client, _),
            pytest.raises(error) as refusal,
        ):
            client.retrieve(STUDY, destination="gs://bucket/Doe", resume=False)
    assert "Doe" not in str(refusal.value)


@pytest.mark.parametrize("uri", ["gs://", "gs:///x", "gs://Bucket/x", "gs://bucket/*", "gs://bucket/a//b"])
def test_what_is_no_prefix_is_refused_before_anything_is_sent(uri: str) -> None:
    with Buckets() as buckets, retrieving(buckets) as (client, server):
        with pytest.raises(ConfigurationError):
            client.retrieve(STUDY, destination=uri)
        assert server.received == []


def test_a_bucket_that_is_not_there_is_refused_before_anything_is_sent(buckets: Buckets) -> None:
    with retrieving(buckets) as (client, server):
        with pytest.raises(NotFoundError, match="bucket of the destination"):
            client.retrieve(STUDY, destination="gs://no-such-bucket/Doe")
        assert server.received == []


def test_a_client_without_buckets_says_so() -> None:
    with faulty() as server, DicomWebClient(server.url) as client:
        with pytest.raises(ConfigurationError, match="made with buckets"):
            client.retrieve(STUDY, destination="gs://bucket/x")
        assert server.received == []


def test_an_answer_that_breaks_the_rules_leaves_no_object_that_is_not_whole(buckets: Buckets, bucket: str) -> None:
    said = multipart(content(0), b"not dicom")
    with retrieving(buckets, found(0, 1), said) as (client, _), pytest.raises(ProtocolError):
        client.retrieve(STUDY, destination=f"gs://{bucket}/out")
    assert set(objects(buckets, bucket).values()) <= {content(0)}


def test_a_place_waits_when_uploads_are_slower_than_what_comes(bucket: str, buckets: Buckets) -> None:
    from airflow_dicomweb.healthcare.bodies import GcsPrefix

    with BucketPlace(buckets, GcsPrefix(bucket, ""), 2) as place:
        for number in range(50):
            incoming = place.begin()
            incoming.write(b"%d" % number)
            place.keep(incoming, f"key {number}", f"{number:02}")
        kept = place.finish()
    assert len(kept) == 50
    assert objects(buckets, bucket) == {f"{number:02}": b"%d" % number for number in range(50)}


def test_a_server_that_is_away_leaves_nothing(buckets: Buckets, bucket: str) -> None:
    with retrieving(buckets, found(0), *[Fault(drop="reset")] * 9) as (client, _), pytest.raises(TransportError):
        client.retrieve(STUDY, destination=f"gs://{bucket}/out")
    assert objects(buckets, bucket) == {}
