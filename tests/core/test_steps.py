from functools import lru_cache

import cv2
import numpy as np
import pytest
from skimage.morphology import black_tophat, disk, white_tophat

from cell_curator.core.grey_levels import extremes, quantise
from cell_curator.core.morphology import dilate
from cell_curator.core.preprocess import chain, prepare
from cell_curator.core.preview import preview
from cell_curator.core.recipe import (
    STEPS,
    Background,
    Clahe,
    Clip,
    Normalise,
    Recipe,
    Rotate,
    Tone,
    TotalVariation,
    ZeroBelow,
)
from cell_curator.core.steps import bend, black_below, clahe_note, coarse_background, equalise, remove_background
from cell_curator.samples.scenes import nuclei_on_grooves

ALL_ON = Recipe(
    rotate=Rotate(enabled=True),
    background=Background(enabled=True, radius_px=5),
    zero_below=ZeroBelow(enabled=True),
    tone=Tone(enabled=True, gamma=0.8),
)


@lru_cache
def drawn(seed, size, count):
    """``(C, Y, X)``; do not change it."""
    return nuclei_on_grooves(seed, size=size, count=count).image


@pytest.mark.parametrize("shape", [(200, 300), (203, 311), (40, 30)])
@pytest.mark.parametrize("clip_limit", [0.0, 0.01, 0.2])
@pytest.mark.parametrize(("depth", "top"), [("8 bit", 255), ("16 bit", 65_535)])
def test_clahe_is_that_of_opencv_bit_for_bit(rng, shape, clip_limit, depth, top):
    image = rng.gamma(2.0, 100.0, shape).astype(np.float32)
    ours = equalise(image, Clahe(clip_limit=clip_limit, tile_px=50, depth=depth))
    tiles = (max(1, round(shape[1] / 50)), max(1, round(shape[0] / 50)))
    operator = cv2.createCLAHE(max(256 * clip_limit, 1.0), tiles)
    theirs = operator.apply(quantise(image, *extremes(image), top))
    assert np.array_equal(np.rint(ours * top), theirs)


def test_a_clip_limit_that_cannot_act_with_16_bits_is_told():
    assert clahe_note((400, 400), Clahe(depth="16 bit", tile_px=40)) is not None
    assert clahe_note((400, 400), Clahe(depth="8 bit", tile_px=40)) is None
    assert clahe_note((4000, 4000), Clahe(depth="16 bit", tile_px=1000)) is None
    notes = prepare(np.eye(100, dtype=np.uint16), Recipe(clahe=Clahe(depth="16 bit", tile_px=10))).notes
    assert "larger tiles" in notes[0]


def test_background_is_that_of_scikit_image(rng):
    image = cv2.GaussianBlur(rng.random((90, 80)).astype(np.float32), (0, 0), 2)
    inner = np.s_[20:-20, 20:-20]  # the two disagree about what lies beyond the border
    white = remove_background(image, Background(method="white top-hat", radius_px=5))
    assert np.allclose(white[inner], white_tophat(image, disk(5))[inner], atol=1e-6)
    black = remove_background(image, Background(radius_px=5))
    assert np.allclose(black[inner], np.maximum(image - black_tophat(image, disk(5)), image.min())[inner], atol=1e-6)


def test_a_wide_glow_goes_and_a_small_cell_stays(discs):
    cell = (discs((200, 200), [(100, 100, 8)]) > 0).astype(np.float32)
    glow = np.linspace(0, 3, 200, dtype=np.float32)[None].repeat(200, 0)
    clean = remove_background(cell + glow, Background(method="white top-hat", radius_px=15))
    # A top-hat keeps what the glow rises over a disk beside the cell; far less than the glow itself.
    assert clean[cell > 0].mean() > 0.9
    assert clean[cell == 0].max() < 0.3


@pytest.mark.parametrize("method", ["black top-hat", "white top-hat"])
@pytest.mark.parametrize(("radius", "most"), [(8, 0.02), (15, 0.02), (60, 0.02)])
@pytest.mark.parametrize("scale", [1.0, 1.6, 3.0])
def test_a_background_seen_coarsely_is_about_the_exact_one(method, radius, most, scale):
    image = drawn(0, 700, 90)[0].astype(np.float32)
    background = Background(method=method, radius_px=radius)
    sign = background.sign
    exact = dilate(dilate(image, radius, sign), radius, -sign)
    shape = (round(700 / scale), round(700 / scale))
    coarse = coarse_background(image, background, scale=1.0, shape=shape)
    assert coarse.shape == shape
    off = np.abs(coarse - cv2.resize(exact, shape, interpolation=cv2.INTER_AREA)).mean()
    assert off < most * np.ptp(np.percentile(image, (0.1, 99.9)))


@pytest.mark.parametrize("step", [pytest.param(1.0, marks=pytest.mark.slow), 2.27, 4.0])
@pytest.mark.parametrize(
    ("radius", "method"),
    [(5, "black top-hat"), pytest.param(15, "black top-hat", marks=pytest.mark.slow), (15, "white top-hat")],
)
def test_a_preview_without_background_looks_as_in_the_whole(step, radius, method):
    image = drawn(3, 1000, 180)
    recipe = Recipe(background=Background(enabled=True, radius_px=radius, method=method))
    shown = preview(image, recipe, step=step)
    whole = prepare(image, recipe).image
    height, width = (round(side * by) for side, by in zip(shown.image.shape, shown.scale, strict=True))
    whole = cv2.copyMakeBorder(whole, 0, max(0, height - 1000), 0, max(0, width - 1000), cv2.BORDER_REFLECT_101)
    reduced = cv2.resize(whole[:height, :width], shown.image.shape[::-1], interpolation=cv2.INTER_AREA)
    assert np.abs(reduced - shown.image).mean() < 0.02


def test_zero_below_blackens_the_share_asked_for(rng):
    image = rng.random((100, 100)).astype(np.float32)
    zeroed = black_below(image, ZeroBelow(percent=40))
    assert (zeroed == 0).mean() == pytest.approx(0.4, abs=0.001)
    assert np.array_equal(zeroed[zeroed > 0], image[zeroed > 0])


@pytest.mark.parametrize("tone", [Tone(gamma=0.4), Tone(gamma=3.0), Tone(method="sigmoid", gain=12, middle=0.3)])
def test_tone_bends_between_0_and_1(tone):
    ramp = np.linspace(0, 1, 100, dtype=np.float32)[None]
    bent = bend(ramp, tone)[0]
    assert bent[0] == pytest.approx(0, abs=1e-6)
    assert bent[-1] == pytest.approx(1, abs=1e-6)
    assert np.all(np.diff(bent) > 0)
    assert np.abs(bent - ramp[0]).max() > 0.1


def test_the_steps_come_in_the_order_of_the_recipe(rng):
    names = [name for name, _ in chain(rng.random((64, 64)).astype(np.float32) * 9, ALL_ON, {})]
    assert names == [name for name in STEPS if name not in ("rotate", "channel")]


@pytest.mark.parametrize("step", [name for name in STEPS if name != "rotate"])
def test_up_to_a_step_nothing_later_is_done(rng, step):
    grey = rng.random((64, 64)).astype(np.float32)
    names = [name for name, _ in chain(grey, ALL_ON.up_to(step), {})]
    assert names == list(STEPS[STEPS.index("channel") + 1 : STEPS.index(step) + 1])


def test_the_turn_alone_is_left_up_to_the_turn():
    alone = ALL_ON.up_to("rotate")
    assert alone.rotate == ALL_ON.rotate
    assert alone == ALL_ON.up_to("channel")
    assert ALL_ON.up_to(STEPS[-1]) == ALL_ON


def _extreme(value):
    """Every slider of the recipe at its lower (or upper) end."""
    steps = {}
    for name, field in Recipe.model_fields.items():
        if name == "version":
            continue
        model = field.annotation
        ends = {"enabled": True} if "enabled" in model.model_fields else {}
        for key, item in model.model_fields.items():
            bounds = [getattr(m, value) for m in item.metadata if hasattr(m, value)]
            ends |= {key: item.annotation(bounds[0])} if bounds else {}
        steps[name] = model(**ends)
    return Recipe(**steps)


@pytest.mark.parametrize("depth", ["8 bit", "16 bit"])
@pytest.mark.parametrize("end", ["ge", "le"])
def test_all_sliders_at_one_end_give_an_image(rng, end, depth):
    recipe = _extreme(end)
    recipe = recipe.model_copy(update={"clahe": recipe.clahe.model_copy(update={"depth": depth})})
    picture = prepare((rng.random((1, 70, 90)) * 4000).astype(np.uint16), recipe).image
    assert picture.shape == (70, 90)
    assert np.isfinite(picture).all()
    assert picture.min() >= 0
    assert picture.max() <= 1


def test_the_smallest_tile_of_a_large_image_is_no_trouble(rng):
    image = rng.random((1024, 1024)).astype(np.float32)
    assert equalise(image, Clahe(tile_px=1)).shape == image.shape
    assert equalise(image, Clahe(tile_px=1, depth="16 bit")).shape == image.shape


@pytest.mark.parametrize("recipe", [Recipe(), ALL_ON], ids=["published", "all on"])
def test_an_all_black_half_stays_finite(rng, recipe):
    image = (rng.random((1, 120, 120)) * 200).astype(np.uint8)
    image[:, :, :60] = 0
    picture = prepare(image, recipe).image
    assert np.isfinite(picture).all()
    assert picture[:, 70:].mean() > picture[:, :50].mean()


def test_without_any_step_the_image_is_only_brought_within_0_and_1(rng):
    off = Recipe(
        clahe=Clahe(enabled=False),
        normalise=Normalise(enabled=False),
        clip=Clip(enabled=False),
        total_variation=TotalVariation(enabled=False),
    )
    image = rng.random((20, 30)).astype(np.float32)
    assert np.array_equal(prepare(image, off).image, image)
    assert prepare(image * 50, off).image.max() == 1.0


def test_the_original_is_never_written_to(rng):
    image = rng.random((1, 64, 64)).astype(np.float32)
    before = image.copy()
    prepare(image, ALL_ON)
    assert np.array_equal(image, before)


def test_what_lies_outside_the_turned_frame_is_told(rng):
    prepared = prepare(rng.random((50, 80)), Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=30)))
    inside = prepared.inside_mask()
    assert not inside[0, 0]
    assert inside[25, 40]
    assert not prepared.turned()[~inside].max() > 0.6
