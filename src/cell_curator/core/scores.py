"""How well a label image agrees with the truth: AP, precision, recall, F1, splits, merges, misses.

Counts objects, not pixels. Average precision is ``TP / (TP + FP + FN)`` as in Cellpose (Stringer
et al. 2021) and StarDist (Schmidt et al. 2018), not the area under a precision–recall curve.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from scipy.sparse import coo_matrix

THRESHOLDS = (0.5, 0.75, 0.9)
"""Intersection over union at which AP is given."""

SHARE = 0.5
"""Part of a cell that another must cover to count as a piece of it (splits and merges)."""


@dataclass(frozen=True)
class Scores:
    """Agreement of one predicted label image with the true one.

    Parameters
    ----------
    ap
        Average precision by IoU threshold; 1.0 where neither image has a cell.
    precision, recall, f1
        At IoU 0.5. Precision is 1.0 where nothing was predicted and nothing was there, and 0.0
        where nothing was predicted though cells were there; recall the other way round.
    splits
        True cells covered by two or more predicted cells that each lie mostly inside it.
    merges
        Predicted cells that cover most of two or more true cells.
    misses
        True cells without a predicted cell at IoU 0.5.
    n_predicted, n_true
        Number of cells.
    """

    ap: dict[float, float]
    precision: float
    recall: float
    f1: float
    splits: int
    merges: int
    misses: int
    n_predicted: int
    n_true: int


def evaluate(predicted: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]]) -> Scores:
    """Compare two label images.

    Parameters
    ----------
    predicted, truth
        ``(Y, X)`` integers, 0 = background. Label values need not be consecutive.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != truth.shape:
        raise ValueError(f"the label images differ in shape: {predicted.shape} and {truth.shape}")
    shared, predicted_area, true_area = _overlap(predicted, truth)
    n_predicted, n_true = len(predicted_area), len(true_area)
    rows, cols, inter = shared.row, shared.col, shared.data
    iou = inter / (true_area[rows] + predicted_area[cols] - inter)
    ap, matched = {}, 0
    for threshold in THRESHOLDS:
        hits = _matches(rows, cols, iou, threshold)
        matched = hits if threshold == 0.5 else matched
        ap[threshold] = _ratio(hits, n_predicted + n_true - hits)
    within = np.bincount(rows[inter > SHARE * predicted_area[cols]], minlength=n_true)
    covers = np.bincount(cols[inter > SHARE * true_area[rows]], minlength=n_predicted)
    nothing = n_predicted == n_true == 0
    return Scores(
        ap=ap,
        precision=1.0 if nothing else matched / max(n_predicted, 1),
        recall=1.0 if nothing else matched / max(n_true, 1),
        f1=_ratio(2 * matched, n_predicted + n_true),
        splits=int((within > 1).sum()),
        merges=int((covers > 1).sum()),
        misses=n_true - matched,
        n_predicted=n_predicted,
        n_true=n_true,
    )


def _ratio(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _overlap(
    predicted: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]]
) -> tuple[coo_matrix, NDArray[np.int64], NDArray[np.int64]]:
    """Shared pixels ``(n_true, n_predicted)`` as a sparse matrix, and the areas of both sides."""
    true_values, i = np.unique(truth, return_inverse=True)
    predicted_values, j = np.unique(predicted, return_inverse=True)
    ones = np.ones(truth.size, dtype=np.int64)
    shape = (len(true_values), len(predicted_values))
    table = coo_matrix((ones, (i.ravel(), j.ravel())), shape=shape).tocsr()
    keep_true, keep_predicted = np.flatnonzero(true_values != 0), np.flatnonzero(predicted_values != 0)
    true_area = np.bincount(i.ravel(), minlength=len(true_values))[keep_true]
    predicted_area = np.bincount(j.ravel(), minlength=len(predicted_values))[keep_predicted]
    return table[keep_true][:, keep_predicted].tocoo(), predicted_area, true_area


def _matches(
    rows: NDArray[np.integer[Any]], cols: NDArray[np.integer[Any]], iou: NDArray[np.float64], threshold: float
) -> int:
    """Number of one-to-one pairs with IoU of at least ``threshold``.

    Above 0.5 a cell has at most one partner, so the pairs are simply counted. At exactly 0.5 it
    can have two, and the best assignment decides.
    """
    good = iou >= threshold
    rows, cols, iou = rows[good], cols[good], iou[good]
    if len(rows) == len(np.unique(rows)) == len(np.unique(cols)):
        return len(rows)
    true_side, r = np.unique(rows, return_inverse=True)
    predicted_side, c = np.unique(cols, return_inverse=True)
    gain = np.zeros((len(true_side), len(predicted_side)))
    gain[r, c] = 1 + iou
    chosen = linear_sum_assignment(-gain)
    return int((gain[chosen] > 0).sum())


JUDGED = 0.1
"""Part of a predicted cell that must lie on labelled cells for it to count as lying there."""


def reviewed_ap(
    predicted: NDArray[np.integer[Any]],
    labels: NDArray[np.integer[Any]],
    reviewed: Collection[int],
    rejected: Collection[int] = (),
) -> float:
    """AP at IoU 0.5 where only some cells were reviewed; what nobody looked at counts neither way.

    Found are reviewed cells with a partner, missed are those without. Wrong are predicted cells
    without partner that lie on reviewed or rejected cells with more than `JUDGED` of their area.

    Parameters
    ----------
    predicted, labels
        ``(Y, X)`` integers, 0 = background.
    reviewed, rejected
        Label values that a person called cells, or no cells.

    Returns
    -------
    0..1; NaN where no reviewed cell is in the picture.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != labels.shape:
        raise ValueError(f"the label images differ in shape: {predicted.shape} and {labels.shape}")
    truth = np.where(np.isin(labels, list(reviewed)), labels, 0)
    shared, predicted_area, true_area = _overlap(predicted, truth)
    if not len(true_area):
        return float("nan")
    iou = shared.data / (true_area[shared.row] + predicted_area[shared.col] - shared.data)
    hits = _matches(shared.row, shared.col, iou, 0.5)
    # A partner lies on a reviewed cell by half or more, so it is among those that lie there.
    wrong = int(_lying_on(predicted, np.isin(labels, [*reviewed, *rejected])).sum()) - hits
    return hits / (len(true_area) + wrong)


def surplus(predicted: NDArray[np.integer[Any]], labels: NDArray[np.integer[Any]]) -> int:
    """Number of predicted cells where no cell is labelled: below `JUDGED` of their area lies on any.

    They may be cells that nobody labelled, or noise; `reviewed_ap` passes over them.
    """
    return int((~_lying_on(predicted, labels != 0)).sum())


def _lying_on(predicted: NDArray[np.integer[Any]], there: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Which predicted cells, by ascending label, lie on a mask with more than `JUDGED` of their area."""
    values, place = np.unique(predicted, return_inverse=True)
    area = np.bincount(place.ravel(), minlength=len(values))
    inside = np.bincount(place.ravel(), there.ravel(), minlength=len(values))
    lying: NDArray[np.bool_] = (inside > JUDGED * area)[values != 0]
    return lying


def judged(predicted: NDArray[np.int32], known: NDArray[np.bool_]) -> NDArray[np.int32]:
    """The predicted cells that can be called right or wrong: half or more of them lies where the truth is known.

    Parameters
    ----------
    predicted
        ``(Y, X)``, 0 = background.
    known
        ``(Y, X)``: where a person said of every pixel what it is.
    """
    area = np.bincount(predicted.ravel())
    inside = np.bincount(predicted.ravel(), known.ravel(), minlength=len(area))
    kept = 2 * inside >= area
    kept[0] = False
    return np.where(kept[predicted], predicted, 0).astype(np.int32)


@dataclass(frozen=True)
class Summary:
    """Scores of several images: means of AP over images, sums of the counts."""

    ap50: float
    ap75: float
    ap90: float
    splits: int
    merges: int
    misses: int
    images: int
    cells: int


def summary(scores: Sequence[Scores]) -> Summary | None:
    """All of them in one; None for none."""
    if not scores:
        return None
    ap50, ap75, ap90 = (float(np.mean([one.ap[iou] for one in scores])) for iou in THRESHOLDS)
    splits, merges, misses, cells = (
        sum(getattr(one, name) for one in scores) for name in ("splits", "merges", "misses", "n_true")
    )
    return Summary(ap50, ap75, ap90, splits, merges, misses, len(scores), cells)
