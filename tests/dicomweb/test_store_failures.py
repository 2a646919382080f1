"""Files that cannot be sent, servers that cannot be reached, and looking twice: nothing is lost without a word."""

from __future__ import annotations

import gzip
import random
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import pytest

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.settling import StoreOptions
from airflow_dicomweb.dicomweb.sources import list_sources
from airflow_dicomweb.dicomweb.storing import store_all
from airflow_dicomweb.errors import (
    AuthorizationError,
    NotFoundError,
    ResponseError,
    TransportError,
    UnavailableError,
)
from tests.dicomweb.instances import part10, series_of
from tests.dicomweb.scripted import (
    NOTHING,
    QUICK,
    Reporting,
    found,
    instance,
    kinds,
    posts,
    sent,
    stored,
    storing,
)
from tests.servers.faulty import Fault, faulty


def test_what_cannot_be_sent_is_named_and_the_others_are_stored(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    (tmp_path / "0000.txt").write_text("not DICOM")
    (tmp_path / "delivery").write_bytes(gzip.compress(part10()))
    (tmp_path / "empty.dcm").touch()
    (tmp_path / "headless.dcm").write_bytes(part10()[132:])
    (tmp_path / "nameless.dcm").write_bytes(part10(SOPInstanceUID=None))
    (tmp_path / "dangling.dcm").symlink_to(tmp_path / "nowhere")
    with storing(NOTHING, stored(0, 1)) as (client, server):
        result = client.store(tmp_path)
    outcomes = {Path(each.source).name: (each.outcome, each.reason) for each in result.outcomes}
    assert outcomes == {
        "0000.dcm": ("created", ""),
        "0000.txt": ("skipped", "not a DICOM file"),
        "0001.dcm": ("created", ""),
        "dangling.dcm": ("failed", "it cannot be read: No such file or directory"),
        "delivery": ("failed", "an archive (gzip) that is not opened here: unpack it, or name a ZIP .zip"),
        "empty.dcm": ("failed", "an empty file"),
        "headless.dcm": ("failed", "a DICOM data set without a Part 10 header (preamble and file meta information)"),
        "nameless.dcm": ("failed", "its SOP Instance UID is missing"),
    }
    assert len(sent(posts(server)[0])) == 2


def test_nothing_but_unusable_sources_sends_nothing_and_is_no_error(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("not DICOM")
    with storing() as (client, server):
        assert kinds(client.store(tmp_path)) == ["skipped"]
    assert server.received == []


def test_a_file_that_changes_after_it_was_listed_fails_alone(tmp_path: Path) -> None:
    files = series_of(tmp_path, 4)
    listed = list(list_sources(tmp_path))
    files[1].write_bytes(files[1].read_bytes() + b"\0" * 8)
    files[2].write_bytes(files[2].read_bytes()[:-8])
    with storing(NOTHING, *[stored(0, 3)] * 3) as (client, server):
        result = store_all(client._exchanges, listed, StoreOptions(workers=1))
    assert kinds(result) == ["created", "failed", "failed", "created"]
    assert [each.reason for each in result.outcomes[1:3]] == ["it changed while it was sent"] * 2
    # Two requests were broken off where the changed files were; nobody waits for their answers.
    whole = [post for post in posts(server) if post.header("content-length") == [str(len(post.body))]]
    assert [sent(post) for post in whole] == [[files[0].read_bytes(), files[3].read_bytes()]]


def test_a_file_that_goes_away_after_its_header_was_read_fails_alone(tmp_path: Path) -> None:
    files = series_of(tmp_path, 2)

    def once(path: Path) -> Callable[[], BinaryIO]:
        places = iter([path])
        return lambda: next(places, path.with_name("gone")).open("rb")

    listed = list(list_sources(tmp_path))
    for there in (NOTHING, found(0)):  # while it is sent, and while it is compared
        vanishing = [replace(listed[0], open=once(files[0])), listed[1]]
        script = [there, *([instance(part10())] if there is not NOTHING else []), *[stored(1)] * 2]
        with storing(*script) as (client, _):
            result = store_all(client._exchanges, vanishing, StoreOptions(workers=1))
        assert kinds(result) == ["failed", "created"]
        assert result.outcomes[0].reason == "it cannot be read: No such file or directory"


def test_a_server_that_cannot_be_reached_is_an_error_after_the_retry_budget(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    with (
        faulty(listening=False) as server,
        DicomWebClient(server.url, retry_policy=QUICK) as client,
        pytest.raises(TransportError, match=r"connection refused.*gave up after 3 attempts"),
    ):
        client.store(tmp_path)


@pytest.mark.parametrize(
    ("status", "error"), [(401, AuthorizationError), (403, AuthorizationError), (503, UnavailableError)]
)
def test_a_server_that_refuses_the_sender_is_an_error(tmp_path: Path, status: int, error: type[Exception]) -> None:
    series_of(tmp_path, 2)
    for script in ([Fault(status)], [NOTHING, Fault(status)]):
        with storing(*script) as (client, server), pytest.raises(error):
            client.store(tmp_path)
        assert len(server.received) == len(script)


def test_a_wrong_base_url_is_an_error(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    with storing(*[Fault(404)] * 3) as (client, _), pytest.raises(NotFoundError):
        client.store(tmp_path)


@pytest.mark.parametrize("status", [400, 405, 422, 501])
def test_a_study_that_cannot_be_searched_fails_alone_where_it_is_not_protected(tmp_path: Path, status: int) -> None:
    (odd,) = series_of(tmp_path / "a", 1, study="1.2.840.2")
    series_of(tmp_path / "b", 2)
    with storing(Fault(status), NOTHING, stored(0, 1)) as (client, server):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["failed", "created", "created"]
    assert result.outcomes[0].reason.startswith("the server cannot be asked whether it has it: GET http")
    assert str(status) in result.outcomes[0].reason
    assert odd.read_bytes() not in [part for post in posts(server) for part in sent(post)]


@pytest.mark.parametrize("status", [400, 501])
def test_a_server_that_protects_what_it_has_need_not_be_searched(tmp_path: Path, status: int) -> None:
    series_of(tmp_path, 3)
    with storing(Fault(status), stored(0, 1, failed={2: 0x0111}, status=409), client=Reporting) as (client, server):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["created", "created", "conflict"]
    assert len(server.received) == 2


def test_a_server_that_can_search_no_study_is_an_error(tmp_path: Path) -> None:
    series_of(tmp_path / "a", 1)
    series_of(tmp_path / "b", 1, study="1.2.840.2")
    with storing(Fault(400), Fault(400)) as (client, server), pytest.raises(ResponseError):
        client.store(tmp_path)
    assert posts(server) == []


def test_a_server_that_goes_away_leaves_what_was_stored_and_fails_the_rest(tmp_path: Path) -> None:
    series_of(tmp_path, 4)
    # Twice: on a connection that was kept alive the first may have been meant for the one before.
    with storing(NOTHING, stored(0), Fault(drop="reset"), Fault(drop="reset")) as (client, server):
        result = client.store(tmp_path, workers=1, batch_count=1)
    assert kinds(result) == ["created", "failed", "failed", "failed"]
    assert "no answer from" in result.outcomes[1].reason
    assert result.outcomes[3].reason.startswith("not sent: no answer from")
    assert len(posts(server)) == 3


def test_an_instance_over_which_a_server_breaks_does_not_stop_the_others(tmp_path: Path) -> None:
    series_of(tmp_path, 3)
    with storing(NOTHING, Fault(500), stored(0), Fault(500), stored(2)) as (client, _):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["created", "failed", "created"]
    assert result.outcomes[1].code == 500


@pytest.mark.parametrize("status", [400, 406, 422])
def test_an_instance_that_cannot_be_fetched_for_comparison_does_not_stop_the_others(
    tmp_path: Path, status: int
) -> None:
    series_of(tmp_path, 2)
    with storing(found(0), Fault(status), stored(1)) as (client, server):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["failed", "created"]
    assert result.outcomes[0].reason.startswith("the server has it already, and it cannot be compared: GET http")
    assert [len(sent(post)) for post in posts(server)] == [1]


def test_a_server_that_breaks_over_each_instance_is_left_alone(tmp_path: Path) -> None:
    series_of(tmp_path, 20)
    with storing(NOTHING, *[Fault(500)] * 30) as (client, server), pytest.raises(UnavailableError):
        client.store(tmp_path, workers=1, batch_count=1)
    assert len(posts(server)) < 6


def test_what_was_accepted_and_is_not_found_afterwards_has_failed(tmp_path: Path) -> None:
    series_of(tmp_path, 3)
    seen: list[tuple[int, str]] = []
    with storing(found(2), stored(0, 1, 2), found(0, 2), client=Reporting) as (client, _):
        result = client.store(
            tmp_path, verify="exists", on_outcome=lambda each: seen.append((each.ordinal, each.outcome))
        )
    assert kinds(result) == ["created", "failed", "identical"]
    assert result.outcomes[1].reason == "the server accepted it, but a search afterwards does not find it"
    assert sorted(seen) == [(0, "created"), (1, "failed"), (2, "identical")]


def test_what_comes_back_as_other_bytes_has_failed(tmp_path: Path) -> None:
    files = series_of(tmp_path, 3)
    script = [NOTHING, stored(0, 1, 2), instance(files[0].read_bytes()), instance(part10()), Fault(404)]
    with storing(*script) as (client, _):
        result = client.store(tmp_path, verify="bytes", workers=1)
    assert kinds(result) == ["created", "failed", "failed"]
    assert [each.reason for each in result.outcomes[1:]] == [
        "the server accepted it, but it has other bytes now",
        "the server accepted it, but it is not there afterwards",
    ]


def test_outcomes_are_told_in_the_caller_s_thread_each_once(tmp_path: Path) -> None:
    files = series_of(tmp_path, 6)
    random.Random(3).shuffle(files)
    told: list[tuple[int, int]] = []
    with storing(NOTHING, *(stored(*range(6)) for _ in range(3))) as (client, _):
        result = client.store(
            files, batch_count=2, on_outcome=lambda each: told.append((threading.get_ident(), each.ordinal))
        )
    assert {thread for thread, _ in told} == {threading.get_ident()}
    assert sorted(number for _, number in told) == list(range(6))
    assert [each.ordinal for each in result.outcomes] == list(range(6))
