"""Gestures on the cells, by the events that napari sends; no Qt, no screen."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from napari.utils.interactions import mouse_move_callbacks, mouse_press_callbacks, mouse_release_callbacks

from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.editing import TOOLS
from cell_curator.link.geometry import to_world
from cell_curator.link.tools import MODES, ON_CELLS, PICK, ToolBox


@pytest.fixture
def tools(session, viewer, link):
    tools = ToolBox(session, viewer, link)
    tools.heard = []
    tools.said.connect(tools.heard.append)
    yield tools
    tools.unbind()


def drag(viewer, *points, modifiers=(), inspect=None):
    """Press, move through these world positions, release; as napari passes mouse events on."""
    event = SimpleNamespace(
        type="mouse_press", button=1, is_dragging=True, pos=_pixel(points[0]), position=points[0], modifiers=modifiers
    )
    wrapper = _Wrapper(event)
    mouse_press_callbacks(viewer, wrapper)
    for position in points[1:]:
        moved = {"type": "mouse_move", "position": position, "pos": _pixel(position)}
        event = SimpleNamespace(**{**vars(event), **moved})
        mouse_move_callbacks(viewer, event)
    if inspect is not None:
        inspect()
    mouse_release_callbacks(viewer, SimpleNamespace(**{**vars(event), "type": "mouse_release"}))


def _pixel(position):
    return 5.0 * position[0], 5.0 * position[1]


class _Wrapper:
    """Like napari's read-only wrapper: the event within is exchanged as the mouse moves."""

    def __init__(self, event):
        self.__wrapped__ = event

    def __getattr__(self, name):
        return getattr(self.__wrapped__, name)


def labels(session):
    return session.labels(session.current_image)


def test_every_mode_has_a_title_a_key_of_its_own_and_a_tooltip(tools):
    assert tools.modes == MODES
    assert len({mode.key for mode in MODES}) == len({mode.name for mode in MODES}) == len(MODES)
    assert all(mode.title and mode.tooltip for mode in MODES)
    assert set(ON_CELLS) <= set(TOOLS)
    with pytest.raises(ValueError, match="no mode"):
        tools.mode = "knit"


def test_a_line_across_splits_at_once_and_undo_takes_it_back(tools, viewer, session):
    before = labels(session)
    heard = []
    tools.mode_changed.connect(heard.append)
    tools.mode = "split"
    drag(viewer, (2.0, 48.0), (16.0, 48.0), (30.0, 47.0))
    assert heard == ["split"]
    assert tools.heard == ["split: 1 cell became 2"]
    assert set(np.unique(labels(session))) == {0, 1, 2, 3, 4, 5}
    np.testing.assert_array_equal(tools.link.labels.layer.data, labels(session))
    assert session.selection.ids == {session.cell_at(session.current_image, label) for label in (2, 5)}
    assert tools.undo()
    np.testing.assert_array_equal(labels(session), before)
    np.testing.assert_array_equal(tools.link.labels.layer.data, before)
    assert tools.redo()
    assert not tools.redo()
    assert tools.heard[1:] == ["undo: split", "redo: split", "there is nothing to redo"]


def test_a_gesture_that_does_nothing_says_why(tools, viewer, session):
    before = labels(session)
    tools.mode = "split"
    drag(viewer, (1.0, 1.0), (1.0, 70.0))
    assert tools.heard == ["the line meets no cell; draw it across the cell that is to be split"]
    np.testing.assert_array_equal(labels(session), before)


def test_the_drawing_shows_while_the_button_is_down_and_the_view_stays(tools, viewer):
    tools.mode = "delete inside"
    active = viewer.layers.selection.active

    def shown():
        layer = viewer.layers["drawing"]
        assert layer.visible
        assert len(layer.data) == 1
        np.testing.assert_allclose(layer.data[0][0], layer.data[0][-1])
        assert not viewer.scene.camera.mouse_pan

    drag(viewer, (0.0, 0.0), (0.0, 30.0), (30.0, 30.0), (30.0, 0.0), inspect=shown)
    assert not viewer.layers["drawing"].visible
    assert viewer.scene.camera.mouse_pan
    assert viewer.layers.selection.active is active
    assert tools.heard == ["delete inside: 1 cell"]


def test_a_loop_that_ends_where_it_began_is_no_click(tools, viewer, session):
    tools.mode = "delete inside"
    drag(viewer, (4.0, 4.0), (4.0, 28.0), (28.0, 28.0), (28.0, 4.0), (4.0, 4.0))
    assert tools.heard == ["delete inside: 1 cell"]
    assert 1 not in labels(session)


def test_seeds_by_one_drag_or_by_clicks_and_enter(tools, viewer, session):
    tools.mode = "seeds"
    drag(viewer, (16.0, 44.0), (16.0, 53.0))
    assert tools.heard == ["split by seeds: 1 cell became 2"]
    tools.undo()
    for seed in ((16.0, 44.0), (16.0, 48.0), (16.0, 53.0)):
        drag(viewer, seed)
    assert tools.heard[-1] == "3 seeds; Enter splits, Esc forgets"
    assert len(viewer.layers["drawing"].data) == 3
    assert tools.finish()
    assert len(np.unique(labels(session))) == 7
    drag(viewer, (46.0, 30.0))
    tools.cancel()
    assert not tools.finish()


def test_merge_delete_and_redraw(tools, viewer, session):
    tools.options["merge"] = {"bridge_px": 30.0}
    tools.mode = "merge"
    drag(viewer, (16.0, 16.0), (16.0, 48.0))
    assert set(np.unique(labels(session))) == {0, 2, 3, 4}
    tools.mode = "delete"
    drag(viewer, (46.0, 30.0))
    assert set(np.unique(labels(session))) == {0, 2, 4}
    tools.mode = "redraw"
    drag(viewer, (36.0, 54.0), (36.0, 70.0), (52.0, 70.0), (52.0, 54.0))
    assert labels(session)[37, 55] == 4
    drag(viewer, (40.0, 4.0), (40.0, 14.0), (50.0, 14.0), (50.0, 4.0))
    assert labels(session)[45, 9] == 5
    for _ in range(4):
        tools.undo()
    assert set(np.unique(labels(session))) == {0, 1, 2, 3, 4}


def test_redrawing_prefers_the_selected_cell(tools, viewer, session):
    session.selection.set({session.cell_at(session.current_image, 1)})
    tools.mode = "redraw"
    drag(viewer, (10.0, 15.0), (10.0, 60.0), (22.0, 60.0), (22.0, 15.0))
    assert labels(session)[12, 30] == 1
    assert labels(session)[16, 48] == 2


@pytest.mark.parametrize("mode", ["select box", "select inside"])
@pytest.mark.parametrize("angle", [0, 30])
def test_selecting_several_on_a_turned_image_too(tools, viewer, session, mode, angle):
    session.put(Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=angle)))
    session.show_image(session.images[1].image_id)
    affine = tools.link.image.affine
    around = to_world(affine, np.array([(16.0, 16.0), (16.0, 48.0)]))
    low, high = around.min(axis=0) - 12, around.max(axis=0) + 12
    tools.mode = mode
    corners = [tuple(low), (low[0], high[1]), tuple(high), (high[0], low[1])]
    drag(viewer, *(corners if mode == "select inside" else (corners[0], corners[2])))
    cells = {session.cell_at(session.current_image, label) for label in (1, 2)}
    assert session.selection.ids == cells
    other = to_world(affine, np.array([(46.0, 30.0)]))[0]
    square = [tuple(other + offset) for offset in ((-9, -9), (-9, 9), (9, 9), (9, -9))]
    drag(viewer, *(square if mode == "select inside" else square[::2]), modifiers=("Shift",))
    assert session.selection.ids == cells | {session.cell_at(session.current_image, 3)}


def test_tools_on_the_selected_cells(tools, session):
    image_id = session.current_image
    assert not tools.apply("grow")
    assert not tools.apply("accept")
    assert "select" in tools.heard[0]
    assert "select" in tools.heard[1]
    cells = {session.cell_at(image_id, label) for label in (1, 2)}
    session.selection.set(cells)
    assert tools.apply("grow", px=2)
    assert tools.apply("lock")
    assert not tools.apply("delete")
    assert tools.heard[2:] == ["grow: 2 cells", "lock: 2 cells", "these cells are locked; unlock them first"]
    assert tools.apply("unlock")
    assert tools.apply("delete")
    assert not cells & set(session.cells.frame.index)


def test_the_links_clicks_rest_while_drawing_and_come_back(tools, viewer, session):
    tools.mode = "delete"
    drag(viewer, (16.0, 48.0))
    assert session.selection.ids == frozenset()
    tools.mode = PICK
    drag(viewer, (46.0, 30.0))
    assert session.selection.ids == {session.cell_at(session.current_image, 3)}
    assert viewer.mouse_drag_callbacks.count(tools.link._on_press) == 1


def test_taking_naparis_brush_ends_a_tool_and_painting_is_handed_over_first(tools, viewer, session):
    tools.mode = "delete"
    layer = tools.link.labels.layer
    layer.data[60, 70] = 9  # painted, and not yet handed over
    drag(viewer, (16.0, 48.0))
    assert session.cell_at(session.current_image, 9) is not None
    layer.mode = "paint"
    drag(viewer, (46.0, 30.0))
    assert tools.mode == PICK
    assert session.cell_at(session.current_image, 3) is not None


def test_naparis_undo_of_paint_and_undo_of_tools_do_not_hurt_each_other(tools, session):
    layer, image_id = tools.link.labels.layer, session.current_image
    start = labels(session)
    layer.brush_size, layer.selected_label = 4, 2
    layer.paint((16, 58), 2)  # widens cell 2
    painted = labels(session)
    session.selection.set({session.cell_at(image_id, 2)})
    tools.apply("shrink", px=2)
    layer.undo()  # the stroke, part of which the tool took away again
    tools.undo()
    layer.redo()
    layer.undo()
    tools.redo()
    tools.undo()
    np.testing.assert_array_equal(layer.data, labels(session))
    rows = session.cells.of_image(image_id)
    now = labels(session)
    assert sorted(rows["label"]) == np.unique(now[now > 0]).tolist()
    outside = (painted == start) & (start != 2)
    np.testing.assert_array_equal(now[outside], start[outside])


def test_an_unbound_box_leaves_nothing_behind(session, viewer, link):
    before = set(viewer.mouse_drag_callbacks)
    tools = ToolBox(session, viewer, link)
    tools.mode = "split"
    drag(viewer, (2.0, 48.0), (30.0, 47.0))
    tools.unbind()
    assert "drawing" not in viewer.layers
    assert set(viewer.mouse_drag_callbacks) == before
