import numpy as np
import pytest
import tifffile
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from cell_curator.core.jobs import UserError
from cell_curator.io.labels import as_labels, check_shape, read_labels, write_labels


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    labels=hnp.arrays(
        np.int32,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.one_of(st.integers(0, 9), st.integers(0, 2**31 - 1)),
    )
)
def test_labels_survive_the_file(tmp_path, labels):
    write_labels(tmp_path / "a.tif", labels)
    back = read_labels(tmp_path / "a.tif")
    assert back.dtype == np.int32
    np.testing.assert_array_equal(back, labels)


@pytest.mark.parametrize(("largest", "dtype"), [(65535, np.uint16), (65536, np.uint32)])
def test_the_file_is_no_wider_than_needed(tmp_path, largest, dtype):
    write_labels(tmp_path / "a.tif", np.array([[0, largest]]))
    assert tifffile.imread(tmp_path / "a.tif").dtype == dtype


def test_png_labels_of_eight_and_sixteen_bits(tmp_path):
    labels = np.array([[0, 1, 2], [3, 0, 254]], np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)
    deep = labels.astype(np.uint16) * 250
    Image.fromarray(deep).save(tmp_path / "b.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "b.png"), deep)


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_colours_of_a_palette_are_not_mistaken_for_labels(tmp_path, name):
    labels = np.array([[0, 1, 2], [3, 0, 5]], np.uint8)
    picture = Image.fromarray(labels)
    picture.putpalette(np.random.default_rng(0).integers(0, 255, 768, dtype=np.uint8).tobytes())
    picture.save(tmp_path / name)
    np.testing.assert_array_equal(read_labels(tmp_path / name), labels)


def test_a_grey_picture_saved_as_rgb_still_gives_its_labels(tmp_path):
    labels = np.array([[0, 1], [2, 3]], np.uint8)
    Image.fromarray(np.dstack([labels] * 3)).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(tmp_path / "a.png"), labels)


@pytest.mark.parametrize("factor", [True, 255])
def test_a_black_and_white_mask_is_split_into_its_regions(tmp_path, factor):
    mask = np.zeros((6, 6), bool)
    mask[0, 0] = mask[1, 1] = mask[4:, 4:] = True
    tifffile.imwrite(tmp_path / "a.tif", mask if factor is True else mask.astype(np.uint8) * 255)
    labels = read_labels(tmp_path / "a.tif")
    assert labels[0, 0] == labels[1, 1] == 1  # touching at a corner
    assert (labels[4:, 4:] == 2).all()
    assert ((labels > 0) == mask).all()


def test_whole_numbers_in_floats_are_labels(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.array([[0.0, 7.0]], np.float64))
    assert read_labels(tmp_path / "a.tif").tolist() == [[0, 7]]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        (np.array([[0.0, 0.5]]), "fractions or NaN, so it is not a label image; give"),
        (np.array([[0.0, np.nan]]), "fractions or NaN"),
        (np.array([[0, -1]]), "negative labels; background must be 0"),
        (np.array([[0, 2**31]]), "labels above 2147483647; number the cells"),
        (np.ones((3, 4, 5), int), r"shape \(3, 4, 5\); one plane"),
        (np.ones((3, 4), complex), "complex128; whole numbers"),
    ],
)
def test_what_is_no_label_image_is_refused_in_words(values, words):
    with pytest.raises(UserError, match=f"^a.tif: .*{words}"):
        as_labels(values, "a.tif")


def test_a_colour_picture_and_a_stack_are_refused(tmp_path):
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 255, (9, 9, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    with pytest.raises(UserError, match=r"a\.png: has 3 channels, so it is a picture"):
        read_labels(tmp_path / "a.png")
    tifffile.imwrite(tmp_path / "b.tif", np.ones((9, 9, 9), np.uint8), photometric="minisblack")
    with pytest.raises(UserError, match="stack of 9 planes"):
        read_labels(tmp_path / "b.tif")


def test_labels_of_another_shape_name_both_sizes():
    check_shape(np.zeros((4, 6), int), (3, 4, 6), "a.tif")
    with pytest.raises(UserError, match=r"a\.tif: labels are 6 × 4 px but the image is 4 × 6 px; give"):
        check_shape(np.zeros((4, 6), int), (6, 4), "a.tif")
