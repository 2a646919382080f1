"""What DICOM must repeat of a JPEG file is read from it; a file that DICOM does not take is refused with the reason."""

from __future__ import annotations

import pydicom
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_dicomweb.dicomweb.jpeg import read_jpeg
from airflow_dicomweb.errors import ConfigurationError
from tests.dicomweb.instances import all_files
from tests.dicomweb.pictures import frame_of, jpeg, with_frame_marker

BASELINE, EXTENDED = "1.2.840.10008.1.2.4.50", "1.2.840.10008.1.2.4.51"
LOSSLESS, LOSSLESS_FIRST_ORDER = "1.2.840.10008.1.2.4.57", "1.2.840.10008.1.2.4.70"


@pytest.mark.parametrize(
    ("mode", "subsampling", "samples", "photometric"),
    [
        ("L", 0, 1, "MONOCHROME2"),
        ("RGB", 0, 3, "YBR_FULL"),
        ("RGB", 1, 3, "YBR_FULL_422"),
        ("RGB", 2, 3, "YBR_FULL_422"),
    ],
)
def test_a_file_of_pillow_is_read(mode: str, subsampling: int, samples: int, photometric: str) -> None:
    image = read_jpeg(jpeg(mode, subsampling=subsampling))
    assert (image.transfer_syntax, image.lossless) == (BASELINE, False)
    assert (image.rows, image.columns, image.samples, image.precision) == (17, 31, samples, 8)
    assert image.photometric[0] == photometric


def test_colours_that_were_not_transformed_are_rgb() -> None:
    assert read_jpeg(jpeg(keep_rgb=True)).photometric == ("RGB",)


def test_comments_restart_markers_and_profiles_are_passed_over() -> None:
    content = jpeg(size=(640, 480), comment=b"\xff\xd9 no end", icc_profile=b"\xff\xda" * 40000, restart_marker_rows=1)
    assert b"\xff\xd1" in content
    assert read_jpeg(content).rows == 480


def test_what_is_read_of_pydicoms_files_is_what_they_say() -> None:
    syntaxes = set()
    for path in all_files():
        try:
            data_set = pydicom.dcmread(path, stop_before_pixels=True)
            syntax = str(data_set.file_meta.TransferSyntaxUID)
        except (pydicom.errors.InvalidDicomError, AttributeError, UserWarning):
            continue
        if syntax not in {BASELINE, EXTENDED, LOSSLESS, LOSSLESS_FIRST_ORDER} or "Rows" not in data_set:
            continue
        image = read_jpeg(frame_of(path.name)[0])
        assert image.transfer_syntax == syntax, path.name
        assert (image.rows, image.columns) == (data_set.Rows, data_set.Columns), path.name
        assert image.samples == data_set.SamplesPerPixel, path.name
        assert data_set.PhotometricInterpretation in image.photometric, path.name
        assert image.lossless == (syntax == LOSSLESS_FIRST_ORDER)
        syntaxes.add(syntax)
    assert syntaxes >= {BASELINE, EXTENDED, LOSSLESS_FIRST_ORDER}


def test_a_depth_of_twelve_bits_is_extended() -> None:
    image = read_jpeg(frame_of("JPGExtended.dcm")[0])
    assert (image.transfer_syntax, image.precision) == (EXTENDED, 12)


def test_another_predictor_than_the_first_is_the_general_lossless_process() -> None:
    content = frame_of("SC_rgb_jpeg_gdcm.dcm")[0]
    at = content.index(b"\xff\xda")
    selection = at + 4 + 1 + 2 * content[at + 4]
    assert content[selection] == 1
    changed = content[:selection] + b"\4" + content[selection + 1 :]
    assert read_jpeg(changed).transfer_syntax == LOSSLESS
    assert read_jpeg(content).photometric == ("RGB",)


@pytest.mark.parametrize(
    ("marker", "words"),
    [
        (0xC2, "progressive"),
        (0xC5, "hierarchical"),
        (0xC6, "hierarchical and progressive"),
        (0xC7, "hierarchical and lossless"),
        (0xC9, "arithmetic"),
        (0xCA, "progressive with arithmetic"),
        (0xCB, "lossless with arithmetic"),
        (0xCD, "hierarchical"),
        (0xCE, "hierarchical"),
        (0xCF, "hierarchical"),
        (0xDE, "hierarchical"),
        (0xF7, "JPEG-LS"),
    ],
)
def test_a_coding_without_a_transfer_syntax_is_refused_by_its_name(marker: int, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        read_jpeg(with_frame_marker(jpeg(), marker))


def test_a_real_progressive_file_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="progressive"):
        read_jpeg(jpeg(progressive=True))


def test_real_jpeg_ls_and_jpeg_2000_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="JPEG-LS"):
        read_jpeg(frame_of("MR_small_jpeg_ls_lossless.dcm")[0])
    with pytest.raises(ConfigurationError, match="not a JPEG file"):
        read_jpeg(frame_of("JPEG2000.dcm")[0])


def test_four_components_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="4 components"):
        read_jpeg(jpeg("CMYK"))


def test_a_second_image_behind_the_first_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="only one image"):
        read_jpeg(jpeg() + jpeg())


def test_padding_behind_the_image_is_accepted() -> None:
    assert read_jpeg(jpeg() + b"\0").rows == 17


@given(st.data())
def test_every_cut_is_found_out(data: st.DataObject) -> None:
    content = jpeg("L", (8, 8))
    with pytest.raises(ConfigurationError):
        read_jpeg(content[: data.draw(st.integers(0, len(content) - 1))])


@given(st.binary(max_size=400))
def test_arbitrary_bytes_are_refused_and_nothing_else_happens(content: bytes) -> None:
    for start in (b"", b"\xff\xd8", b"\xff\xd8\xff\xc0"):
        with pytest.raises(ConfigurationError):
            read_jpeg(start + content)
