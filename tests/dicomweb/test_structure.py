"""A file that was cut short is found before it is sent, wherever it was cut; a whole one never is."""

from __future__ import annotations

import io
import tracemalloc
import zlib
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEGBaseline8Bit,
)

from airflow_dicomweb.dicomweb.auth import Bearer
from airflow_dicomweb.dicomweb.elements import BrokenStructure
from airflow_dicomweb.dicomweb.part10 import NoPart10Header, UnusableFile, read_header
from airflow_dicomweb.dicomweb.structure import check_structure
from airflow_dicomweb.emulator import Emulator
from airflow_dicomweb.healthcare.client import HealthcareClient
from tests.dicomweb.instances import PYDICOM_FILES, all_files, part10

SYNTAXES = [ImplicitVRLittleEndian, ExplicitVRLittleEndian, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian]

# Two of pydicom's files are cut short on purpose, and one DICOMDIR has an item that claims to be longer than its sequence.
BROKEN = {
    "MR_truncated.dcm": "its pixel data ends early: 8130 of 8192 bytes",
    "rtplan_truncated.dcm": "it ends in the middle of element (300A,00B0): 711 of 976 bytes",
    "DICOMDIR-nooffset": "element (FFFE,E000) ends outside of the sequence item that holds it",
}


class Pipe(io.RawIOBase):
    """A stream that cannot seek, and gives little at a time."""

    def __init__(self, content: bytes) -> None:
        super().__init__()
        self._content = io.BytesIO(content)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self._content.readinto(memoryview(buffer)[:1000])


def finding(content: bytes) -> str:
    """What is found, the same whether the stream can seek or not."""
    findings = []
    for stream in (io.BytesIO(content), Pipe(content)):
        try:
            check_structure(stream)
        except BrokenStructure as found:
            findings.append(str(found))
        else:
            findings.append("")
    assert findings[0] == findings[1]
    return findings[0]


def image(rows: int = 4, columns: int = 6, *, length: int = 48, **more) -> dict:
    """The elements of a 16-bit image whose pixel data has so many bytes."""
    attributes = {"Rows": rows, "Columns": columns, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
    attributes |= {"SamplesPerPixel": 1, "PixelRepresentation": 0, "PhotometricInterpretation": "MONOCHROME2"}
    return attributes | {"PixelData": bytes(length)} | more


def nested() -> Dataset:
    """A sequence in a sequence, the outer one with an undefined length."""
    inner, outer = Dataset(), Dataset()
    inner.CodeValue, outer.CodeMeaning = "1", "outer"
    outer.ConceptCodeSequence = [inner, inner]
    outer.is_undefined_length_sequence_item = True
    return outer


def test_of_all_of_pydicoms_files_only_those_that_are_cut_short_are_found() -> None:
    found, checked = {}, 0
    for path in all_files():
        try:
            finding_or_none = finding(path.read_bytes())
        except NoPart10Header:
            continue
        checked += 1
        if finding_or_none:
            found[path.name] = finding_or_none
    assert found == BROKEN
    assert checked == 163


def test_a_path_is_checked_as_a_stream_is() -> None:
    check_structure(PYDICOM_FILES / "MR_small_padded.dcm")
    with pytest.raises(BrokenStructure, match="8130 of 8192"):
        check_structure(str(PYDICOM_FILES / "MR_truncated.dcm"))


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_a_file_that_ends_anywhere_before_its_end_is_found_in_every_encoding(syntax: str) -> None:
    whole = part10(syntax, **image(), ReferencedSeriesSequence=[nested()])
    assert finding(whole) == ""
    # Cut at the end of an element of the top level, or behind the first zero of the next, it is whole as far as anyone
    # can tell. Deflated bytes have an end of their own.
    silent = [length for length in range(400, len(whole)) if not finding(whole[:length])]
    elements = {DeflatedExplicitVRLittleEndian: 0, ExplicitVRBigEndian: 26}.get(syntax, 13)
    assert len(silent) <= elements
    assert len(whole) - 1 not in silent


@pytest.mark.parametrize("syntax", SYNTAXES)
def test_native_pixel_data_is_as_long_as_the_image_wants(syntax: str) -> None:
    assert finding(part10(syntax, **image(length=48))) == ""
    assert finding(part10(syntax, **image(length=60))) == ""
    assert finding(part10(syntax, **image(length=46))) == "its pixel data ends early: 46 of 48 bytes"
    assert finding(part10(syntax, **image(length=48, NumberOfFrames=2))) == "its pixel data ends early: 48 of 96 bytes"


@pytest.mark.parametrize(
    ("elements", "wanted"),
    [
        ({"SamplesPerPixel": 3, "BitsAllocated": 8, "PhotometricInterpretation": "RGB"}, 72),
        ({"SamplesPerPixel": 3, "BitsAllocated": 8, "PhotometricInterpretation": "YBR_FULL_422"}, 48),
        ({"SamplesPerPixel": 3, "BitsAllocated": 8, "PhotometricInterpretation": "YBR_PARTIAL_420"}, 36),
        ({"BitsAllocated": 1, "NumberOfFrames": 11}, 33),
        ({"Rows": 0}, 0),
    ],
)
def test_bits_samples_and_shared_colours_count(elements: dict, wanted: int) -> None:
    long_enough = wanted + wanted % 2
    assert finding(part10(**image(length=long_enough) | elements)) == ""
    if wanted:
        assert f"{long_enough - 2} of {wanted} bytes" in finding(part10(**image(length=long_enough - 2) | elements))


@pytest.mark.parametrize("missing", ["Rows", "Columns", "SamplesPerPixel"])
def test_an_image_that_is_not_described_is_as_long_as_it_is(missing: str) -> None:
    assert finding(part10(**image(length=2) | {missing: None})) == ""


def test_the_image_of_an_icon_is_not_that_of_the_instance() -> None:
    icon = Dataset()
    for keyword, value in image(64, 64, length=8192).items():
        setattr(icon, keyword, value)
    icon["PixelData"].VR = "OW"
    assert finding(part10(**image(length=48), IconImageSequence=[icon])) == ""


def test_compressed_pixel_data_needs_its_end_delimiter_and_nothing_more() -> None:
    pixels = encapsulate([b"\xff\xd8" + bytes(500), b"\xff\xd8" + bytes(100)])
    start = part10(JPEGBaseline8Bit, **image(1000, 1000, PixelData=None), NumberOfFrames=2)
    whole = start + b"\xe0\x7f\x10\x00OB\0\0\xff\xff\xff\xff" + pixels + b"\xfe\xff\xdd\xe0\0\0\0\0"
    assert finding(whole) == ""
    delimiter = 8
    assert finding(whole[:-delimiter]) == "its pixel data ends early: it has no end delimiter"
    assert finding(whole[: -delimiter - 2]).startswith("its pixel data ends early: 100 of 102 bytes")
    assert "something else than items" in finding(whole[:-delimiter] + b"\x10\x00\x10\x00PN\0\0")


@pytest.mark.parametrize("padding", [b"\0" * 3, b"\0" * 2048, b"\xfc\xff\xfc\xffOB\0\0\x04\0\0\0\0\0\0\0"])
def test_padding_after_the_last_element_is_none_of_it(padding: bytes) -> None:
    assert finding(part10(**image()) + padding) == ""


@pytest.mark.parametrize("rest", [b"\0\0x", b"\0" * 20 + b"x", b"garbage that goes on", b"\xfe\xff\xdd\xe0\0\0\0\0"])
def test_something_else_after_the_last_element_is_found(rest: bytes) -> None:
    assert finding(part10(**image()) + rest)


def test_sequences_nested_beyond_reason_are_a_finding_and_no_recursion() -> None:
    level = b"\x40\x00\x40\xa0SQ\0\0\xff\xff\xff\xff" + b"\xfe\xff\x00\xe0\xff\xff\xff\xff"
    assert "nested more than" in finding(part10() + level * 100_000)


def test_deflated_bytes_that_end_early_or_are_damaged_are_found() -> None:
    whole = part10(DeflatedExplicitVRLittleEndian, **image(100, 100, length=20_000), ImageComments="x" * 5000)
    assert "end early" in finding(whole[:-8])
    damaged = bytearray(whole)
    damaged[-30:-20] = b"\xff" * 10
    assert finding(bytes(damaged))


def test_what_is_no_part_10_file_is_refused_as_everywhere() -> None:
    with pytest.raises(NoPart10Header):
        check_structure(io.BytesIO(b"anything"))


def huge(folder: Path) -> Path:
    """A sparse file of one instance with 300 MiB of pixel data."""
    path = folder / "huge.dcm"
    content = part10(**image(10240, 15360, length=2))
    start = content.index(b"\xe0\x7f\x10\x00OW")
    with path.open("wb") as file:
        file.write(content[: start + 8] + (10240 * 15360 * 2).to_bytes(4, "little"))
        file.truncate(file.tell() + 10240 * 15360 * 2)
    return path


def test_a_large_instance_takes_no_memory_and_is_not_read(tmp_path: Path) -> None:
    path = huge(tmp_path)
    read = 0

    class Counting(io.FileIO):
        def readinto(self, buffer) -> int:
            nonlocal read
            count = super().readinto(buffer) or 0
            read += count
            return count

    tracemalloc.start()
    try:
        with io.BufferedReader(Counting(path)) as stream:
            check_structure(stream)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 2**20
    assert read < 2**20
    with path.open("r+b") as file:
        file.truncate(2**20)
    with pytest.raises(BrokenStructure, match=r"its pixel data ends early: \d+ of 314572800 bytes"):
        check_structure(path)


def test_deflated_zeros_without_end_take_no_memory() -> None:
    start = part10(DeflatedExplicitVRLittleEndian)
    deflate = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    syntax = start.index(b"1.2.840.10008.1.2.1.99") + len("1.2.840.10008.1.2.1.99")
    element = b"\x10\x00\x00\x40OB\0\0" + (200 * 2**20).to_bytes(4, "little")
    body = b"".join([deflate.compress(element), *(deflate.compress(bytes(2**20)) for _ in range(200)), deflate.flush()])
    assert len(body) < 2**19
    tracemalloc.start()
    try:
        check_structure(io.BytesIO(start[:syntax] + body))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 8 * 2**20


HEADERS = {syntax: part10(syntax) for syntax in SYNTAXES}


@settings(deadline=None, max_examples=300)
@given(st.sampled_from(SYNTAXES), st.binary(max_size=400))
def test_random_bytes_end_in_a_finding_or_in_none(syntax: str, rest: bytes) -> None:
    with suppress(UnusableFile):
        check_structure(io.BytesIO(HEADERS[syntax] + rest))


SMALL = (PYDICOM_FILES / "MR_small.dcm").read_bytes()


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(st.integers(132, len(SMALL) - 1), st.integers(0, 255)), max_size=8), st.integers(0, 9000))
def test_bytes_that_were_changed_or_lost_never_lead_anywhere_else(changes: list[tuple[int, int]], lost: int) -> None:
    content = bytearray(SMALL[: len(SMALL) - lost])
    for position, value in changes:
        if position < len(content):
            content[position] = value
    with suppress(UnusableFile):
        finding(bytes(content))


def test_the_header_alone_does_not_tell() -> None:
    assert read_header(PYDICOM_FILES / "MR_truncated.dcm").path.instance


def test_what_is_cut_short_is_not_sent_and_all_else_is(dicomweb_emulator: Emulator) -> None:
    server = dicomweb_emulator
    with HealthcareClient(server.dicom_store, base_url=server.base_url, credentials=Bearer("any")) as client:
        plain = client.store(PYDICOM_FILES / "rtplan_truncated.dcm").outcomes[0].outcome
        result = client.store(PYDICOM_FILES, check="structure")
    assert plain == "created"
    found = {Path(each.source).name: each.reason for each in result.outcomes if each.reason in BROKEN.values()}
    assert found == {name: reason for name, reason in BROKEN.items() if name != "DICOMDIR-nooffset"}
    assert all(each.path for each in result.outcomes if each.reason in BROKEN.values())
    assert (result.created, result.identical, result.failed, result.skipped) == (115, 1, 16, 17)
