"""Learning cell types from cells whose type is known, and how well that does on images it did not learn from.

Logistic regression, or gradient boosting (Friedman 2001, doi:10.1214/aos/1013203451), on the figures of
`type_figures`; a network on pictures of cells is in `engines.cell_classifier`. Types that are rare count as much as
the others. Probabilities are calibrated on held-out cells by one temperature (Guo et al. 2017, arXiv:1706.04599). What
is learned is a `type_model.TypeModel`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.type_figures import Figures
from cell_curator.core.type_model import Floats, Line, Tree, Trees, TypeModel, softmax

FEWEST_OF_A_TYPE = 5
"""Cells of a type from which on there is something to learn."""

_FOLDS, _FOLDS_WITHIN = 5, 4
_STRENGTHS = (0.01, 0.03, 0.1, 0.3, 1.0)
_STRENGTH, _TRIED_UP_TO = 1.0, 3000  # with more cells the strength of the ridge hardly matters
_TREES, _RATE, _DEPTH, _SHARE = 150, 0.05, 3, 0.6
_BINS = 10


class TypeParameters(Parameters):
    """How cell types are told apart."""

    method: Literal["logistic", "boosting", "cnn"] = parameter(
        "logistic",
        "Classifier",
        "Logistic regression is the better guess from few cells; boosted trees from some hundred of each type on. cnn:"
        " a small network looks at pictures of the cells themselves and needs no measurements.",
    )
    figures: Figures = parameter(
        "look",
        "Told by",
        "The outline alone, also how grey levels lie in the cell, or also the grey levels themselves, which differ"
        " between days and stainings, too. map: the place on the map alone, good for this map only.",
    )
    use_map: bool = parameter(
        False,
        "Place on the map",
        "Tell types also by the place of a cell on the map. Such a model is good for this map only.",
    )
    at_least: float = parameter(
        0.0,
        "At least",
        "Cells whose likeliest type is less likely than this stay without a type.",
        ge=0.0,
        le=1.0,
        step=0.05,
    )
    seed: int = parameter(0, "Seed", "Start of all random numbers: same seed, same result.", ge=0, more=True)


@dataclass(frozen=True)
class TypeScores:
    """How well cells are told that were held out.

    ``confusion``: counts, rows the true type, columns the type said. ``per_type``: index type, columns
    ``precision``, ``recall``, ``cells``. ``balanced``: mean recall. ``calibration_error``: mean distance between
    probability said and share that was right, in tenths of the probability. ``by_image``: whether
    whole images were held out; else single cells were, which flatters. ``text``: one line for the user.
    """

    accuracy: float
    balanced: float
    confusion: pd.DataFrame
    per_type: pd.DataFrame
    calibration_error: float
    by_image: bool
    text: str

    def plain(self) -> dict[str, Any]:
        """For a card and for ``--json``."""
        return {
            "accuracy": self.accuracy,
            "balanced_accuracy": self.balanced,
            "calibration_error": self.calibration_error,
            "held_out": "images" if self.by_image else "cells",
            "confusion": {str(kind): dict(row) for kind, row in self.confusion.to_dict("index").items()},
            "per_type": {str(kind): dict(row) for kind, row in self.per_type.to_dict("index").items()},
        }


def train_types(
    table: pd.DataFrame, types: pd.Series[str], groups: pd.Series[Any], params: TypeParameters
) -> Job[tuple[TypeModel, TypeScores]]:
    """Learn types of cells, and score by images held out.

    Parameters
    ----------
    table
        Figures of the cells, see `type_figures.type_figures`; NaN where not known.
    types
        Their types, indexed as ``table``.
    groups
        What is never torn apart between learning and scoring: images, or the wells they are fields of.

    Raises
    ------
    UserError
        If there is a single type, a type has fewer than 5 cells, or nothing is known of the cells.
    """
    names = names_of(types)
    table = table.loc[:, table.notna().any() & (table.std() > 0)]
    if not table.shape[1]:
        raise UserError("nothing measured differs between these cells; measure them anew")
    numbers = {name: number for number, name in enumerate(names)}
    y: NDArray[np.int64] = np.array([numbers[name] for name in types], np.int64)
    units: NDArray[np.int64] = np.array(pd.factorize(groups)[0], np.int64)

    def fit(rows: NDArray[np.intp]) -> Job[Callable[[NDArray[np.intp]], Floats]]:
        part = _fit(table.iloc[rows], y[rows], units[rows], names, params)
        yield from ()
        return lambda out: part.body.scores(part.standardised(table.iloc[out]))

    temperature, scores = yield from held_out_scores(y, units, names, fit, params.seed, _FOLDS)
    model = _fit(table, y, units, names, params)
    about = {
        "parameters": params.model_dump(mode="json"),
        "cells": {name: int((y == number).sum()) for number, name in enumerate(names)},
        "groups": int(units.max()) + 1,
        "scores": scores.plain(),
    }
    return replace(model, temperature=temperature, about=about), scores


def held_out_scores(
    y: NDArray[np.int64],
    groups: NDArray[np.int64],
    names: tuple[str, ...],
    fit: Callable[[NDArray[np.intp]], Job[Callable[[NDArray[np.intp]], Floats]]],
    seed: int,
    most: int,
) -> Job[tuple[float, TypeScores]]:
    """Temperature and scores of a way to learn, each cell told by what was learned without its image.

    Parameters
    ----------
    fit
        Learns from rows, and gives what tells logarithms of the odds ``(n, K)`` of other rows.
    most
        Times that it is asked to, at most.
    """
    splits, by_image = folds(y, groups, most, seed)
    held = np.zeros((len(y), len(names)))
    for number, (learned, out) in enumerate(splits):
        part = (number / (len(splits) + 1), (number + 1) / (len(splits) + 1))
        yield Progress(part[0], f"scoring on what was held out, {number + 1} of {len(splits)}")
        tell = yield from scaled(fit(learned), *part)
        held[out] = tell(out)
    yield Progress(len(splits) / (len(splits) + 1), "learning from all cells")
    temperature = _temperature(held, y)
    return temperature, _scores(softmax(held / temperature), y, names, by_image)


def folds(
    y: NDArray[np.int64], groups: NDArray[np.int64], most: int, seed: int
) -> tuple[list[tuple[NDArray[np.intp], NDArray[np.intp]]], bool]:
    """Pairs of rows to learn from and to score on, and whether groups stay whole; else cells are dealt singly."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    kinds = np.unique(y)
    spread = min(len(np.unique(groups[y == kind])) for kind in kinds)
    if spread > 1:
        split = StratifiedGroupKFold(min(most, spread), shuffle=True, random_state=seed)
        whole = [pair for pair in split.split(y, y, groups) if len(pair[1])]
        if all(len(np.unique(y[learned])) == len(kinds) for learned, _ in whole):
            return whole, True
    count = min(most, *np.bincount(y)[kinds])
    return list(StratifiedKFold(int(count), shuffle=True, random_state=seed).split(y, y)), False


# ---------------------------------------------------------------------- learning


def names_of(types: Iterable[str]) -> tuple[str, ...]:
    """The types that there are, in alphabetical order.

    Raises
    ------
    UserError
        If there is a single type, or a type has fewer than 5 cells.
    """
    counts = pd.Series([name for name in types if name], dtype="object").value_counts()
    if not len(counts):
        raise UserError("no cell has a type yet; give a few cells of each type theirs")
    if len(counts) == 1:
        raise UserError(f"all cells are of one type, {counts.index[0]!r}; give some cells another type")
    for name, count in counts.items():
        if count < FEWEST_OF_A_TYPE:
            cells = "one cell" if count == 1 else f"{count} cells"
            raise UserError(f"only {cells} of type {name!r}; give at least {FEWEST_OF_A_TYPE} cells that type")
    return tuple(sorted(str(name) for name in counts.index))


def _fit(
    table: pd.DataFrame, y: NDArray[np.int64], groups: NDArray[np.int64], names: tuple[str, ...], params: TypeParameters
) -> TypeModel:
    """Learn from these cells alone, their means and spreads included."""
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    mean, spread = table.mean().fillna(0).to_numpy(np.float64), table.std(ddof=0).fillna(0).to_numpy(np.float64)
    spread = np.where(spread > 1e-12, spread, 1.0)
    empty = TypeModel(names, tuple(table.columns), mean, spread, Line(np.zeros((0, 0)), np.zeros(0)))
    x = empty.standardised(table)
    with threadpool_limits(1):  # so small a sum takes ten times longer where threads wait for each other
        body = _line(x, y, groups, params.seed) if params.method == "logistic" else _trees(x, y, params.seed)
    return replace(empty, body=body)


def _line(x: Floats, y: NDArray[np.int64], groups: NDArray[np.int64], seed: int) -> Line:
    from sklearn.linear_model import LogisticRegression

    def fitted(strength: float, rows: NDArray[np.intp]) -> Line:
        model = LogisticRegression(C=strength, class_weight="balanced", max_iter=2000).fit(x[rows], y[rows])
        if len(model.coef_) == 1:  # of two types, half the line each way
            return Line(np.vstack([-model.coef_, model.coef_]) / 2, np.r_[-model.intercept_, model.intercept_] / 2)
        return Line(model.coef_, model.intercept_)

    strength = _STRENGTH
    splits, _ = folds(y, groups, _FOLDS_WITHIN, seed)
    if len(y) <= _TRIED_UP_TO and len(splits) > 1:
        loss = {
            tried: sum(
                _loss(fitted(tried, learned).scores(x[out]), y[out], _weights(y)[out]) for learned, out in splits
            )
            for tried in _STRENGTHS
        }
        strength = min(loss, key=lambda tried: loss[tried])
    return fitted(strength, np.arange(len(y)))


def _trees(x: Floats, y: NDArray[np.int64], seed: int) -> Trees:
    from sklearn.ensemble import GradientBoostingClassifier

    weights = _weights(y)
    model = GradientBoostingClassifier(
        n_estimators=_TREES,
        learning_rate=_RATE,
        max_depth=_DEPTH,
        subsample=_SHARE,
        max_features="sqrt",
        random_state=seed,
    ).fit(x, y, sample_weight=weights)
    kinds = len(np.unique(y))
    prior = np.bincount(y, weights) / weights.sum()
    # of two types, the trees speak for the second against the first
    start = np.array([0.0, np.log(prior[1] / prior[0])]) if kinds == 2 else np.log(prior)
    trees = [
        Tree(
            type=1 if kinds == 2 else kind,
            figure=one.tree_.feature.astype(np.int64),
            above=one.tree_.threshold.astype(np.float64),
            yes=one.tree_.children_left.astype(np.int64),
            no=one.tree_.children_right.astype(np.int64),
            value=_RATE * one.tree_.value[:, 0, 0],
        )
        for row in model.estimators_
        for kind, one in enumerate(row)
    ]
    return Trees(start, tuple(trees))


def _weights(y: NDArray[np.int64]) -> Floats:
    """One for each cell, so that all types weigh the same; 1 on average."""
    counts = np.bincount(y)
    result: Floats = len(y) / ((counts > 0).sum() * np.maximum(counts, 1)[y])
    return result


# ---------------------------------------------------------------------- scoring


def _loss(scores: Floats, y: NDArray[np.int64], weights: Floats) -> float:
    likely = softmax(scores)[np.arange(len(y)), y]
    return float(-(weights * np.log(np.maximum(likely, 1e-12))).sum())


def _temperature(held: Floats, y: NDArray[np.int64]) -> float:
    tried = np.geomspace(0.2, 10, 80)
    weights = _weights(y)
    return float(tried[np.argmin([_loss(held / one, y, weights) for one in tried])])


def _scores(likely: Floats, y: NDArray[np.int64], names: tuple[str, ...], by_image: bool) -> TypeScores:
    confusion, per_type = confusion_of(
        pd.Series([names[i] for i in y]), pd.Series([names[i] for i in likely.argmax(axis=1)]), names
    )
    right = likely.argmax(axis=1) == y
    tenth = np.minimum((likely.max(axis=1) * _BINS).astype(int), _BINS - 1)
    off = [abs(likely.max(axis=1)[tenth == one].sum() - right[tenth == one].sum()) for one in range(_BINS)]
    accuracy, balanced = float(right.mean()), float(per_type["recall"].mean())
    always = float(np.bincount(y).max() / len(y))
    where = "in images it did not learn from" if by_image else "of cells it did not learn from, in the same images"
    text = (
        f"Learned from {len(y)} cells of {len(names)} types: right for {accuracy:.0%} {where}"
        f" ({always:.0%} by always saying the same); mean over types {balanced:.0%}."
    )
    return TypeScores(accuracy, balanced, confusion, per_type, float(sum(off) / len(y)), by_image, text)


def confusion_of(
    truth: pd.Series[str], said: pd.Series[str], names: tuple[str, ...]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Counts (rows the true type, columns the one said), and per type ``precision``, ``recall``, ``cells``.

    Precision of a type that is never said is NaN, as is recall of one that no cell is of.
    """
    counts = pd.crosstab(truth.to_numpy(), said.to_numpy()).reindex(index=names, columns=names, fill_value=0)
    counts = counts.rename_axis(index="true", columns="said")
    matrix = counts.to_numpy(np.float64)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision, recall = matrix.diagonal() / matrix.sum(axis=0), matrix.diagonal() / matrix.sum(axis=1)
    per_type = pd.DataFrame(
        {"precision": precision, "recall": recall, "cells": matrix.sum(axis=1).astype(int)}, index=list(names)
    )
    return counts, per_type
