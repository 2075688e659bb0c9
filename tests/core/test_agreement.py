import numpy as np
import pytest

from cell_curator.core.agreement import differences


def _boxes(*boxes):
    labels = np.zeros((60, 80), np.int32)
    for number, (top, left, bottom, right) in enumerate(boxes, 1):
        labels[top:bottom, left:right] = number
    return labels


def test_equal_images_do_not_differ_whatever_their_numbers():
    labels = _boxes((0, 0, 10, 10), (20, 20, 40, 40))
    assert differences(labels, np.where(labels, 10 - labels, 0)) == ()


def test_every_kind_of_difference_is_found_once():
    first = _boxes((0, 0, 10, 21), (0, 40, 10, 47), (0, 47, 10, 54), (0, 54, 10, 61), (20, 0, 40, 20), (50, 0, 55, 5))
    second = _boxes((0, 0, 10, 7), (0, 7, 10, 14), (0, 14, 10, 21), (0, 40, 10, 61), (20, 0, 29, 20), (50, 70, 56, 76))
    found = {(one.kind, one.size, one.count) for one in differences(first, second)}
    assert found == {
        ("split", 210, 3),
        ("merged", 210, 3),
        ("shape", 400, 1),
        ("only first", 25, 1),
        ("only second", 36, 1),
    }
    assert [one.size for one in differences(first, second)] == [400, 210, 210, 36, 25]


def test_swapping_the_images_swaps_the_words():
    first, second = _boxes((0, 0, 10, 21)), _boxes((0, 0, 10, 7), (0, 7, 10, 14), (0, 14, 10, 21))
    assert [one.kind for one in differences(second, first)] == ["merged"]
    (one,) = differences(first, second)
    assert (one.kind, one.y, one.x) == ("split", 4.5, 10.0)


def test_images_of_other_shapes_are_refused():
    with pytest.raises(ValueError, match="differ in shape"):
        differences(np.zeros((3, 4), int), np.zeros((4, 3), int))
