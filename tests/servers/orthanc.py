"""Orthanc, the DICOMweb server that nobody of this project wrote, with a configuration of its own.

Source: https://orthanc.uclouvain.be/book/users/configuration.html
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from demo.processes import ManagedProcess, ProcessError, free_port

START_TIMEOUT = 60.0
_PROGRAMS = ("/usr/sbin/Orthanc", "/usr/local/sbin/Orthanc", "/usr/local/bin/Orthanc")
_PLUGIN_FOLDERS = ("/usr/share/orthanc/plugins", "/usr/lib/orthanc", "/usr/local/share/orthanc/plugins")


class OrthancMissingError(Exception):
    """Orthanc or its DICOMweb plugin is not installed; the message says what to install."""


@dataclass(frozen=True, slots=True)
class Orthanc:
    """A running Orthanc.

    :param url: Base URL of Orthanc's own REST API.
    :param user: Name for basic authentication.
    :param password: Password for basic authentication.
    :param log_path: File with the output of the server.
    """

    url: str
    user: str
    password: str
    log_path: Path

    @property
    def dicomweb_url(self) -> str:
        """Root of the DICOMweb services, without a slash at the end."""
        return f"{self.url}/dicom-web"

    def get(self, path: str) -> bytes:
        """Body of the answer to an authenticated GET, through nothing but the standard library.

        :param path: Path below ``url``, beginning with a slash.
        """
        return self._request("GET", path)

    def clear(self) -> None:
        """Delete everything that it stores."""
        for patient in json.loads(self.get("/patients")):
            self._request("DELETE", f"/patients/{patient}")

    def _request(self, method: str, path: str) -> bytes:
        token = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        request = urllib.request.Request(f"{self.url}{path}", method=method)
        request.add_header("Authorization", f"Basic {token}")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(request, timeout=30.0) as response:
            body: bytes = response.read()
            return body


@contextmanager
def running_orthanc(folder: Path) -> Iterator[Orthanc]:
    """Run an empty Orthanc with basic authentication and DICOMweb, and stop it at the end.

    :param folder: Empty folder for its configuration, storage and log.
    :raises OrthancMissingError: It is not installed.
    :raises ProcessError: It does not start.
    """
    program, plugin = _installed()
    port = free_port()
    orthanc = Orthanc(f"http://127.0.0.1:{port}", "radiographer", "loopback only", folder / "orthanc.log")
    configuration = folder / "orthanc.json"
    configuration.write_text(json.dumps(_configuration(folder, port, plugin, orthanc), indent=2))
    environment = {"PATH": os.environ.get("PATH", ""), "HOME": str(folder), "TMPDIR": str(folder), "LANG": "C.UTF-8"}
    server = ManagedProcess(
        "Orthanc", [str(program), str(configuration)], environment=environment, log_path=orthanc.log_path
    )
    try:
        server.start()
        _wait_until_it_answers(server, orthanc)
        yield orthanc
    finally:
        server.stop()


def _configuration(folder: Path, port: int, plugin: Path, orthanc: Orthanc) -> dict[str, object]:
    return {
        "Name": "tests",
        "StorageDirectory": str(folder / "storage"),
        "IndexDirectory": str(folder / "storage"),
        "Plugins": [str(plugin)],
        "HttpPort": port,
        "RemoteAccessAllowed": False,
        "AuthenticationEnabled": True,
        "RegisteredUsers": {orthanc.user: orthanc.password},
        "DicomServerEnabled": False,
        "SaveJobs": False,
        "DicomWeb": {"Enable": True, "Root": "/dicom-web/", "EnableWado": False, "Ssl": False},
    }


def _installed() -> tuple[Path, Path]:
    """Program and DICOMweb plugin."""
    program = shutil.which("Orthanc") or next((path for path in _PROGRAMS if Path(path).is_file()), None)
    if program is None:
        raise OrthancMissingError("Orthanc is not installed: apt-get install orthanc orthanc-dicomweb")
    for folder in _PLUGIN_FOLDERS:
        for plugin in sorted(Path(folder).glob("libOrthancDicomWeb.*")):
            return Path(program), plugin
    raise OrthancMissingError("Orthanc's DICOMweb plugin is not installed: apt-get install orthanc-dicomweb")


def _wait_until_it_answers(server: ManagedProcess, orthanc: Orthanc) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            orthanc.get("/system")
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        else:
            return
        server.require_running()
        if time.monotonic() > deadline:
            raise ProcessError(f"Orthanc did not answer within {START_TIMEOUT:g} s\n{server.log_tail()}")
        time.sleep(0.05)
