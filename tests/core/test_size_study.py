import numpy as np
import pandas as pd
import pytest
from skimage.draw import ellipse

from cell_curator.core.cells import CellTable
from cell_curator.core.jobs import UserError
from cell_curator.core.measure import measure
from cell_curator.core.patches import PatchParameters, cut
from cell_curator.core.size_study import QUANTITIES, box_sizes, cut_off, study_sizes


def _frame(heights, widths, conditions=None, images=None):
    heights, widths = np.asarray(heights), np.asarray(widths)
    n = len(heights)
    return pd.DataFrame(
        {
            "image": images if images is not None else [1] * n,
            "condition": conditions if conditions is not None else [""] * n,
            "top": 0, "left": 0, "bottom": heights, "right": widths, "area": heights * widths * 0.8,
            "major_axis": np.maximum(heights, widths), "minor_axis": np.minimum(heights, widths),
            "orientation_deg": np.where(heights > widths, 90.0, 0.0),
        }
    )  # fmt: skip


def test_the_patch_that_is_proposed_holds_as_many_cells_as_it_says():
    rng = np.random.default_rng(0)
    frame = _frame(rng.normal(40, 5, 1000).round(), rng.normal(25, 3, 1000).round())
    got = study_sizes(frame)
    whole = (frame[["bottom", "right"]].max(axis=1) + 4 <= got.size).mean()
    assert whole >= 0.99
    assert (frame[["bottom", "right"]].max(axis=1) + 4 <= got.size - 4).mean() < 0.99
    assert (got.method, got.size % 4) == ("mask", 0)
    assert f"of cells fit {got.size}×{got.size} px" in got.why
    assert got.fits[0.95] <= got.fits[0.99] <= got.fits[1.0]


def test_what_would_be_cut_is_what_cutting_cuts(discs):
    labels = discs((120, 120), [(20, 20, 8), (20, 80, 14), (80, 60, 25)])
    table = measure(labels, np.ones(labels.shape)).assign(image=1, condition="a")
    table["label"] = table.index
    frame = CellTable(table).frame
    params = PatchParameters(size=32)
    clipped = cut(labels > 0, labels, [1, 2, 3], params).clipped
    assert clipped.tolist() == [False, False, True]
    assert cut_off(box_sizes(frame), "mask", 32) == "1 cell of 3 (33 %) would be cut off"
    assert cut_off(box_sizes(frame), "mask", 64) == ""
    assert "shrunk" in cut_off(box_sizes(frame), "resize", 32)


def test_a_condition_that_would_lose_more_is_named():
    heights = np.r_[np.full(200, 20), np.full(180, 20), np.full(20, 60)]
    frame = _frame(heights, np.full(400, 15), ["control"] * 200 + ["drug"] * 200)
    assert "most of them in drug (10 % of its cells)" in cut_off(box_sizes(frame), "mask", 40)


def test_cells_of_very_different_sizes_are_to_be_scaled():
    got = study_sizes(_frame(np.r_[np.full(900, 16), np.full(100, 160)], np.full(1000, 12)))
    assert got.method == "resize"
    assert got.size < 40
    assert "specks" in got.why
    assert "shrunk" in got.cut
    assert study_sizes(_frame([900, 900], [700, 700])).method == "resize"


def test_the_turn_of_the_image_is_reckoned_with(discs):
    labels = np.zeros((100, 100), np.int32)
    labels[ellipse(50, 50, 8, 30, rotation=np.deg2rad(30))] = 1
    table = measure(labels, np.ones(labels.shape)).assign(image=7, condition="a")
    table["label"] = table.index
    frame = CellTable(table).frame
    for angle in (0.0, -30.0, 60.0):
        patch = cut(labels > 0, labels, [1], PatchParameters(size=96, margin=0), angle)
        rows, columns = np.nonzero(patch.masks[0])
        sizes = box_sizes(frame, {7: angle}).iloc[0]
        assert sizes["height"] == pytest.approx(np.ptp(rows) + 1, abs=3)
        assert sizes["width"] == pytest.approx(np.ptp(columns) + 1, abs=3)


def test_histograms_count_every_cell_and_curves_integrate_to_one():
    rng = np.random.default_rng(0)
    frame = _frame(rng.integers(10, 40, 300), rng.integers(10, 30, 300), ["a"] * 100 + ["b"] * 200)
    made = study_sizes(frame).histograms
    assert [(h.condition, h.quantity) for h in made] == [(c, q) for q in QUANTITIES for c in "ab"]
    for h in made:
        assert h.counts.sum() == {"a": 100, "b": 200}[h.condition]
        assert h.density.sum() * (h.grid[1] - h.grid[0]) == pytest.approx(1)
        assert list(h.box) == sorted(h.box)
    np.testing.assert_array_equal(made[0].edges, made[1].edges)


def test_no_cells_and_one_cell():
    with pytest.raises(UserError, match="no cells"):
        study_sizes(_frame([], []))
    assert study_sizes(_frame([20], [10])).size == 24


def test_cells_that_were_not_measured_are_passed_over():
    frame = _frame([20.0, 30.0, 25.0, 40.0], [10.0, 10.0, 12.0, 12.0])
    frame.loc[1, ["area", "major_axis"]] = np.nan
    assert study_sizes(frame).sizes.index.tolist() == [0, 2, 3]
    assert study_sizes(frame, PatchParameters(turn="own")).fits[1.0] == study_sizes(frame.drop(1)).fits[1.0]
    with pytest.raises(UserError, match="no cell has a measured size"):
        study_sizes(frame.assign(area=np.nan))
