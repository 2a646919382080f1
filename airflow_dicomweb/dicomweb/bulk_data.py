"""Where bulk data is: the URIs that metadata has in the place of large values.

A server's URI is followed only to that server and only below the root of its retrievals: with it go the credentials.
What could lead elsewhere is refused before anything is sent, dots and slashes in any encoding included.

Source: DICOM PS3.18 sections 10.4.1.1.5 (bulkdata resources) and F.2.2 (BulkDataURI); RFC 3986 sections 5.2 and 5.3.
"""

from __future__ import annotations

import errno
import os
import re
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit

from airflow_dicomweb.dicomweb.addresses import BaseUrl
from airflow_dicomweb.dicomweb.answers import StreamedAnswer
from airflow_dicomweb.dicomweb.folders import local_path
from airflow_dicomweb.dicomweb.incoming import Incoming, writing
from airflow_dicomweb.dicomweb.media_types import DICOM_JSON, MULTIPART, OCTET_STREAM, MediaType
from airflow_dicomweb.dicomweb.multipart import PartData, PartStart
from airflow_dicomweb.dicomweb.resources import ResourcePath
from airflow_dicomweb.dicomweb.wado import parts
from airflow_dicomweb.errors import ConfigurationError, ProtocolError

Ask = Callable[[str, str], AbstractContextManager[StreamedAnswer]]
"""Asks for a URL with an Accept header."""

MAX_BYTES = 512 * 2**20

ACCEPT = f'{MULTIPART}; type="{OCTET_STREAM}"; transfer-syntax=*'
ACCEPT_SINGLE = f"{OCTET_STREAM}; transfer-syntax=*"

_REFUSED = re.compile(r"[\s\x00-\x1f\x7f\\#]")
_NEVER = re.compile(r"[\x00-\x1f\x7f\\]")


@dataclass(frozen=True, slots=True)
class BulkData:
    """The value of an attribute that is too large for metadata.

    :param media_type: Mostly ``application/octet-stream``.
    :param transfer_syntax: UID, or an empty string if the server did not say.
    :param size: Bytes.
    :param data: The bytes; None if they went to a file.
    """

    media_type: str
    transfer_syntax: str
    size: int
    data: bytes | None = None


def resolve(uri: object, root: str, of: ResourcePath | None = None) -> str:
    """Give the URL of bulk data.

    :param uri: As the metadata has it: a whole URL, a path, or relative.
    :param root: URL below which everything is that can be retrieved.
    :param of: In whose metadata it stands: what is relative is relative to that; None: relative to the root.
    :raises ConfigurationError: If it leads to another server, out of the root, or is no URI.
    """
    if not isinstance(uri, str) or not uri or not uri.isascii() or _REFUSED.search(uri):
        raise ConfigurationError("a bulk data URI must be the text of a BulkDataURI, as the server's metadata has it")
    _check_segments(uri)
    root = root.rstrip("/")
    found = urljoin(f"{root}/{of}/metadata" if of is not None else f"{root}/", uri)
    if urlsplit(found).scheme not in {"http", "https"}:
        raise ConfigurationError("a bulk data URI must be of the server, by http or https")
    # The same server: BaseUrl refuses other schemes, user info, hosts and ports.
    url = BaseUrl.parse(root).url(found)
    path, wanted = urlsplit(url).path, f"{urlsplit(root).path}/"
    if not path.startswith(wanted) or path == wanted:
        raise ConfigurationError(
            "a bulk data URI leads out of the root of the server's retrievals: credentials are not sent there"
        )
    return url


def _check_segments(uri: str) -> None:
    """Refuse what a server might read as another path than this package does, however often it decodes."""
    try:
        path = urlsplit(uri).path
    except ValueError:
        raise ConfigurationError("a bulk data URI has an address that cannot be one") from None
    while (decoded := unquote(path)) != path:
        if decoded.count("/") != path.count("/"):
            raise ConfigurationError("a bulk data URI must not hold an encoded slash")
        path = decoded
    if not path or "//" in path or {".", ".."} & set(path.split("/")) or _NEVER.search(path):
        raise ConfigurationError(
            "a bulk data URI must not hold an empty segment, '.' or '..' as a segment, a backslash or control characters, "
            "encoded or not"
        )


def into_memory(ask: Ask, url: str, accept: str, max_bytes: int) -> BulkData:
    """Ask once, and hold the value.

    :raises ProtocolError: If it is larger than allowed, or not one value.
    """
    content = bytearray()

    def take(data: bytes) -> None:
        content.extend(data)
        if len(content) > max_bytes:
            raise ProtocolError(f"the bulk data is larger than {max_bytes} bytes: give it a file as destination")

    found = _receive(ask, url, accept, take)
    return replace(found, data=bytes(content))


def into_file(ask: Ask, url: str, accept: str, target: Path) -> BulkData:
    """Ask once, and write the value to a file, which gets its name when it is whole.

    :raises ConfigurationError: If it cannot be written.
    :raises ProtocolError: If it is not one value.
    """
    with writing():
        descriptor, name = tempfile.mkstemp(prefix=".", suffix=".part", dir=target.parent)
    incoming = Incoming(os.fdopen(descriptor, "wb"), Path(name))
    try:
        found = _receive(ask, url, accept, incoming.write)
        with writing():
            incoming.file.close()
            Path(name).replace(target)
    except BaseException:
        incoming.discard()
        raise
    return found


def check_file(destination: object) -> Path:
    """See that a file can be written; nothing is.

    :raises ConfigurationError: If not.
    """
    text = local_path(destination)
    if text is None:
        raise ConfigurationError("the destination of bulk data must be the path of a file: text, or a pathlib.Path")
    with writing():
        if Path(text).is_dir():
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        tempfile.TemporaryFile(dir=Path(text).parent).close()
    return Path(text)


def _receive(ask: Ask, url: str, accept: str, take: Callable[[bytes], None]) -> BulkData:
    size, part = 0, None
    with ask(url, accept) as answer:
        content_type = answer.headers.get("Content-Type")
        own = MediaType.parse(content_type)
        # A value may be of a type of its own, such as a PDF: all but a page of text is taken for the value.
        single = OCTET_STREAM if own.name in {"", "text/html", "application/json", DICOM_JSON} else own.name
        for event in parts(answer.blocks(), content_type, single):
            if isinstance(event, PartStart):
                if part is not None:
                    raise ProtocolError("one value was asked for, the answer holds more")
                part = event.media_type
            elif isinstance(event, PartData):
                size += len(event.data)
                take(event.data)
    if part is None:
        raise ProtocolError("one value was asked for, the answer holds none")
    return BulkData(part.name or OCTET_STREAM, part.transfer_syntax or own.transfer_syntax or "", size)
