from pathlib import Path

import numpy as np
import pytest
from skimage.transform import rotate

from cell_curator.core.jobs import UserError
from cell_curator.core.orientation import estimate_angle, inside_mask, turn_image, wrap
from cell_curator.core.preprocess import clip_extremes, equalise, normalise, prepare, select_channel
from cell_curator.core.recipe import PRESETS, Channel, Clahe, Clip, Recipe, Rotate, TotalVariation


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.float32, np.float64, np.bool_])
@pytest.mark.parametrize("preset", PRESETS)
def test_a_prepared_image_is_float32_within_0_and_1(rng, dtype, preset):
    image = (rng.random((3, 64, 80)) * 200).astype(np.uint8)
    image = (image > 100) if dtype == np.bool_ else image.astype(dtype)
    prepared = prepare(image, PRESETS[preset])
    assert prepared.image.dtype == np.float32
    assert prepared.image.shape == (64, 80)
    assert prepared.image.min() >= 0.0
    assert prepared.image.max() <= 1.0
    assert prepared.image.std() > 0.0


@pytest.mark.parametrize(
    "image",
    [
        np.full((1, 32, 32), 7, np.uint16),
        np.zeros((1, 1, 1), np.float32),
        np.full((1, 16, 16), np.nan, np.float32),
        np.full((2, 5, 300), np.inf, np.float64),
    ],
    ids=["constant", "one pixel", "all NaN", "all inf"],
)
@pytest.mark.parametrize("preset", PRESETS)
def test_an_image_without_content_becomes_zeros(image, preset):
    assert not prepare(image, PRESETS[preset]).image.any()


def test_values_that_are_not_finite_do_not_spoil_the_rest(rng):
    image = rng.random((1, 32, 32)).astype(np.float32)
    holed = image.copy()
    holed[0, 3, 4], holed[0, 5, 5], holed[0, 6, 6] = np.nan, np.inf, -np.inf
    prepared = prepare(holed, PRESETS["Plain"]).image
    assert np.isfinite(prepared).all()
    assert np.abs(prepared - prepare(image, PRESETS["Plain"]).image).mean() < 0.01


def test_the_largest_floats_do_not_overflow():
    image = np.array([[[-3e38, 3e38], [0.0, 1.0]]], np.float32)
    assert normalise(image[0]).tolist() == [[0.0, 1.0], [0.5, 0.5]]


def test_luminance_of_rgb_is_that_of_scikit_image(rng):
    from skimage.color import rgb2gray

    image = rng.random((3, 8, 8)).astype(np.float32)
    assert np.allclose(select_channel(image, Channel()), rgb2gray(np.moveaxis(image, 0, -1)), atol=1e-6)


def test_a_channel_that_is_not_there_is_said_in_words(rng):
    with pytest.raises(UserError, match="has 2"):
        prepare(rng.random((2, 8, 8)), Recipe(channel=Channel(mode="index", index=5)))


def test_local_contrast_brings_out_a_dim_half(rng):
    image = rng.random((200, 200)).astype(np.float32)
    image[:, :100] *= 0.05
    equalised = equalise(image, Clahe(clip_limit=0.05, tile_px=50))
    before, after = image[:, :100].std() / image[:, 100:].std(), equalised[:, :100].std() / equalised[:, 100:].std()
    assert after > 4 * before


@pytest.mark.parametrize("clip_limit", [0.01, 0.03])
def test_local_contrast_is_about_that_of_scikit_image(rng, clip_limit):
    from scipy.ndimage import gaussian_filter
    from skimage.exposure import equalize_adapthist

    image = normalise(gaussian_filter(rng.random((256, 256)), 4).astype(np.float32))
    image *= np.linspace(0.2, 1.0, 256, dtype=np.float32)
    ours = equalise(image, Clahe(clip_limit=clip_limit, tile_px=64))
    theirs = equalize_adapthist(normalise(image), kernel_size=64, clip_limit=clip_limit)
    assert np.corrcoef(ours.ravel(), theirs.ravel())[0, 1] > 0.98


def test_a_tile_larger_than_the_image_is_one_tile(rng):
    image = rng.random((40, 30)).astype(np.float32)
    whole = equalise(image, Clahe(tile_px=4096))
    assert whole.shape == image.shape
    # With one tile, equalisation is one monotone curve for the whole image.
    assert np.all(np.diff(whole.ravel()[np.argsort(image.ravel())]) >= 0)


def test_clipping_cuts_at_the_percentiles(rng):
    image = rng.random((100, 100)).astype(np.float32)
    clipped = clip_extremes(image, Clip(low_percent=20, high_percent=90))
    assert (clipped == 0).mean() == pytest.approx(0.2, abs=0.001)
    assert (clipped == 1).mean() == pytest.approx(0.1, abs=0.001)


def test_low_above_high_leaves_the_image_alone(rng):
    image = rng.random((10, 10)).astype(np.float32)
    assert clip_extremes(image, Clip(low_percent=80, high_percent=20)) is image


def test_a_sparse_image_is_not_clipped_to_nothing():
    image = np.zeros((100, 100), np.float32)
    image[50, 50] = 1.0
    assert clip_extremes(image, Clip(high_percent=98.5)).max() == 1.0


def _grooves(rng, angle, noise=0.5):
    """Grooves that a counter-clockwise turn by ``angle`` makes vertical."""
    upright = np.sin(2 * np.pi * np.arange(720) / 17)[None].repeat(720, 0)
    turned = rotate(upright, -angle, order=1)[160:560, 160:560]
    return (turned + rng.normal(0, noise, turned.shape)).astype(np.float32)


def test_the_angle_of_grooves_is_found(rng):
    angles = rng.uniform(-90, 90, 25)
    errors = [abs(wrap(estimate_angle(_grooves(rng, angle)) - angle)) for angle in angles]
    assert np.median(errors) < 0.2
    assert max(errors) < 1.0


def test_hough_finds_the_angle_of_clear_lines(rng):
    errors = [abs(wrap(estimate_angle(_grooves(rng, a, 0.0), "hough") - a)) for a in (-61.0, -20.5, 0.0, 33.0, 78.0)]
    assert max(errors) <= 1.0


def test_turning_by_the_found_angle_makes_the_columns_differ_most(rng):
    prepared = prepare(_grooves(rng, 23.0)[None], Recipe(rotate=Rotate(enabled=True), clahe=Clahe(enabled=False)))
    middle = np.s_[100:300, 100:300]
    assert prepared.turned()[middle].mean(0).var() > 5 * prepared.image[middle].mean(0).var()


def test_no_direction_is_angle_zero_and_a_note(rng):
    prepared = prepare(rng.random((1, 128, 128)), Recipe(rotate=Rotate(enabled=True)))
    assert prepared.angle_deg == 0.0
    assert "not turned" in prepared.notes[0]


def test_the_turn_is_that_of_scikit_image(rng):
    image = rng.random((50, 71)).astype(np.float32)
    assert np.abs(turn_image(image, 31.0, fill=0.0) - rotate(image, 31.0, order=1)).max() < 1e-4


def test_corners_from_outside_the_frame_are_marked():
    inside = inside_mask((100, 100), 45.0)
    assert inside[50, 50]
    assert not inside[0, 0]
    assert inside.mean() == pytest.approx(0.83, abs=0.02)


def test_a_recipe_survives_json_and_its_hash_follows_its_values():
    recipe = Recipe(total_variation=TotalVariation(weight=0.05))
    again = Recipe.model_validate_json(recipe.model_dump_json())
    assert again == recipe
    assert again.hash == recipe.hash
    assert recipe.hash != Recipe().hash


def test_the_recipe_shipped_with_the_sample_is_the_published_preset():
    file = Path(__file__).parents[2] / "sample_data" / "grooves_recipe.json"
    assert Recipe.model_validate_json(file.read_text()) == PRESETS["Nuclei on grooves (published)"]
