"""What is moved: generated instances, and the same as one multipart body for whoever sends or serves it whole.

All instances of a shelf have the same size, because their UIDs have: a server can then tell the parts of a request
apart without looking at each byte.

Source: DICOM PS3.10 section 7 (Part 10 files), PS3.5 section A.4 (encapsulated pixel data), PS3.18 section 8.7.1.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path

from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import (
    UID,
    CTImageStorage,
    ExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    MultiFrameGrayscaleWordSecondaryCaptureImageStorage,
)

ROOT = "1.2.826.0.1.3680043.8.498.77"
BOUNDARY = "bench-8d1f3c5a7e9b"
CLOSING = f"\r\n--{BOUNDARY}--".encode()
BLOCK_SIZE = 1 << 20
_FRAGMENT = 256 << 20


@dataclass(frozen=True, slots=True)
class Shelf:
    """Instances of one series, in files of their own and in one multipart body.

    :param folder: Holds the files, and nothing else.
    :param body: The multipart body.
    :param study: Study Instance UID.
    :param series: Series Instance UID.
    :param digests: SHA-256 of each instance, by SOP Instance UID, in the order of the files' names.
    :param size: Bytes of each instance.
    """

    folder: Path
    body: Path
    study: str
    series: str
    digests: dict[str, str]
    size: int

    @property
    def bytes(self) -> int:
        """Size of all instances."""
        return self.size * len(self.digests)


def write_shelf(place: Path, number: int, count: int, frames: int = 1, rows: int = 512) -> Shelf:
    """Write instances of random pixels, the same for the same arguments.

    :param place: New folder.
    :param number: Of the study: shelves of different numbers have no UID in common.
    :param count: Number of instances, at most 100,000.
    :param frames: Of each instance.
    :param rows: And columns, of 16-bit pixels.
    """
    shelf = _empty(place, number)
    noise = random.Random(number)  # noqa: S311 - pixels
    digests = {}
    size = 0
    with shelf.body.open("wb") as body:
        for index in range(count):
            uid = f"{shelf.series}.{100_000 + index}"
            head = _head(shelf, uid, frames=frames, rows=rows, index=index)
            summed = hashlib.sha256()
            size = len(head) + 2 * rows * rows * frames
            body.write(part_head(size, first=index == 0))
            with (shelf.folder / f"IM{index:06d}.dcm").open("wb") as file:
                for block in (head, *(noise.randbytes(2 * rows * rows) for _ in range(frames))):
                    file.write(block)
                    body.write(block)
                    summed.update(block)
            digests[uid] = summed.hexdigest()
        body.write(CLOSING)
    return replace(shelf, digests=digests, size=size)


def write_sparse_shelf(place: Path, number: int, fragments: int, fragment_size: int = _FRAGMENT) -> Shelf:
    """Write one instance that is nearly all holes: its pixel data are fragments of zeros, which no disk keeps.

    :param fragments: How many, one for each frame: an element of one piece could not be larger than 4 GiB.
    :param fragment_size: Bytes of each, an even number.
    """
    shelf = _empty(place, number)
    uid = f"{shelf.series}.100000"
    head = _head(shelf, uid, frames=fragments, rows=512, index=0, syntax=JPEGBaseline8Bit)
    path = shelf.folder / "IM000000.dcm"
    size = len(head) + 8 + fragments * (8 + fragment_size) + 8
    for file_path, before, after in ((path, b"", b""), (shelf.body, part_head(size, first=True), CLOSING)):
        with file_path.open("wb") as file:
            file.write(before + head + b"\xfe\xff\x00\xe0\x00\x00\x00\x00")
            for _ in range(fragments):
                file.write(b"\xfe\xff\x00\xe0" + fragment_size.to_bytes(4, "little"))
                file.seek(fragment_size, 1)
            file.write(b"\xfe\xff\xdd\xe0\x00\x00\x00\x00")
            file.write(after)
    return replace(shelf, digests={uid: digest_of(path)}, size=size)


def part_head(size: int, *, first: bool) -> bytes:
    """Give what stands before an instance in the multipart body: the headers that Orthanc's answers have."""
    lines = ["" if first else "\r\n", f"--{BOUNDARY}\r\n"]
    lines += ["Content-Type: application/dicom\r\n", f"Content-Length: {size}\r\n\r\n"]
    return "".join(lines).encode()


def digest_of(path: Path) -> str:
    """Give the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def small_instances(number: int, count: int) -> Iterator[bytes]:
    """Give instances without pixels, for searches."""
    shelf = Shelf(Path(), Path(), f"{ROOT}.{number}", f"{ROOT}.{number}.1", {}, 0)
    template = _head(shelf, f"{shelf.series}.100000", frames=0, rows=0, index=0)
    old = f"{shelf.series}.100000".encode()
    for index in range(count):
        yield template.replace(old, f"{shelf.series}.{100_000 + index}".encode())


def _empty(place: Path, number: int) -> Shelf:
    folder = place / "instances"
    folder.mkdir(parents=True)
    study = f"{ROOT}.{number}"
    return Shelf(folder, place / "body.multipart", study, f"{study}.1", {}, 0)


def _head(shelf: Shelf, uid: str, *, frames: int, rows: int, index: int, syntax: UID = ExplicitVRLittleEndian) -> bytes:
    """Give the bytes of an instance up to its pixels, the header of their element included."""
    meta = FileMetaDataset()
    sop_class = CTImageStorage if frames == 1 else MultiFrameGrayscaleWordSecondaryCaptureImageStorage
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID, meta.TransferSyntaxUID = sop_class, UID(uid), syntax
    instance = FileDataset("", {}, file_meta=meta, preamble=b"\0" * 128)
    values: dict[str, str | int] = {
        "SOPClassUID": sop_class,
        "SOPInstanceUID": uid,
        "StudyDate": "20260101",
        "Modality": "CT",
        "PatientName": "Bench^Mark",
        "PatientID": "BENCH",
        "StudyInstanceUID": shelf.study,
        "SeriesInstanceUID": shelf.series,
        "InstanceNumber": f"{100_000 + index}",
    }
    if frames:
        values |= {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2", "NumberOfFrames": f"{frames:06d}"}
        values |= {"Rows": rows, "Columns": rows, "BitsAllocated": 16, "BitsStored": 16, "HighBit": 15}
        values |= {"PixelRepresentation": 0}
    for keyword, value in values.items():
        setattr(instance, keyword, value)
    stream = BytesIO()
    instance.save_as(stream, enforce_file_format=True)
    if not frames:
        return stream.getvalue()
    length = 0xFFFFFFFF if syntax == JPEGBaseline8Bit else 2 * rows * rows * frames
    return stream.getvalue() + b"\xe0\x7f\x10\x00OW\x00\x00" + length.to_bytes(4, "little")
