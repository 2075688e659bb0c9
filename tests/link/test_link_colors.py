import numpy as np
import pandas as pd
import pytest

from cell_curator.core.colors import NOISE_COLOR, VERDICT_COLORS, cluster_color, condition_colors, word_color
from cell_curator.link.colors import by_name, by_value, color_cells, scale_colors, value_limits


def test_cluster_and_verdict_colours_are_those_of_the_core():
    frame = pd.DataFrame({"cluster": [2, -1], "verdict": ["accepted", "rejected"]})
    np.testing.assert_allclose(color_cells(frame, "cluster")[0, :3], cluster_color(2), atol=1e-6)
    np.testing.assert_allclose(color_cells(frame, "cluster")[1, :3], NOISE_COLOR, atol=1e-6)
    np.testing.assert_allclose(color_cells(frame, "verdict")[1, :3], VERDICT_COLORS["rejected"], atol=1e-6)


def test_words_have_the_same_colour_whichever_cells_are_asked_for():
    colors = condition_colors(["a", "b", "c"])
    assert (by_name(["c"], colors)[0] == by_name(["a", "b", "c"], colors)[2]).all()
    np.testing.assert_allclose(by_name(["x"], colors)[0, :3], NOISE_COLOR, atol=1e-6)
    assert by_name([]).shape == (0, 4)
    assert (by_name([10, 2])[0] == by_name(["a", "b"])[1]).all()  # image 2 before image 10


def test_doses_run_from_dark_to_bright_and_words_do_not():
    frame = pd.DataFrame({"condition": ["10 nM", "DMSO", "100 nM", "1 nM"]})
    brightness = color_cells(frame, "condition")[[1, 3, 0, 2], :3].sum(axis=1)
    assert (np.diff(brightness) > 0.2).all()
    words = condition_colors(["wild type", "mutant"])
    assert list(words.values()) == [word_color(0), word_color(1)]


def test_values_run_from_dark_to_bright_and_unknown_is_grey():
    colors = by_value([0.0, 0.5, 1.0, np.nan], (0.0, 1.0))
    brightness = colors[:3, :3].sum(axis=1)
    assert (np.diff(brightness) > 0).all()
    np.testing.assert_allclose(colors[3, :3], NOISE_COLOR, atol=1e-6)


def test_constant_and_unknown_values_have_colours_too():
    assert np.isfinite(by_value([3.0, 3.0])).all()
    assert by_value([np.nan]).shape == (1, 4)
    assert value_limits([np.nan]) == (0.0, 1.0)


def test_the_scale_for_a_legend_has_as_many_colours_as_asked_for():
    colors = scale_colors(5)
    assert len(set(colors)) == 5
    assert all(len(color) == 7 for color in colors)


@pytest.mark.parametrize("by", ["cluster", "verdict", "condition", "area"])
def test_every_colouring_gives_one_rgba_per_cell(by):
    frame = pd.DataFrame({"cluster": [0], "verdict": ["edited"], "condition": ["x"], "area": [4.0]})
    assert color_cells(frame, by).shape == (1, 4)


def test_no_cells_have_no_colours():
    frame = pd.DataFrame({"cluster": [], "verdict": [], "condition": [], "area": []})
    for by in frame:
        assert color_cells(frame, by).shape == (0, 4)
