"""Image, masks and boxes are varied together."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion

from cell_curator.core.jobs import drive
from cell_curator.engines.augment import PREVIEW, UNCHANGED, AugmentParameters, augment, boxes_of, preview
from cell_curator.engines.worker import inline

KINDS = ("flip", "turn", "scale", "elastic", "clahe", "gamma", "light", "hue", "noise")
PLACES = ("flip", "turn", "scale", "elastic")


def only(*kinds: str, **amounts: float) -> AugmentParameters:
    return UNCHANGED.model_copy(update={**dict.fromkeys(kinds, 1.0), **amounts})


@pytest.fixture(scope="module")
def labels() -> np.ndarray:
    """Blocks of several sizes, none of which reaches the border."""
    made = np.zeros((96, 128), np.int32)
    for label, (y, x, height, width) in enumerate([(30, 30, 20, 12), (40, 60, 9, 30), (60, 40, 14, 14)], 1):
        made[y : y + height, x : x + width] = 7 * label
    return made


@pytest.fixture(scope="module")
def image(labels: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(1)
    return (0.2 + 0.5 * (labels > 0) + 0.2 * random.random((3, *labels.shape))).astype(np.float32)


@pytest.mark.parametrize("kind", [*PLACES, "all"])
@pytest.mark.parametrize("seed", range(4))
def test_image_and_masks_move_together(labels: np.ndarray, kind: str, seed: int) -> None:
    as_image = (labels[None] > 0).astype(np.float32)
    params = only(*PLACES) if kind == "all" else only(kind)
    made = augment(as_image, labels, None, params, seed)
    unlike = (made.image[0] > 0.5) != (made.masks > 0)
    assert unlike.sum() <= 0.12 * (labels > 0).sum()  # of 1-px rims, and of what one filter more rounds off
    inside = binary_erosion(made.masks > 0, iterations=2)
    near = binary_dilation(made.masks > 0, iterations=2)
    assert inside.any()
    assert made.image[0][inside].min() > 0.5
    assert made.image[0][~near].max() < 0.5
    assert set(np.unique(made.masks)) <= set(np.unique(labels))


@pytest.mark.parametrize("seed", range(6))
def test_boxes_stay_those_of_the_masks(image: np.ndarray, labels: np.ndarray, seed: int) -> None:
    params = only(*PLACES, scale_range=1.5)
    stack = np.stack([labels == label for label in (7, 14, 21)])
    of_labels = augment(image, labels, boxes_of(labels), params, seed)
    of_stack = augment(image, stack, boxes_of(stack), params, seed)
    assert of_stack.masks.dtype == np.bool_
    np.testing.assert_array_equal(of_labels.boxes, boxes_of(of_labels.masks))
    np.testing.assert_array_equal(of_stack.boxes, boxes_of(of_stack.masks))
    np.testing.assert_array_equal(of_labels.boxes, of_stack.boxes)
    np.testing.assert_array_equal(of_labels.kept, of_stack.kept)
    for which, mask, box in zip(of_stack.kept, of_stack.masks, of_stack.boxes, strict=True):
        np.testing.assert_array_equal(mask, of_labels.masks == 7 * (which + 1))
        x0, y0, x1, y1 = box.astype(int)
        assert mask[y0:y1, x0:x1].sum() == mask.sum()


def test_boxes_without_masks_hold_the_cells(image: np.ndarray, labels: np.ndarray) -> None:
    params = only("flip", "turn", turn_deg=20.0)
    for seed in range(5):
        alone = augment(image, None, boxes_of(labels), params, seed)
        known = augment(image, labels, boxes_of(labels), params, seed)
        np.testing.assert_array_equal(alone.image, known.image)
        assert (alone.boxes[:, :2] <= known.boxes[:, :2] + 1).all()
        assert (alone.boxes[:, 2:] >= known.boxes[:, 2:] - 1).all()


def test_cells_that_leave_the_picture_leave_the_list() -> None:
    labels = np.zeros((64, 64), np.int32)
    labels[:4, :4], labels[30:36, 30:36] = 1, 5
    image = np.zeros((1, 64, 64), np.float32)
    params = only("turn", "scale", scale_range=1.5)
    seen = [augment(image, labels, boxes_of(labels), params, seed) for seed in range(20)]
    gone = [one for one in seen if not (one.masks == 1).any()]
    assert gone
    assert all(one.kept.tolist() == [1] and len(one.boxes) == 1 for one in gone)
    assert all(len(one.kept) == len(np.unique(one.masks)) - 1 for one in seen)


@pytest.mark.parametrize("channels", [1, 2, 3, 5])
def test_a_chance_of_nothing_changes_nothing(channels: int, labels: np.ndarray) -> None:
    image = np.random.default_rng(0).random((channels, *labels.shape), dtype=np.float32)
    made = augment(image, labels, boxes_of(labels), UNCHANGED, 3)
    np.testing.assert_array_equal(made.image, image)
    np.testing.assert_array_equal(made.masks, labels)
    np.testing.assert_array_equal(made.boxes, boxes_of(labels))
    assert made.masks.dtype == labels.dtype


@pytest.mark.parametrize("kind", KINDS)
def test_each_kind_changes_the_picture_and_only_places_move_masks(
    image: np.ndarray, labels: np.ndarray, kind: str
) -> None:
    before = image.copy()
    several = [augment(image, labels, None, only(kind), seed) for seed in range(3)]
    np.testing.assert_array_equal(image, before)
    assert any(not np.array_equal(one.image, image) for one in several)
    assert any(not np.array_equal(one.masks, labels) for one in several) == (kind in PLACES)
    for one in several:
        assert one.image.shape == image.shape
        assert one.image.dtype == np.float32
        assert 0 <= one.image.min() <= one.image.max() <= 1


def test_all_together_stay_numbers_from_black_to_white(labels: np.ndarray) -> None:
    image = np.random.default_rng(0).random((3, *labels.shape), dtype=np.float32).round()  # much black and white
    for seed in range(30):
        made = augment(image, labels, None, only(*KINDS, noise_sigma=0.0), seed).image
        assert np.isfinite(made).all()
        assert 0 <= made.min() <= made.max() <= 1


@pytest.mark.parametrize("channels", [1, 2, 4])
def test_hue_is_for_three_channels_only(channels: int) -> None:
    image = np.random.default_rng(0).random((channels, 32, 40), dtype=np.float32)
    np.testing.assert_array_equal(augment(image, None, None, only("hue"), 0).image, image)


def test_the_seed_decides(image: np.ndarray, labels: np.ndarray) -> None:
    params = AugmentParameters()
    first, again = (augment(image, labels, None, params, (5, 2)) for _ in range(2))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.masks, again.masks)
    assert any(not np.array_equal(first.image, augment(image, labels, None, params, (5, n)).image) for n in (3, 4))


def test_changing_one_chance_leaves_the_others_as_they_are(labels: np.ndarray) -> None:
    image = np.random.default_rng(0).random((1, *labels.shape), dtype=np.float32)
    turned = augment(image, labels, None, only("turn"), 4)
    both = augment(image, labels, None, only("turn", "noise", "light"), 4)
    np.testing.assert_array_equal(turned.masks, both.masks)


def test_channels_are_lit_each_by_itself_and_placed_alike(labels: np.ndarray) -> None:
    one = np.random.default_rng(0).random(labels.shape, dtype=np.float32)
    image = np.stack([one, one / 2, np.zeros_like(one), one])
    made = augment(image, None, None, only(*PLACES, "light", "gamma"), 1).image
    np.testing.assert_array_equal(made[0], made[3])
    assert not made[2].any()
    moved = augment(image, None, None, only(*PLACES), 1).image
    np.testing.assert_allclose(moved[1], moved[0] / 2, atol=1e-6)


def test_a_mask_of_ones_says_what_comes_from_inside(image: np.ndarray, labels: np.ndarray) -> None:
    inside = np.ones_like(labels)
    made = augment(np.full_like(image, 0.7), np.stack([labels, inside]), None, only("turn", turn_deg=45.0), 2)
    assert made.masks.shape == (2, *labels.shape)
    assert 0.5 < made.masks[1].mean() < 1
    assert not made.masks[0][made.masks[1] == 0].any()
    np.testing.assert_allclose(made.image, 0.7, atol=1e-5)  # outside is the median, not a black wedge


def test_shapes_that_do_not_belong_together_are_refused(image: np.ndarray, labels: np.ndarray) -> None:
    with pytest.raises(ValueError, match="masks of shape"):
        augment(image, labels[:-1], None, UNCHANGED, 0)
    with pytest.raises(ValueError, match="2 boxes for 3 masks"):
        augment(image, labels, boxes_of(labels)[:2], UNCHANGED, 0)
    with pytest.raises(ValueError, match="C, Y, X"):
        augment(image[0], labels, None, UNCHANGED, 0)


def test_the_preview_is_a_grid_with_the_picture_itself_first(image: np.ndarray, labels: np.ndarray) -> None:
    sheet = preview(image, labels, AugmentParameters(), n=5)
    assert sheet.shape == (2 * 96 + 2, 3 * 128 + 4, 3)
    assert sheet.dtype == np.uint8
    first = sheet[:96, :128]
    np.testing.assert_array_equal(first[labels == 0], np.rint(255 * image[:, labels == 0].T))
    assert (first[30, 30] == (240, 228, 66)).all()
    assert (sheet[:, 128:130] == 255).all()


def test_the_preview_is_a_job_for_the_worker(image: np.ndarray, labels: np.ndarray) -> None:
    given = {"image": image, "labels": labels, "params": AugmentParameters(), "n": 3}
    np.testing.assert_array_equal(drive(inline(PREVIEW, **given)), preview(**given))
