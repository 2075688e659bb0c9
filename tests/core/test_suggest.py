import json

import numpy as np
import pytest

from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Recipe
from cell_curator.core.suggest import suggest
from cell_curator.io.images import read_image
from cell_curator.samples.scenes import nuclei_on_grooves, phase_like, two_channel_cells


def test_grooves_are_seen_and_turned():
    made = suggest(nuclei_on_grooves(2, angle_deg=37.0).image)
    assert made.recipe.rotate.enabled
    assert any("grooves" in reason and ("37." in reason or "36.9" in reason) for reason in made.reasons)


@pytest.mark.parametrize("seed", range(6))
def test_grooves_are_seen_in_sparse_and_crowded_fields(rng, seed):
    angle = float(rng.uniform(-90, 90, 6)[seed])
    scene = nuclei_on_grooves(seed, elongated=seed % 2 == 0, angle_deg=angle, count=(10, 30, 60)[seed % 3])
    assert suggest(scene.image).recipe.rotate.enabled


def test_of_real_images_without_grooves_at_most_one_in_fifty_is_turned(data_folder):
    groups = json.loads((data_folder / "dsb2018" / "mosaic_groups.json").read_text())
    first = {group: name for name, group in sorted(groups.items(), reverse=True)}
    files = [data_folder / "dsb2018" / "images" / f"{name}.png" for name in sorted(first.values())[::4]]
    files += sorted((data_folder / "phase_usiigaci" / "images").iterdir())[:4]
    turned = [file.name for file in files if suggest(read_image(file)).recipe.rotate.enabled]
    assert len(files) > 50
    assert len(turned) <= 1


@pytest.mark.parametrize("scene", [two_channel_cells, phase_like])
def test_an_image_without_grooves_is_not_turned(scene):
    made = suggest(scene(0).image)
    assert not made.recipe.rotate.enabled
    assert any("no grooves" in reason for reason in made.reasons)


def test_more_noise_means_more_denoising(rng):
    clean = nuclei_on_grooves(0).image.astype(np.float32)
    weights = [
        suggest(clean + rng.normal(0, sigma, clean.shape)).recipe.total_variation.weight for sigma in (10, 50, 120)
    ]
    assert weights == sorted(weights)
    assert weights[-1] > 2 * weights[0]


def test_the_suggested_denoising_brings_a_noisy_image_nearer_to_the_clean_one(rng):
    clean = nuclei_on_grooves(0).image.astype(np.float32)
    noisy = (clean + rng.normal(0, 60, clean.shape)).astype(np.float32)
    recipe = suggest(noisy).recipe
    raw = recipe.model_copy(update={"total_variation": recipe.total_variation.model_copy(update={"enabled": False})})
    truth = prepare(clean, raw).image

    def likeness(used):
        return np.corrcoef(prepare(noisy, used).image.ravel(), truth.ravel())[0, 1]

    assert 1 - likeness(recipe) < 0.5 * (1 - likeness(raw))


def test_the_clip_follows_the_covered_fraction():
    sparse, crowded = (suggest(nuclei_on_grooves(0, count=count).image).recipe.clip for count in (5, 110))
    assert sparse.high_percent > crowded.high_percent
    assert sparse.low_percent > crowded.low_percent


def test_the_tile_follows_the_size_of_the_cells():
    small = nuclei_on_grooves(0, count=20).image
    large = np.kron(small, np.ones((1, 2, 2), np.uint16))
    tiles = [suggest(image).recipe.clahe.tile_px for image in (small, large)]
    assert tiles[1] == pytest.approx(2 * tiles[0], rel=0.3)


@pytest.mark.parametrize(
    "image",
    [np.zeros((1, 1)), np.zeros((4, 30, 30), np.uint8), np.full((5, 500), np.nan, np.float32), np.ones((3, 3, 3))],
    ids=["one pixel", "black", "NaN", "constant RGB"],
)
def test_an_image_without_content_gets_the_published_values(image):
    made = suggest(image)
    assert made.recipe == Recipe()
    assert len(made.reasons) == 1


def test_every_suggestion_is_a_valid_recipe(rng):
    for image in (rng.random((50, 60)), rng.integers(0, 9, (2, 9, 9)), np.eye(200, dtype=np.uint8)):
        recipe = suggest(image).recipe
        assert Recipe.model_validate(recipe.model_dump()) == recipe
