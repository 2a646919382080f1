"""A retrieval goes on where an earlier one ended: what is whole is not asked for again, all else is."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.client import DicomWebClient
from airflow_dicomweb.dicomweb.marks import ATTRIBUTE
from airflow_dicomweb.dicomweb.retries import RetryPolicy
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.errors import AuthorizationError, ConfigurationError
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import part10, series_of
from tests.dicomweb.scripted import STUDY, answer, found, instance, sop, storing
from tests.dicomweb.test_retrieve import SERIES, content, left, multipart, named, paths
from tests.servers.faulty import Fault, faulty
from tests.servers.tiny_pacs import TinyPacs

WHOLE = f"studies/{STUDY}"
SEARCH = f"{WHOLE}/instances"


def alone(number: int) -> str:
    return f"{WHOLE}/series/{SERIES}/instances/{sop(number)}"


@pytest.fixture
def asked(dicomweb_emulator: Emulator) -> list[str]:
    """What the emulator was asked for since the last look."""

    class Asked(list[str]):
        def now(self) -> list[str]:
            requests = [each["path"].partition("/dicomWeb/")[2] for each in dicomweb_emulator.requests()]
            dicomweb_emulator.reset()
            return [path for path in requests if path]

    return Asked()


@pytest.fixture
def client(dicomweb_emulator: Emulator):
    with HealthcareClient(
        dicomweb_emulator.dicom_store,
        base_url=dicomweb_emulator.base_url,
        credentials=Bearer("any"),
        retry_policy=RetryPolicy(attempts=3, first_wait=0.01, longest_wait=0.05),
    ) as made:
        yield made


def test_what_is_there_and_whole_is_not_asked_for_again(client, asked, tmp_path: Path) -> None:
    stored = [path.read_bytes() for path in series_of(tmp_path / "in", 12)]
    client.store(tmp_path / "in")
    out = tmp_path / "out"
    files = client.retrieve(STUDY, destination=out)
    before = [file.path.stat() for file in files]
    asked.now()
    assert client.retrieve(STUDY, destination=out) == files
    assert asked.now() == [SEARCH]
    assert [file.path.stat() for file in files] == before
    # Gone, cut, longer, changed, replaced by another file, and by a copy of another instance with its mark.
    paths_of = [file.path for file in files]
    paths_of[0].unlink()
    os.truncate(paths_of[1], 100)
    with paths_of[2].open("ab") as file:
        file.write(b"\0")
    with paths_of[3].open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        file.write(b"?")
    paths_of[4].unlink()
    paths_of[4].write_bytes(stored[4])
    shutil.copy2(paths_of[6], paths_of[5])
    assert os.getxattr(paths_of[6], ATTRIBUTE)
    again = client.retrieve(STUDY, destination=out, workers=2)
    assert again == files
    found_now = asked.now()
    assert found_now[0] == SEARCH
    bad = {file.resource.instance for file in files[:6]}
    assert {path.rpartition("/")[2] for path in found_now[1:]} == bad
    assert sorted(path.read_bytes() for path in paths_of) == sorted(stored)
    assert [path.stat() for path in paths_of[6:]] == before[6:]
    assert sorted(left(out)) == sorted(paths_of)


def test_everything_is_asked_for_when_that_is_wanted(client, asked, tmp_path: Path) -> None:
    series_of(tmp_path / "in", 2)
    client.store(tmp_path / "in")
    client.retrieve(STUDY, destination=tmp_path / "out")
    asked.now()
    client.retrieve(STUDY, destination=tmp_path / "out", resume=False)
    assert asked.now() == ["studies", SEARCH, WHOLE]


def test_an_interrupted_study_goes_on_with_what_is_missing(client, asked, dicomweb_emulator, tmp_path: Path) -> None:
    stored = [path.read_bytes() for path in series_of(tmp_path / "in", 200)]
    client.store(tmp_path / "in")
    asked.now()
    dicomweb_emulator.faults(
        {"method": "GET", "match": f"/{WHOLE}$", "cut": len(stored[0]) * 150, "times": 1},
        {"method": "GET", "match": r"/instances/[0-9.]+$", "status": 403, "times": 1},
    )
    with pytest.raises(AuthorizationError):
        client.retrieve(STUDY, destination=tmp_path / "out", workers=1)
    assert [fault["fired"] for fault in dicomweb_emulator.faults()] == [1, 1]
    assert named(tmp_path / "out") == []
    whole = len(left(tmp_path / "out"))
    assert 50 < whole < 200
    asked.now()
    files = client.retrieve(STUDY, destination=tmp_path / "out", workers=3)
    assert sorted(file.path.read_bytes() for file in files) == sorted(stored)
    requests = [path for path in asked.now() if path != SEARCH]
    assert len(requests) == 200 - whole
    assert len(set(requests)) == len(requests)
    assert sorted(left(tmp_path / "out")) == sorted(file.path for file in files)


def test_in_the_same_call_too_what_came_whole_is_not_asked_for_again(
    client, asked, dicomweb_emulator, tmp_path: Path
) -> None:
    series_of(tmp_path / "in", 20)
    series_of(tmp_path / "in2", 5, SeriesInstanceUID=f"{STUDY}.2", StudyInstanceUID=STUDY, study="1.9")
    client.store([tmp_path / "in", tmp_path / "in2"])
    asked.now()
    dicomweb_emulator.faults({"method": "GET", "match": f"/{WHOLE}$", "cut": 6000, "times": 1})
    assert len(client.retrieve(STUDY, destination=tmp_path / "out")) == 25
    requests = asked.now()
    assert requests[:3] == ["studies", SEARCH, WHOLE]
    # Of the series that nothing came of, everything is asked for at once.
    assert f"{WHOLE}/series/{STUDY}.2" in requests
    assert 3 < len(requests) < 3 + 20


def test_as_long_as_something_arrives_it_goes_on(tmp_path: Path) -> None:
    """Four attempts fail, more than the policy allows; but each brings one instance."""

    def cut(*numbers: int) -> Fault:
        whole = multipart(*[content(number) for number in numbers])
        return Fault(whole.status, whole.headers, whole.body[:-20], then="close")

    rounds = [Fault(503), Fault(503), instance(content(1)), Fault(503), Fault(503), instance(content(2))]
    with storing(
        found(0, 1, 2, 3), cut(0, 1), *rounds, instance(content(3)), policy=RetryPolicy(attempts=4, first_wait=0.01)
    ) as (client, server):
        assert len(client.retrieve(STUDY, destination=tmp_path, workers=1)) == 4
    assert paths(server)[1] == WHOLE
    assert paths(server)[2:] == [alone(1)] * 3 + [alone(2)] * 3 + [alone(3)]


def test_missing_instances_are_asked_for_so_many_at_a_time(tmp_path: Path) -> None:
    """The answers wait until two requests are there, and would wait for ever for a third."""
    gate = threading.Event()
    held = [instance(content(number)) for number in range(1, 5)]
    script = [found(0, 1, 2, 3, 4), multipart(content(0))]
    with faulty(*script) as server:
        held = [Fault(each.status, each.headers, each.body, hold=gate) for each in held]
        client = DicomWebClient(f"{server.url}/dicom-web")
        server.script += held
        done: list[int] = []
        worker = threading.Thread(target=lambda: done.append(_retrieve_in_order(client, tmp_path)), daemon=True)
        worker.start()
        deadline = time.monotonic() + 20
        while len(server.received) < 4:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        time.sleep(0.1)
        assert len(server.received) == 4
        gate.set()
        worker.join(20)
        client.close()
    assert done


def _retrieve_in_order(client: DicomWebClient, folder: Path) -> int:
    """Two workers may take the scripted answers in any order: what fits nothing is asked for again."""
    try:
        client.retrieve(STUDY, destination=folder, workers=2)
    except Exception:  # noqa: BLE001 - only how many came at a time matters
        return 1
    return 2


def large(number: int) -> bytes:
    """An instance of more bytes than are read at a time."""
    uids = {"StudyInstanceUID": STUDY, "SeriesInstanceUID": SERIES, "SOPInstanceUID": sop(number)}
    return part10(**uids, EncapsulatedDocument=bytes([number]) * 300_000)


def test_a_killed_process_loses_nothing_that_was_whole(tmp_path: Path) -> None:
    whole = multipart(*map(large, range(5)))
    # All but the end of the answer is sent; then nothing happens until the process is killed.
    stalled = Fault(whole.status, whole.headers, whole.body[:-20_000], declared=len(whole.body), then="stall")
    script = "import sys\nfrom airflow_dicomweb.dicomweb import DicomWebClient\n"
    script += f"DicomWebClient(sys.argv[1]).retrieve({STUDY!r}, destination=sys.argv[2])\n"
    with faulty(found(0, 1, 2, 3, 4), stalled) as server:
        url = f"{server.url}/dicom-web"
        with subprocess.Popen([sys.executable, "-c", script, url, str(tmp_path)]) as process:
            try:
                deadline = time.monotonic() + 60
                while len([path for path in left(tmp_path) if path.suffix != ".tmp"]) < 4:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.02)
            finally:
                process.kill()
                process.wait(20)
        assert named(tmp_path) == []
        del server.received[:]
        server.script += [found(0, 1, 2, 3, 4), instance(large(4))]
        with DicomWebClient(url) as client:
            files = client.retrieve(STUDY, destination=tmp_path)
        assert paths(server) == [SEARCH, alone(4)]
    assert [file.path.read_bytes() for file in files] == [large(number) for number in range(5)]
    assert sorted(left(tmp_path)) == sorted(file.path for file in files)


def test_what_was_taken_from_an_answer_that_broke_the_rules_is_not_taken_up(tmp_path: Path) -> None:
    """A boundary inside an instance ends it early: what follows it cannot be read as headers."""
    cut_short = content(1) + b"\r\n--x\r\n" + os.urandom(70_000).replace(b"\r\n\r\n", b"....")
    body = b"".join(
        b"--x\r\nContent-Type: application/dicom\r\n\r\n" + each + b"\r\n" for each in (content(0), cut_short)
    )
    broken = answer(body + b"--x--", content_type="multipart/related; boundary=x")
    with storing(found(0, 1), broken) as (client, _server):
        with pytest.raises(Exception, match="header"):
            client.retrieve(STUDY, destination=tmp_path)
        assert left(tmp_path) == []


@pytest.mark.parametrize("workers", [0, -1, 1.5, "4", True, None])
def test_workers_are_a_whole_number(tmp_path: Path, workers: object) -> None:
    with storing() as (client, server):
        with pytest.raises(ConfigurationError, match="workers"):
            client.retrieve(STUDY, destination=tmp_path, workers=workers)
        assert server.received == []


def test_a_signal_ends_a_retrieval_of_several_requests_and_leaves_nothing_that_is_not_whole(tmp_path: Path) -> None:
    series = [f"{STUDY}.{number}" for number in (1, 2)]
    listed = [
        {"0020000E": {"vr": "UI", "Value": [uid]}, "00080018": {"vr": "UI", "Value": [f"{uid}.1"]}} for uid in series
    ]
    empty = answer(b"--x--", content_type="multipart/related; boundary=x")
    body = b"--x\r\nContent-Type: application/dicom\r\n\r\n" + bytes(2 * 2**20)
    endless = Fault(200, (("Content-Type", "multipart/related; boundary=x"),), body, declared=2**40, then="stall")
    script = (
        "import signal, sys\n"
        "from airflow_dicomweb.dicomweb import DicomWebClient\n"
        "def end(*_): raise KeyboardInterrupt\n"
        "signal.signal(signal.SIGTERM, end)\n"
        f"DicomWebClient(sys.argv[1], request_timeout=3.0).retrieve({STUDY!r}, destination=sys.argv[2])\n"
    )
    with faulty(answer(listed), empty, endless, endless) as server:
        command = [sys.executable, "-c", script, f"{server.url}/dicom-web", str(tmp_path)]
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            try:
                deadline = time.monotonic() + 60
                while len([path for path in left(tmp_path) if path.suffix == ".tmp"]) < 2:
                    assert time.monotonic() < deadline
                    assert process.poll() is None
                    time.sleep(0.02)
                process.terminate()
                assert process.wait(30) != 0
            finally:
                process.kill()
    assert left(tmp_path) == []


def test_two_of_the_same_retrieval_at_a_time_both_bring_everything(tmp_path: Path) -> None:
    """The second one is in the middle when the first one ends."""
    gate = threading.Event()
    whole = multipart(*map(large, range(3)))
    held = Fault(whole.status, whole.headers, whole.body, hold=gate)
    ended: list[list[bytes]] = []

    def retrieve(url: str) -> None:
        with DicomWebClient(url) as client:
            ended.append([file.path.read_bytes() for file in client.retrieve(STUDY, destination=tmp_path)])

    with faulty(found(0, 1, 2), held) as slow, faulty(found(0, 1, 2), whole) as quick:
        waiting = threading.Thread(target=retrieve, args=(f"{slow.url}/dicom-web",), daemon=True)
        waiting.start()
        deadline = time.monotonic() + 20
        while len(slow.received) < 2:
            assert time.monotonic() < deadline
            time.sleep(0.01)
        retrieve(f"{quick.url}/dicom-web")
        gate.set()
        waiting.join(20)
    assert ended == [[large(number) for number in range(3)]] * 2
    assert len(left(tmp_path)) == 3
    assert [each.name for each in tmp_path.iterdir()] == [STUDY]


def test_a_server_that_does_one_thing_at_a_time_is_asked_one_after_the_other(
    tiny_pacs: TinyPacs, tmp_path: Path
) -> None:
    """It knows searches for the instances of a series only, and writes group 0002 anew."""
    series_of(tmp_path / "in", 6, study=f"{STUDY}.77")
    with DicomWebClient(tiny_pacs.dicomweb_url, server="tiny-pacs") as client:
        assert client.store(tmp_path / "in").failed == 0
        files = client.retrieve(f"{STUDY}.77", destination=tmp_path / "out")
        before = [file.path.read_bytes() for file in files]
        for file in files[:4]:
            file.path.unlink()
        assert client.retrieve(f"{STUDY}.77", destination=tmp_path / "out", workers=4) == files
    assert [file.path.read_bytes() for file in files] == before
    assert len(files) == 6
