"""The matrix of store: faults on the way to a server, on the way back, and answers that are hard to read."""

from __future__ import annotations

from airflow_dicomweb.errors import AuthorizationError, ProtocolError, ResponseError, TransportError, UnavailableError
from tests.faults import store_answers as says
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
    early,
    half_close,
    half_to_the_server,
    header,
    lengths,
    line_feeds,
    page,
    refuse_from_now_on,
    reset,
    silence,
    silence_in_the_body,
    stall,
    stored_then,
    then,
)
from tests.faults.cases import ALWAYS, Case, Fault, on_search, on_store

SHORT = 1.0
"""A read time-out that a test can wait for, in seconds."""
TIMED = {"shapes": ("large", "batches"), "request_timeout": SHORT}
MANY = ("small", "batches")

_GOOGLE_ERROR = b'{"error": {"code": 503, "message": "The service is currently unavailable.", "status": "UNAVAILABLE"}}'
_PAST = "Wed, 21 Oct 2015 07:28:00 GMT"

BUSY = [
    on_store("503 then fine", page(503)),
    on_store("503 of Google twice then fine", answer(503, _GOOGLE_ERROR, "application/json"), times=2),
    on_store("429 with Retry-After of 1 s", page(429, ("Retry-After", "1"))),
    on_store("429 with Retry-After as a date", page(429, ("Retry-After", _PAST))),
    on_store("408 then fine", page(408)),
    on_store("500 then fine", page(500)),
    on_store("502 then fine", page(502)),
    on_store("504 then fine", page(504)),
    on_store("503 after it was stored", stored_then(page(503))),
    on_store("502 after it was stored", stored_then(page(502))),
    on_store("504 after it was stored", stored_then(page(504))),
    on_store("401 then fine", answer(401), renewable=True),
    on_store("401 after it was stored", stored_then(answer(401)), renewable=True),
]

CONNECTION = [
    Case("connection refused then fine", (Fault("search", refuse_from_now_on),), "created", refused=True),
    on_store("reset before the body", after(0, reset)),
    on_store("reset in the body", after(0.5, reset)),
    on_store("reset after the body", after(1, reset)),
    on_store("closed before the body", after(0, close)),
    on_store("closed in the body", after(0.5, close)),
    on_store("closed after the body", after(1, close)),
    on_store("half closed after the body", after(1, half_close)),
    on_store("reset while half is on the server", half_to_the_server(reset)),
    on_store("closed while half is on the server", half_to_the_server(close)),
    on_store("reset after it was stored", stored_then(reset)),
    on_store("closed after it was stored", stored_then(close)),
    on_store("half closed after it was stored", stored_then(half_close)),
    on_store("reset after it was stored, twice", stored_then(reset), times=2),
    on_store("no answer until the time-out", silence, **TIMED),
    on_store("no answer until the time-out, after it was stored", stored_then(silence), **TIMED),
    on_store("body not read until the time-out", stall, shapes=("large",), request_timeout=SHORT),
    on_search("stale connection, closed", then(close)),
    on_search("stale connection, reset", then(reset)),
    on_store("each connection closed after its answer", then(close), times=ALWAYS),
]

CUT = [
    on_store("cut in a header, closed", cut_head(close)),
    on_store("cut in a header, reset", cut_head(reset)),
    on_store("cut in the answer, closed", cut_body(0.5, close)),
    on_store("cut in the answer, reset", cut_body(0.5, reset)),
    on_store("cut in the answer, of unknown length", cut_body(0.5, close, declared=False)),
    on_store("cut before the last byte", cut_body(-1, close)),
    on_store("stalled in the answer", silence_in_the_body, **TIMED),
    on_store("declared 10 bytes too long, closed", declared(10, close)),
    on_store("declared 10 bytes too long, kept", declared(10), **TIMED),
    on_store("declared 10 bytes too short, closed", declared(-10, close)),
    on_store("declared 10 bytes too short, kept", declared(-10)),
    on_store("the same length twice", lengths(*[lambda size: f"Content-Length: {size}"] * 2)),
    on_store("two lengths", lengths(lambda size: f"Content-Length: {size}", lambda _: "Content-Length: 7")),
    on_store(
        "two lengths, the short one first",
        lengths(lambda _: "Content-Length: 7", lambda size: f"Content-Length: {size}"),
    ),
    on_store("a length below zero", lengths(lambda _: "Content-Length: -5", leave=close)),
    on_store("a length that is no number", lengths(lambda _: "Content-Length: many", leave=close)),
    on_store("no length", lengths(lambda _: "Connection: close", leave=close)),
    on_store("chunks", chunked()),
    on_store("chunks cut", chunked(keep=0.5, ending=b"", leave=close)),
    on_store("chunks without the last", chunked(ending=b"", leave=close)),
    on_store("chunks with something between", chunked(spoil=b"x")),
]

FORM = [
    on_store("charset", header("Content-Type", "application/dicom+json; charset=utf-8")),
    on_store(
        "other parameters", header("Content-Type", 'Application/DICOM+JSON;transfer-syntax="a;b";  charset="UTF-8"')
    ),
    on_store("plain JSON", header("Content-Type", "application/json")),
    on_store("no Content-Type", header("Content-Type", None)),
    on_store("text/plain", header("Content-Type", "text/plain")),
    on_store("octet-stream", header("Content-Type", "application/octet-stream")),
    on_store("XML that is JSON", header("Content-Type", "application/dicom+xml")),
    on_store("gzip although identity was asked", compressed()),
    on_store("gzip cut", compressed(keep=40)),
    on_store("an unknown encoding", compressed(name="x-unknown")),
    on_store("line feeds alone", line_feeds),
    on_store("100 Continue before the answer", before(b"HTTP/1.1 100 Continue\r\n\r\n")),
    on_store("103 Early Hints before the answer", before(b"HTTP/1.1 103 Early Hints\r\nLink: </>\r\n\r\n")),
    on_store("100 Continue and nothing more", before(b"HTTP/1.1 100 Continue\r\n\r\n", stored_then(close))),
    *(
        on_store(f"{status} with {words} after it was stored", stored_then(answer(status, body, content_type)))
        for status in (200, 202)
        for words, body, content_type in (
            ("nothing", b"", None),
            ("a page", HTML, "text/html"),
            ("null", b"null", "application/dicom+json"),
            ("an empty data set", b"{}", "application/dicom+json"),
            ("an empty list", b"[]", "application/dicom+json"),
        )
    ),
    on_store("204 after it was stored", stored_then(answer(204))),
    on_store("200 with a page, always", stored_then(page(200)), times=ALWAYS),
    on_store("200 with a page, nothing stored", page(200), times=ALWAYS, ends=ProtocolError),
    on_store("400 with nothing after it was stored", stored_then(answer(400))),
    on_store("400 with a page", page(400), shapes=MANY),
    on_store("400 with a page, alone", page(400), "failed", shapes=("large",)),
    on_store("409 with a page after it was stored", stored_then(page(409))),
]

EARLY = [
    on_store(f"{status} before the body was read, {words}", early(status, leave, 0.1), **more)
    for status, ends in ((503, "created"), (413, "failed"))
    for words, leave, more in (
        ("closed", close, {"shapes": ("large",), "ends": ends}),
        ("half closed", half_close, {"shapes": ("large",), "ends": ends}),
        ("not read further", stall, {"shapes": ("large",), "ends": ends, "request_timeout": SHORT}),
        ("closed, of many", close, {"shapes": MANY}),
    )
] + [
    on_store("200 before the body was read, closed", early(200, close, 0.1), shapes=("large",)),
    on_store(
        "200 with a page after the body was read, half closed",
        early(200, half_close, 0.1),
        ProtocolError,
        shapes=("large",),
    ),
    on_store("413 always", page(413), times=ALWAYS, ends="failed"),
]

REFUSED = [
    on_store("503 always", page(503), UnavailableError, times=ALWAYS),
    on_store("401 always", answer(401), AuthorizationError, times=ALWAYS),
    on_store("401 always, renewable", answer(401), AuthorizationError, times=ALWAYS, renewable=True),
    on_store("403 always", page(403), AuthorizationError, times=ALWAYS),
    on_store("reset always", after(0.5, reset), TransportError, times=ALWAYS),
    *(
        on_store(f"{status} elsewhere", page(status, ("Location", "/dicom-web/elsewhere")), ResponseError, times=ALWAYS)
        for status in (301, 302, 307, 308)
    ),
]

LOST = [
    on_store("reset after it was stored, always", stored_then(reset), times=ALWAYS, shapes=("large", "small")),
    on_store("cut after it was stored, always", cut_body(0.5, close), times=ALWAYS, shapes=("large", "small")),
    on_store("502 after it was stored, always", stored_then(page(502)), times=ALWAYS, shapes=("large", "small")),
    on_store("500 after it was stored, always", stored_then(page(500)), times=ALWAYS, shapes=("large", "small")),
    # After the first of them is given up, the other batches are not sent: they are named, and not there.
    on_store(
        "502 after it was stored, always, in batches",
        stored_then(page(502)),
        "created failed",
        times=ALWAYS,
        shapes=("batches",),
    ),
    on_store(
        "500 after it was stored, always, in batches",
        stored_then(page(500)),
        "created failed",
        times=ALWAYS,
        shapes=("batches",),
    ),
    *(
        Case(
            f"stored without an answer, then {status} always",
            (Fault("store", stored_then(reset)), Fault("store", page(status), ALWAYS)),
            "created",
            shapes=("large", "small"),
        )
        for status in (401, 403, 408, 429, 503)
    ),
    Case(
        "stored without an answer, then the server is gone",
        (Fault("store", stored_then(reset), ALWAYS), Fault("search", after(0, reset), ALWAYS, skip=1)),
        TransportError,
        shapes=("large", "small"),
    ),
]

JUDGED = [
    *(
        on_store(f"{status} in {form}, half refused", says.half(status, form), "created failed", shapes=MANY)
        for status in (200, 202, 400, 409)
        for form in ("json", "xml")
    ),
    *(
        on_store(f"{status} in {form}, half not mentioned", says.half(status, form, told="nothing"), shapes=MANY)
        for status in (200, 202, 400, 409)
        for form in ("json", "xml")
    ),
    *(
        on_store(
            f"{status} in {form}, half among the other failures", says.half(status, form, told="others"), shapes=MANY
        )
        for status in (202, 409)
        for form in ("json", "xml")
    ),
    on_store("202 with warnings", says.half(202, warning=True), "created failed", shapes=MANY),
    on_store("409 without reasons", says.half(409, told="unreasoned"), "created failed", shapes=MANY),
    *(
        on_store(f"{status} in {form}, all stored", says.everything(status, form, warning=True))
        for status in (200, 202)
        for form in ("json", "xml")
    ),
    *(
        on_store(f"{status} in {form}, all refused", says.nothing_of_it(status, form), "failed", times=ALWAYS)
        for status in (200, 400, 409)
        for form in ("json", "xml")
    ),
    *(
        on_store(
            f"{status} in {form}, half stored and listed as failed too",
            says.half(status, form, contradicts=True),
            "created failed",
            shapes=MANY,
        )
        for status in (202, 409)
        for form in ("json", "xml")
    ),
    on_store("202, all stored and listed as failed too", says.everything(202, contradicts=True)),
    on_store(
        "202, nothing stored and all referenced and failed",
        says.nothing_of_it(202, contradicts=True),
        "failed",
        times=ALWAYS,
    ),
]

SEARCH = [
    on_search("search: 503 then fine", page(503)),
    on_search("search: reset then fine", after(0, reset)),
    on_search("search: 204", answer(204)),
    on_search("search: gzip", compressed()),
    on_search("search: charset", header("Content-Type", "application/dicom+json; charset=utf-8")),
]

CASES = [*BUSY, *CONNECTION, *CUT, *FORM, *EARLY, *REFUSED, *LOST, *JUDGED, *SEARCH]
assert len({case.name for case in CASES}) == len(CASES)
