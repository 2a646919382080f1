"""Programs that run beside this one: each in a session of its own, its output in a file, stopped by its id.

A program that was started here ends here, whatever happens: after success, after an error, after Ctrl-C and
after SIGTERM. Airflow's scheduler starts workers, and the workers put every task into a process group of its
own, so neither the program's id nor its process group reaches all of them; the session does.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

LOG_TAIL_LINES = 25


class ProcessError(RuntimeError):
    """A program ended, or did not become ready, when it should have been running."""


class ManagedProcess:
    """One program, its log, and its end.

    :param name: How messages call it.
    :param command: Program and arguments.
    :param environment: The whole environment of the program; nothing is inherited beside it.
    :param log_path: File that its standard output and standard error are appended to.
    """

    def __init__(self, name: str, command: Sequence[str], *, environment: Mapping[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self._command = list(command)
        self._environment = dict(environment)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the program; its log goes on where an earlier start left it."""
        if self._process is not None and self._process.poll() is None:
            raise ProcessError(f"{self.name} is already running")
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        with self.log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """Process id, also the id of its session."""
        if self._process is None:
            raise ProcessError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it was started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def require_running(self) -> None:
        """Do nothing while it runs.

        :raises ProcessError: It has ended; the message has the exit status and the end of its log.
        """
        if not self.running:
            ending = f"ended (exit status {self._process.returncode})" if self._process else "is not running"
            raise ProcessError(f"{self.name} {ending}. The end of its log:\n{self.log_tail()}")

    def run_to_end(self, *, timeout: float) -> None:
        """Start it and wait until it ends by itself.

        :param timeout: Seconds until it is given up and killed.
        :raises ProcessError: It took longer, or its exit status was not 0.
        """
        self.start()
        try:
            status = self._wait(time.monotonic() + timeout)
        finally:
            self.stop(signal.SIGKILL)
        if status != 0:
            ending = "did not end in time" if status is None else f"failed (exit status {status})"
            raise ProcessError(f"{self.name} {ending}. The end of its log:\n{self.log_tail()}")

    def wait_for_line(self, prefix: str, *, timeout: float) -> str:
        """Give the rest of the first log line that starts with a prefix, as programs announce that they are ready.

        :param prefix: Start of the line.
        :param timeout: Seconds to wait for the line.
        :raises ProcessError: It ended, or did not print such a line in time.
        """
        deadline = time.monotonic() + timeout
        while True:
            for line in self.log_path.read_text(errors="replace").splitlines(keepends=True):
                # A line without its end may still be being written.
                if line.startswith(prefix) and line.endswith("\n"):
                    return line.removeprefix(prefix).strip()
            self.require_running()
            if time.monotonic() > deadline:
                raise ProcessError(
                    f"{self.name} did not print {prefix!r} within {timeout:g} s. The end of its log:\n{self.log_tail()}"
                )
            time.sleep(0.1)

    def send(self, signal_number: int) -> None:
        """Send a signal to the program and all that it started, without waiting for what comes of it."""
        if self._process is not None:
            _signal_all(session_members(self._process.pid), signal_number)

    def ask_to_end(self, signal_number: int = signal.SIGTERM) -> None:
        """Send a signal to the program alone, which is expected to end what it started; SIGKILL goes to all."""
        if signal_number == signal.SIGKILL:
            self.send(signal_number)
        elif self.running:
            _signal_all([self.pid], signal_number)

    def end(self, deadline: float) -> None:
        """Wait for its end, and kill what is left of it and of what it started.

        :param deadline: Until when it may end by itself, on the clock of ``time.monotonic``.
        """
        if self._process is not None:
            self._wait(deadline)
            # Also what outlived its parent: it keeps the session of the program that started it.
            self.send(signal.SIGKILL)
            self._process.wait()
            # Once waited for, the id may come to belong to somebody else's process: never use it again.
            self._process = None

    def stop(self, signal_number: int = signal.SIGTERM, *, timeout: float = 20.0) -> None:
        """Stop the program and everything that it started; nothing happens when it is not running.

        :param signal_number: What to ask with; ``signal.SIGKILL`` ends all of it at once.
        :param timeout: Seconds after which what is left is killed.
        """
        stop_all([self], signal_number, timeout=timeout)

    def log_tail(self, lines: int = LOG_TAIL_LINES) -> str:
        """Give the last lines of its log, indented."""
        text = self.log_path.read_text(errors="replace") if self.log_path.exists() else ""
        return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (empty)"

    def _wait(self, deadline: float) -> int | None:
        if self._process is not None:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(max(0.0, deadline - time.monotonic()))
        return None


def stop_all(
    processes: Iterable[ManagedProcess], signal_number: int = signal.SIGTERM, *, timeout: float = 20.0
) -> None:
    """Stop several programs at the same time, so that the slowest of them sets the pace.

    :param signal_number: What each of them is asked with.
    :param timeout: Seconds, for all of them together, after which what is left is killed.
    """
    programs = list(processes)
    with _ignoring_signals():
        for program in programs:
            program.ask_to_end(signal_number)
        deadline = time.monotonic() + timeout
        for program in programs:
            program.end(deadline)


def session_members(session: int) -> list[int]:
    """Ids of the living processes of a session.

    :param session: Id of the process that leads (or led) the session.
    """
    if not Path("/proc/self/stat").exists():
        # Without /proc the leader and its process group are all that can be found.
        return [session] if _alive(session) else []
    members = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                # "pid (name) state ppid pgrp session ...": the name may hold blanks and brackets.
                fields = (entry / "stat").read_text(errors="replace").rpartition(")")[2].split()
                if int(fields[3]) == session and fields[0] != "Z":
                    members.append(int(entry.name))
    return members


@contextmanager
def stopping_on_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end this program the way Ctrl-C does: through every ``finally`` and ``with``."""

    def leave(signal_number: int, _frame: FrameType | None) -> None:
        raise SystemExit(128 + signal_number)

    earlier = {number: signal.signal(number, leave) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)


def free_port() -> int:
    """Find a TCP port of 127.0.0.1 that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _signal_all(pids: Iterable[int], signal_number: int) -> None:
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal_number)


def _alive(pid: int) -> bool:
    with suppress(ProcessLookupError):
        os.kill(pid, 0)
        return True
    return False


@contextmanager
def _ignoring_signals() -> Iterator[None]:
    # An impatient second Ctrl-C would leave a clean-up half done. Only the main thread ever gets one.
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.signal(number, signal.SIG_IGN) for number in numbers}
    try:
        yield
    finally:
        for number, handler in earlier.items():
            signal.signal(number, handler)
