"""One run of one Python client, in a process of its own: ``python -m benchmarks.client_process`` with a JSON job on stdin.

The clock and the memory count from when everything is imported to when the client has returned. The last line of the
output is a JSON object: ``seconds``, ``cpu_seconds``, ``peak_rss_mib`` (above the start) and ``result``.

Source: https://docs.kernel.org/filesystems/proc.html (VmRSS, VmHWM, clear_refs).
"""

from __future__ import annotations

import json
import os
import sys
import time
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

Job = dict[str, Any]
Action = Callable[[], Any]


def main() -> None:
    """Do the job and print what it took."""
    job: Job = json.load(sys.stdin)
    action = _ACTIONS[job["client"], job["action"]](job)
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far is forgotten
    resident = memory(os.getpid(), "VmRSS")
    start, cpu = time.perf_counter(), time.process_time()
    result = action()
    measured = {
        "seconds": time.perf_counter() - start,
        "cpu_seconds": time.process_time() - cpu,
        "peak_rss_mib": memory(os.getpid(), "VmHWM") - resident,
        "result": result,
    }
    print(json.dumps(measured))


def memory(process: int, which: str) -> float:
    """Give a line of a process's status in MiB: ``VmRSS`` is what it holds, ``VmHWM`` the most that it held."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith(which):
            return int(line.split()[1]) / 1024
    return 0.0


def _our_client(job: Job) -> Any:
    from airflow_dicomweb.dicomweb.auth import Anonymous, Basic, Bearer, Credentials
    from airflow_dicomweb.dicomweb.client import DicomWebClient

    credentials: Credentials = Anonymous()
    if job["password"]:
        credentials = Basic(job["user"], job["password"]) if job["user"] else Bearer(job["password"])
    return DicomWebClient(job["url"], credentials=credentials)


def _store_with_ours(job: Job) -> Action:
    client = _our_client(job)

    def store() -> dict[str, int]:
        with client:
            result = client.store(job["folder"], workers=job["workers"])
        return {"created": result.created, "other": len(result.outcomes) - result.created}

    return store


def _retrieve_with_ours(job: Job) -> Action:
    client = _our_client(job)

    def retrieve() -> int:
        with client:
            return len(client.retrieve(*job["resource"], destination=job["folder"]))

    return retrieve


def _search_with_ours(job: Job) -> Action:
    import pydicom.datadict  # noqa: F401 - the keywords of the results are in it

    client = _our_client(job)

    def pages() -> int:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(job["requests"]) as answer:
            return sum(request["method"] == "GET" and "/instances" in request["path"] for request in json.load(answer))

    before = pages()

    def search() -> dict[str, int]:
        with client:
            found = client.search_instances(study=job["resource"][0])
            count = int(next(found, None) is not None)
            asked = pages() - before
            for _ in found:
                count += 1
        return {"found": count, "pages_before_the_first_result": asked, "pages": pages() - before}

    return search


def _their_client(job: Job) -> Any:
    import requests
    from dicomweb_client.api import DICOMwebClient

    session = requests.Session()
    session.trust_env = False
    if job["user"]:
        session.auth = (job["user"], job["password"])
    # Without this, requests asks for gzip, and Orthanc takes ten times as long.
    session.headers["Accept-Encoding"] = "identity"
    # Its default gives up, and sends again, after 20 seconds.
    return DICOMwebClient(job["url"], session=session, timeout=300)


def _store_with_theirs(job: Job) -> Action:
    import pydicom

    client = _their_client(job)

    def store() -> dict[str, int]:
        client.store_instances([pydicom.dcmread(path) for path in sorted(Path(job["folder"]).iterdir())])
        return {}

    return store


def _retrieve_with_theirs(job: Job) -> Action:
    client = _their_client(job)

    def retrieve() -> int:
        folder, count = Path(job["folder"]), 0
        folder.mkdir(parents=True, exist_ok=True)
        study = job["resource"][0]
        for instance in client.iter_study(study, media_types=(("application/dicom", "*"),)):
            instance.save_as(folder / f"{instance.SOPInstanceUID}.dcm")
            count += 1
        return count

    return retrieve


_ACTIONS: dict[tuple[str, str], Callable[[Job], Action]] = {
    ("ours", "store"): _store_with_ours,
    ("ours", "retrieve"): _retrieve_with_ours,
    ("ours", "search"): _search_with_ours,
    ("dicomweb-client", "store"): _store_with_theirs,
    ("dicomweb-client", "retrieve"): _retrieve_with_theirs,
}

if __name__ == "__main__":
    main()
