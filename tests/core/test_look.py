"""What is shown beside a preview belongs to the picture and to the whole image."""

from __future__ import annotations

from dataclasses import asdict

import dask.array as da
import numpy as np
import pytest

from cell_curator.core.jobs import UserError
from cell_curator.core.look import Histograms, angle_of, look, study, used_notes
from cell_curator.core.overview import BINS
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Channel, Clahe, Clip, Normalise, Recipe, Rotate, TotalVariation, ZeroBelow
from cell_curator.samples.scenes import nuclei_on_grooves

PLAIN = Recipe(clahe=Clahe(enabled=False), total_variation=TotalVariation(enabled=False))


@pytest.fixture(scope="module")
def scene():
    return nuclei_on_grooves(3, size=256, count=20).image


def clipped(low, high):
    return PLAIN.model_copy(update={"clip": Clip(low_percent=low, high_percent=high)})


@pytest.mark.parametrize(("low", "high"), [(0.0, 98.5), (5.0, 99.9), (30.0, 60.0)])
def test_percent_of_the_clip_level_is_the_percentile_that_was_asked_for(scene, low, high):
    histograms = look(scene, clipped(low, high)).histograms
    assert histograms.percents == (low, high)
    bin_share = 100 * histograms.before.max() / histograms.before.sum()
    assert histograms.percent(histograms.low) == pytest.approx(low, abs=bin_share)
    assert histograms.percent(histograms.high) == pytest.approx(high, abs=bin_share)


def test_percent_runs_from_0_to_100_and_never_falls(scene):
    histograms = look(scene, PLAIN).histograms
    shares = [histograms.percent(level) for level in np.linspace(0, 1, 301)]
    assert shares[0] == 0
    assert shares[-1] == 100
    assert (np.diff(shares) >= 0).all()
    assert Histograms(np.zeros(BINS, np.int64), np.zeros(BINS, np.int64), 0, 1).percent(0.5) == 0


def test_without_clipping_the_marks_are_at_the_ends(scene):
    histograms = look(scene, PLAIN.model_copy(update={"clip": Clip(enabled=False)})).histograms
    assert (histograms.low, histograms.high, histograms.percents) == (0.0, 1.0, (0.0, 100.0))


def test_an_adaptive_clip_shows_the_percentiles_used_for_this_image(scene):
    adaptive = PLAIN.model_copy(update={"clip": Clip(adaptive=True)})
    made = look(scene, adaptive)
    assert made.histograms.percents[1] == pytest.approx(made.preview.used["clip.high_percent"])


def test_the_marks_belong_to_the_whole_image_wherever_one_looks(scene):
    whole = look(scene, PLAIN).histograms
    part = look(scene, PLAIN, region=(40, 50, 120, 140)).histograms
    assert (part.low, part.high) == (whole.low, whole.high)
    np.testing.assert_array_equal(part.before, whole.before)
    assert part.after.sum() < whole.after.sum()


def test_the_result_is_counted_from_the_picture_that_is_shown(scene):
    made = look(scene, Recipe(), step=2.0)
    assert made.histograms.after.sum() == made.preview.image.size
    top = int((made.preview.image >= 1 - 1 / BINS).sum())
    assert made.histograms.after[-1] == pytest.approx(top, abs=0.01 * made.preview.image.size)


def test_study_has_a_picture_for_each_step_and_its_last_is_the_result(scene):
    recipe = Recipe(zero_below=ZeroBelow(enabled=True))
    made = study(scene, recipe, side=256)
    assert [title for title, _ in made.film] == [
        "Channel", "Local contrast (CLAHE)", "Normalise", "Clip extremes", "Black below", "Denoise (TV)",
    ]  # fmt: skip
    assert np.abs(made.film[-1][1] - prepare(scene, recipe).image).mean() < 0.01
    noisy = recipe.model_copy(update={"total_variation": TotalVariation(enabled=False)})
    assert made.prepared.noise < study(scene, noisy).prepared.noise


def test_study_of_a_lazy_image_is_that_of_the_same_image_in_memory(scene):
    there = study(scene, PLAIN)
    lazy = study(da.from_array(scene, chunks=(1, 100, 100)), PLAIN)
    assert asdict(lazy.raw) == pytest.approx(asdict(there.raw), rel=1e-5)
    for (title, ours), (other, theirs) in zip(lazy.film, there.film, strict=True):
        assert title == other
        np.testing.assert_allclose(ours, theirs, atol=0.02)


def test_angle_is_that_of_the_whole_preparation(scene):
    recipe = Recipe(rotate=Rotate(enabled=True))
    angle, notes = angle_of(scene, recipe)
    assert angle == prepare(scene, recipe).angle_deg
    assert notes == ()
    assert angle_of(scene, Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=12.5))) == (12.5, ())
    assert angle_of(scene, Recipe()) == (0.0, ())


@pytest.mark.parametrize("method", ["tensor", "hough"])
def test_no_grooves_are_a_note_and_no_error(method):
    made = study(np.full((128, 128), 9, np.uint8), Recipe(rotate=Rotate(enabled=True, method=method)))
    assert made.angle_deg == 0
    assert any("no grooves" in note for note in made.notes)


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((64, 64), np.uint16),
        np.full((64, 64), 7, np.uint8),
        np.zeros((1, 1), np.uint8),
        np.arange(30, dtype=np.uint16)[None],
        np.arange(30, dtype=np.uint16)[:, None],
        np.eye(40, dtype=bool),
        np.where(np.eye(50) > 0, np.nan, np.arange(50.0)),
        np.full((20, 20), np.nan),
        np.array([[np.inf, -np.inf], [0.0, 1.0]]),
        np.arange(900, dtype=np.int64).reshape(30, 30),
        np.arange(900, dtype=np.int8).reshape(30, 30),
        np.arange(900, dtype=np.float16).reshape(30, 30),
    ],
    ids=["black", "grey", "1×1", "1×N", "N×1", "bool", "some NaN", "all NaN", "inf", "int64", "int8", "float16"],
)
@pytest.mark.parametrize("rotated", [False, True])
def test_odd_images_give_a_finite_picture_between_0_and_1(image, rotated):
    recipe = Recipe(rotate=Rotate(enabled=rotated), zero_below=ZeroBelow(enabled=True))
    made = look(image, recipe)
    assert made.preview.image.shape == image.shape
    assert np.isfinite(made.preview.image).all()
    assert 0 <= made.preview.image.min() <= made.preview.image.max() <= 1
    assert 0 <= made.histograms.low <= made.histograms.high <= 1
    further = study(image, recipe)
    assert all(np.isfinite(picture).all() for _, picture in further.film)


def test_a_channel_that_is_not_there_is_said(scene):
    with pytest.raises(UserError, match="channel 4"):
        look(scene, Recipe(channel=Channel(mode="index", index=4)))
    with pytest.raises(UserError, match="channel 4"):
        study(scene, Recipe(channel=Channel(mode="index", index=4)))


@pytest.mark.parametrize("normalised", [False, True])
def test_sliders_at_their_ends(scene, normalised):
    for clip in (Clip(low_percent=0, high_percent=0.1), Clip(low_percent=99.9, high_percent=100)):
        recipe = Recipe(
            normalise=Normalise(enabled=normalised), clip=clip, clahe=Clahe(clip_limit=1.0, tile_px=4096),
            total_variation=TotalVariation(weight=1.0, tolerance=0.1),
        )  # fmt: skip
        made = look(scene, recipe)
        assert np.isfinite(made.preview.image).all()
        assert made.histograms.low <= made.histograms.high


def test_notes_tell_the_values_that_adaptive_parameters_came_to(scene):
    adaptive = Recipe(clip=Clip(adaptive=True), clahe=Clahe(adaptive=True))
    used = look(scene, adaptive).preview.used
    notes = used_notes(adaptive, used)
    assert f"{used['clip.high_percent']:.4g} %" in notes["clip"]
    assert f"{100 * used['covered']:.0f} % covered" in notes["clip"]
    assert f"{used['clahe.clip_limit']:.3g}" in notes["clahe"]
    assert set(used_notes(Recipe(), {}).values()) == {""}
    assert "nothing is cut" in used_notes(clipped(60, 60), {})["clip"]
