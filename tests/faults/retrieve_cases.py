"""The matrix of retrieve: faults on the way, frames that the standard allows, and parts that are not what was asked for."""

from __future__ import annotations

from airflow_dicomweb.errors import (
    AuthorizationError,
    NotFoundError,
    ProtocolError,
    ResponseError,
    TransportError,
    UnavailableError,
)
from tests.faults.actions import (
    HTML,
    after,
    answer,
    before,
    chunked,
    close,
    compressed,
    cut_body,
    cut_head,
    declared,
    half_close,
    header,
    lengths,
    line_feeds,
    page,
    refuse_from_now_on,
    reset,
    silence,
    silence_in_the_body,
    then,
)
from tests.faults.cases import ALWAYS, Case, Fault, on_retrieve, on_search
from tests.faults.retrieve_answers import reframed, short_but_declared, shortened, sized

SHORT = 1.0
MANY = ("small",)
ONE = ("large",)
_FRAME = "multipart/related; type=application/dicom; boundary=frame"
_SEMICOLON = (
    'multipart/related; type="application/dicom;transfer-syntax=1.2.840.10008.1.2.1"; boundary="a;b=c, d"; start=x'
)

BUSY = [
    on_retrieve("503 then fine", page(503)),
    on_retrieve("429 with Retry-After of 1 s", page(429, ("Retry-After", "1"))),
    on_retrieve("500 then fine", page(500)),
    on_retrieve("502 then fine", page(502)),
    on_retrieve("504 then fine", page(504)),
    on_retrieve("401 then fine", answer(401), renewable=True),
    on_retrieve("503 always", page(503), UnavailableError, times=ALWAYS),
    on_retrieve("401 always", answer(401), AuthorizationError, times=ALWAYS),
    on_retrieve("403 always", page(403), AuthorizationError, times=ALWAYS),
    *(
        on_retrieve(f"{status} elsewhere", page(status, ("Location", "/elsewhere")), ResponseError, times=ALWAYS)
        for status in (301, 302, 303, 307, 308)
    ),
]

CONNECTION = [
    Case("connection refused then fine", (Fault("search", refuse_from_now_on),), "whole", shapes=MANY, refused=True),
    on_retrieve("reset before the answer", after(1, reset)),
    on_retrieve("closed before the answer", after(1, close)),
    on_retrieve("half closed before the answer", after(1, half_close)),
    on_retrieve("no answer until the time-out", silence, request_timeout=SHORT),
    on_retrieve("stalled in the answer", silence_in_the_body, request_timeout=SHORT),
    on_search("stale connection, closed", then(close), "whole", shapes=MANY),
    on_search("stale connection, reset", then(reset), "whole", shapes=MANY),
    on_retrieve("cut in a header, closed", cut_head(close)),
    on_retrieve("cut in a header, reset", cut_head(reset)),
    on_retrieve("cut in the answer, closed", cut_body(0.5, close)),
    on_retrieve("cut in the answer, reset", cut_body(0.5, reset)),
    on_retrieve("cut in the answer three times", cut_body(0.5, reset), times=3),
    on_retrieve("cut in the answer, always", cut_body(0.5, close), TransportError, times=ALWAYS),
    on_retrieve("cut before the closing delimiter", cut_body(-30, close)),
    on_retrieve("cut before the last byte", cut_body(-1, close)),
    on_retrieve("declared 10 bytes too long, closed", declared(10, close)),
    on_retrieve("declared 10 bytes too long, kept", declared(10), request_timeout=SHORT),
    on_retrieve("declared 99 bytes too short, closed", declared(-99, close)),
    on_retrieve("declared 99 bytes too short, kept", declared(-99)),
    on_retrieve("two lengths", lengths(lambda size: f"Content-Length: {size}", lambda _: "Content-Length: 700")),
    on_retrieve(
        "two lengths, the short one first", lengths(lambda _: "Content-Length: 700", lambda n: f"Content-Length: {n}")
    ),
    on_retrieve("a length that is no number", lengths(lambda _: "Content-Length: many", leave=close)),
    on_retrieve("no length", lengths(lambda _: "Connection: close", leave=close)),
    on_retrieve("no length, cut", cut_body(0.5, close, declared=False)),
    on_retrieve("chunks", chunked()),
    on_retrieve("chunks cut", chunked(keep=0.5, ending=b"", leave=close)),
    on_retrieve("chunks without the last", chunked(ending=b"", leave=close)),
    on_retrieve("chunks of half the answer", chunked(keep=0.5)),
    on_retrieve("chunks with something between", chunked(spoil=b"x")),
    on_retrieve("line feeds alone", line_feeds),
    on_retrieve("100 Continue before the answer", before(b"HTTP/1.1 100 Continue\r\n\r\n")),
    on_retrieve("103 Early Hints before the answer", before(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")),
    on_retrieve("gzip although identity was asked", compressed()),
    on_retrieve("gzip cut", compressed(keep=5000)),
    on_retrieve("gzip that is none", header("Content-Encoding", "gzip")),
]

# The length of the answer fits what is sent: only the body itself tells.
INNER_CUT = [
    on_retrieve("whole by length, cut in a part's headers", reframed(cut=lambda body: body[:20])),
    on_retrieve("whole by length, cut in a part", reframed(cut=lambda body: body[: len(body) // 2])),
    on_retrieve("whole by length, cut before the closing delimiter", reframed(cut=lambda body: body[:-11])),
    on_retrieve("whole by length, cut in the closing delimiter", reframed(cut=lambda body: body[:-1])),
    on_retrieve(
        "whole by length, cut in a part, always",
        reframed(cut=lambda body: body[: len(body) // 2]),
        TransportError,
        times=ALWAYS,
    ),
    on_retrieve("200 with nothing", answer(200, b"", _FRAME)),
]

FORM = [
    on_retrieve("charset and other parameters", reframed(content_type=f"{_FRAME}; charset=utf-8; x=y")),
    on_retrieve("upper case", reframed(content_type='Multipart/Related;BOUNDARY=frame;TYPE="Application/DICOM"')),
    on_retrieve("quoted boundary with semicolons", reframed(content_type=_SEMICOLON, boundary="a;b=c, d")),
    on_retrieve(
        "preamble and epilogue", reframed(preamble=b"This is MIME.\r\n\r\n", epilogue=b"\r\nThat was MIME.\r\n")
    ),
    on_retrieve("a line end first and last", reframed(preamble=b"\r\n", epilogue=b"\r\n\r\n")),
    on_retrieve("blanks after boundaries", reframed(padding=b" \t ")),
    on_retrieve("parts without headers", reframed(part_head=lambda _: "")),
    on_retrieve("parts without Content-Type", reframed(part_head=lambda _: "Content-ID: <1>\r\n")),
    on_retrieve(
        "parts with another Content-Type", reframed(part_head=lambda _: "Content-Type: application/octet-stream\r\n")
    ),
    on_retrieve(
        "parts with parameters",
        reframed(
            part_head=lambda _: (
                'content-type: application/dicom; transfer-syntax="1.2.840.10008.1.2.1"\r\nMIME-Version: 1.0\r\n'
            )
        ),
    ),
    on_retrieve("parts with lengths", reframed(part_head=sized)),
    on_retrieve(
        "a boundary of 70 characters",
        reframed(content_type=f"multipart/related; boundary={'b' * 70}", boundary="b" * 70),
    ),
    on_retrieve("other order", reframed(lambda parts: parts[::-1])),
]

WRONG = [
    on_retrieve("a part shorter than it says", short_but_declared(), ProtocolError, times=ALWAYS),
    on_retrieve("a part shorter than its pixel data", reframed(shortened)),
    on_retrieve("a part missing", reframed(lambda parts: parts[1:]), ProtocolError, times=ALWAYS),
    on_retrieve("a part twice", reframed(lambda parts: [*parts, parts[0]]), ProtocolError, times=ALWAYS),
    on_retrieve("no part", reframed(lambda _: []), ProtocolError, times=ALWAYS),
    on_retrieve("an empty part", reframed(lambda parts: [*parts, b""]), ProtocolError, times=ALWAYS),
    on_retrieve("a part that is a page", reframed(lambda parts: [*parts, HTML]), ProtocolError, times=ALWAYS),
    on_retrieve(
        "the boundary in the data",
        reframed(boundary="inside", content_type="multipart/related; boundary=inside"),
        ProtocolError,
        times=ALWAYS,
    ),
    on_retrieve(
        "the closing delimiter in the data",
        reframed(boundary="closing", content_type="multipart/related; boundary=closing"),
        ProtocolError,
        times=ALWAYS,
    ),
    on_retrieve("another boundary", reframed(boundary="other"), TransportError, times=ALWAYS),
    on_retrieve("no boundary", header("Content-Type", "multipart/related"), ProtocolError, times=ALWAYS),
    on_retrieve("no Content-Type", header("Content-Type", None), ProtocolError, times=ALWAYS),
    on_retrieve("a page", page(200), ProtocolError, times=ALWAYS),
    on_retrieve("JSON", header("Content-Type", "application/dicom+json"), ProtocolError, times=ALWAYS),
    on_retrieve("204", answer(204), NotFoundError, times=ALWAYS),
    on_retrieve("206", page(206), ProtocolError, times=ALWAYS),
    on_retrieve(
        "line feeds alone between parts",
        reframed(cut=lambda body: body.replace(b"\r\n", b"\n")),
        TransportError,
        times=ALWAYS,
    ),
]

SEARCH = [
    on_search("search: 503 then fine", page(503), "whole", shapes=MANY),
    on_search("search: reset then fine", after(0, reset), "whole", shapes=MANY),
    on_search("search: cut", cut_body(0.5, close), "whole", shapes=MANY),
    on_search("search: gzip", compressed(), "whole", shapes=MANY),
    on_search("search: a page, then fine", page(200), "whole", shapes=MANY),
    on_search("search: a page", page(200), ProtocolError, times=ALWAYS, shapes=MANY),
]

CASES = [*BUSY, *CONNECTION, *INNER_CUT, *FORM, *WRONG, *SEARCH]
assert len({case.name for case in CASES}) == len(CASES)
