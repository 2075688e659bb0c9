"""A trained classifier of cell types as plain numbers: what it is, how it answers, and itself as JSON.

It is made in `type_classifier`. Nothing is run to load it, and it needs no scikit-learn.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError

Floats = NDArray[np.float64]

FORMAT = "cell-curator cell types 1"


@dataclass(frozen=True)
class Line:
    """A straight line for each type (logistic regression): ``weights`` ``(K, F)``, ``start`` ``(K,)``."""

    weights: Floats
    start: Floats

    def scores(self, table: Floats) -> Floats:
        """Logarithms of the odds ``(N, K)`` for standardised figures ``(N, F)``."""
        result: Floats = table @ self.weights.T + self.start
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"kind": "line", "weights": self.weights.tolist(), "start": self.start.tolist()}


@dataclass(frozen=True)
class Tree:
    """Questions about one figure each: at node n, ``figure[n] <= above[n]`` goes to ``yes[n]``, else to ``no[n]``.

    A node whose ``figure`` is negative is a leaf, and ``value`` is what it adds. ``type`` is the number of the type
    it speaks for.
    """

    type: int
    figure: NDArray[np.int64]
    above: Floats
    yes: NDArray[np.int64]
    no: NDArray[np.int64]
    value: Floats

    def __call__(self, table: Floats) -> Floats:
        """What the tree adds for each row of standardised figures ``(N, F)``."""
        at = np.zeros(len(table), np.int64)
        rows = np.arange(len(table))
        for _ in range(len(self.figure)):  # children come behind their parent, so this many steps always do
            inside = self.figure[at] >= 0
            if not inside.any():
                break
            # the tree was grown on float32
            asked = table[rows, np.maximum(self.figure[at], 0)].astype(np.float32)
            at = np.where(inside, np.where(asked <= self.above[at], self.yes[at], self.no[at]), at)
        result: Floats = self.value[at]
        return result

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        arrays = {name: getattr(self, name).tolist() for name in ("figure", "above", "yes", "no", "value")}
        return {"type": self.type, **arrays}


@dataclass(frozen=True)
class Trees:
    """Trees that add up (gradient boosting), from ``start`` ``(K,)``."""

    start: Floats
    trees: tuple[Tree, ...]

    def scores(self, table: Floats) -> Floats:
        """Logarithms of the odds ``(N, K)`` for standardised figures ``(N, F)``."""
        total = np.tile(self.start, (len(table), 1))
        for tree in self.trees:
            total[:, tree.type] += tree(table)
        return total

    def to_json(self) -> dict[str, Any]:
        """Plain numbers."""
        return {"kind": "trees", "start": self.start.tolist(), "trees": [tree.to_json() for tree in self.trees]}


@dataclass(frozen=True)
class TypeModel:
    """What was learned.

    Parameters
    ----------
    types
        Names of the K types.
    figures
        Names of the F columns of `type_figures.type_figures`.
    mean, spread
        ``(F,)`` by which they are standardised; what is not known counts as the mean.
    body
        What it was learned as.
    temperature
        By which the logarithms of the odds are divided, so that a probability of 0.8 is right 8 times in 10.
    about
        How it was made and how good it is; plain values.
    """

    types: tuple[str, ...]
    figures: tuple[str, ...]
    mean: Floats
    spread: Floats
    body: Line | Trees
    temperature: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)

    def probabilities(self, table: pd.DataFrame) -> pd.DataFrame:
        """How likely each cell is of each type: one row for each cell, one column for each type; rows add up to 1.

        Raises
        ------
        UserError
            If ``table`` lacks figures that the model was learned from.
        """
        missing = [name for name in self.figures if name not in table]
        if missing:
            raise UserError(f"the cells lack {missing[0]!r}, from which the model was learned; measure them anew")
        scores = self.body.scores(self.standardised(table)) / self.temperature
        return pd.DataFrame(softmax(scores), index=table.index, columns=list(self.types))

    def standardised(self, table: pd.DataFrame) -> Floats:
        """Figures ``(N, F)`` without gaps, the mean at 0."""
        numbers = (table[list(self.figures)].to_numpy(np.float64) - self.mean) / self.spread
        # a figure far beyond all that was learned from must not decide alone
        return np.nan_to_num(numbers, nan=0.0).clip(-10, 10)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with the model."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words."""
        return {
            "format": FORMAT,
            "types": list(self.types),
            "figures": list(self.figures),
            "mean": self.mean.tolist(),
            "spread": self.spread.tolist(),
            "temperature": self.temperature,
            "body": self.body.to_json(),
            "about": dict(self.about),
        }


def from_json(said: Any) -> TypeModel:
    """What `TypeModel.to_json` said.

    Raises
    ------
    ValueError
        If it is something else or was damaged.
    """
    if not isinstance(said, Mapping) or said.get("format") != FORMAT:
        raise ValueError("it is no model of cell types")
    try:
        body = said["body"]
        made: Line | Trees
        if body["kind"] == "line":
            made = Line(_floats(body["weights"]), _floats(body["start"]))
        else:
            made = Trees(_floats(body["start"]), tuple(_tree(tree) for tree in body["trees"]))
        model = TypeModel(
            types=tuple(map(str, said["types"])),
            figures=tuple(map(str, said["figures"])),
            mean=_floats(said["mean"]),
            spread=_floats(said["spread"]),
            body=made,
            temperature=float(said["temperature"]),
            about=dict(said["about"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from error
    _check(model)
    return model


def softmax(scores: Floats) -> Floats:
    """Logarithms of the odds as probabilities; rows add up to 1."""
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    result: Floats = powers / powers.sum(axis=1, keepdims=True)
    return result


def _floats(values: Any) -> Floats:
    return np.asarray(values, np.float64)


def _tree(said: Mapping[str, Any]) -> Tree:
    figure, yes, no = (np.asarray(said[name], np.int64) for name in ("figure", "yes", "no"))
    return Tree(int(said["type"]), figure, _floats(said["above"]), yes, no, _floats(said["value"]))


def _check(model: TypeModel) -> None:
    """Sizes that fit, so that a damaged file is refused when it is read and not when it is used."""
    kinds, figures = len(model.types), len(model.figures)
    fits = kinds > 1 and model.mean.shape == model.spread.shape == (figures,) and model.body.start.shape == (kinds,)
    if isinstance(model.body, Line):
        fits = fits and model.body.weights.shape == (kinds, figures)
    else:
        fits = fits and all(_tree_fits(tree, kinds, figures) for tree in model.body.trees)
    if not fits or not model.temperature > 0 or not (model.spread > 0).all():
        raise ValueError("its numbers do not fit together")


def _tree_fits(tree: Tree, kinds: int, figures: int) -> bool:
    count = len(tree.figure)
    inside = tree.figure >= 0
    there = np.arange(count)[inside]
    same = all(len(part) == count for part in (tree.above, tree.yes, tree.no, tree.value))
    if not (count and same and 0 <= tree.type < kinds and tree.figure.max() < figures):
        return False
    children = (tree.yes[inside], tree.no[inside])
    return all(bool(((side > there) & (side < count)).all()) for side in children)
