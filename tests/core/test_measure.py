import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.measure import regionprops_table

from cell_curator.core.measure import MEASURED, measure, measure_part
from cell_curator.core.measure_cells import figures


@pytest.fixture
def scene(rng):
    """Blobs of any shape, some that touch, some cut by the border, with noise; and labels far apart."""
    field = ndimage.gaussian_filter(rng.normal(size=(160, 200)), 5)
    labels = ndimage.label(field > 0.02)[0].astype(np.int32)
    cut = (labels > 0) & (np.indices(labels.shape)[1] > 100) & (labels % 2 == 0)
    labels[cut] += 1000
    image = (500 + 1500 * ndimage.gaussian_filter((labels > 0) * 1.0, 1.5) + rng.normal(0, 30, labels.shape)).astype(
        np.uint16
    )
    return labels, image


def test_shapes_are_those_of_scikit_image(scene):
    labels, image = scene
    ours = measure(labels, image)
    names = ("label", "area", "perimeter", "axis_major_length", "axis_minor_length", "eccentricity", "solidity")
    theirs = regionprops_table(labels, properties=(*names, "centroid", "bbox"))
    assert ours.index.tolist() == theirs["label"].tolist()
    for mine, name in {
        "area": "area", "perimeter": "perimeter", "major_axis": "axis_major_length", "minor_axis": "axis_minor_length",
        "eccentricity": "eccentricity", "solidity": "solidity", "y": "centroid-0", "x": "centroid-1",
        "top": "bbox-0", "left": "bbox-1", "bottom": "bbox-2", "right": "bbox-3",
    }.items():  # fmt: skip
        np.testing.assert_allclose(ours[mine], theirs[name], rtol=1e-6, atol=1e-6, err_msg=mine)


def test_a_part_gives_the_figures_of_the_whole(scene):
    labels, image = scene
    whole = measure(labels, image)
    for value in whole.index:
        box = tuple(int(whole.at[value, side]) for side in ("top", "left", "bottom", "right"))
        pd.testing.assert_frame_equal(measure_part(labels, image, [value], box), whole.loc[[value]], rtol=1e-5)


def test_only_the_cells_asked_for_are_measured_with_the_others_as_neighbours(scene):
    labels, image = scene
    whole = measure(labels, image)
    some = whole.index[::3].tolist()
    pd.testing.assert_frame_equal(measure(labels, image, some), whole.loc[some])


def test_labels_that_are_read_only_are_measured_without_compiling_all_anew(scene):
    labels, image = scene
    whole = measure(labels, image)
    compiled = len(figures.signatures)
    labels.setflags(write=False)
    pd.testing.assert_frame_equal(measure(labels, image), whole)
    assert len(figures.signatures) == compiled


def test_large_label_values_change_nothing(scene):
    labels, image = scene
    far = np.where(labels > 0, labels.astype(np.int64) * 500_000, 0).astype(np.int32)
    pd.testing.assert_frame_equal(
        measure(far, image).reset_index(drop=True), measure(labels, image).reset_index(drop=True)
    )


def _disc(shape, y, x, radius):
    yy, xx = np.indices(shape)
    return (yy - y) ** 2 + (xx - x) ** 2 <= radius**2


def test_a_mask_on_its_cell_stands_out_and_one_beside_it_does_not(rng):
    cell = _disc((80, 200), 40, 40, 14)
    image = 100 + 400 * ndimage.gaussian_filter(cell * 1.0, 1) + rng.normal(0, 5, cell.shape)
    right, beside, ground = (_disc(cell.shape, 40, x, 14).astype(np.int32) for x in (40, 54, 130))
    on, off, away = (measure(mask, image).loc[1] for mask in (right, beside, ground))
    assert on["contrast"] > 0.95 > 0.5 > abs(off["contrast"])
    assert abs(away["contrast"]) < 0.2
    assert on["edge_share"] == 1.0 > off["edge_share"]
    assert on["edge_weakest"] > 0.5 > off["edge_weakest"]
    assert off["offset"] > 0.4 > on["offset"]
    assert measure(right, 600 - image).loc[1, "contrast"] == pytest.approx(-on["contrast"], abs=0.01)


def test_two_cells_in_one_mask_have_a_neck_and_a_valley():
    both = _disc((80, 120), 40, 40, 15) | _disc((80, 120), 40, 64, 15)
    one = _disc((80, 120), 40, 50, 15)
    dip = np.abs(np.indices(both.shape)[1] - 52) < 2
    two = measure(both.astype(np.int32), 100 + 300.0 * both - 200.0 * (dip & both)).loc[1]
    single = measure(one.astype(np.int32), 100 + 300.0 * one).loc[1]
    assert two["neck"] > 0.2 > 0.05 > single["neck"]
    assert two["valley"] > 0.4 > 0.05 > single["valley"]


def test_a_cut_cell_and_two_that_touch_are_told_apart():
    cell = _disc((80, 120), 40, 40, 15)
    halves = np.where(np.indices(cell.shape)[1] < 40, 1, 2) * cell
    cut = measure(halves.astype(np.int32), 100 + 300.0 * cell).loc[1]
    one, other = _disc(cell.shape, 40, 40, 15), _disc(cell.shape, 40, 71, 15)
    pair = measure((one + 2 * other).astype(np.int32), 100 + 300.0 * (one | other)).loc[1]
    assert cut["joint_solidity"] > 0.95 > pair["joint_solidity"]
    assert cut["joint_area"] == cell.sum()
    assert cut["contact"] > 0.3 > pair["contact"] > 0


def test_saturation_pieces_and_cells_inside_others(rng):
    labels = np.zeros((60, 60), np.int32)
    labels[5:25, 5:25] = 1
    labels[10:20, 10:20] = 2
    labels[40:50, 10:20] = labels[40:50, 40:50] = 3
    image = rng.integers(10, 200, labels.shape).astype(np.uint8)
    image[10:15, 10:20] = 255
    table = measure(labels, image)
    assert table.loc[2, "saturated"] == 0.5
    assert table.loc[1, "overlapped"] == pytest.approx(0.25)
    assert table["pieces"].tolist() == [1, 1, 2]


def test_flat_and_tiny_things_are_measured_without_a_warning():
    labels = np.zeros((9, 9), np.int32)
    labels[0, 0], labels[4, 4:6], labels[8] = 1, 2, 3
    table = measure(labels, np.zeros((2, 9, 9), np.float32))
    assert list(table.columns) == list(MEASURED)
    assert np.isfinite(table[["area", "solidity", "std_intensity", "focus", "neck", "saturated"]]).all(axis=None)
    assert (table["saturated"] == 0).all()


def test_a_mask_that_would_sit_better_elsewhere_says_so(rng):
    cell = _disc((120, 160), 60, 60, 14)
    image = 100 + 400 * ndimage.gaussian_filter(cell * 1.0, 1) + rng.normal(0, 5, cell.shape)
    on, off = (measure(_disc(cell.shape, 60, x, 14).astype(np.int32), image).loc[1] for x in (60, 74))
    assert on["elsewhere"] < -0.2 < 0.2 < off["elsewhere"]
    assert off["elsewhere_texture"] > on["elsewhere_texture"]
    assert off["lopsided"] > 0.1 > on["lopsided"]
    crowd = np.where(cell, 1, 2).astype(np.int32)
    assert np.isnan(measure(crowd, image, [1]).loc[1, "elsewhere"])  # there is no background


def test_levels_on_the_way_outwards_and_grain(rng):
    cell, rim = _disc((80, 80), 40, 40, 14), _disc((80, 80), 40, 40, 18)
    image = 100.0 - 60 * cell - 30 * _disc(cell.shape, 40, 40, 6) + 80 * (rim & ~cell)
    there = measure(cell.astype(np.int32), image).loc[1]
    inverse = measure(cell.astype(np.int32), 255 - image).loc[1]
    assert there["halo"] > 0.5
    assert inverse["halo"] == pytest.approx(-there["halo"], rel=1e-3)
    assert inverse["core"] == pytest.approx(-there["core"], rel=1e-3)
    assert abs(there["core"]) > 0.1
    noisy = image + rng.normal(0, 8, image.shape)
    grain = [measure(cell.astype(np.int32), one).loc[1, "grain"] for one in (noisy, ndimage.gaussian_filter(noisy, 3))]
    assert grain[0] > 3 * grain[1]


def test_the_halves_of_two_cells_are_rounder_than_the_whole_and_differ():
    left, right = _disc((80, 120), 40, 42, 12), _disc((80, 120), 40, 64, 12)
    pair = measure((left | right).astype(np.int32), 100 + 200.0 * left + 300.0 * (right & ~left)).loc[1]
    one = measure(left.astype(np.int32), 100 + 200.0 * left).loc[1]
    assert pair["halves"] > pair["solidity"] + 0.03
    assert abs(one["halves"] - one["solidity"]) < 0.03
    assert pair["two_tone"] > 0.5 > 0.05 > one["two_tone"]
    seam = np.abs(np.indices(left.shape)[1] - 53) < 2
    assert measure((left | right).astype(np.int32), 100 + 200.0 * ((left | right) & ~seam)).loc[1, "fold"] > 0.5
