"""multipart/related under any input: the same parts for every cut, other readers' parts, and bounded memory and time."""

from __future__ import annotations

import email
import email.policy
import itertools
import tracemalloc
from collections.abc import Iterable, Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_toolbelt.multipart.decoder import MultipartDecoder

from airflow_dicomweb.dicomweb.multipart import Body, Parser, Part, PartData, PartEnd, PartStart, parse
from airflow_dicomweb.errors import ProtocolError

TYPE = "multipart/related; boundary=B"
KIBIBYTE = 1024
MEBIBYTE = 2**20

# Whole delimiters, halves of them, and what may stand around them.
TOKENS = [b"\r\n--B", b"--B", b"\r\n--B--", b"\r\n\r\n", b"\r\n", b"\r", b"\n", b"-", b"--", b" ", b"\t", b"x", b"\0"]
TOKENS += [b"Content-Type: application/dicom", b"Content-Length: 1", b"Content-Length: x", b"A:", b":", b"B"]
STREAMS = st.lists(st.sampled_from(TOKENS) | st.binary(max_size=3), max_size=40).map(b"".join)
CONTENTS = st.lists(st.binary(max_size=80) | st.lists(st.sampled_from(TOKENS), max_size=8).map(b"".join), min_size=1)


def read(blocks: Iterable[bytes]) -> tuple[list[tuple[dict[str, str], bytes]], str]:
    """Whole parts with their headers, the content of the one that was begun last, and the error in words."""
    parts: list[tuple[dict[str, str], bytearray]] = []
    ended, problem = 0, ""
    try:
        for event in parse(blocks, TYPE):
            match event:
                case PartStart(headers):
                    parts.append((dict(headers), bytearray()))
                case PartData(data):
                    parts[-1][1].extend(data)
                case PartEnd():
                    ended += 1
    except ProtocolError as error:
        problem = str(error)
    return [(headers, bytes(content)) for headers, content in parts[:ended]], problem


def body_of(contents: list[bytes]) -> Body:
    return Body(
        [Part("application/dicom", len(each), lambda each=each: [each]) for each in contents], "application/dicom"
    )


@given(stream=STREAMS)
@settings(max_examples=150)
def test_any_input_gives_the_same_parts_and_the_same_error_at_every_single_cut(stream: bytes) -> None:
    whole = read([stream])
    for at in range(1, len(stream)):
        assert read([stream[:at], stream[at:]]) == whole
    assert read(stream[at : at + 1] for at in range(len(stream))) == whole


@given(stream=STREAMS, cuts=st.lists(st.integers(0, 400)))
def test_any_input_gives_the_same_parts_and_the_same_error_for_many_cuts(stream: bytes, cuts: list[int]) -> None:
    edges = sorted({min(cut, len(stream)) for cut in cuts} | {0, len(stream)})
    assert read(stream[a:b] for a, b in itertools.pairwise(edges)) == read([stream])


@given(contents=CONTENTS)
def test_other_readers_find_what_was_encoded(contents: list[bytes]) -> None:
    body = body_of(contents)
    wire = b"".join(body)
    assert len(wire) == len(body)
    assert [part.content for part in MultipartDecoder(wire, body.content_type).parts] == contents


@given(contents=st.lists(st.text("abc-B \n", max_size=40), min_size=1))
def test_the_standard_library_finds_what_was_encoded(contents: list[str]) -> None:
    # Text with whole line ends: the standard library is made for mail, and rewrites lone carriage returns.
    encoded = [content.replace("\n", "\r\n").encode() for content in contents]
    body = body_of(encoded)
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + b"".join(body), policy=email.policy.HTTP)
    parts = list(message.iter_parts())
    assert not message.defects
    assert [part.get_content_type() for part in parts] == ["application/dicom"] * len(contents)
    assert [part.get_payload(decode=True) for part in parts] == encoded


def endless(start: bytes, block: bytes) -> Iterator[bytes]:
    """64 MiB that begin with something and go on with the same forever."""
    yield start
    yield from itertools.repeat(block, 64 * MEBIBYTE // len(block))


def peak_of(blocks: Iterable[bytes], **limits: int) -> tuple[int, str]:
    """Most bytes that were allocated while a parser read, and its error in words."""
    parser, problem = Parser("B", **limits), ""
    tracemalloc.start()
    try:
        for block in blocks:
            for _ in parser.feed(block):
                pass
        parser.close()
    except ProtocolError as error:
        problem = str(error)
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    return peak, problem


@pytest.mark.parametrize(
    ("start", "block", "problem"),
    [
        (b"", b"preamble ", "without its closing delimiter, after 0 parts"),
        (b"", b"\r\n--", "without its closing delimiter, after 0 parts"),
        (b"--B", b" ", "without its closing delimiter, after 0 parts"),
        (b"--B\r\n", b"A: b\r\n", "longer than 65536 bytes"),
        (b"--B\r\nA: ", b"b", "longer than 65536 bytes"),
        (b"--B\r\n\r\n", b"content", "without its closing delimiter, after 1 parts"),
        (b"--B\r\n\r\n", b"\r\n--Bx", "without its closing delimiter, after 1 parts"),
        (b"--B\r\n\r\n", b"\r\n--B    x", "without its closing delimiter, after 1 parts"),
        (b"--B\r\n\r\n\r\n--B--", b"epilogue ", ""),
    ],
    ids=repr,
)
def test_endless_input_is_not_kept(start: bytes, block: bytes, problem: str) -> None:
    blocks = endless(start, block * (64 * KIBIBYTE // len(block)))
    peak, said = peak_of(blocks)
    assert problem in said
    assert bool(problem) == bool(said)
    # One block, what is given of it, and what is held back.
    assert peak < MEBIBYTE


def test_endless_parts_end_at_the_limit() -> None:
    peak, said = peak_of(endless(b"--B", b"\r\n\r\n\r\n--B" * 8 * KIBIBYTE), max_parts=10_000)
    assert "more than 10000 parts" in said
    assert peak < MEBIBYTE


def test_endless_content_ends_at_the_limit() -> None:
    peak, said = peak_of(endless(b"--B\r\n\r\n", bytes(64 * KIBIBYTE)), max_bytes=MEBIBYTE)
    assert f"larger than {MEBIBYTE} bytes" in said
    assert peak < MEBIBYTE


@given(stream=STREAMS)
def test_limits_hold_for_any_input(stream: bytes) -> None:
    parser = Parser("B", max_header_bytes=30, max_parts=3, max_bytes=120)
    events = []
    try:
        for at in range(len(stream)):
            events += parser.feed(stream[at : at + 1])
        parser.close()
    except ProtocolError:
        pass
    assert sum(isinstance(event, PartStart) for event in events) <= 3
    assert sum(len(event.data) for event in events if isinstance(event, PartData)) <= 120
    starts = [event for event in events if isinstance(event, PartStart)]
    assert all(sum(len(name) + len(value) for name, value in each.headers.items()) <= 30 for each in starts)


@pytest.mark.parametrize(("blanks", "is_delimiter"), [(1022, True), (1023, False)])
def test_blanks_behind_a_boundary_are_as_many_for_every_cut(blanks: int, is_delimiter: bool) -> None:
    stream = b"--B\r\n\r\nx\r\n--B" + b" " * blanks + b"\r\n\r\ny\r\n--B--"
    found, problem = read([stream])
    assert (len(found), problem) == (2 if is_delimiter else 1, "")
    for at in range(1, len(stream)):
        assert read([stream[:at], stream[at:]]) == (found, problem)


@pytest.mark.parametrize("behind", [b"\r\nmore\r\n--B--", b"\r\n--B\r\n\r\n", b"\r\n--B--"])
def test_a_body_that_goes_on_behind_its_end_is_an_error_at_every_cut(behind: bytes) -> None:
    stream = b"--B\r\n\r\nx\r\n--B--" + behind
    for at in range(1, len(stream)):
        _, problem = read([stream[:at], stream[at:]])
        assert "goes on behind its closing delimiter" in problem
