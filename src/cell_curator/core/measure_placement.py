"""How well a mask sits on what is in the picture, and whether its two halves are two cells, compiled.

Where `measure_context` compares a cell with a ring round it, this looks where the mask would lie if it were moved,
at the levels on the way from the middle of the cell outwards, and at the cell divided across its length.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cell_curator.core.measure_shapes import extents, hull

Mask = NDArray[np.bool_]
Floats = NDArray[np.float64]
Picture = NDArray[np.float32]

_DIRECTIONS = 8
_ROUNDS = 6  # of k-means; after a few nothing moves any more
_STRIP = 1.5  # px on either side of the line between the halves


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def elsewhere(
    labels: NDArray[np.int32], picture: Picture, own: Mask, label: int, corner: Any, ground: float, least: float
) -> float:
    """How much more there would be under the mask if it were moved by half a radius or a radius; log of the ratio.

    Looked at is the distance of ``picture`` (the whole image) from ``ground``; ``least`` of it counts as none.
    ``corner`` is the place of ``own`` in the image. Pixels of other cells are left out; NaN where
    less than half of the mask would be left in every direction.
    """
    height, width = labels.shape
    area, now = 0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                area += 1
                now += abs(float(picture[y + corner[0], x + corner[1]]) - ground)
    radius, best = math.sqrt(area / math.pi), -1.0
    for part in (0.5, 1.0):
        for direction in range(_DIRECTIONS):
            turn = 2 * math.pi * direction / _DIRECTIONS
            dy = corner[0] + math.floor(part * radius * math.sin(turn) + 0.5)
            dx = corner[1] + math.floor(part * radius * math.cos(turn) + 0.5)
            count, total = 0, 0.0
            for y in range(own.shape[0]):
                for x in range(own.shape[1]):
                    py, px = y + dy, x + dx
                    if not own[y, x] or py < 0 or px < 0 or py >= height or px >= width:
                        continue
                    if labels[py, px] == 0 or labels[py, px] == label:
                        count += 1
                        total += abs(float(picture[py, px]) - ground)
            if 2 * count >= area:
                best = max(best, total / count)
    return math.log((best + least) / (now / area + least)) if best >= 0 else math.nan


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def lopsided(picture: Picture, own: Mask, middle: Any) -> float:
    """From the middle of the mask to the middle of ``picture`` (0 or more) within it, in radii."""
    area, weight, sy, sx = 0, 0.0, 0.0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                area += 1
                weight += picture[y, x]
                sy += picture[y, x] * (y - middle[0])
                sx += picture[y, x] * (x - middle[1])
    return math.hypot(sy, sx) / weight / math.sqrt(area / math.pi) if weight > 0 else math.nan


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def profile(picture: Picture, own: Mask, free: Mask, inner: Floats, outer: Floats, spread: float) -> Any:
    """Grey level of the middle less that of the rim, and of the seam round the cell less that farther away.

    In units of ``spread``; ``free`` is true outside all cells, ``inner`` and ``outer`` are distances to the outline.
    """
    deepest = 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            deepest = max(deepest, inner[y, x])
    sums, counts = np.zeros(4), np.zeros(4)
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            band = -1
            if own[y, x]:
                if inner[y, x] > 0.5 * deepest:
                    band = 0
                elif inner[y, x] <= 2.5:
                    band = 1
            elif free[y, x]:
                if outer[y, x] <= 2.5:
                    band = 2
                elif 4.0 < outer[y, x] <= 8.0:
                    band = 3
            if band >= 0:
                sums[band] += picture[y, x]
                counts[band] += 1
    core, halo = math.nan, math.nan
    if counts[0] and counts[1]:
        core = (sums[0] / counts[0] - sums[1] / counts[1]) / spread
    if counts[2] >= 3 and counts[3] >= 3:
        halo = (sums[2] / counts[2] - sums[3] / counts[3]) / spread
    return core, halo


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def halves(picture: Picture, own: Mask, middle: Any, spread: float) -> Any:
    """The cell divided in two across its length (k-means of its pixels).

    Returns solidity of both halves together, difference of their grey levels, and by how much grey levels
    along the line between them are below those beside it; the last two in units of ``spread``.
    """
    centres = _two_middles(own, middle)
    dy, dx = centres[1, 0] - centres[0, 0], centres[1, 1] - centres[0, 1]
    length = math.hypot(dy, dx)
    if length < 1:
        return math.nan, math.nan, math.nan
    my, mx = (centres[0, 0] + centres[1, 0]) / 2, (centres[0, 1] + centres[1, 1]) / 2
    first, second = np.zeros_like(own), np.zeros_like(own)
    sums, counts = np.zeros(4), np.zeros(4)
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if not own[y, x]:
                continue
            away = ((y - my) * dy + (x - mx) * dx) / length
            side = 1 if away > 0 else 0
            if side:
                second[y, x] = True
            else:
                first[y, x] = True
            sums[side] += picture[y, x]
            counts[side] += 1
            place = 2 if abs(away) <= _STRIP else 3
            if place == 2 or abs(away) <= length / 2:
                sums[place] += picture[y, x]
                counts[place] += 1
    if not (counts[0] and counts[1]):
        return math.nan, math.nan, math.nan
    whole = 0
    for one in (first, second):
        low, high = hull(*extents(one))
        for y in range(len(low)):
            whole += max(high[y] - low[y] + 1, 0)
    tone = abs(sums[0] / counts[0] - sums[1] / counts[1]) / spread
    fold = (sums[3] / counts[3] - sums[2] / counts[2]) / spread if counts[2] and counts[3] else math.nan
    return (counts[0] + counts[1]) / max(whole, 1), tone, fold


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _two_middles(own: Mask, middle: Any) -> Floats:
    """Where the middles of two parts of about equal size lie; first guess along the long axis."""
    area, yy, xx, xy = 0, 0.0, 0.0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                area += 1
                yy += (y - middle[0]) ** 2
                xx += (x - middle[1]) ** 2
                xy += (y - middle[0]) * (x - middle[1])
    turn = 0.5 * math.atan2(2 * xy, xx - yy)
    far = math.sqrt(max(yy, xx) / area)
    centres = np.empty((2, 2))
    for side in range(2):
        sign = 2 * side - 1
        centres[side, 0] = middle[0] + sign * far * math.sin(turn)
        centres[side, 1] = middle[1] + sign * far * math.cos(turn)
    for _ in range(_ROUNDS):
        sums = np.zeros((2, 3))
        for y in range(own.shape[0]):
            for x in range(own.shape[1]):
                if own[y, x]:
                    near = (y - centres[0, 0]) ** 2 + (x - centres[0, 1]) ** 2
                    side = 1 if (y - centres[1, 0]) ** 2 + (x - centres[1, 1]) ** 2 < near else 0
                    sums[side, 0] += y
                    sums[side, 1] += x
                    sums[side, 2] += 1
        for side in range(2):
            if sums[side, 2]:
                centres[side, 0] = sums[side, 0] / sums[side, 2]
                centres[side, 1] = sums[side, 1] / sums[side, 2]
    return centres


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def grain(picture: Picture, smooth: Picture, own: Mask) -> float:
    """Root mean square of what smoothing takes away."""
    count, total = 0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                count += 1
                total += (float(picture[y, x]) - float(smooth[y, x])) ** 2
    return math.sqrt(total / max(count, 1))
