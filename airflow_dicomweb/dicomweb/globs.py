"""Globs: ``*`` (any characters but a slash), ``?`` (one of them), ``[...]`` (one of these), ``**`` (any characters).

Source: Cloud Healthcare API v1 ``GcsSource`` (its wildcards).
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence

from airflow_dicomweb.dicomweb.archives import is_archive, members
from airflow_dicomweb.dicomweb.entries import Entry
from airflow_dicomweb.errors import ConfigurationError

_log = logging.getLogger(__name__)

_MAGIC = re.compile(r"[*?[]")


def is_glob(text: str) -> bool:
    """Tell whether a text has a wildcard."""
    return _MAGIC.search(text) is not None


def split_glob(pattern: str) -> tuple[str, str]:
    """Give the folder above the first wildcard, with its slash, and the rest."""
    first = next(_MAGIC.finditer(pattern)).start()
    fixed = pattern[: pattern.rfind("/", 0, first) + 1]
    return fixed, pattern[len(fixed) :]


def fits(pattern: str, name: str) -> bool:
    """Tell whether a name matches a glob."""
    return re.fullmatch(_expression(pattern), name, re.DOTALL) is not None


def matching(pattern: str, entries: Iterator[Entry]) -> Iterator[Entry]:
    """Pass what matches; how many do not is logged, so that nobody misses them unawares.

    An archive whose name matches is passed with all its members, any other with those that match.

    :param pattern: A glob for the relative names.
    :param entries: Files and archives; what could not be listed has a relative name that is empty or ends with a slash.
    """
    left_out = 0
    try:
        expression = re.compile(_expression(pattern), re.DOTALL)
    except re.error:
        raise ConfigurationError("a glob has a range that ends before it starts: [a-z] is accepted") from None

    def is_meant(entry: Entry) -> bool:
        unlisted = entry.relative == "" or entry.relative.endswith("/")
        # What cannot be listed may be a link to a file.
        return expression.fullmatch(entry.relative.rstrip("/")) is not None or (
            unlisted and _may_hold(pattern, entry.relative)
        )

    for entry in entries:
        if is_meant(entry):
            yield from members(entry) if is_archive(entry.name) else [entry]
        elif is_archive(entry.name) and _may_hold(pattern, f"{entry.relative}/"):
            for member in members(entry):
                if is_meant(member):
                    yield member
                else:
                    left_out += 1
        else:
            left_out += 1
    if left_out:
        _log.info("%d files below the folder of the pattern do not match it and are left out", left_out)


def _may_hold(pattern: str, directory: str) -> bool:
    """Tell whether something below a directory could match."""
    folders, depth = pattern.split("/")[:-1], directory.count("/")
    if depth == 0 or "**" in pattern:
        return True
    if depth > len(folders):
        return False
    return re.fullmatch(_expression("".join(f"{each}/" for each in folders[:depth])), directory) is not None


def _expression(pattern: str) -> str:
    tokens: Sequence[str] = re.findall(r"\*\*/|\*\*|\*|\?|\[!?\]?[^\]]*\]|.", pattern, re.DOTALL)
    expressions = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    return "".join(expressions.get(token) or _one_of(token) for token in tokens)


def _one_of(token: str) -> str:
    if len(token) < 3:
        return re.escape(token)
    inside = re.sub(r"([\\\[\]&~|])", r"\\\1", token[1:-1])
    return f"[^/{inside[1:]}]" if inside.startswith("!") else f"[{inside}]"
