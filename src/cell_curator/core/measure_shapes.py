"""Shapes of one cell, compiled: moments, perimeter, convex hull. The figures of `skimage.measure.regionprops`.

Every function takes ``own``, a ``(H, W)`` bool mask of the cell with at least one empty pixel all round.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def moments(own: Mask) -> Any:
    """Area, centroid (y, x), long and short axis, eccentricity, orientation (skimage's, radians)."""
    area, sy, sx = 0, 0.0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                area += 1
                sy += y
                sx += x
    cy, cx = sy / area, sx / area
    yy, xx, xy = 0.0, 0.0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                yy += (y - cy) ** 2
                xx += (x - cx) ** 2
                xy += (y - cy) * (x - cx)
    a, b, c = xx / area, -xy / area, yy / area
    root = math.sqrt(4 * b * b + (a - c) ** 2)
    large, small = (a + c + root) / 2, max((a + c - root) / 2, 0.0)
    eccentricity = math.sqrt(1 - small / large) if large > 0 else 0.0
    diagonal = math.pi / 4 if b < 0 else -math.pi / 4
    turn = diagonal if a == c else 0.5 * math.atan2(-2 * b, c - a)
    return area, cy, cx, 4 * math.sqrt(large), 4 * math.sqrt(small), eccentricity, turn


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def perimeter(own: Mask) -> float:
    """Length of the line through the centres of the outline's pixels, diagonal steps counted as such."""
    height, width = own.shape
    edge = np.zeros((height, width), np.uint8)
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if own[y, x] and not (own[y - 1, x] and own[y + 1, x] and own[y, x - 1] and own[y, x + 1]):
                edge[y, x] = 1
    total = 0.0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not edge[y, x]:
                continue
            straight = edge[y - 1, x] + edge[y + 1, x] + edge[y, x - 1] + edge[y, x + 1]
            slanted = edge[y - 1, x - 1] + edge[y - 1, x + 1] + edge[y + 1, x - 1] + edge[y + 1, x + 1]
            code = 1 + 2 * straight + 10 * slanted
            if code in (5, 7, 15, 17, 25, 27):
                total += 1.0
            elif code in (21, 33):
                total += math.sqrt(2.0)
            elif code in (13, 23):
                total += (1 + math.sqrt(2.0)) / 2
    return total


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def extents(own: Mask) -> Any:
    """First and last column of each row; first > last where a row is empty."""
    height, width = own.shape
    first, last = np.full(height, width, np.int64), np.full(height, -1, np.int64)
    for y in range(height):
        for x in range(width):
            if own[y, x]:
                if x < first[y]:
                    first[y] = x
                last[y] = x
    return first, last


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def hull(first: NDArray[np.int64], last: NDArray[np.int64]) -> Any:
    """First and last column of each row of the convex hull of all pixels, each taken as a small diamond."""
    height = len(first)
    filled = last >= 0
    left, right = _chain(first, filled, -1.0), _chain(last, filled, 1.0)
    low, high = np.full(height, 1, np.int64), np.full(height, 0, np.int64)
    for y in range(height):
        if left[y] <= right[y]:
            low[y], high[y] = math.ceil(left[y] - 1e-9), math.floor(right[y] + 1e-9)
    return low, high


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _chain(columns: NDArray[np.int64], filled: Mask, side: float) -> Floats:
    """Where the hull's left (side −1) or right (+1) line crosses each row; beyond the other side where it does not."""
    height = len(columns)
    ys, xs = np.empty(3 * height), np.empty(3 * height)
    count = 0
    for y in range(height):
        if not filled[y]:
            continue
        for step in (-0.5, 0.0, 0.5):
            py, px = y + step, columns[y] + (0.5 * side if step == 0.0 else 0.0)
            while (
                count >= 2
                and side
                * (
                    (xs[count - 1] - xs[count - 2]) * (py - ys[count - 2])
                    - (px - xs[count - 2]) * (ys[count - 1] - ys[count - 2])
                )
                <= 0
            ):
                count -= 1
            ys[count], xs[count] = py, px
            count += 1
    crossing = np.full(height, -side * 1e9)
    part = 0
    for y in range(height):
        if count == 0 or y < ys[0] or y > ys[count - 1]:
            continue
        while part < count - 2 and ys[part + 1] < y:
            part += 1
        rise = ys[part + 1] - ys[part]
        share = 0.0 if rise <= 0 else (y - ys[part]) / rise
        crossing[y] = xs[part] + share * (xs[part + 1] - xs[part])
    return crossing


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def distance(inside: Mask) -> Floats:
    """Chamfer distance (3-4, in px) of every pixel in ``inside`` to the nearest one that is not."""
    height, width = inside.shape
    far = 3.0 * (height + width)
    result = np.empty((height, width))
    for y in range(height):
        for x in range(width):
            best = 0.0
            if inside[y, x]:
                best = far
                if x > 0:
                    best = min(best, result[y, x - 1] + 3)
                if y > 0:
                    best = min(best, result[y - 1, x] + 3)
                    if x > 0:
                        best = min(best, result[y - 1, x - 1] + 4)
                    if x < width - 1:
                        best = min(best, result[y - 1, x + 1] + 4)
            result[y, x] = best
    for y in range(height - 1, -1, -1):
        for x in range(width - 1, -1, -1):
            best = result[y, x]
            if x < width - 1:
                best = min(best, result[y, x + 1] + 3)
            if y < height - 1:
                best = min(best, result[y + 1, x] + 3)
                if x > 0:
                    best = min(best, result[y + 1, x - 1] + 4)
                if x < width - 1:
                    best = min(best, result[y + 1, x + 1] + 4)
            result[y, x] = best
    return result / 3.0
