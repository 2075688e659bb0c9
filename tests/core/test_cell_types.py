"""Names of cell types, the figures they are told by, and the classifiers that learn them."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
from pydantic import ValidationError

from cell_curator.core import type_classifier
from cell_curator.core.cell_types import CellTypes, by_hand, tally
from cell_curator.core.composites import compose, cut_cells
from cell_curator.core.jobs import UserError, drive
from cell_curator.core.measure import measure
from cell_curator.core.type_classifier import TypeParameters, confusion_of, folds, train_types
from cell_curator.core.type_figures import type_figures
from cell_curator.core.type_model import from_json


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    """What is tested is the same with a tenth of the trees."""
    monkeypatch.setattr(type_classifier, "_TREES", 15)


def cells(rng, kinds=("a", "b"), images=4, each=12, apart=2.5):
    """A table of figures in which the types differ by ``apart`` in one of three; one figure has gaps."""
    truth = np.repeat(kinds, images * each)
    table = pd.DataFrame(rng.normal(0, 1, (len(truth), 3)), columns=["size", "shape", "noise"])
    table["size"] += apart * np.searchsorted(kinds, truth)
    table.loc[::7, "noise"] = np.nan
    groups = np.concatenate([np.repeat([f"{kind}{n}" for n in range(images)], each) for kind in kinds])
    return table, pd.Series(truth), pd.Series(groups)


@pytest.mark.parametrize("method", ["logistic", "boosting"])
@pytest.mark.parametrize("kinds", [("a", "b"), ("a", "b", "c")])
def test_a_model_comes_back_from_json_and_says_the_same(rng, method, kinds):
    table, truth, groups = cells(rng, kinds)
    model, scores = drive(train_types(table, truth, groups, TypeParameters(method=method)))
    again = from_json(json.loads(json.dumps(model.to_json())))
    pd.testing.assert_frame_equal(again.probabilities(table), model.probabilities(table), check_exact=True)
    assert again.digest == model.digest
    assert scores.by_image
    assert scores.balanced > 0.75
    likely = model.probabilities(table)
    np.testing.assert_allclose(likely.sum(axis=1), 1)
    assert not likely.isna().any(axis=None)


@pytest.mark.parametrize("kinds", [("a", "b"), ("a", "b", "c")])
def test_boosted_trees_as_plain_numbers_say_what_scikit_learn_says(rng, kinds):
    from sklearn.ensemble import GradientBoostingClassifier

    from cell_curator.core.type_classifier import _DEPTH, _RATE, _SHARE
    from cell_curator.core.type_model import softmax

    table, truth, groups = cells(rng, kinds)
    model, _ = drive(train_types(table, truth, groups, TypeParameters(method="boosting", seed=3)))
    x, y = model.standardised(table), pd.factorize(truth)[0]
    counts = np.bincount(y)
    theirs = GradientBoostingClassifier(
        n_estimators=15,
        learning_rate=_RATE,
        max_depth=_DEPTH,
        subsample=_SHARE,
        max_features="sqrt",
        random_state=3,
    ).fit(x, y, sample_weight=len(y) / (len(counts) * counts[y]))
    np.testing.assert_allclose(softmax(model.body.scores(x)), theirs.predict_proba(x), atol=1e-9)


def test_no_image_is_both_learned_from_and_scored_on(rng):
    _, truth, groups = cells(rng, images=3)
    y, units = pd.factorize(truth)[0], pd.factorize(groups)[0]
    splits, whole = folds(y, units, 5, 0)
    assert whole
    assert sorted(np.concatenate([out for _, out in splits])) == list(range(len(y)))
    for learned, out in splits:
        assert not set(units[learned]) & set(units[out])
        assert set(y[learned]) == {0, 1}


def test_types_of_one_image_are_scored_by_cells_and_it_is_said(rng):
    table, truth, groups = cells(rng, images=1)
    _, scores = drive(train_types(table, truth, groups, TypeParameters()))
    assert not scores.by_image
    assert "in the same images" in scores.text


def test_scores_on_noise_are_those_of_chance(rng):
    table, truth, groups = cells(rng, apart=0.0, images=6, each=15)
    _, scores = drive(train_types(table, truth, groups, TypeParameters(method="boosting")))
    assert scores.balanced < 0.65
    assert scores.confusion.to_numpy().sum() == len(table)


def test_rare_types_count_as_much_as_common_ones(rng):
    table, truth, groups = cells(rng, images=6, each=20, apart=1.5)
    few = (truth == "a") | (np.arange(len(truth)) % 10 == 0)
    _, scores = drive(train_types(table[few], truth[few], groups[few], TypeParameters()))
    assert scores.per_type.loc["b", "recall"] > 0.6


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        (["a"] * 12, "all cells are of one type, 'a'"),
        (["a"] * 11 + ["b"], "only one cell of type 'b'"),
        (["a"] * 9 + ["b"] * 3, "only 3 cells of type 'b'"),
        ([""] * 12, "no cell has a type yet"),
    ],
)
def test_too_little_to_learn_from_is_said_in_plain_words(rng, truth, message):
    table = pd.DataFrame(rng.normal(0, 1, (12, 2)), columns=["one", "two"])
    with pytest.raises(UserError, match=message):
        drive(train_types(table, pd.Series(truth), pd.Series(range(12)), TypeParameters()))


def test_cells_that_are_all_alike_are_refused():
    table = pd.DataFrame({"one": np.ones(20), "two": np.full(20, np.nan)})
    with pytest.raises(UserError, match="nothing measured differs"):
        drive(train_types(table, pd.Series(list("ab") * 10), pd.Series(range(20)), TypeParameters()))


def test_a_damaged_model_is_refused(rng):
    table, truth, groups = cells(rng)
    said = drive(train_types(table, truth, groups, TypeParameters(method="boosting")))[0].to_json()
    endless = json.loads(json.dumps(said))
    endless["body"]["trees"][0]["yes"][0] = 0  # a node that leads to itself
    for bad in ({**said, "mean": [1.0]}, {**said, "format": "other"}, {**said, "body": {}}, endless, [], "text", None):
        with pytest.raises(ValueError, match=r"."):
            from_json(bad)


def test_a_model_says_which_figure_is_missing(rng):
    table, truth, groups = cells(rng)
    model, _ = drive(train_types(table, truth, groups, TypeParameters()))
    with pytest.raises(UserError, match="lack 'size'"):
        model.probabilities(table.drop(columns="size"))


def test_the_confusion_matrix_has_the_truth_in_its_rows():
    counts, per_type = confusion_of(pd.Series(list("aabb")), pd.Series(list("abbb")), ("a", "b", "c"))
    assert counts.loc["a"].tolist() == [1, 1, 0]
    assert per_type.loc["a", ["precision", "recall"]].tolist() == [1.0, 0.5]
    assert per_type.loc["b", "precision"] == pytest.approx(2 / 3)
    assert per_type.loc["c", ["precision", "recall"]].isna().all()


def test_names_are_tidied_and_never_twice():
    assert CellTypes(names=(" HEK  293 ", "N2a")).names == ("HEK 293", "N2a")
    for bad in (("a", " a"), ("",), ("x" * 61,)):
        with pytest.raises(ValidationError):
            CellTypes(names=bad)
    types = CellTypes(names=("a", "b"))
    assert types.with_names("b", "c").names == ("a", "b", "c")
    assert types.renamed("a", "z").names == ("z", "b")
    assert types.color("a") != types.color("b")
    assert types.color("nobody") == types.color("other")


def test_a_tally_tells_hand_from_model():
    frame = pd.DataFrame({"cell_type": ["a", "a", "b", ""], "type_probability": [np.nan, 0.7, 0.6, np.nan]})
    assert by_hand(frame).tolist() == [True, False, False, False]
    counts = tally(frame, CellTypes(names=("b", "a")))
    assert list(counts.index) == ["b", "a", ""]
    assert counts.loc["a"].tolist() == [1, 1]
    assert counts.loc[""].tolist() == [0, 1]


def picture(rng, discs, level=200, bright=900):
    """Four round cells of two sizes, no two touching."""
    labels = discs((160, 200), [(40, 40, 9), (40, 120, 14), (110, 50, 9), (110, 130, 14)])
    return (level + bright * (labels > 0) + rng.normal(0, 15, labels.shape)).astype(np.uint16), labels


def test_figures_of_look_do_not_follow_exposure_but_grey_levels_do(rng, discs):
    image, labels = picture(rng, discs)
    other = (image.astype(np.uint32) * 3 + 50).astype(np.uint16)
    mine, theirs = measure(labels, image[None]), measure(labels, other[None])
    one, two = type_figures(mine, "look"), type_figures(theirs, "look")
    np.testing.assert_allclose(one, two, rtol=0.02, atol=0.02)
    assert set(type_figures(mine, "shape")) < set(one) < set(type_figures(mine, "all"))
    brighter = type_figures(theirs, "all")["log brightness"] - type_figures(mine, "all")["log brightness"]
    np.testing.assert_allclose(brighter, np.log(3), atol=0.02)
    lifted = measure(labels, (image + 300)[None])  # the level of the background tells nothing of a cell
    np.testing.assert_allclose(type_figures(lifted, "all"), type_figures(mine, "all"), rtol=0.02, atol=0.02)


def test_composites_hold_whole_cells_that_measure_as_before_with_their_types(rng, discs):
    crops, grounds = [], []
    before = {}
    for kind, level, bright in (("dim", 150, 500), ("light", 400, 1500)):
        image, labels = picture(rng, discs, level, bright)
        before[kind] = measure(labels, image[None])
        cut, ground = cut_cells(image, labels, kind)
        crops += cut
        grounds.append(ground)
    assert len(crops) == 8
    made, left = compose(crops, np.concatenate(grounds), (300, 300), rng, level=250)
    assert not left
    assert sorted(made.types.values()) == ["dim"] * 4 + ["light"] * 4
    after = measure(made.labels, made.image[None])
    for kind, was in before.items():
        mine = after.loc[[label for label, said in made.types.items() if said == kind]]
        assert sorted(mine["area"]) == sorted(was["area"])
        np.testing.assert_allclose(mine["std_intensity"].median(), was["std_intensity"].median(), rtol=0.2)
        np.testing.assert_allclose(mine["surround"], 250, atol=8)  # no picture's own background gives it away
    assert (after["contact"] == 0).all()
    small, rest = compose(crops, grounds[0], (50, 50), rng)
    assert len(rest) + len(small.types) == 8
