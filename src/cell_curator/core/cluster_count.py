"""How many clusters there are: what speaks for each number, and one that can be defended.

Three witnesses that know nothing of conditions: the Bayesian information criterion of a Gaussian
mixture (fewer is better; only where the method is a mixture), the silhouette, and whether the same
groups come back when only some of the cells are taken. They may disagree, and the table shows it.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.clustering import FEW_STARTS, ClusterParameters, cluster, quality
from cell_curator.core.jobs import Job, Progress, UserError, drive

_MOST = 2000  # cells looked at; a fit of ten Gaussians to 2000 cells takes half a second
_PAIRS = 3  # pairs of samples whose groups are compared
_STABLE = 0.75
_FAINT = 0.6


@dataclass(frozen=True)
class KSuggestion:
    """What speaks for each number of clusters.

    Attributes
    ----------
    table
        Indexed by ``k``: ``bic`` (lower is better, NaN for k-means), ``silhouette`` and ``stability`` (0 chance to
        1, the same groups from every sample of the cells).
    k
        The number proposed.
    why
        One sentence.
    notes
        What the user should know, one sentence each.
    """

    table: pd.DataFrame
    k: int
    why: str
    notes: tuple[str, ...] = ()


def suggest_k(
    points: NDArray[Any], params: ClusterParameters | None = None, ks: Sequence[int] = range(2, 11)
) -> KSuggestion:
    """`suggesting_k`, waited for."""
    return drive(suggesting_k(points, params, ks))


def suggesting_k(
    points: NDArray[Any], params: ClusterParameters | None = None, ks: Sequence[int] = range(2, 11)
) -> Job[KSuggestion]:
    """Propose a number of clusters for ``points`` (N, D), as a job.

    Of the numbers whose groups come back from sample to sample (of all, if none do), the one with the best mean
    rank over the witnesses, the smaller of two that tie.

    Raises
    ------
    UserError
        If there are too few cells, or the method finds the number itself.
    """
    params = params or ClusterParameters()
    if params.method == "hdbscan":
        raise UserError("hdbscan finds the number of clusters itself; choose gmm or kmeans for a suggestion")
    x, rng = np.asarray(points, np.float64), np.random.default_rng(params.seed)
    if len(x) > _MOST:
        x = x[rng.choice(len(x), _MOST, replace=False)]
    possible = [k for k in ks if 2 <= k <= len(np.unique(x, axis=0)) // 5]
    if not possible:
        raise UserError(f"{len(x)} cells are too few to say how many groups there are; choose the number by eye")
    rows = []
    for index, k in enumerate(possible):
        yield Progress(index / len(possible), f"{k} clusters")
        chosen = params.model_copy(update={"k": k})
        rows.append({
            "k": k,
            "bic": _bic(x, chosen),
            "silhouette": quality(x, cluster(x, chosen, starts=FEW_STARTS).labels, params.seed)["silhouette"],
            "stability": _agreement(x, chosen, rng),
        })  # fmt: skip
    table = pd.DataFrame(rows).set_index("k")
    k, why = _choice(table)
    return KSuggestion(table, k, why, _notes(x, table, k, params))


def _choice(table: pd.DataFrame) -> tuple[int, str]:
    from scipy.stats import rankdata

    ks = table.index.to_numpy()
    bic, silhouette, stability = (table[name].to_numpy(np.float64) for name in ("bic", "silhouette", "stability"))
    ranks = [rankdata(-silhouette), rankdata(-stability.round(2))]
    said = [f"silhouette is best at {ks[silhouette.argmax()]}"]
    if not np.isnan(bic).any():
        ranks.append(rankdata(bic))
        said.insert(0, f"BIC is lowest at {ks[bic.argmin()]}")
    mean = np.mean(ranks, axis=0)
    if (stability >= _STABLE).any():  # groups that do not come back are none, whatever else speaks for them
        mean = np.where(stability >= _STABLE, mean, np.inf)
    best = int(mean.argmin())
    k = int(ks[best])
    said.append(f"samples of the cells give the same {k} groups to {stability[best]:.2f} (0 chance, 1 always)")
    return k, f"{k} clusters: {', '.join(said)}"


def _notes(x: NDArray[np.float64], table: pd.DataFrame, k: int, params: ClusterParameters) -> tuple[str, ...]:
    notes = []
    if table["stability"].max() < _FAINT:
        notes.append("no number of clusters comes back from sample to sample: the cells are a continuum, not groups")
    elif (table["stability"] >= _STABLE).sum() > 1:
        fine = ", ".join(str(other) for other in table.index[table["stability"] >= _STABLE] if other != k)
        notes.append(f"these numbers give groups that come back, too: {fine}")
    if params.method == "gmm" and _bic(x, params.model_copy(update={"k": 1})) <= table["bic"].min():
        notes.append("one Gaussian describes the cells as well as several: there may be no groups at all")
    return tuple(notes)


def _bic(x: NDArray[np.float64], params: ClusterParameters) -> float:
    if params.method != "gmm":
        return math.nan
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    model = GaussianMixture(
        params.k,
        covariance_type=params.covariance,
        reg_covar=1e-6 + 1e-3 * float(x.var(axis=0).mean()),
        n_init=FEW_STARTS,
        random_state=params.seed,
    )
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore", ConvergenceWarning)
        return float(model.fit(x).bic(x))


def _agreement(x: NDArray[np.float64], params: ClusterParameters, rng: np.random.Generator) -> float:
    """Mean adjusted Rand index of the groups of two samples of four fifths of the cells, on the cells in both."""
    from sklearn.metrics import adjusted_rand_score

    found = []
    for pair in range(_PAIRS):
        labels = []
        for side in range(2):
            chosen = np.sort(rng.permutation(len(x))[: max(len(x) * 4 // 5, 2)])
            seeded = params.model_copy(update={"seed": params.seed + 2 * pair + side + 1})
            there = np.full(len(x), -1, np.int64)
            there[chosen] = cluster(x[chosen], seeded, starts=FEW_STARTS).labels
            labels.append(there)
        both = (labels[0] >= 0) & (labels[1] >= 0)
        found.append(adjusted_rand_score(labels[0][both], labels[1][both]))
    return float(np.mean(found))
