"""What was acknowledged survives; what was not leaves nothing behind; the process starts and ends cleanly."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import requests

from airflow_dicomweb.emulator import running_emulator
from airflow_dicomweb.errors import ConfigurationError
from tests.emulator.api import PATIENCE, Api, envelope, instance, multipart

STORE = "projects/p/locations/l/datasets/d/dicomStores/s"


def command(*arguments):
    return [sys.executable, "-m", "airflow_dicomweb.emulator", *map(str, arguments)]


def files_in(folder):
    return [path for path in folder.rglob("*") if path.is_file()]


def test_a_restart_on_the_same_folder_loses_nothing(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        body = instance(PatientID="P1")
        api.store(body, instance(uid="1.1.1.2"))
        api.store(instance(study="1.2"))
        name = api.run(api.ask("DELETE", "studies/1.2"))["name"]
    assert emulator.process.returncode == 0
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        again = Api(emulator)
        assert sorted(uid for _, _, uid in again.tuples()) == ["1.1.1.1", "1.1.1.2"]
        path = "studies/1.1/series/1.1.1/instances/1.1.1.1"
        assert again.get(path, "application/dicom; transfer-syntax=*").content == body
        assert again.operation(name)["metadata"]["counter"] == {"success": "1"}
        assert again.store(body).status_code == 200


def test_a_kill_right_after_an_answer_loses_nothing_of_it(tmp_path):
    acknowledged = []
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)

        def store(first):
            for number in range(first, first + 1000):
                uids = [f"1.1.1.{number}.{part}" for part in range(3)]
                try:
                    answer = requests.post(
                        f"{api.web}/studies",
                        data=multipart([instance(uid=uid, ImageComments="x" * 10_000) for uid in uids]),
                        headers={"Authorization": "Bearer x", "Content-Type": "multipart/related; boundary=XX"},
                        timeout=PATIENCE,
                    )
                except requests.exceptions.ConnectionError:
                    return
                assert answer.status_code == 200
                acknowledged.extend(uids)

        threads = [threading.Thread(target=store, args=[start]) for start in (1000, 5000)]
        for thread in threads:
            thread.start()
        deadline = time.monotonic() + PATIENCE
        while len(acknowledged) < 60 and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(emulator.process.pid, signal.SIGKILL)
        for thread in threads:
            thread.join(PATIENCE)
    assert emulator.process.returncode == -signal.SIGKILL
    assert len(acknowledged) >= 60
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        found = api.tuples()
        assert set(acknowledged) <= {uid for _, _, uid in found}
        # All parts of a request are stored, or none; and each row has its file, whole, and each file its row.
        assert len(found) % 3 == 0
        for identity in found[-9:]:
            path = "studies/{}/series/{}/instances/{}".format(*identity)
            answer = api.get(path, "application/dicom; transfer-syntax=*")
            assert answer.content == instance(uid=identity[2], ImageComments="x" * 10_000)
        assert len(files_in(tmp_path / "data" / "instances")) == len(found)
        assert files_in(tmp_path / "data" / "incoming") == []


def test_a_file_that_was_never_acknowledged_is_swept_away(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        Api(emulator).store(instance())
    name = "ab" * 16
    for left in (tmp_path / "data" / "instances" / "ab" / f"{name}.dcm", tmp_path / "data" / "incoming" / name):
        left.parent.mkdir(exist_ok=True)
        left.write_bytes(b"half a file")
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        assert len(Api(emulator).tuples()) == 1
    assert len(files_in(tmp_path / "data" / "instances")) == 1
    assert files_in(tmp_path / "data" / "incoming") == []


def test_a_client_that_goes_away_in_the_middle_leaves_nothing(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        host, port = emulator.base_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            head = f"POST /v1/{STORE}/dicomWeb/studies HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer x\r\n"
            connection.sendall(f"{head}Content-Type: application/dicom\r\nContent-Length: 3000000\r\n\r\n".encode())
            connection.sendall(bytes(2_000_000))
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            entries = emulator.requests()
            if entries and entries[0]["received"] and not files_in(tmp_path / "data" / "instances"):
                break
            time.sleep(0.02)
        assert files_in(tmp_path / "data" / "instances") == files_in(tmp_path / "data" / "incoming") == []
        assert api.tuples() == []


def test_nobody_else_can_read_what_is_kept(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        Api(emulator).store(instance())
        kept = [tmp_path / "data", *(tmp_path / "data").rglob("*")]
        assert {oct(path.stat().st_mode & 0o077) for path in kept} == {"0o0"}


def test_a_deleted_instance_takes_its_file_with_it(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        api.store(instance(), instance(uid="1.1.1.2"))
        api.store(instance(PatientID="in conflict"))
        assert len(files_in(tmp_path / "data" / "instances")) == 2
        api.ask("DELETE", "studies/1.1/series/1.1.1/instances/1.1.1.1")
        assert len(files_in(tmp_path / "data" / "instances")) == 1
        api.run(api.ask("DELETE", "studies/1.1"))
        assert files_in(tmp_path / "data" / "instances") == []


def test_an_operation_that_was_running_goes_on_after_a_kill(tmp_path):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        api.store(*(instance(uid=f"1.1.1.{number}") for number in range(1, 11)))
        emulator.set_operation_seconds(4)
        name = api.ask("DELETE", "studies/1.1").json()["name"]
        cancelled = api.ask("POST", f"{api.root}/projects/p/locations/l/datasets?datasetId=other").json()["name"]
        emulator.set_operation_seconds(600)
        stuck = api.ask("POST", f"{api.root}/projects/p/locations/l/datasets?datasetId=third").json()["name"]
        deadline = time.monotonic() + PATIENCE
        while not api.operation(name)["metadata"].get("counter", {}).get("success") and time.monotonic() < deadline:
            time.sleep(0.05)
        os.kill(emulator.process.pid, signal.SIGKILL)
        emulator.process.wait(PATIENCE)
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        assert "done" not in api.operation(stuck)
        api.ask("POST", f"{api.root}/{stuck}:cancel")
        assert api.ended(stuck)["error"]["code"] == 1
        operation = api.ended(name)
        assert operation["metadata"]["counter"] == {"success": "10"}
        assert api.tuples() == []
        assert "error" not in api.ended(cancelled)
        assert api.ask("GET", f"{api.root}/projects/p/locations/l/datasets/other").status_code == 200


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_zero_though_connections_idle(tmp_path, number):
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        api.tuples()  # The connection stays open.
        emulator.set_operation_seconds(600)
        api.store(instance())
        api.ask("DELETE", "studies/1.1")
        began = time.monotonic()
        emulator.process.send_signal(number)
        assert emulator.process.wait(PATIENCE) == 0
        assert time.monotonic() - began < PATIENCE / 2
    assert "Traceback" not in (tmp_path / "data.log").read_text()


def test_a_signal_during_a_slow_store_leaves_no_instance_without_its_bytes(tmp_path):
    """The emulator stops waiting for the request after some seconds, and the request is stored after all."""
    body = instance()
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        index = sqlite3.connect(tmp_path / "data" / "index.sqlite3", isolation_level=None)
        index.execute("BEGIN IMMEDIATE")  # nobody else can write: as if the disk were slow
        acknowledged = []
        storing = threading.Thread(target=_store, args=[Api(emulator), body, acknowledged])
        storing.start()
        _wait_until(lambda: [path.stat().st_size for path in files_in(tmp_path / "data" / "instances")] == [len(body)])
        emulator.process.send_signal(signal.SIGTERM)
        _wait_until(lambda: not _has_event_loop(emulator.process.pid))
        index.rollback()
        index.close()
        assert emulator.process.wait(PATIENCE) == 0
        storing.join(PATIENCE)
    assert acknowledged == []
    with running_emulator(tmp_path / "data", create=[STORE]) as emulator:
        api = Api(emulator)
        assert api.store(body).status_code == 200
        path = "studies/1.1/series/1.1.1/instances/1.1.1.1"
        assert api.get(path, "application/dicom; transfer-syntax=*").content == body


def _store(api, body, acknowledged):
    with contextlib.suppress(requests.exceptions.ConnectionError):
        if api.store(body).ok:
            acknowledged.append(body)


def _wait_until(condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def _has_event_loop(pid):
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # closed meanwhile
            if str(descriptor.readlink()) == "anon_inode:[eventpoll]":
                return True
    return False


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_while_it_starts_ends_it_quietly(tmp_path, number):
    program = "import sys; print(flush=True); from airflow_dicomweb.emulator.__main__ import main; sys.exit(main(sys.argv[1:]))"
    arguments = ["--port", "0", "--data-dir", str(tmp_path / "data")]
    for delay in (0.1, 0.3, 0.6):
        with subprocess.Popen(
            [sys.executable, "-c", program, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        ) as process:
            try:
                process.stdout.readline()
                deadline = time.monotonic() + PATIENCE
                while not _catches(process.pid) and time.monotonic() < deadline:
                    time.sleep(0.005)
                time.sleep(delay)
                process.send_signal(number)
                _, words = process.communicate(timeout=PATIENCE)
            finally:
                process.kill()
        assert (process.returncode, words) == (0, "")


def _catches(pid):
    """Tell whether a process has handlers for both signals by now."""
    with Path(f"/proc/{pid}/status").open() as status:
        caught = int(re.search(r"SigCgt:\s+(\w+)", status.read())[1], 16)
    return all(caught >> (number - 1) & 1 for number in (signal.SIGTERM, signal.SIGINT))


def test_two_emulators_never_share_a_folder(tmp_path):
    with (
        running_emulator(tmp_path / "data"),
        pytest.raises(ConfigurationError, match="another emulator is using"),
        running_emulator(tmp_path / "data"),
    ):
        pass


def test_it_says_where_it_listens_and_makes_the_stores_that_are_asked_for(tmp_path):
    arguments = ["--port", 0, "--data-dir", tmp_path / "data", "--create", STORE, "--create", f"{STORE}2"]
    with subprocess.Popen(command(*arguments), stdout=subprocess.PIPE, text=True) as process:
        try:
            line = process.stdout.readline()
            assert re.fullmatch(r"Listening on http://127\.0\.0\.1:[1-9]\d*\n", line)
            url = f"{line.split()[-1]}/v1/{STORE.rpartition('/')[0]}"
            found = requests.get(url, headers={"Authorization": "Bearer x"}, timeout=PATIENCE).json()
            assert [store["name"] for store in found["dicomStores"]] == [STORE, f"{STORE}2"]
        finally:
            process.terminate()
        assert process.wait(PATIENCE) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "x"], "a port is a number"),
        (["--port", "99999"], "a port is a number"),
        (["--operation-seconds", "-1"], "a number of seconds"),
        (["--operation-seconds", "nan"], "a number of seconds"),
        (["--create", "projects/p"], "is not of the form"),
        (["--data-dir", ""], "the name of a folder is expected"),
    ],
)
def test_a_wrong_argument_is_told_at_once(tmp_path, arguments, words):
    done = subprocess.run(
        command("--data-dir", tmp_path / "data", *arguments),
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 2
    assert words in done.stderr
    assert not (tmp_path / "data").exists()


def test_a_port_that_is_taken_is_told(tmp_path):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ["--port", port, "--data-dir", tmp_path / "data"]
        done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert "Traceback" not in done.stderr


def test_what_many_clients_do_at_once_adds_up(api):
    failures = []

    def work(client):
        mine = Api(api.emulator)
        try:
            for number in range(6):
                study = f"1.{client}.{number}"
                answer = mine.store(
                    instance(study, f"{study}.1", f"{study}.1.1"), instance(study, f"{study}.1", f"{study}.1.2")
                )
                assert answer.status_code == 200, answer.text
                assert len(mine.get(f"studies/{study}/instances").json()) == 2
                if number % 3 == 0:
                    mine.run(mine.ask("DELETE", f"studies/{study}"))
                elif number % 3 == 1:
                    answer = mine.ask("DELETE", f"studies/{study}/series/{study}.1/instances/{study}.1.1")
                    assert answer.json() == {}
        except Exception as error:  # noqa: BLE001 - told by the test's own thread
            failures.append(error)

    threads = [threading.Thread(target=work, args=[client]) for client in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(PATIENCE * 2)
    assert failures == []
    expected = {
        f"1.{c}.{n}.1.{i}"
        for c in range(1, 9)
        for n in range(6)
        for i in (1, 2)
        if n % 3 == 2 or (n % 3 == 1 and i == 2)
    }
    assert {uid for _, _, uid in api.tuples()} == expected
    envelope(api.ask("DELETE", "studies/1.1.0"), 404)
