"""Store under every fault: what is reported as stored is there, once; what is there is not reported as failed."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from airflow_dicomweb.dicomweb.stow import InstanceOutcome
from airflow_dicomweb.errors import DicomWebError
from tests.faults.cases import Case
from tests.faults.clients import client_of, reopening
from tests.faults.conftest import Row
from tests.faults.servers import SHAPES, Server, instances, new_study, sha256, write
from tests.faults.store_cases import CASES
from tests.servers.fault_proxy import FaultProxy

OPEN = "it may be stored or not"


def rows() -> Iterator[object]:
    """Each case large and small, by turns on Orthanc and the emulator, and the small ones in one request or in several."""
    for number, case in enumerate(CASES):
        shapes = list(case.shapes or SHAPES)
        small = [shape for shape in shapes if shape != "large"]
        chosen = [shape for shape in shapes if shape == "large"] + small[number % 2 :][:1]
        for index, shape in enumerate(chosen):
            server = ("emulator", "orthanc")[(number // 2 + index) % 2]
            yield pytest.param(server, case, shape, id=f"{case.name}, {shape}, {server}".replace(" ", "-"))


@pytest.mark.parametrize(("server", "case", "shape"), list(rows()), indirect=["server"])
def test_what_is_reported_is_what_is_there(server: Server, case: Case, shape: str, matrix: list[Row]) -> None:
    size, study, told = SHAPES[shape], new_study(), list[InstanceOutcome]()
    contents, traps = instances(study, size), [fault.trap() for fault in case.faults]
    with TemporaryDirectory() as folder, FaultProxy(server.root, traps) as proxy, reopening(proxy) as reopened:
        write(Path(folder) / "in", contents)
        raised: DicomWebError | None = None
        with client_of(server, case, proxy) as client:
            try:
                client.store(
                    Path(folder) / "in", workers=size.workers, batch_count=size.batch_count, on_outcome=told.append
                )
            except DicomWebError as error:
                raised = error
        assert proxy.problems == []
        assert all(trap.fired for trap in traps), "a fault did not happen"
        assert bool(reopened.seen) == case.refused
    held = server.held(study)
    try:
        check(told, contents, held)
        ended = describe(told, raised)
        matrix.append(
            Row("store", case.name, server.name, shape, sum(trap.fired for trap in traps), len(proxy.requests), ended)
        )
        if isinstance(case.ends, str):
            assert raised is None, ended
            assert " ".join(sorted({each.outcome for each in told})) == case.ends, ended
        else:
            assert type(raised) is case.ends, ended
    finally:
        if held:
            server.forget(study)


def check(told: list[InstanceOutcome], contents: list[bytes], held: Counter[str]) -> None:
    """Compare every word with the truth."""
    assert sorted(each.ordinal for each in told) == list(range(len(contents))), "not one outcome for each"
    lies = []
    for each in told:
        there = held.pop(sha256(contents[each.ordinal]), 0)
        if there > 1:
            lies.append(f"{each.ordinal} is there {there} times")
        if each.is_stored and not there:
            lies.append(f"{each.ordinal} was reported {each.outcome} and is not there")
        if not each.is_stored and there and not each.reason.startswith(OPEN):
            lies.append(f"{each.ordinal} is there and was reported {each.outcome}: {each.reason}")
    assert lies == []
    assert not held, "something is there that was not sent"


def describe(told: list[InstanceOutcome], raised: DicomWebError | None) -> str:
    """What the call came to, in a line."""
    counts = Counter(each.outcome for each in told)
    words = ", ".join(f"{count} {outcome}" for outcome, count in sorted(counts.items()))
    reasons = {each.reason.partition(":")[0] for each in told if each.reason}
    shown = f"{words} ({'; '.join(sorted(reasons)[:2])})" if reasons else words
    return f"{shown}, {type(raised).__name__}: {raised}" if raised else shown
