"""Object tools: what they change, what they never change, and what they say when they cannot."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from cell_curator.core.edits import (
    LabelEdit,
    delete,
    labels_in_box,
    labels_in_polygon,
    labels_under,
    merge,
    polyline,
    redraw,
    separate_pieces,
)
from cell_curator.core.edits_shape import fill_holes, grow, shrink, smooth
from cell_curator.core.edits_split import split_by_line, split_by_seeds
from cell_curator.core.jobs import UserError
from cell_curator.core.pixel_runs import PixelRuns

SHAPE = (60, 80)


@pytest.fixture
def cells(discs):
    """Four round cells, the first two three pixels apart."""
    return discs(SHAPE, [(15, 15, 8), (15, 34, 8), (45, 20, 9), (42, 60, 10)])


@pytest.fixture
def dumbbell(discs):
    """One cell of two overlapping discs."""
    return np.minimum(discs(SHAPE, [(30, 30, 10), (30, 46, 9)]), 1)


def sizes(labels):
    values, counts = np.unique(labels[labels > 0], return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


# ---------------------------------------------------------------------- what holds for every tool


def _tools(labels, rng):
    """Every tool with a drawing by chance, as (name, call)."""
    values = rng.permutation(np.unique(labels)[1:])[:3].tolist()
    line = rng.uniform(-5, 85, (4, 2))
    seeds = np.argwhere(labels == values[0])[rng.integers(0, np.count_nonzero(labels == values[0]), 3)]
    px = float(rng.integers(1, 4))
    return [
        ("split by line", lambda **k: split_by_line(labels, line, **k)),
        ("split by seeds", lambda **k: split_by_seeds(labels, seeds, **k)),
        ("merge", lambda **k: merge(labels, values, **k)),
        ("delete", lambda **k: delete(labels, values, **k)),
        ("redraw", lambda **k: redraw(labels, values[0], line, **k)),
        ("draw", lambda **k: redraw(labels, None, line, **k)),
        ("pieces", lambda **k: separate_pieces(labels, **k)),
        ("fill holes", lambda **k: fill_holes(labels, values, **k)),
        ("smooth", lambda **k: smooth(labels, values, **k)),
        ("grow", lambda **k: grow(labels, values, px=px, **k)),
        ("shrink", lambda **k: shrink(labels, values, px=px, **k)),
    ]


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**31))
def test_every_tool_is_local_reversible_and_respects_locks(seed):
    rng = np.random.default_rng(seed)
    labels = ndimage.label(ndimage.gaussian_filter(rng.normal(size=SHAPE), 2) > 0.02)[0].astype(np.int32)
    labels[rng.random(SHAPE) < 0.02] = 0
    locked = set(rng.permutation(np.unique(labels)[1:])[:2].tolist())
    was = labels.copy()
    for name, tool in _tools(labels, rng):
        try:
            edit = tool(locked=locked)
        except UserError:
            continue
        after = edit.applied(labels)
        assert np.array_equal(labels, was), name
        assert np.array_equal(edit.inverse.applied(after), labels), name
        assert not edit.touched & locked, name
        for value in locked:
            assert np.array_equal(after == value, labels == value), name
        outside = np.ones(SHAPE, bool)
        outside[edit.where] = False
        assert np.array_equal(after[outside], labels[outside])
        edges = edit.before != edit.after
        assert all(side.any() for side in (edges[0], edges[-1], edges[:, 0], edges[:, -1])), name
        assert set(edit.origin) == set(np.unique(after)) - set(np.unique(labels)) or name == "draw"
        packed = PixelRuns.from_json(PixelRuns.of(edit).to_json())
        assert np.array_equal(packed.applied(labels), after), name


def test_many_random_outlines_pack_small_and_come_back(rng):
    before = np.zeros((2048, 2048), np.int32)
    after = before.copy()
    after[100:1900, 100:1900] = rng.integers(1, 9, (1800, 20)).repeat(90, axis=1)
    packed = PixelRuns.of(LabelEdit((0, 0, 2048, 2048), before, after))
    assert np.array_equal(packed.applied(before), after)
    assert len(packed.data) < 200_000


# ---------------------------------------------------------------------- splitting


def test_a_line_across_splits_and_no_pixel_is_lost(dumbbell):
    edit = split_by_line(dumbbell, [(10, 39), (50, 38)])
    after = edit.applied(dumbbell)
    assert np.array_equal(after > 0, dumbbell > 0)
    assert edit.origin == {2: 1}
    assert sizes(after)[1] > sizes(after)[2] > 150
    assert ndimage.label(after == 1)[1] == ndimage.label(after == 2)[1] == 1


def test_a_line_that_goes_in_part_way_is_drawn_on_to_the_border(dumbbell):
    edit = split_by_line(dumbbell, [(24, 38.5), (33, 38.5)])
    assert len(edit.origin) == 1
    after = edit.applied(dumbbell)
    assert after[30, 30] == 1
    assert after[30, 46] == 2


def test_a_crossing_line_spares_the_cells_in_which_it_starts_and_ends(cells):
    line = [(15, 15), (15, 34), (42, 60)]
    edit = split_by_line(cells, line)
    assert set(edit.origin.values()) == {2}


def test_a_bent_line_makes_three_pieces(discs):
    labels = discs(SHAPE, [(30, 40, 20)])
    edit = split_by_line(labels, [(0, 34), (59, 34), (59, 47), (0, 47)])
    assert set(edit.origin) == {2, 3}
    assert set(np.unique(edit.applied(labels))) == {0, 1, 2, 3}


def test_a_diagonal_line_separates_a_cell_to_the_last_corner(discs):
    labels = discs(SHAPE, [(30, 40, 20)])
    after = split_by_line(labels, [(5, 15), (55, 65)]).applied(labels)
    assert sizes(after).keys() == {1, 2}
    assert ndimage.label(after == 2, np.ones((3, 3)))[1] == 1


def test_a_line_that_cuts_nothing_says_so(cells):
    with pytest.raises(UserError, match="meets no cell"):
        split_by_line(cells, [(58, 0), (58, 79)])
    with pytest.raises(UserError, match="cuts no cell in two"):
        split_by_line(cells, [(7, 5), (7, 30)])  # along the edge
    with pytest.raises(UserError, match="a click does not split"):
        split_by_line(cells, [(15, 15)])
    with pytest.raises(UserError, match="locked; unlock it first"):
        split_by_line(cells, [(0, 15), (30, 15)], locked={1})


@pytest.mark.parametrize("by", ["shape", "image"])
def test_seeds_split_at_the_waist(dumbbell, by):
    yy, xx = np.indices(SHAPE)
    image = (np.hypot(yy - 30, xx - 30) < 9) + 1.0 * (np.hypot(yy - 30, xx - 46) < 7)
    edit = split_by_seeds(dumbbell, [(30, 28), (30, 47)], image=image.astype(np.float32), by=by)
    after = edit.applied(dumbbell)
    assert np.array_equal(after > 0, dumbbell > 0)
    assert after[30, 30] == 1
    assert after[30, 47] == 2
    column = np.flatnonzero(after[30] == 2)[0]
    assert 36 <= column <= 41


def test_seeds_that_split_nothing_are_said(cells):
    edit = split_by_seeds(cells, [(42, 56), (42, 66), (15, 15), (0, 79)])
    assert set(edit.origin.values()) == {4}
    assert edit.note == "2 seeds split nothing"
    with pytest.raises(UserError, match="two seeds"):
        split_by_seeds(cells, [(15, 15), (15, 34)])


# ---------------------------------------------------------------------- merging, deleting, drawing


def test_merging_bridges_a_small_gap(cells):
    edit = merge(cells, [1, 2], bridge_px=4)
    after = edit.applied(cells)
    assert ndimage.label(after == 1)[1] == 1
    assert not (after == 2).any()
    assert edit.note == ""
    outside = (cells == 0) & (after == 1)
    assert 0 < outside.sum() < 80


def test_merging_over_a_wide_gap_leaves_pieces_and_says_so(cells):
    edit = merge(cells, [1, 4], bridge_px=4)
    assert edit.note == "left as 2 pieces: they lie more than 4 px apart"
    assert sizes(edit.applied(cells))[4] == sizes(cells)[1] + sizes(cells)[4]


def test_merging_never_covers_a_third_cell(cells):
    cells[13:18, 24:26] = 9
    after = merge(cells, [1, 2], bridge_px=6).applied(cells)
    assert np.array_equal(after == 9, cells == 9)


def test_merging_one_cell_says_what_to_do(cells):
    with pytest.raises(UserError, match="two cells"):
        merge(cells, [1])
    with pytest.raises(UserError, match="1 locked cell left alone"):
        merge(cells, [1, 2], locked={2})


def test_delete_takes_out_these_cells_only(cells):
    after = delete(cells, [2, 4]).applied(cells)
    assert sizes(after) == {k: v for k, v in sizes(cells).items() if k in (1, 3)}
    edit = delete(cells, [2, 4], locked=[4])
    assert edit.touched == {2}
    assert edit.note == "1 locked cell left alone"
    with pytest.raises(UserError, match="no longer in the image"):
        delete(cells, [77])


def test_redrawing_replaces_the_mask_and_spares_neighbours(cells):
    square = [(5, 5), (5, 30), (25, 30), (25, 5)]
    after = redraw(cells, 1, square).applied(cells)
    assert np.array_equal(after == 2, cells == 2)
    assert after[5, 5] == after[25, 20] == 1
    new = redraw(cells, None, square)
    assert new.touched == {5}
    with pytest.raises(UserError, match="three points"):
        redraw(cells, 1, [(1, 1), (2, 2)])
    with pytest.raises(UserError, match="inside the image"):
        redraw(cells, 1, [(-9, -9), (-9, -5), (-5, -5)])
    with pytest.raises(UserError, match="other cells fill"):
        redraw(cells, 1, [(14, 33), (14, 36), (17, 34)])


def test_separate_pieces_gives_all_but_the_largest_a_new_label(cells):
    cells[cells == 3] = 1
    edit = separate_pieces(cells)
    assert edit.origin == {5: 1}
    after = edit.applied(cells)
    assert sizes(after)[1] > sizes(after)[5]
    assert separate_pieces(cells, [1]).origin == {5: 1}
    for values, locked in ((None, [1]), ([2], [])):
        with pytest.raises(UserError, match="one piece"):
            separate_pieces(cells, values, locked=locked)


def test_labels_of_any_size_work(cells):
    labels = np.where(cells > 0, cells + 2_000_000_000, 0).astype(np.int32)
    first = 2_000_000_001
    assert labels_in_box(labels, (0, 0), (30, 28)) == [first]
    assert merge(labels, [first, first + 1]).touched
    assert shrink(labels, [first, first + 1], px=2).touched == {first, first + 1}
    assert split_by_line(labels, [(0, 15), (30, 15)]).origin == {first + 4: first}


# ---------------------------------------------------------------------- shapes


def test_holes_are_filled_but_a_cell_inside_stays(cells):
    cells[40:46, 56:64] = 0
    cells[42, 60] = 9
    after = fill_holes(cells, [4]).applied(cells)
    assert after[41, 58] == 4
    assert after[42, 60] == 9
    with pytest.raises(UserError, match="no holes"):
        fill_holes(cells, [1])


def test_smoothing_takes_off_a_spike_and_keeps_the_area(cells):
    before = sizes(cells)[4]
    cells[42, 70:78] = 4
    after = smooth(cells, [4], radius_px=2).applied(cells)
    assert not (after[42, 74:] == 4).any()
    assert abs(sizes(after)[4] - before) < 0.05 * before


@pytest.mark.parametrize("px", [1, 2, 3, 5])
def test_growing_and_shrinking_follow_the_distance_to_the_outline(cells, px):
    apart = np.where(cells == 4, cells, 0)
    distance = ndimage.distance_transform_edt(apart == 0)
    wide = grow(apart, [4], px=px).applied(apart) == 4
    assert np.mean(wide != (distance <= px)) < 0.005
    inner = ndimage.distance_transform_edt(apart == 4)
    narrow = shrink(apart, [4], px=px).applied(apart) == 4
    assert np.mean(narrow != (inner > px)) < 0.005


def test_growing_stops_at_neighbours_and_shares_gaps(cells):
    edit = grow(cells, [1, 2], px=9)
    after = edit.applied(cells)
    assert edit.note == ""
    assert np.array_equal(after == 3, cells == 3)
    assert after[15, 24] in (1, 2)
    assert abs(int((after[15, 24:26] == 1).sum()) - 1) <= 1
    crowded = np.repeat(np.repeat(np.arange(1, 5, dtype=np.int32).reshape(2, 2), 5, 0), 5, 1)
    with pytest.raises(UserError, match="no room"):
        grow(crowded, [1], px=2)


def test_shrinking_to_nothing_is_said_and_not_done(cells):
    cells[0:3, 70:73] = 8
    edit = shrink(cells, [8, 4], px=2)
    assert edit.note == "1 cell would vanish and stayed as before"
    assert edit.touched == {4}
    with pytest.raises(UserError, match="nothing would be left of this cell"):
        shrink(cells, [8], px=5)


# ---------------------------------------------------------------------- picking


def test_picking_by_stroke_lasso_and_box(cells):
    assert labels_under(cells, [(15, -9), (15, 15), (15, 34), (42, 60)]) == [1, 2, 4]
    assert labels_under(cells, [(58, 2), (58, 70)]) == []
    assert labels_in_box(cells, (30, 0), (0, 45)) == [1, 2]
    assert labels_in_box(cells, (0, 0), (30, 12)) == []  # less than half of the first
    assert labels_in_box(cells, (99, 99), (200, 200)) == []
    assert labels_in_polygon(cells, [(0, 0), (0, 79), (26, 79), (26, 0)]) == [1, 2]
    assert labels_in_polygon(cells, [(100, 100), (100, 120), (120, 120)]) == []


def test_a_drawn_line_has_no_gaps():
    line = polyline([(0, 0), (3.4, 17.8), (-20, 5)])
    assert np.abs(np.diff(line, axis=0)).max() == 1
    with pytest.raises(UserError, match="nothing was drawn"):
        polyline([])


def test_seeds_need_not_hit_the_middles(rng):
    y, x = np.mgrid[:60, :80]
    labels = np.zeros((60, 80), np.int32)
    labels[(y - 30) ** 2 + (x - 25) ** 2 <= 15**2] = 7
    labels[(y - 30) ** 2 + (x - 51) ** 2 <= 15**2] = 7
    for _ in range(20):
        seeds = np.array([(30, 25), (30, 51)]) + rng.integers(-7, 8, (2, 2))
        edit = split_by_seeds(labels, seeds)
        sizes = np.unique(edit.applied(labels), return_counts=True)[1][1:]
        assert len(sizes) == 2
        assert sizes.min() > 0.25 * sizes.sum()
