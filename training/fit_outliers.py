"""Grow the trees that weigh the evidence for bad cells: writes ``src/cell_curator/core/evidence.json``.

    python training/fit_outliers.py [--check]

Faults are put three times into the DSB2018 groups that are not held out and ten times into the first six images of
Usiigaci, as ``benchmarks/outliers.py`` does, and each fault is told from untouched cells by boosted trees.
``--check`` writes nothing: it leaves out a fourth of the groups (of Usiigaci: images) at a time and judges those.
What is held out is judged by that benchmark.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier

from cell_curator.core import weighing
from cell_curator.core.population import Population
from cell_curator.core.trees import DEPTH, FILE, Trees

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from outliers import FAULTS, SHARE, dsb2018, judge, spoil, usiigaci  # noqa: E402

NUCLEI_SEEDS, PHASE_SEEDS = (7, 8, 9), tuple(range(10))
TOLD = tuple(name for name in FAULTS if name != "saturated")  # that one is measured, not weighed
FOLDS = 4
_TREES = 150
_SMALLEST_POPULATION = 8


def spoiled() -> list[pd.DataFrame]:
    """All cells with faults, a table for each set and seed; ``group`` is what is left out together."""
    nuclei, phase = list(dsb2018(False)), list(usiigaci())[:6]
    tables = [spoil(nuclei, FAULTS, SHARE, seed).assign(kind="nuclei") for seed in NUCLEI_SEEDS]
    tables += [spoil(phase, FAULTS, SHARE, seed).assign(kind="phase") for seed in PHASE_SEEDS]
    for rows in tables:
        rows["group"] = rows["condition"].where(rows["kind"] == "nuclei", "image " + rows["image"].astype(str))
    return [rows.reset_index(drop=True) for rows in tables]


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Figures of all cells; what is missing counts as usual."""
    return pd.DataFrame(weighing.whole_figures(Population(rows, _SMALLEST_POPULATION)))


def grow(known: pd.DataFrame, fault: NDArray[Any]) -> dict[str, Trees]:
    """Trees for each fault, told from untouched cells; for pieces of cells only of cells with a neighbour."""
    grown = {}
    for name in TOLD:
        chosen = np.isin(fault, ["", name])
        if name == "cut":
            chosen &= (known["contact"] > 0).to_numpy()
        fit = HistGradientBoostingClassifier(
            max_iter=_TREES, learning_rate=0.07, max_depth=DEPTH, max_features=0.3, min_samples_leaf=40,
            l2_regularization=5.0, early_stopping=False, random_state=0,
        ).fit(known[chosen].to_numpy(), fault[chosen] == name)  # fmt: skip
        grown[name] = _plain(fit, tuple(known.columns))
    return grown


def _plain(fit: Any, names: tuple[str, ...]) -> Trees:
    """The numbers of scikit-learn's trees, with all questions of a tree asked to the same depth."""
    inner, count = 2**DEPTH - 1, len(fit._predictors)
    asked, above = np.zeros((count, inner), np.int64), np.zeros((count, inner))
    leaves = np.zeros((count, inner + 1))
    for tree, (predictor,) in enumerate(fit._predictors):
        waiting = [(0, 0)]
        while waiting:
            place, number = waiting.pop()
            node = predictor.nodes[number]
            if place >= inner:
                leaves[tree, place - inner] = node["value"]
            elif node["is_leaf"]:  # a question that is not asked: the same leaf either way
                waiting += [(2 * place + 1, number), (2 * place + 2, number)]
            else:
                asked[tree, place], above[tree, place] = node["feature_idx"], node["num_threshold"]
                waiting += [(2 * place + 1, node["left"]), (2 * place + 2, node["right"])]
    used, places = np.unique(asked, return_inverse=True)
    figures = tuple(names[number] for number in used)
    return Trees(figures, places.reshape(asked.shape), above, leaves, float(np.ravel(fit._baseline_prediction)[0]))


def check(tables: list[pd.DataFrame], known: list[pd.DataFrame]) -> None:
    """Print what is reached on groups that were not learned from; of each set only the first seed is judged."""
    fold: dict[Any, int] = {}
    for rows in (tables[0], tables[-1]):
        groups = rows["group"].unique()
        fold |= dict(zip(groups, np.random.default_rng(0).permutation(len(groups)) % FOLDS, strict=True))
    held = [rows["group"].map(fold).to_numpy() for rows in tables]
    for kind, first in (("nuclei", 0), ("phase", len(NUCLEI_SEEDS))):
        results = []
        for left_out in range(FOLDS):
            trees = grow(*_stacked(tables, known, [fold != left_out for fold in held]))
            weighing.shipped = lambda trees=trees: trees  # type: ignore[attr-defined]
            mine = judge(tables[first][held[first] == left_out].reset_index(drop=True))
            results.append(pd.DataFrame(mine).T)
        print(kind, pd.concat(results).groupby(level=0).mean().round(3).to_string(), sep="\n", flush=True)


def _stacked(
    tables: list[pd.DataFrame], known: list[pd.DataFrame], chosen: list[NDArray[np.bool_]]
) -> tuple[pd.DataFrame, NDArray[Any]]:
    x = pd.concat([one[rows] for one, rows in zip(known, chosen, strict=True)], ignore_index=True)
    fault = np.concatenate([one["fault"].to_numpy()[rows] for one, rows in zip(tables, chosen, strict=True)])
    return x, fault


def write(trees: Mapping[str, Trees]) -> None:
    """All of them into the one file."""
    FILE.write_text(json.dumps({name: one.to_json() for name, one in trees.items()}, separators=(",", ":")) + "\n")


def main() -> None:
    """Grow and write."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--check", action="store_true")
    given = parser.parse_args()
    tables = spoiled()
    known = [table(rows) for rows in tables]
    if given.check:
        check(tables, known)
    else:
        write(grow(*_stacked(tables, known, [np.ones(len(rows), bool) for rows in tables])))


if __name__ == "__main__":
    main()
