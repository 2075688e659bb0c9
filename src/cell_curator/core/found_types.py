"""How well cells of held-out images were found and told apart: confusion, shares that are right, COCO's mean AP."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment

from cell_curator.core.coco_scores import CocoScores, Said, Truth, coco_scores
from cell_curator.core.jobs import UserError

NOT_FOUND = "not found"

_SAME = 0.5  # overlap (IoU) from which a find is the true cell


@dataclass(frozen=True)
class FinderScores:
    """How a network did that finds cells and tells their types.

    Parameters
    ----------
    accuracy
        Share of true cells that were found and given their type.
    balanced
        The same, mean over the types.
    confusion
        Counts: rows the true type, columns the type said, and ``"not found"``.
    per_type
        Index type, columns ``precision``, ``recall``, ``cells``, ``ap50``, ``ap``.
    extra
        Finds where no cell is, among those sure enough to count.
    map50, map
        See `coco_scores`; NaN where pycocotools is not installed.
    images
        How many images were held out.
    text
        One line for the user.
    """

    accuracy: float
    balanced: float
    confusion: pd.DataFrame
    per_type: pd.DataFrame
    extra: int
    map50: float
    map: float
    images: int
    text: str
    by_image: bool = True

    def plain(self) -> dict[str, Any]:
        """For a card and for ``--json``; None for what is not known."""

        def known(value: float) -> float | None:
            return None if value != value else float(value)

        per_type = {
            str(kind): {str(key): known(value) for key, value in row.items()}
            for kind, row in self.per_type.to_dict("index").items()
        }
        return {
            "accuracy": known(self.accuracy),
            "balanced_accuracy": known(self.balanced),
            "map50": known(self.map50),
            "map": known(self.map),
            "extra": self.extra,
            "held_out": "images",
            "images": self.images,
            "confusion": {str(kind): dict(row) for kind, row in self.confusion.to_dict("index").items()},
            "per_type": per_type,
        }


def pairs(found: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]], least: float = _SAME) -> dict[int, int]:
    """For each true label the found one that is the same cell, if there is: one to one, by overlap (IoU)."""
    both = (found > 0) & (truth > 0)
    if not both.any():
        return {}
    cells, shared = np.unique(np.stack([truth[both], found[both]]), axis=1, return_counts=True)
    true_area, found_area = (dict(zip(*np.unique(one, return_counts=True), strict=True)) for one in (truth, found))
    whole = np.array([true_area[t] + found_area[f] for t, f in cells.T]) - shared
    iou = shared / whole
    cells, iou = cells[:, iou >= least], iou[iou >= least]
    true_values, rows = np.unique(cells[0], return_inverse=True)
    found_values, columns = np.unique(cells[1], return_inverse=True)
    gain = np.zeros((len(true_values), len(found_values)))
    gain[rows, columns] = 1 + iou
    chosen = [(t, f) for t, f in zip(*linear_sum_assignment(-gain), strict=True) if gain[t, f] > 0]
    return {int(true_values[t]): int(found_values[f]) for t, f in chosen}


def finder_scores(
    truth: Sequence[Truth], said: Sequence[Said], types: Sequence[str], least: float = 0.5
) -> FinderScores:
    """Score finds in held-out images.

    Parameters
    ----------
    least
        How likely a find must be a cell to count, but in the mean AP, for which all count by their score.
    """
    matrix = np.zeros((len(types), len(types) + 1))
    extra = 0
    for true, one in zip(truth, said, strict=True):
        sure = np.intersect1d(np.flatnonzero(one.likely.sum(axis=1) >= least) + 1, one.labels)
        same = pairs(np.where(np.isin(one.labels, sure), one.labels, 0), true.labels)
        extra += len(sure) - len(same)
        for label, kind in true.types.items():
            if kind in types:
                place = int(one.likely[same[label] - 1].argmax()) if label in same else len(types)
                matrix[list(types).index(kind), place] += 1
    counts = pd.DataFrame(matrix.astype(int), index=list(types), columns=[*types, NOT_FOUND])
    with np.errstate(invalid="ignore", divide="ignore"):
        right = np.diagonal(matrix)
        precision, recall = right / matrix[:, :-1].sum(axis=0), right / matrix.sum(axis=1)
        accuracy = float(right.sum() / matrix.sum())
    try:
        coco = coco_scores(truth, said, types)
    except UserError:  # without pycocotools the rest is worth having
        nothing = pd.DataFrame(np.nan, index=list(types), columns=["ap50", "ap"])
        coco = CocoScores(np.nan, np.nan, nothing)
    known = {"precision": precision, "recall": recall, "cells": matrix.sum(axis=1).astype(int)}
    per_type = pd.DataFrame(known, index=list(types)).join(coco.per_type)
    cells, missed = int(matrix.sum()), int(matrix[:, -1].sum())
    text = (
        f"{cells - missed} of {cells} cells found in {len(truth)} held-out images, {int(right.sum())} of them with"
        f" their type; {extra} finds are no cell that is known"
    )
    if coco.map50 == coco.map50:
        text += f"; mean AP@0.5 {coco.map50:.2f}"
    balanced = float(np.nanmean(recall)) if cells else float("nan")
    return FinderScores(accuracy, balanced, counts, per_type, extra, coco.map50, coco.map, len(truth), text + ".")
