"""Any valid recipe on any image gives a finite picture in 0..1, without a warning (warnings are errors)."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cell_curator.core.parameters import describe
from cell_curator.core.preprocess import prepare
from cell_curator.core.preview import preview
from cell_curator.core.recipe import Recipe


def _values(info):
    """Any value of a parameter, with both ends of its slider often."""
    if info.choices:
        return st.sampled_from(info.choices)
    if info.annotation is bool:
        return st.booleans()
    if info.name == "index":
        return st.just(0)
    if info.name == "iterations":
        return st.sampled_from((1, 2, 30))
    ends = st.sampled_from((info.minimum, info.maximum))
    between = st.integers if info.annotation is int else st.floats
    return (ends | between(info.minimum, info.maximum)).map(info.annotation)


STEPS = {
    name: st.builds(field.annotation, **{info.name: _values(info) for info in describe(field.annotation)})
    for name, field in Recipe.model_fields.items()
    if name != "version"
}
RECIPES = st.builds(Recipe, **STEPS)
STEP = st.sampled_from((1.0, 2.7))


def _images():
    rng = np.random.default_rng(1)
    grey = rng.random((41, 67)).astype(np.float32)
    half_black = grey.copy()
    half_black[:, :40] = 0
    holes = grey.copy()
    holes[3, 4], holes[5:9, 9], holes[0, 0] = np.nan, np.inf, -np.inf
    return {
        "one pixel": np.ones((1, 1), np.uint8),
        "one row": rng.integers(0, 255, (1, 50)).astype(np.uint8),
        "one column": rng.integers(0, 9, (30, 1)).astype(np.uint16),
        "7 x 5": rng.random((7, 5)),
        "constant": np.full((20, 30), 7, np.uint16),
        "all NaN": np.full((9, 9), np.nan, np.float32),
        "holes": holes,
        "half black": half_black,
        "one bright pixel": np.eye(1, 900, dtype=np.uint8).reshape(30, 30),
        "16 bit": (grey * 65_535).astype(np.uint16),
        "negative": grey - 5,
        "huge": (2 * grey - 1) * np.float32(3.3e38),
        "tiny": grey * np.float32(1e-38),
        "float64": grey.astype(np.float64) * 1e300,
        "bool": grey > 0.5,
        "colour": rng.integers(0, 255, (3, 33, 44)).astype(np.uint8),
    }


IMAGES = _images()


def check(image, recipe, step):
    prepared, shown = prepare(image, recipe), preview(image, recipe, step=step)
    for picture in (prepared.image, prepared.turned(), shown.image):
        assert picture.dtype == np.float32
        assert np.isfinite(picture).all()
        assert 0.0 <= picture.min() <= picture.max() <= 1.0
    assert prepared.image.shape == image.shape[-2:]
    assert step > 1 or shown.image.shape == prepared.image.shape
    assert all(1 <= scale <= step + 0.5 for scale in shown.scale)
    assert -180 <= prepared.angle_deg <= 180


@pytest.mark.parametrize("name", IMAGES)
@settings(deadline=None, max_examples=4)
@given(recipe=RECIPES, step=STEP)
def test_any_recipe_on_any_image_gives_a_picture(name, recipe, step):
    check(IMAGES[name], recipe, step)


@pytest.mark.slow
@pytest.mark.parametrize("name", IMAGES)
@settings(deadline=None, max_examples=150)
@given(recipe=RECIPES, step=STEP)
def test_many_recipes_on_any_image_give_a_picture(name, recipe, step):
    check(IMAGES[name], recipe, step)


@pytest.mark.parametrize("mark", [np.nan, np.inf, -np.inf, np.finfo(np.float32).max, np.finfo(np.float32).min])
def test_missing_values_do_not_spoil_the_rest(mark):
    image = IMAGES["16 bit"].astype(np.float32)
    holed = image.copy()
    holed[7, 7] = mark
    changed = prepare(image, Recipe()).image - prepare(holed, Recipe()).image
    changed[4:11, 4:11] = 0
    assert np.abs(changed).mean() < 0.002
