"""Contact sheets as jobs: pictures first, then the AP of a threshold's cells on what was reviewed."""

from __future__ import annotations

import numpy as np
import pytest
from skimage.measure import label

from cell_curator.core.jobs import Progress, UserError, drive
from cell_curator.core.preview import preview
from cell_curator.core.recipe import PRESETS, Recipe
from cell_curator.core.sweep import ranked
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.sweeping import contact_sheet, count_reviewed, scored_sheet
from small_project import session  # noqa: F401

PLAIN = PRESETS["Plain"]
GRID = {"tone.gamma": [0.2, 1.0, 5.0], "clip.high_percent": [50.0, 99.9]}


class Threshold:
    """A segmenter that takes what is brighter than 0.5, and remembers what it was asked."""

    def __init__(self):
        self.asked, self.shapes = [], []

    def __call__(self, target, /, image, params):
        assert target == "cell_curator.engines.segmenter:segment_image"
        self.asked.append(params)
        self.shapes.append(image.shape)
        yield Progress(0.5, "looking", "not for the sheet")
        found = label(image > 0.5).astype(np.int32)
        return Segmentation(found, 14.0, False, np.zeros(found.max() + 1, np.float32))


@pytest.fixture
def execute():
    return Threshold()


@pytest.fixture
def reviewed(session):  # noqa: F811
    """The first image; three of its four cells are accepted, one is a mere proposal."""
    ids = session.cells.of_image(1).index
    session.set_verdict(ids[:3], "accepted")
    session.set_verdict(ids[3:], "proposed")
    return session


def sheet(session, grid=GRID, recipe=PLAIN, region=None, step=1.0, seen=None):  # noqa: F811
    job = scored_sheet(session, 1, session.pixels(1), recipe, grid, region=region, step=step)
    return drive(job, None if seen is None else seen.append)


def test_the_ranking_finds_the_recipe_that_keeps_the_cells(reviewed):
    tiles = {tuple(tile.values.values()): tile.score for tile in sheet(reviewed)}
    assert tiles[1.0, 99.9] == 1.0
    assert tiles[0.2, 99.9] < 0.5  # everything is bright: cells merge with the ground
    assert tiles[1.0, 50.0] < 0.5  # so is half the picture
    best = ranked(sheet(reviewed))[0]
    assert best.values["clip.high_percent"] == 99.9
    assert best.score == max(tiles.values())


def test_pictures_come_before_scores_and_every_payload_is_a_tile(reviewed):
    seen = []
    tiles = sheet(reviewed, seen=seen)
    come = [progress.payload for progress in seen if progress.payload is not None]
    assert [tile.index for tile in come] == 2 * [tile.index for tile in tiles]
    assert all(np.isnan(tile.score) for tile in come[:6])
    assert come[6:] == list(tiles)
    fractions = [progress.fraction for progress in seen]
    assert fractions == sorted(fractions)


def test_all_tiles_are_segmented_for_the_same_diameter(reviewed, execute):
    sheet(reviewed, {"clahe.tile_px": [8, 16, 32], "tone.gamma": [0.5, 1.0]})
    assert len({params.diameter for params in execute.asked}) == 1
    areas = reviewed.cells.of_image(1)["area"].iloc[:3]
    assert execute.asked[0].diameter == pytest.approx(2 * np.sqrt(areas.median() / np.pi))


def test_a_diameter_that_was_set_is_kept(reviewed, execute):
    reviewed.put(SegmentParameters(diameter=20))
    sheet(reviewed)
    assert {params.diameter for params in execute.asked} == {20}


def test_large_regions_are_segmented_at_a_megapixel_and_sizes_follow(reviewed, execute, monkeypatch):
    from cell_curator import sweeping

    monkeypatch.setattr(sweeping, "_PIXELS", 64 * 80 / 4)
    reviewed.put(SegmentParameters(diameter=20, min_size=16))
    tiles = sheet(reviewed)
    assert set(execute.shapes) == {(32, 40)}
    assert {(params.diameter, params.min_size) for params in execute.asked} == {(10.0, 4)}
    assert max(tile.score for tile in tiles) == 1.0


def test_only_what_lies_in_the_region_is_asked_for(reviewed):
    region = (0, 0, 32, 80)  # cells 1 and 2
    assert count_reviewed(reviewed, 1, region) == 2
    assert count_reviewed(reviewed, 1) == 3
    assert max(tile.score for tile in sheet(reviewed, region=region)) == 1.0


def test_labels_lie_on_the_pixels_of_a_preview_that_begins_anywhere(reviewed):
    from cell_curator.sweeping import _judged

    region = (7, 9, 60, 71)
    truth = _judged(reviewed, 1, region, (64, 80))
    shown = preview(reviewed.pixels(1), PLAIN, region=region, step=1.0)
    assert np.array_equal(truth.on(shown), reviewed.labels(1)[7:60, 9:71])
    coarse = preview(reviewed.pixels(1), PLAIN, region=region, step=2.0)
    bright = coarse.image > 0.5
    assert (truth.on(coarse)[bright] > 0).mean() > 0.9


def test_noise_elsewhere_breaks_ties(reviewed):
    tiles = sheet(reviewed, {"tone.gamma": [0.33, 1.0]})
    assert [tile.score for tile in tiles] == [1.0, 1.0]
    assert tiles[0].surplus > 10
    assert tiles[1].surplus == 0
    assert ranked(tiles)[0] is tiles[1]


def test_a_scored_tile_shows_the_cells_that_were_found(reviewed):
    tile = sheet(reviewed, {"tone.gamma": [1.0]}, step=2.0)[0]
    assert tile.found.shape == tile.image.shape == (32, 40)
    assert len(np.unique(tile.found)) == 5
    assert tile.image[tile.found > 0].min() > tile.image[tile.found == 0].mean()


def test_a_rejected_cell_that_is_found_again_counts_against_a_tile(reviewed):
    before = sheet(reviewed, {"tone.gamma": [1.0]})[0].score
    reviewed.set_verdict(reviewed.cells.of_image(1).index[3:], "rejected")
    assert sheet(reviewed, {"tone.gamma": [1.0]})[0].score == pytest.approx(3 / 4 * before)


def test_without_reviewed_cells_it_says_what_to_do(reviewed):
    reviewed.set_verdict(reviewed.cells.of_image(1).index, "proposed")
    with pytest.raises(UserError, match="accept, correct or lock"):
        sheet(reviewed)


def test_an_image_that_left_the_project_is_said(reviewed):
    with pytest.raises(UserError, match="no longer in the project"):
        drive(scored_sheet(reviewed, 99, reviewed.pixels(1), PLAIN, GRID, region=None, step=1.0))


def test_an_image_of_another_size_is_said(reviewed):
    with pytest.raises(UserError, match="do not fit"):
        drive(scored_sheet(reviewed, 1, reviewed.pixels(1)[:, :50], PLAIN, GRID, region=None, step=1.0))


class Vanishing:
    """An image on a disk that is taken out while the sheet is made."""

    ndim, shape, dtype = 3, (1, 600, 700), np.dtype(np.uint16)

    def __init__(self, reads):
        self.left = reads

    def __getitem__(self, key):
        self.left -= 1
        if self.left < 0:
            raise FileNotFoundError("scan.zarr")
        return np.ones(self.shape, np.uint16)[key]


@pytest.mark.parametrize("reads", [0, 1])  # the overview, and the part in view: no tile reads again
def test_an_image_that_vanishes_is_an_error_in_words(reads):
    with pytest.raises(UserError, match="can no longer be read"):
        drive(contact_sheet(Vanishing(reads), Recipe(), GRID, region=None, step=2.0))


def test_tiles_are_no_larger_than_anyone_will_see_them(rng):
    image = rng.integers(0, 4000, (1500, 900)).astype(np.uint16)
    tiles = drive(contact_sheet(image, PLAIN, {"tone.gamma": [1.0, 2.0]}, region=None, step=1.0))
    assert len(tiles) == 2
    assert tiles[0].image.shape == (512, 307)


def test_the_engine_is_told_to_stop_with_the_sheet(reviewed):
    stopped = []

    def slow(target, /, **_):
        try:
            while True:
                yield Progress(0.0)
        finally:
            stopped.append(target)

    reviewed.execute = slow
    job = scored_sheet(reviewed, 1, reviewed.pixels(1), PLAIN, GRID, region=None, step=1.0)
    for progress in job:
        if progress.message.startswith("finding cells in tile 1 of 6: "):
            break
    job.close()
    assert len(stopped) == 1
