import math

import numpy as np
import pytest
from scipy.stats import chi2_contingency, false_discovery_control, permutation_test

from cell_curator.core.comparison import cliffs_delta, compare_conditions
from cell_curator.core.permutation import arrangements, benjamini_hochberg, holm, p_text, smallest_p


def _cells(shares_by_unit, cells=100, seed=0):
    """Clusters, conditions, units of cells: ``{condition: [share of cluster 1 in each unit]}``."""
    rng = np.random.default_rng(seed)
    clusters, conditions, units = [], [], []
    for condition, shares in shares_by_unit.items():
        for number, share in enumerate(shares):
            clusters.append(rng.random(cells) < share)
            conditions += [condition] * cells
            units += [f"{condition} {number}"] * cells
    return np.concatenate(clusters).astype(int), conditions, units


def test_a_strong_effect_is_found_and_said():
    got = compare_conditions(*_cells({"control": [0.1, 0.12, 0.08, 0.1, 0.11], "drug": [0.6, 0.55, 0.7, 0.62, 0.58]}))
    zero, one = got.tests
    assert one.p == pytest.approx(2 / 252)  # 10 units, five and five: the two extreme ones of 252 arrangements
    assert one.q == pytest.approx(4 / 252)
    assert (one.effect, one.word) == (1.0, "large")
    assert zero.effect == -1
    assert got.exact
    assert got.arrangements == 252
    assert got.p == pytest.approx(2 / 252)
    assert one.sentence.startswith("Cluster 2: more in drug (60 % of the cells of an image) than in control (9 %)")
    assert "large effect" in one.sentence
    np.testing.assert_allclose(one.shares, [0.1, 0.61], atol=0.04)
    assert (one.ranges[:, 0] <= one.shares).all()
    assert (one.ranges[:, 1] >= one.shares).all()
    np.testing.assert_array_equal(got.counts.sum(), 1000)


def test_without_an_effect_p_is_as_often_small_as_it_should_be():
    """Images differ a lot among themselves (a batch effect), conditions do not: a test per cell would fire always."""
    rng = np.random.default_rng(1)
    found, by_cell = [], []
    for trial in range(200):
        shares = rng.beta(2, 4, size=(2, 5))
        cells = _cells({"a": shares[0], "b": shares[1]}, cells=100, seed=trial)
        found.append(compare_conditions(*cells).tests[0].p)
        clusters, conditions, _ = cells
        table = np.array([[np.sum((clusters == k) & (np.array(conditions) == c)) for c in "ab"] for k in (0, 1)])
        by_cell.append(chi2_contingency(table).pvalue)
    for level in (0.05, 0.2, 0.5):
        assert np.mean(np.array(found) <= level) == pytest.approx(level, abs=0.09)
    assert np.mean(np.array(by_cell) < 0.05) > 0.5


def test_p_is_that_of_scipy():
    first, second = [0.2, 0.35, 0.15, 0.4], [0.3, 0.5, 0.45, 0.55]
    cells = _cells({"a": first, "b": second}, cells=200)
    clusters, _, units = (np.array(x) for x in cells)
    shares = {u: clusters[units == u].mean() for u in dict.fromkeys(units)}
    a, b = ([v for u, v in shares.items() if u.startswith(c)] for c in "ab")
    expected = permutation_test((a, b), lambda x, y: abs(np.mean(x) - np.mean(y)), alternative="greater").pvalue
    assert compare_conditions(*cells).tests[1].p == pytest.approx(expected)


def test_three_conditions_and_random_arrangements():
    low, high = [0.1, 0.15, 0.12, 0.2, 0.1, 0.13], [0.5, 0.6, 0.55, 0.4, 0.5, 0.52]
    got = compare_conditions(*_cells({"a": low, "b": low[::-1], "c": high}), unit="well")
    assert not got.exact
    assert got.arrangements == 20_001
    assert got.tests[1].p < 0.001
    assert got.tests[1].word == "large"
    assert "most in c" in got.tests[1].sentence
    assert "a well" in got.tests[1].sentence
    again = compare_conditions(*_cells({"a": low, "b": low[::-1], "c": high}), unit="well")
    assert again.tests[1].p == got.tests[1].p


def test_one_image_of_each_condition_is_refused_plainly():
    got = compare_conditions(*_cells({"a": [0.1], "b": [0.9]}))
    assert got.refused.startswith("one image of each condition cannot tell a condition from an image")
    assert math.isnan(got.p)
    assert math.isnan(got.tests[0].p)
    assert got.tests[0].sentence == ""
    np.testing.assert_allclose(got.tests[1].shares, [0.1, 0.9], atol=0.1)  # percentages are shown all the same


def test_a_single_image_on_one_side_is_refused_or_left_out():
    got = compare_conditions(*_cells({"a": [0.1, 0.2], "b": [0.9]}))
    assert "“b” has only one" in got.refused
    got = compare_conditions(*_cells({"a": [0.1, 0.2], "b": [0.9], "c": [0.5, 0.6]}))
    assert got.refused == ""
    assert any("not tested for want of a second image: b" in note for note in got.notes)


def test_one_condition_only_is_said():
    assert "only one condition" in compare_conditions(*_cells({"": [0.1, 0.2, 0.3]})).refused


def test_too_few_units_for_any_small_p_is_said():
    got = compare_conditions(*_cells({"a": [0.0, 0.0, 0.0], "b": [1.0, 1.0, 1.0]}))
    assert got.tests[0].p == pytest.approx(0.1)
    assert any("no p below 0.10" in note for note in got.notes)
    assert not compare_conditions(*_cells({"a": [0.1] * 5, "b": [0.5] * 5})).notes


def test_a_unit_in_two_conditions_is_a_mistake():
    with pytest.raises(ValueError, match="lies in the conditions"):
        compare_conditions(np.array([0, 1]), ["a", "b"], ["x", "x"])


def test_no_clusters_and_cells_without_one():
    got = compare_conditions(np.full(8, -1), ["a"] * 4 + ["b"] * 4, list("wwxxyyzz"))
    assert got.tests == ()
    got = compare_conditions(np.array([0, -1, 0, 0, 0, -1, -1, -1]), ["a"] * 4 + ["b"] * 4, list("wwxxyyzz"))
    np.testing.assert_allclose(got.tests[0].shares, [0.75, 0.25])


def test_corrections():
    p = np.array([0.01, 0.04, 0.03, np.nan])
    np.testing.assert_allclose(holm(p), [0.03, 0.06, 0.06, np.nan])
    np.testing.assert_allclose(benjamini_hochberg(p)[:3], false_discovery_control(p[:3]))
    assert np.isnan(benjamini_hochberg(p)[3])
    assert cliffs_delta([1, 2], [3, 4]) == 1
    assert cliffs_delta([1, 2], [1, 2]) == 0
    assert arrangements([3, 3]) == 20
    assert smallest_p([3, 3]) == 0.1
    assert smallest_p([3, 4]) == pytest.approx(1 / 35)
    assert p_text(0.00001) == "< 0.0001"
    assert p_text(0.0312) == "0.031"
