"""Frames, and pictures of them."""

from __future__ import annotations

import io

import numpy as np
import pydicom
import pytest
from PIL import Image

from tests.emulator.api import PYDICOM_FILES, VECTORS, envelope, instance, picture
from tests.emulator.test_retrieve import EXPLICIT, INSTANCE, parts, put
from tests.emulator.test_store_metadata import BASELINE, JPEG, PLACE, VECTOR, printed, send

OCTETS = 'multipart/related; type="application/octet-stream"'
AS_STORED = f"{OCTETS}; transfer-syntax=*"
FRAMES = f"{INSTANCE}/frames"


def three_frames(**attributes):
    pixels = {"NumberOfFrames": 3, "PixelData": bytes(range(48))}
    return picture(**{**pixels, **attributes})


@pytest.mark.parametrize("accept", [None, "*/*", OCTETS, AS_STORED, f"{OCTETS}; transfer-syntax={EXPLICIT}"])
def test_native_frames_are_parts_in_the_order_in_which_they_were_asked_for(api, accept):
    api.store(three_frames())
    answer = api.get(f"{FRAMES}/3,1", accept)
    assert answer.headers["Content-Type"].startswith('multipart/related; type="application/octet-stream"')
    expected = [bytes(range(32, 48)), bytes(range(16))]
    assert parts(answer) == [("application/octet-stream", content) for content in expected]


@pytest.mark.parametrize("case", [case for case in VECTORS["accept"] if case["op"] == "frames"], ids=str)
def test_the_contracts_accept_headers_are_answered(api, case):
    send(api, printed(), VECTOR["content_type_header"])
    answer = api.get(f"{PLACE}/frames/1", case["accept"])
    assert answer.headers["Content-Type"].startswith(case["returns"])
    ((_, content),) = parts(answer)
    assert content.startswith(JPEG)


@pytest.mark.parametrize("accept", [AS_STORED, 'multipart/related; type="image/*"', "image/*", "image/jpeg"])
def test_compressed_frames_stay_as_they_are_for_those_who_take_them(api, accept):
    send(api, printed(), VECTOR["content_type_header"])
    answer = api.get(f"{PLACE}/frames/1", accept)
    if accept.startswith("multipart"):
        ((media_type, content),) = parts(answer)
        media_type = media_type.replace('"', "")  # The standard library's parser adds them.
    else:
        media_type, content = answer.headers["Content-Type"], answer.content
    name = "application/octet-stream" if accept == AS_STORED else "image/jpeg"
    assert media_type == f"{name}; transfer-syntax={BASELINE}"
    assert content.startswith(JPEG)


@pytest.mark.parametrize(
    ("name", "original", "numbers"),
    [
        ("MR_small_RLE.dcm", "MR_small.dcm", "1"),
        ("MR_small_jp2klossless.dcm", "MR_small.dcm", "1"),
        ("MR_small_jpeg_ls_lossless.dcm", "MR_small.dcm", "1"),
        ("MR_small_bigendian.dcm", "MR_small.dcm", "1"),
        ("MR_small_implicit.dcm", "MR_small.dcm", "1"),
        ("image_dfl.dcm", "image_dfl.dcm", "1"),
        ("rtdose.dcm", "rtdose.dcm", "15,1,2"),
        ("rtdose_rle.dcm", "rtdose.dcm", "15,1,2"),
        ("rtdose_expb.dcm", "rtdose.dcm", "15,1,2"),
        ("SC_rgb_rle_2frame.dcm", "SC_rgb_rle_2frame.dcm", "2,1"),
        ("SC_rgb_rle_16bit_2frame.dcm", "SC_rgb_rle_16bit_2frame.dcm", "2"),
        ("liver_expb_1frame.dcm", "liver_expb_1frame.dcm", "1"),
        ("examples_jpeg2k.dcm", "examples_jpeg2k.dcm", "1"),
        ("SC_rgb_small_odd.dcm", "SC_rgb_small_odd.dcm", "1"),
        ("SC_rgb_small_odd_big_endian.dcm", "SC_rgb_small_odd.dcm", "1"),
    ],
)
def test_frames_are_decompressed_by_default(api, name, original, numbers):
    _, path = put(api, name)
    wanted = pydicom.dcmread(PYDICOM_FILES / original)
    pixels = pydicom.pixels.pixel_array(wanted, raw=True)
    frames = pixels if wanted.get("NumberOfFrames", 1) > 1 else pixels[None]
    for (media_type, content), number in zip(
        parts(api.get(f"{path}/frames/{numbers}", None)), numbers.split(","), strict=True
    ):
        assert media_type == "application/octet-stream"
        expected = frames[int(number) - 1]
        if wanted.BitsAllocated == 1:
            expected = np.packbits(expected, bitorder="little")
        found = np.frombuffer(content, expected.dtype.newbyteorder("<"))
        assert (found == expected.ravel()).all()


def test_frames_of_single_bits_begin_with_a_byte_each(api):
    # 3 by 3 bits: the second frame begins within the second byte.
    first, second = [1, 0, 1, 0, 1, 0, 1, 0, 1], [0, 1, 1, 1, 0, 0, 0, 1, 1]
    data = np.packbits(first + second, bitorder="little").tobytes()
    bits = {"Rows": 3, "Columns": 3, "BitsAllocated": 1, "BitsStored": 1, "HighBit": 0, "NumberOfFrames": 2}
    api.store(picture(**bits, PixelData=data + b"\0"))
    for (_, content), frame in zip(parts(api.get(f"{FRAMES}/1,2", OCTETS)), (first, second), strict=True):
        assert list(np.unpackbits(np.frombuffer(content, np.uint8), bitorder="little"))[:9] == frame
        assert len(content) == 2


def test_one_frame_can_be_an_answer_by_itself(api):
    api.store(three_frames())
    answer = api.get(f"{FRAMES}/2", "application/octet-stream")
    assert (answer.headers["Content-Type"], answer.content) == ("application/octet-stream", bytes(range(16, 32)))
    assert answer.headers["Content-Length"] == "16"
    envelope(api.get(f"{FRAMES}/1,2", "application/octet-stream"), 406)


@pytest.mark.parametrize(
    "accept",
    [
        'multipart/related; type="image/jpeg"',
        f'multipart/related; type="image/jpeg"; transfer-syntax={BASELINE}',
        "image/*",
        'multipart/related; type="application/dicom"',
        f"{OCTETS}; transfer-syntax=1.2.840.10008.1.2.4.90",
        "application/dicom+json",
        "*/*;q=0",
    ],
)
def test_frames_are_not_compressed_here(api, accept):
    api.store(three_frames())
    envelope(api.get(f"{FRAMES}/1", accept), 406)


def test_the_best_form_that_can_be_made_is_chosen(api):
    send(api, printed(), VECTOR["content_type_header"])
    accept = f'{OCTETS}; q=0.5, multipart/related; type="image/jp2", multipart/related; type="image/jpeg"; q=0.7'
    assert parts(api.get(f"{PLACE}/frames/1", accept))[0][0].startswith("image/jpeg")
    assert parts(api.get(f"{PLACE}/frames/1", accept.replace("q=0.7", "q=0.3")))[0][0] == "application/octet-stream"


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_compressed_frames_of_a_file_without_vrs_are_found(api):
    _, path = put(api, "SC_rgb_jpeg.dcm")
    ((_, content),) = parts(api.get(f"{path}/frames/1", AS_STORED))
    original = pydicom.dcmread(PYDICOM_FILES / "SC_rgb_jpeg.dcm")
    assert content == next(pydicom.encaps.generate_frames(original.PixelData, number_of_frames=1))


def test_what_cannot_be_decompressed_is_given_only_as_it_is(api):
    _, path = put(api, "JPGExtended.dcm")
    envelope(api.get(f"{path}/frames/1", None), 406)
    assert len(parts(api.get(f"{path}/frames/1", AS_STORED))) == 1


@pytest.mark.parametrize(
    ("frames", "status"),
    [("0", 400), ("1,0", 400), ("x", 400), ("1,", 400), ("", 404), ("-1", 400), ("1.5", 400), ("4", 404), ("1,4", 404)],
)
def test_frames_that_there_are_not(api, frames, status):
    api.store(three_frames())
    for path in (f"{FRAMES}/{frames}", f"{FRAMES}/{frames}/rendered"):
        envelope(api.get(path, None), status)


def test_instances_without_pixels_have_no_frames(api):
    api.store(instance())
    envelope(api.get(f"{FRAMES}/1", None), 400)
    api.store(picture(SOPInstanceUID="1.1.1.2", Rows=100))
    envelope(api.get(FRAMES.replace("1.1.1.1", "1.1.1.2") + "/1", None), 400)
    envelope(api.get("studies/1.1/series/1.1.1/instances/9.9/frames/1", None), 404)


def shown(content):
    return np.asarray(Image.open(io.BytesIO(content)))


def test_a_frame_is_rendered(api):
    api.store(three_frames(WindowCenter=24, WindowWidth=49))
    first, last = (shown(api.get(f"{FRAMES}/{number}/rendered", "image/png").content) for number in (1, 3))
    assert last.mean() > first.mean() + 100
    answer = api.get(f"{FRAMES}/2/rendered", None, params={"viewport": "8,8"})
    assert (answer.headers["Content-Type"], shown(answer.content).shape) == ("image/jpeg", (8, 8))


@pytest.mark.parametrize(
    ("accept", "returns"),
    [(None, "image/jpeg"), ("image/png", "image/png"), ('multipart/related; type="image/png"', "image/png")],
)
def test_several_frames_are_rendered_as_parts(api, accept, returns):
    api.store(three_frames())
    for path, count in ((f"{FRAMES}/3,1/rendered", 2), (f"{INSTANCE}/rendered", 3)):
        answer = api.get(path, accept)
        assert answer.headers["Content-Type"].startswith(f'multipart/related; type="{returns}"')
        pictures = parts(answer)
        assert [media_type for media_type, _ in pictures] == [returns] * count
        assert all(shown(content).shape == (4, 4) for _, content in pictures)


def test_a_single_picture_comes_as_a_part_to_who_wants_parts(api):
    api.store(picture())
    ((media_type, _),) = parts(api.get(f"{INSTANCE}/rendered", 'multipart/related; type="image/jpeg"'))
    assert media_type == "image/jpeg"
    envelope(api.get(f"{INSTANCE}/rendered", 'multipart/related; type="image/gif"'), 406)
