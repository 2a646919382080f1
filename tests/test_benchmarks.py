"""The benchmarks work: on tiny data, and without a word on how fast."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cases import Contestant, Run, RunError, stores
from benchmarks.clients import Measured
from benchmarks.data import Shelf, write_shelf
from benchmarks.results import bounds_of, rows_of, table
from benchmarks.servers import running_mover

ROOT = Path(__file__).parent.parent
KEYS = {"case", "client", "server", "bytes", "seconds", "mb_per_s", "peak_rss_mib", "ratio_to_curl"}


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], list[dict[str, Any]]]:
    """A quick run of everything: how it ended, and its rows."""
    assert shutil.which("curl"), "curl is missing: apt-get install curl"
    output = tmp_path_factory.mktemp("bench") / "build" / "bench.json"
    command = [sys.executable, "-m", "benchmarks", "--quick", "--output", str(output)]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=110, check=False)
    assert ended.returncode == 0, ended.stderr
    return ended, json.loads(output.read_text())


def test_every_case_has_its_rows(outcome):
    _, rows = outcome
    clients: dict[tuple[str, str], set[str]] = {}
    for row in rows:
        clients.setdefault((row["case"], row["server"]), set()).add(row["client"])
    all_, large = {"curl", "curl each", "dicomweb-client", "ours"}, {"curl", "dicomweb-client", "ours"}
    assert clients == {
        ("store-ct", "sink"): all_,
        ("store-ct-4-workers", "sink"): {"ours"},
        ("store-ct", "orthanc"): all_,
        ("store-ct-4-workers", "orthanc"): {"ours"},
        ("retrieve-ct", "source"): large,
        ("retrieve-ct", "orthanc"): large,
        ("store-300mib", "sink"): large,
        ("store-300mib", "orthanc"): large,
        ("retrieve-300mib", "source"): large,
        ("retrieve-300mib", "orthanc"): large,
        ("store-400-4-workers", "sink"): {"ours"},
        ("store-400-slow-4-workers", "sink"): {"ours"},
        ("store-sparse", "sink"): {"ours"},
        ("retrieve-sparse", "source"): {"ours"},
        ("search", "emulator"): {"ours"},
    }
    assert len(rows) == len({(row["case"], row["server"], row["client"]) for row in rows})


def test_a_row_says_what_was_measured(outcome):
    ended, rows = outcome
    for row in rows:
        assert row.keys() >= KEYS
        assert row["seconds"] > 0
        assert row["case"] in ended.stdout
        beside_curl = not row["case"].startswith(("search", "store-400", "store-sparse", "retrieve-sparse"))
        assert (row["ratio_to_curl"] is not None) == beside_curl
    assert "skipped" not in ended.stdout


def test_bytes_that_do_not_arrive_as_they_were_sent_are_an_error(tmp_path):
    shelf = write_shelf(tmp_path, 1, 3, rows=64)
    changed = next(shelf.folder.iterdir())
    changed.write_bytes(changed.read_bytes()[:-1] + b"!")
    with running_mover(tmp_path, shelf) as mover:
        with pytest.raises(RunError):
            store_once(mover.at("checking"), shelf)
        assert [run.bytes for run in store_once(mover.at("sink"), shelf)] == [shelf.bytes]


def test_an_instance_that_does_not_arrive_is_an_error(tmp_path):
    shelf = write_shelf(tmp_path, 1, 3, rows=64)
    next(shelf.folder.iterdir()).unlink()
    with running_mover(tmp_path, shelf) as mover, pytest.raises(RunError):
        store_once(mover.at("sink"), shelf)


def store_once(storage: Any, shelf: Shelf) -> list[Run]:
    return list(stores("sink", storage, shelf, [Contestant("store", "ours")], rounds=1, say=lambda _: None))


def test_the_bounds_are_judged_from_medians():
    runs = [
        Run(Contestant("store-ct", client, 1), "orthanc", 1, 10**6, Measured(seconds, seconds, peak))
        for client, times, peak in (("curl", (1.0, 9.0, 1.2), 10.0), ("ours", (1.1, 1.3, 0.1), 40.0))
        for seconds in times
    ]
    rows = rows_of(runs)
    by_name = {(row["case"], row["client"], row["server"]): row for row in rows}
    ours = by_name["store-ct", "ours", "orthanc"]
    assert (ours["seconds"], ours["ratio_to_curl"]) == (1.1, pytest.approx(1.1 / 1.2, abs=0.001))
    assert [(bound.text, bound.met) for bound in bounds_of(ours, by_name)] == [
        ("<= 1x curl", True),
        ("<= 36 MiB", False),
    ]
    assert "<= 36 MiB: 40 NOT MET" in table(rows)
