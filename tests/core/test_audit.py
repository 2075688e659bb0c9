import numpy as np
import pandas as pd
import pytest
from scipy.stats import binom

from cell_curator.core.audit import Audit, draw, interval, needed


def _cells(sizes):
    image = np.repeat(np.arange(len(sizes)), sizes)
    condition = np.where(image % 2, "treated", "control")
    index = pd.Index(np.arange(len(image)) * 3 + 5, name="cell_id")
    return pd.DataFrame({"image": image, "condition": condition}, index=index)


def test_the_interval_is_clopper_and_pearsons():
    assert interval(0, 100) == pytest.approx((0.0, 0.036217), abs=1e-6)
    assert interval(5, 100) == pytest.approx((0.016432, 0.112835), abs=1e-6)
    assert interval(100, 100) == pytest.approx((0.963783, 1.0), abs=1e-6)
    assert interval(0, 0) == (0.0, 1.0)
    with pytest.raises(ValueError, match="cannot be"):
        interval(3, 2)


@pytest.mark.parametrize("share", [0.01, 0.1, 0.5])
def test_the_interval_holds_the_truth_as_often_as_it_promises(share):
    n = 80
    held = sum(binom.pmf(bad, n, share) for bad in range(n + 1) if interval(bad, n)[0] <= share <= interval(bad, n)[1])
    assert held >= 0.95


@pytest.mark.parametrize(("bad", "n", "bound"), [(0, 0, 0.01), (0, 120, 0.02), (3, 50, 0.05), (9, 20, 0.5)])
def test_so_many_more_are_needed_and_not_one_fewer(bad, n, bound):
    more = needed(bad, n, bound)
    assert interval(bad, n + more)[1] <= bound
    assert more == 0 or interval(bad, n + more - 1)[1] > bound
    with pytest.raises(ValueError, match="above 0"):
        needed(bad, n, 0.0)


def test_each_image_gives_its_share_to_one_cell():
    frame = _cells([100, 37, 3, 260])
    ids = draw(frame, 40, seed=3)
    assert len(set(ids)) == 40
    taken = frame.loc[list(ids), "image"].value_counts().reindex(range(4), fill_value=0).to_numpy()
    assert (np.abs(taken - np.array([10, 3.7, 0.3, 26])) < 1).all()
    assert draw(frame, 40, seed=3) == ids
    assert draw(frame, 40, seed=4) != ids


def test_every_cell_has_the_same_chance():
    frame = _cells([7, 2, 11])
    hits = np.zeros(20)
    for seed in range(2000):
        hits[(np.array(draw(frame, 6, seed)) - 5) // 3] += 1
    assert np.abs(hits / 2000 - 0.3).max() < 0.05


def test_more_than_there_are_is_all_of_them_and_of_none_none():
    frame = _cells([3, 2])
    assert sorted(draw(frame, 99)) == frame.index.tolist()
    assert draw(frame.iloc[:0], 9) == ()


def test_an_audit_survives_being_stored():
    made = Audit(4, (9, 3), 120, (1, 2), {3: True})
    assert Audit.from_json(made.to_json()) == made
