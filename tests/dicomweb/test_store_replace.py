"""Replacing what a server has: by PUT, or after a copy that was read again; never anything lost without a word."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare import HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.dicomweb.instances import part10, series_of
from tests.dicomweb.scripted import (
    NOTHING,
    STUDY,
    answer,
    found,
    instance,
    kinds,
    sop,
    stored,
    storing,
)
from tests.servers.faulty import Fault, FaultyServer

UIDS = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": sop(0)}
OLD = part10(**UIDS, ImageComments="old")
DONE = Fault(200, body=b"")


class Deleting(DicomWebClient):
    """A client for a server that deletes, and does not report conflicts."""

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url, server="standard-with-delete", **options)


class Putting(DicomWebClient):
    """A client for a server that replaces by PUT, and reports conflicts."""

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(base_url, server="google-v1beta1", **options)


def methods(server: FaultyServer) -> list[str]:
    return [each.line.split()[0] for each in server.received]


def copies(folder: Path) -> list[bytes]:
    return [each.read_bytes() for each in sorted(folder.rglob("*")) if each.is_file()]


def replaced(client: DicomWebClient, tmp_path: Path, **arguments: Any) -> Any:
    return client.store(tmp_path / "in", on_conflict="replace", backup_uri=tmp_path / "backup", workers=1, **arguments)


@pytest.mark.parametrize(
    ("client", "arguments", "words"),
    [
        (DicomWebClient, {"backup_uri": "/tmp"}, "not possible here: it needs a server that replaces by PUT"),
        (DicomWebClient, {}, "not possible here"),
        (Deleting, {}, "without backup_uri"),
        (Deleting, {"backup_uri": "relative"}, "absolute path of a folder"),
        (Deleting, {"backup_uri": "/dev/null"}, "folder that can be written to"),
        (Deleting, {"backup_uri": "gs://B/x"}, "gs://BUCKET/PREFIX"),
        (Deleting, {"backup_uri": "gs://bucket/x"}, "needs buckets="),
        (Deleting, {"backup_uri": 7}, "backup_uri must be"),
    ],
)
def test_nothing_is_sent_where_nothing_can_be_replaced_safely(
    tmp_path: Path, client: type[DicomWebClient], arguments: dict[str, Any], words: str
) -> None:
    series_of(tmp_path, 1)
    with storing(client=client) as (made, server):
        with pytest.raises(ConfigurationError, match=words):
            made.store(tmp_path, on_conflict="replace", **arguments)
        assert server.received == []


@pytest.mark.parametrize("source", ["", "/**"])
def test_copies_do_not_go_where_the_next_call_would_store_them(tmp_path: Path, source: str) -> None:
    """It would replace the new bytes by the old ones."""
    series_of(tmp_path, 1)
    with storing(client=Deleting) as (client, server):
        with pytest.raises(ConfigurationError, match="backup_uri lies within the source"):
            client.store(f"{tmp_path}{source}", on_conflict="replace", backup_uri=tmp_path / "replaced")
        assert server.received == []


def test_old_bytes_are_copied_before_they_are_deleted_and_the_new_ones_are_looked_at(tmp_path: Path) -> None:
    (new,) = series_of(tmp_path / "in", 1)
    script = [found(0), instance(OLD), instance(OLD), DONE, stored(0), instance(new.read_bytes())]
    with storing(*script, client=Deleting) as (client, server):
        result = replaced(client, tmp_path)
    assert methods(server) == ["GET", "GET", "GET", "DELETE", "POST", "GET"]
    assert server.received[3].line.endswith(f"/studies/{STUDY}/series/{STUDY}.1/instances/{sop(0)}")
    assert (kinds(result), result.replaced, result.created) == (["created"], 1, 1)
    (copy,) = (path for path in (tmp_path / "backup").rglob("*") if path.is_file())
    assert (copy.read_bytes(), stat.S_IMODE(copy.stat().st_mode)) == (OLD, 0o600)
    name = copy.relative_to(tmp_path / "backup")
    assert result.outcomes[0].reason == f"the bytes that it replaces are in the backup as {name}"


@pytest.mark.parametrize(
    "refusal", [Fault(503), Fault(403), stored(failed={0: 0xA700}), answer(b"<p>", 413, "text/html")]
)
def test_a_store_that_fails_after_the_deletion_says_so_and_where_the_copy_is(tmp_path: Path, refusal: Fault) -> None:
    series_of(tmp_path / "in", 2)
    script = [found(0), instance(OLD), instance(OLD), DONE, refusal, Fault(404), stored(1)]
    with storing(*script, client=Deleting) as (client, server):
        result = replaced(client, tmp_path)
    assert methods(server)[:5] == ["GET", "GET", "GET", "DELETE", "POST"]
    assert result.outcomes[0].outcome == "failed"
    assert "THE OLD BYTES WERE DELETED" in result.outcomes[0].reason
    (name,) = (path.relative_to(tmp_path / "backup") for path in (tmp_path / "backup").rglob("*.dcm"))
    assert str(name) in result.outcomes[0].reason
    assert copies(tmp_path / "backup") == [OLD]


def test_a_lost_answer_after_the_deletion_is_looked_into(tmp_path: Path) -> None:
    (new,) = series_of(tmp_path / "in", 1)
    # Twice: on a connection that was kept alive the first may have been meant for the one before.
    lost = [found(0), instance(OLD), instance(OLD), DONE, Fault(drop="close"), Fault(drop="close")]
    with storing(*lost, found(0), instance(new.read_bytes()), client=Deleting) as (client, _):
        result = replaced(client, tmp_path)
    assert (kinds(result), result.replaced) == (["created"], 1)
    assert result.outcomes[0].reason.startswith("the bytes that it replaces are in the backup as ")
    with storing(*lost, NOTHING, client=Deleting) as (client, _):
        result = replaced(client, tmp_path)
    assert kinds(result) == ["failed"]
    assert result.outcomes[0].reason.startswith("not stored, a search afterwards does not find it: ")
    assert "THE OLD BYTES WERE DELETED" in result.outcomes[0].reason


@pytest.mark.parametrize("copy", [Fault(503), Fault(403)])
def test_nothing_is_deleted_when_there_is_no_copy(tmp_path: Path, copy: Fault) -> None:
    series_of(tmp_path / "in", 2)
    with storing(found(0), instance(OLD), copy, stored(1), client=Deleting) as (client, server):
        result = replaced(client, tmp_path)
    assert kinds(result) == ["failed", "created"]
    assert result.outcomes[0].reason.startswith("it was not replaced, the old bytes could not be brought to safety: ")
    assert "DELETE" not in methods(server)
    assert copies(tmp_path / "backup") == []


def test_a_copy_that_is_cut_is_no_copy(tmp_path: Path) -> None:
    series_of(tmp_path / "in", 1)
    cut = Fault(200, (("Content-Type", "application/dicom"),), OLD, cut=len(OLD) - 1)
    with storing(found(0), instance(OLD), cut, client=Deleting) as (client, server):
        result = replaced(client, tmp_path)
    assert (kinds(result), methods(server)) == (["failed"], ["GET"] * 3)
    assert copies(tmp_path / "backup") == []


def test_a_server_that_does_not_delete_keeps_what_it_has(tmp_path: Path) -> None:
    series_of(tmp_path / "in", 1)
    with storing(found(0), instance(OLD), instance(OLD), Fault(405), instance(OLD), client=Deleting) as (
        client,
        server,
    ):
        result = replaced(client, tmp_path)
    assert kinds(result) == ["conflict"]
    assert "does not delete them" in result.outcomes[0].reason
    assert "POST" not in methods(server)


def test_what_another_source_of_the_call_has_stored_is_not_replaced(tmp_path: Path) -> None:
    contents = [part10(**UIDS, InstanceNumber=number) for number in range(2)]
    (tmp_path / "in").mkdir()
    for number, content in enumerate(contents):
        (tmp_path / "in" / f"{number}.dcm").write_bytes(content)
    with storing(NOTHING, stored(0), instance(contents[0]), client=Deleting) as (client, server):
        result = replaced(client, tmp_path)
    assert kinds(result) == ["created", "conflict"]
    assert result.outcomes[1].reason == "another source of this call has this identity, and is stored"
    assert methods(server) == ["GET", "POST", "GET"]


def test_a_server_with_put_is_asked_to_replace_only_what_conflicts(tmp_path: Path) -> None:
    files = series_of(tmp_path / "in", 2)
    script = [found(1), stored(0, failed={1: 0x0110}, status=409), stored(1), instance(files[1].read_bytes())]
    with storing(*script, client=Putting) as (client, server):
        result = client.store(tmp_path / "in", on_conflict="replace", workers=1)
    assert methods(server) == ["GET", "POST", "PUT", "GET"]
    assert server.received[2].body == files[1].read_bytes()
    assert (kinds(result), [each.replaced for each in result.outcomes]) == (["created"] * 2, [False, True])


def test_a_put_that_is_refused_is_a_conflict_and_loses_nothing(tmp_path: Path) -> None:
    series_of(tmp_path / "in", 1)
    refused = stored(failed={0: 0x0110}, status=409)
    with storing(found(0), refused, refused, client=Putting) as (client, server):
        result = client.store(tmp_path / "in", on_conflict="replace", workers=1)
    assert (kinds(result), result.replaced) == (["failed"], 0)
    assert methods(server) == ["GET", "POST", "PUT"]


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
def test_the_healthcare_api_replaces(dicomweb_emulator: Emulator, tmp_path: Path, version: str) -> None:
    dicomweb_emulator.reset()
    study = f"1.2.840.77.{1 if version == 'v1' else 2}"
    series_of(tmp_path / "before", 3, study=study)
    (tmp_path / "before" / "0002.dcm").unlink()
    files = series_of(tmp_path / "in", 3, study=study, ImageComments="new")
    with HealthcareClient(
        dicomweb_emulator.dicom_store,
        base_url=dicomweb_emulator.base_url,
        credentials=Bearer("t"),
        api_version=version,
    ) as client:
        assert client.store(tmp_path / "before").created == 2
        dicomweb_emulator.reset()
        result = replaced(client, tmp_path, verify="bytes")
        assert (kinds(result), result.replaced) == (["created"] * 3, 2)
        asked = [each["method"] for each in dicomweb_emulator.requests()]
        assert (asked.count("DELETE"), asked.count("PUT")) == ((2, 0) if version == "v1" else (0, 2))
        got = {
            each.instance.instance: each.path.read_bytes()
            for each in client.retrieve(study, destination=tmp_path / "o")
        }
        assert got == {f"{study}.1.{number}": file.read_bytes() for number, file in enumerate(files)}
        assert kinds(replaced(client, tmp_path)) == ["identical"] * 3
    before = [(tmp_path / "before" / f"000{number}.dcm").read_bytes() for number in (0, 1)]
    assert sorted(copies(tmp_path / "backup")) == sorted(before)


def test_a_call_that_lost_the_answer_after_a_deletion_is_mended_by_the_next_one(
    dicomweb_emulator: Emulator, tmp_path: Path
) -> None:
    dicomweb_emulator.reset()
    study = "1.2.840.77.3"
    series_of(tmp_path / "before", 1, study=study)
    (new,) = series_of(tmp_path / "in", 1, study=study, ImageComments="new")
    with HealthcareClient(
        dicomweb_emulator.dicom_store, base_url=dicomweb_emulator.base_url, credentials=Bearer("t")
    ) as client:
        client.store(tmp_path / "before")
        client.delete_instance(study, f"{study}.1", f"{study}.1.0")  # as a call that was killed then leaves it
        assert kinds(replaced(client, tmp_path)) == ["created"]
        assert kinds(replaced(client, tmp_path)) == ["identical"]
        (got,) = client.retrieve(study, destination=tmp_path / "out")
        assert got.path.read_bytes() == new.read_bytes()


def test_copies_may_go_to_a_bucket(dicomweb_emulator: Emulator, tmp_path: Path, bucket: str) -> None:
    dicomweb_emulator.reset()
    study = "1.2.840.77.4"
    (old,) = series_of(tmp_path / "before", 1, study=study)
    series_of(tmp_path / "in", 1, study=study, ImageComments="new")
    with HealthcareClient(
        dicomweb_emulator.dicom_store, base_url=dicomweb_emulator.base_url, credentials=Bearer("t")
    ) as client:
        client.store(tmp_path / "before")
        result = client.store(tmp_path / "in", on_conflict="replace", backup_uri=f"gs://{bucket}/old")
    assert (kinds(result), result.replaced) == (["created"], 1)
    (copy,) = Buckets().find(f"gs://{bucket}/**")
    assert copy.name.startswith(f"old/{study}/{study}.1/{study}.1.0-")
    assert Buckets().read(bucket, copy.name) == old.read_bytes()
    assert copy.name.removeprefix("old/") in result.outcomes[0].reason
