"""What a cluster is made of: its cells, its neighbours, the features and measurements that set it apart.

Arrays in, arrays out; pictures of the cells are cut and drawn elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

NEIGHBOURS = 10
_MOST_SEARCHED = 20_000  # cells; the nearest are sought among every second of 40,000
_ENDS = 3.0  # bandwidths that a density goes on beyond the outermost cell


def at_random(clusters: NDArray[np.integer[Any]], number: int, n: int, seed: int = 0) -> NDArray[np.intp]:
    """Rows of at most ``n`` cells of a cluster, drawn at random."""
    inside = np.flatnonzero(np.asarray(clusters) == number)
    return np.sort(np.random.default_rng(seed).permutation(inside)[:n])


def nearest_to_center(
    latent: NDArray[Any], clusters: NDArray[np.integer[Any]], number: int, n: int
) -> NDArray[np.intp]:
    """Rows of the ``n`` cells of a cluster nearest to its mean, the nearest first."""
    inside = np.flatnonzero(np.asarray(clusters) == number)
    if not len(inside):
        return inside
    away = np.linalg.norm(latent[inside] - latent[inside].mean(axis=0), axis=1)
    nearest: NDArray[np.intp] = inside[np.argsort(away, kind="stable")[:n]]
    return nearest


def nearest_cells(latent: NDArray[Any], row: int, n: int) -> NDArray[np.intp]:
    """Rows of the ``n`` cells most like one, the most alike first, without itself."""
    away = np.linalg.norm(np.asarray(latent) - latent[row], axis=1)
    away[row] = math.inf
    return np.argsort(away, kind="stable")[: max(min(n, len(latent) - 1), 0)]


def isolation(latent: NDArray[Any], among: NDArray[Any] | None = None) -> NDArray[np.float64]:
    """(N,) mean distance to the ten nearest cells, in the units of the latent; NaN where there is no other.

    Divided by its median over all cells it is what the table of cells calls ``map_isolation``.

    Parameters
    ----------
    latent
        (N, D) cells that are asked about.
    among
        (M, D) cells that their nearest are sought among; by default the same, each without itself.
    """
    from sklearn.neighbors import NearestNeighbors

    same = among is None
    asked, others = np.asarray(latent, np.float32), np.asarray(latent if among is None else among, np.float32)
    step = max(len(others) // _MOST_SEARCHED, 1)
    sought = others[::step]
    count = min(NEIGHBOURS, len(sought) - same)
    if count < 1 or not len(asked):
        return np.full(len(asked), np.nan)
    distances, _ = NearestNeighbors(n_neighbors=count + same).fit(sought).kneighbors(asked)
    if same:  # a cell that is among those sought is its own nearest; of the others, the farthest is one too many
        own = np.arange(len(asked)) % step == 0
        distances = np.where(own[:, None], distances[:, 1:], distances[:, :-1])
    return np.asarray(distances.mean(axis=1), np.float64)


@dataclass(frozen=True)
class Densities:
    """How the cells of each cluster spread along each feature.

    Attributes
    ----------
    clusters
        K numbers.
    grid
        (D, G) values of each feature.
    density
        (D, K, G) a smooth density of each cluster; each integrates to 1.
    mean, deviation
        (D, K) of the Gaussian that would have the same mean and spread.
    """

    clusters: tuple[int, ...]
    grid: NDArray[np.float64]
    density: NDArray[np.float64]
    mean: NDArray[np.float64]
    deviation: NDArray[np.float64]


def densities(latent: NDArray[Any], clusters: NDArray[np.integer[Any]], points: int = 128) -> Densities:
    """Kernel densities per feature and cluster (Silverman's bandwidth)."""
    x, clusters = np.asarray(latent, np.float64), np.asarray(clusters)
    numbers = tuple(int(n) for n in np.unique(clusters[clusters >= 0]))
    dims = x.shape[1]
    mean, deviation = np.zeros((dims, len(numbers))), np.zeros((dims, len(numbers)))
    density = np.zeros((dims, len(numbers), points))
    widths = np.zeros((dims, len(numbers)))
    for column, number in enumerate(numbers):
        part = x[clusters == number]
        mean[:, column], deviation[:, column] = part.mean(axis=0), part.std(axis=0)
        widths[:, column] = np.maximum(1.06 * deviation[:, column] * len(part) ** -0.2, 1e-3)
    beyond = _ENDS * widths.max(axis=1, initial=0.0)
    low, high = x.min(axis=0) - beyond, x.max(axis=0) + beyond
    grid = np.linspace(low, high, points, axis=1)
    for column, number in enumerate(numbers):
        for feature, values in enumerate(x[clusters == number].T):
            density[feature, column] = smooth_density(values, grid[feature], widths[feature, column])
    return Densities(numbers, grid, density, mean, deviation)


def smooth_density(values: NDArray[Any], grid: NDArray[np.float64], width: float) -> NDArray[np.float64]:
    """A density on an even grid: a histogram on it, smoothed by a Gaussian of ``width``; integrates to 1."""
    from scipy.ndimage import gaussian_filter1d

    step = float(grid[1] - grid[0])
    if step <= 0:
        return np.zeros(len(grid))
    counts = np.bincount(((values - grid[0]) / step).round().astype(int).clip(0, len(grid) - 1), minlength=len(grid))
    smooth = gaussian_filter1d(counts.astype(float), max(width / step, 0.5), mode="constant")
    return np.asarray(smooth / max(float(smooth.sum()) * step, 1e-300))


def cluster_correlation(
    latent: NDArray[Any], clusters: NDArray[np.integer[Any]]
) -> tuple[tuple[int, ...], NDArray[np.float64]]:
    """Numbers of the clusters, and (K, K) how alike their mean features are: 1 alike, -1 opposite.

    Features are brought to mean 0 and spread 1 over all cells first; ones that never vary do not count.
    """
    x, clusters = np.asarray(latent, np.float64), np.asarray(clusters)
    numbers = tuple(int(n) for n in np.unique(clusters[clusters >= 0]))
    spread = x.std(axis=0)
    z = (x - x.mean(axis=0))[:, spread > 0] / spread[spread > 0]
    means = np.array([z[clusters == n].mean(axis=0) for n in numbers]).reshape(len(numbers), -1)
    if means.shape[1] < 2:
        return numbers, np.eye(len(numbers))
    centred = means - means.mean(axis=1, keepdims=True)
    length = np.linalg.norm(centred, axis=1)
    return numbers, centred @ centred.T / np.maximum(np.outer(length, length), 1e-12)


def separating_measurements(
    frame: pd.DataFrame, clusters: NDArray[np.integer[Any]], columns: Sequence[str], number: int | None = None
) -> pd.DataFrame:
    """Which measurements set clusters apart, the most telling first.

    Parameters
    ----------
    frame
        One row for each cell.
    clusters
        (N,) cluster of each row; cells in none are left out.
    columns
        Measurements to look at.
    number
        One cluster against all others; None for each in turn.

    Returns
    -------
    Columns ``cluster``, ``measurement``, ``delta`` (Cliff's delta: how much more often a cell of the cluster has the
    larger value than another cell has, -1..1), ``inside``, ``outside`` (medians).
    """
    clusters = np.asarray(clusters)
    kept = clusters >= 0
    numbers = np.unique(clusters[kept]) if number is None else np.array([number])
    rows = []
    for column in columns:
        values = frame[column].to_numpy(np.float64)
        there = kept & np.isfinite(values)
        ranks = pd.Series(values[there]).rank().to_numpy()
        for one in numbers:
            inside = clusters[there] == one
            n, m = int(inside.sum()), int((~inside).sum())
            if n == 0 or m == 0:
                continue
            delta = 2 * (ranks[inside].sum() - n * (n + 1) / 2) / (n * m) - 1
            middle = [float(np.median(values[there][side])) for side in (inside, ~inside)]
            rows.append((int(one), column, float(delta), *middle))
    table = pd.DataFrame(rows, columns=["cluster", "measurement", "delta", "inside", "outside"])
    order = table["delta"].abs().sort_values(ascending=False, kind="stable").index
    return table.loc[order].sort_values("cluster", kind="stable").reset_index(drop=True)
