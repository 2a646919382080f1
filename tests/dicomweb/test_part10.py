"""The identity of real and broken files is read from their first bytes, or why there is none is said."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import tarfile
import warnings
import zipfile
import zlib
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Any

import pydicom
import pytest
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

from airflow_dicomweb.dicomweb.part10 import (
    BadIdentity,
    ClosedArchive,
    DicomDirectory,
    EmptyFile,
    NoPart10Header,
    NotDicom,
    UnreadableHeader,
    UnusableFile,
    read_header,
)
from airflow_dicomweb.dicomweb.resources import InstancePath
from tests.dicomweb.instances import PYDICOM_FILES, all_files, part10


class Once:
    """A stream that can be read once and counts what was read, as one from the network."""

    def __init__(self, content: bytes) -> None:
        self._stream = BytesIO(content)
        self.taken = 0

    def read(self, size: int = -1) -> bytes:
        block = self._stream.read(size)
        self.taken += len(block)
        return block


def header(content: bytes) -> Any:
    return read_header(BytesIO(content))


def test_every_file_of_pydicom_has_its_identity_or_its_reason() -> None:
    found: Counter[str] = Counter()
    identities: Counter[InstancePath] = Counter()
    for path in all_files():
        try:
            identities[read_header(path).path] += 1
        except UnusableFile as reason:
            found[type(reason).__name__] += 1
    assert found == {"NotDicom": 9, "ClosedArchive": 1, "DicomDirectory": 8, "NoPart10Header": 3, "BadIdentity": 10}
    assert identities.total() == 145
    assert (len(identities), len({each.study for each in identities})) == (116, 29)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_the_identity_is_what_pydicom_reads_from_the_data_set() -> None:
    checked = 0
    for path in all_files():
        if path.read_bytes()[128:132] == b"DICM":
            whole = pydicom.dcmread(path, stop_before_pixels=True, specific_tags=["SOPInstanceUID", "StudyInstanceUID"])
            if "StudyInstanceUID" in whole and "SOPInstanceUID" in whole:
                found = read_header(path)
                assert (found.path.study, found.path.instance) == (whole.StudyInstanceUID, whole.SOPInstanceUID)
                assert found.transfer_syntax == whole.file_meta.TransferSyntaxUID
                checked += 1
    assert checked == 145


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("README.txt", NotDicom),
        ("zipMR.gz", ClosedArchive),
        ("no_meta.dcm", NotDicom),  # its first byte is missing, so nothing in it can be read
        ("dicomdirtests/DICOMDIR", DicomDirectory),
        ("dicomdirtests/DICOMDIR-bigEnd", DicomDirectory),
        ("rtstruct.dcm", NoPart10Header),
        ("ExplVR_LitEndNoMeta.dcm", NoPart10Header),
        ("ExplVR_BigEndNoMeta.dcm", NoPart10Header),
        ("JPEGLSNearLossless_08.dcm", BadIdentity),
        ("meta_missing_tsyntax.dcm", BadIdentity),
    ],
)
def test_each_kind_of_unusable_file_has_its_own_reason(name: str, reason: type[UnusableFile]) -> None:
    with pytest.raises(UnusableFile) as found:
        read_header(PYDICOM_FILES / name)
    assert type(found.value) is reason


@pytest.mark.parametrize("syntax", [ImplicitVRLittleEndian, ExplicitVRLittleEndian, DeflatedExplicitVRLittleEndian])
def test_the_identity_is_that_of_the_data_set_not_that_of_group_0002(syntax: str) -> None:
    found = header(part10(syntax))
    assert found.path == InstancePath("1.2", "1.2.3", "1.2.3.4")
    assert (found.sop_class, found.transfer_syntax) == ("1.2.840.10008.5.1.4.1.1.7", syntax)


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID"])
def test_a_missing_uid_is_named(missing: str) -> None:
    with pytest.raises(BadIdentity, match=f"{missing.removesuffix('InstanceUID')} Instance UID is missing"):
        header(part10(**{missing: None}))


@pytest.mark.parametrize("bad", ["..", "1.2.a", "1..2", "1." * 40 + "1", "1.2\\1.3", "../../x"])
@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_uid_that_is_none_is_refused_without_repeating_it(bad: str) -> None:
    content = part10(StudyInstanceUID="0" * len(bad)).replace(b"0" * len(bad), bad.encode())
    with pytest.raises(BadIdentity, match="Study Instance UID is not a UID") as refusal:
        header(content)
    assert bad not in str(refusal.value)


@pytest.mark.filterwarnings("ignore::UserWarning:pydicom")
def test_a_leading_zero_is_accepted_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    assert header(part10(SeriesInstanceUID="1.02.3")).path.series == "1.02.3"
    assert "Series Instance UID 1.02.3 has a component with a leading zero" in caplog.text


def test_padding_with_a_null_or_a_space_is_not_part_of_a_uid() -> None:
    content = part10(StudyInstanceUID="1.2.5")
    assert b"1.2.5\0" in content
    assert header(content).path.study == "1.2.5"
    assert header(content.replace(b"1.2.5\0", b"1.2.5 ")).path.study == "1.2.5"


def test_only_the_beginning_of_a_large_file_is_read() -> None:
    stream: Any = Once(part10(BitsAllocated=8, PixelData=bytes(5_000_000)))
    assert read_header(stream).path.instance == "1.2.3.4"
    assert stream.taken == 4 * 1024


def test_large_elements_before_the_uids_are_read_past() -> None:
    content = bytearray(part10(StudyComments=None))
    private = b"\x09\x00\x10\x00LO\x04\x00ACME" + b"\x09\x00\x01\x10OB\x00\x00" + (3_000_000).to_bytes(4, "little")
    at = content.index(b"\x20\x00\x0d\x00UI")
    content[at:at] = private + b"x" * 3_000_000
    assert header(bytes(content)).path.study == "1.2"


@pytest.mark.parametrize("cut", [140, 200, 300, 340, 400])
def test_a_cut_file_has_a_reason(cut: int) -> None:
    content = part10(ImageType=["DERIVED"] * 20)
    with pytest.raises((BadIdentity, UnreadableHeader)):
        header(content[: min(cut, content.index(b"\x20\x00\x0e\x00UI"))])


def test_bytes_that_lead_a_reader_astray_are_not_dicom() -> None:
    for content in (b"DICM", b"\xff" * 200, b"\x08\x00" * 500, zlib.compress(b"x" * 10_000), b"a" * 2_000_000):
        with pytest.raises(NotDicom):
            header(content)


def test_an_empty_file_is_what_a_broken_copy_leaves_and_is_not_passed_over() -> None:
    with pytest.raises(EmptyFile, match="an empty file") as finding:
        header(b"")
    assert not isinstance(finding.value, NotDicom)


def test_a_part_10_file_without_a_readable_data_set_is_said_to_be_one() -> None:
    for tail in (b"\x08\x00\x16\x00SQ\x00\x00\xff\xff\xff\xff" + b"\xff" * 40, b"\x08"):
        with pytest.raises((UnreadableHeader, BadIdentity)):
            header(b"\0" * 128 + b"DICM" + tail)


def test_reading_in_several_threads_leaves_the_warning_filters_alone() -> None:
    before, interval = list(warnings.filters), sys.getswitchinterval()
    content = part10()
    sys.setswitchinterval(1e-6)  # threads take turns so often that they leave out of turn
    try:
        with ThreadPoolExecutor(8) as pool:
            assert len({found.path for found in pool.map(header, [content] * 400)}) == 1
    finally:
        sys.setswitchinterval(interval)
    assert list(warnings.filters) == before


def test_a_file_that_cannot_be_opened_is_an_os_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_header(tmp_path / "missing")


def tarred(kind: int) -> bytes:
    stream = BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=kind) as archive:
        member = tarfile.TarInfo("IM1")
        member.size = len(part10())
        archive.addfile(member, BytesIO(part10()))
    return stream.getvalue()


def zipped(*names: str) -> bytes:
    stream = BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in names:
            archive.writestr(name, part10())
    return stream.getvalue()


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("gzip", gzip.compress(part10())),
        ("bzip2", bz2.compress(part10())),
        ("bzip2", bz2.compress(b"")),
        ("xz", lzma.compress(part10())),
        ("tar", tarred(tarfile.USTAR_FORMAT)),
        ("tar", tarred(tarfile.GNU_FORMAT)),
        ("tar", tarred(tarfile.PAX_FORMAT)),
        ("ZIP", zipped("IM1")),
        ("ZIP", zipped()),
        # The signatures that these begin with, as nothing here writes such files.
        ("7z", b"7z\xbc\xaf\x27\x1c\0\4" + bytes(500)),
        ("rar", b"Rar!\x1a\x07\0" + bytes(500)),
        ("rar", b"Rar!\x1a\x07\1\0" + bytes(500)),
    ],
)
def test_an_archive_under_any_name_is_no_file_to_pass_over(kind: str, content: bytes) -> None:
    with pytest.raises(
        ClosedArchive, match=f"an archive .{kind}. that is not opened here: unpack it, or name a ZIP .zip"
    ):
        header(content)


@pytest.mark.parametrize("first", ["[Content_Types].xml", "META-INF/MANIFEST.MF", "mimetype"])
def test_documents_and_programs_that_are_zip_files_inside_are_passed_over(first: str) -> None:
    with pytest.raises(NotDicom):
        header(zipped(first, "other"))


def test_an_instance_whose_preamble_is_that_of_an_archive_is_an_instance() -> None:
    assert header(b"PK\x03\x04" + bytes(124) + part10()[128:]) == header(part10())
