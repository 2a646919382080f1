"""Run the emulator from a test or a script: a process of its own, on a port of its own, stopped by its id."""

from __future__ import annotations

import json
import os
import queue
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from airflow_dicomweb.errors import ConfigurationError

DEFAULT_STORE = "projects/emulator/locations/local/datasets/tests/dicomStores/tests"

_START_TIMEOUT = 60.0
_STOP_TIMEOUT = 15.0
_REQUEST_TIMEOUT = 30.0


class Emulator:
    """A running emulator.

    :param base_url: ``http://127.0.0.1:PORT``.
    :param dicom_store: Full name of the store that was created first.
    :param process: The process, for those who want to kill it.
    """

    def __init__(self, base_url: str, dicom_store: str, process: subprocess.Popen[bytes]) -> None:
        self.base_url, self.dicom_store, self.process = base_url, dicom_store, process
        # The emulator is here: a proxy is for servers elsewhere.
        self._opener = build_opener(ProxyHandler({}))

    @property
    def dicom_web_url(self) -> str:
        """URL of the store's DICOMweb services, for clients that want one."""
        return f"{self.base_url}/v1/{self.dicom_store}/dicomWeb"

    def with_store(self, dicom_store: str) -> Emulator:
        """Give the same emulator with another store to look at."""
        return Emulator(self.base_url, dicom_store, self.process)

    def create_store(self, dicom_store: str) -> Emulator:
        """Make a store in a dataset that is there; give the emulator with it."""
        dataset, _, store = dicom_store.rpartition("/dicomStores/")
        self._ask("POST", f"/v1/{dataset}/dicomStores?dicomStoreId={store}", {})
        return self.with_store(dicom_store)

    def delete_store(self) -> None:
        """Delete the store and all it holds."""
        self._ask("DELETE", f"/v1/{self.dicom_store}")

    def requests(self) -> list[dict[str, Any]]:
        """List the requests that came, oldest first: ``method``, ``path``, ``status``, ``seconds``, ..."""
        found: list[dict[str, Any]] = self._ask("GET", "/_emulator/requests")
        return found

    def faults(self, *faults: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Put faults into force, if any are given; list all, each with the number of times it ``fired``."""
        if faults:
            self._ask("POST", "/_emulator/faults", [dict(fault) for fault in faults])
        found: list[dict[str, Any]] = self._ask("GET", "/_emulator/faults")
        return found

    def subscribe(self) -> str:
        """Let the store publish its notifications to a new topic; give the name of a new subscription to that."""
        project = "/".join(self.dicom_store.split("/")[:2])
        identifier = f"notifications-{secrets.token_hex(6)}"
        topic, subscription = f"{project}/topics/{identifier}", f"{project}/subscriptions/{identifier}"
        self._ask("PUT", f"/v1/{topic}", {})
        self._ask("PUT", f"/v1/{subscription}", {"topic": topic})
        configured = self._ask("GET", f"/v1/{self.dicom_store}").get("notificationConfigs", [])
        body = {"notificationConfigs": [*configured, {"pubsubTopic": topic}]}
        self._ask("PATCH", f"/v1/{self.dicom_store}?updateMask=notificationConfigs", body)
        return subscription

    def notifications(self, subscription: str) -> list[dict[str, Any]]:
        """Pull and acknowledge all messages that have come: ``data``, ``attributes``, ``messageId``, ``publishTime``.

        :param subscription: Name of a subscription, such as :meth:`subscribe` gives.
        """
        found: list[dict[str, Any]] = []
        pull = {"maxMessages": 1000, "returnImmediately": True}
        while received := self._ask("POST", f"/v1/{subscription}:pull", pull).get("receivedMessages"):
            self._ask("POST", f"/v1/{subscription}:acknowledge", {"ackIds": [each["ackId"] for each in received]})
            found += [each["message"] for each in received]
        return found

    def set_operation_seconds(self, seconds: float) -> None:
        """Say how long operations take at least that are started from now on."""
        self._ask("POST", "/_emulator/settings", {"operation_seconds": seconds})

    def settings(self, **changes: Any) -> dict[str, Any]:
        """Change settings, if any are given; give all. See ``docs/emulator.md`` for their names and values."""
        if changes:
            self._ask("POST", "/_emulator/settings", changes)
        found: dict[str, Any] = self._ask("GET", "/_emulator/settings")
        return found

    def restore_settings(self) -> None:
        """Give all settings the values that they had at the start."""
        self._ask("DELETE", "/_emulator/settings")

    def reset(self) -> None:
        """Forget requests and faults. What is stored stays."""
        self._ask("DELETE", "/_emulator/requests")
        self._ask("DELETE", "/_emulator/faults")

    def _ask(self, method: str, path: str, body: Any = None) -> Any:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": "Bearer emulator", "Content-Type": "application/json"}
        request = Request(self.base_url + path, data, headers, method=method)  # noqa: S310 - http, by construction
        try:
            with self._opener.open(request, timeout=_REQUEST_TIMEOUT) as answer:
                return json.load(answer)
        except HTTPError as error:
            with error:
                words = json.load(error)["error"]["message"]
            raise ConfigurationError(f"the emulator refused {method} {path.partition('?')[0]}: {words}") from None


@contextmanager
def running_emulator(
    data_dir: str | os.PathLike[str],
    *,
    operation_seconds: float = 0.0,
    create: Sequence[str] = (DEFAULT_STORE,),
    port: int = 0,
    env: Mapping[str, str] | None = None,
    python: str = sys.executable,
) -> Iterator[Emulator]:
    """Run an emulator in a process of its own on 127.0.0.1, and stop it at the end.

    :param data_dir: Where it keeps everything; the same folder again goes on where it was.
    :param operation_seconds: How long operations take at least.
    :param create: Full names of DICOM stores to make, with their datasets; the first one is ``dicom_store``.
    :param port: 0 picks a free one.
    :param env: Environment variables on top of this process's, such as ``STORAGE_EMULATOR_HOST``.
    :raises ConfigurationError: If it does not start; the message has its own words.
    """
    if not os.fspath(data_dir):
        raise ConfigurationError("data_dir must be the name of a folder, not an empty string")
    command = [python, "-m", "airflow_dicomweb.emulator", "--port", str(port), "--data-dir", str(data_dir)]
    command += ["--operation-seconds", str(operation_seconds)]
    for name in create:
        command += ["--create", name]
    log_path = Path(data_dir).absolute().with_name(f"{Path(data_dir).name}.log")
    log_path.parent.mkdir(parents=True, exist_ok=True)
    with log_path.open("ab") as log:
        process = subprocess.Popen(  # noqa: S603 - our own module
            command, stdout=subprocess.PIPE, stderr=log, env={**os.environ, **(env or {})}, start_new_session=True
        )
    try:
        yield Emulator(_address(process, log_path), create[0] if create else "", process)
    finally:
        _stop(process)


def _address(process: subprocess.Popen[bytes], log_path: Path) -> str:
    lines: queue.SimpleQueue[bytes] = queue.SimpleQueue()
    if process.stdout is not None:
        threading.Thread(target=_read_lines, args=[process.stdout, lines], daemon=True).start()
    try:
        line = lines.get(timeout=_START_TIMEOUT).decode().strip()
    except queue.Empty:
        line = ""
    prefix = "Listening on "
    if not line.startswith(prefix):
        words = log_path.read_text(errors="replace").strip()[-500:]
        raise ConfigurationError(f"the emulator did not start: {words or 'it said nothing'}")
    return line.removeprefix(prefix)


def _read_lines(stream: IO[bytes], lines: queue.SimpleQueue[bytes]) -> None:
    """Pass on the first line, and empty the pipe, so that its writer never waits."""
    lines.put(stream.readline())
    while stream.read(4096):
        pass
    stream.close()


def _stop(process: subprocess.Popen[bytes]) -> None:
    """Stop the process by its id, in any case."""
    if process.poll() is None:
        process.send_signal(signal.SIGTERM)
    deadline = time.monotonic() + _STOP_TIMEOUT
    while process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    if process.poll() is None:
        process.kill()
        process.wait()
