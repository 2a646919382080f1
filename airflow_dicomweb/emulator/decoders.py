"""Decoding in a process of its own: a damaged picture may take a decoder's library down, but not the emulator.

The process is started when it is first needed, works off one job after the other, and ends with the emulator, however
that ends: it waits for jobs on a socket that closes then.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

PICTURE_FORMATS = {"image/jpeg": "JPEG", "image/png": "PNG"}
"""Media types of pictures, and what Pillow calls them."""

_PROGRAM = "import sys; from airflow_dicomweb.emulator.decoders import work; work(int(sys.argv[1]))"
_LONGEST_JOB = 60.0
"""Seconds after which a job is given up: some damaged pictures are decoded for ever."""

_STOP_TIMEOUT = 3.0


class RenderingError(Exception):
    """An instance of which no picture can be made."""


class ConversionError(Exception):
    """An instance that cannot be given in the transfer syntax that was asked for."""


class Decoders:
    """The process, seen from the emulator."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._connection: Connection | None = None

    def render(self, file: Path, media_type: str, frame: int = 1, viewport: str = "") -> bytes:
        """Make a picture of one frame; see :func:`airflow_dicomweb.emulator.rendering.render`.

        :raises RenderingError: If that cannot be done.
        """
        ok, found = self._do("render", file, media_type, frame, viewport)
        if not ok:
            raise RenderingError(found)
        return bytes(found)

    def convert(self, file: Path, wanted: str, folder: Path) -> IO[bytes]:
        """Write an instance in another transfer syntax.

        :param folder: Where there is room for it; the file has no name any more, and goes when it is closed.
        :return: The file, at its beginning.
        :raises ConversionError: If that cannot be done.
        """
        return self._spooled(folder, lambda target: ("convert", file, wanted, target))[0]

    def frames(
        self, file: Path, numbers: Sequence[int] | None, folder: Path, *, as_stored: bool
    ) -> tuple[IO[bytes], list[int]]:
        """Write frames one after the other; see :func:`airflow_dicomweb.emulator.pixel_data.write_frames`.

        :param folder: As for :meth:`convert`.
        :return: The file, and the lengths of the frames in it.
        :raises ConversionError: If that cannot be done.
        """
        return self._spooled(folder, lambda target: ("frames", file, numbers, as_stored, target))

    def _spooled(self, folder: Path, job: Callable[[Path], tuple[Any, ...]]) -> tuple[IO[bytes], Any]:
        # Named as incoming files are: what a kill leaves is swept away at the next start.
        target = folder / secrets.token_hex(16)
        target.touch(mode=0o600, exist_ok=False)
        output = target.open("rb")
        try:
            ok, found = self._do(*job(target))
        finally:
            target.unlink()
        if not ok:
            output.close()
            raise ConversionError(found)
        return output, found

    def _do(self, *job: Any) -> tuple[bool, Any]:
        """Have a job done; give whether it was, and its result or the reason."""
        with self._lock:
            process, connection = self._running()
            watch = threading.Timer(_LONGEST_JOB, process.kill)
            watch.start()
            try:
                connection.send(job)
                ok, found = connection.recv()
            except (EOFError, OSError):
                self._stop()
                return False, "the pixel data breaks its decoder"
            finally:
                watch.cancel()
        return ok, found

    def _running(self) -> tuple[subprocess.Popen[bytes], Connection]:
        if self._process is not None and self._connection is not None and self._process.poll() is None:
            return self._process, self._connection
        self._stop()
        here, there = socket.socketpair()
        with there:
            self._process = subprocess.Popen(  # noqa: S603 - our own module
                [sys.executable, "-c", _PROGRAM, str(there.fileno())],
                pass_fds=[there.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
            )
        self._connection = Connection(here.detach())
        return self._process, self._connection

    def _stop(self) -> None:
        if self._connection is not None:
            self._connection.close()
        if self._process is not None:
            try:
                self._process.wait(_STOP_TIMEOUT)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        self._process = self._connection = None

    def close(self) -> None:
        """End the process; a job under way is not waited for."""
        process = self._process
        if process is not None:
            process.kill()
        with self._lock:
            self._stop()


def work(descriptor: int) -> None:
    """Do jobs until the emulator is gone: what the process runs.

    :param descriptor: The process's end of the socket.
    """
    from airflow_dicomweb.emulator.conversion import convert
    from airflow_dicomweb.emulator.metadata import read_leniently
    from airflow_dicomweb.emulator.pixel_data import write_frames
    from airflow_dicomweb.emulator.rendering import render

    # Ctrl-C is for the emulator; this process ends after it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    connection = Connection(descriptor)
    read_leniently()
    jobs: dict[str, Callable[..., Any]] = {"render": render, "convert": convert, "frames": write_frames}
    while True:
        try:
            name, *arguments = connection.recv()
        except (EOFError, OSError):
            return
        try:
            answer = (True, jobs[name](*arguments))
        except (RenderingError, ConversionError) as error:
            answer = (False, str(error))
        connection.send(answer)
