"""Values that nobody writes by chance, and the search for them in all that a run leaves behind.

A value is searched for as it is, percent-encoded, escaped as JSON, Python and HTML do, in hexadecimal digits and in
base64, and so is each long enough word of it. A find says where, and which sentinel; never its value.
"""

from __future__ import annotations

import base64
import html
import json
import re
import secrets
import sqlite3
import zlib
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import quote, quote_plus

from cryptography.fernet import Fernet

_WORD_LENGTH = 10
_FERNET_TOKEN = b"gAAAAA"
_NEWLINE = b"\n"


def random_word() -> str:
    """Give a word that is in no text: consonants alone, so that it is no number in hexadecimal digits either."""
    return "".join(secrets.choice("ghjklmnpqrstvwxz") for _ in range(_WORD_LENGTH))


def random_birth_date() -> str:
    """Give a day long before anything that a log might tell, as DICOM writes it."""
    return f"18{71 + secrets.randbelow(28)}{1 + secrets.randbelow(12):02d}{1 + secrets.randbelow(28):02d}"


@dataclass(frozen=True)
class Sentinel:
    """A value that must not be found.

    :param name: What messages call it.
    :param value: The value itself, with at least one word of ``random_word``, or a date of ``random_birth_date``.
    """

    name: str
    value: str

    def __repr__(self) -> str:
        return f"Sentinel({self.name})"

    def is_in(self, data: bytes) -> bool:
        """Whether it is there, in any form."""
        return self.position_in(data) >= 0

    def position_in(self, data: bytes) -> int:
        """Where it is, in any form; -1 when it is not there."""
        lower = data.lower()
        for form in self._in_any_case:
            if (found := _position(lower, form)) >= 0:
                return found
        return next((found for form in self._in_base64 if (found := data.find(form)) >= 0), -1)

    @cached_property
    def _parts(self) -> list[str]:
        return [self.value, *re.findall(rf"[A-Za-z0-9]{{{_WORD_LENGTH},}}", self.value)]

    @cached_property
    def _in_any_case(self) -> list[bytes]:
        forms = {form.lower().encode() for part in self._parts for form in _spellings(part)}
        if self.value.isdigit():
            year, month, day = self.value[:4], self.value[4:6], self.value[6:]
            forms |= {f"{year}{mark}{month}{mark}{day}".encode() for mark in "-./"}
        return _shortest(forms)

    @cached_property
    def _in_base64(self) -> list[bytes]:
        return _shortest({form for part in self._parts for form in _base64_forms(part.encode())})


@dataclass(frozen=True, order=True)
class Find:
    """A place where a sentinel was found.

    :param place: File and line, or database, table and column.
    :param sentinel: Its name.
    """

    place: str
    sentinel: str


def search_files(folder: Path, sentinels: Iterable[Sentinel]) -> list[Find]:
    """Search all files of a folder, and their names."""
    sentinels = list(sentinels)
    finds = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = str(path.relative_to(folder))
        if named := [Find("the name of a file", each.name) for each in sentinels if each.is_in(name.encode())]:
            finds += named
            name = "a file"
        finds += search_file(path, sentinels, name=name)
    return sorted(set(finds))


def search_file(path: Path, sentinels: Iterable[Sentinel], *, name: str = "") -> list[Find]:
    """Search one file.

    :param name: What the finds call it, if not by its own name.
    """
    content = path.read_bytes()
    positions = {each.name: each.position_in(content) for each in sentinels}
    return sorted(
        Find(f"{name or path.name}, line {content.count(_NEWLINE, 0, position) + 1}", sentinel)
        for sentinel, position in positions.items()
        if position >= 0
    )


def search_database(path: Path, sentinels: Iterable[Sentinel], *, fernet_key: str = "") -> list[Find]:
    """Search every column of every table of an SQLite database.

    :param fernet_key: With it what is encrypted is searched as well.
    """
    sentinels = list(sentinels)
    finds = set()
    for table, column, value in _values(path):
        for data in _readings(value, fernet_key):
            place = f"{path.name}: {table}.{column}"
            finds |= {Find(place, each.name) for each in sentinels if each.is_in(data)}
    return sorted(finds)


def row_counts(path: Path) -> dict[str, int]:
    """Count the rows of each table of an SQLite database."""
    with closing(_open(path)) as database:
        return {table: database.execute(f'SELECT count(*) FROM "{table}"').fetchone()[0] for table in _tables(database)}


def _open(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True)


def _tables(database: sqlite3.Connection) -> list[str]:
    return [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]


def _values(path: Path) -> Iterator[tuple[str, str, bytes]]:
    with closing(_open(path)) as database:
        tables = _tables(database)
        database.text_factory = bytes
        for table in tables:
            rows = database.execute(f'SELECT * FROM "{table}"')
            columns = [str(column[0]) for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if value is not None:
                        yield table, column, value if isinstance(value, bytes) else str(value).encode()


def _readings(value: bytes, fernet_key: str) -> list[bytes]:
    """What a value says: as it is, decrypted, decompressed."""
    readings = [value]
    if fernet_key and value.startswith(_FERNET_TOKEN):
        readings.append(Fernet(fernet_key).decrypt(value))
    for reading in list(readings):
        with suppress(zlib.error):
            readings.append(zlib.decompress(reading))
    return readings


def _spellings(text: str) -> set[str]:
    escaped = json.dumps(text)[1:-1]
    return {
        text,
        quote(text, safe=""),
        quote(text),
        quote_plus(text),
        escaped,
        json.dumps(escaped)[1:-1],
        repr(text)[1:-1],
        ascii(text)[1:-1],
        html.escape(text),
        text.encode().hex(),
    }


def _base64_forms(data: bytes) -> set[bytes]:
    """What base64 makes of it wherever it begins: without the characters that depend on its neighbours."""
    forms = set()
    for before in range(3):
        after = -(before + len(data)) % 3
        encoded = base64.b64encode(b"\0" * before + data + b"\0" * after)
        form = encoded[-(-before * 8 // 6) : len(encoded) - -(-after * 8 // 6)]
        forms |= {form, form.translate(bytes.maketrans(b"+/", b"-_"))}
    return forms


def _shortest(forms: set[bytes]) -> list[bytes]:
    """Leave out what cannot be found without finding something shorter."""
    return sorted(form for form in forms if not any(other in form for other in forms - {form}))


def _position(data: bytes, form: bytes) -> int:
    """Find a form; a short number, such as a date, is not searched for inside of longer numbers and UIDs.

    Sixteen digits and more are in no other number by chance: hexadecimal digits of a word may be all decimal ones.
    """
    if not form.isdigit() or len(form) >= 16:
        return data.find(form)
    found = re.search(rb"(?<![0-9])(?<![0-9]\.)" + form + rb"(?![0-9])(?!\.[0-9])", data)
    return found.start() if found else -1
