"""The project's own emulator of the Cloud Healthcare API, as a program beside this one."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from demo.processes import ManagedProcess


@contextmanager
def running_emulator(
    folder: Path,
    *,
    dicom_store: str,
    operation_seconds: float,
    environment: Mapping[str, str] | None = None,
) -> Iterator[str]:
    """Run the emulator with one empty DICOM store, and yield its base URL.

    :param folder: For its data (``data``, kept afterwards) and its log (``emulator.log``).
    :param dicom_store: Full name of the DICOM store.
    :param operation_seconds: How long a long-running operation takes.
    :param environment: Additional environment variables, such as ``STORAGE_EMULATOR_HOST``.
    :raises ProcessError: It ended, or was not ready in time.
    """
    command = [sys.executable, "-m", "airflow_dicomweb.emulator", "--host", "127.0.0.1", "--port", "0"]
    command += ["--data-dir", str(folder / "data"), "--create", dicom_store]
    command += ["--operation-seconds", f"{operation_seconds:g}"]
    emulator = ManagedProcess(
        "Healthcare API emulator",
        command,
        environment={**os.environ, "PYTHONUNBUFFERED": "1", **(environment or {})},
        log_path=folder / "emulator.log",
    )
    try:
        emulator.start()
        yield emulator.wait_for_line("Listening on ", timeout=60.0)
    finally:
        emulator.stop()
