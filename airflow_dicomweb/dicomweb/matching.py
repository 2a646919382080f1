"""Matching results here, for servers that cannot read what they are asked for.

Orthanc (1.10 with its DICOMweb plugin) does not decode the values of a query: it finds nothing for ``Doe%5EJane``, which is
how ``Doe^Jane`` must be written. It knows wildcards, though. With ``?`` or ``*`` in the place of every character that would be
encoded, it finds what is asked for, and perhaps more: that is left out here.

Source: RFC 3986 section 3.4 (query), DICOM PS3.4 section C.2.2.2 (matching).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from airflow_dicomweb.dicomweb.dicom_json import DicomJson, values
from airflow_dicomweb.dicomweb.qido import FIELDS, FUZZY, Query, vr_of

_ENCODED = re.compile(r"[^A-Za-z0-9_.~*,?-]")
_NOT_ASCII = re.compile(r"[^\x00-\x7f]")
_WITH_WILDCARDS = frozenset({"AE", "CS", "LO", "LT", "PN", "SH", "ST", "UC", "UR", "UT"})


@dataclass(frozen=True, slots=True)
class WildcardSearch:
    """A search that finds at least what another one asks for.

    :param query: What to ask.
    :param expressions: By attribute, what a value must match.
    """

    query: Query
    expressions: Mapping[str, re.Pattern[str]]

    def matches(self, found: DicomJson) -> bool:
        """Tell whether the other search asks for a result."""
        return all(
            any(expression.fullmatch(_text(value)) for value in values(found, name))
            for name, expression in self.expressions.items()
        )


def with_wildcards(query: Query) -> WildcardSearch | None:
    """Write a query without characters that would be encoded; None if it has none, or it cannot be done."""
    pairs, expressions, fields = [], {}, ""
    for name, value in query:
        if name == FUZZY:
            return None
        if name == FIELDS:
            fields = value
        elif _ENCODED.search(value):
            kind = "" if "." in name else vr_of(name)
            if kind not in _WITH_WILDCARDS:
                return None
            # Of letters that are not ASCII it keeps none in its index, or several bytes.
            # What may follow in a name, empty components and its other forms, does not matter either.
            pairs.append((name, _ENCODED.sub("?", _NOT_ASCII.sub("*", value)) + ("*" if kind == "PN" else "")))
            expressions[name] = _expression(value, kind)
        else:
            pairs.append((name, value))
    if not expressions:
        return None
    if fields != "all":
        fields = ",".join([*filter(None, [fields]), *expressions])
    return WildcardSearch((*pairs, (FIELDS, fields)), expressions)


def _expression(value: str, kind: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    expression = "".join(parts.get(character) or re.escape(character) for character in value.rstrip(" "))
    # Names are found whatever their case, as servers may do; empty components at their end mean nothing.
    return re.compile(expression, re.DOTALL | (re.IGNORECASE if kind == "PN" else 0))


def _text(value: object) -> str:
    if isinstance(value, Mapping):
        return str(value.get("Alphabetic", "")).rstrip(" ^")
    return str(value).rstrip(" ")
