"""Request bodies as leniently read as Google reads them."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.emulator.messages import ApiError
from airflow_dicomweb.emulator.operations import EXPORT, IMPORT
from airflow_dicomweb.emulator.proto_json import parse, read_message
from airflow_dicomweb.emulator.resources import STORE
from tests.emulator.api import VECTORS, envelope

CASES = VECTORS["json_tolerance"]["cases"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
)


@pytest.mark.parametrize("case", [case for case in CASES if case["equals"]], ids=lambda case: case["id"])
def test_a_lenient_body_is_read_as_what_it_means(case):
    fields = next(fields for fields in (IMPORT, EXPORT, STORE) if set(fields) & set(case["equals"]))
    assert read_message(case["body"].encode(), fields) == case["equals"]


@pytest.mark.parametrize("case", [case for case in CASES if not case["equals"]], ids=lambda case: case["id"])
def test_a_body_beyond_leniency_is_a_bad_request(api, case):
    envelope(api.ask("POST", f"{api.store_url}:export", data=case["body"]), case["status"])


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("", {}),
        (" \n", {}),
        ("\ufeff{}", {}),
        ("{'a': 'it\\'s \"so\"'}", {"a": 'it\'s "so"'}),
        ("{a: 'x', b: [1, 2.5, -3e2,], c: true, d: null,}", {"a": "x", "b": [1, 2.5, -300.0], "c": True, "d": None}),
        ("['\\u00fc', '\\n', '\\\\']", ["ü", "\n", "\\"]),
        ("{'a': {}, 'b': []}", {"a": {}, "b": []}),
    ],
)
def test_what_google_takes_beyond_json_is_taken(text, value):
    assert parse(text.encode()) == value


@pytest.mark.parametrize(
    "text", ["{", "{'a'}", "{'a': }", "[1 2]", "{'a': 'b'", "'", "{'a': b}", "}", "{} x", "[,]", "{,}", "{1: 2}", "\\"]
)
def test_what_is_no_json_at_all_is_a_bad_request(text):
    with pytest.raises(ApiError) as raised:
        parse(text.encode())
    assert raised.value.code == 400


def test_bodies_that_are_no_text_or_too_deep_are_a_bad_request():
    for body in (b"\xff\xfe{}", b"{'a':" * 100_000, b"[" * 100_000, b'{"a":' * 100_000):
        with pytest.raises(ApiError) as raised:
            parse(body)
        assert raised.value.code == 400


@given(JSON)
def test_strict_json_is_read_as_json(value):
    assert parse(json.dumps(value).encode()) == (value if json.dumps(value).strip() else {})


@given(JSON)
def test_single_quotes_and_trailing_commas_change_nothing(value):
    def lenient(item):
        if isinstance(item, str):
            body = json.dumps(item)[1:-1].replace('\\"', '"').replace("'", "\\'")
            return f"'{body}'"
        if isinstance(item, list):
            return "[" + "".join(f"{lenient(each)}, " for each in item) + "]"
        if isinstance(item, dict):
            return "{" + "".join(f"{lenient(key)}: {lenient(each)}, " for key, each in item.items()) + "}"
        return json.dumps(item)

    assert parse(lenient([value]).encode()) == [value]


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ('{"gcsSauce": {}}', 'Unknown name "gcsSauce": Cannot find field.'),
        ('{"gcsSource": {"url": "x"}}', "Unknown name \"url\" at 'gcsSource': Cannot find field."),
        ('{"gcsSource": "x"}', "Invalid value at 'gcsSource'"),
        ('{"gcsSource": {"uri": ["x"]}}', "Invalid value at 'gcsSource.uri'"),
        ("[]", "must be an object"),
        ('"x"', "must be an object"),
    ],
)
def test_unknown_fields_and_wrong_types_are_named(body, words):
    with pytest.raises(ApiError) as raised:
        read_message(body.encode(), IMPORT)
    assert raised.value.code == 400
    assert words in raised.value.message
