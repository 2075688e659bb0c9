"""An image prepared part by part is the image prepared as a whole."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from cell_curator.core import clahe, large
from cell_curator.core.grey_levels import extremes
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.lazy import Lazy, tiles
from cell_curator.core.preprocess import prepare, vote
from cell_curator.core.recipe import PRESETS, Background, Clahe, Clip, Normalise, Recipe, Rotate, ZeroBelow
from cell_curator.core.steps import equalise
from cell_curator.core.total_variation import denoise_tv, steps_needed
from cell_curator.samples.scenes import nuclei_on_grooves

RECIPES = {
    **PRESETS,
    "background": Recipe(background=Background(enabled=True, radius_px=12)),
    "white top-hat": Recipe(
        background=Background(enabled=True, radius_px=12, method="white top-hat"),
        clahe=Clahe(enabled=False),
        zero_below=ZeroBelow(enabled=True),
    ),
    "adaptive": Recipe(clip=Clip(adaptive=True), clahe=Clahe(adaptive=True, depth="16 bit")),
    "hardly anything": Recipe(clahe=Clahe(enabled=False), normalise=Normalise(enabled=False), clip=Clip(enabled=False)),
}


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.asarray(nuclei_on_grooves(1).image)[:, :, :470]


@pytest.fixture(autouse=True)
def small_parts(monkeypatch):
    monkeypatch.setattr(large, "BLOCK", 200)


def lazily(image: np.ndarray) -> Lazy:
    return Lazy("mosaic", image.shape, image.dtype, lambda b, s: image[:, b[0] : b[2] : s, b[1] : b[3] : s])


def by_parts(image: Lazy, recipe: Recipe, side: int = 190) -> tuple[np.ndarray, large.Known]:
    known = drive(large.survey(image, recipe))
    out = np.zeros(image.shape[1:], np.float32)
    for box in tiles(image.shape[1:], side):
        out[box[0] : box[2], box[1] : box[3]] = large.prepared_part(image, known, box)
    return out, known


@pytest.mark.parametrize("name", RECIPES)
def test_no_seam_is_seen(image, name):
    whole = prepare(image, RECIPES[name])
    parts, known = by_parts(lazily(image), RECIPES[name])
    assert np.abs(parts - whole.image).max() <= 1 / 255
    assert known.angle_deg == pytest.approx(whole.angle_deg, abs=0.3)
    assert known.used == pytest.approx(whole.used)
    assert known.raw == ((float(image.min()), float(image.max())),)


def test_neither_is_one_of_real_numbers_or_three_channels(image):
    colour = np.concatenate([image / 7.0 - 30, image[:, ::-1] / 9.0, image[:, :, ::-1] / 8.0]).astype(np.float32)
    for recipe in (RECIPES["Plain"], RECIPES["adaptive"]):
        assert np.abs(by_parts(lazily(colour), recipe)[0] - prepare(colour, recipe).image).max() <= 1 / 255


def test_a_flat_image_gives_zeros():
    parts, _ = by_parts(lazily(np.full((1, 230, 210), 7, np.uint8)), PRESETS["Plain"])
    assert not parts.any()


@pytest.mark.parametrize("depth", ["8 bit", "16 bit"])
@pytest.mark.parametrize("shape", [(320, 400), (317, 403)])
def test_curves_gathered_in_parts_are_those_of_opencv(shape, depth):
    grey = cv2.GaussianBlur(np.random.default_rng(3).normal(size=shape).astype(np.float32), (0, 0), 4)
    grey = np.rint((grey - grey.min()) * 4000).astype(np.float32)
    settings = Clahe(tile_px=40, depth=depth, clip_limit=0.05)
    counts = clahe.empty(shape, settings, extremes(grey))
    for box in tiles(shape, 150):
        clahe.count(counts, grey[box[0] : box[2], box[1] : box[3]], box)
    found, wanted = clahe.curves(counts, settings), equalise(grey, settings)
    for box in tiles(shape, 130):
        cut = np.s_[box[0] : box[2], box[1] : box[3]]
        np.testing.assert_allclose(clahe.equalise_part(grey[cut].copy(), found, box), wanted[cut], atol=1e-6)


def test_denoising_takes_as_many_steps_as_the_whole_would(image):
    grey = prepare(image, PRESETS["Plain"]).image
    steps = steps_needed([grey], 0.05, 2e-4, 200)
    assert 3 < steps < 60
    np.testing.assert_array_equal(denoise_tv(grey, 0.05), denoise_tv(grey, 0.05, 0.0, steps + 1))
    assert abs(steps_needed([grey[:256], grey[256:]], 0.05, 2e-4, 200) - steps) <= 1


def test_from_afar_it_looks_as_from_near(image):
    recipe = Recipe(clahe=Clahe(tile_px=64), total_variation=PRESETS["Plain"].total_variation)
    known = drive(large.survey(lazily(image), recipe))
    small = cv2.resize(image[0], None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)[None]
    whole = cv2.resize(prepare(image, recipe).image, small.shape[:0:-1], interpolation=cv2.INTER_AREA)
    afar = large.seen_from_afar(small, known, (0, 0, *small.shape[1:]))
    assert np.abs(afar - whole).mean() < 0.03


def test_grooves_of_a_large_image_have_a_vote(image):
    recipe = Recipe(rotate=Rotate(enabled=True, shared=True))
    assert vote(lazily(image), recipe) == pytest.approx(vote(image, recipe), abs=0.3)


def test_a_missing_channel_is_named(image):
    with pytest.raises(UserError, match="channel 3 was asked for"):
        drive(large.survey(lazily(image), Recipe(channel={"mode": "index", "index": 3})))
