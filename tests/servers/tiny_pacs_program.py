"""Runs tiny-pacs-dicomweb without its DICOM network listener, which would bind all interfaces of the machine.

``python tiny_pacs_program.py FOLDER`` prints ``Listening on http://127.0.0.1:PORT`` and serves until it is killed.

Source: https://github.com/blanebf/tiny_pacs (``tiny_pacs.server.Server.start``, of which this is the half without the AE).
"""

from __future__ import annotations

import sys
import threading
from pathlib import Path

from tiny_pacs import config, http, server


def serve(folder: Path) -> None:
    """Serve DICOMweb on a free port of the loopback interface, with files and database below a folder."""
    files = folder / "files"
    files.mkdir(parents=True)
    configuration = config.Config()
    configuration.update_config(
        {
            "components": {
                "Database": {"on": True, "db_name": str(folder / "index.sqlite"), "mode": "rwc"},
                "InMemoryStorage": {"on": False},
                "FileStorage": {"on": True, "storage_dir": str(files)},
                "HttpServer": {"on": True, "host": "127.0.0.1", "port": 0},
                "DICOMWeb": {"on": True},
            }
        }
    )
    pacs = server.Server(configuration)
    pacs.bus.start()
    (web,) = [component for component in pacs.components if isinstance(component, http.HttpServer)]
    sys.stdout.write(f"Listening on http://127.0.0.1:{web.web_port}\n")
    sys.stdout.flush()
    threading.Event().wait()


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
