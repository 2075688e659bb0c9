"""Group cells by their coordinates in an embedding, and say how good the groups are.

The points are whatever the caller hands over: posterior means (``space="latent"``), the 2-D
map (``space="map"``) or a UMAP of the latent in more dimensions (see `space_points`). Scores
from different spaces must not be compared, so the space travels with the result. No condition,
label or verdict ever enters: a clustering that has seen the answer proves nothing.
"""

from __future__ import annotations

import itertools
import math
import warnings
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.embedding import MapParameters, fallback_note, project
from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import Parameters, parameter

NOISE = -1
"""Cluster number of points that belong to no cluster."""

STARTS, FEW_STARTS = 10, 3
"""Of a mixture. Of three starts the likeliest was a poor optimum for half of the maps that were tried; three will do
where groups are only made to be compared with others."""

_MANY = 60_000  # cells; ten starts would take a minute
_SILHOUETTE_SAMPLE = 5000  # pairwise distances: 5000 points take 0.5 s, 50 000 would take a minute
_UNDEFINED = {"silhouette": math.nan, "davies_bouldin": math.nan, "calinski_harabasz": math.nan}


class ClusterParameters(Parameters):
    """How cells are grouped."""

    method: Literal["gmm", "kmeans", "hdbscan"] = parameter(
        "gmm",
        "Method",
        "gmm: Gaussian mixture, clusters may be long and overlap. kmeans: compact clusters of similar "
        "extent. hdbscan: dense groups, finds their number itself and leaves odd cells out.",
    )
    k: int = parameter(4, "Clusters", "Number of clusters (hdbscan finds its own).", ge=1, le=50, step=1)
    space: Literal["latent", "umap", "map"] = parameter(
        "latent",
        "Group by",
        "latent: all learned features. umap: a UMAP of them in more dimensions than the map has, which draws groups "
        "together. map: the two coordinates of the map, as seen on screen.",
        more=True,
    )
    dims: int = parameter(
        10, "Dimensions", "umap: dimensions of the space that cells are grouped in.", ge=2, le=50, more=True
    )
    covariance: Literal["full", "diag", "spherical"] = parameter(
        "full", "Shape", "Shape of a Gaussian: full, along the axes, or round.", more=True
    )
    min_size: int = parameter(
        15,
        "Smallest cluster",
        "hdbscan: fewer cells than this are no cluster.",
        unit="cells",
        ge=2,
        more=True,
    )
    seed: int = parameter(0, "Seed", "The same seed gives the same clusters.", ge=0, more=True)


@dataclass(frozen=True)
class Clustering:
    """Clusters of N points.

    Attributes
    ----------
    labels
        (N,) int64 cluster of each point, 0 = the largest cluster, -1 = noise.
    scores
        ``silhouette`` (-1..1, higher is better), ``davies_bouldin`` (lower is better),
        ``calinski_harabasz`` (higher is better) of the points that are not noise; NaN where a
        score is undefined. Computed in ``space``.
    space, method, k
        Where and how; ``k`` is the number of clusters found.
    notes
        What the user should know, one sentence each.
    """

    labels: NDArray[np.int64]
    scores: dict[str, float]
    space: str
    method: str
    k: int
    notes: tuple[str, ...] = ()


def space_points(
    latent: NDArray[np.float32], map2d: NDArray[np.float32], params: ClusterParameters
) -> tuple[NDArray[np.float32], str]:
    """The points to group, and the name of their space: ``"latent"``, ``"map"`` or ``"UMAP 10-D"``.

    The UMAP is that of N2D (McConville et al. 2021, arXiv:1908.05968): no distance between neighbours, so that
    groups draw together. For fewer than 15 cells it is the latent itself.
    """
    if params.space == "map":
        return map2d, "map"
    dims = min(params.dims, max(len(latent) - 2, 1))
    if params.space == "latent" or fallback_note(len(latent)):
        return latent, "latent"
    return project(latent, dims, MapParameters(neighbours=20, min_dist=0.0), params.seed), f"UMAP {dims}-D"


def cluster(
    points: NDArray[Any], params: ClusterParameters | None = None, space: str = "", *, starts: int = STARTS
) -> Clustering:
    """Group ``points``.

    Parameters
    ----------
    points
        (N, D) coordinates. No labels, conditions or cell numbers among the columns.
    params
        Method, number of clusters, seed.
    space
        What the points are, for the result to say; ``params.space`` if not given.
    starts
        How often a mixture is begun afresh; the likeliest counts.

    Raises
    ------
    UserError
        If a coordinate is not a finite number.
    """
    params = params or ClusterParameters()
    x = np.asarray(points, dtype=np.float64)
    if x.ndim != 2:
        raise ValueError(f"points must be (N, D), not {x.shape}")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise UserError(
            f"clustering: {bad.sum()} of {len(x)} cells have coordinates that are not numbers; "
            "compute the embedding again or leave these cells out"
        )
    k, notes = _possible_k(x, params)
    if len(x) == 0 or (k == 1 and params.method != "hdbscan"):
        labels = np.zeros(len(x), np.int64)
    else:
        from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

        # on a busy machine threads waiting for one another made 5000 cells take 10 times longer
        with threadpool_limits(1):
            labels, more = _fit(x, params, k, starts)
        notes += more
    labels = by_size(labels)
    return Clustering(
        labels=labels,
        scores=quality(x, labels, params.seed),
        space=space or params.space,
        method=params.method,
        k=int(labels.max(initial=-1)) + 1,
        notes=tuple(notes),
    )


def _possible_k(x: NDArray[np.float64], params: ClusterParameters) -> tuple[int, list[str]]:
    """``params.k``, or as many clusters as there are different points."""
    if params.method == "hdbscan":
        return params.k, []
    different = len(np.unique(x, axis=0))
    if different >= params.k:
        return params.k, []
    note = f"only {different} different cells for {params.k} clusters: {different} made"
    return max(different, 1), [note]


def _fit(x: NDArray[np.float64], params: ClusterParameters, k: int, starts: int) -> tuple[NDArray[np.int64], list[str]]:
    if params.method == "kmeans":
        from sklearn.cluster import KMeans

        model = KMeans(k, n_init=10, random_state=params.seed)
        return model.fit_predict(x).astype(np.int64), []
    if params.method == "gmm":
        return _fit_mixture(x, params, k, starts)
    from sklearn.cluster import HDBSCAN

    smallest = min(params.min_size, len(x))
    if smallest < 2:
        return np.full(len(x), NOISE, np.int64), ["too few cells for hdbscan"]
    labels = HDBSCAN(min_cluster_size=smallest, copy=True).fit_predict(x).astype(np.int64)
    if (labels == NOISE).all():
        return labels, ["no dense group found; lower 'Smallest cluster' or use another method"]
    return labels, []


def _fit_mixture(
    x: NDArray[np.float64], params: ClusterParameters, k: int, starts: int
) -> tuple[NDArray[np.int64], list[str]]:
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(
        k,
        covariance_type=params.covariance,
        # a cluster of fewer cells than dimensions has a singular covariance
        reg_covar=1e-6 + 1e-3 * float(x.var(axis=0).mean()),
        n_init=starts if len(x) <= _MANY else min(starts, FEW_STARTS),
        max_iter=300,
        random_state=params.seed,
    )
    notes = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # said in words below
        labels = model.fit_predict(x).astype(np.int64)
    if not model.converged_:
        notes.append("the Gaussian mixture did not settle; try fewer clusters or another seed")
    if len(np.unique(labels)) < k:
        notes.append(f"{k - len(np.unique(labels))} of {k} Gaussians hold no cell and are left out")
    return labels, notes


def by_size(labels: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Renumber clusters by size, 0 = the largest; ties keep their order of first appearance."""
    result = np.full(len(labels), NOISE, np.int64)
    values, first, counts = np.unique(labels[labels >= 0], return_index=True, return_counts=True)
    for number, index in enumerate(np.lexsort((first, -counts))):
        result[labels == values[index]] = number
    return result


def quality(points: NDArray[Any], labels: NDArray[np.integer[Any]], seed: int = 0) -> dict[str, float]:
    """Silhouette, Davies-Bouldin and Calinski-Harabasz of the points that are not noise.

    NaN where undefined (fewer than two clusters, or as many clusters as points). The
    silhouette of more than 5000 points is estimated on 5000 of them.
    """
    kept = labels >= 0
    x, y = points[kept], labels[kept]
    if not 2 <= len(np.unique(y)) < len(y):
        return dict(_UNDEFINED)
    from sklearn.metrics import calinski_harabasz_score, davies_bouldin_score, silhouette_samples

    chosen = np.arange(len(y))
    if len(y) > _SILHOUETTE_SAMPLE:
        chosen = np.random.default_rng(seed).choice(len(y), _SILHOUETTE_SAMPLE, replace=False)
    silhouette = math.nan
    if 2 <= len(np.unique(y[chosen])) < len(chosen):
        silhouette = float(np.mean(silhouette_samples(x[chosen], y[chosen])))
    return {
        "silhouette": silhouette,
        "davies_bouldin": float(davies_bouldin_score(x, y)),
        "calinski_harabasz": float(calinski_harabasz_score(x, y)),
    }


def match_clusters(old: NDArray[np.integer[Any]], new: NDArray[np.integer[Any]]) -> NDArray[np.int64]:
    """Give new clusters the numbers of the old ones they share most cells with.

    So that names and colours stay when the clustering is computed again.

    Parameters
    ----------
    old, new
        (N,) clusters of the same cells before and after; negative = none.

    Returns
    -------
    (N,) int64
        ``new`` renumbered. A cluster without a partner takes the lowest number that no old
        cluster had, so that it does not inherit a name.
    """
    if len(old) != len(new):
        raise ValueError(f"{len(old)} old and {len(new)} new clusters must belong to the same cells")
    from scipy.optimize import linear_sum_assignment

    old_values, new_values = np.unique(old[old >= 0]), np.unique(new[new >= 0])
    both = (old >= 0) & (new >= 0)
    shared = np.zeros((len(new_values), len(old_values)), np.int64)
    np.add.at(shared, (np.searchsorted(new_values, new[both]), np.searchsorted(old_values, old[both])), 1)
    rows, columns = linear_sum_assignment(shared, maximize=True)
    names = {int(r): int(old_values[c]) for r, c in zip(rows, columns, strict=True) if shared[r, c] > 0}
    taken = set(old_values.tolist())
    free = (number for number in itertools.count() if number not in taken)
    result = np.full(len(new), NOISE, np.int64)
    for row, value in enumerate(new_values):
        result[new == value] = names[row] if row in names else next(free)
    return result
