import cv2
import numpy as np
import pytest
from pydantic import ValidationError

from cell_curator.core.jobs import UserError
from cell_curator.core.pixel_clusters import (
    KmeansParameters,
    assign,
    cleaned,
    cluster_pixels,
    evened,
    fit,
    pixel_features,
    preview,
    sample,
)

PLAIN = KmeansParameters(trim_px=3)


def dish(rng, shape=(240, 320), cells=12, radius=18, shade=0.0):
    """Cells that differ from the ground by their texture alone, and where they are."""
    truth = np.zeros(shape, np.uint8)
    for y, x in np.column_stack([rng.integers(0, side, cells) for side in shape]).tolist():
        cv2.circle(truth, (x, y), radius, 1, -1)
    grain = cv2.GaussianBlur(rng.normal(0, 1, shape).astype(np.float32), (0, 0), 1.5)
    image = 100 + rng.normal(0, 1, shape) + 60 * grain * truth + shade * np.linspace(0, 1, shape[1])
    return image.astype(np.float32), truth > 0


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


@pytest.mark.parametrize("k", [2, 3, 5])
def test_cells_are_found_by_texture_alone(rng, k):
    image, truth = dish(rng)
    found = cluster_pixels(image, PLAIN.model_copy(update={"k": k}))
    assert iou(found.mask, truth) > 0.85
    assert abs(found.mask.mean() - truth.mean()) < 0.03
    assert found.groups.max() == k - 1
    assert (np.diff(found.model.texture) > 0).all()
    assert found.model.shares.sum() == pytest.approx(1)
    assert 0 not in found.model.cells


def test_uneven_light_and_the_unit_of_grey_levels_do_not_matter(rng):
    image, truth = dish(np.random.default_rng(4))
    shaded, _ = dish(np.random.default_rng(4), shade=300.0)
    expected = cluster_pixels(image, PLAIN).mask
    assert iou(cluster_pixels(image * 200 + 1000, PLAIN).mask, expected) > 0.995
    assert iou(cluster_pixels(image / 255, PLAIN).mask, expected) > 0.995
    assert iou(cluster_pixels(shaded, PLAIN).mask, truth) > 0.85
    assert np.ptp(cv2.GaussianBlur(evened(shaded, PLAIN), (0, 0), 30)) < 60


def test_an_image_in_parts_is_the_whole(rng):
    image, _ = dish(rng, (301, 277))
    whole = cluster_pixels(image, PLAIN)
    parts = cluster_pixels(image, PLAIN, block=277 * 37)
    assert np.abs(parts.score - whole.score).max() < 1e-3
    assert (parts.mask == whole.mask).mean() > 0.9999
    rows = sample(image, PLAIN, block=277 * 10)
    np.testing.assert_allclose(rows, sample(image, PLAIN), rtol=1e-3, atol=1e-3)
    every = pixel_features(image, PLAIN)
    assert every.shape == (301, 277, 3)
    assert every[..., 1].mean() == pytest.approx(rows[:, 1].mean(), rel=0.03)


def test_the_same_seed_gives_the_same(rng):
    image, _ = dish(rng)
    first, again = cluster_pixels(image, PLAIN), cluster_pixels(image.copy(), PLAIN)
    np.testing.assert_array_equal(first.score, again.score)
    np.testing.assert_array_equal(first.groups, again.groups)
    other = cluster_pixels(image, PLAIN.model_copy(update={"seed": 7}))
    assert iou(other.mask, first.mask) > 0.95


@pytest.mark.parametrize("shape", [(1, 1), (1, 40), (3, 2), (17, 13), (0, 5)])
@pytest.mark.parametrize("kind", ["same", "noise"])
def test_images_of_any_size(rng, shape, kind):
    image = np.full(shape, 7.0, np.float32)
    if kind == "noise":
        image = rng.normal(0, 1, shape).astype(np.float32)
    found = cluster_pixels(image)
    assert found.mask.shape == found.groups.shape == found.score.shape == shape
    if kind == "same":
        assert not found.mask.any()
        assert found.model.note == "all pixels are alike"


@pytest.mark.parametrize("value", [0.0, 65535.0, -3.3, 1e-9])
def test_where_all_pixels_are_the_same_nothing_is_covered(value):
    found = cluster_pixels(np.full((90, 70), value, np.float32))
    assert not found.mask.any()
    assert found.score.max() == 0


@pytest.mark.parametrize("smooth", [0.0, 1.0])
def test_an_empty_dish_is_empty_and_says_so(rng, smooth):
    image = rng.normal(500, 10, (300, 300)).astype(np.float32)
    image = cv2.GaussianBlur(image, (0, 0), smooth) if smooth else image
    found = cluster_pixels(image)
    assert not found.mask.any()
    assert found.model.note == "nothing stands out from the ground"
    assert cluster_pixels(image, KmeansParameters(cells="2,3")).model.cells == (1, 2)


def test_empty_and_full_dishes_beside_others(rng):
    usual, truth = dish(rng)
    full, everywhere = dish(rng, cells=900)
    empty, _ = dish(rng, cells=0)
    assert everywhere.all()
    model = fit([sample(one, PLAIN) for one in (usual, full, empty)], PLAIN)
    covers = [assign(one, model, PLAIN).mask.mean() for one in (usual, full, empty)]
    assert covers[0] == pytest.approx(truth.mean(), abs=0.04)
    assert covers[1] > 0.97
    assert covers[2] < 0.01


def test_groups_chosen_by_a_person(rng):
    image, truth = dish(rng)
    of = lambda cells: cluster_pixels(image, PLAIN.model_copy(update={"cells": cells, "trim_px": 0}))  # noqa: E731
    assert of("1, 2,3".replace(" ", "")).mask.all()
    assert of("3").mask.sum() < of("2,3").mask.sum()
    assert iou(of("1").mask, ~truth) > iou(of("3").mask, ~truth)


@pytest.mark.parametrize("values", [{"k": 1}, {"k": 11}, {"cells": "none"}, {"cells": "0"}, {"cells": "2,"}])
def test_impossible_settings_are_refused(values):
    with pytest.raises(ValidationError):
        KmeansParameters(**values)


def test_a_group_that_there_is_not_is_refused(rng):
    with pytest.raises(UserError, match="group 5 is to be cells but there are 3; choose from 1 to 3"):
        cluster_pixels(dish(rng)[0], KmeansParameters(cells="2,5"))


def test_one_threshold_holes_islands_and_edges():
    score = np.zeros((40, 60), np.float32)
    score[5:35, 5:35] = 0.7
    score[15:18, 15:18] = 0  # 9 px
    score[20, 50:54] = 0.9
    plain = KmeansParameters(smallest_hole=0, smallest_island=0, trim_px=0)
    np.testing.assert_array_equal(cleaned(score, plain), score >= 0.5)
    np.testing.assert_array_equal(cleaned(score, plain.model_copy(update={"threshold": 0.8})), score >= 0.8)
    assert cleaned(score, plain.model_copy(update={"smallest_hole": 10})).sum() == 30 * 30 + 4
    assert cleaned(score, plain.model_copy(update={"smallest_hole": 9})).sum() == 30 * 30 - 9 + 4
    assert cleaned(score, plain.model_copy(update={"smallest_island": 5})).sum() == 30 * 30 - 9
    assert not cleaned(np.zeros((9, 9), np.float32), KmeansParameters()).any()  # nothing around it, so no hole
    trimmed = cleaned(score, plain.model_copy(update={"smallest_hole": 10, "trim_px": 2}))
    np.testing.assert_array_equal(np.argwhere(trimmed)[[0, -1]], [[7, 7], [32, 32]])


def test_the_preview_is_small_and_says_about_the_same(rng):
    image, _ = dish(rng, (500, 700), cells=25, radius=30)
    image = cv2.GaussianBlur(image, (0, 0), 2.0)
    params = KmeansParameters(trim_px=6, scale_px=4)
    found, factor = preview(image, params, side=350)
    assert factor == 2
    assert found.mask.shape == (250, 350)
    assert found.mask.mean() == pytest.approx(cluster_pixels(image, params).mask.mean(), abs=0.06)
    whole, factor = preview(image[:100, :100], params, side=350)
    assert (factor, whole.mask.shape) == (1, (100, 100))
