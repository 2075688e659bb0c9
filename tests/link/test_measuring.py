"""A line across a cell and a region to look in, by the events that napari sends; no Qt, no screen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from cell_curator.link.geometry import to_world
from cell_curator.link.measuring import REGION, Ruler, draw_region, put_region_down, region_layer, region_of
from cell_curator.link.tools import PICK, ToolBox


@pytest.fixture
def ruler(session, viewer, link):
    tools = ToolBox(session, viewer, link)
    ruler = Ruler(viewer, link, tools)
    ruler.heard = []
    ruler.measured.connect(ruler.heard.append)
    yield ruler
    ruler.disarm()
    tools.unbind()


class _Wrapper:
    """Like napari's read-only wrapper: the event within is exchanged as the mouse moves."""

    def __init__(self, event):
        self.__wrapped__ = event

    def __getattr__(self, name):
        return getattr(self.__wrapped__, name)


def drag(viewer, *points, button=1):
    """Press, move through these world positions, release."""
    event = SimpleNamespace(
        type="mouse_press", button=button, is_dragging=True, pos=points[0], position=points[0], modifiers=()
    )
    mouse_press_callbacks(viewer, _Wrapper(event))
    for position in points[1:]:
        event = SimpleNamespace(**{**vars(event), "type": "mouse_move", "position": position, "pos": position})
        mouse_move_callbacks(viewer, event)
    mouse_release_callbacks(viewer, SimpleNamespace(**{**vars(event), "type": "mouse_release"}))


@pytest.mark.parametrize("angle", [0.0, 30.0, -77.5, 180.0])
def test_a_line_is_as_long_as_in_the_pixels_of_the_image(ruler, viewer, link, angle):
    link.turn(link.labels.image_id, angle)
    ends = np.array([(10.0, 12.0), (40.0, 52.0)])  # 30 down, 40 across
    ruler.arm()
    drag(viewer, *(tuple(point) for point in to_world(link.image.affine, np.linspace(*ends, 5))))
    assert ruler.heard == [pytest.approx(50.0)]
    assert not ruler.armed


def test_a_scaled_image_is_measured_in_its_own_pixels(ruler, viewer, link):
    link.image.affine = link.image.affine @ np.diag([0.5, 0.5, 1.0])
    ruler.arm()
    drag(viewer, (5.0, 5.0), (5.0, 10.0), (5.0, 15.0))
    assert ruler.heard == [pytest.approx(20.0)]


def test_only_the_next_drag_measures_and_nothing_is_left_behind(ruler, viewer):
    layers, callbacks = list(viewer.layers), list(viewer.mouse_drag_callbacks)
    viewer.scene.camera.mouse_pan = True
    ruler.arm()
    ruler.arm()
    drag(viewer, (5.0, 5.0), (5.0, 15.0))
    drag(viewer, (5.0, 5.0), (5.0, 25.0))
    assert ruler.heard == [pytest.approx(10.0)]
    assert list(viewer.layers) == layers
    assert list(viewer.mouse_drag_callbacks) == callbacks
    assert viewer.scene.camera.mouse_pan


def test_a_click_or_the_other_button_is_no_line(ruler, viewer):
    ruler.arm()
    drag(viewer, (5.0, 5.0))
    drag(viewer, (5.0, 5.0), (5.0, 25.0), button=2)
    assert ruler.heard == []
    assert ruler.armed
    drag(viewer, (5.0, 5.0), (5.0, 25.0))
    assert ruler.heard == [pytest.approx(20.0)]


def test_disarmed_it_measures_no_more(ruler, viewer):
    ruler.arm()
    ruler.disarm()
    drag(viewer, (5.0, 5.0), (5.0, 25.0))
    assert ruler.heard == []


def test_brush_and_tools_are_put_down_before_a_line_is_drawn(ruler, viewer, link):
    ruler._tools.mode = "split"
    ruler.arm()
    assert ruler._tools.mode == PICK
    ruler.disarm()
    viewer.layers.selection.active = link.labels.layer
    link.labels.layer.mode = "paint"
    ruler.arm()
    assert link.labels.layer.mode == "pan_zoom"


@pytest.mark.parametrize("angle", [0.0, 21.0])
def test_a_region_comes_in_pixels_of_the_image(viewer, link, angle):
    assert region_of(viewer, link) is None
    layer = draw_region(viewer)
    assert layer.mode == "add_rectangle"
    assert region_of(viewer, link) is None
    link.turn(link.labels.image_id, angle)
    corners = np.array([(5.0, 6.0), (5.0, 40.0), (30.0, 40.0), (30.0, 6.0)])
    layer.add_polygons([np.array([(0.0, 0.0), (0.0, 2.0), (2.0, 2.0)])])
    layer.add_polygons([to_world(link.image.affine, corners)])
    np.testing.assert_allclose(region_of(viewer, link), corners, atol=1e-4)
    layer.scale, layer.translate = (2.0, 2.0), (3.0, -1.0)  # the user moved the whole layer
    there = np.array([layer.data_to_world(point) for point in layer.data[-1]])
    np.testing.assert_allclose(to_world(link.image.affine, region_of(viewer, link)), there, atol=1e-4)


def test_the_region_is_drawn_in_one_layer_and_can_be_put_away(viewer, link):
    cells = link.labels.layer
    layer = draw_region(viewer)
    assert draw_region(viewer) is layer
    put_region_down(viewer, cells)
    assert layer.mode == "pan_zoom"
    assert layer.visible
    assert viewer.layers.selection.active is cells
    put_region_down(viewer, cells, hide=True)
    assert not layer.visible
    assert draw_region(viewer).visible
    viewer.layers.remove(layer)
    put_region_down(viewer, cells)
    assert region_layer(viewer) is None


def test_another_layer_of_that_name_is_no_region(viewer, link):
    viewer.add_points(np.zeros((1, 2)), name=REGION)
    assert region_layer(viewer) is None
    assert region_of(viewer, link) is None
