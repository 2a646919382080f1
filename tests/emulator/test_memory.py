"""What passes through takes no memory: large instances in both directions, and long answers."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pytest

from airflow_dicomweb.emulator import running_emulator
from tests.emulator.api import Api, instance, picture
from tests.emulator.test_durability import STORE

MIB = 1024 * 1024
SIZE = 96 * MIB


def peak(process):
    """Give the most memory that a process has had, in bytes."""
    text = Path(f"/proc/{process.pid}/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+) kB", text)[1]) * 1024


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="the system does not tell the peak of memory")
def test_a_large_instance_passes_through_in_both_directions_without_being_held(tmp_path):
    body = picture(PixelData=bytes(SIZE), Rows=96, Columns=1024, NumberOfFrames=1024)
    place = "studies/1.1/series/1.1.1/instances/1.1.1.1"
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        api.store(instance(uid="1.1.1.2"))
        before = peak(emulator.process)
        headers = {"Content-Type": "application/dicom"}
        assert api.ask("POST", "studies", data=io.BytesIO(body), headers=headers).status_code == 200
        for path, accept, length in (
            (place, "application/dicom; transfer-syntax=*", len(body)),
            (f"{place}/bulkdata/7FE00010", "application/octet-stream", SIZE),
            (f"{place}/frames/1024", "application/octet-stream", 96 * 1024),
        ):
            with api.get(path, accept, stream=True) as answer:
                assert sum(map(len, answer.iter_content(MIB))) == length
        assert peak(emulator.process) - before < 24 * MIB
