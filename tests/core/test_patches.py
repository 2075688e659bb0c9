import time

import numpy as np
import pytest
from pydantic import ValidationError
from skimage.draw import ellipse
from skimage.transform import rotate

from cell_curator.core.patches import PatchParameters, cut, patch_thumbnail, unit_range


@pytest.fixture
def scene() -> tuple[np.ndarray, np.ndarray]:
    """A tilted cell (1), an upright one (2), one at the border (3) on uneven ground."""
    labels = np.zeros((160, 200), np.int32)
    labels[ellipse(80, 60, 26, 9, labels.shape, rotation=np.deg2rad(30))] = 1
    labels[ellipse(60, 140, 20, 8, labels.shape)] = 2
    labels[140:160, 180:200] = 3
    y, x = np.mgrid[:160, :200]
    image = 0.1 + 0.2 * x / 200 + 0.6 * (labels > 0) * (0.7 + 0.3 * np.sin(y / 3))
    return image.astype(np.float32), labels


def test_pad_keeps_pixels_and_true_size(scene):
    image, labels = scene
    got = cut(image, labels, [2, 1], PatchParameters(method="pad", size=64, margin=0))
    assert got.images.shape == (2, 64, 64)
    assert got.images.dtype == np.float32
    assert got.masks.dtype == bool
    assert got.masks[0].sum() == (labels == 2).sum()
    assert sorted(got.images[0][got.masks[0]]) == sorted(image[labels == 2])
    assert not got.clipped.any()
    assert got.images[0, 0, 0] == 0  # beyond the box


def test_mask_blackens_everything_but_the_cell(scene):
    image, labels = scene
    got = cut(image, labels, [1], PatchParameters(method="mask", size=64, margin=4))
    assert (got.images[0][~got.masks[0]] == 0).all()
    assert (got.images[0][got.masks[0]] > 0.3).all()
    pad = cut(image, labels, [1], PatchParameters(method="pad", size=64, margin=4))
    assert (pad.images[0][~pad.masks[0]] > 0).any()


def test_resize_fills_the_patch_and_keeps_the_aspect(scene):
    image, labels = scene
    big, small = (cut(image, labels, [2], PatchParameters(method="resize", size=s, margin=0)) for s in (128, 24))
    for got, size in ((big, 128), (small, 24)):
        rows, cols = np.nonzero(got.masks[0])
        assert np.ptp(rows) + 1 == size
        assert (np.ptp(cols) + 1) / size == pytest.approx(15 / 39, abs=0.05)
        assert not got.clipped[0]


def test_a_cell_larger_than_its_patch_is_reported(scene):
    image, labels = scene
    got = cut(image, labels, [1, 2, 3], PatchParameters(method="pad", size=24, margin=0))
    assert got.clipped.tolist() == [True, True, False]


def test_margin_beyond_the_image_is_black_and_not_an_error(scene):
    image, labels = scene
    got = cut(image, labels, [3], PatchParameters(method="pad", size=64, margin=10))
    assert got.masks[0].sum() == 400
    rows, cols = np.nonzero(got.images[0])
    assert (np.ptp(rows) + 1, np.ptp(cols) + 1) == (30, 30)


@pytest.mark.parametrize("method", ["resize", "pad", "mask"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.int32, np.float32, np.float64])
def test_no_number_type_wraps_around(method, dtype):
    labels = np.zeros((40, 40), np.int32)
    labels[10:30, 10:30] = 1
    low, high = (np.iinfo(dtype).min, np.iinfo(dtype).max) if np.dtype(dtype).kind in "iu" else (-3e4, 7e4)
    image = np.full((40, 40), low, dtype)
    image[10:30, 10:20] = high
    image[10:30, 20:30] = dtype(low + (high - low) * 0.25)
    got = cut(image, labels, [1], PatchParameters(method=method, size=40, margin=2))
    patch = got.images[0]
    assert patch.min() == 0
    assert patch.max() == pytest.approx(1)
    left, right = (patch[15:25, columns].mean() for columns in (slice(12, 18), slice(22, 28)))
    assert left == pytest.approx(1, abs=0.02)
    assert right == pytest.approx(0.25, abs=0.02)  # wrapped arithmetic would swap dark and bright


def test_prepared_floats_are_left_alone_and_bad_pixels_are_dark():
    image = np.full((8, 8), 0.25, np.float32)
    image[0, 0] = 0.75
    np.testing.assert_array_equal(unit_range(image), image)
    image[1, 1], image[2, 2] = np.nan, np.inf
    assert unit_range(image)[1, 1] == unit_range(image)[2, 2] == np.float32(0.25)
    assert (unit_range(np.full((4, 4), np.nan)) == 0).all()
    assert (unit_range(np.full((4, 4), 700, np.uint16)) == 0).all()


@pytest.mark.parametrize("angle", [-70.0, -30.0, 12.5, 90.0, 180.0])
def test_turn_agrees_with_turning_the_whole_image(scene, angle):
    image, labels = scene
    params = PatchParameters(method="pad", size=80, margin=4)
    got = cut(image, labels, [1], params, angle)
    whole = rotate(image, angle, resize=True, order=1)
    turned = rotate(labels, angle, resize=True, order=0, preserve_range=True).astype(np.int32)
    want = cut(whole, turned, [1], params)
    assert abs(int(got.masks.sum()) - int(want.masks.sum())) < 0.03 * want.masks.sum()
    # sub-pixel placement differs by up to half a pixel, so compare up to one pixel of shift
    overlap = max(
        (np.roll(got.masks[0], shift, (0, 1)) & want.masks[0]).sum()
        for shift in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
    )
    assert overlap > 0.93 * want.masks.sum()
    assert abs(got.images[got.masks].mean() - want.images[want.masks].mean()) < 0.01


def test_turn_makes_a_tilted_cell_upright(scene):
    image, labels = scene
    spread = {}
    for angle in (-30.0, 0.0, 30.0):
        got = cut(image, labels, [1], PatchParameters(method="mask"), angle)
        _, cols = np.nonzero(got.masks[0])
        spread[angle] = np.ptp(cols)
    assert min(spread.values()) <= 20  # twice the minor half-axis
    assert max(spread.values()) > 30


def test_nothing_is_lost_at_the_corner_when_turned(scene):
    image, labels = scene
    got = cut(image, labels, [3], PatchParameters(method="mask", size=64), 45)
    assert got.masks[0].sum() == pytest.approx(400, rel=0.05)


def test_large_label_numbers_and_unknown_ones(scene):
    image, labels = scene
    far = np.where(labels == 2, 2_000_000_000, labels).astype(np.int32)
    got = cut(image, far, [2_000_000_000], PatchParameters(method="pad", margin=0))
    assert got.masks.sum() == (labels == 2).sum()
    for labelling in (labels, far):
        with pytest.raises(ValueError, match="9"):
            cut(image, labelling, [1, 9])
    assert len(cut(image, labels, [])) == 0


def test_size_must_be_a_multiple_of_four():
    with pytest.raises(ValidationError, match="use 64"):
        PatchParameters(size=63)


def test_shapes_must_agree(scene):
    image, labels = scene
    with pytest.raises(ValueError, match="shape"):
        cut(image[:-1], labels, [1])


def test_twenty_thousand_patches_take_a_few_seconds():
    rng = np.random.default_rng(0)
    labels = np.zeros((1024, 1024), np.int32)
    tiles = [(y, x) for y in range(0, 1024, 32) for x in range(0, 1024, 32)]
    for value, (y, x) in enumerate(tiles, 1):
        labels[ellipse(y + 16, x + 16, 14, 9, labels.shape)] = value
    image = rng.random(labels.shape, np.float32)
    start = time.perf_counter()
    got = cut(image, labels, np.arange(1, 1025), PatchParameters(), 17)
    taken = time.perf_counter() - start
    assert len(got) == 1024
    assert taken * 20 < 20  # about 2 s for 20 000 on an idle machine; the rest is slack


@pytest.mark.parametrize("shape", [(160, 200), (1, 160, 200), (3, 160, 200)])
def test_thumbnail_shows_cell_and_outline(scene, shape):
    image, labels = scene
    picture = np.broadcast_to((image * 60000).astype(np.uint16), shape)
    shown = patch_thumbnail(picture, labels, (40, 132, 80, 149), 48, label=2)
    assert shown.shape == (48, 48, 3)
    assert shown.dtype == np.uint8
    outline = (shown == (255, 220, 0)).all(-1)
    assert 20 < outline.sum() < 500
    plain = patch_thumbnail(picture, None, (40, 132, 80, 149), 48)
    assert not (plain == (255, 220, 0)).all(-1).any()


def test_thumbnail_outside_the_image_is_black(scene):
    image, labels = scene
    assert not patch_thumbnail(image, labels, (900, 900, 920, 920), 32).any()


def test_scaled_patches_stay_within_0_and_1():
    labels = np.zeros((97, 131), np.int32)
    labels[3:90, 5:120] = 1
    image = np.ones(labels.shape, np.float32)
    for size in (16, 24, 40, 64):
        patch = cut(image, labels, [1], PatchParameters(method="resize", size=size)).images
        assert patch.max() <= 1
