"""The report: whole, by itself, and with nothing in it that a browser would obey."""

from __future__ import annotations

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

from demo.report import Check, DagRunRow, Figure, OperationRow, Place, Report, Span, Study, TaskRow, write_report

HOSTILE = "<script>alert('x')</script>&\"'"

TASK = TaskRow("import_bucket", "ImportOperator", "success", 1, 1, [Span("worker", 0, 5), Span("triggerer", 5, 15)])
REPORT = Report(
    ok=True,
    error="",
    started="2026-01-05 02:00:00 UTC",
    seconds=125.0,
    figures=[Figure(116, "stored", "from the folder")],
    checks=[Check("Everything is there", ok=True, found="116 of 116")],
    runs=[DagRunRow("nightly_ingestion", "manual__1", "Takes it all in.", "its schedule", "success", 16.0, [TASK])],
    operations=[OperationRow("42", "ImportDicomData", "nightly_ingestion.import_bucket", "success", 96, 0, 15.0)],
    studies=[Study("1.2.3", ["CT"], 1, 60, "bucket", deleted=False, thumbnail=b"\x89PNG")],
    places=[Place("Logs", "build/demo/airflow", "one file for each process")],
)


class Page(HTMLParser):
    """The tags of a page, and the addresses that a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.fetched: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.fetched += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data")]


@pytest.fixture
def page(tmp_path: Path) -> str:
    write_report(REPORT, tmp_path / "deep" / "report.html")
    return (tmp_path / "deep" / "report.html").read_text(encoding="utf-8")


def test_the_report_needs_nothing_from_elsewhere(page: str) -> None:
    found = Page(page)
    assert found.fetched
    assert all(address.startswith("data:image/png;base64,") for address in found.fetched)
    assert not {"script", "link", "iframe"} & set(found.tags)
    assert re.search(r"url\(|@import", page) is None


def test_the_report_shows_each_deferral_and_its_length(page: str) -> None:
    assert "deferred once" in page
    assert "10.0 s" in page


def test_nothing_in_the_report_is_obeyed_by_a_browser(tmp_path: Path) -> None:
    hostile = replace(
        REPORT,
        ok=False,
        error=HOSTILE,
        started=HOSTILE,
        figures=[Figure(1, HOSTILE, HOSTILE)],
        checks=[Check(HOSTILE, ok=False, found=HOSTILE)],
        runs=[
            replace(
                REPORT.runs[0], dag_id=HOSTILE, purpose=HOSTILE, state=HOSTILE, tasks=[replace(TASK, label=HOSTILE)]
            )
        ],
        operations=[replace(REPORT.operations[0], name=HOSTILE, state=HOSTILE)],
        studies=[replace(REPORT.studies[0], uid=HOSTILE, modalities=[HOSTILE], origin=HOSTILE)],
        places=[Place(HOSTILE, HOSTILE, HOSTILE)],
    )
    write_report(hostile, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "&lt;script&gt;" in text
    assert "script" not in Page(text).tags


def test_a_report_of_almost_nothing_can_be_written(tmp_path: Path) -> None:
    early = replace(REPORT, ok=False, error="it ended early", figures=[], checks=[], runs=[], operations=[], studies=[])
    write_report(early, tmp_path / "report.html")
    assert "it ended early" in (tmp_path / "report.html").read_text(encoding="utf-8")
