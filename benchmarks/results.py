"""From runs to rows: medians, ratios to curl, and whether the project's bounds are met.

A bound that is not met is no error: the machine may be busy. What is wrong is found while the cases run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.cases import Contestant, Run
from benchmarks.servers import DELAY

BASE_MIB, WORKER_MIB = 32.0, 4.0
"""Most memory of our client above its start: for itself, and for each worker."""

BATCH_COUNT = 50
"""How many instances our client puts into one request; its default."""

Row = dict[str, Any]
Rows = Mapping[tuple[str, str, str], Row]
"""By case, client and server."""


def rows_of(runs: Iterable[Run]) -> list[Row]:
    """Give one row for each client in each case, in the order in which they came."""
    grouped: dict[tuple[Contestant, str], list[Run]] = {}
    for run in runs:
        grouped.setdefault((run.contestant, run.server), []).append(run)
    rows = [_row(contestant, server, found) for (contestant, server), found in grouped.items()]
    seconds_of_curl = {(row["case"], row["server"]): row["seconds"] for row in rows if row["client"] == "curl"}
    for row in rows:
        of_curl = seconds_of_curl.get((row["case"].removesuffix("-4-workers"), row["server"]))
        row["ratio_to_curl"] = round(row["seconds"] / of_curl, 3) if of_curl else None
    return rows


def _row(contestant: Contestant, server: str, runs: Sequence[Run]) -> Row:
    seconds = median(run.measured.seconds for run in runs)
    return {
        "case": contestant.case,
        "client": contestant.client,
        "server": server,
        "instances": runs[0].instances,
        "bytes": runs[0].bytes,
        "seconds": round(seconds, 4),
        "mb_per_s": round(runs[0].bytes / 1e6 / seconds, 1),
        "peak_rss_mib": round(max(run.measured.peak_rss_mib for run in runs), 1),
        "ratio_to_curl": None,
        "workers": contestant.workers if contestant.client == "ours" else None,
        "cpu_seconds": round(median(run.measured.cpu_seconds for run in runs), 4),
        "rounds": [round(run.measured.seconds, 4) for run in runs],
        "result": runs[0].measured.result if server == "emulator" else None,
    }


@dataclass(frozen=True, slots=True)
class Bound:
    """What a row of ours must reach.

    :param text: In words.
    :param reached: What it reached, or NaN where it cannot be said.
    :param met: Whether that is enough.
    """

    text: str
    reached: float
    met: bool


def bounds_of(row: Row, rows: Rows) -> list[Bound]:
    """Give the bounds of a row, and how far they are met; other clients' rows have none."""
    if row["client"] != "ours":
        return []
    case, server = row["case"], row["server"]
    found = []
    if (case, server) in _TO_CURL and row["ratio_to_curl"] is not None:
        most = _TO_CURL[case, server]
        found.append(Bound(f"<= {most:g}x curl", row["ratio_to_curl"], row["ratio_to_curl"] <= most))
    theirs = rows.get((case.removesuffix("-4-workers"), "dicomweb-client", server))
    if theirs is not None:
        ratio = row["seconds"] / theirs["seconds"]
        found.append(Bound("<= 1x dicomweb-client", ratio, ratio <= 1.0))
    if case in _OTHERS:
        found.append(_OTHERS[case](row, rows))
    most = BASE_MIB + WORKER_MIB * row["workers"]
    found.append(Bound(f"<= {most:g} MiB", row["peak_rss_mib"], row["peak_rss_mib"] <= most))
    return found


_TO_CURL = {
    ("store-ct", "orthanc"): 1.0,
    ("store-ct-4-workers", "orthanc"): 0.8,
    ("store-ct", "sink"): 1.0,
    ("store-ct-4-workers", "sink"): 1.0,
    ("store-300mib", "orthanc"): 1.05,
    ("store-300mib", "sink"): 1.05,
    ("retrieve-ct", "orthanc"): 1.3,
    ("retrieve-ct", "source"): 1.6,
    ("retrieve-300mib", "orthanc"): 1.05,
    ("retrieve-300mib", "source"): 1.05,
}


def _hides_latency(row: Row, rows: Rows) -> Bound:
    """Judge what a server's time to think costs: each worker waits for it once for each of its batches, and no more."""
    at_once = rows.get(("store-400-4-workers", "ours", "sink"))
    if at_once is None:
        return Bound(_LATENCY, math.nan, met=False)
    batches = math.ceil(row["instances"] / BATCH_COUNT)
    least = at_once["seconds"] + DELAY * math.ceil(batches / row["workers"])
    return Bound(_LATENCY, least / row["seconds"], least / row["seconds"] >= 0.9)


_LATENCY = ">= 0.9x of without delay and 50 ms a turn"


def _first_page(row: Row, _rows: Rows) -> Bound:
    asked = row["result"]["pages_before_the_first_result"]
    return Bound("first result after 1 page", asked, asked == 1)


_OTHERS: dict[str, Callable[[Row, Rows], Bound]] = {"store-400-slow-4-workers": _hides_latency, "search": _first_page}


def table(rows: Sequence[Row], *, bounds: bool = True) -> str:
    """Give the rows as a table.

    :param bounds: With the bounds of ours, ``met`` or ``NOT MET``.
    """
    by_name = {(row["case"], row["client"], row["server"]): row for row in rows}
    lines = [_LINE.format("case", "server", "client", "s", "MB/s", "CPU s", "MiB", "x curl", "bounds")]
    for row in rows:
        found = bounds_of(row, by_name) if bounds else []
        shown = [f"{bound.text}: {bound.reached:.3g} {'met' if bound.met else 'NOT MET'}" for bound in found]
        ratio = "" if row["ratio_to_curl"] is None else f"{row['ratio_to_curl']:.2f}"
        lines.append(
            _LINE.format(
                row["case"],
                row["server"],
                row["client"],
                f"{row['seconds']:.3f}",
                f"{row['mb_per_s']:.0f}",
                f"{row['cpu_seconds']:.2f}",
                f"{row['peak_rss_mib']:.1f}",
                ratio,
                "; ".join(shown),
            ).rstrip()
        )
    return "\n".join(lines)


_LINE = "{:<25} {:<8} {:<16} {:>8} {:>6} {:>6} {:>7} {:>6}  {}"
