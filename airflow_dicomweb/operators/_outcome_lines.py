"""Lines of a store report: one JSON object for each source, and the outcome that one tells of.

Source: design of this package.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.dicomweb.stow import InstanceOutcome


def line_of(outcome: InstanceOutcome, run: str) -> dict[str, Any]:
    """Write an outcome down.

    :param run: Name of the run whose tries write this report.
    """
    path = outcome.path
    return {
        "ordinal": outcome.ordinal,
        "source": outcome.source,
        "study": path.study if path else None,
        "series": path.series if path else None,
        "instance": path.instance if path else None,
        "outcome": outcome.outcome,
        "reason": outcome.reason,
        "detail": outcome.detail,
        "code": outcome.code,
        "warning": outcome.warning,
        "replaced": outcome.replaced,
        "bytes": outcome.bytes,
        "seconds": round(outcome.seconds, 3),
        "sha256": outcome.sha256,
        "version": outcome.version,
        "earlier": outcome.earlier,
        "run": run,
    }


def outcome_in(line: object, run: str, source: Source) -> InstanceOutcome | None:
    """Read the outcome of a source from a line, if it is stored and still the same.

    :param run: As for :func:`line_of`: lines of other runs say nothing.
    """
    if not isinstance(line, Mapping):
        return None
    match line:
        case {
            "source": source.name,
            "bytes": source.size,
            "version": source.version,
            "run": str(writer),
            "study": str(study),
            "series": str(series),
            "instance": str(instance),
            "outcome": "created" | "identical" as outcome,
        } if writer == run and source.version:
            return InstanceOutcome(
                source=source.name,
                ordinal=source.ordinal,
                path=InstancePath(study, series, instance),
                outcome=outcome,
                bytes=source.size,
                version=source.version,
                earlier=True,
                **_more(line),
            )
    return None


def is_stored(line: object, run: str) -> bool:
    """Tell whether a line says that its source is stored."""
    return isinstance(line, Mapping) and line.get("run") == run and line.get("outcome") in {"created", "identical"}


def _more(line: Mapping[str, Any]) -> dict[str, Any]:
    """Take what need not be there."""
    warning = line.get("warning")
    return {
        "reason": str(line.get("reason", "")),
        "warning": warning if isinstance(warning, int) else None,
        "replaced": line.get("replaced") is True,
        "seconds": float(line.get("seconds") or 0.0),
        "sha256": str(line.get("sha256", "")),
    }
