"""The cases: who moves what from where to where, how often, and how it is known that it arrived.

In a case the clients take turns, round by round, because the speed of a machine changes while it works. Stores to the
sink are preceded by one round that is not counted, in which the sink looks at each byte.

Source: DICOM PS3.18 sections 10.4 to 10.6.
"""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from airflow_dicomweb.dicomweb.multipart import PartData, PartEnd, parse
from benchmarks.clients import Measured, RunError, Service, curl_retrieve, curl_store, run_python
from benchmarks.data import BLOCK_SIZE, Shelf
from benchmarks.servers import Storage


@dataclass(frozen=True, slots=True)
class Contestant:
    """A client in a case.

    :param case: Name of the case, as the results have it.
    :param client: ``ours``, ``curl``, ``curl each`` or ``dicomweb-client``.
    :param workers: Of ours.
    """

    case: str
    client: str
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Run:
    """One counted run."""

    contestant: Contestant
    server: str
    instances: int
    bytes: int
    measured: Measured


Say = Callable[[str], None]


def store_contestants(case: str, *, one: bool) -> tuple[Contestant, ...]:
    """Give the clients of a store.

    :param one: There is one instance only: no batches, no workers.
    """
    found = [Contestant(case, "curl"), Contestant(case, "ours")]
    if not one:
        found += [Contestant(f"{case}-4-workers", "ours", 4), Contestant(case, "curl each")]
    return (*found, Contestant(case, "dicomweb-client"))


def stores(
    server: str,
    storage: Storage,
    shelf: Shelf,
    contestants: Iterable[Contestant],
    *,
    rounds: int,
    say: Say,
    keep: bool = False,
) -> Iterator[Run]:
    """Store a shelf with each client in turn, each time to an empty server.

    :param keep: Leave what was stored last.
    """
    for number in range(rounds):
        for contestant in contestants:
            storage.clear()
            say(f"{contestant.case}, {server}, {contestant.client}, {number + 1} of {rounds}")
            measured = _store(contestant, storage.service, shelf)
            storage.check(shelf)
            yield Run(contestant, server, len(shelf.digests), shelf.bytes, measured)
    if not keep:
        storage.clear()


def _store(contestant: Contestant, service: Service, shelf: Shelf) -> Measured:
    if contestant.client.startswith("curl"):
        return curl_store(service, shelf, each=contestant.client == "curl each")
    measured = run_python(contestant.client, "store", service, folder=str(shelf.folder), workers=contestant.workers)
    if contestant.client == "ours" and measured.result != {"created": len(shelf.digests), "other": 0}:
        raise RunError(f"{len(shelf.digests)} instances were stored, and ours says {measured.result}")
    return measured


def retrievals(
    server: str,
    service: Service,
    shelf: Shelf,
    contestants: Iterable[Contestant],
    *,
    rounds: int,
    scratch: Path,
    say: Say,
) -> Iterator[Run]:
    """Retrieve a shelf with each client in turn.

    :param scratch: Folder; afterwards it holds empty files. They are not deleted between runs: on some file systems
        new files are slow for minutes after many have been deleted.
    """
    for number in range(rounds):
        for contestant in contestants:
            say(f"{contestant.case}, {server}, {contestant.client}, {number + 1} of {rounds}")
            place = scratch / f"{server}-{contestant.case}-{contestant.client}-{number}"
            place.mkdir(parents=True)
            measured = _retrieve(contestant, service, shelf, place)
            empty(place)
            yield Run(contestant, server, len(shelf.digests), shelf.bytes, measured)


def _retrieve(contestant: Contestant, service: Service, shelf: Shelf, place: Path) -> Measured:
    resource = [shelf.study]
    if len(shelf.digests) == 1:
        resource += [shelf.series, *shelf.digests]
    if contestant.client == "curl":
        path = "/".join(
            f"{kind}/{uid}" for kind, uid in zip(("studies", "series", "instances"), resource, strict=False)
        )
        measured = curl_retrieve(service, path, place / "answer")
        found = _digests_in(place / "answer")
    else:
        measured = run_python(contestant.client, "retrieve", service, folder=str(place), resource=resource)
        found = [_digest(path) for path in sorted(place.rglob("*")) if path.is_file()]
    if sorted(found) != sorted(shelf.digests.values()):
        raise RunError(f"{contestant.client} retrieved {len(found)} instances, and not as they were stored")
    return measured


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _digests_in(path: Path) -> list[str]:
    """Give the SHA-256 of each part of a multipart answer that was kept as it came."""
    with path.open("rb") as file:
        boundary = file.readline().strip().removeprefix(b"--").decode()
        if not boundary:
            boundary = file.readline().strip().removeprefix(b"--").decode()
        file.seek(0)
        found, summed = [], hashlib.sha256()
        blocks = iter(lambda: file.read(BLOCK_SIZE), b"")
        for event in parse(blocks, f'multipart/related; boundary="{boundary}"'):
            if isinstance(event, PartData):
                summed.update(event.data)
            elif isinstance(event, PartEnd):
                found.append(summed.hexdigest())
                summed = hashlib.sha256()
    return found


def empty(place: Path) -> None:
    """Give back the disk space of all files below a folder."""
    for path in place.rglob("*"):
        if path.is_file():
            os.truncate(path, 0)


def search(service: Service, requests: str, study: str, count: int, *, rounds: int, say: Say) -> Iterator[Run]:
    """Search for the instances of a study, page by page.

    :param requests: Address of the server's log of requests.
    :param count: How many there are.
    :raises RunError: If not all were found, or a second page was asked for before the first result was given.
    """
    for number in range(rounds):
        say(f"search, emulator, ours, {number + 1} of {rounds}")
        measured = run_python("ours", "search", service, requests=requests, resource=[study])
        if measured.result["found"] != count:
            raise RunError(f"there are {count} instances, the search gave {measured.result['found']}")
        if measured.result["pages_before_the_first_result"] != 1:
            raise RunError(f"the first result came after {measured.result['pages_before_the_first_result']} requests")
        yield Run(Contestant("search", "ours"), "emulator", count, 0, measured)


def remove(place: Path) -> None:
    """Delete a folder that may not be there."""
    with suppress(FileNotFoundError):
        shutil.rmtree(place)
