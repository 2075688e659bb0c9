"""Patches turned to each cell's own axis, and black surroundings."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import ndimage

from cell_curator.core.patches import PatchParameters, cut, own_turn


def drop(angle_deg, side=96):
    """A drop: a disc with a tail; the tail points up, then is turned counter-clockwise."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    turn = np.deg2rad(angle_deg)
    # where each pixel was before the turn (rows go down)
    up_y, up_x = np.cos(turn) * y + np.sin(turn) * x, np.cos(turn) * x - np.sin(turn) * y
    disc = np.hypot(up_y - 12, up_x) < 11
    tail = (np.abs(up_x) < (up_y + 28) / 8) & (up_y > -28) & (up_y < 12)
    return (disc | tail).astype(np.int32)


@pytest.mark.parametrize("angle", [0, 30, 77, 135, 200, 311])
def test_a_turned_cell_gives_the_patch_of_the_upright_one(angle):
    params = PatchParameters(method="mask", size=64, turn="own")
    expected = cut(np.ones((96, 96), np.float32), drop(0), [1], params).masks[0]
    got = cut(np.ones((96, 96), np.float32), drop(angle), [1], params).masks[0]
    wider = ndimage.binary_dilation(expected, iterations=2)
    assert np.count_nonzero(got & wider) > 0.97 * np.count_nonzero(got)
    assert got.sum() == pytest.approx(expected.sum(), rel=0.05)
    heavy = ndimage.center_of_mass(got)[0]
    rows = np.flatnonzero(got.any(axis=1))
    assert heavy > (rows[0] + rows[-1]) / 2  # the heavier end is below


def test_the_turn_of_the_image_does_not_count_where_cells_have_their_own():
    params = PatchParameters(method="mask", size=64, turn="own")
    one, other = (cut(np.ones((96, 96), np.float32), drop(50), [1], params, angle).images for angle in (0.0, 33.0))
    np.testing.assert_array_equal(one, other)


def test_an_upright_cell_is_not_turned():
    assert own_turn(drop(0) > 0) == pytest.approx(0, abs=1)
    assert own_turn(drop(90) > 0) == pytest.approx(-90, abs=1)
    assert own_turn(np.ones((1, 1), bool)) == 0


def test_black_surroundings_are_for_resized_cells_too():
    image, labels = np.ones((96, 96), np.float32), drop(0)
    bright = cut(image, labels, [1], PatchParameters(method="resize", size=32))
    black = cut(image, labels, [1], PatchParameters(method="resize", size=32, masked=True))
    assert bright.images[0].sum() > 1.2 * black.images[0].sum()
    np.testing.assert_allclose(black.images[0][ndimage.binary_erosion(black.masks[0])], 1, atol=1e-5)
