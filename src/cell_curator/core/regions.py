"""Parts of an image that a person marked: looked at from end to end, or locked away for scoring.

``reviewed``: every cell in there is as it should be, so what carries no cell is background.
``hold-out``: never learned from. A polygon or the whole image; several may overlap. Pixels are of the
original image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from skimage.draw import polygon2mask

REVIEWED = "reviewed"
HOLDOUT = "hold-out"
KINDS = (REVIEWED, HOLDOUT)


@dataclass(frozen=True)
class Region:
    """One marked part of an image; ``corners`` are ``(y, x)`` in px, none of them means the whole image."""

    region_id: int
    image_id: int
    kind: str
    corners: tuple[tuple[float, float], ...] = ()


def area(regions: Iterable[Region], shape: tuple[int, int]) -> NDArray[np.bool_]:
    """Pixels ``(Y, X)`` that lie in any of these regions (of one image)."""
    inside = np.zeros(shape, dtype=bool)
    for region in regions:
        inside |= polygon2mask(shape, np.asarray(region.corners)) if region.corners else True
    return inside


def middles_in(rows: pd.DataFrame, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether the middle of each cell lies in an area ``(Y, X)``; ``rows`` are of a `core.cells.CellTable`."""
    answer: NDArray[np.bool_] = inside[rows["y"].to_numpy().astype(int), rows["x"].to_numpy().astype(int)]
    return answer


def whole_cells(labels: NDArray[np.integer[Any]], inside: NDArray[np.bool_]) -> tuple[NDArray[np.int32], Any]:
    """The cells that lie wholly in an area, and the area without the cells that its edge cuts.

    Parameters
    ----------
    labels
        ``(Y, X)``, 0 = background.
    inside
        ``(Y, X)``.

    Returns
    -------
    ``(Y, X)`` int32 labels of the whole cells, and ``(Y, X)`` bool: where both cells and background are known.
    """
    there, beyond = np.unique(labels[inside]), np.unique(labels[~inside])
    cut = np.intersect1d(there, beyond)
    known: NDArray[np.bool_] = inside & ~np.isin(labels, cut[cut != 0])
    return np.where(known, labels, 0).astype(np.int32), known
