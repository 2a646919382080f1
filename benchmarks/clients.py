"""Running a client: a Python one in a fresh interpreter, or curl.

Source: https://curl.se/docs/manpage.html
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.client_process import memory
from benchmarks.data import BOUNDARY, Shelf

TIMEOUT = 600.0
CURL = shutil.which("curl")
_MULTIPART = f'Content-Type: multipart/related; type="application/dicom"; boundary={BOUNDARY}'


class RunError(Exception):
    """A client did not do what it was asked to do."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What one run took.

    :param seconds: Wall time, without the start of the program.
    :param cpu_seconds: Time of processors, user and system.
    :param peak_rss_mib: Most memory: above its start for Python, all of it for curl.
    :param result: What the client returned.
    """

    seconds: float
    cpu_seconds: float
    peak_rss_mib: float
    result: Any = None


@dataclass(frozen=True, slots=True)
class Service:
    """Where a client is sent.

    :param url: Root of a DICOMweb service.
    :param user: For basic authentication; empty for none.
    :param password: Likewise; without a user it is a bearer token.
    """

    url: str
    user: str = ""
    password: str = ""


def run_python(client: str, action: str, service: Service, **job: Any) -> Measured:
    """Run a Python client.

    :param client: ``ours`` or ``dicomweb-client``.
    :param action: ``store``, ``retrieve`` or ``search``.
    :param job: What else ``client_process`` wants to know.
    :raises RunError: If it fails.
    """
    described = {"client": client, "action": action, "url": service.url, "user": service.user, **job}
    described["password"] = service.password
    command = [sys.executable, "-m", "benchmarks.client_process"]
    ended = subprocess.run(
        command,
        input=json.dumps(described),
        capture_output=True,
        text=True,
        timeout=TIMEOUT,
        check=False,
        cwd=Path(__file__).parent.parent,
    )
    if ended.returncode:
        raise RunError(f"{client} failed:\n{ended.stderr[-2000:]}")
    return Measured(**json.loads(ended.stdout.splitlines()[-1]))


def curl_store(service: Service, shelf: Shelf, *, each: bool) -> Measured:
    """Store with curl: everything in one request, or one request for each instance over one connection."""
    to = ['header = "Expect:"', f'output = "{os.devnull}"', f'url = "{service.url}/studies"']
    if not each:
        sent = ["request = POST", f'header = "{_escaped(_MULTIPART)}"', f'upload-file = "{shelf.body}"']
        return _curl([*sent, *to, *_common(service)])
    # curl makes the multipart body itself, and adds its boundary to this type.
    media_type = _escaped('Content-Type: multipart/related; type="application/dicom"')
    lines: list[str] = []
    for path in sorted(shelf.folder.iterdir()):
        lines += ["next"] if lines else []
        lines += [f'header = "{media_type}"', f'form = "file=@{path};type=application/dicom"', *to, *_common(service)]
    return _curl(lines)


def curl_retrieve(service: Service, path: str, destination: Path) -> Measured:
    """Retrieve to one file with curl."""
    accept = 'Accept: multipart/related; type="application/dicom"; transfer-syntax=*'
    lines = [f'header = "{_escaped(accept)}"', f'output = "{destination}"', f'url = "{service.url}/{path}"']
    return _curl([*lines, *_common(service)])


def _common(service: Service) -> list[str]:
    lines = ["silent", "show-error", "fail", 'noproxy = "*"', 'write-out = "%{stderr}%{time_total}\\n"']
    return [*lines, f'user = "{service.user}:{service.password}"'] if service.user else lines


def _escaped(text: str) -> str:
    return text.replace('"', '\\"')


def _curl(lines: Sequence[str]) -> Measured:
    """Run curl with a configuration that nobody sees in a list of processes."""
    if CURL is None:
        raise RunError("curl is not installed")
    process = subprocess.Popen(
        [CURL, "--disable", "--config", "-"], stdin=subprocess.PIPE, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL
    )
    assert process.stdin is not None, "it was asked for"  # noqa: S101
    assert process.stderr is not None, "it was asked for"  # noqa: S101
    process.stdin.write("\n".join(lines).encode())
    process.stdin.close()
    peak, deadline = 0.0, time.monotonic() + TIMEOUT
    while True:
        pid, status, usage = os.wait4(process.pid, os.WNOHANG)
        if pid:
            process.returncode = os.waitstatus_to_exitcode(status)
            break
        peak = max(peak, memory(process.pid, "VmHWM"))
        if time.monotonic() > deadline:
            process.kill()
        time.sleep(0.01)
    said = process.stderr.read().decode(errors="replace").splitlines()
    process.stderr.close()
    if process.returncode:
        raise RunError(f"curl failed with {process.returncode}: {' '.join(said)[-500:]}")
    return Measured(sum(map(float, said)), usage.ru_utime + usage.ru_stime, peak)
