"""How a search compares a value with what is stored.

Google documents exact matching, ranges of dates, and a fuzzy rule for person names alone: a name matches if any token
of the query is a prefix of any of its tokens. There are no wildcards.

Source: Cloud Healthcare API, DICOM conformance statement, "Search transaction".
"""

from __future__ import annotations

import re
import unicodedata

from airflow_dicomweb.emulator.messages import ApiError

_DATE = re.compile(r"[0-9]{8}")


def tokens(name: str) -> list[str]:
    """Split a person name into normalised tokens: lower case, without accents and punctuation."""
    plain = "".join(c for c in unicodedata.normalize("NFKD", name) if not unicodedata.combining(c))
    return re.findall(r"\w+", plain.casefold().replace("_", " "))


def fuzzy_match(query: str, name: str) -> bool:
    """Tell whether any token of the query is a prefix of any token of the name."""
    stored = tokens(name)
    return any(token.startswith(part) for part in tokens(query) for token in stored)


def date_condition(column: str, text: str) -> tuple[str, list[str]]:
    """Give the SQL condition for a date or a range of dates, either end of which may be open.

    :raises ApiError: 400 if it is neither.
    """
    first, dash, last = text.partition("-")
    if (dash and not first and not last) or not all(_DATE.fullmatch(end) for end in (first, last) if end) or not text:
        raise ApiError(400, "invalid date in the query: YYYYMMDD or YYYYMMDD-YYYYMMDD is expected")
    if not dash:
        return f"{column} = ?", [first]
    # Dates that cannot be read are stored empty, and match no range.
    return f"{column} BETWEEN ? AND ? AND {column} <> ''", [first or "0", last or "99999999"]


def normal_date(text: str) -> str:
    """Give a stored date as YYYYMMDD, ``1997.04.24`` of old files included; an unreadable one gives ``""``."""
    plain = text.strip().replace(".", "")
    return plain if _DATE.fullmatch(plain) else ""
