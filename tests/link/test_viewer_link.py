"""Session and viewer follow each other; no Qt, no screen."""

from __future__ import annotations

import gc
import weakref
from types import SimpleNamespace

import numpy as np
import pytest

from cell_curator.core.colors import cluster_color
from cell_curator.core.jobs import UserError
from cell_curator.core.recipe import Recipe, Rotate
from cell_curator.link.colors import SELECTED
from cell_curator.link.geometry import to_world
from cell_curator.link.viewer_link import ViewerLink


class Pause:
    """A pause that is over when the test says so."""

    def __init__(self):
        self.function = None

    def __call__(self, function):
        self.function = function

    def over(self):
        function, self.function = self.function, None
        function()


@pytest.fixture
def pause():
    return Pause()


@pytest.fixture
def link(mapped, viewer, pause):
    link = ViewerLink(mapped, viewer, later=pause)
    yield link
    link.unbind()


def names(viewer):
    return [layer.name for layer in viewer.layers]


def click(link, position, *modifiers):
    event = SimpleNamespace(type="mouse_press", button=1, pos=(5.0, 5.0), position=position, modifiers=modifiers)
    gesture = link._on_press(link.viewer, event)
    if next(gesture, "over") == "over":
        return
    event.type = "mouse_release"
    assert next(gesture, "over") == "over"


def second_image(session):
    return session.images[1].image_id


def cell(session, image_id, label):
    return session.cell_at(image_id, label)


def test_an_image_is_shown_with_its_cells_and_the_map_beside_it(link, viewer, mapped):
    assert names(viewer) == [mapped.images[0].channel_names[0], "prepared", "cells", "map"]
    assert viewer.layers.selection.active is link.labels.layer
    assert len(link.points.layer.data) == len(mapped.cells)
    assert link.points.layer.data[:, 1].min() > link.image.box[3]
    ids, known = list(link.points.layer.features["cell_id"]), mapped.embedding.cell_id.tolist()
    assert ids != known  # drawn in that order, the last condition would lie above all others
    assert sorted(ids) == sorted(known)


def test_points_carry_the_colour_of_their_cluster(link, mapped):
    for row, cell_id in enumerate(link.points.cell_ids):
        expected = cluster_color(int(mapped.row(int(cell_id))["cluster"]))
        np.testing.assert_allclose(link.points.layer.face_color[row, :3], expected, atol=1e-3)


def test_a_click_on_a_point_goes_to_the_cell_in_its_image(link, viewer, mapped):
    goal = cell(mapped, second_image(mapped), 3)
    click(link, link.points.position(goal))
    assert mapped.current_image == second_image(mapped)
    assert link.labels.image_id == second_image(mapped)
    assert link.labels.layer.selected_label == 3
    assert mapped.selection.ids == {goal}
    row = mapped.row(goal)
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], (row["y"], row["x"]), atol=1e-6)


def test_back_returns_to_the_view_from_before_the_click(link, viewer, mapped):
    before = viewer.scene.camera.center
    click(link, link.points.position(cell(mapped, mapped.current_image, 1)))
    click(link, link.points.position(cell(mapped, mapped.current_image, 2)))
    assert viewer.scene.camera.center != before
    link.back()
    assert viewer.scene.camera.center == pytest.approx(before)


def test_a_click_on_a_cell_selects_it_highlights_its_point_and_leaves_the_camera(link, viewer, mapped):
    before = viewer.scene.camera.center
    click(link, (16.0, 48.0))
    goal = cell(mapped, mapped.current_image, 2)
    assert mapped.selection.ids == {goal}
    assert viewer.scene.camera.center == before
    row = list(link.points.cell_ids).index(goal)
    assert link.points.layer.size[row] > 2 * np.median(link.points.layer.size)
    assert set(link.points.layer.selected_data) == {row}
    ring = viewer.layers["selected"]
    np.testing.assert_allclose(ring.data[0], mapped.row(goal)[["y", "x"]].to_numpy(float))


def test_highlighting_leaves_the_colours_of_the_points_alone(link, mapped):
    before = link.points.layer.face_color.copy()
    for label in (1, 2, 3):
        mapped.selection.set({cell(mapped, mapped.current_image, label)})
    np.testing.assert_array_equal(link.points.layer.face_color, before)
    ringed = np.all(np.isclose(link.points.layer.border_color[:, :3], _rgb(SELECTED), atol=1e-3), axis=1)
    assert ringed.sum() == 1


def _rgb(color):
    return [int(color[i : i + 2], 16) / 255 for i in (1, 3, 5)]


def test_choosing_a_label_selects_the_cell(link, mapped):
    link.labels.layer.selected_label = 2
    assert mapped.selection.ids == {cell(mapped, mapped.current_image, 2)}


def test_a_label_that_is_no_cell_yet_leaves_the_selection(link, mapped):
    link.labels.layer.selected_label = 2
    link.labels.layer.selected_label = 99
    assert mapped.selection.ids == {cell(mapped, mapped.current_image, 2)}


def test_a_click_beside_all_cells_selects_nothing_and_shift_adds(link, mapped):
    click(link, (16.0, 48.0))
    click(link, (46.0, 30.0), "Shift")
    assert len(mapped.selection.ids) == 2
    click(link, (2.0, 2.0))
    assert mapped.selection.ids == frozenset()


def test_a_click_while_painting_is_paint(link, mapped):
    link.labels.layer.mode = "paint"
    click(link, (16.0, 48.0))
    assert mapped.selection.ids == frozenset()


def test_dragging_is_no_click(link, mapped):
    event = SimpleNamespace(type="mouse_press", button=1, pos=(5.0, 5.0), position=(16.0, 48.0), modifiers=())
    gesture = link._on_press(link.viewer, event)
    next(gesture)
    event.type, event.pos = "mouse_move", (50.0, 50.0)
    next(gesture)
    event.type = "mouse_release"
    assert next(gesture, "over") == "over"
    assert mapped.selection.ids == frozenset()


def test_hovering_tells_once_which_cell_is_under_the_mouse(link, mapped):
    heard = []
    link.hovered.connect(heard.append)
    for position in ((16.0, 48.0), (16.0, 49.0), (2.0, 2.0)):
        link._on_move(link.viewer, SimpleNamespace(position=position, is_dragging=False))
    assert heard == [cell(mapped, mapped.current_image, 2), None]


def test_painting_reaches_the_session_after_a_pause_and_undo_takes_it_back(link, mapped, pause):
    image_id, goal = mapped.current_image, cell(mapped, mapped.current_image, 1)
    revision = int(mapped.row(goal)["revision"])
    layer = link.labels.layer
    layer.brush_size = 4
    layer.selected_label = 1
    layer.paint((24, 24), 1)
    pause.over()
    assert mapped.labels(image_id)[24, 24] == 1
    assert int(mapped.row(goal)["revision"]) == revision + 1
    assert mapped.row(goal)["verdict"] == "edited"
    layer.undo()
    pause.over()
    assert mapped.labels(image_id)[24, 24] == 0
    layer.redo()
    pause.over()
    assert mapped.labels(image_id)[24, 24] == 1


def test_a_stroke_is_handed_over_once_when_the_button_goes_up(link, mapped, pause):
    pause.function = None
    event = SimpleNamespace(type="mouse_press")
    stroke = link.labels._follow_stroke(link.labels.layer, event)
    next(stroke)
    link.labels.layer.paint((40, 60), 7)
    assert pause.function is None
    event.type = "mouse_release"
    assert next(stroke, "over") == "over"
    pause.over()
    assert cell(mapped, mapped.current_image, 7) is not None


def test_labels_changed_elsewhere_appear_and_are_not_in_the_undo_history(link, mapped, discs):
    image_id = mapped.current_image
    mapped.set_labels(image_id, discs((64, 80), [(30, 30, 9)]))
    np.testing.assert_array_equal(link.labels.layer.data, mapped.labels(image_id))
    link.labels.layer.undo()
    np.testing.assert_array_equal(link.labels.layer.data, mapped.labels(image_id))


def test_switching_images_saves_the_paint_and_starts_a_new_history(link, mapped, viewer):
    first = mapped.current_image
    old = link.labels.layer
    link.labels.layer.data[60, 70] = 9  # as a plug-in would, without any event
    mapped.show_image(second_image(mapped))
    assert mapped.labels(first)[60, 70] == 9
    assert link.labels.layer is not old
    assert names(viewer).count("cells") == 1
    link.labels.layer.undo()
    np.testing.assert_array_equal(link.labels.layer.data, mapped.labels(second_image(mapped)))


def test_switching_keeps_how_cells_are_drawn(link, mapped):
    link.labels.layer.opacity, link.labels.layer.contour = 0.9, 2
    mapped.show_image(second_image(mapped))
    assert (link.labels.layer.opacity, link.labels.layer.contour) == (0.9, 2)


def test_an_answer_that_comes_too_late_is_dropped(mapped, viewer):
    waiting = []
    link = ViewerLink(mapped, viewer, background=lambda compute, deliver: waiting.append((compute, deliver)))
    mapped.show_image(second_image(mapped))
    (first, deliver_first), (second, deliver_second) = waiting
    deliver_second(second())
    deliver_first(first())
    assert link.labels.image_id == second_image(mapped)
    link.unbind()


def test_grooves_stand_vertical_by_a_transform_that_all_layers_share(link, mapped, viewer):
    mapped.put(Recipe(rotate=Rotate(enabled=True, method="fixed", angle_deg=20)))
    mapped.show_image(second_image(mapped))
    for layer in (*link.image.layers, link.labels.layer):
        np.testing.assert_allclose(layer.affine.affine_matrix[-3:, -3:], link.image.affine)
    assert link.image.angle_deg == 20
    goal = cell(mapped, second_image(mapped), 1)
    link.go_to(goal)
    row = mapped.row(goal)
    expected = to_world(link.image.affine, np.array([[row["y"], row["x"]]], float))[0]
    np.testing.assert_allclose(viewer.scene.camera.center[-2:], expected, atol=1e-6)
    mapped.selection.clear()
    click(link, tuple(expected))
    assert mapped.selection.ids == {goal}


def test_a_preview_turns_everything_and_leaves_the_stored_recipe(link, mapped):
    prepared = np.full((64, 80), 0.5, np.float32)
    link.turn(mapped.current_image, 30.0)
    link.show_prepared(mapped.current_image, prepared)
    np.testing.assert_array_equal(link.image.prepared_layer.data, prepared)
    np.testing.assert_allclose(link.image.prepared_layer.affine.affine_matrix[-3:, -3:], link.image.affine)
    np.testing.assert_allclose(link.labels.layer.affine.affine_matrix[-3:, -3:], link.image.affine)
    assert not mapped.get(Recipe).rotate.enabled


def test_colours_can_mean_something_else_in_map_and_image(link, mapped):
    before = link.points.layer.face_color.copy()
    link.color_points("condition")
    assert not np.array_equal(link.points.layer.face_color, before)
    link.color_cells("cluster")
    label = int(mapped.row(cell(mapped, mapped.current_image, 2))["label"])
    expected = cluster_color(int(mapped.row(cell(mapped, mapped.current_image, 2))["cluster"]))
    np.testing.assert_allclose(link.labels.layer.get_color(label)[:3], expected, atol=1e-2)
    link.color_cells("cell")
    assert link.labels.layer.get_color(label) is not None
    assert mapped.selection.ids == frozenset()


def test_a_rejected_cell_fades_from_the_map(link, mapped):
    goal = cell(mapped, mapped.current_image, 1)
    mapped.set_verdict({goal}, "rejected")
    row = list(link.points.cell_ids).index(goal)
    assert link.points.layer.face_color[row, 3] < 0.3
    mapped.undo()
    assert link.points.layer.face_color[row, 3] == 1


def test_an_image_that_cannot_be_read_is_said_and_nothing_breaks(link, mapped, monkeypatch):
    heard = []
    link.failed.connect(heard.append)
    with monkeypatch.context() as patch:
        patch.setattr(mapped, "pixels", _gone)
        mapped.show_image(second_image(mapped))
    assert heard == ["treated.tif: the image is no longer there; move it back"]
    mapped.show_image(mapped.images[0].image_id)
    assert link.labels.image_id == mapped.images[0].image_id


def _gone(_image_id):
    raise UserError("treated.tif: the image is no longer there; move it back")


def test_layers_that_the_user_deleted_come_back_with_the_next_image(link, mapped, viewer):
    viewer.layers.clear()
    mapped.show_image(second_image(mapped))
    assert {"prepared", "cells", "map"} <= set(names(viewer))


def test_unbinding_leaves_an_empty_viewer_and_no_callbacks(mapped, viewer):
    link = ViewerLink(mapped, viewer)
    link.unbind()
    assert len(viewer.layers) == 0
    assert link._on_press not in viewer.mouse_drag_callbacks
    mapped.show_image(second_image(mapped))
    assert len(viewer.layers) == 0


def test_an_unbound_link_is_not_kept_alive(mapped, viewer):
    link = ViewerLink(mapped, viewer)
    gone = weakref.ref(link)
    link.unbind()
    del link
    gc.collect()
    assert gone() is None
