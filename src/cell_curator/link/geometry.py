"""Where things stand in the viewer: the turned image, and the map beside it.

World coordinates are ``(y, x)`` in pixels of the image shown. Turning is a layer transform;
no pixel is resampled.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.orientation import turn_matrix

Box = tuple[float, float, float, float]
"""``(top, left, bottom, right)`` in world pixels."""

Region = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels of an image, half open."""

MAP_GAP = 0.06
"""Space between image and map, as a part of the image's height."""


def turn_affine(shape: tuple[int, int], angle_deg: float) -> NDArray[np.float64]:
    """The ``(3, 3)`` matrix in (y, x) order that shows an image of ``shape`` turned about its centre.

    Counter-clockwise, as `core.orientation.turn_image` and `skimage.transform.rotate` turn.
    """
    xy = turn_matrix(shape, angle_deg)
    affine = np.eye(3)
    affine[:2] = xy[::-1][:, [1, 0, 2]]
    return affine


def to_world(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, 2)`` data coordinates as world coordinates."""
    return np.asarray(points) @ affine[:2, :2].T + affine[:2, 2]


def to_data(affine: NDArray[np.float64], points: NDArray[np.float64]) -> NDArray[np.float64]:
    """``(N, 2)`` world coordinates as data coordinates."""
    return to_world(np.linalg.inv(affine), points)


def bounds(shape: tuple[int, int], affine: NDArray[np.float64]) -> Box:
    """The box around the turned image."""
    height, width = shape
    corners = to_world(affine, np.array([(0, 0), (0, width), (height, 0), (height, width)], float))
    (top, left), (bottom, right) = corners.min(axis=0), corners.max(axis=0)
    return float(top), float(left), float(bottom), float(right)


def visible_region(
    shape: tuple[int, int],
    affine: NDArray[np.float64],
    center: tuple[float, ...],
    zoom: float,
    canvas: tuple[float, float],
) -> tuple[Region, float] | None:
    """Which part of an image is in view, and how many of its pixels one pixel of the screen stands for.

    Parameters
    ----------
    shape, affine
        Size (Y, X) of the image, and where it stands in the world.
    center, zoom
        The camera's: world position (…, y, x) in the middle, screen pixels per world pixel.
    canvas
        Height and width of the canvas on the screen, px.

    Returns
    -------
    An upright part of the image that holds all that is in view (the smallest, unless the image is turned and cut
    by the border of the canvas), or None where nothing is.
    """
    half = np.asarray(canvas, float) / (2 * zoom)
    middle = np.asarray(center[-2:], float)
    corners = middle + half * np.array([(-1, -1), (-1, 1), (1, -1), (1, 1)])
    seen = to_data(affine, corners)
    # Pixel i spans i − ½ to i + ½.
    low = np.clip(np.floor(seen.min(axis=0) + 0.5), 0, shape).astype(int)
    high = np.clip(np.ceil(seen.max(axis=0) + 0.5), 0, shape).astype(int)
    if (low >= high).any():
        return None
    step = 1.0 / (zoom * np.sqrt(abs(np.linalg.det(affine[:2, :2]))))
    return (int(low[0]), int(low[1]), int(high[0]), int(high[1])), float(step)


def place_map(
    points: NDArray[np.floating], beside: Box, *, like: NDArray[np.floating] | None = None
) -> NDArray[np.float64]:
    """Put ``(N, 2)`` map coordinates (x to the right, y up) to the right of a box, as high as it is.

    Both axes are scaled alike, so that distances on the map keep their proportions. ``like``: the coordinates
    that fill that place, if they are not ``points``.
    """
    top, _, bottom, right = beside
    height = bottom - top
    whole = points if like is None else like
    low, high = whole.min(axis=0), whole.max(axis=0)
    unit = (points - (low + high) / 2) / max(float((high - low).max()), 1e-9) * 0.94
    placed = np.empty((len(points), 2))
    placed[:, 0] = (top + bottom) / 2 - unit[:, 1] * height
    placed[:, 1] = right + height * (MAP_GAP + 0.5) + unit[:, 0] * height
    return placed
