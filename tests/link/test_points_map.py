"""The map: very many dots as a picture, the lasso, previews, moves, and a viewer of its own."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from napari.components import ViewerModel
from skimage.measure import points_in_poly

from cell_curator.core.colors import cluster_color
from cell_curator.io.project import Change
from cell_curator.link.map_lasso import inside
from cell_curator.link.map_moves import MOVES
from cell_curator.link.map_picture import Picture, disc, stamp
from cell_curator.link.points import PointsBinder
from cell_curator.link.viewer_link import ViewerLink


@pytest.fixture
def link(mapped, viewer):
    link = ViewerLink(mapped, viewer)
    yield link
    link.unbind()


def gesture(callback, viewer, path, *modifiers):
    """A drag along world positions."""
    event = SimpleNamespace(type="mouse_press", button=1, pos=(0.0, 0.0), position=path[0], modifiers=modifiers)
    running = callback(viewer, event)
    if next(running, "over") == "over":
        return
    event.type = "mouse_move"
    for step, position in enumerate(path[1:], start=1):
        event.pos, event.position = (10.0 * step, 0.0), position
        next(running)
    event.type = "mouse_release"
    assert next(running, "over") == "over"


def round_of(middle, radius):
    turn = np.linspace(0, 2 * np.pi, 24)
    return [tuple(p) for p in np.asarray(middle) + radius * np.c_[np.sin(turn), np.cos(turn)]]


# which points lie inside


def test_inside_agrees_with_scikit_image_for_a_star(rng):
    turn = np.linspace(0, 4 * np.pi, 6)[:-1]
    star = 50 + 40 * np.c_[np.sin(turn), np.cos(turn)]
    points = rng.uniform(0, 100, (3000, 2))
    np.testing.assert_array_equal(inside(points, star), points_in_poly(points, star))


def test_nothing_lies_inside_a_line(rng):
    assert not inside(rng.uniform(0, 9, (20, 2)), np.array([(0.0, 0.0), (9.0, 9.0)])).any()
    assert inside(np.empty((0, 2)), np.eye(3)[:, :2]).shape == (0,)


# the lasso


def test_points_inside_the_lasso_are_selected_everywhere(link, mapped, viewer):
    goal = int(link.points.cell_ids[3])
    link.lasso.on = True
    gesture(link.lasso._on_press, viewer, round_of(link.points.position(goal), 1.0))
    assert mapped.selection.ids == {goal}
    assert set(link.points.layer.selected_data) == {3}


def test_shift_adds_and_control_takes_away(link, mapped, viewer):
    first, second = (int(c) for c in link.points.cell_ids[[2, 5]])
    link.lasso.on = True
    gesture(link.lasso._on_press, viewer, round_of(link.points.position(first), 1.0))
    gesture(link.lasso._on_press, viewer, round_of(link.points.position(second), 1.0), "Shift")
    assert mapped.selection.ids == {first, second}
    gesture(link.lasso._on_press, viewer, round_of(link.points.position(first), 1.0), "Control")
    assert mapped.selection.ids == {second}


def test_the_lasso_catches_cells_in_the_image_too(link, mapped, viewer):
    link.lasso.on = True
    gesture(link.lasso._on_press, viewer, round_of((16.0, 48.0), 5.0))
    assert mapped.selection.ids == {mapped.cell_at(mapped.current_image, 2)}


def test_the_lasso_rests_until_it_is_switched_on_and_clicks_rest_while_it_is(link, mapped, viewer):
    where = link.points.position(int(link.points.cell_ids[3]))
    gesture(link.lasso._on_press, viewer, round_of(where, 1.0))
    assert mapped.selection.ids == frozenset()
    link.lasso.on = True
    gesture(link._on_press, viewer, [where])
    assert mapped.selection.ids == frozenset()


def test_an_empty_lasso_says_so_and_frees_the_camera(link, mapped, viewer):
    heard = []
    link.lasso.said.connect(heard.append)
    link.lasso.on = True
    gesture(link.lasso._on_press, viewer, round_of((-50.0, -50.0), 2.0))
    assert heard == ["No cell inside the line"]
    assert viewer.scene.camera.mouse_pan
    assert not viewer.layers["lasso"].visible


# very many


def test_a_stamp_covers_what_is_under_it_and_half_of_a_half_shows_through():
    picture = np.zeros((9, 9, 4), np.uint8)
    red, blue = np.uint8([[255, 0, 0, 255]]), np.uint8([[0, 0, 255, 128]])
    stamp(picture, np.float32([[4, 4]]), red, disc(5.0))
    np.testing.assert_array_equal(picture[4, 4], (255, 0, 0, 255))
    stamp(picture, np.float32([[4, 4]]), blue, disc(5.0))
    np.testing.assert_allclose(picture[4, 4], (127, 0, 128, 255), atol=1)
    assert not picture[0].any()
    before = picture.copy()
    stamp(picture, np.float32([[-30, 4], [4, 300]]), np.vstack([red, red]), disc(5.0))
    np.testing.assert_array_equal(picture, before)  # off the edge


@pytest.fixture
def many(mapped, viewer, monkeypatch):
    """The small map, drawn as a large one is."""
    monkeypatch.setattr("cell_curator.link.points.MOST", 4)
    viewer.canvas.size = (400, 600)
    link = ViewerLink(mapped, viewer)
    yield link
    link.unbind()


def pixel(link, cell):
    """Colour that the picture has where a cell's point lies."""
    layer = link.points.layer
    y, x = np.round(layer.world_to_data(link.points.position(cell))).astype(int)
    return layer.data[y, x]


def test_many_points_become_one_picture_with_the_same_colours(many, mapped, viewer):
    assert isinstance(many.points._drawn, Picture)
    assert [layer.name for layer in viewer.layers].count("map") == 1
    for cell in many.points.cell_ids:
        expected = 255 * np.array(cluster_color(int(mapped.row(int(cell))["cluster"])))
        np.testing.assert_allclose(pixel(many, cell)[:3], expected, atol=3)


def test_chosen_points_stand_out_of_the_picture_and_the_rest_fades(many, mapped):
    chosen, other = (int(c) for c in many.points.cell_ids[[1, 6]])
    mapped.selection.set({chosen})
    assert pixel(many, chosen)[3] == 255
    assert pixel(many, other)[3] < 120
    mapped.selection.clear()
    assert pixel(many, other)[3] == 255


def test_a_picture_is_found_by_click_and_made_sharp_after_zooming(many, viewer):
    goal = int(many.points.cell_ids[4])
    assert many.points.at(many.points.position(goal)) == goal
    before = many.points.layer.scale[0]
    viewer.scene.camera.zoom *= 3
    assert many.points.layer.scale[0] == pytest.approx(before / 3, rel=0.01)


# while it forms


def test_a_preview_takes_the_place_of_the_map_until_it_ends(link, mapped):
    stored = link.points.positions.copy()
    some = mapped.embedding.cell_id[:5]
    link.points.preview(some, np.c_[np.arange(5), np.zeros(5)])
    assert set(link.points.cell_ids) == set(some)
    assert len(link.points.layer.data) == 5
    link.points.end_preview()
    np.testing.assert_allclose(link.points.positions, stored)


def test_cells_that_are_gone_are_not_drawn_in_a_preview(link, mapped):
    link.points.preview(np.array([*mapped.embedding.cell_id[:3], 999_999]), np.eye(4)[:, :2])
    assert len(link.points.layer.data) == 3


# where cells went


def stored_elsewhere(session, rows, by=3.0):
    """The stored map with some points moved."""
    before = session.embedding
    map2d = before.map2d.copy()
    map2d[rows] += by
    after = replace(before, map2d=map2d)
    session.commit(Change("map", {}, embedding=after, clustering=dict(before.clustering)))
    return before, after


def test_a_line_leads_from_where_a_cell_was_to_where_it_is(link, mapped, viewer):
    stored_elsewhere(mapped, [2])
    (line,) = viewer.layers[MOVES].data
    cell = int(mapped.embedding.cell_id[2])
    np.testing.assert_allclose(line.sum(axis=0), link.points.position(cell), atol=1e-4)
    assert link.points.moved == {cell}
    link.points.forget_moves()
    assert MOVES not in viewer.layers


def test_another_map_draws_no_lines(link, mapped, viewer):
    stored_elsewhere(mapped, slice(None), by=np.arange(16, dtype=np.float32).reshape(8, 2))
    assert MOVES not in viewer.layers
    assert link.points.moved == frozenset()


# a viewer of its own


def test_the_map_moves_to_its_own_viewer_and_back(link, mapped, viewer):
    own = ViewerModel()
    link.place_map(own)
    assert "map" not in viewer.layers
    goal = next(int(c) for c in link.points.cell_ids if mapped.row(int(c))["image"] != mapped.current_image)
    where = link.points.position(goal)
    gesture(link._on_press, own, [where])
    assert mapped.selection.ids == {goal}
    assert mapped.current_image == mapped.row(goal)["image"]
    assert link.points.at(where, viewer) is None
    link.lasso.on = True
    gesture(link.lasso._on_press, own, round_of(where, 20.0))
    assert goal in mapped.selection.ids
    link.place_map(None)
    assert "map" in viewer.layers
    assert link._on_press not in own.mouse_drag_callbacks
    assert len(own.layers) == 0


def test_without_a_map_there_is_nothing_to_draw(session, viewer):
    binder = PointsBinder(session, viewer, later=lambda function: function())
    binder.show((0.0, 0.0, 10.0, 10.0))
    assert binder.layer is None
    assert binder.at((0.0, 0.0)) is None
    assert binder.position(1) is None
