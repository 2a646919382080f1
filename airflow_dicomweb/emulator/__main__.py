"""``python -m airflow_dicomweb.emulator``: run the emulator until SIGTERM or SIGINT."""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from types import FrameType
from typing import NoReturn

from airflow_dicomweb.errors import ConfigurationError
from airflow_dicomweb.healthcare.names import DicomStoreName


def main(arguments: list[str] | None = None) -> int:
    """Run the emulator; give the exit status."""
    # From the first moment on; once requests are answered, the server lets those under way end.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _leave)
    options = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s %(name)s: %(message)s")
    # What is kept are patients' data, or look like them: nobody else is to read them.
    os.umask(0o077)
    try:
        # Imported after the arguments were read: a wrong one is told at once.
        from airflow_dicomweb.emulator.app import application
        from airflow_dicomweb.emulator.listening import listen, serve
        from airflow_dicomweb.emulator.metadata import read_leniently
        from airflow_dicomweb.emulator.service import Service
    except ModuleNotFoundError as error:
        return _failed(f"{error.name} is missing: pip install 'airflow-dicomweb[emulator]' brings it")
    read_leniently()
    try:
        opened = listen(options.host, options.port)
    except OSError as error:
        return _failed(f"cannot listen on {options.host}:{options.port}: {error.strerror}")
    try:
        service = Service(options.data_dir, options.operation_seconds)
    except (ConfigurationError, OSError) as error:
        opened.close()
        return _failed(str(error))
    for name in options.create:
        service.stores.create(name)
    service.runner.resume()
    host = f"[{options.host}]" if ":" in options.host else options.host
    address = f"http://{host}:{opened.getsockname()[1]}"
    try:
        serve(application(service), opened, lambda: print(f"Listening on {address}", flush=True))
    finally:
        service.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m airflow_dicomweb.emulator",
        description="A local Cloud Healthcare API for DICOM. Not for patients' data: any token opens it.",
    )
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on (default: %(default)s)")
    parser.add_argument("--port", type=_port, default=8085, help="0 picks a free one (default: %(default)s)")
    parser.add_argument("--data-dir", type=_folder, required=True, metavar="DIR", help="where everything is kept")
    parser.add_argument(
        "--operation-seconds",
        type=_seconds,
        default=0.0,
        metavar="S",
        help="how long each operation takes at least (default: no time)",
    )
    parser.add_argument(
        "--create",
        type=_store,
        action="append",
        default=[],
        metavar="projects/P/locations/L/datasets/D/dicomStores/S",
        help="make this DICOM store, and its dataset, if it is not there; may be given more than once",
    )
    return parser


def _folder(text: str) -> Path:
    if not text:
        raise argparse.ArgumentTypeError("the name of a folder is expected")
    return Path(text)


def _port(text: str) -> int:
    if not text.isdigit() or int(text) > 65535:
        raise argparse.ArgumentTypeError("a port is a number from 0 to 65535")
    return int(text)


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds <= 7 * 24 * 3600:
        raise argparse.ArgumentTypeError("a number of seconds from 0 to a week is expected")
    return seconds


def _store(text: str) -> DicomStoreName:
    try:
        return DicomStoreName.parse(text)
    except ConfigurationError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """End before the start was over."""
    raise SystemExit(0)


def _failed(reason: str) -> int:
    print(f"error: {reason}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
