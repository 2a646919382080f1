"""The search of the privacy test finds what it is meant to find: else its silence would mean nothing."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
import zlib
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from urllib.parse import quote, quote_plus, urlencode

import pytest
from cryptography.fernet import Fernet

from tests.system.sentinels import (
    Find,
    Sentinel,
    random_birth_date,
    random_word,
    row_counts,
    search_database,
    search_files,
)

FORMS: dict[str, Callable[[str], str]] = {
    "as it is": str,
    "in capitals": str.upper,
    "percent-encoded": lambda value: quote(value, safe=""),
    "in a query": lambda value: urlencode({"PatientName": value}),
    "with plus signs": quote_plus,
    "as JSON": json.dumps,
    "as JSON in JSON": lambda value: json.dumps(json.dumps({"value": value})),
    "as Python": ascii,
    "as HTML": html.escape,
    "in hexadecimal digits": lambda value: value.encode().hex(),
    "in base64": lambda value: base64.b64encode(value.encode()).decode(),
    "in base64, one byte later": lambda value: base64.b64encode(f"?{value}!".encode()).decode(),
    "in base64, two bytes later": lambda value: base64.urlsafe_b64encode(f"??{value}!!".encode()).decode(),
}


@pytest.fixture(params=["name", "date", "non-ASCII"])
def sentinel(request: pytest.FixtureRequest) -> Sentinel:
    values = {
        "name": lambda: f"{random_word()}^{random_word()}",
        "date": random_birth_date,
        "non-ASCII": lambda: f"Ü <'{random_word()}/\\\"ß",
    }
    return Sentinel("the sentinel", values[request.param]())


@pytest.mark.parametrize("form", FORMS)
def test_a_sentinel_is_found_in_a_file_in_every_form(tmp_path: Path, sentinel: Sentinel, form: str) -> None:
    log = tmp_path / "logs" / "attempt=1.log"
    log.parent.mkdir()
    log.write_text(f"nothing here\nwhat is here: {FORMS[form](sentinel.value)} and more\nnothing here\n")
    assert search_files(tmp_path, [sentinel, Sentinel("another", random_word())]) == [
        Find("logs/attempt=1.log, line 2", "the sentinel")
    ]


@pytest.mark.parametrize("form", FORMS)
def test_a_sentinel_is_found_in_a_database_in_every_form(tmp_path: Path, sentinel: Sentinel, form: str) -> None:
    value = FORMS[form](sentinel.value)
    path = database(tmp_path, ("key", value))
    assert search_database(path, [sentinel]) == [Find("airflow.db: some table.value", "the sentinel")]


@pytest.mark.parametrize("packed", ["bytes", "compressed", "encrypted", "encrypted and compressed"])
def test_a_sentinel_is_found_in_a_database_under_its_wrapping(tmp_path: Path, sentinel: Sentinel, packed: str) -> None:
    key = Fernet.generate_key()
    value = json.dumps({"name": sentinel.value}).encode()
    if "compressed" in packed:
        value = zlib.compress(value)
    if "encrypted" in packed:
        value = Fernet(key).encrypt(value)
    path = database(tmp_path, ("key", value if packed in {"bytes", "compressed"} else value.decode()))
    assert search_database(path, [sentinel], fernet_key=key.decode()) == [
        Find("airflow.db: some table.value", "the sentinel")
    ]


def test_hexadecimal_digits_that_are_all_decimal_are_found_among_others(tmp_path: Path) -> None:
    sentinel = Sentinel("the sentinel", "Ü <'ghpqrstvwx/ß")
    (tmp_path / "a.log").write_text(sentinel.value.encode().hex())
    assert search_files(tmp_path, [sentinel]) == [Find("a.log, line 1", "the sentinel")]


def test_one_word_of_a_sentinel_is_enough(tmp_path: Path) -> None:
    first, second = random_word(), random_word()
    (tmp_path / "log").write_text(f"the family name is {second}")
    assert search_files(tmp_path, [Sentinel("name", f"{first}^{second}")]) == [Find("log, line 1", "name")]


def test_a_find_does_not_repeat_the_sentinel(tmp_path: Path) -> None:
    value = random_word()
    folder = tmp_path / value
    folder.mkdir()
    (folder / "file").write_text(value)
    finds = search_files(tmp_path, [Sentinel("name", value)])
    assert finds == [Find("a file, line 1", "name"), Find("the name of a file", "name")]
    assert value not in repr([*finds, Sentinel("name", value)])


@pytest.mark.parametrize("text", ["1.2.840.{}.7", "2026{}", "{}0", "{}.5", "1.{}"])
def test_a_date_is_not_found_in_a_longer_number(tmp_path: Path, text: str) -> None:
    date = random_birth_date()
    (tmp_path / "log").write_text(f"study {text.format(date)} stored")
    assert search_files(tmp_path, [Sentinel("date", date)]) == []


@pytest.mark.parametrize("text", ["born {}.", "Date%3D{}", "[{}]", "{}T00", "\\n{}"])
def test_a_date_is_found_wherever_it_stands_for_itself(tmp_path: Path, text: str) -> None:
    date = random_birth_date()
    (tmp_path / "log").write_text(text.format(date))
    assert search_files(tmp_path, [Sentinel("date", date)]) == [Find("log, line 1", "date")]


def test_what_is_clean_gives_no_finds(tmp_path: Path) -> None:
    sentinels = [Sentinel("name", random_word()), Sentinel("date", random_birth_date())]
    database(tmp_path, ("key", "value"), (random_word(), 18_000_101.5))
    assert search_files(tmp_path, sentinels) == []
    assert search_database(tmp_path / "airflow.db", sentinels) == []
    assert row_counts(tmp_path / "airflow.db") == {"some table": 2}


def database(folder: Path, *rows: tuple[object, object]) -> Path:
    path = folder / "airflow.db"
    with closing(sqlite3.connect(path)) as connection, connection:
        connection.execute('CREATE TABLE "some table" (key, value)')
        connection.executemany('INSERT INTO "some table" VALUES (?, ?)', rows)
    return path
