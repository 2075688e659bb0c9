"""Marked regions as shapes: what is drawn, moved or deleted in the layer reaches the session, and back."""

from __future__ import annotations

import numpy as np
import pytest
from napari.components import ViewerModel

from cell_curator import marking
from cell_curator.core.regions import HOLDOUT, REVIEWED, area
from cell_curator.link.geometry import to_world
from cell_curator.link.regions import REGION_COLORS, REGIONS
from cell_curator.link.viewer_link import ViewerLink
from small_project import SHAPE

BOX = np.array([(10, 12), (10, 50), (40, 50), (40, 12)], float)
TRIANGLE = np.array([(5, 5), (5, 30), (30, 5)], float)


@pytest.fixture
def waiting():
    """What was put off until the mouse rests."""
    return []


@pytest.fixture
def link(session, waiting):
    link = ViewerLink(session, ViewerModel(), later=waiting.append)
    yield link
    link.unbind()


@pytest.fixture
def rest(waiting):
    """The mouse rests: what was put off is done."""

    def rest():
        while waiting:
            waiting.pop()()

    return rest


def drawn(link):
    """(kind, corners) of every shape in the layer."""
    layer = link.regions.layer
    return list(zip(layer.features["kind"], layer.data, strict=True)) if layer is not None else []


def agree(link, session):
    """Whether layer and session hold the same regions."""
    regions = session.regions(link.labels.image_id)
    shapes = drawn(link)
    return len(regions) == len(shapes) and all(
        region.kind == kind and (not region.corners or np.allclose(region.corners, corners))
        for region, (kind, corners) in zip(regions, shapes, strict=True)
    )


def draw(link, corners, kind=REVIEWED, shape_type="rectangle"):
    link.regions.draw(kind)
    link.regions.layer.add([corners], shape_type=shape_type)


def test_there_is_no_layer_where_nothing_is_marked(link):
    assert REGIONS not in link.viewer.layers


def test_what_is_drawn_is_marked_with_the_kind_in_hand(link, session, rest):
    draw(link, BOX)
    draw(link, TRIANGLE, HOLDOUT, "polygon")
    rest()
    first, second = session.regions(1)
    assert (first.kind, second.kind) == (REVIEWED, HOLDOUT)
    np.testing.assert_allclose(first.corners, BOX)
    np.testing.assert_allclose(second.corners, TRIANGLE)
    assert agree(link, session)


def test_undo_and_redo_are_followed_in_the_image(link, session, rest):
    draw(link, BOX)
    rest()
    session.undo()
    assert drawn(link) == []
    session.redo()
    assert agree(link, session)
    assert len(drawn(link)) == 1


def test_a_shape_that_is_deleted_is_unmarked_and_the_others_stay(link, session, rest):
    for shift in (0, 5, 10):
        draw(link, BOX + shift)
        rest()
    layer = link.regions.layer
    layer.selected_data = {1}
    layer.remove_selected()
    rest()
    assert [region.corners[0] for region in session.regions(1)] == [(10, 12), (20, 22)]
    assert agree(link, session)


def test_a_shape_that_is_moved_is_marked_where_it_is_now(link, session, rest):
    draw(link, BOX, HOLDOUT)
    rest()
    layer = link.regions.layer
    layer.data = [BOX + 6]
    rest()
    (region,) = session.regions(1)
    assert region.kind == HOLDOUT
    np.testing.assert_allclose(region.corners, BOX + 6)
    session.undo()  # one step
    (region,) = session.regions(1)
    np.testing.assert_allclose(region.corners, BOX)


def test_a_copy_is_a_region_of_its_own(link, session, rest):
    draw(link, BOX)
    rest()
    layer = link.regions.layer
    layer.selected_data = {0}
    layer._copy_data()
    layer._paste_data()
    link.flush()  # napari does not tell of what is pasted
    assert len(session.regions(1)) == 2


def test_a_click_and_a_line_mark_nothing(link, session, rest):
    draw(link, np.array([(10, 10), (10, 11), (11, 11), (11, 10)], float))
    draw(link, np.array([(10, 10), (40, 40)], float), shape_type="line")
    rest()
    assert session.regions() == ()
    assert drawn(link) == []


def test_an_ellipse_is_marked_as_round_as_it_is(link, session, rest):
    draw(link, BOX, shape_type="ellipse")
    rest()
    pixels = area(session.regions(1), SHAPE).sum()
    assert pixels == pytest.approx(np.pi * 15 * 19, rel=0.03)


def test_a_region_beside_the_image_is_refused_and_taken_away(link, session, rest):
    from cell_curator.core.jobs import UserError

    draw(link, BOX + 500)
    with pytest.raises(UserError, match="covers no pixel"):
        rest()
    assert drawn(link) == []


def test_the_whole_image_has_a_frame(link, session):
    marking.mark(session, 1, REVIEWED)
    ((kind, corners),) = drawn(link)
    assert kind == REVIEWED
    assert corners.min() == -0.5
    np.testing.assert_allclose(corners.max(axis=0), np.array(SHAPE) - 0.5)
    link.flush()
    assert session.regions(1)[0].corners == ()  # looking at it does not make it a polygon


def test_every_image_shows_its_own_regions(link, session):
    marking.mark(session, 2, HOLDOUT)
    assert drawn(link) == []
    session.show_image(2)
    assert [kind for kind, _ in drawn(link)] == [HOLDOUT]
    session.show_image(1)
    assert drawn(link) == []
    assert len(session.regions(2)) == 1


def test_what_is_drawn_last_belongs_to_the_image_it_was_drawn_on(link, session):
    draw(link, BOX)
    session.show_image(2)
    assert [region.image_id for region in session.regions()] == [1]
    assert drawn(link) == []


def test_regions_stand_on_the_turned_image(link, session, rest):
    marking.mark(session, 1, REVIEWED, BOX)
    link.turn(1, 30.0)
    layer = link.regions.layer
    shown = np.array([layer.data_to_world(corner) for corner in layer.data[0]])
    np.testing.assert_allclose(shown, to_world(link.image.affine, BOX))
    draw(link, TRIANGLE, shape_type="polygon")
    rest()
    np.testing.assert_allclose(session.regions(1)[1].corners, TRIANGLE)


def test_kinds_differ_in_colour_and_word(link, session):
    marking.mark(session, 1, REVIEWED, BOX)
    marking.mark(session, 1, HOLDOUT, TRIANGLE)
    layer = link.regions.layer
    assert list(layer.text.values) == ["reviewed", "locked away"]
    assert not np.allclose(layer.edge_color[0], layer.edge_color[1])
    assert len(set(REGION_COLORS.values())) == 2


def test_an_image_that_is_reviewed_and_locked_away_says_both(link, session):
    marking.mark(session, 1, REVIEWED)
    marking.mark(session, 1, HOLDOUT)
    assert list(link.regions.layer.text.values) == ["", "reviewed, locked away"]


def test_frames_are_as_thin_on_the_screen_at_any_zoom(link, session):
    marking.mark(session, 1, REVIEWED, BOX)
    camera = link.viewer.scene.camera
    for zoom in (0.5, 4.0):
        camera.zoom = zoom
        assert link.regions.layer.edge_width[0] * zoom == pytest.approx(2.5)


def test_a_layer_that_the_user_deletes_unmarks_nothing_and_comes_back(link, session):
    marking.mark(session, 1, REVIEWED, BOX)
    link.viewer.layers.remove(link.regions.layer)
    link.flush()
    assert len(session.regions(1)) == 1
    marking.mark(session, 1, HOLDOUT, TRIANGLE)
    assert agree(link, session)


def test_the_brush_stays_in_hand_when_regions_appear(link, session):
    active = link.viewer.layers.selection.active
    marking.mark(session, 1, REVIEWED, BOX)
    assert link.viewer.layers.selection.active is active


def test_drawing_ends_with_the_cells_in_hand_again(link):
    link.regions.draw(REVIEWED)
    assert link.regions.drawing
    link.regions.put_down()
    assert not link.regions.drawing
    assert link.viewer.layers.selection.active is link.labels.layer
