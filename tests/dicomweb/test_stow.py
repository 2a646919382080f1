"""What a server says of stored instances is read whatever its form, and what became of sources is counted and told."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from airflow_dicomweb.dicomweb.media_types import MediaType
from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.stow import InstanceOutcome, Outcome, StoreResult
from airflow_dicomweb.dicomweb.stow_answers import Failure, StoreAnswer, read_answer, reason_of
from airflow_dicomweb.errors import ConfigurationError, ProtocolError, StoreRefusedError

VECTORS = yaml.safe_load((Path(__file__).parent.parent / "data" / "exchanges.yaml").read_text())["store_answers"]
UIDS = {"study": "1.2", "series": "1.2.3", "sop_class": "1.2.840.10008.5.1.4.1.1.7", "sop_instance": "1.2.3.4"}
XML, JSON = MediaType("application/dicom+xml"), MediaType("application/dicom+json")
PATH = InstancePath("1.2", "1.2.3", "1.2.3.4")


def filled(text: str) -> str:
    """A vector with UIDs in its placeholders."""
    for name, uid in {**UIDS, **{name.upper(): uid for name, uid in UIDS.items()}, "base": "https://server"}.items():
        text = text.replace(f"{{{name}}}", uid)
    return text


def vector(name: str) -> bytes:
    body = VECTORS[name]
    return filled(body if isinstance(body, str) else json.dumps(body)).encode()


def read(content: bytes, content_type: str = "") -> StoreAnswer:
    answer = read_answer(content, MediaType.parse(content_type))
    assert answer is not None
    return answer


@pytest.mark.parametrize(("name", "media_type"), [("success_xml", XML), ("success_json", JSON)])
def test_a_success_is_read_in_both_forms(name: str, media_type: MediaType) -> None:
    answer = read_answer(vector(name), media_type)
    assert answer is not None
    assert dict(answer.referenced) == {"1.2.3.4": None}
    assert not answer.failed


@pytest.mark.parametrize(("name", "media_type"), [("failure_xml", XML), ("failure_json", JSON)])
def test_a_failure_is_read_in_both_forms_with_google_s_own_words(name: str, media_type: MediaType) -> None:
    answer = read_answer(vector(name), media_type)
    assert answer is not None
    assert dict(answer.failed) == {"1.2.3.4": Failure(272, "already exists")}
    assert answer.failed["1.2.3.4"].is_conflict
    assert not answer.referenced


def test_a_media_type_is_parsed_and_not_compared() -> None:
    assert read(vector("failure_json"), "Application/DICOM+JSON; charset=utf-8").failed
    assert read(vector("failure_json"), "application/json").failed
    assert read(vector("failure_xml"), 'application/dicom+xml; charset="utf-8"').failed


@pytest.mark.parametrize("name", ["success_xml", "success_json", "failure_xml", "failure_json"])
def test_an_answer_without_a_content_type_is_looked_into(name: str) -> None:
    answer = read(vector(name))
    assert list(answer.referenced or answer.failed) == ["1.2.3.4"]


def test_xml_may_have_a_declaration_a_namespace_and_a_prefix() -> None:
    text = vector("failure_xml").decode()
    plain = text.replace(
        "<NativeDicomModel>", '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
    )
    assert read(b'<?xml version="1.0" encoding="UTF-8"?>' + plain.encode(), "application/dicom+xml").failed
    prefixed = text.replace("</", "</n:").replace("<", "<n:").replace("<n:/n:", "</n:")
    prefixed = prefixed.replace("<n:NativeDicomModel>", '<n:NativeDicomModel xmlns:n="http://dicom.nema.org/x">', 1)
    assert read(prefixed.encode(), "application/dicom+xml").failed


def test_xml_with_entities_is_not_read() -> None:
    bomb = b'<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">]>' + vector("success_xml")
    with pytest.raises(ProtocolError, match=r"declared application/dicom\+xml"):
        read_answer(bomb, XML)


def test_a_warning_is_read_with_the_reference() -> None:
    body = {
        "00081199": {
            "vr": "SQ",
            "Value": [{"00081155": {"vr": "UI", "Value": ["1.2"]}, "00081196": {"vr": "US", "Value": [45056]}}],
        }
    }
    assert dict(read(json.dumps(body).encode(), "application/dicom+json").referenced) == {"1.2": 45056}


def test_an_answer_in_an_array_of_one_is_read() -> None:
    assert read(b"[" + vector("success_json") + b"]", "application/dicom+json").referenced


def test_an_empty_answer_in_dicom_json_says_nothing_of_any_instance() -> None:
    assert read(b"{}", "application/dicom+json") == StoreAnswer({}, {})


@pytest.mark.parametrize(
    ("content", "content_type"),
    [
        (b'{"error": {"code": 400, "message": "bad"}}', "application/json; charset=UTF-8"),
        (b'[{"error": {"code": 400}}]', "application/json"),
        (b'{"HttpStatus": 400, "Message": "Bad request"}', ""),
        (b"<html><title>502</title></html>", "text/html"),
        (b"<html>", ""),
        (b"no", "text/plain"),
        (b"", ""),
        (b"{", ""),
        (b"[" * 100_000, "application/json"),
    ],
)
def test_an_error_answer_is_no_word_on_instances(content: bytes, content_type: str) -> None:
    assert read_answer(content, MediaType.parse(content_type)) is None


@pytest.mark.parametrize(
    ("content", "media_type"),
    [
        (b"{", JSON),
        (b"", JSON),
        (b"[]", JSON),
        (b'"x"', JSON),
        (b"<a", XML),
        (b"", XML),
        (b"<html/>", XML),
        (b"\xff", JSON),
    ],
)
def test_what_is_declared_dicom_and_cannot_be_read_is_an_error(content: bytes, media_type: MediaType) -> None:
    with pytest.raises(ProtocolError, match="cannot be read"):
        read_answer(content, media_type)


def test_items_of_odd_shapes_do_no_harm() -> None:
    body = {
        "00081199": {"vr": "SQ", "Value": [{}, None, "x", {"00081155": {"vr": "UI"}}]},
        "00081198": {"vr": "SQ", "Value": [{"00081197": {"vr": "US", "Value": ["many"]}}]},
    }
    answer = read(json.dumps(body).encode(), "application/dicom+json")
    assert dict(answer.failed) == {"": Failure(None, "")}
    assert set(answer.referenced) == {""}


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0xA700, "out of resources (0xA700)"),
        (0xA7FF, "out of resources (0xA7FF)"),
        (0xA900, "the data set does not match its SOP class (0xA900)"),
        (0xC000, "cannot understand (0xC000)"),
        (0xC122, "transfer syntax not supported (0xC122)"),
        (0x0110, "processing failure (0x0110)"),
        (0x0111, "duplicate SOP instance (0x0111)"),
        (0x0122, "SOP class not supported (0x0122)"),
        (0x0124, "not authorized (0x0124)"),
        (0x0001, "unknown reason (0x0001)"),
    ],
)
def test_reasons_are_said_in_words_with_their_code(code: int, words: str) -> None:
    assert reason_of(code) == words


def test_only_a_duplicate_or_google_s_already_exists_is_a_conflict() -> None:
    assert Failure(0x0111).is_conflict
    assert Failure(272, "Already exists").is_conflict
    assert not Failure(272).is_conflict
    assert not Failure(0x0124, "already exists").is_conflict


def outcome(number: int, kind: Outcome, **more: Any) -> InstanceOutcome:
    path = InstancePath(f"1.{number % 3}", "1.2", f"1.2.{number}")
    return InstanceOutcome(
        source=f"/in/DOE^JANE/{number}.dcm", ordinal=number, path=path, outcome=kind, bytes=10, **more
    )


RESULT = StoreResult(
    (
        outcome(0, "created"),
        outcome(1, "created", warning=0xB000),
        outcome(2, "identical"),
        outcome(3, "conflict", reason="other bytes"),
        outcome(4, "failed", reason="no", detail="value 'DOE^JANE' is bad"),
        InstanceOutcome(source="/in/notes.txt", ordinal=5, path=None, outcome="skipped", reason="not a DICOM file"),
    ),
    seconds=1.23456,
)


def test_the_result_of_an_operator_is_counts_and_study_uids() -> None:
    assert RESULT.to_xcom() == {
        "created": 2,
        "identical": 1,
        "conflict": 1,
        "failed": 1,
        "skipped": 1,
        "coerced": 1,
        "bytes": 30,
        "seconds": 1.235,
        "studies": ["1.0", "1.1", "1.2"],
        "study_count": 3,
        "report_uri": None,
    }
    assert RESULT.to_xcom("gs://bucket/report.json")["report_uri"] == "gs://bucket/report.json"


def test_at_most_a_hundred_study_uids_are_passed_on() -> None:
    many = StoreResult(
        tuple(
            InstanceOutcome(source="", ordinal=n, path=InstancePath(f"1.{n}", "1", "1"), outcome="created")
            for n in range(150)
        )
    )
    assert (len(many.to_xcom()["studies"]), many.to_xcom()["study_count"]) == (100, 150)


def test_failures_and_conflicts_raise_unless_they_are_tolerated() -> None:
    for tolerated in ({"max_failures": 2}, {"max_failures": 1, "on_conflict": "keep"}):
        RESULT.raise_for_failures(**tolerated)  # type: ignore[arg-type]
    for refused in ({}, {"max_failures": 1}, {"on_conflict": "keep"}):
        with pytest.raises(StoreRefusedError) as refusal:
            RESULT.raise_for_failures(**refused)  # type: ignore[arg-type]
        assert refusal.value.result is RESULT
    with pytest.raises(ConfigurationError, match="'fail', 'keep'"):
        RESULT.raise_for_failures(on_conflict="overwrite")


def test_a_refusal_tells_counts_numbers_uids_and_reasons_but_no_names_and_no_values() -> None:
    with pytest.raises(StoreRefusedError) as refusal:
        RESULT.raise_for_failures()
    message = str(refusal.value)
    assert "2 of 6 sources were not stored (2 created, 1 identical, 1 conflict, 1 failed, 1 skipped)" in message
    assert "source 4, studies/1.1/series/1.2/instances/1.2.4: no" in message
    for private in ("DOE", "/in/", "notes"):
        assert private not in message
        assert private not in repr(RESULT)


def test_a_refusal_survives_the_way_to_another_process() -> None:
    with pytest.raises(StoreRefusedError) as refusal:
        RESULT.raise_for_failures()
    again = pickle.loads(pickle.dumps(refusal.value))
    assert (str(again), again.result) == (str(refusal.value), RESULT)
