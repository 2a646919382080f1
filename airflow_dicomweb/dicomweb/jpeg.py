"""What a JPEG file says of itself, as far as DICOM must repeat it: transfer syntax, size, depth and colours.

Only what has a DICOM transfer syntax of its own is read: baseline, extended and lossless, each with Huffman coding. The
file is walked from its first to its last marker, so that one that was cut is found out before it is sent.

Source: ITU-T T.81 (JPEG) annex B, T.871 (JFIF), T.872 (Adobe segment); DICOM PS3.5 section 8.2.1 and annex A.4.1.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from airflow_dicomweb.errors import ConfigurationError

BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"
ACCEPTED = "a baseline, extended or lossless JPEG with Huffman coding is accepted"

_SOF0, _SOF1, _SOF3 = 0xC0, 0xC1, 0xC3
_DHT, _JPG, _DAC = 0xC4, 0xC8, 0xCC
_SOI, _EOI, _SOS, _DHP, _APP0, _APP14, _JPEG_LS = 0xD8, 0xD9, 0xDA, 0xDE, 0xE0, 0xEE, 0xF7
_REFUSED = {
    0xC2: "progressive (SOF2)",
    0xC5: "hierarchical (SOF5)",
    0xC6: "hierarchical and progressive (SOF6)",
    0xC7: "hierarchical and lossless (SOF7)",
    0xC9: "arithmetic coding (SOF9)",
    0xCA: "progressive with arithmetic coding (SOF10)",
    0xCB: "lossless with arithmetic coding (SOF11)",
    0xCD: "hierarchical with arithmetic coding (SOF13)",
    0xCE: "hierarchical with arithmetic coding (SOF14)",
    0xCF: "hierarchical with arithmetic coding (SOF15)",
    _DHP: "hierarchical (DHP)",
    _JPEG_LS: "JPEG-LS (SOF55)",
}
_DEPTHS = {_SOF0: (8,), _SOF1: (8, 12), _SOF3: tuple(range(2, 17))}
# Within coded data FF is followed by 00, or is a restart marker or a filling.
_NEXT_MARKER = re.compile(rb"\xff+[^\x00\xd0-\xd7\xff]", re.DOTALL)


@dataclass(frozen=True, slots=True)
class JpegImage:
    """What a JPEG file says of its image.

    :param transfer_syntax: Transfer Syntax UID.
    :param rows: Height in pixels.
    :param columns: Width in pixels.
    :param samples: Samples per pixel: 1 or 3.
    :param precision: Bits of a sample.
    :param photometric: Photometric Interpretations that agree with the file; the first is the most likely one.
    :param lossless: The samples are as they were before compression.
    """

    transfer_syntax: str
    rows: int
    columns: int
    samples: int
    precision: int
    photometric: tuple[str, ...]
    lossless: bool


@dataclass(frozen=True, slots=True)
class _Frame:
    kind: int
    precision: int
    rows: int
    columns: int
    components: tuple[tuple[int, int], ...]
    """Identifier and sampling factors of each."""


@dataclass(slots=True)
class _Found:
    frame: _Frame | None = None
    predictors: tuple[int, ...] = ()
    jfif: bool = False
    adobe: int | None = None


def read_jpeg(content: bytes) -> JpegImage:
    """Read what a JPEG file says of its image.

    :raises ConfigurationError: If it is none, is not whole, or no DICOM transfer syntax takes it; the message says why.
    """
    found = _Found()
    for marker, segment in _segments(content):
        if marker in _REFUSED:
            raise ConfigurationError(f"the JPEG file is {_REFUSED[marker]}: {ACCEPTED}")
        if 0xC0 <= marker <= 0xCF and marker not in {_DHT, _JPG, _DAC}:
            if found.frame is not None:
                raise ConfigurationError(f"the JPEG file has more than one frame: {ACCEPTED}")
            found.frame = _frame(marker, segment)
        elif marker == _SOS:
            # Ns, two bytes for each component, then the start of spectral selection: the predictor of a lossless scan.
            found.predictors += (segment[1 + 2 * segment[0]],)
        elif marker == _APP0 and segment[:5] == b"JFIF\0":
            found.jfif = True
        elif marker == _APP14 and segment[:5] == b"Adobe" and len(segment) >= 12:
            found.adobe = segment[11]
    if found.frame is None or not found.predictors:
        raise ConfigurationError(f"the JPEG file holds no image: {ACCEPTED}")
    return _judged(found.frame, found)


def _segments(content: bytes) -> Iterator[tuple[int, bytes]]:
    """Give each marker with its segment, and make sure that the file is whole."""
    if content[:2] != b"\xff\xd8":
        raise ConfigurationError(f"not a JPEG file: {ACCEPTED}")
    at = 2
    while (match := _NEXT_MARKER.match(content, at)) is not None:
        at = match.end()
        marker = content[at - 1]
        if marker == _EOI:
            if content[at:].strip(b"\0\xff"):  # what fills up to an even length is passed over
                raise ConfigurationError("the JPEG file goes on after the end of its image: only one image is accepted")
            return
        size = int.from_bytes(content[at : at + 2], "big")
        segment = content[at + 2 : at + size]
        if size < 2 or len(segment) != size - 2 or (marker == _SOS and len(segment) < 1 + 2 * segment[0] + 3):
            break
        yield marker, segment
        at += size
        if marker == _SOS:
            following = _NEXT_MARKER.search(content, at)
            at = following.start() if following else len(content)
    raise ConfigurationError("the JPEG file is damaged or cut: it does not reach the end of its image (EOI)")


def _frame(kind: int, segment: bytes) -> _Frame:
    count = segment[5] if len(segment) > 5 else 0
    if not count or len(segment) != 6 + 3 * count:
        raise ConfigurationError("the JPEG file is damaged: its frame header cannot be read")
    rows, columns = int.from_bytes(segment[1:3], "big"), int.from_bytes(segment[3:5], "big")
    components = tuple((segment[at], segment[at + 1]) for at in range(6, len(segment), 3))
    return _Frame(kind, segment[0], rows, columns, components)


def _judged(frame: _Frame, found: _Found) -> JpegImage:
    if frame.precision not in _DEPTHS[frame.kind]:
        raise ConfigurationError(
            f"the JPEG file has samples of {frame.precision} bits, which DICOM does not take there"
        )
    if not frame.rows or not frame.columns:
        raise ConfigurationError("the JPEG file does not say its height or width at its beginning")
    if len(frame.components) not in {1, 3}:
        raise ConfigurationError(f"the JPEG file has {len(frame.components)} components: 1 or 3 are accepted")
    lossless = frame.kind == _SOF3
    lossless_syntax = LOSSLESS_FIRST_ORDER if set(found.predictors) == {1} else LOSSLESS
    syntaxes = {_SOF0: BASELINE, _SOF1: EXTENDED, _SOF3: lossless_syntax}
    return JpegImage(
        transfer_syntax=syntaxes[frame.kind],
        rows=frame.rows,
        columns=frame.columns,
        samples=len(frame.components),
        precision=frame.precision,
        photometric=_photometric(frame, found, lossless=lossless),
        lossless=lossless,
    )


def _photometric(frame: _Frame, found: _Found, *, lossless: bool) -> tuple[str, ...]:
    if len(frame.components) == 1:
        return ("MONOCHROME2", "MONOCHROME1")
    identifiers = bytes(identifier for identifier, _ in frame.components)
    subsampled = len({sampling for _, sampling in frame.components}) > 1
    # YBR_FULL_422 is the standard's name for chrominance of fewer samples; both names are common for either.
    luminance: tuple[str, ...] = ("YBR_FULL_422", "YBR_FULL") if subsampled else ("YBR_FULL", "YBR_FULL_422")
    if lossless:
        luminance = ("YBR_FULL",)
    if found.jfif:
        return luminance
    if found.adobe is not None:
        return luminance if found.adobe == 1 else ("RGB",)
    if identifiers == b"RGB":
        return ("RGB",)
    # The file does not say: what decoders assume comes first, and the author may know better.
    return ("RGB", *luminance) if lossless else (*luminance, "RGB")
