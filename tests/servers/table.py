"""The README's table of servers, made by asking those that run here: ``python -m tests.servers.table``.

What a server does is asked without the client that is described beside it: the table is what the habits of that client
are held against. dcm4chee does not run here; its column is from its sources and says so.

Source: DICOM PS3.18 chapter 10 (Studies service).
"""

from __future__ import annotations

import base64
import json
import sys
import tempfile
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from airflow_dicomweb.dicomweb.resources import InstancePath
from airflow_dicomweb.emulator import Emulator, running_emulator
from tests.servers.every import Server, data_set_bytes, jpeg, new_uid, server_of, write_image, write_study
from tests.servers.orthanc import Orthanc, running_orthanc
from tests.servers.tiny_pacs import running_tiny_pacs

README = Path(__file__).parents[2] / "README.md"
BEGIN, END = "<!-- servers: made by python -m tests.servers.table -->", "<!-- servers: end -->"
YES, NO = "yes", "no"

DCM4CHEE = {
    "store": YES,
    "one instance without multipart": NO,
    "comes back as it was sent": "the elements",
    "the same again": "accepted",
    "other bytes, same UIDs": "accepted; what is kept depends on its overwrite policy",
    "search": YES,
    "instances of a study in one search": YES,
    "retrieve": YES,
    "metadata, JSON": YES,
    "metadata, XML": YES,
    "frames": YES,
    "rendered": YES,
    "bulk data": YES,
    "create an instance": "from JSON and bulk data",
    "delete": "its own way: reject first",
}


@dataclass
class Reply:
    """What a server answered.

    :param status: HTTP status.
    :param headers: Its headers.
    :param body: Its body.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def ok(self) -> bool:
        """Whether there is something in it."""
        return self.status == 200 and bool(self.body)


@dataclass
class Asked:
    """A server, asked by nothing but the standard library.

    :param server: Which.
    :param folder: Empty folder for instances.
    """

    server: Server
    folder: Path
    study: str = field(default_factory=new_uid)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Send a request below the DICOMweb root."""
        request = urllib.request.Request(f"{self.server.url}/{path}", body, method=method)
        for name, value in headers.items():
            request.add_header(name.replace("_", "-"), value)
        match self.server.running:
            case Orthanc(user=user, password=password):
                token = base64.b64encode(f"{user}:{password}".encode()).decode()
                request.add_header("Authorization", f"Basic {token}")
            case Emulator():
                request.add_header("Authorization", "Bearer any")
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(request, timeout=30.0) as answer:
                return Reply(answer.status, answer.headers, answer.read())
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.headers, error.read())

    def store(self, *parts: bytes, kind: str = "application/dicom") -> Reply:
        """Store Part 10 files, or the parts of another kind."""
        body = b"".join(
            b"--edge\r\nContent-Type: "
            + (each if kind != "application/dicom" else b"application/dicom\r\n\r\n" + each)
            + b"\r\n"
            for each in parts
        )
        content_type = f'multipart/related; type="{kind}"; boundary=edge'
        return self.ask(
            "POST", "studies", body + b"--edge--", Content_Type=content_type, Accept="application/dicom+json"
        )

    def fetch(self, path: InstancePath) -> bytes:
        """Fetch an instance as it is stored."""
        reply = self.ask("GET", str(path), Accept='multipart/related; type="application/dicom"; transfer-syntax=*')
        boundary = reply.headers["Content-Type"].partition("boundary=")[2].split(";")[0].strip('"').encode()
        return reply.body.split(b"--" + boundary)[1].partition(b"\r\n\r\n")[2].removesuffix(b"\r\n")


def referenced(reply: Reply) -> bool:
    """Whether an answer says that everything was stored."""
    said = json.loads(reply.body) if reply.status == 200 else {}
    # Orthanc lists no failure as an empty list of failures.
    return bool(said.get("00081199", {}).get("Value")) and not said.get("00081198", {}).get("Value")


def probe(server: Server, folder: Path) -> dict[str, str]:
    """Ask a server what it does; gives the rows of its column."""
    asked = Asked(server, folder)
    image = write_image(folder / "image", asked.study)
    sent = (folder / "image" / "image.dcm").read_bytes()
    first = referenced(asked.store(sent))
    kept = asked.fetch(image)
    same = "byte for byte" if kept == sent else "the data set" if data_set_bytes(kept) == data_set_bytes(sent) else NO
    again = referenced(asked.store(sent))
    other = bytearray(sent)
    other[-100] ^= 1
    replaced = asked.store(bytes(other))
    unchanged = asked.fetch(image) == kept
    return {
        "store": YES if first else NO,
        "one instance without multipart": _single_part(asked),
        "comes back as it was sent": same,
        "the same again": "accepted" if again else "refused",
        "other bytes, same UIDs": f"{'accepted' if referenced(replaced) else 'refused'}; "
        + ("keeps the first" if unchanged else "keeps the last"),
        "search": _levels(asked),
        "instances of a study in one search": _found(asked, f"studies/{image.study}/instances"),
        "retrieve": _all(asked, [f"studies/{image.study}", f"studies/{image.study}/series/{image.series}", str(image)]),
        "metadata, JSON": _is(asked, f"{image}/metadata", "application/dicom+json", lambda body: body[:1] == b"["),
        "metadata, XML": _is(
            asked,
            f"{image}/metadata",
            'multipart/related; type="application/dicom+xml"',
            lambda body: b"NativeDicomModel" in body,
        ),
        "frames": _is(
            asked,
            f"{image}/frames/2",
            'multipart/related; type="application/octet-stream"; transfer-syntax=*',
            lambda body: len(body) > 8192,
        ),
        "rendered": _is(asked, f"{image}/rendered", "image/png", lambda body: b"\x89PNG" in body),
        "bulk data": _bulk_data(asked, image),
        "create an instance": _creation(asked),
        "delete": _deletion(asked),
    }


def _single_part(asked: Asked) -> str:
    (path,) = write_study(asked.folder / "single", f"{asked.study}.7", series=1, instances=1)
    content = (asked.folder / "single" / f"{path.instance}.dcm").read_bytes()
    reply = asked.ask("POST", "studies", content, Content_Type="application/dicom", Accept="application/dicom+json")
    return YES if reply.status == 200 else NO


def _found(asked: Asked, path: str) -> str:
    reply = asked.ask("GET", path, Accept="application/dicom+json")
    return YES if reply.ok and json.loads(reply.body) else NO


def _levels(asked: Asked) -> str:
    study, series = asked.study, f"{asked.study}.1"
    below = (
        f"studies?StudyInstanceUID={study}",
        f"studies/{study}/series",
        f"studies/{study}/series/{series}/instances",
    )
    if any(_found(asked, path) == NO for path in below):
        return NO
    across = (f"series?SeriesInstanceUID={series}", f"instances?SOPInstanceUID={series}.1")
    return YES if all(_found(asked, path) == YES for path in across) else "only below a study or series"


def _all(asked: Asked, paths: list[str]) -> str:
    accept = 'multipart/related; type="application/dicom"; transfer-syntax=*'
    return YES if all(asked.ask("GET", path, Accept=accept).ok for path in paths) else NO


def _is(asked: Asked, path: str, accept: str, right: Callable[[bytes], bool]) -> str:
    reply = asked.ask("GET", path, Accept=accept)
    return YES if reply.ok and right(reply.body) else NO


def _bulk_data(asked: Asked, image: InstancePath) -> str:
    reply = asked.ask("GET", f"{image}/metadata", Accept="application/dicom+json")
    if not reply.ok:
        return NO
    uri = json.loads(reply.body)[0].get("7FE00010", {}).get("BulkDataURI", "")
    path = uri.removeprefix(asked.server.url).lstrip("/")
    return _is(asked, path, 'multipart/related; type="application/octet-stream"', lambda body: len(body) > 3 * 8192)


def _creation(asked: Asked) -> str:
    with asked.server.client() as client:
        metadata = {"PatientID": "P1", "StudyInstanceUID": f"{asked.study}.8"}
        (direct,) = client.create_instance(metadata, jpeg(), as_part10=False, namespace="json").outcomes
        if direct.outcome == "created":
            return "from JSON and bulk data"
        (built,) = client.create_instance(metadata, jpeg(), as_part10=True, namespace="part 10").outcomes
    return "as a file made here" if built.outcome == "created" else NO


def _deletion(asked: Asked) -> str:
    (path,) = write_study(asked.folder / "doomed", f"{asked.study}.9", series=1, instances=1)
    asked.store((asked.folder / "doomed" / f"{path.instance}.dcm").read_bytes())
    status = asked.ask("DELETE", str(path)).status
    found = asked.ask("GET", f"{path}", Accept='multipart/related; type="application/dicom"').status
    if status in {200, 202, 204} and found == 404:
        return YES
    return f"its own way: DICOMweb answers {status}"


def table(columns: Mapping[str, Mapping[str, str]]) -> str:
    """Write the table down."""
    rows = list(next(iter(columns.values())))
    lines = [f"| | {' | '.join(columns)} |", f"|---|{'---|' * len(columns)}"]
    lines += [f"| {row} | {' | '.join(column[row] for column in columns.values())} |" for row in rows]
    return "\n".join(lines)


def run(servers: Mapping[str, Server], folder: Path) -> str:
    """Ask servers, by the heads of their columns; gives the table with what is known of others."""
    columns = {}
    for number, (head, server) in enumerate(servers.items()):
        place = folder / str(number)
        place.mkdir()
        columns[head] = probe(server, place)
    return table({**columns, "dcm4chee-arc 5 (as documented, not run)": DCM4CHEE})


def heads(google: Server, orthanc: Server, tiny_pacs: Server) -> dict[str, Server]:
    """Name the columns."""
    assert isinstance(orthanc.running, Orthanc)
    known = json.loads(orthanc.running.get("/system"))["Version"]
    return {
        "Cloud Healthcare API (the emulator)": google,
        f"Orthanc {known}": orthanc,
        f"tiny-pacs-dicomweb {version('tiny-pacs-dicomweb')}": tiny_pacs,
    }


def in_readme(text: str) -> str:
    """Give the table that a README has.

    :raises ValueError: If it has no place for one.
    """
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)].strip()


def main() -> None:
    """Run the servers, and write what they do into the README."""
    with tempfile.TemporaryDirectory() as name, ExitStack() as running:
        folder = Path(name)
        places = {each: folder / each for each in ("google", "orthanc", "tiny-pacs", "probes")}
        for place in places.values():
            place.mkdir()
        servers = heads(
            server_of(running.enter_context(running_emulator(places["google"] / "data"))),
            server_of(running.enter_context(running_orthanc(places["orthanc"]))),
            server_of(running.enter_context(running_tiny_pacs(places["tiny-pacs"]))),
        )
        made = run(servers, places["probes"])
    text = README.read_text()
    start, end = text.index(BEGIN) + len(BEGIN), text.index(END)
    README.write_text(f"{text[:start]}\n\n{made}\n\n{text[end:]}")
    sys.stdout.write(f"{made}\n")


if __name__ == "__main__":
    main()
