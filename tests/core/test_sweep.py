from dataclasses import replace

import numpy as np
import pytest

from cell_curator.core.jobs import UserError, drive
from cell_curator.core.preview import preview, warm_up
from cell_curator.core.recipe import Recipe
from cell_curator.core.sweep import ranked, sweep, with_value

GRID = {"clip.high_percent": [90.0, 99.0], "tone.gamma": [0.5, 1.0, 2.0]}


@pytest.fixture
def image(rng):
    return rng.gamma(2, 50, (80, 90)).astype(np.float32)


def test_every_combination_becomes_a_tile(image):
    seen = []
    tiles = drive(sweep(image, Recipe(), GRID, region=(0, 0, 60, 60)), seen.append)
    assert [tile.index for tile in tiles] == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert tiles[4].values == {"clip.high_percent": 99.0, "tone.gamma": 1.0}
    assert tiles[4].recipe.tone.enabled
    assert np.array_equal(tiles[4].image, preview(image, tiles[4].recipe, region=(0, 0, 60, 60)).image)
    assert [progress.payload for progress in seen[1:]] == list(tiles)


def test_three_parameters_make_a_cube(image):
    grid = {**GRID, "total_variation.weight": [0.0, 0.1]}
    assert len(drive(sweep(image, Recipe(), grid))) == 12


def test_tiles_are_ranked_by_their_score(image):
    tiles = drive(sweep(image, Recipe(), GRID, score=lambda shown: float(shown.image.mean())))
    best = ranked(tiles)
    assert [tile.score for tile in best] == sorted((tile.score for tile in tiles), reverse=True)
    assert best[0].values["tone.gamma"] == 0.5


def test_tiles_without_a_score_come_last(image):
    scores = iter([0.2, float("nan"), 0.9, 0.2])
    grid = {"clip.high_percent": [90.0, 95.0, 98.0, 99.0]}
    tiles = drive(sweep(image, Recipe(), grid, score=lambda _: next(scores)))
    assert [tile.index[0] for tile in ranked(tiles)] == [2, 0, 3, 1]


@pytest.mark.parametrize(
    ("path", "value"),
    [("clip.nothing", 1), ("nothing.at_all", 1), ("clip", 1), ("version", 2), ("clip.high_percent", 101)],
)
def test_what_does_not_exist_is_said_before_anything_is_computed(image, path, value):
    with pytest.raises(UserError, match=path):
        next(sweep(image, Recipe(), {path: [value]}))


def test_a_value_may_switch_a_step():
    assert not with_value(Recipe(), "clahe.enabled", False).clahe.enabled


def test_an_empty_grid_value_gives_no_tiles(image):
    assert drive(sweep(image, Recipe(), {"tone.gamma": []})) == ()


def test_warming_up_leaves_nothing_to_compile():
    from cell_curator.core import grey_levels, total_variation

    warm_up()
    kernels = [
        getattr(m, name)
        for m in (grey_levels, total_variation)
        for name in vars(m)
        if hasattr(getattr(m, name), "signatures")
    ]
    compiled = [len(kernel.signatures) for kernel in kernels]
    assert sum(compiled) >= 5
    preview(np.random.default_rng(1).integers(0, 99, (2, 300, 400)).astype(np.uint8), Recipe(), step=1.7)
    assert [len(kernel.signatures) for kernel in kernels] == compiled


def test_a_value_brings_the_method_it_belongs_to():
    assert with_value(Recipe(), "tone.gain", 12.0).tone.method == "sigmoid"
    assert with_value(Recipe(), "channel.index", 1).channel.mode == "index"


def test_a_switch_has_the_last_word(image):
    tiles = drive(sweep(image, Recipe(), {"tone.enabled": [False, True], "tone.gamma": [1.0, 2.0]}))
    assert [tile.recipe.tone.enabled for tile in tiles] == [False, False, True, True]
    assert np.array_equal(tiles[0].image, tiles[1].image)
    assert not np.array_equal(tiles[2].image, tiles[3].image)


def test_at_equal_scores_the_smaller_surplus_is_better(image):
    tiles = drive(sweep(image, Recipe(), {"tone.gamma": [0.5, 1.0, 2.0]}, score=lambda _: 0.5))
    tiles = [replace(tile, surplus=surplus) for tile, surplus in zip(tiles, (7, 0, 3), strict=True)]
    assert [tile.surplus for tile in ranked(tiles)] == [0, 3, 7]
