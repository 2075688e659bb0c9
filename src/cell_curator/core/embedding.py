"""Flatten an embedding to the two coordinates of the map.

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
_MOST_EXACT = 30_000  # cells; beyond, UMAP's approximate neighbours pay for their compilation


class MapParameters(Parameters):
    """How the map is drawn."""

    method: Literal["umap", "pca"] = parameter(
        "umap",
        "Map",
        "umap: neighbours stay neighbours, shows groups. pca: the two directions of greatest spread, "
        "straight and quick.",
    )
    neighbours: int = parameter(
        15,
        "Neighbours",
        "umap: fewer shows fine detail, more shows the large shape.",
        unit="cells",
        ge=2,
        le=200,
        more=True,
    )
    min_dist: float = parameter(
        0.1, "Spacing", "umap: how tightly similar cells are packed.", ge=0, le=0.99, step=0.05, more=True
    )


def fallback_note(n_cells: int, params: MapParameters | None = None) -> str:
    """The sentence to show when `project_2d` draws a PCA in place of a UMAP, else empty."""
    params = params or MapParameters()
    if params.method == "umap" and n_cells < _FEWEST_FOR_UMAP:
        return f"{n_cells} cells are too few for UMAP (it needs {_FEWEST_FOR_UMAP}): the map shows a PCA"
    return ""


def project_2d(latent: NDArray[Any], params: MapParameters | None = None, seed: int = 0) -> NDArray[np.float32]:
    """Coordinates on the map.

    Parameters
    ----------
    latent
        (N, D) posterior means.
    params
        UMAP (McInnes, Healy & Melville 2018, arXiv:1802.03426) or PCA. With fewer than 15
        cells PCA is used in any case; see `fallback_note`.
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
    params = params or MapParameters()
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
        return _pca(x)
    with warnings.catch_warnings():
        # known and harmless: tensorflow is not here, points without neighbours, renamings in scikit-learn
        warnings.filterwarnings("ignore", category=ImportWarning)
        warnings.filterwarnings("ignore", module=r"umap\..*")
        warnings.filterwarnings("ignore", module=r"sklearn\..*", category=FutureWarning)
        from umap import UMAP

        count = min(params.neighbours, len(x) - 1)
        model = UMAP(
            n_neighbors=count,
            min_dist=params.min_dist,
            init=_start(x, seed),
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


def _pca(x: NDArray[np.float32]) -> NDArray[np.float32]:
    """Scores on the first two principal axes, each axis pointing where its longest arm is."""
    result = np.zeros((len(x), 2), np.float32)
    if len(x) < 2:
        return result
    centred = x.astype(np.float64) - x.mean(axis=0, dtype=np.float64)
    u, s, vt = np.linalg.svd(centred, full_matrices=False)
    count = min(2, len(s))
    # the sign of a singular vector is arbitrary: fix it, or the map would flip between machines
    signs = np.sign(vt[np.arange(count), np.abs(vt[:count]).argmax(axis=1)])
    result[:, :count] = u[:, :count] * s[:count] * signs
    return result


def _start(x: NDArray[np.float32], seed: int) -> NDArray[np.float32]:
    """The PCA scaled to UMAP's usual box with a little noise, so that twins do not start in one spot.

    A start from PCA keeps the large shape (Kobak & Linderman 2021) and needs no eigensolver,
    which gives up, with warnings, on disconnected or identical cells.
    """
    flat = _pca(x)
    flat *= 10 / max(float(np.abs(flat).max()), 1e-12)
    noise = np.random.default_rng(seed).normal(scale=1e-3, size=flat.shape)
    return (flat + noise).astype(np.float32)
