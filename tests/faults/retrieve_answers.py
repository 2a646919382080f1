"""Answers to retrievals: the server's own parts in other frames, and with faults in them.

Source: RFC 2046 section 5.1, RFC 2387.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from tests.faults.actions import changed
from tests.servers.fault_proxy import Action, Exchange, Reply

Parts = list[bytes]


def parts_of(reply: Reply) -> Parts:
    """Contents of the parts of a multipart answer, or of the one that a single part answer is."""
    match = re.search(r'boundary="?([^";]+)', reply.header("Content-Type"))
    if match is None:
        return [reply.body]
    frames = reply.body.split(b"--" + match[1].encode())[1:-1]
    return [frame.partition(b"\r\n\r\n")[2].removesuffix(b"\r\n") for frame in frames]


def frame(
    parts: Parts,
    *,
    boundary: str = "frame",
    part_head: Callable[[bytes], str] = lambda _: "Content-Type: application/dicom\r\n",
    preamble: bytes = b"",
    epilogue: bytes = b"",
    padding: bytes = b"",
) -> bytes:
    """Put parts into a multipart body."""
    delimiter = b"--" + boundary.encode()
    heads = [delimiter + padding + b"\r\n" + part_head(part).encode() + b"\r\n" for part in parts]
    inner = b"".join(head + part + b"\r\n" for head, part in zip(heads, parts, strict=True))
    return preamble + inner + delimiter + b"--" + padding + epilogue


def reframed(
    change: Callable[[Parts], Parts] = lambda parts: parts,
    *,
    content_type: str | None = 'multipart/related; type="application/dicom"; boundary=frame',
    cut: Callable[[bytes], bytes] = lambda body: body,
    **options: object,
) -> Action:
    """Put the answer's parts into another frame.

    :param change: Gives the parts that are sent, from those that the server gave.
    :param content_type: Of the answer.
    :param cut: Gives the body that is sent; its length is declared.
    :param options: As those of :func:`frame`.
    """

    def act(reply: Reply) -> Reply:
        body = cut(frame(change(parts_of(reply)), **options))  # type: ignore[arg-type]
        return Reply(reply.status, [], body).with_header("Content-Type", content_type)

    return changed(act)


def sized(content: bytes) -> str:
    """Head of a part that says how long it is."""
    return f"Content-Type: application/dicom\r\nContent-Length: {len(content)}\r\n"


def shortened(parts: Parts) -> Parts:
    """The last part lacks its last hundred bytes."""
    return [*parts[:-1], parts[-1][:-100]]


def short_but_declared(count: int = 100) -> Action:
    """The last part is shorter than its own Content-Length."""

    def act(exchange: Exchange) -> None:
        reply = exchange.forward()
        parts = parts_of(reply)
        body = frame(parts, part_head=sized)
        end = body.rindex(b"\r\n--frame--")
        body = body[: end - count] + body[end:]
        made = Reply(reply.status, [("Content-Type", "multipart/related; boundary=frame")], body)
        exchange.send(made.wire())

    return act
