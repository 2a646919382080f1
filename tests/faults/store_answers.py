"""Answers to store requests that a server might give: invented, but true unless they are meant to contradict themselves.

Half of a request is let through to the server; the answer says which half that was, in one of the ways that are seen.

Source: DICOM PS3.18 section 10.5.3 and annex I; PS3.19 annex A.
"""

from __future__ import annotations

import json
import re
from io import BytesIO

import pydicom

from tests.servers.fault_proxy import Action, Exchange, Reply

PROCESSING_FAILURE = 0x0110
COERCED = 0xB000
_SOP = "1.2.840.10008.5.1.4.1.1.7"


def parts_of(exchange: Exchange) -> tuple[list[bytes], bytes]:
    """Contents of the request's parts, by splitting at its boundary, and the boundary; empty for a single part."""
    boundary = re.search(r'boundary="?([^";]+)', exchange.header("Content-Type"))
    body = exchange.read()
    if boundary is None:
        return [body], b""
    delimiter = b"--" + boundary[1].encode()
    frames = body.split(delimiter)[1:-1]
    return [frame.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for frame in frames], boundary[1].encode()


def framed(contents: list[bytes], boundary: bytes) -> bytes:
    """A request's body with these parts."""
    if not boundary:
        return contents[0]
    head = b"\r\n--" + boundary + b"\r\nContent-Type: application/dicom\r\n\r\n"
    return b"".join(head + content for content in contents) + b"\r\n--" + boundary + b"--"


def uid_of(content: bytes) -> str:
    """SOP Instance UID of an instance."""
    return str(
        pydicom.dcmread(BytesIO(content), stop_before_pixels=True, specific_tags=["SOPInstanceUID"])[0x00080018].value
    )


def listed(tag: str, uids: list[str], reason: tuple[str, int] | None, form: str) -> dict[str, object] | str:
    """A sequence of an answer: of references, or of failures."""
    if form == "json":
        items = [
            {"00081150": {"vr": "UI", "Value": [_SOP]}}
            | ({"00081155": {"vr": "UI", "Value": [uid]}} if uid else {})
            | ({reason[0]: {"vr": "US", "Value": [reason[1]]}} if reason else {})
            for uid in uids
        ]
        return {tag: {"vr": "SQ", "Value": items}}
    values = [
        f'<Item number="{number}">'
        + (f'<DicomAttribute tag="00081155" vr="UI"><Value number="1">{uid}</Value></DicomAttribute>' if uid else "")
        + (
            f'<DicomAttribute tag="{reason[0]}" vr="US"><Value number="1">{reason[1]}</Value></DicomAttribute>'
            if reason
            else ""
        )
        + "</Item>"
        for number, uid in enumerate(uids, 1)
    ]
    return f'<DicomAttribute tag="{tag}" vr="SQ">{"".join(values)}</DicomAttribute>'


def written(sequences: list[dict[str, object] | str], form: str) -> tuple[bytes, str]:
    """An answer's body and its type."""
    if form == "json":
        merged: dict[str, object] = {}
        for sequence in sequences:
            merged |= sequence  # type: ignore[operator]
        return json.dumps(merged).encode(), "application/dicom+json"
    model = '<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM">'
    return (
        f'<?xml version="1.0"?>{model}{"".join(map(str, sequences))}</NativeDicomModel>'.encode(),
        "application/dicom+xml",
    )


def half(
    status: int, form: str = "json", *, told: str = "failed", warning: bool = False, contradicts: bool = False
) -> Action:
    """Store every second part only, and say so.

    :param told: How the others are told: ``failed`` lists them with a reason, ``unreasoned`` without one, ``others`` puts
        nameless items into OtherFailuresSequence, ``nothing`` does not mention them.
    :param warning: Whether what was stored is said to have been coerced.
    :param contradicts: Whether each that is referenced is listed as failed too.
    """

    def act(exchange: Exchange) -> None:
        contents, boundary = parts_of(exchange)
        kept, refused = contents[1::2], contents[::2]
        if kept:
            exchange.forward(framed(kept, boundary))
        exchange.send(_reply(list(map(uid_of, kept)), list(map(uid_of, refused))).wire())

    def _reply(kept: list[str], refused: list[str]) -> Reply:
        sequences = []
        if kept:
            sequences.append(listed("00081199", kept, ("00081196", COERCED) if warning else None, form))
        failed = (refused if told in {"failed", "unreasoned"} else []) + (kept if contradicts else [])
        if failed:
            reason = None if told == "unreasoned" else ("00081197", PROCESSING_FAILURE)
            sequences.append(listed("00081198", failed, reason, form))
        if told == "others" and refused:
            sequences.append(listed("0008119A", [""] * len(refused), ("00081197", PROCESSING_FAILURE), form))
        body, content_type = written(sequences, form)
        return Reply(status, [("Content-Type", content_type)], body)

    return act


def everything(status: int, form: str = "json", *, contradicts: bool = False, warning: bool = False) -> Action:
    """Store all of the request, and answer in another form than the server's own.

    :param contradicts: Whether all is listed as failed too.
    """

    def act(exchange: Exchange) -> None:
        exchange.forward()
        uids = [uid_of(content) for content in parts_of(exchange)[0]]
        sequences = [listed("00081199", uids, ("00081196", COERCED) if warning else None, form)]
        if contradicts:
            sequences.append(listed("00081198", uids, ("00081197", PROCESSING_FAILURE), form))
        body, content_type = written(sequences, form)
        exchange.send(Reply(status, [("Content-Type", content_type)], body).wire())

    return act


def nothing_of_it(status: int, form: str = "json", *, contradicts: bool = False) -> Action:
    """Store nothing, and say so.

    :param contradicts: Whether all is referenced too.
    """

    def act(exchange: Exchange) -> None:
        uids = [uid_of(content) for content in parts_of(exchange)[0]]
        sequences = [listed("00081198", uids, ("00081197", PROCESSING_FAILURE), form)]
        if contradicts:
            sequences.append(listed("00081199", uids, None, form))
        body, content_type = written(sequences, form)
        exchange.send(Reply(status, [("Content-Type", content_type)], body).wire())

    return act
