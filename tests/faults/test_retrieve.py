"""Retrieve under every fault: the files are what the server holds, byte for byte, or there is an error and none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from airflow_dicomweb.errors import DicomWebError
from tests.faults.cases import Case
from tests.faults.clients import client_of, reopening
from tests.faults.conftest import Row
from tests.faults.retrieve_cases import CASES
from tests.faults.servers import SHAPES, Server, instances, new_study, sha256, write
from tests.servers.fault_proxy import FaultProxy


def rows() -> Iterator[object]:
    """Each case large on the emulator, which sends one instance without a frame, and small on Orthanc; some on both."""
    for number, case in enumerate(CASES):
        for shape in case.shapes or ("large", "small"):
            first, second = ("emulator", "orthanc") if shape == "large" else ("orthanc", "emulator")
            for server in (first, second) if number % 3 == 0 else (first,):
                yield pytest.param(server, case, shape, id=f"{case.name}, {shape}, {server}".replace(" ", "-"))


@pytest.fixture(scope="session")
def studies() -> dict[tuple[str, str], tuple[str, Counter[str]]]:
    """Studies that are on a server, by its name and their shape, with what is in them."""
    return {}


def stored(
    server: Server, shape: str, studies: dict[tuple[str, str], tuple[str, Counter[str]]]
) -> tuple[str, Counter[str]]:
    """A study of this shape on the server; put there once."""
    if (server.name, shape) not in studies:
        study = new_study()
        contents = instances(study, SHAPES[shape])
        with TemporaryDirectory() as folder, server.client(server.root) as client:
            write(Path(folder) / "in", contents)
            client.store(Path(folder) / "in").raise_for_failures()
        truth = Counter(map(sha256, contents))
        assert server.held(study) == truth
        studies[server.name, shape] = study, truth
    return studies[server.name, shape]


@pytest.mark.parametrize(("server", "case", "shape"), list(rows()), indirect=["server"])
def test_files_are_what_the_server_holds(server: Server, case: Case, shape: str, studies, matrix: list[Row]) -> None:
    study, truth = stored(server, shape, studies)
    series, instance = (f"{study}.1", f"{study}.1.1000") if shape == "large" else (None, None)
    traps, files, raised = [fault.trap() for fault in case.faults], [], None
    with TemporaryDirectory() as folder, FaultProxy(server.root, traps) as proxy, reopening(proxy) as reopened:
        with client_of(server, case, proxy) as client:
            try:
                files = client.retrieve(study, series, instance, destination=Path(folder) / "out")
            except DicomWebError as error:
                raised = error
        left = Counter(sha256(path.read_bytes()) for path in Path(folder).rglob("*") if path.is_file())
        reported = Counter(sha256(Path(file).read_bytes()) for file in files)
    assert proxy.problems == []
    assert all(trap.fired for trap in traps), "a fault did not happen"
    assert bool(reopened.seen) == case.refused
    ended = f"{type(raised).__name__}: {raised}" if raised else f"{len(files)} files"
    fired = sum(trap.fired for trap in traps)
    matrix.append(Row("retrieve", case.name, server.name, shape, fired, len(proxy.requests), ended))
    # What came whole before an error may be kept, for the next time.
    assert not left - truth, "a file is not what the server holds"
    if isinstance(case.ends, str):
        assert raised is None, ended
        assert left == reported == truth
    else:
        assert type(raised) is case.ends, ended
