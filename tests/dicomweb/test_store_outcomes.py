"""Each instance that is handed over is stored, or is named as not stored with the reason: judged from what servers say."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from airflow_dicomweb.errors import (
    ProtocolError,
)
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
    sent,
    sop,
    stored,
    storing,
)
from tests.servers.faulty import Fault


def test_what_is_sent_and_neither_referenced_nor_failed_is_sent_again_alone(tmp_path: Path) -> None:
    """As Orthanc answers a batch with one bad part: 400, no Content-Type, an empty list of failures."""
    series_of(tmp_path, 3)
    script = [
        NOTHING,
        stored(0, failed={}, status=400, content_type=None),
        stored(1),
        stored(failed={}, status=400, content_type=None),
        NOTHING,
    ]
    with storing(*script) as (client, server):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["created", "created", "failed"]
    assert [len(sent(post)) for post in posts(server)] == [3, 1, 1]
    reason = "the server answered 400 and does not name it; a search afterwards does not find it"
    assert (result.outcomes[2].code, result.outcomes[2].reason) == (400, reason)


@pytest.mark.parametrize("status", [400, 415])
def test_a_refused_batch_is_sent_one_by_one_and_the_reason_is_in_the_server_s_words(
    tmp_path: Path, status: int
) -> None:
    series_of(tmp_path, 2)
    no = answer({"error": {"code": status, "message": "too much"}}, status, "application/json; charset=UTF-8")
    with storing(NOTHING, no, stored(0), no, NOTHING) as (client, _):
        result = client.store(tmp_path, workers=1)
    assert kinds(result) == ["created", "failed"]
    assert result.outcomes[1].reason.startswith(f"the server answered {status} and does not name it: too much")


def test_a_batch_that_is_too_large_is_halved_and_so_are_those_that_follow(tmp_path: Path) -> None:
    files = series_of(tmp_path, 12)
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": sop(3)}
    files[3].write_bytes(part10(**uids, ImageComments="x" * 500))
    no = answer(b"too large", 413, "text/plain")
    halves = [no, no, stored(0, 1), no, stored(2), no, *[stored(*pair) for pair in ([4, 5], [6, 7], [8, 9], [10, 11])]]
    with storing(NOTHING, *halves) as (client, server):
        result = client.store(tmp_path, workers=1, batch_count=8)
    assert [len(sent(post)) for post in posts(server)] == [8, 4, 2, 2, 1, 1, 2, 2, 2, 2]
    assert kinds(result) == ["created"] * 3 + ["failed"] + ["created"] * 8
    size = files[3].stat().st_size
    assert result.outcomes[3].reason == f"its {size} bytes are more than the server takes (413): too large"
    assert result.outcomes[3].code == 413


@pytest.mark.parametrize("status", [200, 202, 409])
def test_an_answer_is_read_before_its_status_is_judged(tmp_path: Path, status: int) -> None:
    series_of(tmp_path, 3)
    with storing(NOTHING, stored(0, 2, failed={1: 0xA700}, status=status), client=Reporting) as (client, server):
        result = client.store(tmp_path)
    assert kinds(result) == ["created", "failed", "created"]
    assert result.outcomes[1].reason == "the server refused it: out of resources (0xA700)"
    assert result.outcomes[1].code == 0xA700
    assert len(posts(server)) == 1


def test_what_is_both_referenced_and_failed_is_not_stored(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    with storing(NOTHING, stored(0, failed={0: 0xC000}), client=Reporting) as (client, _):
        result = client.store(tmp_path)
    assert kinds(result) == ["failed"]


def test_a_warning_is_a_coercion_of_a_stored_instance(tmp_path: Path) -> None:
    series_of(tmp_path, 2)
    with storing(NOTHING, stored(0, 1, warnings={1: 0xB000}, status=202)) as (client, _):
        result = client.store(tmp_path)
    assert (kinds(result), result.coerced, result.outcomes[1].warning) == (["created", "created"], 1, 0xB000)


def test_an_answer_alone_without_a_name_is_about_the_one_that_was_sent(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    nameless = {
        "00081198": {
            "vr": "SQ",
            "Value": [
                {
                    "00081197": {"vr": "US", "Value": [0x0110]},
                    "00091097": {"vr": "LT", "Value": ["PatientName is Doe^Jane"]},
                }
            ],
        }
    }
    with storing(NOTHING, answer(nameless, 409), client=Reporting) as (client, _):
        (outcome,) = client.store(tmp_path).outcomes
    assert (outcome.outcome, outcome.reason) == ("failed", "the server refused it: processing failure (0x0110)")
    assert outcome.detail == "PatientName is Doe^Jane"
    assert "Doe" not in repr(outcome)


@pytest.mark.parametrize(
    "nonsense",
    [
        answer(b"<html>welcome</html>", content_type="text/html"),
        answer(b"{", content_type="application/dicom+json"),
        answer(b"", content_type=None),
        answer({"error": {}}, content_type="application/json"),
        answer(b"", 204, content_type=None),
    ],
)
def test_an_unreadable_answer_is_an_error_and_does_not_lose_the_other_batches(tmp_path: Path, nonsense: Fault) -> None:
    series_of(tmp_path, 3)
    with storing(NOTHING, nonsense, stored(1), stored(2)) as (client, _):
        result = client.store(tmp_path, workers=1, batch_count=1)
    assert kinds(result) == ["failed", "created", "created"]
    assert "it may be stored or not" in result.outcomes[0].reason
    with storing(NOTHING, nonsense) as (client, _), pytest.raises(ProtocolError):
        client.store(tmp_path, workers=1)


def test_a_server_that_reports_conflicts_is_believed(tmp_path: Path) -> None:
    series_of(tmp_path, 4)
    conflict = {
        "00081198": {
            "vr": "SQ",
            "Value": [
                {
                    "00081155": {"vr": "UI", "Value": [sop(2)]},
                    "00081197": {"vr": "US", "Value": [272]},
                    "00091097": {"vr": "LT", "Value": ["already exists"]},
                },
                {"00081155": {"vr": "UI", "Value": [sop(3)]}, "00081197": {"vr": "US", "Value": [272]}},
            ],
        },
        "00081199": {
            "vr": "SQ",
            "Value": [{"00081155": {"vr": "UI", "Value": [sop(0)]}}, {"00081155": {"vr": "UI", "Value": [sop(1)]}}],
        },
    }
    with storing(found(1, 2), answer(conflict, 409), client=Reporting) as (client, server):
        result = client.store(tmp_path)
    assert kinds(result) == ["created", "identical", "conflict", "failed"]
    assert len(server.received) == 2


def test_what_a_silent_server_has_already_is_compared_and_not_sent(tmp_path: Path) -> None:
    files = series_of(tmp_path, 3)
    script = [found(0, 1), instance(files[0].read_bytes()), instance(part10()), stored(2)]
    with storing(*script) as (client, server):
        result = client.store(tmp_path, workers=1, checksums=True)
    assert kinds(result) == ["identical", "conflict", "created"]
    assert [each.line.split("?")[0] for each in server.received[1:3]] == [
        f"GET /dicom-web/studies/{STUDY}/series/{STUDY}.1/instances/{sop(number)}" for number in (0, 1)
    ]
    assert sent(posts(server)[0]) == [files[2].read_bytes()]
    assert [each.sha256 for each in result.outcomes] == [
        hashlib.sha256(each.read_bytes()).hexdigest() for each in files
    ]


def test_what_was_found_and_is_gone_when_it_is_fetched_is_sent(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    with storing(found(0), Fault(404), NOTHING, stored(0)) as (client, server):
        assert kinds(client.store(tmp_path)) == ["created"]
    assert len(posts(server)) == 1


@pytest.mark.parametrize("verify", ["response", "exists"])
def test_what_a_search_names_and_cannot_be_fetched_is_neither_sent_nor_created(tmp_path: Path, verify: str) -> None:
    """As Orthanc answers when one SOP Instance UID is in two studies: 404, multiple resources match."""
    series_of(tmp_path, 2)
    with storing(found(0), Fault(404), found(0), stored(1), found(0, 1)) as (client, server):
        result = client.store(tmp_path, workers=1, verify=verify)
    assert kinds(result) == ["failed", "created"]
    assert result.outcomes[0].reason == "the server names it in a search but does not give it: it cannot be compared"
    assert [len(sent(post)) for post in posts(server)] == [1]


def test_a_refusal_after_a_lost_answer_is_no_failure_when_the_bytes_are_there(tmp_path: Path) -> None:
    (file,) = series_of(tmp_path, 1)
    script = [NOTHING, Fault(drop="reset"), stored(failed={0: 0x0110}, status=409), instance(file.read_bytes())]
    with storing(*script, policy=QUICK) as (client, server):
        assert kinds(client.store(tmp_path)) == ["created"]
    assert len(posts(server)) == 2


@pytest.mark.parametrize(("there", "expected"), [(Fault(404), "failed"), (instance(part10()), "conflict")])
def test_a_refusal_by_a_silent_server_is_looked_into(tmp_path: Path, there: Fault, expected: str) -> None:
    series_of(tmp_path, 1)
    with storing(NOTHING, stored(failed={0: 0x0110}, status=409), there) as (client, _):
        result = client.store(tmp_path)
    assert (kinds(result), result.outcomes[0].code) == ([expected], 0x0110)


def test_one_sop_instance_uid_is_never_twice_under_way_and_the_first_wins(tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": sop(0)}
    contents = [part10(**{**uids, "InstanceNumber": number}) for number in (1, 2, 1)]
    for number, content in enumerate(contents):
        (tmp_path / f"{number}.dcm").write_bytes(content)
    script = [NOTHING, stored(0), instance(contents[0]), instance(contents[0])]
    with storing(*script) as (client, server):
        result = client.store([tmp_path / "2.dcm", tmp_path / "0.dcm", tmp_path / "1.dcm"])
    assert kinds(result) == ["created", "conflict", "identical"]
    assert [sent(post) for post in posts(server)] == [[contents[0]]]
    assert len(server.received) == 4


def test_when_the_first_of_an_identity_is_refused_the_next_is_tried(tmp_path: Path) -> None:
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": f"{STUDY}.1", "SOPInstanceUID": sop(0)}
    for number in range(3):
        (tmp_path / f"{number}.dcm").write_bytes(part10(**{**uids, "InstanceNumber": number}))
    script = [NOTHING, stored(failed={0: 0xC000}), stored(0), stored(failed={0: 0x0111}, status=409)]
    with storing(*script, client=Reporting) as (client, server):
        result = client.store(tmp_path)
    assert kinds(result) == ["failed", "created", "conflict"]
    assert len(posts(server)) == 3


def test_existence_is_asked_once_a_study_page_by_page(tmp_path: Path) -> None:
    series_of(tmp_path / "a", 3)
    series_of(tmp_path / "b", 1, study="1.2.840.2")
    with storing(found(*range(1000, 2000)), found(), found(), stored(0, 1, 2)) as (client, server):
        client.store(tmp_path, workers=1, batch_count=100)
    lines = [each.line for each in server.received if each.line.startswith("GET")]
    # Once more for the one that no answer names.
    assert [line.partition("limit=")[2] for line in lines] == ["1000", "1000&offset=1000", "1000", "1000"]


def test_a_server_that_searches_below_a_series_only_is_asked_there(tmp_path: Path) -> None:
    files = series_of(tmp_path, 1)
    series = answer([{"0020000E": {"vr": "UI", "Value": [f"{STUDY}.1"]}}])
    with storing(Fault(404), series, found(0), instance(files[0].read_bytes())) as (client, server):
        assert kinds(client.store(tmp_path)) == ["identical"]
    assert [each.line.split("?")[0] for each in server.received[:3]] == [
        f"GET /dicom-web/studies/{STUDY}/instances",
        f"GET /dicom-web/studies/{STUDY}/series",
        f"GET /dicom-web/studies/{STUDY}/series/{STUDY}.1/instances",
    ]


def test_what_a_server_holds_under_unusable_uids_does_no_harm(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    odd = {"0020000E": {"vr": "UI", "Value": [f"{STUDY}.1"]}, "00080018": {"vr": "UI", "Value": ["1.2.abc"]}}
    with storing(answer([odd]), stored(0)) as (client, _):
        assert kinds(client.store(tmp_path)) == ["created"]


def test_a_search_result_without_uids_is_an_error(tmp_path: Path) -> None:
    series_of(tmp_path, 1)
    with storing(answer([{"00080018": {"vr": "UI", "Value": [sop(0)]}}])) as (client, server):
        with pytest.raises(ProtocolError, match="without its SeriesInstanceUID"):
            client.store(tmp_path)
        assert posts(server) == []
