"""Outlines: traced and filled again they are the mask, whatever the mask."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from skimage.draw import polygon2mask

from cell_curator.io.formats.outlines import Canvas, fill, numbered, signed_area, trace
from hard_labels import HARD, many


def repainted(labels):
    canvas = Canvas.of(labels.shape)
    for label, polygons in trace(labels):
        canvas.put(label, polygons)
    assert canvas.notes() == ()
    return canvas.labels


@pytest.mark.parametrize("case", HARD)
def test_outlines_filled_again_are_the_mask(case):
    np.testing.assert_array_equal(repainted(HARD[case]), HARD[case])


@settings(max_examples=150, deadline=None)
@given(hnp.arrays(np.int32, hnp.array_shapes(min_dims=2, max_dims=2, max_side=9), elements=st.integers(0, 3)))
def test_any_labels_come_back_and_rings_are_simple(labels):
    np.testing.assert_array_equal(repainted(labels), labels)
    for label, polygons in trace(labels):
        assert sum(signed_area(ring) for polygon in polygons for ring in polygon) == (labels == label).sum()
        for outer, *holes in polygons:
            assert signed_area(outer) > 0
            assert all(signed_area(hole) < 0 for hole in holes)
        for ring in (ring for polygon in polygons for ring in polygon):
            assert len(np.unique(ring, axis=0)) == len(ring)


def test_vertices_lie_on_the_corners_of_pixels():
    ((label, ((ring,),)),) = trace(HARD["one pixel"])
    assert label == 1
    assert ring.tolist() == [[3, 3], [4, 3], [4, 4], [3, 4]]


@pytest.mark.slow
def test_sixty_six_thousand_cells():
    labels = many()
    np.testing.assert_array_equal(repainted(labels), labels)


def test_a_slanted_outline_is_filled_as_scikit_image_does(rng):
    for _ in range(20):
        ring = rng.uniform(0, 40, (7, 2)) + 0.001
        box, mask = fill([ring], (40, 40))
        ours = np.zeros((40, 40), bool)
        ours[box] = mask
        theirs = polygon2mask((40, 40), ring[:, ::-1] - 0.5)  # scikit-image counts from the centres of pixels
        assert (ours != theirs).sum() <= 2  # it also takes centres on the line


def test_what_lies_off_the_image_is_cut():
    box, mask = fill([np.array([[-5.0, -5], [3, -5], [3, 2], [-5, 2]])], (4, 6))
    assert box == (slice(0, 2), slice(0, 3))
    assert mask.all()
    box, mask = fill([np.array([[50.0, 50], [60, 50], [60, 60]])], (4, 6))
    assert mask.size == 0


def test_huge_coordinates_stay_exact():
    ring = np.array([[2**24 - 3, 7], [2**24 - 1, 7], [2**24 - 1, 9], [2**24 - 3, 9]], float)
    box, mask = fill([ring], (16, 2**24))
    assert box == (slice(7, 9), slice(2**24 - 3, 2**24 - 1))
    assert mask.all()


def test_overlaps_go_to_the_first_and_are_counted():
    canvas = Canvas.of((6, 6))
    square = np.array([[0.0, 0], [4, 0], [4, 4], [0, 4]])
    canvas.put(1, [[square]])
    canvas.put(2, [[square + 2]])
    canvas.put(3, [[square * 0.01]])
    assert (canvas.labels == 1).sum() == 16
    assert (canvas.labels == 2).sum() == 12
    assert canvas.notes() == (
        "1 outlines overlap others; shared pixels went to the first of them",
        "1 outlines cover no pixel and were left out",
    )


def test_numbers_are_kept_only_if_all_have_one_of_their_own():
    assert numbered([5, 2, 9]) == [5, 2, 9]
    assert numbered([5, 5, 9]) == [1, 2, 3]
    assert numbered([5, None]) == [1, 2]
    assert numbered([0, 7]) == [1, 2]
