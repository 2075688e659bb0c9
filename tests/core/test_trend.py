import math

import numpy as np
import pytest
from scipy.stats import permutation_test, spearmanr

from cell_curator.core.comparison import compare_conditions
from cell_curator.core.trend import rho_text, trend_over_doses

NAMES = {0: "Cluster 1", 1: "Cluster 2"}


def _trend(shares, conditions, **more):
    shares = np.asarray(shares, float)
    return trend_over_doses(np.c_[1 - shares, shares], np.array(conditions, dtype=object), NAMES, **more)[0]


def test_a_share_that_rises_is_found_with_one_well_of_each_dose():
    made = _trend([0.1, 0.15, 0.3, 0.32, 0.5, 0.7], [f"{n} nM" for n in (0, 1, 3, 10, 30, 100)], unit="well")
    falls, rises = made.tests
    assert (falls.rho, rises.rho) == pytest.approx((-1, 1))
    assert rises.p == pytest.approx(2 / 720)  # in order or in the reverse order, of 6! ways
    assert rises.q == pytest.approx(4 / 720)
    assert made.exact
    assert made.found == made.tests
    assert rises.sentence == (
        "Cluster 2: rises from 0 nM (10 % of the cells of a well) to 100 nM (70 %), rank correlation +1.00, "
        "corrected p 0.006"
    )
    assert "falls from 0 nM (90 %" in falls.sentence


def test_rho_and_p_are_those_of_scipy(rng):
    amounts = [0, 0, 1, 10, 10, 10]
    shares = rng.random(6)
    made = _trend(shares, [f"dose {a}" for a in amounts])
    assert made.tests[1].rho == pytest.approx(spearmanr(amounts, shares).statistic)
    expected = permutation_test(
        (shares,), lambda x: abs(spearmanr(x, amounts).statistic), permutation_type="pairings", alternative="greater"
    )
    assert made.tests[1].p == pytest.approx(expected.pvalue)


def test_of_noise_p_is_as_often_small_as_it_should_be():
    rng, doses = np.random.default_rng(3), [f"{n} nM" for n in (0, 1, 10, 100) for _ in range(2)]
    p = np.array([_trend(rng.beta(2, 4, len(doses)), doses).tests[1].p for _ in range(150)])
    for level in (0.05, 0.2, 0.5):
        assert np.mean(p <= level) == pytest.approx(level, abs=0.1)


def test_many_wells_are_dealt_at_random_and_the_same_each_time(rng):
    doses = [f"{n:02d}" for n in range(11) for _ in range(4)]
    shares = np.linspace(0.2, 0.3, 44) + rng.normal(0, 0.02, 44)
    made = _trend(shares, doses)
    assert (made.exact, made.arrangements) == (False, 20_001)
    assert made.tests[1].rho == pytest.approx(spearmanr(np.repeat(np.arange(11), 4), shares).statistic)
    assert made.tests[1].p < 0.001
    assert _trend(shares, doses).tests[1].p == made.tests[1].p


def test_the_order_is_that_of_amounts_and_not_of_names():
    made = _trend([0.1, 0.5, 0.2, 0.3, 0.4, 0.6], ["DMSO", "100 nM", "0.5 nM", "3 nM", "20 nM", "1000 nM"])
    assert list(made.doses) == ["DMSO", "0.5 nM", "3 nM", "20 nM", "100 nM", "1000 nM"]
    assert made.tests[1].rho == pytest.approx(1)


def test_a_share_that_never_changes_has_no_trend():
    made = _trend([0.4] * 6, list("123456"))
    assert math.isnan(made.tests[1].rho)
    assert (made.tests[1].p, rho_text(made.tests[1].rho)) == (1, "–")
    assert made.tests[1].sentence == "Cluster 2: no trend from 1 to 6 (p 1.00)"
    assert not made.found


def test_without_amounts_there_is_no_trend_and_with_too_few_wells_it_is_said():
    shares, words = np.full((6, 1), 0.5), np.array(list("abcdef"), dtype=object)
    assert trend_over_doses(shares, words, {0: "x"}) == (None, "")
    assert trend_over_doses(shares, np.array(["1", "2"] * 3, dtype=object), {0: "x"}) == (None, "")
    few = np.array(["1", "2", "3"], dtype=object)
    assert trend_over_doses(shares[:3], few, {0: "x"}, unit="well") == (
        None,
        "3 wells are too few to tell a trend over 3 doses from chance; add wells",
    )
    assert trend_over_doses(np.empty((6, 0)), np.array(list("123456"), dtype=object), {}) == (None, "")


def test_it_stands_beside_the_comparison_of_conditions_which_are_in_order():
    rng = np.random.default_rng(0)
    clusters, conditions, units = [], [], []
    for dose in (100, 10, 1, 0.1, 0):
        clusters.append(rng.random(400) < 0.2 + 0.1 * np.log10(dose + 0.01))
        conditions += [f"{dose} nM"] * 400
        units += [dose] * 400
    made = compare_conditions(np.concatenate(clusters).astype(int) + 1, conditions, units)
    assert made.conditions == ("0 nM", "0.1 nM", "1 nM", "10 nM", "100 nM")
    assert made.refused  # one image of each dose
    assert made.trend.tests[1].rho == pytest.approx(1)
    assert made.trend.found
    assert [test.cluster for test in made.trend.tests] == [1, 2]
