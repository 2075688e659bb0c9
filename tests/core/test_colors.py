"""Colours depend on the number alone, and can be told apart."""

import numpy as np

from cell_curator.core.cells import VERDICTS
from cell_curator.core.colors import (
    NOISE_COLOR,
    VERDICT_COLORS,
    cluster_color,
    cluster_rgba,
    from_hex,
    to_hex,
)


def test_a_cluster_keeps_its_colour_whatever_else_is_shown():
    few, many = cluster_rgba(np.array([3, 3])), cluster_rgba(np.array([0, 1, 2, 3, -1, 30]))
    assert (few[0] == many[3]).all()
    assert many.dtype == np.float32
    assert (many[:, 3] == 1).all()


def test_no_cluster_is_grey():
    assert cluster_color(-1) == NOISE_COLOR
    assert np.ptp(NOISE_COLOR) == 0


def test_thirty_clusters_have_thirty_colours_none_of_them_grey():
    colors = np.array([cluster_color(n) for n in range(30)])
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 10 * np.eye(30)
    assert distances.min() > 0.05
    assert (np.ptp(colors, axis=1) > 0.1).all()
    assert ((colors >= 0) & (colors <= 1)).all()


def test_the_first_twelve_clusters_are_well_apart():
    colors = np.array([cluster_color(n) for n in range(12)])
    distances = np.linalg.norm(colors[:, None] - colors[None], axis=2) + 10 * np.eye(12)
    assert distances.min() > 0.25


def test_every_verdict_has_its_own_colour():
    assert set(VERDICT_COLORS) == set(VERDICTS)
    assert len(set(VERDICT_COLORS.values())) == len(VERDICTS)


def test_hexadecimal_round_trip():
    assert to_hex(from_hex("#d55e00")) == "#d55e00"
