"""Flatten an embedding to the two coordinates of the map, or to a few more for grouping.

The map is for the eye. Distances on a UMAP are not distances between cells, so clusters and
their scores are computed in the latent space unless the user asks otherwise. Training the
embedding itself is the business of the engines.
"""

from __future__ import annotations

import warnings
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import Parameters, parameter

_FEWEST_FOR_UMAP = 15
_NAMES = {"umap": "UMAP", "tsne": "t-SNE"}
_BETWEEN = 10  # nearest cells that a new one is placed between
_MOST_EXACT = 30_000  # cells; beyond, UMAP's approximate neighbours pay for their compilation


class MapParameters(Parameters):
    """How the map is drawn."""

    method: Literal["umap", "pca", "tsne"] = parameter(
        "umap",
        "Map",
        "umap: neighbours stay neighbours, shows groups. tsne: the same with rounder groups, slower. pca: the two "
        "directions of greatest spread, straight and quick.",
    )
    neighbours: int = parameter(
        15,
        "Neighbours",
        "umap, tsne: fewer shows fine detail, more shows the large shape (half of t-SNE's perplexity).",
        unit="cells",
        ge=2,
        le=200,
        more=True,
    )
    min_dist: float = parameter(
        0.1, "Spacing", "umap: how tightly similar cells are packed.", ge=0, le=0.99, step=0.05, more=True
    )


def fallback_note(n_cells: int, params: MapParameters | None = None) -> str:
    """The sentence to show when `project_2d` draws a PCA in place of a UMAP or t-SNE, else empty."""
    params = params or MapParameters()
    if params.method in _NAMES and n_cells < _FEWEST_FOR_UMAP:
        name = _NAMES[params.method]
        return f"{n_cells} cells are too few for {name} (it needs {_FEWEST_FOR_UMAP}): the map shows a PCA"
    return ""


def project_2d(latent: NDArray[Any], params: MapParameters | None = None, seed: int = 0) -> NDArray[np.float32]:
    """Coordinates on the map.

    Parameters
    ----------
    latent
        (N, D) posterior means.
    params
        UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426), t-SNE (van der Maaten & Hinton
        2008) or PCA. With fewer than 15 cells PCA is used in any case; see `fallback_note`.
    seed
        The same seed gives the same map on the same machine.

    Returns
    -------
    (N, 2) float32

    Raises
    ------
    UserError
        If a coordinate is not a finite number.
    """
    return project(latent, 2, params, seed)


def project(latent: NDArray[Any], dims: int, params: MapParameters | None = None, seed: int = 0) -> NDArray[np.float32]:
    """As `project_2d`, but (N, ``dims``): UMAP and PCA to any number of dimensions, t-SNE to 2."""
    params = params or MapParameters()
    if params.method == "tsne" and dims != 2:
        raise ValueError(f"t-SNE draws 2 dimensions, not {dims}")
    x = np.asarray(latent, dtype=np.float32)
    if x.ndim != 2:
        raise ValueError(f"latent must be (N, D), not {x.shape}")
    bad = ~np.isfinite(x).all(axis=1)
    if bad.any():
        raise UserError(
            f"map: {bad.sum()} of {len(x)} cells have coordinates that are not numbers; "
            "compute the embedding again or leave these cells out"
        )
    if params.method == "pca" or len(x) < _FEWEST_FOR_UMAP:
        return _pca(x, dims)
    return _tsne(x, params, seed) if params.method == "tsne" else _umap(x, dims, params, seed)


def place(
    new_latent: NDArray[Any],
    latent: NDArray[Any],
    map2d: NDArray[np.float32],
    params: MapParameters | None = None,
) -> NDArray[np.float32]:
    """Where cells belong on a map that is there already; the map itself stays as it is.

    Parameters
    ----------
    new_latent
        (M, D) posterior means of the new cells, by the network that made ``latent``.
    latent, map2d
        (N, D) and (N, 2) of the cells on the map.
    params
        How that map was made.

    Returns
    -------
    (M, 2) float32
        Exact for PCA. UMAP and t-SNE know no formula: a new cell lies at the geometric median of its
        ten nearest in latent space, so in the one group where most of them are and never in the gap
        between two. `place_note` says so.
    """
    params = params or MapParameters()
    x, known = np.asarray(new_latent, np.float64), np.asarray(latent, np.float64)
    if not len(known):
        raise ValueError("there is no map to place cells on")
    if params.method == "pca" or len(known) < _FEWEST_FOR_UMAP:
        # a PCA is an affine function of the latent: found from the cells on the map themselves
        ones = np.ones((len(known), 1))
        affine = np.linalg.lstsq(np.hstack([known, ones]), map2d.astype(np.float64), rcond=None)[0]
        return np.asarray(np.hstack([x, np.ones((len(x), 1))]) @ affine, np.float32)
    if not len(x):
        return np.zeros((0, 2), np.float32)
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=min(_BETWEEN, len(known))).fit(known).kneighbors(x)
    weights = 1 / np.maximum(distances, 1e-6 * max(float(distances.mean()), 1e-12))
    return _geometric_median(map2d[indices].astype(np.float64), weights).astype(np.float32)


def place_note(n_placed: int, params: MapParameters | None = None) -> str:
    """The sentence to show where `place` can only say roughly where cells belong, else empty."""
    params = params or MapParameters()
    if params.method not in _NAMES or not n_placed:
        return ""
    cells = f"{n_placed} cells were" if n_placed > 1 else "1 cell was"
    return (
        f"{cells} placed between their nearest on the map, since {_NAMES[params.method]} has no formula for new cells"
    )


def _geometric_median(points: NDArray[np.float64], weights: NDArray[np.float64]) -> NDArray[np.float64]:
    """(M, 2) point with the least weighted distance to each row of (M, K, 2), by Weiszfeld's iteration."""
    at: NDArray[np.float64] = (points * weights[..., None]).sum(axis=1) / weights.sum(axis=1, keepdims=True)
    for _ in range(50):
        away = np.linalg.norm(points - at[:, None], axis=2)
        pull = weights / np.maximum(away, 1e-9)
        at = (points * pull[..., None]).sum(axis=1) / pull.sum(axis=1, keepdims=True)
    return at


def _tsne(x: NDArray[np.float32], params: MapParameters, seed: int) -> NDArray[np.float32]:
    from sklearn.manifold import TSNE
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    start = _pca(x, 2)
    start *= 1e-4 / max(float(start[:, 0].std()), 1e-12)  # small, as the method wants it (Kobak & Berens 2019)
    start += np.random.default_rng(seed).normal(scale=1e-6, size=start.shape).astype(np.float32)
    perplexity = min(2.0 * params.neighbours, (len(x) - 1) / 3)
    model = TSNE(2, perplexity=perplexity, init=start, random_state=seed, n_jobs=1)
    with threadpool_limits(1):  # threads add up in any order, and the same seed must give the same map
        return np.asarray(model.fit_transform(x), dtype=np.float32)


def _umap(x: NDArray[np.float32], dims: int, params: MapParameters, seed: int) -> NDArray[np.float32]:
    with warnings.catch_warnings():
        # known and harmless: tensorflow is not here, points without neighbours, renamings in scikit-learn
        warnings.filterwarnings("ignore", category=ImportWarning)
        warnings.filterwarnings("ignore", module=r"umap\..*")
        warnings.filterwarnings("ignore", module=r"sklearn\..*", category=FutureWarning)
        from umap import UMAP

        count = min(params.neighbours, len(x) - 1)
        model = UMAP(
            n_components=dims,
            n_neighbors=count,
            min_dist=params.min_dist,
            init=_start(x, dims, seed),
            random_state=seed,
            n_jobs=1,  # a seeded UMAP is not parallel; asking for one thread avoids its warning
            precomputed_knn=_neighbours(x, count),
            force_approximation_algorithm=True,  # or UMAP would not use them for fewer than 4096 cells
        )
        flat = np.asarray(model.fit_transform(x), dtype=np.float32)
    return np.nan_to_num(flat)


def _neighbours(x: NDArray[np.float32], count: int) -> tuple[Any, Any, None]:
    """The exact nearest neighbours of every cell, itself first, as UMAP wants them.

    UMAP's own search compiles for half a minute on first use (6000 cells: 53 s against 10 s)
    and gains nothing before some ten thousand cells.
    """
    if len(x) > _MOST_EXACT:
        return None, None, None
    from sklearn.neighbors import NearestNeighbors

    distances, indices = NearestNeighbors(n_neighbors=count).fit(x).kneighbors(x)
    return indices, distances.astype(np.float32), None


def _pca(x: NDArray[np.float32], dims: int) -> NDArray[np.float32]:
    """Scores on the first principal axes, each axis pointing where its longest arm is."""
    result = np.zeros((len(x), dims), np.float32)
    if len(x) < 2:
        return result
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    count = min(dims, len(s))
    # the sign of a singular vector is arbitrary: fix it, or the map would flip between machines
    signs = np.sign(vt[np.arange(count), np.abs(vt[:count]).argmax(axis=1)])
    result[:, :count] = u[:, :count] * s[:count] * signs
    return result


def _start(x: NDArray[np.float32], dims: int, seed: int) -> NDArray[np.float32]:
    """The PCA scaled to UMAP's usual box with a little noise, so that twins do not start in one spot.

    A start from PCA keeps the large shape (Kobak & Linderman 2021) and needs no eigensolver,
    which gives up, with warnings, on disconnected or identical cells.
    """
    flat = _pca(x, dims)
    flat *= 10 / max(float(np.abs(flat).max()), 1e-12)
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=flat.shape)
    return (flat + noise).astype(np.float32)
