"""Instances that were sent and got no answer: they are looked for, and what stays open is said to be open."""

from __future__ import annotations

from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.errors import AuthorizationError, TransportError, UnavailableError
from tests.dicomweb.instances import part10, series_of
from tests.dicomweb.scripted import (
    NOTHING,
    QUICK,
    STUDY,
    Reporting,
    answer,
    found,
    instance,
    kinds,
    posts,
    sop,
    stored,
    storing,
)
from tests.servers.faulty import Fault

LOST = Fault(drop="close")


@pytest.mark.parametrize("client", [DicomWebClient, Reporting])
@pytest.mark.parametrize("lost", [[LOST], [Fault(502)], [Fault(504)], [answer(b"<html>", content_type="text/html")]])
def test_what_got_no_answer_is_looked_for_and_compared(
    tmp_path: Path, lost: list[Fault], client: type[DicomWebClient]
) -> None:
    files = series_of(tmp_path, 3)
    told: list[tuple[int, str]] = []
    script = [NOTHING, *lost, found(0, 1), instance(files[0].read_bytes()), instance(part10())]
    with storing(*script, client=client) as (made, server):
        result = made.store(tmp_path, on_outcome=lambda each: told.append((each.ordinal, each.outcome)))
    assert kinds(result) == ["created", "conflict", "failed"]
    assert result.outcomes[2].reason.startswith("not stored, a search afterwards does not find it: ")
    assert "/dicom-web/studies" in result.outcomes[2].reason
    assert sorted(told) == [(0, "created"), (1, "conflict"), (2, "failed")]
    assert len(posts(server)) == 1


@pytest.mark.parametrize("last", [[Fault(503), Fault(503)], [Fault(429), Fault(503)], [Fault(401)], [Fault(403)]])
def test_what_an_earlier_attempt_may_have_stored_is_looked_for_whatever_the_last_one_was_answered(
    tmp_path: Path, last: list[Fault]
) -> None:
    files = series_of(tmp_path, 2)
    script = [NOTHING, Fault(504), *last, found(0), instance(files[0].read_bytes())]
    with storing(*script, policy=QUICK) as (client, server):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["created", "failed"]
    assert result.outcomes[1].reason.startswith("not stored, a search afterwards does not find it: POST http")
    assert len(posts(server)) == 1 + len(last)


def test_what_may_have_been_stored_before_the_credentials_were_gone_is_said_to_be_open(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    told: list[str] = []
    with (
        storing(NOTHING, Fault(504), Fault(401), Fault(401), policy=QUICK) as (client, _),
        pytest.raises(AuthorizationError),
    ):
        client.store(tmp_path, workers=1, batch_count=1, on_outcome=lambda each: told.append(each.reason))
    assert [reason.split(":")[0] for reason in told] == ["not sent", "it may be stored or not"]


def test_what_was_refused_at_every_attempt_is_not_looked_for(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    with storing(NOTHING, *[Fault(503)] * 3, policy=QUICK) as (client, server), pytest.raises(UnavailableError):
        client.store(tmp_path)
    assert len(server.received) == 4


@pytest.mark.parametrize("search", [Fault(400), Fault(503), LOST])
def test_what_got_no_answer_and_cannot_be_looked_for_may_be_stored_or_not(tmp_path: Path, search: Fault) -> None:
    series_of(tmp_path, 2)
    with storing(NOTHING, stored(0), Fault(504), search, search) as (client, _):
        result = client.store(tmp_path, workers=1, batch_count=1)
    assert kinds(result) == ["created", "failed"]
    assert result.outcomes[1].reason.startswith("it may be stored or not: POST http")
    assert result.outcomes[1].code == 504


def test_what_is_found_and_cannot_be_fetched_stays_open(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    with storing(NOTHING, stored(0), Fault(504), found(0, 1), Fault(404)) as (client, _):
        result = client.store(tmp_path, workers=1, batch_count=1)
    assert kinds(result) == ["created", "failed"]
    assert result.outcomes[1].reason.startswith("it may be stored or not: POST http")


def test_the_next_of_an_identity_is_compared_with_what_was_stored_without_an_answer(tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": sop(0)}
    contents = [part10(**{**uids, "InstanceNumber": number}) for number in range(2)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    there = instance(contents[0])
    with storing(NOTHING, Fault(500), found(0), there, found(0), there, stored(0)) as (client, server):
        assert kinds(client.store(tmp_path)) == ["created", "conflict"]
    assert len(posts(server)) == 1


def test_a_server_that_is_gone_is_asked_for_one_study_only(tmp_path: Path) -> None:
    series_of(tmp_path / "a", 1)
    series_of(tmp_path / "b", 1, study="1.2.840.2")
    told: list[str] = []
    script = [NOTHING, NOTHING, LOST, Fault(503), found(0)]
    with storing(*script) as (client, server), pytest.raises(TransportError, match="no answer from"):
        client.store(tmp_path, workers=1, on_outcome=lambda each: told.append(each.reason))
    assert len(told) == 2
    assert all(reason.startswith("it may be stored or not: no answer from") for reason in told)
    assert len(server.received) == 4
