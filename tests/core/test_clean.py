from itertools import pairwise

import numpy as np
import pandas as pd
import pytest

from cell_curator.core.cells import VERDICTS
from cell_curator.core.clean import CleanParameters, counts, funnel
from cell_curator.core.outliers import FLAGGED, REASONS, score, suspicions
from cell_curator.core.verdict_model import learn


@pytest.fixture
def cells() -> pd.DataFrame:
    """600 cells of six images, one in ten dented and large, one in twenty at the border."""
    rng = np.random.default_rng(0)
    n = 600
    bad = rng.random(n) < 0.1
    area = np.exp(rng.normal(6.3, 0.12, n)) * np.where(bad, 2.2, 1)
    frame = pd.DataFrame(
        {
            "image": np.repeat(range(6), 100),
            "condition": np.repeat(["a", "b"], 300),
            "area": area,
            "major_axis": np.sqrt(area),
            "minor_axis": np.sqrt(area),
            "eccentricity": 0.5,
            "solidity": rng.normal(0.96, 0.006, n) - 0.12 * bad,
            "mean_intensity": rng.normal(400, 30, n),
            "std_intensity": rng.normal(100, 5, n),
            "focus": np.exp(rng.normal(0, 0.1, n)),
            "neck": np.where(bad, 0.4, 0.02),
            "valley": np.where(bad, 0.5, 0.1),
            "touches_border": rng.random(n) < 0.05,
            "verdict": "proposed",
        },
        index=pd.RangeIndex(n, name="cell_id"),
    )
    return frame.assign(score=score(frame)["score"], bad=bad)


def test_a_persons_word_stands_above_the_score(cells):
    cells["verdict"] = np.array(VERDICTS)[np.arange(len(cells)) % len(VERDICTS)]
    cells["score"] = 1.0
    kept = counts(cells, CleanParameters(leave_out=True, threshold=0.5))
    assert kept[cells["verdict"].isin(["accepted", "edited", "locked"])].all()
    assert not kept[cells["verdict"].isin(["proposed", "rejected"])].any()
    assert (counts(cells) == (cells["verdict"] != "rejected")).all()


def test_cells_without_a_score_count(cells):
    assert counts(cells.assign(score=np.nan), CleanParameters(leave_out=True)).all()


def test_the_funnel_ends_with_the_cells_that_count(cells):
    cells.loc[:20, "verdict"] = "rejected"
    for params in (CleanParameters(), CleanParameters(leave_out=True), CleanParameters(leave_out=True, threshold=0.9)):
        steps = funnel(cells, params)
        assert steps[0].left == len(cells)
        assert steps[-1].left == counts(cells, params).sum()
        for before, after in pairwise(steps):
            assert before.left - after.removed == after.left
    by_name = {step.name: step for step in funnel(cells, CleanParameters(leave_out=True))}
    assert by_name["one cell each"].removed > 30
    assert by_name["whole"].removed > 10
    assert [step.left for step in funnel(cells.iloc[:0])] == [0, 0, 0]


def test_reasons_are_the_suspicions_above_the_line(cells):
    found, evidence = score(cells), suspicions(cells)
    assert list(evidence.columns) == list(REASONS)
    assert ((evidence >= FLAGGED).any(axis=1) == (found["reasons"] != "")).all()
    assert evidence.to_numpy().min() >= 0
    assert evidence.to_numpy().max() <= 1


def test_verdicts_teach_what_is_bad(cells):
    shown = cells.index[::4]
    said = pd.Series(np.where(cells.loc[shown, "bad"], "rejected", "accepted"), index=shown)
    taught = learn(cells, said)
    assert taught is not None
    assert taught.bad + taught.good == len(shown)
    assert taught.balanced > 0.9
    chance = taught.probability(cells).drop(shown)
    assert chance[cells["bad"]].mean() > 0.7 > 0.2 > chance[~cells["bad"]].mean()
    assert "images it did not learn from" in taught.text


def test_too_few_verdicts_teach_nothing(cells):
    said = pd.Series(["rejected"] * 4 + ["accepted"] * 96, index=cells.index[:100])
    assert learn(cells, said) is None
    assert learn(cells, said[:20]) is None
    assert learn(cells.iloc[:0], said) is None


def test_a_condition_of_two_cells_and_all_flagged_are_no_trouble(cells):
    cells.loc[:1, "condition"] = "rare"
    cells.loc[:1, "image"] = 99
    assert np.isfinite(score(cells)["score"]).all()
    cells["touches_border"] = True
    got = score(cells)
    assert (got["reasons"] != "").all()
    steps = funnel(cells.assign(score=got["score"]), CleanParameters(leave_out=True))
    assert steps[-1].left == 0
