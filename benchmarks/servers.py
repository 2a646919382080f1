"""The servers that are measured against: the one that only moves bytes, Orthanc, and this project's emulator.

Source: https://orthanc.uclouvain.be/book/users/rest.html (statistics)
"""

from __future__ import annotations

import json
import os
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from benchmarks.clients import RunError, Service
from benchmarks.data import BOUNDARY, Shelf, small_instances
from demo.emulator import running_emulator
from demo.processes import ManagedProcess
from tests.servers.orthanc import Orthanc

DELAY = 0.05
"""Seconds that the slow shelf takes to answer a store."""

_STORE = "projects/bench/locations/local/datasets/speed/dicomStores/one"
_BATCH = 500


class Storage(Protocol):
    """A server to store to."""

    service: Service

    def clear(self) -> None:
        """Forget what was stored."""

    def check(self, shelf: Shelf) -> None:
        """See that it holds all instances of a shelf, whole, and nothing else.

        :raises RunError: If not.
        """


class Mover:
    """A running ``benchmarks.mover`` with one shelf of instances.

    :param url: Its address.
    """

    def __init__(self, url: str) -> None:
        self._url = url

    def at(self, name: str) -> Sink:
        """Give one of its services: ``sink``, ``checking``, ``slow`` or ``source``."""
        return Sink(Service(f"{self._url}/{name}"))


class Sink:
    """One service of the mover.

    :param service: Where it is.
    """

    def __init__(self, service: Service) -> None:
        self.service = service

    def clear(self) -> None:
        """Forget what was stored."""
        _ask(self.service.url, "DELETE")

    def check(self, shelf: Shelf) -> None:
        """See that all instances of a shelf came, once and whole."""
        tally = json.loads(_ask(f"{self.service.url}/tally"))
        if (tally["instances"], tally["bytes"], tally["wrong"]) != (len(shelf.digests), shelf.bytes, 0):
            raise RunError(f"{len(shelf.digests)} instances, {shelf.bytes} bytes were sent; the sink got {tally}")


class OrthancStorage:
    """Orthanc.

    :param orthanc: A running one.
    """

    def __init__(self, orthanc: Orthanc) -> None:
        self._orthanc = orthanc
        self.service = Service(orthanc.dicomweb_url, orthanc.user, orthanc.password)

    def clear(self) -> None:
        """Delete everything."""
        self._orthanc.clear()

    def check(self, shelf: Shelf) -> None:
        """See that it counts as many instances and bytes as a shelf has."""
        counted = json.loads(self._orthanc.get("/statistics"))
        found = counted["CountInstances"], int(counted["TotalUncompressedSize"])
        if found != (len(shelf.digests), shelf.bytes):
            raise RunError(f"{len(shelf.digests)} instances, {shelf.bytes} bytes were sent; Orthanc has {found}")


@contextmanager
def running_mover(folder: Path, shelf: Shelf) -> Iterator[Mover]:
    """Run the server that only moves bytes.

    :param folder: For its description and its log.
    """
    common: dict[str, Any] = {"study": shelf.study, "series": shelf.series, "size": shelf.size, "delay": 0.0}
    common |= {"instances": list(shelf.digests), "body": str(shelf.body), "boundary": BOUNDARY}
    services: Mapping[str, dict[str, Any]] = {
        "sink": {"holds": False, "digests": {}},
        "checking": {"holds": False, "digests": shelf.digests},
        "slow": {"holds": False, "digests": {}, "delay": DELAY},
        "source": {"holds": True, "digests": {}},
    }
    description = folder / "services.json"
    description.write_text(json.dumps({name: {**common, **own} for name, own in services.items()}))
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    server = ManagedProcess(
        "the sink and source",
        [sys.executable, "-m", "benchmarks.mover", str(description)],
        environment=environment,
        log_path=folder / "mover.log",
    )
    try:
        server.start()
        yield Mover(server.wait_for_line("Listening on ", timeout=30.0))
    finally:
        server.stop()


@contextmanager
def emulator_with(folder: Path, number: int, count: int) -> Iterator[tuple[Service, str]]:
    """Run the emulator with so many small instances, and give its service and the address of its log of requests.

    :param number: Of their study.
    """
    with running_emulator(folder, dicom_store=_STORE, operation_seconds=0.0) as url:
        service = Service(f"{url}/v1/{_STORE}/dicomWeb", "", "any")
        batch: list[bytes] = []
        for index, instance in enumerate(small_instances(number, count), 1):
            batch.append(instance)
            if len(batch) == _BATCH or index == count:
                _post(service, batch)
                batch.clear()
        yield service, f"{url}/_emulator/requests"


def _post(service: Service, instances: list[bytes]) -> None:
    from airflow_dicomweb.dicomweb.multipart import Body, Part

    parts = [Part("application/dicom", len(each), partial(iter, [each])) for each in instances]
    body = Body(parts, "application/dicom")
    headers = {"Content-Type": body.content_type, "Accept": "application/dicom+json", "Authorization": "Bearer any"}
    _ask(f"{service.url}/studies", "POST", b"".join(body), headers)


def _ask(url: str, method: str = "GET", body: bytes | None = None, headers: Mapping[str, str] | None = None) -> bytes:
    request = urllib.request.Request(url, body, dict(headers or {}), method=method)  # noqa: S310 - a loopback address
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(request, timeout=120.0) as answer:
        content: bytes = answer.read()
        return content
