import cv2
import numpy as np
import pytest

from cell_curator.core.confluency import (
    Calibration,
    ConfluencyParameters,
    calibrate,
    confluency,
    curve,
    interval,
    time_in,
    union_of_masks,
)
from cell_curator.core.jobs import UserError


def test_percentage_area_and_density():
    mask = np.zeros((100, 200), bool)
    mask[:50, :100] = True
    found = confluency(mask, 0.5, count=8)
    assert found.percent == 25
    assert found.covered_um2 == pytest.approx(5000 * 0.25)
    assert found.density == pytest.approx(8 / (20_000 * 0.25e-6))
    bare = confluency(mask)
    assert (bare.percent, bare.covered_um2, bare.density, bare.count) == (25, None, None, None)
    assert bare.alarming(ConfluencyParameters(alarm=25))
    assert not bare.alarming(ConfluencyParameters(alarm=25.1))


def test_full_empty_and_tiny_images():
    assert confluency(np.ones((64, 64), bool)).interval == (100, 100)
    assert confluency(np.zeros((64, 64), bool)).interval == (0, 0)
    assert confluency(np.ones((1, 1), bool)).interval is None
    assert confluency(np.ones((15, 400), bool)).interval is None
    assert confluency(np.zeros((0, 4), bool)).percent == 0


@pytest.mark.parametrize("radius", [5, 14])
def test_the_interval_covers_the_truth_mostly(radius):
    """Round cells thrown at random cover 1 − exp(−number × area) of an endless dish; edges are cut away."""
    side, wide = 256, 256 + 4 * radius
    expected = 40.0
    number = -np.log(1 - expected / 100) / (np.pi * radius**2) * wide**2
    hits, widths = 0, []
    for seed in range(60):
        rng = np.random.default_rng(seed)
        field = np.zeros((wide, wide), np.uint8)
        for y, x in rng.integers(0, wide, (rng.poisson(number), 2)).tolist():
            cv2.circle(field, (x, y), radius, 1, -1)
        low, high = interval(field[2 * radius : -2 * radius, 2 * radius : -2 * radius][:side] > 0, 6, seed)
        hits += low - 1 <= expected <= high + 1  # a drawn disk has a little more than π r²
        widths.append(high - low)
    assert hits >= 50
    assert np.mean(widths) < 25


def test_the_interval_is_wider_where_cells_are_larger_and_the_same_for_the_same_seed(rng):
    fine = rng.random((240, 240)) < 0.3
    coarse = np.kron(rng.random((8, 8)) < 0.3, np.ones((30, 30), bool))
    width = lambda mask: np.subtract(*interval(mask, 6, 0)[::-1])  # noqa: E731
    assert width(coarse) > 5 * width(fine)
    assert interval(coarse, 6, 0) == interval(coarse, 6, 0) != interval(coarse, 6, 1)


def test_union_counts_overlap_once_and_leaves_out_what_does_not_count():
    labels = np.zeros((4, 6), np.int32)
    labels[:, :2], labels[:, 2:3] = 5, 9
    assert union_of_masks(labels).sum() == 12
    assert union_of_masks(labels, [9, 0]).sum() == 4
    assert union_of_masks(labels, []).sum() == 0


def test_calibration_finds_a_line_again():
    found = np.array([5.0, 20, 40, 60, 80])
    made = calibrate(found, 3 + 0.8 * found)
    assert (made.slope, made.offset) == (pytest.approx(0.8), pytest.approx(3))
    assert made.error == pytest.approx(0, abs=1e-9)
    assert made.corrected(50) == pytest.approx(43)
    assert made.corrected(-100) == 0


def test_calibration_learns_no_more_than_a_few_parts_tell():
    one = calibrate([30], [36])
    assert (one.slope, one.offset, one.parts) == (1, 6, 1)
    assert np.isnan(one.error)
    alike = calibrate([30, 30.5, 31, 30.2], [33, 35, 31, 34])
    assert alike.slope == 1
    assert calibrate([10, 20, 30, 40], [40, 30, 20, 10]).slope == 1  # the wrong way round is not believed
    right = calibrate([10, 20, 31, 39, 50], [11, 19, 30, 40, 50])  # noise is not learned
    assert (right.slope, right.offset) == (1, 0)
    assert right.error == pytest.approx(np.sqrt(4 / 5))
    with pytest.raises(UserError, match="no hand-marked part"):
        calibrate([], [])


def test_the_error_of_a_calibration_is_about_what_new_images_have(rng):
    true = rng.uniform(10, 60, 400)
    found = 5 + 1.2 * true + rng.normal(0, 2.4, 400)  # 2 points, seen from the truth
    made = calibrate(found[:40], true[:40])
    left = np.sqrt(np.mean([(made.corrected(x) - y) ** 2 for x, y in zip(found[40:], true[40:], strict=True)]))
    assert made.error == pytest.approx(left, rel=0.3)
    assert left == pytest.approx(2.0, rel=0.2)


def test_a_corrected_image_has_all_put_right(rng):
    found = confluency(rng.random((120, 120)) < 0.5, 2.0)
    right = Calibration(0.5, 10.0, 3.0, 5).apply(found)
    assert right.percent == pytest.approx(10 + found.percent / 2)
    assert right.covered_um2 == pytest.approx(right.percent / 100 * 120 * 120 * 4)
    low, high = right.interval
    assert low < right.percent - 5.8
    assert high > right.percent + 5.8
    single = Calibration(1.0, 10.0, float("nan"), 1).apply(found)
    assert single.interval == pytest.approx([end + 10 for end in found.interval])


@pytest.mark.parametrize(
    ("name", "time"),
    [
        ("A3_t012", 12), ("dish 36h", 36), ("day3", 3), ("control/B2_24hours_s1", 24), ("x_d1_t5", 5),
        ("frame=7.5", 7.5),
        ("t4/A-03", None), ("A03", None), ("pathway", None), ("exp2024", None), ("set12", None), ("cat5", None),
    ],
)  # fmt: skip
def test_time_is_read_from_names(name, time):
    assert time_in(name) == time


def test_the_curve_is_by_condition_and_time():
    points = curve(["b", "a", "b", "b", "a"], [24.0, None, 0.0, 24.0, 3.0], [50, 5, 10, 70, 8])
    assert [(p.condition, p.time, p.images, p.percent) for p in points] == [
        ("b", 0.0, 1, 10), ("b", 24.0, 2, 60), ("a", None, 1, 5), ("a", 3.0, 1, 8)
    ]  # fmt: skip
    assert (points[1].least, points[1].greatest) == (50, 70)
    assert curve([], [], []) == []
