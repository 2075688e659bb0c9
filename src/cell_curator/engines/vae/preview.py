"""A quick map of some cells while the network learns, which does not spin from look to look."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.embedding import MapParameters, project_2d
from cell_curator.engines.vae.progress import MapPreview

MOST = 2000
"""Cells on a preview."""

FEWEST = 200
"""Cells on a preview, however little time there is."""

SHARE = 0.04
"""Part of the time that may go into previews."""


class Previews:
    """Maps of the same cells, each turned so that it resembles the one before.

    Parameters
    ----------
    ids
        ``(N,)`` id of every cell.
    seed
        Chooses the cells.
    """

    def __init__(self, ids: NDArray[np.int64], seed: int) -> None:
        self._ids = ids
        self._order = np.random.default_rng(seed).permutation(len(ids))
        self._before: NDArray[np.float32] | None = None

    def rows(self, seconds: float, per_cell: float) -> NDArray[np.int64]:
        """The cells to draw, where ``seconds`` went by since the last look and a cell takes ``per_cell``."""
        affordable = int(SHARE * seconds / per_cell) if per_cell > 0 else MOST
        return self._order[: min(MOST, max(FEWEST, affordable))]

    @property
    def always(self) -> int:
        """How many cells, the first ones, are on every preview."""
        return min(FEWEST, len(self._order))

    def draw(self, rows: NDArray[np.int64], latent: NDArray[np.float32]) -> MapPreview:
        """The map of cells ``rows`` with posterior means ``latent`` ``(M, D)``."""
        flat = project_2d(latent, MapParameters(method="pca"))
        if self._before is not None:
            flat = aligned(flat, self._before)
        self._before = flat
        return MapPreview(self._ids[rows], flat)


def aligned(points: NDArray[np.float32], before: NDArray[np.float32]) -> NDArray[np.float32]:
    """``points`` turned and mirrored to lie close to ``before``; the first rows of both are the same cells.

    Orthogonal Procrustes (Schönemann 1966).
    """
    common = min(len(points), len(before))
    new = points[:common] - points[:common].mean(axis=0)
    old = before[:common] - before[:common].mean(axis=0)
    left, _, right = np.linalg.svd(new.T.astype(np.float64) @ old.astype(np.float64))
    return np.asarray(points @ (left @ right), dtype=np.float32)
