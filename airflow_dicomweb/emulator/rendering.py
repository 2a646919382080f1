"""Pictures of frames: PNG and JPEG.

Grey values go through the modality transformation and the window that the file names, or else over their whole range;
colours are shown as they are.

Source: DICOM PS3.3 sections C.11.1, C.11.2 and C.7.6.3.1.2; Cloud Healthcare API, DICOM conformance statement,
"Retrieve rendered transaction".
"""

from __future__ import annotations

import io
import re
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
from PIL import Image
from pydicom.dataset import Dataset, FileDataset
from pydicom.multival import MultiValue
from pydicom.pixels.processing import apply_color_lut, apply_modality_lut, apply_voi_lut
from pydicom.pixels.utils import pixel_array
from pydicom.uid import DeflatedExplicitVRLittleEndian

from airflow_dicomweb.emulator.decoders import PICTURE_FORMATS, RenderingError

_VIEWPORT = re.compile(r"\d{1,5},\d{1,5}(,-?\d{0,5}(\.\d*)?){0,4}")
_LARGEST_VIEWPORT = 16_384
_JPEG_QUALITY = 90

Pixels = np.ndarray[Any, np.dtype[Any]]


def render(file: Path, media_type: str, frame: int = 1, viewport: str = "") -> bytes:
    """Make a picture of one frame.

    :param media_type: A key of ``PICTURE_FORMATS``.
    :param frame: From 1 on.
    :param viewport: ``width,height[,x,y,width,height]``: the size to fit into, and the part of the picture to show.
    :raises RenderingError: If the file has no pixels, or none that can be decoded, or the viewport cannot be.
    """
    kind = PICTURE_FORMATS[media_type]
    try:
        data_set = pydicom.dcmread(str(file), stop_before_pixels=True)
        pixels = _pixels(file, data_set, frame - 1)
        image = Image.fromarray(_as_bytes(pixels, data_set, frame - 1, kind))
    except RenderingError:
        raise
    except Exception as error:
        raise RenderingError("the instance has no pixel data that can be rendered") from error
    output = io.BytesIO()
    _framed(image, viewport).save(output, kind, **({"quality": _JPEG_QUALITY} if kind == "JPEG" else {}))
    return output.getvalue()


def _pixels(file: Path, data_set: FileDataset, frame: int) -> Pixels:
    """Decode one frame; the file is read no further than that frame needs, if it can be."""
    deflated = data_set.file_meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian
    try:
        readable = not deflated and int(data_set.get("NumberOfFrames") or 1) > 0
    except ValueError:
        readable = False
    if readable:
        return pixel_array(str(file), index=frame)
    whole = pydicom.dcmread(str(file))
    if not deflated:
        # What is no number cannot be more than one frame.
        whole.NumberOfFrames = 1
    return pixel_array(whole, index=frame)


def _as_bytes(pixels: Pixels, data_set: Dataset, frame: int, kind: str) -> Pixels:
    """Give what is seen: 8 bits for each grey value or colour."""
    interpretation = str(data_set.get("PhotometricInterpretation", ""))
    if interpretation == "PALETTE COLOR":
        colours = apply_color_lut(pixels, data_set)
        return _eight_bits(colours, colours.dtype.itemsize * 8)
    if pixels.ndim == 3:
        bits = int(data_set.get("BitsStored", 8))
        if bits > 8 and kind == "JPEG":
            raise RenderingError("colours of more than 8 bits cannot be a JPEG")
        return _eight_bits(pixels, bits)
    shown = _grey(pixels, data_set, frame)
    return 255 - shown if interpretation == "MONOCHROME1" else shown


def _eight_bits(colours: Pixels, bits: int) -> Pixels:
    shifted: Pixels = colours >> (bits - 8) if bits > 8 else colours
    return np.ascontiguousarray(shifted[..., :3], dtype=np.uint8)


def _grey(pixels: Pixels, data_set: Dataset, frame: int) -> Pixels:
    transformation = _of_frame(data_set, frame, "PixelValueTransformationSequence")
    values = apply_modality_lut(pixels, transformation)
    padding = data_set.get("PixelPaddingValue")
    real = pixels != padding if isinstance(padding, int) else np.ones(pixels.shape, bool)
    window = _window(_of_frame(data_set, frame, "FrameVOILUTSequence"))
    if window is not None:
        return _scaled(values.astype(np.float64), *window)
    if data_set.get("VOILUTSequence"):
        values = apply_voi_lut(values, data_set)
    finite = np.nan_to_num(values.astype(np.float64))
    seen = finite[real] if real.any() else finite
    return _scaled(finite, float(seen.min()), float(seen.max()))


def _of_frame(data_set: Dataset, frame: int, sequence: str) -> Dataset:
    """Give the data set that holds the attributes of a functional group: the frame's, the shared one or the instance."""
    per_frame = data_set.get("PerFrameFunctionalGroupsSequence") or []
    shared = data_set.get("SharedFunctionalGroupsSequence") or []
    for group in (*per_frame[frame : frame + 1], *shared[:1]):
        if items := group.get(sequence):
            found: Dataset = items[0]
            return found
    return data_set


def _window(data_set: Dataset) -> tuple[float, float] | None:
    """Give the lowest and the highest value of the first window; None if there is none that can be."""
    try:
        centre, width = (float(_first(data_set[name].value)) for name in ("WindowCenter", "WindowWidth"))
    except (KeyError, TypeError, ValueError):
        return None
    exact = str(data_set.get("VOILUTFunction", "LINEAR")) != "LINEAR"
    if not (np.isfinite(centre) and np.isfinite(width)) or width < (1e-9 if exact else 1):
        return None
    # PS3.3 C.11.2.1.2.1 and C.11.2.1.3.2; a sigmoid is shown by its straight part.
    return (centre - width / 2, centre + width / 2) if exact else (centre - width / 2, centre + width / 2 - 1)


def _first(value: Any) -> Any:
    return value[0] if isinstance(value, MultiValue) else value


def _scaled(values: Pixels, low: float, high: float) -> Pixels:
    if high <= low:
        return np.where(values > low, 255, 0).astype(np.uint8)
    return (np.clip((values - low) / (high - low), 0, 1) * 255 + 0.5).astype(np.uint8)


def _framed(image: Image.Image, viewport: str) -> Image.Image:
    """Cut and scale a picture to a viewport (PS3.18 section 8.3.5.1.3)."""
    if not viewport:
        return image
    if not _VIEWPORT.fullmatch(viewport):
        raise RenderingError("invalid viewport: width,height[,x,y,width,height] is expected")
    numbers = [float(text) if text.strip("-.") else None for text in viewport.split(",")]
    numbers += [None] * (6 - len(numbers))
    width, height, part = numbers[0], numbers[1], numbers[2:]
    if not width or not height or max(width, height) > _LARGEST_VIEWPORT:
        raise RenderingError(f"invalid viewport: a size from 1 to {_LARGEST_VIEWPORT} is expected")
    image = image.crop(_box(image, part))
    scale = min(width / image.width, height / image.height)
    size = (max(round(image.width * scale), 1), max(round(image.height * scale), 1))
    return image.resize(size, Image.Resampling.BILINEAR)


def _box(image: Image.Image, part: list[float | None]) -> tuple[int, int, int, int]:
    left, top = int(part[0] or 0), int(part[1] or 0)
    right = left + int(part[2]) if part[2] else image.width
    bottom = top + int(part[3]) if part[3] else image.height
    box = (max(left, 0), max(top, 0), min(right, image.width), min(bottom, image.height))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise RenderingError("invalid viewport: it shows nothing of the picture")
    return box
