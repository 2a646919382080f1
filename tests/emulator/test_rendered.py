"""Pictures of instances."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image

from tests.emulator.api import PYDICOM_FILES, VECTORS, envelope, instance, picture

RENDERED = "studies/1.1/series/1.1.1/instances/1.1.1.1/rendered"


def pixels(answer):
    assert answer.status_code == 200, answer.text
    return np.asarray(Image.open(io.BytesIO(answer.content)))


@pytest.mark.parametrize(
    ("accept", "returns"),
    [
        *((case["accept"], case["returns"]) for case in VECTORS["accept"] if case["op"] == "rendered"),
        ("image/*", "image/jpeg"),
        ("image/jpeg;q=0.5, image/png", "image/png"),
    ],
)
def test_the_accept_header_decides_the_format(api, accept, returns):
    api.store(picture())
    answer = api.get(RENDERED, accept)
    assert (answer.status_code, answer.headers["Content-Type"]) == (200, returns)
    assert Image.open(io.BytesIO(answer.content)).format == returns.partition("/")[2].upper()


@pytest.mark.parametrize("accept", ["image/gif", "application/dicom", "image/png;q=0"])
def test_other_formats_are_not_acceptable(api, accept):
    api.store(picture())
    envelope(api.get(RENDERED, accept), 406)


def test_grey_values_without_a_window_are_spread_over_the_whole_range(api):
    api.store(picture(PixelData=bytes(range(100, 116))))
    shown = pixels(api.get(RENDERED, "image/png"))
    assert (shown.shape, shown.min(), shown.max()) == ((4, 4), 0, 255)
    assert (np.diff(shown.astype(int).ravel()) == 17).all()


def test_a_window_is_applied_after_the_modality_transformation(api):
    # 0..15 become -1000..-850, in steps of 10; the window shows -980..-900.
    api.store(picture(RescaleSlope=10, RescaleIntercept=-1000, WindowCenter=-939.5, WindowWidth=81))
    shown = pixels(api.get(RENDERED, "image/png")).ravel().astype(int)
    assert list(shown[:3]) == [0, 0, 0]
    assert set(shown[10:]) == {255}
    assert (np.diff(shown[2:11]) > 30).all()


def test_monochrome1_is_dark_where_values_are_high(api):
    api.store(picture(PhotometricInterpretation="MONOCHROME1"))
    shown = pixels(api.get(RENDERED, "image/png")).ravel()
    assert (shown[0], shown[-1]) == (255, 0)


def test_a_window_that_cannot_be_is_ignored(api):
    api.store(picture(WindowCenter=5, WindowWidth=0))
    assert pixels(api.get(RENDERED, "image/png")).max() == 255


def test_one_value_everywhere_is_still_a_picture(api):
    api.store(picture(PixelData=bytes([7] * 16)))
    assert pixels(api.get(RENDERED, "image/png")).max() == 0


def test_colours_are_shown_as_they_are(api):
    colours = {"SamplesPerPixel": 3, "PhotometricInterpretation": "RGB", "PlanarConfiguration": 0}
    api.store(picture(**colours, Rows=1, Columns=3, PixelData=bytes([255, 0, 0, 0, 255, 0, 0, 0, 255, 0])))
    assert pixels(api.get(RENDERED, "image/png")).tolist() == [[[255, 0, 0], [0, 255, 0], [0, 0, 255]]]


@pytest.mark.parametrize(
    ("viewport", "size"),
    [("8,8", (8, 8)), ("8,4", (4, 4)), ("2,100", (2, 2)), ("8,8,0,0,2,1", (8, 4)), ("3,3,,,4,4", (3, 3))],
)
def test_a_viewport_sets_the_size_and_the_part(api, viewport, size):
    api.store(picture())
    answer = api.get(f"{RENDERED}?viewport={viewport}", "image/png")
    assert Image.open(io.BytesIO(answer.content)).size == size


@pytest.mark.parametrize(
    "query", ["viewport=0,0", "viewport=a,b", "viewport=1", "viewport=8,8,9,9,2,2", "window=1,2,linear"]
)
def test_a_viewport_that_cannot_be_is_a_bad_request(api, query):
    api.store(picture())
    envelope(api.get(f"{RENDERED}?{query}"), 400)


def test_an_instance_without_pixels_is_a_bad_request(api):
    api.store(instance())
    assert "no pixel data" in envelope(api.get(RENDERED), 400)


def test_deep_colours_are_no_jpeg_but_a_png(api):
    api.store((PYDICOM_FILES / "SC_rgb_rle_16bit.dcm").read_bytes())
    path = "studies/{}/series/{}/instances/{}/rendered".format(*api.tuples()[0])
    envelope(api.get(path, "image/jpeg"), 400)
    assert pixels(api.get(path, "image/png")).shape == (100, 100, 3)
