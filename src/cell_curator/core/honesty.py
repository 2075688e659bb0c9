"""Scores that say what they were taken on, with the control that a score with a label in it must be read beside.

A conditional autoencoder is told the condition. Whoever clusters its code *with* the condition's
embedding appended finds the conditions again, perfectly, and so does one who appends that embedding
to pure noise. Here the code carries no label, and "noise ⊕ label" stands beside every number that
had a chance to see one.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clustering import ClusterParameters, cluster, quality

ALL, HELD_BACK = "all cells", "images held back"
NOISE_AND_LABEL = "noise ⊕ label (control)"
_MOST = 5000
_LOUD = 4.0

_SCORES = {
    "silhouette": "silhouette, −1 to 1",
    "davies_bouldin": "Davies–Bouldin, lower is better",
    "calinski_harabasz": "Calinski–Harabasz, higher is better",
}


@dataclass(frozen=True)
class HonestyRow:
    """One score: what was measured, in which space, on which cells, and the number (NaN: undefined)."""

    what: str
    space: str
    split: str
    value: float


def honesty_rows(
    latent: NDArray[Any],
    map2d: NDArray[Any],
    clusters: NDArray[np.integer[Any]],
    params: ClusterParameters,
    *,
    space: str = "latent",
    scores: dict[str, float | None] | None = None,
    conditions: Sequence[str] | NDArray[Any] = (),
    held_back: NDArray[np.bool_] | None = None,
    conditional: bool = False,
) -> tuple[HonestyRow, ...]:
    """The scores of a clustering, each with its space and split.

    Parameters
    ----------
    latent, map2d, clusters
        (N, D), (N, 2), (N,) of the cells on the map.
    space, scores
        Where the clusters were made, and the scores taken there then.
    conditions
        (N,) condition of each cell; with two or more, how far clusters follow them, and the control.
    held_back
        (N,) cells of images that the network never learned from.
    conditional
        Whether the network was told the condition; then the control comes even without need.
    """
    clusters = np.asarray(clusters)
    rows = [HonestyRow(title, space, ALL, _number((scores or {}).get(key))) for key, title in _SCORES.items()]
    places = [("latent", np.asarray(latent)), ("map", np.asarray(map2d))]
    title = _SCORES["silhouette"]
    for name, points in places:
        if name != space:
            rows.append(HonestyRow(title, name, ALL, quality(points, clusters, params.seed)["silhouette"]))
    if held_back is not None and held_back.any():
        part = quality(np.asarray(latent)[held_back], clusters[held_back], params.seed)["silhouette"]
        rows.append(HonestyRow(title, "latent", HELD_BACK, part))
    known = list(dict.fromkeys(conditions))
    if len(known) < 2:
        return tuple(rows)
    truth = np.array([known.index(value) for value in conditions])
    what = "condition guessed from the cluster (share of cells)"
    rows.append(HonestyRow("the same, always guessing the most frequent", "none", ALL, _most_frequent(truth)))
    rows.insert(-1, HonestyRow(what, space, ALL, majority_accuracy(clusters, truth)))
    if conditional:
        what = "the code has no label in it; with one, even noise would score"
    else:
        what = "the same for noise with the condition appended"
    rows.append(HonestyRow(what, NOISE_AND_LABEL, ALL, noise_and_label(truth, latent.shape[1], params)))
    return tuple(rows)


def noise_and_label(truth: NDArray[np.integer[Any]], dims: int, params: ClusterParameters | None = None) -> float:
    """How well clusters of pure noise with a label embedding appended "find" the labels: 1.

    As the leak did it: ``dims`` normal numbers for each cell, and beside them an embedding of its label of the
    same length. Its spread is four times that of the noise, as a decoder that leans on the label makes it.
    """
    params = params or ClusterParameters()
    truth, rng = np.asarray(truth), np.random.default_rng(params.seed)
    if len(truth) > _MOST:
        truth = truth[rng.choice(len(truth), _MOST, replace=False)]
    labels = np.unique(truth, return_inverse=True)[1]
    embedding = rng.normal(scale=_LOUD, size=(int(labels.max()) + 1, dims))
    points = np.hstack([rng.normal(size=(len(labels), dims)), embedding[labels]])
    chosen = params.model_copy(update={"method": "kmeans", "k": max(params.k, len(embedding))})
    return majority_accuracy(cluster(points, chosen).labels, labels)


def majority_accuracy(clusters: NDArray[np.integer[Any]], truth: NDArray[np.integer[Any]]) -> float:
    """Share of cells whose class is the most frequent one of their cluster; cells in none count as wrong."""
    if not len(truth):
        return math.nan
    right = 0
    for number in np.unique(clusters[clusters >= 0]):
        right += int(np.bincount(truth[clusters == number]).max())
    return right / len(truth)


def _most_frequent(truth: NDArray[np.integer[Any]]) -> float:
    return float(np.bincount(truth).max() / len(truth))


def _number(value: float | None) -> float:
    return math.nan if value is None else float(value)
