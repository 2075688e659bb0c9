import numpy as np
import pandas as pd
import pytest
from scipy import ndimage
from skimage.draw import ellipse
from skimage.measure import regionprops_table
from sklearn.metrics import roc_auc_score

from cell_curator.core.outliers import FLAGGED, RARE, REASONS, OutlierParameters, score, suspicions
from cell_curator.core.population import Population
from cell_curator.core.trees import Trees, shipped
from cell_curator.core.weighing import whole_figures


@pytest.fixture
def population() -> pd.DataFrame:
    """200 ordinary cells in four images of two conditions; the second is larger and brighter."""
    rng = np.random.default_rng(0)
    second = np.repeat([False, True], 100)
    area = np.exp(rng.normal(np.where(second, 7.0, 6.3), 0.15))
    ratio = np.exp(rng.normal(0.3, 0.08, 200))
    return pd.DataFrame(
        {
            "image": np.repeat([1, 2, 3, 4], 50),
            "condition": np.where(second, "treated", "control"),
            "area": area,
            "major_axis": np.sqrt(area * ratio),
            "minor_axis": np.sqrt(area / ratio),
            "eccentricity": np.sqrt(1 - 1 / ratio.clip(1.01) ** 2),
            "solidity": rng.normal(0.96, 0.008, 200).clip(0.9, 0.99),
            "mean_intensity": rng.normal(np.where(second, 900, 400), 40),
            "focus": np.exp(rng.normal(0, 0.2, 200)),
            "touches_border": False,
        },
        index=pd.Index(np.arange(1000, 1200), name="cell_id"),
    )


def change(frame: pd.DataFrame, row: int, **values: float) -> pd.DataFrame:
    for name, value in values.items():
        frame.iloc[row, frame.columns.get_loc(name)] = value
    return frame


def test_ordinary_cells_pass_although_conditions_differ(population):
    got = score(population)
    assert (got.index == population.index).all()
    assert (got["score"] >= FLAGGED).mean() < 0.03
    assert got["score"].between(0, 1).all()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"area": 3000}, "5.6× the usual size"),
        ({"area": 80}, "of the usual size"),
        ({"area": 1100, "solidity": 0.86}, "dented outline: perhaps several cells"),
        ({"solidity": 0.80}, "dented outline: perhaps two cells"),
        ({"major_axis": 90, "minor_axis": 12}, "7.5 times longer than wide"),
        ({"mean_intensity": 2000}, "unusually bright"),
        ({"mean_intensity": 20}, "unusually dark"),
        ({"focus": 0.05}, "out of focus"),
        ({"area": 150, "mean_intensity": 900, "eccentricity": 0.3}, "debris"),
        ({"touches_border": True}, "cut by the border"),
    ],
)
def test_each_fault_is_found_and_named(population, values, words):
    population["area"] = population["area"].where(population["condition"] == "treated", 540.0)
    got = score(change(population, 10, **values))
    assert got["score"].iloc[10] >= FLAGGED
    assert words in got["reasons"].iloc[10]
    assert got["score"].drop(1010).mean() < 0.2


def test_reasons_are_given_exactly_when_flagged(population):
    rng = np.random.default_rng(1)
    rows = rng.choice(200, 60, replace=False)
    population.iloc[rows, population.columns.get_loc("area")] *= rng.uniform(0.1, 5, 60)
    population.iloc[rows[:30], population.columns.get_loc("solidity")] -= rng.uniform(0, 0.3, 30)
    got = score(population)
    np.testing.assert_array_equal(got["score"] >= FLAGGED, got["reasons"] != "")
    assert not got["reasons"].str.contains(r"\n|nan").any()


def test_more_faults_make_a_higher_score(population):
    one = score(change(population.copy(), 0, solidity=0.82))["score"].iloc[0]
    two = score(change(population.copy(), 0, solidity=0.82, mean_intensity=3000))["score"].iloc[0]
    assert two > one


def test_thresholds_are_obeyed(population):
    change(population, 3, area=1500, touches_border=True)
    strict = score(population, OutlierParameters(size_z=1, merged=0.5))
    lax = score(population, OutlierParameters(size_z=20, merged=5, border=False, unlike=1))
    assert strict["score"].iloc[3] >= FLAGGED > lax["score"].iloc[3]
    assert (strict["score"] >= FLAGGED).sum() > (lax["score"] >= FLAGGED).sum()


@pytest.mark.parametrize("count", [0, 1, 2, 3])
def test_tiny_tables(population, count):
    got = score(population.iloc[:count])
    assert len(got) == count
    assert np.isfinite(got["score"]).all()
    assert list(got.columns) == ["score", "reasons"]


def test_identical_cells_raise_no_suspicion(population):
    same = pd.concat([population.iloc[[0]]] * 40)
    same.index = pd.Index(range(40), name="cell_id")
    got = score(same)
    assert (got["score"] < 0.1).all()
    assert (got["reasons"] == "").all()


def test_missing_numbers_and_columns_raise_no_suspicion(population):
    population.iloc[5, 2:9] = np.nan
    population.iloc[6, population.columns.get_loc("area")] = 0
    got = score(population)
    assert np.isfinite(got["score"]).all()
    assert got["reasons"].iloc[5] == ""
    assert np.isfinite(score(population[["area"]])["score"]).all()


def test_a_small_condition_is_compared_with_all_cells(population):
    few = population.copy()
    few.iloc[:3, few.columns.get_loc("condition")] = "rare"
    few.iloc[:3, few.columns.get_loc("image")] = 99
    few.iloc[:3, few.columns.get_loc("area")] = 60.0
    got = score(few)
    assert (got["score"].iloc[:3] >= FLAGGED).all()


def test_cells_drawn_into_one_mask_rank_above_single_ones():
    """Ellipses of three sizes; every twelfth pair of neighbours is merged into one label."""
    rng = np.random.default_rng(0)
    frames, merged = [], []
    for image in range(4):
        labels = np.zeros((600, 600), np.int32)
        truth = []
        for number, (y, x) in enumerate(np.ndindex(12, 12), 1):
            centre = (y * 50 + 25 + rng.uniform(-4, 4), x * 50 + 25 + rng.uniform(-4, 4))
            r, c = rng.uniform(8, 13, 2)
            turn = rng.uniform(0, np.pi)
            labels[ellipse(*centre, r, c, labels.shape, rotation=turn)] = number
            if number % 12 == 5:
                other = (centre[0] + rng.uniform(10, 14), centre[1] + rng.uniform(10, 14))
                labels[ellipse(*other, c, r, labels.shape, rotation=-turn)] = number
                truth.append(number)
        image_values = ndimage.gaussian_filter((labels > 0) * 200.0, 1) + rng.normal(0, 3, labels.shape)
        names = ("label", "area", "solidity", "axis_major_length", "axis_minor_length", "eccentricity")
        table = pd.DataFrame(regionprops_table(labels, image_values, (*names, "mean_intensity")))
        table = table.rename(columns={"axis_major_length": "major_axis", "axis_minor_length": "minor_axis"})
        frames.append(table.assign(image=image, condition="control", touches_border=False))
        merged.append(table["label"].isin(truth))
    got = score(pd.concat(frames, ignore_index=True))
    assert roc_auc_score(np.concatenate(merged), got["score"]) > 0.95


def on_a_map(frame: pd.DataFrame) -> pd.DataFrame:
    rng = np.random.default_rng(3)
    error = np.where(frame["condition"] == "treated", 0.02, 0.005) * np.exp(rng.normal(0, 0.15, len(frame)))
    return frame.assign(map_error=error, map_isolation=np.exp(rng.normal(0, 0.2, len(frame))))


def test_cells_that_the_map_redraws_badly_or_puts_aside_are_named(population):
    frame = on_a_map(population)
    assert suspicions(frame)[["redraw", "alone"]].lt(FLAGGED).mean().min() > 0.98
    got = score(change(change(frame, 10, map_error=0.05), 11, map_isolation=6.0))
    assert "redraws it badly (error 1" in got["reasons"].iloc[10]
    assert "6." in got["reasons"].iloc[11] or "5." in got["reasons"].iloc[11]
    assert "alone on the map" in got["reasons"].iloc[11]
    lax = score(frame, OutlierParameters(redraw_z=20, alone_z=20, unlike=1))
    assert not lax["reasons"].iloc[[10, 11]].str.contains("map").any()


def test_cells_that_are_not_on_the_map_have_no_such_reason(population):
    frame = on_a_map(population)
    frame.iloc[::2, frame.columns.get_indexer(["map_error", "map_isolation"])] = np.nan
    assert (suspicions(frame)[["redraw", "alone"]].iloc[::2] == 0).all(axis=None)
    assert (suspicions(population)[["redraw", "alone"]] == 0).all(axis=None)


def test_all_flagged_stays_in_bounds_and_in_words(population):
    population["touches_border"] = True
    population["pieces"], population["saturated"] = 3.0, 1.0
    got = score(population)
    assert (got["score"] >= FLAGGED).all()
    assert (got["score"] <= 1).all()
    assert got["reasons"].str.contains("saturated").all()


@pytest.mark.parametrize("count", [1, 2])
def test_a_condition_of_two_cells_is_compared_with_all(population, count):
    few = on_a_map(population)
    few.iloc[:count, few.columns.get_loc("condition")] = "rare"
    few.iloc[:count, few.columns.get_loc("image")] = 99
    got = suspicions(few)
    assert np.isfinite(got).all(axis=None)
    few.iloc[:count, few.columns.get_loc("map_error")] = 5.0
    assert (suspicions(few)["redraw"].iloc[:count] >= FLAGGED).all()


def test_a_table_of_gaps_raises_no_suspicion(population):
    empty = on_a_map(population).astype({"touches_border": float})
    empty.iloc[:, 2:] = np.nan
    got = suspicions(empty)
    assert list(got.columns) == list(REASONS)
    assert (got == 0).all(axis=None)
    assert (score(empty)["reasons"] == "").all()
    population.iloc[:20, 2:9] = np.inf
    assert np.isfinite(score(population)["score"]).all()


def test_rare_reasons_are_reasons():
    assert set(RARE) < set(REASONS)


def test_trees_answer_as_one_reads_them(population):
    one = Trees(
        ("a", "b"), np.array([[0, 1, 1, 0, 0, 0, 0]]), np.array([[0.0, 1, 2, 9, 9, 9, 9]]), np.arange(8.0)[None], 10
    )
    known = {"a": np.array([-1.0, -1, 1, 1]), "b": np.array([0.0, 5, 0, 5])}
    assert one(known).tolist() == [10, 12, 14, 16]
    assert Trees.from_json(one.to_json())(known).tolist() == one(known).tolist()
    figures = whole_figures(Population(population, 8))
    for trees in shipped().values():
        assert set(trees.figures) <= set(figures)
        assert trees.asked.shape == trees.above.shape == (len(trees.leaves), 7)
        assert np.isfinite(trees(figures)).all()
