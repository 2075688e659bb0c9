"""A part of an image to look for cells in: a box or a drawn polygon.

Cells count only where they lie wholly inside. The part is cut out with some surroundings, so that
cells at its edge are seen whole before they are judged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError

AROUND = 64
"""px of surroundings that are looked at around a region."""

RegionLike = Sequence[float] | Sequence[Sequence[float]]
"""``(top, left, bottom, right)`` in px, or the corners ``(y, x)`` of a polygon."""


@dataclass(frozen=True)
class Place:
    """Where a part of an image lies.

    Parameters
    ----------
    shape
        ``(Y, X)`` of the whole image.
    window
        The rows and columns that are looked at.
    corners
        Of the polygon, ``(y, x)`` px in the whole image; pixel ``(0, 0)`` has its middle at (0, 0).
    """

    shape: tuple[int, int]
    window: tuple[slice, slice]
    corners: tuple[tuple[float, float], ...]

    def inside(self) -> NDArray[np.bool_]:
        """Which pixels of the window have their middle in the region."""
        from skimage.draw import polygon2mask

        rows, cols = self.window
        shape = (rows.stop - rows.start, cols.stop - cols.start)
        ys, xs = np.array(self.corners).T
        if _is_box(self.corners):
            mask = np.zeros(shape, dtype=bool)
            (top, bottom), (left, right) = ((np.ceil(v.min()), np.ceil(v.max())) for v in (ys, xs))
            top, bottom = (int(np.clip(v - rows.start, 0, shape[0])) for v in (top, bottom))
            left, right = (int(np.clip(v - cols.start, 0, shape[1])) for v in (left, right))
            mask[top:bottom, left:right] = True
            return mask
        drawn: NDArray[np.bool_] = polygon2mask(shape, np.array(self.corners) - (rows.start, cols.start))
        return drawn

    def outside(self, labels: NDArray[np.int32]) -> tuple[int, ...]:
        """Labels of the whole image ``(Y, X)`` that are not wholly inside the region."""
        beyond = np.ones(self.shape, dtype=bool)
        beyond[self.window] = ~self.inside()
        return tuple(int(label) for label in np.unique(labels[beyond]) if label)


def place(region: RegionLike, shape: tuple[int, int]) -> Place:
    """The part of an image of ``shape`` that ``region`` names.

    Raises
    ------
    UserError
        If it is neither a box nor a polygon, or lies outside the image.
    """
    try:
        corners = np.asarray(region, dtype=np.float64)
    except (TypeError, ValueError):
        corners = np.zeros(0)
    if corners.shape == (4,):
        top, left, bottom, right = corners
        corners = np.array([(top, left), (top, right), (bottom, right), (bottom, left)])
    if corners.ndim != 2 or corners.shape[0] < 3 or corners.shape[1] != 2 or not np.isfinite(corners).all():
        raise UserError("a region is a box (top, left, bottom, right) or a polygon of 3 corners or more; draw it again")
    low = np.maximum(np.floor(corners.min(axis=0)), 0).astype(int)
    high = np.minimum(np.ceil(corners.max(axis=0)), shape).astype(int)
    if (high <= low).any():
        raise UserError("the region lies outside the image; draw it on the image")
    window = tuple(
        slice(max(a - AROUND, 0), min(b + AROUND, length)) for a, b, length in zip(low, high, shape, strict=True)
    )
    return Place(shape, (window[0], window[1]), tuple((float(y), float(x)) for y, x in corners))


def inside_only(labels: NDArray[np.int32], where: Place) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """Labels of the window put into the whole image: only cells wholly inside, numbered 1..n.

    Returns
    -------
    labels
        ``(Y, X)`` int32 of the whole image.
    old
        ``(n + 1,)`` the value each had before; ``old[0] == 0``.
    """
    out = np.unique(labels[~where.inside()])
    kept = np.setdiff1d(np.unique(labels), np.append(out, 0))
    number = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.int32)
    number[kept] = np.arange(1, len(kept) + 1)
    whole = np.zeros(where.shape, dtype=np.int32)
    whole[where.window] = number[labels]
    return whole, np.concatenate(([0], kept)).astype(np.intp)


def _is_box(corners: tuple[tuple[float, float], ...]) -> bool:
    """Whether the polygon is upright and has four corners (then its edge needs no interpretation)."""
    ys, xs = {y for y, _ in corners}, {x for _, x in corners}
    return len(corners) == 4 and len(ys) == 2 and len(xs) == 2
