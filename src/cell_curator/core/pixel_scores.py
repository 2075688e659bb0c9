"""How well a mask agrees with the truth, pixel by pixel; scores of cells are in `scores`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class PixelScores:
    """Agreement of masks with the truth, 0..1; what is 0 of 0 counts as 1.

    ``auc`` is the area under the ROC curve of probabilities, NaN where none were given or where all pixels
    of the truth are alike. ``error`` is that of the cover in points (per cent of the area), predicted less true.
    """

    precision: float
    recall: float
    f1: float
    iou: float
    auc: float
    error: float


def pixel_scores(
    predicted: NDArray[np.bool_], truth: NDArray[np.bool_], probability: NDArray[Any] | None = None
) -> PixelScores:
    """Compare a mask with the true one, both of one shape.

    Parameters
    ----------
    probability
        How sure each pixel is foreground, not yet cut by a threshold. The order counts alone.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if predicted.shape != truth.shape or (probability is not None and probability.shape != truth.shape):
        raise ValueError(f"the masks differ in shape: {predicted.shape} and {truth.shape}")
    hits, found, there = (int(mask.sum()) for mask in (predicted & truth, predicted, truth))
    return PixelScores(
        precision=_share(hits, found),
        recall=_share(hits, there),
        f1=_share(2 * hits, found + there),
        iou=_share(hits, found + there - hits),
        auc=float("nan") if probability is None else auc(probability, truth),
        error=100.0 * (found - there) / truth.size if truth.size else 0.0,
    )


def auc(probability: NDArray[Any], truth: NDArray[np.bool_]) -> float:
    """Area under the ROC curve: how often a true pixel has more than a false one, ties counting half.

    By ranks (Mann and Whitney 1947), so exact; NaN where all pixels of the truth are alike.
    """
    values, place = np.unique(probability, return_inverse=True)
    true = np.bincount(place.ravel()[truth.ravel()], minlength=len(values)).astype(np.float64)
    false = np.bincount(place.ravel()[~truth.ravel()], minlength=len(values)).astype(np.float64)
    if not true.sum() or not false.sum():
        return float("nan")
    below = np.cumsum(false) - false
    return float((true * (below + false / 2)).sum() / (true.sum() * false.sum()))


def mean_absolute_error(estimates: Sequence[float], truths: Sequence[float]) -> float:
    """Mean of the distances between estimated and true cover, in their unit; NaN for none."""
    if len(estimates) != len(truths):
        raise ValueError(f"{len(estimates)} estimates for {len(truths)} truths")
    return float(np.abs(np.subtract(estimates, truths)).mean()) if len(estimates) else float("nan")


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0
