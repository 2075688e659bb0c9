"""What the network saw lies exactly on the image."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from cell_curator.engines.region import place
from cell_curator.engines.segmenter import Segmentation
from cell_curator.link.geometry import turn_affine
from cell_curator.link.insight import FLOW, PROBABILITY, flow_colors, hide_insight, show_insight

SHAPE = (60, 90)


def found(seen, where=None, labels=SHAPE):
    """A segmentation whose network saw ``seen`` pixels."""
    return Segmentation(
        np.zeros(labels, np.int32),
        20.0,
        False,
        np.zeros(1, np.float32),
        np.zeros((2, *seen), np.float16),
        np.zeros(seen, np.float16),
        place=where,
    )


def outer_corners(layer):
    """Where the outermost edges of a layer's pixels lie in the world; a pixel reaches half a pixel round its middle."""
    height, width = layer.data.shape[:2]
    edges = np.array([(-0.5, -0.5), (-0.5, width - 0.5), (height - 0.5, -0.5), (height - 0.5, width - 0.5)])
    return np.array([layer.data_to_world(edge) for edge in edges])


@pytest.mark.parametrize("angle", [0.0, 33.0])
@pytest.mark.parametrize("seen", [SHAPE, (30, 45), (37, 55), (120, 180)])
def test_corner_lies_on_corner(angle, seen):
    viewer, affine = ViewerModel(), turn_affine(SHAPE, angle)
    image = viewer.add_image(np.zeros(SHAPE), affine=affine)
    show_insight(viewer, found(seen), affine, 1)
    for name in (PROBABILITY, FLOW):
        np.testing.assert_allclose(outer_corners(viewer.layers[name]), outer_corners(image), atol=1e-9)


@pytest.mark.parametrize("seen", [(50, 60), (21, 33)])
def test_of_a_region_it_lies_on_what_was_looked_at(seen):
    viewer, affine, whole = ViewerModel(), turn_affine((500, 700), 12.0), (500, 700)
    where = place((200.0, 300.0, 260.0, 420.0), whole)
    rows, columns = where.window
    part = np.zeros((rows.stop - rows.start, columns.stop - columns.start))
    image = viewer.add_image(part, affine=affine @ np.array([(1, 0, rows.start), (0, 1, columns.start), (0, 0, 1)]))
    show_insight(viewer, found(seen, where, whole), affine, 1)
    np.testing.assert_allclose(outer_corners(viewer.layers[PROBABILITY]), outer_corners(image), atol=1e-9)


def test_layers_come_once_below_the_cells_and_go():
    viewer = ViewerModel()
    viewer.add_image(np.zeros(SHAPE))
    cells = viewer.add_labels(np.zeros(SHAPE, int), name="cells")
    for _ in range(2):
        show_insight(viewer, found((30, 45)), np.eye(3), 1)
        assert [layer.name for layer in viewer.layers][1:] == [FLOW, PROBABILITY, "cells"]
        assert viewer.layers.selection.active is cells
    hide_insight(viewer)
    hide_insight(viewer)
    assert len(viewer.layers) == 2


def test_probability_is_between_nothing_and_one():
    seen = found((30, 45))
    seen.cell_probability[:15] = 8
    seen.cell_probability[15:] = -8
    viewer = ViewerModel()
    show_insight(viewer, seen, np.eye(3), 0)
    data = viewer.layers[PROBABILITY].data
    assert data[:15].min() > 0.999
    assert data[15:].max() < 0.001


def test_where_nothing_was_looked_at_nothing_is_shown():
    viewer = ViewerModel()
    show_insight(viewer, found((0, 0)), np.eye(3), 0)
    assert len(viewer.layers) == 0


def test_hue_is_direction_and_brightness_is_length():
    flow = np.zeros((2, 3, 2), np.float32)
    flow[1, 0], flow[0, 1] = 1.0, 1.0  # first row to the right, second row down, third row nowhere
    colors = flow_colors(flow)
    assert colors.shape == (3, 2, 3)
    assert tuple(colors[0, 0]) == (255, 0, 0)
    assert tuple(colors[1, 0]) != tuple(colors[0, 0])
    assert colors[1, 0].max() == 255
    assert not colors[2].any()
    assert not flow_colors(np.zeros((2, 4, 4), np.float16)).any()
