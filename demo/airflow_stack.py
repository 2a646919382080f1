"""A real Airflow on this machine: api-server, scheduler with LocalExecutor, dag-processor and triggerer.

Four processes, one SQLite database, free ports of 127.0.0.1, everything below one folder. Each component can be
stopped, with any signal, and started again while the others run: that is how failures are rehearsed.

Source: https://airflow.apache.org/docs/apache-airflow/stable/configurations-ref.html
"""

from __future__ import annotations

import base64
import os
import secrets
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from demo.airflow_api import AirflowApi, AirflowApiError
from demo.processes import ManagedProcess, ProcessError, free_port, stop_all

COMPONENTS: dict[str, tuple[str, ...]] = {
    "api-server": ("api-server",),
    "scheduler": ("scheduler", "--skip-serve-logs"),
    "dag-processor": ("dag-processor",),
    "triggerer": ("triggerer", "--skip-serve-logs"),
}
"""Component -> arguments of ``airflow``."""

_HEALTH_KEYS = {"scheduler": "scheduler", "dag-processor": "dag_processor", "triggerer": "triggerer"}


class AirflowStack:
    """Airflow as four processes, from ``with`` to the end of its block.

    Entering prepares the database and starts the components; ``wait_until_healthy`` tells when they are up.

    :param folder: Becomes AIRFLOW_HOME (configuration, database, task logs) and holds a log file for each
        component. It is created when missing.
    :param dags_folder: Where the DAG files are.
    :param environment: Additional environment variables of all components, for example ``AIRFLOW_CONN_...``;
        they win over what is set here.
    :param parallelism: Tasks that run at the same time, as many as worker processes that the scheduler starts.
    """

    def __init__(
        self,
        folder: Path,
        *,
        dags_folder: Path,
        environment: Mapping[str, str] | None = None,
        parallelism: int = 4,
    ) -> None:
        self.folder = folder.absolute()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.api = AirflowApi(self.url)
        settings = _settings(self.folder, dags_folder.absolute(), port=self.port, parallelism=parallelism)
        self._environment = {**_inherited_environment(), **settings, **(environment or {})}
        self.processes = {name: self._process(name, arguments) for name, arguments in COMPONENTS.items()}

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        try:
            self._process("db-migrate", ("db", "migrate")).run_to_end(timeout=180.0)
            for name in COMPONENTS:
                self.start(name)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop all components and whatever they started."""
        # The scheduler would wait for tasks that are still running; they end with it.
        stop_all(self.processes.values(), timeout=8.0)
        self.api.close()

    def start(self, component: str) -> None:
        """Start one component, for the first time or again.

        :param component: A key of ``COMPONENTS``.
        """
        self.processes[component].start()

    def stop(self, component: str, signal_number: int = signal.SIGTERM, *, timeout: float = 30.0) -> None:
        """Stop one component and leave the others alone.

        :param component: A key of ``COMPONENTS``.
        :param signal_number: ``signal.SIGKILL`` ends it with all of its children, as a power cut would.
        :param timeout: Seconds after which what is left of it is killed.
        """
        self.processes[component].stop(signal_number, timeout=timeout)

    def wait_until_healthy(self, *, timeout: float = 180.0, components: Sequence[str] = tuple(COMPONENTS)) -> float:
        """Wait until the components report a heartbeat; the seconds that it took.

        A component that was killed counts as healthy until its last heartbeat is old
        (``[scheduler] scheduler_health_check_threshold`` and the like).

        :param timeout: Seconds to wait.
        :param components: The ones that matter.
        :raises ProcessError: One of them ended, or is not healthy in time; the message has the end of its log.
        """
        started = time.monotonic()
        while waiting := self._unhealthy(components):
            for name in components:
                self.processes[name].require_running()
            if time.monotonic() - started > timeout:
                tails = "\n".join(f"  {name}:\n{self.processes[name].log_tail()}" for name in waiting)
                raise ProcessError(
                    f"Not healthy within {timeout:g} s: {', '.join(waiting)}. The ends of the logs:\n{tails}"
                )
            time.sleep(0.5)
        return time.monotonic() - started

    def _unhealthy(self, components: Sequence[str]) -> list[str]:
        try:
            health = self.api.health()
        except AirflowApiError:
            return ["api-server"]
        names = [name for name in components if name in _HEALTH_KEYS]
        return [name for name in names if health.get(_HEALTH_KEYS[name]) != "healthy"]

    def _process(self, name: str, arguments: Sequence[str]) -> ManagedProcess:
        command = [sys.executable, "-m", "airflow", *arguments]
        return ManagedProcess(
            name, command, environment=self._environment, log_path=self.folder / "components" / f"{name}.log"
        )


def _inherited_environment() -> dict[str, str]:
    # The caller's own Airflow (its home, its database, its connections) must not leak into this one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment.get("PATH", os.defpath)])
    return environment


def _settings(folder: Path, dags_folder: Path, *, port: int, parallelism: int) -> dict[str, str]:
    url = f"http://127.0.0.1:{port}"
    return {
        "AIRFLOW_HOME": str(folder),
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags_folder),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        # A DAG is unpaused when it is wanted, so that no schedule fires in between.
        "AIRFLOW__CORE__DAGS_ARE_PAUSED_AT_CREATION": "True",
        "AIRFLOW__CORE__EXECUTOR": "LocalExecutor",
        "AIRFLOW__CORE__PARALLELISM": str(parallelism),
        "AIRFLOW__CORE__SIMPLE_AUTH_MANAGER_ALL_ADMINS": "True",
        # Without it tasks call port 8080.
        "AIRFLOW__CORE__EXECUTION_API_SERVER_URL": f"{url}/execution/",
        # The processes have to agree on these two; both are made anew for each run.
        "AIRFLOW__CORE__FERNET_KEY": base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
        "AIRFLOW__API_AUTH__JWT_SECRET": secrets.token_urlsafe(64),
        "AIRFLOW__API__SECRET_KEY": secrets.token_urlsafe(32),
        "AIRFLOW__API__HOST": "127.0.0.1",
        "AIRFLOW__API__PORT": str(port),
        "AIRFLOW__API__BASE_URL": url,
        "AIRFLOW__API__WORKERS": "1",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{folder}/airflow.db",
        "AIRFLOW__SCHEDULER__ENABLE_HEALTH_CHECK": "False",
        "AIRFLOW__SCHEDULER__TRIGGER_TIMEOUT_CHECK_INTERVAL": "2",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
        # With the default of 5 s a worker's end is noticed late, and a task that came back from a short
        # deferral in the meantime can be taken for dead (apache/airflow 66374).
        "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "1",
        "no_proxy": "127.0.0.1,localhost",
        "NO_PROXY": "127.0.0.1,localhost",
    }
