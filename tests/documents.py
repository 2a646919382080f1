"""The documents of the project, as data: pages, fenced blocks, tables."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]
EMULATED_STORE = "projects/demo/locations/here/datasets/radiology/dicomStores/main"


class Block(NamedTuple):
    """A fenced block of a document."""

    document: str
    line: int
    text: str

    @property
    def where(self) -> str:
        return f"{self.document}:{self.line}"


def blocks(language: str) -> list[Block]:
    fence = re.compile(rf"^```{language}\n(.*?)^```$", re.DOTALL | re.MULTILINE)
    return [
        Block(path.name, text.count("\n", 0, match.start()) + 1, match[1])
        for path in DOCUMENTS
        for text in [path.read_text()]
        for match in fence.finditer(text)
    ]


def connections() -> list[tuple[str, str, str]]:
    """Every ``export AIRFLOW_CONN_...``: where, id, JSON."""
    found = []
    for block in blocks("sh"):
        for name, value in re.findall(r"export AIRFLOW_CONN_(\w+)='(.*?)'", block.text, re.DOTALL):
            found.append((block.where, name.lower(), value))
    return found


def rows(document: str, heading: str) -> list[list[str]]:
    """The rows of the first table after a heading."""
    text = (ROOT / document).read_text().partition(f"{heading}\n")[2]
    table = re.search(r"^\|[^\n]*\n\|[-|]+\n((?:\|[^\n]*\n)+)", text, re.MULTILINE)
    assert table is not None, heading
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[1].splitlines()]


def in_code(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)
