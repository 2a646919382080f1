"""JPEG, PDF and video files to make instances of: by Pillow, from pydicom's own files, or put together by hand."""

from __future__ import annotations

import io
import random
import struct
from typing import Any

import pydicom
from PIL import Image
from pydicom.encaps import generate_frames

from tests.dicomweb.instances import PYDICOM_FILES

PDF = b"%PDF-1.7\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF\n"


def jpeg(mode: str = "RGB", size: tuple[int, int] = (31, 17), **options: Any) -> bytes:
    """A JPEG file of noise, always the same."""
    stream = io.BytesIO()
    noise = Image.frombytes("RGB", size, random.Random(0).randbytes(3 * size[0] * size[1]))
    noise.convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


def frame_of(name: str) -> tuple[bytes, pydicom.Dataset]:
    """The first frame of one of pydicom's files, and the whole data set."""
    (path,) = PYDICOM_FILES.rglob(name)
    data_set = pydicom.dcmread(path)
    count = int(data_set.get("NumberOfFrames", 1) or 1)
    return next(generate_frames(data_set.PixelData, number_of_frames=count)), data_set


def with_frame_marker(content: bytes, marker: int) -> bytes:
    """The same JPEG file as if its frame were of another kind."""
    for kind in (0xC0, 0xC1, 0xC2, 0xC3):
        content = content.replace(bytes((0xFF, kind)), bytes((0xFF, marker)), 1)
    return content


def box(kind: bytes, *content: bytes) -> bytes:
    """A box of an MP4 file."""
    inner = b"".join(content)
    return struct.pack(">L4s", 8 + len(inner), kind) + inner


def mp4(
    *,
    profile: int = 100,
    level: int = 41,
    frames: int = 50,
    size: tuple[int, int] = (640, 480),
    coding: bytes = b"avc1",
    configuration: bytes | None = None,
    tracks: bytes = b"vide",
    payload: bytes = b"coded",
) -> bytes:
    """The tables of an MP4 file, and something in the place of the coded video: 25 frames a second."""
    configuration = configuration or box(b"avcC", bytes((1, profile, 0, level)))
    entry_content = struct.pack(">6xH16xHHLLLH32sHh", 1, *size, 0x480000, 0x480000, 0, 1, b"", 24, -1) + configuration
    entry = box(coding, entry_content)
    made = []
    for at in range(0, len(tracks), 4):
        table = box(
            b"stbl",
            box(b"stsd", struct.pack(">LL", 0, 1), entry),
            box(b"stsz", struct.pack(">LLL", 0, 0, frames)),
        )
        media = box(
            b"mdia",
            box(b"mdhd", struct.pack(">LLLLLL", 0, 0, 0, 12800, frames * 512, 0)),
            box(b"hdlr", struct.pack(">LL4s", 0, 0, tracks[at : at + 4])),
            box(b"minf", table),
        )
        made.append(box(b"trak", media))
    return box(b"ftyp", b"isom\0\0\2\0") + box(b"mdat", payload) + box(b"moov", *made)


def mpeg2(*, profile_and_level: int = 0x48, size: tuple[int, int] = (720, 576), rate: int = 3) -> bytes:
    """The beginning of an MPEG-2 video: sequence header and its extension, then anything."""
    columns, rows = size
    header = struct.pack(">L", columns << 20 | rows << 8 | 0x20 | rate) + b"\0\0\0\0"
    extension = bytes((0x10 | profile_and_level >> 4, (profile_and_level & 0x0F) << 4 | 0x0A, 0, 1, 0, 0))
    return b"\0\0\1\xb3" + header + b"\0\0\1\xb5" + extension + b"\0\0\1\xb7"
