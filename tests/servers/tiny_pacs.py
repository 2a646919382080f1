"""tiny-pacs-dicomweb, a DICOMweb server of PyPI that nobody of this project wrote, in a process of its own.

It is not Orthanc's like: it writes group 0002 anew, knows searches for the instances of a series only, has neither
metadata nor frames nor deletion, and breaks when it is asked something while it stores.

Source: https://pypi.org/project/tiny-pacs-dicomweb/
"""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import ManagedProcess

START_TIMEOUT = 60.0
_PROGRAM = Path(__file__).with_name("tiny_pacs_program.py")


class TinyPacsMissingError(Exception):
    """tiny-pacs-dicomweb is not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class TinyPacs:
    """A running tiny-pacs-dicomweb.

    :param url: Base URL of the process's HTTP server.
    :param log_path: File with the output of the server.
    """

    url: str
    log_path: Path

    @property
    def dicomweb_url(self) -> str:
        """Root of the DICOMweb services, without a slash at the end."""
        return f"{self.url}/dicomweb"


@contextmanager
def running_tiny_pacs(folder: Path) -> Iterator[TinyPacs]:
    """Run an empty server, and stop it at the end.

    :param folder: Empty folder for its database, files and log.
    :raises TinyPacsMissingError: It is not installed.
    :raises ProcessError: It does not start.
    """
    if importlib.util.find_spec("tiny_pacs_dicomweb") is None or importlib.util.find_spec("waitress") is None:
        raise TinyPacsMissingError("tiny-pacs-dicomweb is not installed: pip install tiny-pacs-dicomweb waitress")
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    server = ManagedProcess(
        "tiny-pacs-dicomweb",
        # -P: this file has the name of the package.
        [sys.executable, "-P", str(_PROGRAM), str(folder / "data")],
        environment=environment,
        log_path=folder / "tiny-pacs.log",
    )
    try:
        server.start()
        yield TinyPacs(server.wait_for_line("Listening on ", timeout=START_TIMEOUT), server.log_path)
    finally:
        server.stop()
