import numpy as np
import pytest
from scipy import ndimage

from cell_curator.core.density import REFERENCE, adapt, adapted, covered_fraction
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Clahe, Clip, Recipe
from cell_curator.samples.scenes import nuclei_on_grooves

ADAPTIVE = Recipe(clip=Clip(adaptive=True), clahe=Clahe(adaptive=True))


@pytest.mark.parametrize("count", [3, 20, 110])
def test_the_covered_fraction_is_near_the_truth(count):
    scene = nuclei_on_grooves(1, count=count)
    truth = (scene.labels > 0).mean()
    assert covered_fraction(scene.image[0].astype(np.float32)) == pytest.approx(truth, rel=0.2)


def test_noise_and_an_empty_field_cover_nothing(rng):
    assert covered_fraction(rng.normal(100, 5, (300, 300)).astype(np.float32)) == 0.0
    assert covered_fraction(np.full((20, 20), 7, np.float32)) == 0.0
    assert covered_fraction(np.ones((1, 1), np.float32)) == 0.0


def test_in_a_published_field_adaptive_values_are_the_published_ones():
    recipe, used = adapt(ADAPTIVE, REFERENCE)
    assert recipe.clip.high_percent == pytest.approx(98.5)
    assert recipe.clahe.clip_limit == pytest.approx(0.01)
    assert used == {
        "covered": REFERENCE,
        "clip.low_percent": 0.0,
        "clip.high_percent": pytest.approx(98.5),
        "clahe.clip_limit": pytest.approx(0.01),
    }


@pytest.mark.parametrize("covered", [0.0, 1e-6, 0.3, 0.9, 1.0])
def test_adaptive_values_stay_within_their_bounds(covered):
    for clip in (Clip(adaptive=True), Clip(adaptive=True, low_percent=100, high_percent=0)):
        recipe, _ = adapt(Recipe(clip=clip, clahe=Clahe(adaptive=True, clip_limit=1.0)), covered)
        Recipe.model_validate(recipe.model_dump())


def test_without_adaptive_parameters_the_recipe_stays(rng):
    recipe = Recipe()
    assert adapted(recipe, rng.random((9, 9)).astype(np.float32)) == (recipe, {})


def test_what_was_used_is_told(rng):
    prepared = prepare(nuclei_on_grooves(0, count=5).image, ADAPTIVE)
    assert prepared.used["clip.high_percent"] > 99.0
    assert prepared.used["clahe.clip_limit"] < 0.01


def test_sparse_and_crowded_fields_come_out_alike():
    scenes = [nuclei_on_grooves(seed, count=count) for count in (4, 25, 110) for seed in range(2)]

    def spread(recipe):
        levels = []
        for scene in scenes:
            picture = prepare(scene.image, recipe).image
            levels.append(np.median(ndimage.median(picture, scene.labels, np.unique(scene.labels)[1:])))
        return np.std(levels) / np.mean(levels)

    assert spread(ADAPTIVE) < 0.4 * spread(Recipe())
