import itertools

import cv2
import numpy as np
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.core.overview import overview
from cell_curator.core.preprocess import prepare
from cell_curator.core.preview import preview, stages
from cell_curator.core.recipe import PRESETS, Background, Channel, Clahe, Clip, Recipe, Tone, ZeroBelow
from cell_curator.samples.scenes import nuclei_on_grooves

ALL_ON = Recipe(
    background=Background(enabled=True), zero_below=ZeroBelow(enabled=True), tone=Tone(enabled=True, gamma=0.8)
)


@pytest.fixture(scope="module")
def field():
    return nuclei_on_grooves(0, size=1000, count=180).image


def difference(shown, recipe, image):
    """Mean absolute difference from the same part of the fully prepared image, averaged to the same pixels."""
    whole = prepare(image, recipe).image
    height, width = shown.image.shape
    ends = [round(o + n * s) for o, n, s in zip(shown.origin, (height, width), shown.scale, strict=True)]
    part = whole[round(shown.origin[0]) : ends[0], round(shown.origin[1]) : ends[1]]
    return np.abs(cv2.resize(part, (width, height), interpolation=cv2.INTER_AREA) - shown.image).mean()


@pytest.mark.parametrize("preset", PRESETS)
@pytest.mark.parametrize("region", [None, (300, 400, 700, 810)])
@pytest.mark.parametrize(("step", "most"), [(1.0, 0.008), (2.3, 0.02), (4.0, 0.02)])
def test_a_visible_part_looks_as_in_the_whole(field, preset, region, step, most):
    recipe = PRESETS[preset]
    shown = preview(field, recipe, region=region, step=step)
    assert difference(shown, recipe, field) < most


def test_with_all_steps_on_full_resolution_is_that_of_the_whole(field):
    assert difference(preview(field, ALL_ON, region=(0, 0, 400, 400)), ALL_ON, field) < 0.02


def test_clahe_of_a_part_is_that_of_the_whole_to_one_grey_level(rng):
    image = (cv2.GaussianBlur(rng.random((603, 707)), (0, 0), 5) * 60_000).astype(np.uint16)
    recipe = Recipe(
        clip=Clip(enabled=False),
        total_variation={"enabled": False},
        clahe=Clahe(clip_limit=0.02),
        normalise={"enabled": False},
    )
    shown = preview(image, recipe, region=(200, 250, 400, 707))
    assert shown.origin == (200.0, 250.0)
    assert shown.image.shape == (200, 457)
    assert np.abs(shown.image - prepare(image, recipe).image[200:400, 250:]).max() < 1.5 / 255


def test_the_preview_covers_what_was_asked_for_and_says_where_it_lies(field):
    shown = preview(field, Recipe(), region=(101, 203, 507, 619), step=3.0)
    for origin, count, scale, low, high in zip(
        shown.origin, shown.image.shape, shown.scale, (101, 203), (507, 619), strict=True
    ):
        assert origin <= low < origin + scale
        assert high <= origin + count * scale < high + scale
    assert shown.translate[0] == pytest.approx(shown.origin[0] + (shown.scale[0] - 1) / 2)


@pytest.mark.parametrize("region", [(-50, -50, 20, 20), (990, 990, 4000, 4000), (5, 5, 5, 5), (2000, 0, 3000, 10)])
def test_a_region_at_or_beyond_the_border_is_cut(field, region):
    shown = preview(field, Recipe(), region=region)
    assert shown.image.size > 0
    assert shown.origin[0] + shown.image.shape[0] * shown.scale[0] <= 1000 + shown.scale[0]


@pytest.mark.parametrize("shape", [(1, 1), (1, 3000), (3, 5), (2000, 2)])
@pytest.mark.parametrize("recipe", [Recipe(), ALL_ON], ids=["published", "all on"])
@pytest.mark.parametrize("step", [0.2, 1.0, 7.5])
def test_odd_shapes_give_a_picture(rng, shape, recipe, step):
    shown = preview(rng.random(shape).astype(np.float32), recipe, step=step).image
    assert shown.size > 0
    assert np.isfinite(shown).all()


@pytest.mark.parametrize("tile_px", [1, 8, 4096])
def test_any_tile_will_do(field, tile_px):
    recipe = Recipe(clahe=Clahe(tile_px=tile_px))
    shown = preview(field, recipe, region=(100, 100, 300, 300), step=2.0)
    assert 0 <= shown.image.min() < shown.image.max() <= 1


class Lazy:
    """Sliced like an array on disk; remembers how many pixels were read."""

    def __init__(self, pixels):
        self.pixels, self.read = pixels, 0
        self.shape, self.ndim, self.dtype = pixels.shape, pixels.ndim, pixels.dtype

    def __getitem__(self, index):
        part = self.pixels[index]
        self.read += part.size
        return Lazy(part) if part.ndim == 0 else part


def test_of_an_image_on_disk_only_what_is_seen_is_read(field):
    stored = Lazy(np.repeat(field, 2, axis=0))
    whole = overview(stored)
    assert stored.read <= 2 * 768**2
    stored.read = 0
    recipe = PRESETS["Plain"]
    shown = preview(stored, recipe, region=(100, 100, 200, 200), whole=whole)
    assert shown.image.shape == (100, 100)
    assert stored.read <= 2 * 100 * 100
    in_memory = preview(np.asarray(stored.pixels), recipe, region=(100, 100, 200, 200))
    assert np.abs(in_memory.image - shown.image).mean() < 0.02


def test_a_dask_array_is_as_good(field):
    dask = pytest.importorskip("dask.array")
    shown = preview(dask.from_array(field, chunks=(1, 256, 256)), Recipe(), region=(0, 0, 300, 300), step=2.0)
    assert np.abs(shown.image - preview(field, Recipe(), region=(0, 0, 300, 300), step=2.0).image).mean() < 0.06


def test_adaptive_values_are_those_of_the_whole_image(field):
    recipe = Recipe(clip=Clip(adaptive=True))
    shown = preview(field, recipe, region=(0, 0, 100, 100), step=2.0)
    assert shown.used["clip.high_percent"] == pytest.approx(prepare(field, recipe).used["clip.high_percent"], abs=0.3)


def test_a_channel_that_is_not_there_is_said_in_words(field):
    with pytest.raises(UserError, match="has 1"):
        preview(field, Recipe(channel=Channel(mode="index", index=3)))


def test_the_filmstrip_shows_every_step(field):
    film = stages(field, ALL_ON, side=128)
    assert [title for title, _ in film] == [
        "Channel",
        "Remove background",
        "Local contrast (CLAHE)",
        "Normalise",
        "Clip extremes",
        "Black below",
        "Tone",
        "Denoise (TV)",
    ]
    for _, picture in film:
        assert picture.shape == film[0][1].shape
        assert 0 <= picture.min() < picture.max() <= 1
    assert not any(np.array_equal(a, b) for (_, a), (_, b) in itertools.pairwise(film[2:]))


def test_the_original_is_never_written_to(field):
    before = field.copy()
    stages(field.astype(np.float32), ALL_ON)
    preview(field, ALL_ON)
    assert np.array_equal(field, before)
