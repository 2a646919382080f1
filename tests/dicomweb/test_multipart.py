"""multipart/related: the same parts for every cut of the input, and oracles that nobody here wrote."""

from __future__ import annotations

import email
import email.policy
import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from requests_toolbelt.multipart.decoder import MultipartDecoder

from airflow_dicomweb.dicomweb.multipart import Body, Parser, Part, PartData, PartEnd, PartStart, parse
from airflow_dicomweb.errors import ConfigurationError, ProtocolError

# Bytes that look like delimiters are what a parser trips over.
HOSTILE = st.lists(
    st.sampled_from(
        [b"\r\n", b"--", b"-", b"\r", b"\n", b"B", b"--B", b"\r\n--B", b"\r\n--Bx", b"\0", b"\r\n--", b" "]
    ),
    max_size=12,
).map(b"".join)


def part(content: bytes) -> Part:
    return Part("application/dicom", len(content), lambda: [content])


def collect(events) -> list[bytes]:
    parts: list[bytearray] = []
    ended = 0
    for event in events:
        match event:
            case PartStart():
                parts.append(bytearray())
            case PartData(data):
                assert data, "an event without data is noise"
                parts[-1] += data
            case PartEnd():
                ended += 1
    assert ended == len(parts)
    return [bytes(p) for p in parts]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({min(c, len(data)) for c in cuts} | {0, len(data)})
    return [data[a:b] for a, b in itertools.pairwise(edges)]


@given(contents=st.lists(HOSTILE | st.binary(max_size=64), min_size=1, max_size=4), cuts=st.lists(st.integers(0, 600)))
def test_what_was_encoded_is_what_is_parsed_wherever_the_input_is_cut(contents, cuts):
    body = Body([part(c) for c in contents], "application/dicom")
    wire = b"".join(body)
    assert len(wire) == len(body)
    assert collect(parse(cut(wire, cuts), body.content_type)) == contents


@given(contents=st.lists(HOSTILE, min_size=1, max_size=3))
@settings(max_examples=50)
def test_every_single_split_gives_the_same_parts(contents):
    wire = b"".join(Body([part(c) for c in contents], "application/dicom", "frame"))
    for at in range(len(wire) + 1):
        assert collect(parse([wire[:at], wire[at:]], "multipart/related; boundary=frame")) == contents


def test_the_standard_library_reads_the_encoded_body():
    contents = [bytes(range(256)), b"", b"\r\n--other--\r\n"]
    body = Body([part(c) for c in contents], "application/dicom")
    head = f"Content-Type: {body.content_type}\r\n\r\n".encode()
    message = email.message_from_bytes(head + b"".join(body), policy=email.policy.compat32)
    assert message.get_content_type() == "multipart/related"
    assert message.get_param("type") == "application/dicom"
    found = [p.get_payload(decode=True) for p in message.get_payload()]
    assert [p.get_content_type() for p in message.get_payload()] == ["application/dicom"] * 3
    assert found[1:] == contents[1:], (
        "email rewrites lone carriage returns, so the first part is left to the next oracle"
    )
    # The decoder of requests-toolbelt is exact for every byte value.
    decoded = MultipartDecoder(b"".join(body), body.content_type)
    assert [p.content for p in decoded.parts] == contents


def test_each_iteration_reads_every_part_afresh():
    readings = []

    def read():
        readings.append(1)
        return [b"abc", b"def"]

    body = Body([Part("application/dicom", 6, read)], "application/dicom")
    assert b"".join(body) == b"".join(body)
    assert len(readings) == 2


def test_boundaries_are_random_and_fit_into_a_header():
    first, second = (Body([part(b"x")], "application/dicom") for _ in range(2))
    assert first.boundary != second.boundary
    assert len(first.boundary) <= 70


@pytest.mark.parametrize("read", [[b"short"], [b"much", b"too", b"long for it"], []])
def test_a_source_that_changed_its_size_breaks_the_body_off_before_its_end(read):
    body = Body([Part("application/dicom", 8, lambda: read)], "application/dicom")
    sent = bytearray()
    with pytest.raises(ConfigurationError, match="changed while it was sent"):
        sent.extend(itertools.chain.from_iterable(body))
    assert b"--\r\n" not in sent
    assert not bytes(sent).endswith(b"--")


def test_a_body_without_parts_is_refused():
    with pytest.raises(ConfigurationError, match="at least one part"):
        Body([], "application/dicom")


@pytest.mark.parametrize(
    ("wire", "contents"),
    [
        (b"--B\r\n\r\nabc\r\n--B--", [b"abc"]),  # a part without headers
        (b"\r\n--B\r\nA: b\r\n\r\nabc\r\n--B--\r\n", [b"abc"]),  # a leading line end, as Java servers send
        (b"preamble\r\n--B\r\nA: b\r\n\r\nabc\r\n--B--\r\nepilogue --B", [b"abc"]),
        (b"--B  \t\r\nA: b\r\n\r\nabc\r\n--B \r\nA: b\r\n\r\n\r\n--B--", [b"abc", b""]),  # transport padding
        (b"--B\r\nContent-Length: 3\r\n\r\nabc\r\n--B--", [b"abc"]),
        (b"--B\r\nA: b\r\n\r\nab\r\n--Bc\r\nd\r\n--B--", [b"ab\r\n--Bc\r\nd"]),  # another, longer boundary is content
        (b"--B--", []),
    ],
)
def test_what_rfc_2046_allows_is_read(wire, contents):
    for at in range(len(wire) + 1):
        assert collect(parse([wire[:at], wire[at:]], "multipart/related; boundary=B")) == contents


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"--B",
        b"--B\r\nA: b\r\n",
        b"--B\r\nA: b\r\n\r\nabc",
        b"--B\r\nA: b\r\n\r\nabc\r\n--B",
        b"--B\r\nA: b\r\n\r\nabc\r\n--B-",
        b"--B\r\nA: b\r\n\r\nabc\r\n--B\r\n",
    ],
)
def test_a_body_without_its_closing_delimiter_is_an_error(wire):
    with pytest.raises(ProtocolError, match="without its closing delimiter"):
        collect(parse([wire], "multipart/related; boundary=B"))


def test_a_part_shorter_or_longer_than_it_declares_is_an_error():
    for length in (2, 4):
        wire = b"--B\r\nContent-Length: %d\r\n\r\nabc\r\n--B--" % length
        with pytest.raises(ProtocolError, match=f"declares {length} bytes and has 3"):
            collect(parse([wire], "multipart/related; boundary=B"))


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({"max_parts": 1}, "more than 1 parts"),
        ({"max_bytes": 10}, "larger than 10"),
        ({"max_header_bytes": 4}, "longer"),
    ],
)
def test_limits_hold(limits, message):
    wire = b"".join(Body([part(b"abc"), part(b"def")], "application/dicom", "B"))
    with pytest.raises(ProtocolError, match=message):
        collect(parse([wire[i : i + 1] for i in range(len(wire))], "multipart/related; boundary=B", **limits))


@pytest.mark.parametrize(
    "content_type", [None, "", "application/json", "multipart/related", "multipart/related; boundary="]
)
def test_what_is_no_multipart_body_is_an_error(content_type):
    with pytest.raises(ProtocolError):
        collect(parse([b"--B--"], content_type))


@given(data=st.binary(max_size=400))
def test_random_bytes_end_in_parts_or_an_error_and_are_not_kept(data):
    parser = Parser("B", max_header_bytes=64)
    try:
        for i in range(len(data)):
            list(parser.feed(data[i : i + 1]))
        parser.close()
    except ProtocolError:
        pass
    assert len(parser._buffer) <= 64 + 1024 + 8
