"""The report of a demonstration: one HTML file that needs nothing else, for the screen and for paper.

It holds UIDs, modalities and counts; no patient's name, no other attribute.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

_TEMPLATE = Path(__file__).with_name("report.html.jinja")
_SECONDS_PER_TICK = (5, 10, 20, 30, 60, 120, 300)
_MOST_TICKS = 9


@dataclass(frozen=True, slots=True)
class Figure:
    """One number of the summary.

    :param value: The number.
    :param label: What was counted.
    :param note: A few words on how it came about.
    """

    value: int
    label: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One statement that was looked up, not assumed.

    :param statement: What should hold.
    :param ok: Whether it does.
    :param found: What was seen.
    """

    statement: str
    ok: bool
    found: str


@dataclass(frozen=True, slots=True)
class Place:
    """Where something can be looked at.

    :param name: What it is.
    :param address: Folder, URL or resource name.
    :param content: What it holds.
    """

    name: str
    address: str
    content: str


@dataclass(frozen=True, slots=True)
class Study:
    """One study, as the DICOM store answered for it after the ingestion.

    :param uid: Study Instance UID.
    :param modalities: Modalities in the study.
    :param series: Number of series.
    :param instances: Number of instances.
    :param origin: How it came: ``bucket`` or ``folder``.
    :param deleted: Whether it is gone at the end.
    :param thumbnail: A small PNG of one of its images; None when it has no image.
    """

    uid: str
    modalities: Sequence[str]
    series: int
    instances: int
    origin: str
    deleted: bool
    thumbnail: bytes | None

    @property
    def image(self) -> str | None:
        """The thumbnail as a data URI."""
        return f"data:image/png;base64,{base64.b64encode(self.thumbnail).decode()}" if self.thumbnail else None


@dataclass(frozen=True, slots=True)
class OperationRow:
    """One long-running operation of the service.

    :param name: Its id.
    :param method: Such as ``ImportDicomData``.
    :param task: DAG and task that waited for it; empty when none did.
    :param state: Its verdict.
    :param success: Items done.
    :param failure: Items failed.
    :param seconds: From its creation to its end; None when unknown.
    """

    name: str
    method: str
    task: str
    state: str
    success: int
    failure: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Span:
    """One stretch of a task's life.

    :param kind: ``worker`` while it occupied a worker, ``triggerer`` while it was deferred, ``person`` while it
        waited for a decision.
    :param start: Seconds since the run's first task started.
    :param end: Seconds since the run's first task started.
    """

    kind: str
    start: float
    end: float

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class TaskRow:
    """One task instance.

    :param label: Task id, with the number of a mapped instance.
    :param operator: Class of the operator.
    :param state: How it ended.
    :param tries: Attempts.
    :param deferred: Times it handed its wait to the triggerer.
    :param spans: Its life, in order.
    """

    label: str
    operator: str
    state: str
    tries: int
    deferred: int
    spans: Sequence[Span]

    def seconds(self, kind: str) -> float:
        """Sum of its spans of one kind."""
        return sum(span.seconds for span in self.spans if span.kind == kind)


@dataclass(frozen=True, slots=True)
class DagRunRow:
    """One run of a DAG.

    :param dag_id: The DAG.
    :param run_id: The run.
    :param purpose: What the DAG does, in one sentence.
    :param started_by: What made it run, in a few words.
    :param state: How it ended.
    :param seconds: Its length.
    :param tasks: In the order of their start.
    """

    dag_id: str
    run_id: str
    purpose: str
    started_by: str
    state: str
    seconds: float
    tasks: Sequence[TaskRow]

    @property
    def length(self) -> float:
        """Seconds that the time line covers; never 0."""
        return max([1.0, *(span.end for task in self.tasks for span in task.spans)])

    @property
    def ticks(self) -> list[int]:
        """Seconds that the time line is marked at."""
        step = next((step for step in _SECONDS_PER_TICK if self.length / step <= _MOST_TICKS), _SECONDS_PER_TICK[-1])
        return list(range(0, int(self.length) + 1, step))


@dataclass(frozen=True, slots=True)
class Report:
    """All that the report shows.

    :param ok: Whether everything that was checked holds.
    :param error: What ended the demonstration early; empty when nothing did.
    :param started: Moment of the start, for people.
    :param seconds: Length of the demonstration.
    """

    ok: bool
    error: str
    started: str
    seconds: float
    figures: Sequence[Figure]
    checks: Sequence[Check]
    runs: Sequence[DagRunRow]
    operations: Sequence[OperationRow]
    studies: Sequence[Study]
    places: Sequence[Place]


def write_report(report: Report, path: Path) -> None:
    """Write the report as one HTML file.

    :param path: The file; its folder is created when missing.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATE.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["seconds"] = _seconds
    environment.filters["percent"] = lambda part, whole: f"{100.0 * part / whole:.3f}%"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(environment.get_template(_TEMPLATE.name).render(report=report), encoding="utf-8")


def _seconds(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:.1f} s" if value < 100 else f"{int(value) // 60} min {int(value) % 60} s"
