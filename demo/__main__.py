"""``python -m demo``: run the demonstration; the last line of its output is one JSON object.

``KEEP=1`` in the environment leaves everything running until Ctrl-C.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
from contextlib import suppress
from pathlib import Path

from demo.airflow_api import AirflowApiError
from demo.airflow_runs import RunFailedError
from demo.facts import Facts
from demo.presentation import table_of
from demo.processes import ProcessError, stopping_on_signals
from demo.run import Clock, demonstrate, fresh_folder, publish, running_services

FOLDER = Path("build") / "demo"
_INTERRUPTED = 130


def main() -> int:
    """Run the demonstration; the exit status, 0 only when every check holds."""
    clock, facts = Clock(), Facts()
    interrupted = 0
    try:
        with stopping_on_signals():
            _run(facts, clock, keep=os.environ.get("KEEP", "") not in ("", "0"))
    except KeyboardInterrupt:
        facts.error, interrupted = facts.error or "interrupted", _INTERRUPTED
    except SystemExit as leaving:
        facts.error, interrupted = facts.error or "terminated", int(leaving.code or 1)
    except Exception as error:  # noqa: BLE001 - whatever it was, the last line of the output tells it
        _note(facts, error)
    summary = facts.summary(clock.seconds)
    print(json.dumps({**summary, "error": facts.error.partition("\n")[0]} if facts.error else summary), flush=True)
    return interrupted or (0 if facts.ok else 1)


def _run(facts: Facts, clock: Clock, *, keep: bool) -> None:
    folder = fresh_folder(FOLDER.absolute())
    with running_services(folder, clock.say) as services:
        try:
            demonstrate(facts, services, folder, clock.say)
        except Exception as error:  # noqa: BLE001 - the report tells it; KEEP=1 leaves everything up to look at
            _note(facts, error)
        finally:
            path = publish(facts, services, folder, clock)
            print(f"\n{table_of(facts)}\n\n  {path.relative_to(Path.cwd())}\n", flush=True)
        if keep:
            print(f"Airflow is at {services.airflow.url} (no password). Ctrl-C stops everything.", flush=True)
            with suppress(KeyboardInterrupt):
                while True:
                    time.sleep(3600.0)


def _note(facts: Facts, error: Exception) -> None:
    if isinstance(error, ProcessError | RunFailedError | AirflowApiError):
        facts.error = str(error)
        print(facts.error, file=sys.stderr)
    else:
        facts.error = f"{type(error).__name__}: {error}"
        traceback.print_exception(error)


if __name__ == "__main__":
    sys.exit(main())
