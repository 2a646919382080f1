"""What earlier tries of a task have stored, found by source.

Very many lines are kept in a file of their own while they are needed; in memory there are 16 bytes for each.

Source: design of this package.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from array import array
from bisect import bisect_left
from collections.abc import Iterable, Mapping
from typing import Any, Self

from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.operators._outcome_lines import is_stored, outcome_in


class EarlierOutcomes:
    """Finds what was stored, by name, size and version of the source.

    :param lines: Of reports; those that say something else are passed over.
    :param run: Name of the run whose lines count.
    """

    def __init__(self, lines: Iterable[Any], run: str) -> None:
        self._run = run
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - closed by __exit__
        keys, offsets = array("Q"), array("Q")
        for line in lines:
            if is_stored(line, run):
                keys.append(_key(line.get("source"), line.get("bytes"), line.get("version")))
                offsets.append(self._file.tell())
                self._file.write(f"{json.dumps(line)}\n".encode())
        order = sorted(range(len(keys)), key=keys.__getitem__)
        self._keys, self._offsets = array("Q", (keys[n] for n in order)), array("Q", (offsets[n] for n in order))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._file.close()

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, source: Source) -> InstanceOutcome | None:
        """Give the outcome that a source had, if it is stored and the source is still the same."""
        key = _key(source.name, source.size, source.version)
        position = bisect_left(self._keys, key)
        while position < len(self._keys) and self._keys[position] == key:
            self._file.seek(self._offsets[position])
            found = outcome_in(json.loads(self._file.readline()), self._run, source)
            if found is not None:
                return found
            position += 1
        return None


def _key(name: object, size: object, version: object) -> int:
    return int.from_bytes(
        hashlib.blake2b(f"{size}|{version}|{name}".encode("utf-8", "replace"), digest_size=8).digest()
    )


class EarlierDigests:
    """The same without a report: a bounded number of outcomes, without names, in few bytes.

    :param run: Secret of the run: names cannot be found out by trying them.
    :param most: Outcomes that are kept; of further ones a retry does not know.
    """

    def __init__(self, run: str, settled: Mapping[str, Any] | None = None, most: int = 1000) -> None:
        self._run, self._most = run, most
        self._settled: dict[str, Any] = dict(settled or {})

    def __len__(self) -> int:
        return len(self._settled)

    def add(self, outcome: InstanceOutcome) -> bool:
        """Keep an outcome, if it is worth it and there is room."""
        if not outcome.is_stored or outcome.path is None or not outcome.version or len(self._settled) >= self._most:
            return False
        path = outcome.path
        self._settled[self._digest(outcome.source, outcome.bytes, outcome.version)] = [
            *(path.study, path.series, path.instance),
            *(outcome.outcome, outcome.warning, outcome.replaced),
        ]
        return True

    def find(self, source: Source) -> InstanceOutcome | None:
        """Give the outcome that a source had, if it is stored and the source is still the same."""
        if not source.version:
            return None
        match self._settled.get(self._digest(source.name, source.size, source.version)):
            case [study, series, instance, outcome, warning, replaced]:
                line = {
                    "source": source.name,
                    "bytes": source.size,
                    "version": source.version,
                    "run": self._run,
                    "study": study,
                    "series": series,
                    "instance": instance,
                    "outcome": outcome,
                    "warning": warning,
                    "replaced": replaced,
                }
                return outcome_in(line, self._run, source)
        return None

    def to_json(self) -> dict[str, Any]:
        """Give what is kept."""
        return dict(self._settled)

    def _digest(self, name: str, size: int, version: str) -> str:
        text = f"{size}|{version}|{name}".encode("utf-8", "replace")
        return hashlib.blake2b(text, digest_size=9, key=self._run.encode()).hexdigest()
