"""The proof of completeness, step by step, against the emulator."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.completeness import (
    OUTCOMES,
    Completeness,
    ListedFile,
    check_completeness,
    list_if_any,
    take_listing,
)
from airflow_dicomweb.dicomweb.inventory import instances_left
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import ConfigurationError, ProtocolError
from airflow_dicomweb.healthcare import Bearer, HealthcareClient
from airflow_dicomweb.healthcare.gcs import Buckets
from tests.dicomweb.instances import part10

paths = st.builds(InstancePath, *[st.sampled_from(["1", "1.2", "1.2.3"])] * 3)
listed_files = st.lists(
    st.builds(ListedFile, st.text(), st.integers(0), st.none() | paths, st.sampled_from(OUTCOMES), st.text())
)


@pytest.fixture
def client(dicomweb_emulator: Emulator) -> HealthcareClient:
    """A client for an empty store."""
    return HealthcareClient(
        dicomweb_emulator.dicom_store, base_url=dicomweb_emulator.base_url, credentials=Bearer("any")
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with two instances of one study."""
    folder = tmp_path / "incoming"
    for number in (1, 2):
        write(folder / f"file-{number}", number)
    return folder


@pytest.fixture
def not_root() -> Iterator[Callable[[], None]]:
    """Whoever runs the tests, root can list every directory: be nobody for the rest of the test."""
    user = os.geteuid()
    yield lambda: os.seteuid(65534) if user == 0 else None
    os.seteuid(user)


def write(path: Path, number: int, comment: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    uids = {
        "StudyInstanceUID": "1.2.3",
        "SeriesInstanceUID": "1.2.3.1",
        "SOPInstanceUID": f"1.2.3.1.{number}",
    }
    path.write_bytes(part10(**uids, ImageComments=comment))
    return path


def listing(client: HealthcareClient, folder: Path) -> dict[str, str]:
    files = take_listing(list_if_any(str(folder)), client)
    return {Path(file.name).name: file.outcome for file in files}


@given(listed_files)
def test_a_listing_comes_back_from_its_lines_as_it_was(files: list[ListedFile]) -> None:
    assert [ListedFile.from_json(file.to_json()) for file in files] == files


@given(listed_files)
def test_every_file_is_counted_under_one_outcome(files: list[ListedFile]) -> None:
    counts = Completeness(tuple(files)).to_xcom()
    assert sum(counts[outcome] for outcome in OUTCOMES) == counts["files"] == len(files)


def test_a_line_that_names_no_instance_is_refused() -> None:
    line = {"name": "a", "size": 1, "path": "studies/1.2", "outcome": "stored", "reason": ""}
    with pytest.raises(ProtocolError, match="a study or a series"):
        ListedFile.from_json(line)


def test_new_files_are_listed_without_being_read_whole_or_retrieved(
    client: HealthcareClient, folder: Path, dicomweb_emulator: Emulator
) -> None:
    assert listing(client, folder) == {"file-1": "stored", "file-2": "stored"}
    assert [request["path"].rpartition("/dicomWeb/")[2] for request in dicomweb_emulator.requests()] == [
        "studies/1.2.3/instances"
    ]


def test_the_first_of_several_files_with_one_identity_is_what_the_others_are_compared_with(
    client: HealthcareClient, folder: Path
) -> None:
    write(folder / "file-3", 1)
    write(folder / "file-4", 1, comment="other bytes")
    assert listing(client, folder) == {
        "file-1": "stored",
        "file-2": "stored",
        "file-3": "identical",
        "file-4": "conflicting",
    }


def test_what_is_in_the_store_is_what_all_files_are_compared_with(client: HealthcareClient, folder: Path) -> None:
    client.store(folder / "file-1")
    write(folder / "file-1", 1, comment="other bytes")
    write(folder / "file-3", 1)
    assert listing(client, folder) == {"file-1": "conflicting", "file-2": "stored", "file-3": "identical"}


def test_a_file_that_goes_away_after_it_was_listed_is_unusable_and_named(
    client: HealthcareClient, folder: Path
) -> None:
    write(folder / "file-3", 3)
    sources = list_if_any(str(folder))
    (folder / "file-2").unlink()
    assert [file.outcome for file in take_listing(sources, client)] == ["stored", "unusable", "stored"]


def test_a_file_that_goes_away_before_it_is_compared_is_unusable(client: HealthcareClient, folder: Path) -> None:
    client.store(folder)
    sources = list_if_any(str(folder))
    first, second = take_listing([sources[0], sources[1]], _Removing(client, folder / "file-2"))
    assert (first.outcome, second.outcome) == ("identical", "unusable")
    assert str(folder) not in second.reason


class _Removing:
    """The store, in front of which a file goes away as soon as somebody searches."""

    def __init__(self, client: HealthcareClient, path: Path) -> None:
        self.search_studies, self.search_series, self.retrieve = (
            client.search_studies,
            client.search_series,
            client.retrieve,
        )
        self._search, self._path = client.search_instances, path

    def search_instances(self, *args, **options):
        self._path.unlink()
        return self._search(*args, **options)


def test_objects_of_a_bucket_are_listed_like_files(client: HealthcareClient, folder: Path, bucket: str) -> None:
    buckets = Buckets()
    assert list_if_any(f"gs://{bucket}/incoming/**", buckets=buckets) == []
    buckets.write(bucket, "incoming/a", (folder / "file-1").read_bytes())
    buckets.write(bucket, "incoming/b", b"not an image")
    sources = list_if_any(f"gs://{bucket}/incoming/**", buckets=buckets)
    buckets.write(bucket, "incoming/c", b"too late")
    files = take_listing(sources, client)
    assert [(file.name, file.outcome) for file in files] == [
        (f"gs://{bucket}/incoming/a", "stored"),
        (f"gs://{bucket}/incoming/b", "not_dicom"),
    ]


def test_an_empty_folder_lists_nothing_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "only" / "folders").mkdir(parents=True)
    assert list_if_any(str(tmp_path / "only")) == []
    with pytest.raises(ConfigurationError):
        list_if_any(str(tmp_path / "not mounted"))


def test_a_directory_that_cannot_be_listed_has_an_outcome_of_its_own_and_is_not_empty(
    client: HealthcareClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, not_root: Callable[[], None]
) -> None:
    (tmp_path / "night" / "closed").mkdir(parents=True)
    write(tmp_path / "night" / "closed" / "file-1", 1)
    (tmp_path / "night" / "closed").chmod(0o000)
    (tmp_path / "night").chmod(0o755)
    monkeypatch.chdir(tmp_path / "night")  # the folders above are private to the user of the tests
    not_root()
    (file,) = take_listing(list_if_any("."), client)
    assert (file.name, file.path, file.outcome) == ("closed/", None, "unlisted")
    assert "closed" not in file.reason
    assert check_completeness(client, [file]).to_xcom()["unlisted"] == 1


def test_what_is_missing_is_looked_for_again(client: HealthcareClient, folder: Path) -> None:
    files = take_listing(list_if_any(str(folder)), client)
    slept: list[float] = []

    def arrive(seconds: float) -> None:
        slept.append(seconds)
        client.store(folder / f"file-{len(slept)}")

    proof = check_completeness(client, files, looks=3, look_interval=0.5, sleep=arrive)
    assert proof.missing == ()
    assert slept == [0.5, 0.5]


def test_what_is_still_missing_after_the_last_look_is_named_once(client: HealthcareClient, folder: Path) -> None:
    os.link(folder / "file-2", folder / "file-3")
    files = take_listing(list_if_any(str(folder)), client)
    client.store(folder / "file-1")
    proof = check_completeness(client, files, looks=2, look_interval=0.0)
    assert proof.missing == (InstancePath("1.2.3", "1.2.3.1", "1.2.3.1.2"),)
    assert [file.outcome for file in proof.files] == ["stored", "missing", "missing"]
    assert proof.distinct == 2


def test_a_study_is_gone_only_after_two_empty_searches_in_a_row(client: HealthcareClient, folder: Path) -> None:
    client.store(folder / "file-1")
    looks: list[int] = []

    def come_and_go(_seconds: float) -> None:
        looks.append(len(looks))
        if len(looks) == 2:
            client.store(folder / "file-1")
        elif len(looks) in {1, 3}:
            client.delete_instance("1.2.3", "1.2.3.1", "1.2.3.1.1")

    assert instances_left(client, "1.2.3", looks=5, sleep=come_and_go) == 0
    assert len(looks) == 4


def test_one_empty_search_at_the_end_is_no_proof(client: HealthcareClient, folder: Path) -> None:
    client.store(folder)

    def go(_seconds: float) -> None:
        operation = client.delete_study("1.2.3")
        assert operation is not None
        client.wait_for_operation(operation, poll_interval=0.05)

    assert instances_left(client, "1.2.3", looks=2, sleep=go) > 0


def test_a_study_that_stays_is_counted(client: HealthcareClient, folder: Path) -> None:
    client.store(folder)
    assert instances_left(client, "1.2.3", looks=2, look_interval=0.0) == 2
