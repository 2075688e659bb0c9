"""Neighbours by contact."""

import numpy as np
import pytest

from cell_curator.core.contact import beside, longest_contact

ROW = (20, 20, 40, 40)


@pytest.fixture
def field():
    """Cell 1 with a long contact to 2, a short one to 3, and 4 two pixels away."""
    labels = np.zeros((60, 80), np.int32)
    labels[20:40, 20:40] = 1
    labels[22:38, 40:50] = 2
    labels[40:46, 20:24] = 3
    labels[20:40, 8:18] = 4
    return labels


def test_the_neighbour_with_the_longest_contact_is_found(field):
    assert longest_contact(field, 1, ROW) == 2
    field[field == 2] = 0
    assert longest_contact(field, 1, ROW) == 3


def test_one_across_a_gap_is_taken_where_none_touches(field):
    field[(field == 2) | (field == 3)] = 0
    assert longest_contact(field, 1, ROW) == 4
    assert longest_contact(field, 1, ROW, near_px=1) is None


def test_a_cell_alone_or_at_the_corner_has_no_neighbour():
    labels = np.zeros((20, 20), np.int32)
    labels[:5, :5] = 7
    assert longest_contact(labels, 7, (0, 0, 5, 5)) is None


def test_cells_near_a_change_are_named_and_no_others(field):
    changed = np.zeros((4, 6), bool)
    changed[1:3, 1] = True
    assert beside(field, (28, 54, 32, 60), changed, 6) == {2}
    assert beside(field, (28, 54, 32, 60), changed, 5) == frozenset()
    assert beside(field, (28, 54, 32, 60), changed, 60) == {1, 2, 3, 4}
    assert beside(field, (0, 0, 2, 2), np.ones((2, 2), bool), 3) == frozenset()
