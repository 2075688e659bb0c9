"""The layer “prepared”: written over in place, hidden left of a line, and never at the cost of the picture given."""

from __future__ import annotations

import numpy as np
import pytest

from cell_curator.link import prepared as module
from cell_curator.link.geometry import to_world, turn_affine
from cell_curator.link.prepared import PREPARED, PreparedLayer

UPRIGHT = np.eye(3)


@pytest.fixture
def prepared(viewer):
    return PreparedLayer(viewer)


def pictures(rng, shape=(40, 60), count=3):
    """Pictures that must not change: writing to one of them is an error."""
    made = [rng.random(shape, np.float32) for _ in range(count)]
    for picture in made:
        picture.flags.writeable = False
    return made


def test_the_next_picture_of_the_same_size_is_written_into_the_same_array(prepared, rng):
    first, second, _ = pictures(rng)
    prepared.show(first, UPRIGHT, index=0)
    held = prepared.layer.data
    prepared.show(second, UPRIGHT, index=0)
    assert prepared.layer.data is held
    np.testing.assert_array_equal(held, second)
    assert prepared.picture is second


def test_pictures_that_were_given_are_never_written_to(prepared, rng):
    first, second, third = pictures(rng)
    copies = [picture.copy() for picture in (first, second, third)]
    prepared.show(first, UPRIGHT, index=0)
    prepared.swipe = 20.0
    prepared.show(second, UPRIGHT, index=0)
    prepared.swipe = 35.0
    prepared.show(third, turn_affine((40, 60), 20), index=0)
    prepared.swipe = None
    np.testing.assert_array_equal(prepared.layer.data, third)
    for picture, copy in zip((first, second, third), copies, strict=True):
        np.testing.assert_array_equal(picture, copy)


@pytest.mark.parametrize("swiped_first", [False, True])
def test_a_large_picture_is_shown_as_it_is_and_not_written_to_either(prepared, rng, monkeypatch, swiped_first):
    monkeypatch.setattr(module, "_COPIED_PX", 100)
    first, second, third = pictures(rng)
    if swiped_first:
        prepared.swipe = 10.0
    prepared.show(first, UPRIGHT, index=0)
    assert (prepared.layer.data is first) != swiped_first
    prepared.show(second, UPRIGHT, index=0)
    prepared.swipe = 12.0
    assert np.isnan(prepared.layer.data).any()
    prepared.show(third, UPRIGHT, index=0)
    prepared.swipe = None
    prepared.show(third, UPRIGHT, index=0)
    np.testing.assert_array_equal(prepared.layer.data, third)
    assert all(np.isfinite(picture).all() for picture in (first, second, third))


def test_a_picture_of_another_size_takes_the_layer_over(prepared, viewer, rng):
    prepared.show(pictures(rng)[0], UPRIGHT, index=0)
    layer = prepared.layer
    prepared.show(pictures(rng, (10, 20))[0], UPRIGHT, scale=(4.0, 3.0), translate=(1.5, 1.0), index=0)
    assert prepared.layer is layer
    assert layer.data.shape == (10, 20)
    np.testing.assert_allclose(layer.data_to_world((0, 0)), (1.5, 1.0))
    np.testing.assert_allclose(layer.data_to_world((1, 1)), (5.5, 4.0))


@pytest.mark.parametrize("angle", [0.0, 15.0, -90.0, 180.0])
@pytest.mark.parametrize("scale", [(1.0, 1.0), (2.0, 3.0), (0.5, 0.5)])
@pytest.mark.parametrize("mirrored", [False, True])
def test_exactly_the_pixels_left_of_the_line_are_hidden(prepared, rng, angle, scale, mirrored):
    shape = (40, 60)
    affine = turn_affine(shape, angle) @ np.diag([1.0, -1.0 if mirrored else 1.0, 1.0])
    picture = pictures(rng, shape)[0]
    prepared.show(picture, affine, scale=scale, translate=(3.25, 4.5), index=0)
    pixels = np.indices(shape).reshape(2, -1).T * scale + (3.25, 4.5)
    x = to_world(affine, pixels)[:, 1].reshape(shape)
    for line in (x.min() - 1, np.median(x) + 0.013, x.max() + 1):
        prepared.swipe = float(line)
        np.testing.assert_array_equal(np.isnan(prepared.layer.data), x < line)
        np.testing.assert_array_equal(prepared.layer.data[x >= line], picture[x >= line])


def test_the_line_stays_where_it_is_while_the_image_turns_under_it(prepared, rng):
    shape = (40, 60)
    picture = pictures(rng, shape)[0]
    prepared.show(picture, UPRIGHT, index=0)
    prepared.swipe = 30.0
    after = turn_affine(shape, 25)
    prepared.turn(UPRIGHT, after)
    x = to_world(after, np.indices(shape).reshape(2, -1).T.astype(float))[:, 1].reshape(shape)
    np.testing.assert_array_equal(np.isnan(prepared.layer.data), x < 30.0)


def test_turning_keeps_a_part_at_its_place_in_the_image(prepared, rng):
    before, after = turn_affine((100, 100), 10), turn_affine((100, 100), -35)
    picture = pictures(rng)[0]
    prepared.show(picture, before, scale=(1.5, 1.5), translate=(20.0, 30.0), index=0)
    prepared.turn(before, after)
    expected = to_world(after, np.array([[20.0 + 1.5 * 7, 30.0 + 1.5 * 9]]))[0]
    np.testing.assert_allclose(prepared.layer.data_to_world((7, 9)), expected)


def test_a_new_layer_takes_neither_the_choice_nor_the_place_of_others(prepared, viewer, rng):
    viewer.add_image(np.zeros((5, 5)), name="raw")
    viewer.add_labels(np.zeros((5, 5), int), name="cells")
    prepared.show(pictures(rng)[0], UPRIGHT, index=1)
    assert [layer.name for layer in viewer.layers] == ["raw", PREPARED, "cells"]
    assert viewer.layers.selection.active is viewer.layers["cells"]
    assert list(viewer.layers.selection) == [viewer.layers["cells"]]


def test_a_layer_that_the_user_deleted_is_made_again(prepared, viewer, rng):
    first, second, _ = pictures(rng)
    prepared.show(first, UPRIGHT, index=0)
    viewer.layers.remove(PREPARED)
    assert prepared.layer is None
    prepared.swipe = 10.0  # nothing to hide, and no error
    prepared.turn(UPRIGHT, turn_affine((40, 60), 5))
    prepared.show(second, UPRIGHT, index=5)
    np.testing.assert_array_equal(np.isnan(prepared.layer.data[0]), np.arange(60) < 10)


def test_data_that_someone_else_put_into_the_layer_is_left_alone(prepared, rng):
    first, second, _ = pictures(rng)
    prepared.show(first, UPRIGHT, index=0)
    foreign = np.full((40, 60), 0.5, np.float32)
    prepared.layer.data = foreign
    prepared.show(second, UPRIGHT, index=0)
    assert (foreign == 0.5).all()
    np.testing.assert_array_equal(prepared.layer.data, second)


def test_removing_takes_the_layer_and_forgets_the_picture(prepared, viewer, rng):
    prepared.show(pictures(rng)[0], UPRIGHT, index=0)
    prepared.remove()
    assert PREPARED not in viewer.layers
    assert prepared.picture is None
    prepared.remove()
