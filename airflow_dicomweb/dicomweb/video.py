"""What a video file says of itself, as far as DICOM must repeat it.

MP4 files with H.264 or H.265 are read whole: their tables name profile, level, size and number of frames. Of MPEG-2 only
the beginning is read, and the number of frames has to be given.

Source: DICOM PS3.5 sections 8.2.5 to 8.2.11 (MPEG-2, H.264, H.265); ISO/IEC 14496-12 (MP4), 14496-15 (avcC, hvcC); ITU-T H.262
section 6.2.2 (sequence header).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from airflow_dicomweb.dicomweb.bulk_source import blocks_of
from airflow_dicomweb.dicomweb.composing import PIXEL_DATA
from airflow_dicomweb.dicomweb.file_facts import FileFacts, ratio
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.errors import ConfigurationError

_VIDEO_PHOTOGRAPHIC = "1.2.840.10008.5.1.4.1.1.77.1.4.1"
_MPEG2_MAIN, _MPEG2_HIGH = "1.2.840.10008.1.2.4.100", "1.2.840.10008.1.2.4.101"
_H264_41, _H264_42 = "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.104"
_H265_MAIN, _H265_MAIN_10 = "1.2.840.10008.1.2.4.107", "1.2.840.10008.1.2.4.108"
# frame_rate_code of H.262, in frames per 1001 or 1000 ms.
_RATES = (24000 / 1001, 24.0, 25.0, 30000 / 1001, 30.0, 50.0, 60000 / 1001, 60.0)
_MOST_OF_TABLES = 256 * 2**20
_CONTAINERS = frozenset({b"moov", b"trak", b"mdia", b"minf", b"stbl"})


@dataclass(frozen=True, slots=True)
class _Video:
    transfer_syntax: str
    method: str
    rows: int
    columns: int
    rate: float
    frames: int | None = None
    bits: int = 8


def read_video(bulk: Source) -> FileFacts:
    """Read what a video file says of itself.

    :raises ConfigurationError: If no DICOM transfer syntax takes it, or it cannot be read; the message says why.
    """
    start = next(blocks_of(bulk), b"")
    if start[4:12] == b"ftypqt  ":
        raise ConfigurationError(
            "the video is in a QuickTime container (MOV): put it into MP4, which needs no new coding"
        )
    video = _mp4(bulk) if start[4:8] == b"ftyp" else _mpeg2(start)
    size = video.rows * video.columns * 3 * (video.frames or 1)
    fixed = {
        "SamplesPerPixel": (3,),
        "PhotometricInterpretation": ("YBR_PARTIAL_420",),
        "PlanarConfiguration": (0,),
        "Rows": (video.rows,),
        "Columns": (video.columns,),
        "BitsAllocated": (8 if video.bits == 8 else 16,),
        "BitsStored": (video.bits,),
        "HighBit": (video.bits - 1,),
        "PixelRepresentation": (0,),
        "LossyImageCompression": ("01",),
        "LossyImageCompressionMethod": (video.method,),
        "FrameIncrementPointer": ("00181063",),
    }
    if video.frames is not None:
        fixed["NumberOfFrames"] = (video.frames,)
    return FileFacts(
        kind="video file",
        transfer_syntax=video.transfer_syntax,
        tag=PIXEL_DATA,
        sop_class=_VIDEO_PHOTOGRAPHIC,
        fixed=fixed,
        usual={
            "CineRate": round(video.rate),
            "FrameTime": f"{1000 / video.rate:.6f}",
            "LossyImageCompressionRatio": ratio(size, bulk.size),
        },
        needed=() if video.frames is not None else ("NumberOfFrames",),
        may_be_empty=("ContentDate", "ContentTime", "AcquisitionContextSequence"),
    )


def _mpeg2(start: bytes) -> _Video:
    at = start.find(b"\0\0\1\xb3")
    extension = start.find(b"\0\0\1\xb5", at)
    if at < 0 or extension < 0 or start[extension + 4] >> 4 != 1:
        raise ConfigurationError("the MPEG file is no MPEG-2 video: MPEG-1 and others have no transfer syntax")
    header, more = start[at + 4 : at + 8], start[extension + 4 : extension + 10]
    profile = (more[0] & 0x0F) << 4 | more[1] >> 4
    # Main profile, at main level or at high or high-1440 level (H.262 tables 8-2 and 8-3).
    syntaxes = {0x48: _MPEG2_MAIN, 0x44: _MPEG2_HIGH, 0x46: _MPEG2_HIGH}
    if profile not in syntaxes:
        raise ConfigurationError("the MPEG-2 video must have the main profile, and the main or high level")
    columns = header[0] << 4 | header[1] >> 4 | ((more[1] & 1) << 1 | more[2] >> 7) << 12
    rows = (header[1] & 0x0F) << 8 | header[2] | (more[2] >> 5 & 3) << 12
    code = header[3] & 0x0F
    if not rows or not columns or not 1 <= code <= len(_RATES):
        raise ConfigurationError("the MPEG-2 video does not say its size or frame rate")
    return _Video(syntaxes[profile], "ISO_13818_1", rows, columns, _RATES[code - 1])


def _mp4(bulk: Source) -> _Video:
    """Read the tables of the one video track."""
    tracks = [track for track in _tracks(_tables(bulk)) if track.get(b"hdlr", b"")[8:12] == b"vide"]
    if len(tracks) != 1:
        raise ConfigurationError(f"the MP4 file has {len(tracks)} video tracks: one is accepted")
    (track,) = tracks
    try:
        entry = track[b"stsd"][8:]
        columns, rows = struct.unpack_from(">HH", entry, 32)
        syntax, method, bits = _coding(entry)
        frames = struct.unpack_from(">L", track[b"stsz"], 8)[0]
        long = track[b"mdhd"][0] == 1
        scale, duration = struct.unpack_from(">LQ" if long else ">LL", track[b"mdhd"], 20 if long else 12)
    except (KeyError, IndexError, struct.error):
        raise _damaged() from None
    if not frames or not scale or not duration or not rows or not columns:
        raise ConfigurationError("the MP4 file does not say its number of frames, size or duration, or is fragmented")
    return _Video(syntax, method, rows, columns, frames * scale / duration, frames, bits)


def _coding(entry: bytes) -> tuple[str, str, int]:
    """Give transfer syntax, method and bits of the coding that a sample description names."""
    kind = entry[4:8]
    boxes = dict(_boxes(entry, 86))
    if kind == b"avc1":
        profile, level = boxes[b"avcC"][1], boxes[b"avcC"][3]
        if profile != 100 or level > 42:
            raise ConfigurationError(
                f"the video is H.264 of profile {profile} and level {level / 10}: the high profile (100) up to level 4.2 is "
                "accepted"
            )
        return (_H264_41 if level <= 41 else _H264_42), "ISO_14496_10", 8
    if kind in {b"hvc1", b"hev1"}:
        profile, level = boxes[b"hvcC"][1] & 0x1F, boxes[b"hvcC"][12]
        if profile not in {1, 2} or level > 153:
            raise ConfigurationError(
                f"the video is H.265 of profile {profile} and level {level / 30}: main (1) and main 10 (2) up to level 5.1 "
                "are accepted"
            )
        return (_H265_MAIN, "ISO_23008_2", 8) if profile == 1 else (_H265_MAIN_10, "ISO_23008_2", 10)
    raise ConfigurationError(
        "the MP4 file holds neither H.264 (avc1) nor H.265 (hvc1, hev1): others have no transfer syntax"
    )


def _tables(bulk: Source) -> bytes:
    """Read the movie box: everything but the coded video."""
    try:
        with bulk.open() as stream:
            left, found = bulk.size, b""
            while left >= 8:
                kind, size, header = _box_header(stream, left)
                if kind == b"moov":
                    if size > _MOST_OF_TABLES:
                        raise _damaged()
                    found = stream.read(size)
                elif not _skip(stream, size):
                    raise _damaged()
                left -= header + size
    except OSError as error:
        raise ConfigurationError(f"bulk_data cannot be read: {error.strerror or type(error).__name__}") from None
    if not found:
        raise ConfigurationError("the MP4 file has no tables (moov): it is fragmented, or was not finished")
    return found


def _box_header(stream: BinaryIO, left: int) -> tuple[bytes, int, int]:
    """Read kind, size of the content and size of the header of a box."""
    start = stream.read(8)
    size, kind, header = int.from_bytes(start[:4], "big"), start[4:8], 8
    if size == 1:
        size, header = int.from_bytes(stream.read(8), "big"), 16
    elif size == 0:
        size = left
    if size < header or size > left:
        raise _damaged()
    return kind, size - header, header


def _skip(stream: BinaryIO, size: int) -> bool:
    while size > 0:
        block = stream.read(min(size, 1 << 20))
        if not block:
            return False
        size -= len(block)
    return True


def _tracks(movie: bytes) -> Iterator[dict[bytes, bytes]]:
    for kind, content in _boxes(movie, 0):
        if kind == b"trak":
            yield dict(_leaves(content))


def _leaves(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    for kind, inner in _boxes(content, 0):
        if kind in _CONTAINERS:
            yield from _leaves(inner)
        else:
            yield kind, inner


def _boxes(content: bytes, at: int) -> Iterator[tuple[bytes, bytes]]:
    while at + 8 <= len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        if size < 8 or at + size > len(content):
            raise _damaged()
        yield content[at + 4 : at + 8], content[at + 8 : at + size]
        at += size


def _damaged() -> ConfigurationError:
    return ConfigurationError("the MP4 file is damaged or cut: its boxes do not fit into it")
