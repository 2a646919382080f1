"""``make bench``: measure, print a table, leave ``build/bench.json``.

The exit status is 0 if everything arrived as it was sent, however long it took.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.cases import Contestant, Run, empty, remove, retrievals, search, store_contestants, stores
from benchmarks.clients import CURL, RunError, Service
from benchmarks.data import ROOT, Shelf, write_shelf, write_sparse_shelf
from benchmarks.results import rows_of, table
from benchmarks.servers import OrthancStorage, emulator_with, running_mover
from demo.processes import ProcessError, stopping_on_signals
from tests.servers.orthanc import OrthancMissingError, running_orthanc

_SPARE = 1 << 30


@dataclass(frozen=True, slots=True)
class Size:
    """How much is moved.

    :param instances: Of the series.
    :param rows: And columns of an image.
    :param frames: Of the one large instance.
    :param delayed: Instances that the slow server gets.
    :param fragments: Of the sparse instance, and the bytes of each.
    :param searched: Instances in the emulator.
    :param rounds: Of each case, and of those at Orthanc.
    """

    instances: int = 1000
    rows: int = 512
    frames: int = 600
    delayed: int = 400
    fragments: tuple[int, int] = (18, 256 << 20)
    searched: int = 50_000
    rounds: tuple[int, int] = (3, 5)


FULL = Size()
QUICK = Size(20, 64, 40, 20, (3, 1 << 20), 1200, (1, 1))


class Bench:
    """One run of the benchmarks.

    :param size: How much is moved.
    :param wanted: Parts of names of cases; nothing stands for all.
    :param place: Private folder for everything.
    """

    def __init__(self, size: Size, wanted: Sequence[str], place: Path) -> None:
        self._size, self._wanted, self._place = size, wanted, place
        self._start = time.monotonic()
        self.skipped: list[str] = []

    def runs(self) -> Iterator[Run]:
        """Measure case after case; data are made for each, and gone after it."""
        yield from self._small("ct", 1, self._size.instances, 1)
        yield from self._small("300mib", 2, 1, self._size.frames)
        yield from self._delayed()
        yield from self._sparse()
        yield from self._search()

    def _say(self, text: str) -> None:
        print(f"{time.monotonic() - self._start:6.1f} s  {text}", file=sys.stderr, flush=True)

    def _wants(self, case: str) -> bool:
        return not self._wanted or any(part in case for part in self._wanted)

    def _small(self, name: str, number: int, count: int, frames: int) -> Iterator[Run]:
        """Store and retrieve what fits on a disk, with all clients."""
        store, retrieve = self._wants(f"store-{name}"), self._wants(f"retrieve-{name}")
        if not (store or retrieve):
            return
        place = self._place / name
        shelf = write_shelf(place, number, count, frames, self._size.rows)
        rounds, at_orthanc = self._size.rounds
        storing = list(store_contestants(f"store-{name}", one=count == 1))
        retrieving = [Contestant(f"retrieve-{name}", each) for each in ("curl", "ours", "dicomweb-client")]
        if CURL is None:
            storing, retrieving = (
                [each for each in all_ if "curl" not in each.client] for all_ in (storing, retrieving)
            )
        with ExitStack() as stack:
            mover = stack.enter_context(running_mover(place, shelf))
            if store:
                for _ in stores("checking sink", mover.at("checking"), shelf, storing, rounds=1, say=self._say):
                    pass
                yield from stores("sink", mover.at("sink"), shelf, storing, rounds=rounds, say=self._say)
            if retrieve:
                source, scratch = mover.at("source").service, place / "retrieved"
                yield from retrievals(
                    "source", source, shelf, retrieving, rounds=rounds, scratch=scratch, say=self._say
                )
            orthanc = self._orthanc(stack, place)
            if orthanc is not None and store:
                yield from stores("orthanc", orthanc, shelf, storing, rounds=at_orthanc, say=self._say)
            if orthanc is not None and retrieve:
                filling = [Contestant("filling", "ours", 4)]
                for _ in stores("orthanc", orthanc, shelf, filling, rounds=1, say=self._say, keep=True):
                    pass
                scratch = place / "retrieved"
                yield from retrievals(
                    "orthanc", orthanc.service, shelf, retrieving, rounds=at_orthanc, scratch=scratch, say=self._say
                )
        remove(place)

    def _orthanc(self, stack: ExitStack, place: Path) -> OrthancStorage | None:
        folder = place / "orthanc"
        folder.mkdir()
        try:
            return OrthancStorage(stack.enter_context(running_orthanc(folder)))
        except OrthancMissingError as missing:
            self.skipped.append(f"Orthanc: {missing}")
            return None

    def _delayed(self) -> Iterator[Run]:
        """Store to a server that takes its time, and to the same without."""
        if not self._wants("store-400"):
            return
        place = self._place / "delayed"
        shelf = write_shelf(place, 3, self._size.delayed, 1, self._size.rows)
        with running_mover(place, shelf) as mover:
            for _ in range(max(self._size.rounds)):
                for case, service in (("store-400-4-workers", "sink"), ("store-400-slow-4-workers", "slow")):
                    yield from stores(
                        "sink", mover.at(service), shelf, [Contestant(case, "ours", 4)], rounds=1, say=self._say
                    )
        remove(place)

    def _sparse(self) -> Iterator[Run]:
        """Store and retrieve one instance of more than 4 GiB."""
        if not (self._wants("store-sparse") or self._wants("retrieve-sparse")):
            return
        place = self._place / "sparse"
        shelf = write_sparse_shelf(place, 4, *self._size.fragments)
        with running_mover(place, shelf) as mover:
            if self._wants("store-sparse"):
                ours = [Contestant("store-sparse", "ours")]
                for _ in stores("checking sink", mover.at("checking"), shelf, ours, rounds=1, say=self._say):
                    pass
                yield from stores("sink", mover.at("sink"), shelf, ours, rounds=1, say=self._say)
            if self._wants("retrieve-sparse"):
                yield from self._retrieve_sparse(place, mover.at("source").service, shelf)
        remove(place)

    def _retrieve_sparse(self, place: Path, service: Service, shelf: Shelf) -> Iterator[Run]:
        free = shutil.disk_usage(place).free
        if free < shelf.bytes + _SPARE:
            self.skipped.append(f"retrieve-sparse: {shelf.bytes / 2**30:.1f} GiB of disk are needed for what comes")
            return
        ours = [Contestant("retrieve-sparse", "ours")]
        yield from retrievals("source", service, shelf, ours, rounds=1, scratch=place / "retrieved", say=self._say)

    def _search(self) -> Iterator[Run]:
        """Search for many instances."""
        if not self._wants("search"):
            return
        place = self._place / "search"
        place.mkdir()
        count = self._size.searched
        self._say(f"search, emulator: {count} instances are stored")
        with emulator_with(place, 5, count) as (service, requests):
            yield from search(service, requests, f"{ROOT}.5", count, rounds=self._size.rounds[0], say=self._say)
        remove(place)


def _without_curl(contestants: Sequence[Contestant]) -> list[Contestant]:
    return [each for each in contestants if not each.client.startswith("curl")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmarks; give the exit status."""
    options = _options().parse_args(arguments)
    size = QUICK if options.quick else FULL
    print(
        "Benchmarks of this project's client; the clients take turns. Nothing else should run meanwhile.",
        file=sys.stderr,
    )
    place = Path(tempfile.mkdtemp(prefix="airflow-dicomweb-bench-"))
    runs: list[Run] = []
    wrong = ""
    bench = Bench(size, options.case, place)
    try:
        with stopping_on_signals():
            runs.extend(bench.runs())
    except (RunError, ProcessError) as error:
        wrong = str(error)
    finally:
        empty(place)
        remove(place)
    rows = rows_of(runs)
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(rows, indent=1) + "\n")
    print(table(rows, bounds=not options.quick))
    if CURL is None:
        bench.skipped.append("curl: it is not installed: apt-get install curl")
    for reason in bench.skipped:
        print(f"skipped: {reason}")
    if wrong:
        print(f"WRONG: {wrong}", file=sys.stderr)
    return 1 if wrong else 0


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "--case",
        action="append",
        default=[],
        metavar="WORD",
        help="only cases with this in their names; may be repeated",
    )
    parser.add_argument("--quick", action="store_true", help="tiny data: whether it works, not how fast")
    parser.add_argument("--output", type=Path, default=Path("build/bench.json"), help="(default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
