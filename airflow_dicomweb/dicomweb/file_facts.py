"""What a file of which an instance is to be made says of itself: JPEG image, PDF document, video.

Source: DICOM PS3.5 section 8.2 and annex A.4 (encapsulated pixel data), PS3.3 sections C.7.6.1.1.5 (lossy compression)
and C.24.2 (encapsulated documents).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from airflow_dicomweb.dicomweb.bulk_source import blocks_of
from airflow_dicomweb.dicomweb.composing import DOCUMENT, EXPLICIT, PIXEL_DATA
from airflow_dicomweb.dicomweb.jpeg import read_jpeg
from airflow_dicomweb.dicomweb.sources import Source
from airflow_dicomweb.errors import ConfigurationError

Values = Mapping[str, Any]
_NONE: Values = MappingProxyType({})
_MOST_OF_AN_IMAGE = 512 * 2**20
_SECONDARY_CAPTURE = "1.2.840.10008.5.1.4.1.1.7"
_ENCAPSULATED_PDF = "1.2.840.10008.5.1.4.1.1.104.1"
_ACCEPTED = "a JPEG image, a PDF document and a video (MP4 or MPEG-2) are accepted"
_OTHERS = {
    b"\x89PNG": "a PNG image",
    b"GIF8": "a GIF image",
    b"II*\0": "a TIFF image",
    b"MM\0*": "a TIFF image",
    b"BM": "a BMP image",
    b"\0\0\0\x0cjP": "a JPEG 2000 image",
    b"\xff\x4f\xff\x51": "a JPEG 2000 image",
    b"PK\x03\x04": "an archive or office document",
    b"RIFF": "a RIFF file",
    b"\x1aE\xdf\xa3": "a Matroska or WebM video",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class FileFacts:
    """What a file says of itself, in DICOM's words.

    :param kind: What it is, for messages.
    :param transfer_syntax: Transfer Syntax UID of an instance made of it.
    :param tag: Where its bytes go.
    :param sop_class: SOP Class of an instance when nothing else is asked for.
    :param is_image: It is one JPEG image.
    :param fixed: By keyword, the values that agree with the file; the first is taken where metadata says nothing.
    :param usual: By keyword, values that are taken where metadata says nothing; it may say something else.
    :param needed: Keywords of what metadata must say.
    :param may_be_empty: Keywords of what must be there, and may be empty.
    """

    kind: str
    transfer_syntax: str
    tag: str
    sop_class: str
    is_image: bool = False
    fixed: Mapping[str, tuple[Any, ...]] = field(default_factory=lambda: _NONE)
    usual: Values = field(default_factory=lambda: _NONE)
    needed: tuple[str, ...] = ()
    may_be_empty: tuple[str, ...] = ()


def read_facts(bulk: Source) -> FileFacts:
    """Read what a file says of itself.

    :raises ConfigurationError: If it is none that an instance can be made of; the message says why.
    """
    start = next(blocks_of(bulk), b"")
    if start[:2] == b"\xff\xd8":
        return _jpeg(bulk)
    if b"%PDF-" in start[:1024]:
        return _pdf(bulk)
    if start[4:8] == b"ftyp" or start[:4] in {b"\0\0\1\xb3", b"\0\0\1\xba"}:
        from airflow_dicomweb.dicomweb.video import read_video

        return read_video(bulk)
    if start[128:132] == b"DICM":
        raise ConfigurationError("bulk_data is a DICOM file already: store it as it is")
    named = next((name for magic, name in _OTHERS.items() if start.startswith(magic)), "of no known kind")
    raise ConfigurationError(f"bulk_data is {named}: {_ACCEPTED}")


def _jpeg(bulk: Source) -> FileFacts:
    if bulk.size > _MOST_OF_AN_IMAGE:
        raise ConfigurationError(f"the JPEG file has {bulk.size} bytes: at most {_MOST_OF_AN_IMAGE} are accepted")
    image = read_jpeg(b"".join(blocks_of(bulk)))
    allocated = 8 if image.precision <= 8 else 16
    fixed: dict[str, tuple[Any, ...]] = {
        "SamplesPerPixel": (image.samples,),
        "PhotometricInterpretation": image.photometric,
        "NumberOfFrames": (1,),
        "Rows": (image.rows,),
        "Columns": (image.columns,),
        "BitsAllocated": (allocated,),
        "BitsStored": (image.precision,),
        "HighBit": (image.precision - 1,),
        # JPEG knows no signs; without loss, the bits may be those of numbers with a sign.
        "PixelRepresentation": (0, 1) if image.lossless else (0,),
    }
    if image.samples > 1:
        fixed["PlanarConfiguration"] = (0,)
    usual: dict[str, Any] = {}
    if not image.lossless:
        fixed |= {"LossyImageCompression": ("01",), "LossyImageCompressionMethod": ("ISO_10918_1",)}
        size = image.rows * image.columns * image.samples * allocated // 8
        usual["LossyImageCompressionRatio"] = ratio(size, bulk.size)
    return FileFacts(
        kind="JPEG file",
        transfer_syntax=image.transfer_syntax,
        tag=PIXEL_DATA,
        sop_class=_SECONDARY_CAPTURE,
        is_image=True,
        fixed=fixed,
        usual=usual,
    )


def ratio(size: int, compressed: int) -> str:
    """Write a compression ratio as a Decimal String, of at most 16 characters."""
    return f"{max(size / compressed, 0.01):.2f}"


def _pdf(bulk: Source) -> FileFacts:
    last = b""
    for block in blocks_of(bulk):
        last = (last + block)[-2048:]
    if b"%%EOF" not in last:
        raise ConfigurationError("the PDF file is cut: it does not end with %%EOF")
    return FileFacts(
        kind="PDF file",
        transfer_syntax=EXPLICIT,
        tag=DOCUMENT,
        sop_class=_ENCAPSULATED_PDF,
        fixed={
            "SOPClassUID": (_ENCAPSULATED_PDF,),
            "MIMETypeOfEncapsulatedDocument": ("application/pdf",),
            "EncapsulatedDocumentLength": (bulk.size,),
        },
        # Whoever knows that no name is written in the document says so.
        usual={"BurnedInAnnotation": "YES", "InstanceNumber": 1},
        may_be_empty=("ContentDate", "ContentTime", "AcquisitionDateTime", "DocumentTitle", "ConceptNameCodeSequence"),
    )
