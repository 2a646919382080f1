"""The servers behind the proxy, what they hold, and instances of known bytes to give them."""

from __future__ import annotations

import base64
import hashlib
import http.client
import os
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from airflow_dicomweb.dicomweb.auth import Credentials
from airflow_dicomweb.dicomweb.client import DicomWebClient
from tests.dicomweb.instances import part10
from tests.faults.retrieve_answers import parts_of
from tests.servers.fault_proxy import Reply

MEBIBYTE = 2**20
# What a parser trips over is in the data of all instances: "inside" and "closing" must not be boundaries.
_STUMBLING_STONES = b"\r\n--framed\r\n\r\n--frame-\r\n--\r\n--inside\r\n\r\n--closing--\r\n\r\n"
_TEMPLATE_STUDY = "2.25.10000000000000000000"


@dataclass(frozen=True)
class Shape:
    """How much is stored or retrieved.

    :param count: Instances.
    :param size: Bytes of pixel data of each.
    :param batch_count: Most instances in a request.
    :param workers: Requests at the same time.
    """

    count: int
    size: int
    batch_count: int
    workers: int


SHAPES = {
    "large": Shape(1, 20 * MEBIBYTE, 1, 1),
    "small": Shape(200, 1024, 200, 1),
    "batches": Shape(200, 1024, 50, 2),
}


@dataclass(frozen=True)
class Server:
    """A running server.

    :param name: For ids.
    :param root: ``http://127.0.0.1:PORT``, where the proxy relays to.
    :param dicomweb_path: Path of the DICOMweb services below it.
    :param credentials: For the client and for looking.
    :param client: Makes a client that turns to a root, the proxy's or the server's own.
    :param forget: Removes a study.
    """

    name: str
    root: str
    dicomweb_path: str
    credentials: Credentials
    client: Callable[..., DicomWebClient]
    forget: Callable[[str], None]

    def held(self, study: str) -> Counter[str]:
        """SHA-256 of each instance of a study that the server has, asked without the client."""
        parts = urlsplit(self.root)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        headers = {"Accept": 'multipart/related; type="application/dicom"; transfer-syntax=*'}
        try:
            path = f"{self.dicomweb_path}/studies/{study}"
            connection.request("GET", path, headers=headers | self.credentials.headers())
            answer = connection.getresponse()
            content = answer.read()
        finally:
            connection.close()
        if answer.status == 404:
            return Counter()
        assert answer.status == 200, answer.status
        parts = parts_of(Reply(200, [("Content-Type", answer.headers["Content-Type"])], content))
        return Counter(map(sha256, parts))


def sha256(content: bytes) -> str:
    """In hexadecimal."""
    return hashlib.sha256(content).hexdigest()


def basic(user: str, password: str) -> dict[str, str]:
    """The header of basic authentication."""
    return {"Authorization": f"Basic {base64.b64encode(f'{user}:{password}'.encode()).decode()}"}


@cache
def _template(size: int) -> bytes:
    rows = {1024: 32}.get(size, 4096)
    return part10(
        StudyInstanceUID=_TEMPLATE_STUDY,
        SeriesInstanceUID=f"{_TEMPLATE_STUDY}.1",
        SOPInstanceUID=f"{_TEMPLATE_STUDY}.1.1000",
        Rows=rows,
        Columns=size // rows,
        BitsAllocated=8,
        BitsStored=8,
        HighBit=7,
        PixelRepresentation=0,
        SamplesPerPixel=1,
        PhotometricInterpretation="MONOCHROME2",
        PixelData=(_STUMBLING_STONES + random.Random(size).randbytes(size))[:size],
    )


def new_study() -> str:
    """A Study Instance UID that nobody has; always of the same length."""
    return f"2.25.{10**19 + int.from_bytes(os.urandom(8)) % (9 * 10**19)}"


def instances(study: str, shape: Shape) -> list[bytes]:
    """Contents of so many instances of a study."""
    template = _template(shape.size).replace(_TEMPLATE_STUDY.encode(), study.encode())
    return [template.replace(b".1.1000", b".1.%04d" % number) for number in range(1000, 1000 + shape.count)]


def write(folder: Path, contents: list[bytes]) -> None:
    """Write instances to files whose order is theirs."""
    folder.mkdir()
    for number, content in enumerate(contents):
        (folder / f"{number:04}.dcm").write_bytes(content)
