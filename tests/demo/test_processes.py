"""Programs beside this one end with all that they started."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from demo.processes import ManagedProcess, ProcessError, session_members, stop_all

# A child in a process group of its own that ignores SIGTERM, as the worst of an executor's children would.
STUBBORN_FAMILY = """
import os, signal, sys, time
if os.fork() == 0:
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    print("child is", os.getpid(), flush=True)
time.sleep(600)
"""


def program(tmp_path: Path, source: str, name: str = "program") -> ManagedProcess:
    command = [sys.executable, "-u", "-c", source]
    return ManagedProcess(name, command, environment=dict(os.environ), log_path=tmp_path / f"{name}.log")


def wait_until(condition: Callable[[], bool], timeout: float = 20.0) -> None:
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "it did not come true in time"
        time.sleep(0.02)


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    # An orphan that has ended may wait for init to take notice of it.
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize("signal_number", [signal.SIGTERM, signal.SIGKILL])
def test_a_stopped_program_takes_its_children_with_it(tmp_path: Path, signal_number: int) -> None:
    family = program(tmp_path, STUBBORN_FAMILY)
    family.start()
    child = int(family.wait_for_line("child is ", timeout=20.0))
    session = family.pid
    assert {session, child} <= set(session_members(session))
    family.stop(signal_number)
    wait_until(lambda: not running(child))
    assert session_members(session) == []
    assert not family.running


def test_a_program_that_ignores_the_request_is_killed_after_the_timeout(tmp_path: Path) -> None:
    deaf = program(tmp_path, "import signal, time; signal.signal(15, signal.SIG_IGN); print('deaf'); time.sleep(600)")
    deaf.start()
    deaf.wait_for_line("deaf", timeout=20.0)
    pid = deaf.pid
    deaf.stop(timeout=0.2)
    assert not running(pid)


def test_a_stopped_program_can_be_started_again_and_goes_on_with_its_log(tmp_path: Path) -> None:
    greeter = program(tmp_path, "import time; print('hello'); time.sleep(600)")
    for starts in (1, 2):
        greeter.start()
        wait_until(lambda expected=starts: greeter.log_path.read_text().count("hello") == expected)
        greeter.stop()


def test_a_program_that_ends_before_it_is_ready_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    broken = program(tmp_path, "raise SystemExit('the port is taken')")
    broken.start()
    with pytest.raises(ProcessError, match=r"exit status 1(.|\n)*the port is taken"):
        broken.wait_for_line("Listening on ", timeout=20.0)
    broken.stop()


def test_a_program_that_does_not_get_ready_is_reported_with_the_end_of_its_log(tmp_path: Path) -> None:
    slow = program(tmp_path, "import time; print('still loading'); time.sleep(600)")
    slow.start()
    wait_until(lambda: "loading" in slow.log_path.read_text())
    with pytest.raises(ProcessError, match=r"within 0.1 s(.|\n)*still loading"):
        slow.wait_for_line("Listening on ", timeout=0.1)
    slow.stop()


def test_a_program_that_is_waited_for_and_fails_is_reported(tmp_path: Path) -> None:
    program(tmp_path, "print('fine')", "good").run_to_end(timeout=20.0)
    with pytest.raises(ProcessError, match=r"bad failed \(exit status 3\)"):
        program(tmp_path, "raise SystemExit(3)", "bad").run_to_end(timeout=20.0)


def test_stopping_what_never_ran_does_nothing(tmp_path: Path) -> None:
    stop_all([program(tmp_path, "pass")])
