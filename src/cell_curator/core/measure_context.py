"""A cell against what lies round it, compiled: contrast, the step across its outline, its neighbours.

Every function works on a window of the image round one cell: ``own`` is its mask, ``other`` the labels of other
cells, ``there`` false where the window reaches beyond the image. Figures come signed where bright cells
on a dark ground and dark ones on a bright ground differ; they are relative to the spread of grey levels
in and round the cell, so that dim and bright cells can be compared.
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

RING = 6.0  # px from the outline that count as round a cell
GAP = 1.5  # px next to the outline that belong to neither
_REACH = 2.5  # px on either side of the outline between which its step is taken
_SECTORS = 8
_NEAR = 2  # px: a neighbour so near touches


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def contrast(picture: Picture, own: Mask, ring: Mask, floor: float) -> Any:
    """Correlation of inside against ring with grey level (−1..1), mean of the ring, and the spread of both.

    ``floor`` is the least variance, so that nothing is made of the last grey level. NaN without a ring.
    """
    n, m = 0, 0
    s, t, ss, tt = 0.0, 0.0, 0.0, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            value = float(picture[y, x])
            if own[y, x]:
                n += 1
                s += value
                ss += value * value
            elif ring[y, x]:
                m += 1
                t += value
                tt += value * value
    if n == 0 or m < 3:
        return math.nan, math.nan, math.sqrt(max(ss / max(n, 1) - (s / max(n, 1)) ** 2, floor))
    inside, outside = s / n, t / m
    half = (inside - outside) / 2
    within = 0.5 * max(ss / n - inside**2, 0.0) + 0.5 * max(tt / m - outside**2, 0.0)
    spread = math.sqrt(max(within + half * half, floor))
    return half / spread, outside, spread


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def offset(picture: Picture, own: Mask, ring: Mask, ground: float, cy: float, cx: float) -> float:
    """From the middle of the mask to the middle of what stands out from the ground, in radii of the cell."""
    weight, sy, sx, area = 0.0, 0.0, 0.0, 0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            area += own[y, x]
            if own[y, x] or ring[y, x]:
                w = (float(picture[y, x]) - ground) ** 2
                weight += w
                sy += w * y
                sx += w * x
    if not weight > 0:
        return math.nan
    return math.hypot(sy / weight - cy, sx / weight - cx) / math.sqrt(area / math.pi)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def outline(
    smooth: Picture, own: Mask, other: NDArray[np.int32], there: Mask, field: Floats, middle: Any, spread: float
) -> Any:
    """The step across the outline, and where it touches other cells.

    ``field`` is the distance inside less that outside. Returns mean step (inside minus outside), share of the
    outline where it is above 0, weakest eighth of the outline in the direction of the mean step; share
    of the outline that touches other cells, label of the one it touches most, how much darker (less like the
    cells) the seam between them is than either side, and how straight the seam is (0 straight, 1 round).
    """
    height, width = own.shape
    free, steps, above = 0, 0.0, 0
    sums, numbers = np.zeros(_SECTORS), np.zeros(_SECTORS)
    total = 0
    seam = np.empty((int(own.sum()), 6))
    touching = 0
    for y in range(1, height - 1):
        for x in range(1, width - 1):
            if not own[y, x] or (own[y - 1, x] and own[y + 1, x] and own[y, x - 1] and own[y, x + 1]):
                continue
            total += 1
            ny = field[y - 1, x] - field[y + 1, x]
            nx = field[y, x - 1] - field[y, x + 1]
            length = math.hypot(ny, nx)
            if length == 0:
                continue
            ny, nx = ny / length, nx / length
            oy, ox = _at(y + _REACH * ny, height), _at(x + _REACH * nx, width)
            iy, ix = _at(y - _REACH * ny, height), _at(x - _REACH * nx, width)
            step = float(smooth[iy, ix]) - float(smooth[oy, ox])
            beside = _beside(other, y, x)
            if beside:
                seam[touching, 0], seam[touching, 1], seam[touching, 2] = beside, y, x
                seam[touching, 3], seam[touching, 4] = smooth[y, x], smooth[iy, ix]
                seam[touching, 5] = smooth[oy, ox]
                touching += 1
            elif there[oy, ox] and other[oy, ox] == 0 and not own[oy, ox]:
                free += 1
                steps += step
                above += step > 0
                sector = int(_SECTORS * (math.atan2(y - middle[0], x - middle[1]) / (2 * math.pi) + 0.5)) % _SECTORS
                sums[sector] += step
                numbers[sector] += 1
    edge, share, weakest = math.nan, math.nan, math.nan
    if free >= 3:
        edge, share = steps / free / (2 * spread), above / free
        sign = 1.0 if edge >= 0 else -1.0
        for sector in range(_SECTORS):
            if numbers[sector] >= 2:
                value = sign * sums[sector] / numbers[sector] / (2 * spread)
                weakest = value if math.isnan(weakest) else min(weakest, value)
    partner, dip, bend = _seam(seam[:touching], spread)
    return edge, share, weakest, touching / max(total, 1), partner, dip, bend


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _at(place: float, size: int) -> int:
    return min(max(math.floor(place + 0.5), 0), size - 1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _beside(other: NDArray[np.int32], y: int, x: int) -> int:
    """Label of another cell within two pixels, the nearest first; 0 for none."""
    for reach in range(1, _NEAR + 1):
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                py, px = y + dy, x + dx
                if 0 <= py < other.shape[0] and 0 <= px < other.shape[1] and other[py, px]:
                    return int(other[py, px])
    return 0


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _seam(rows: Floats, spread: float) -> Any:
    """Main neighbour, dip of the seam with it, and its roundness."""
    if len(rows) == 0:
        return 0, math.nan, math.nan
    labels = np.sort(rows[:, 0])
    partner, run, best = labels[0], 0, 0
    for index in range(len(labels)):
        run = run + 1 if index and labels[index] == labels[index - 1] else 1
        if run > best:
            best, partner = run, labels[index]
    n, dips = 0, 0.0
    sy, sx, yy, xx, xy = 0.0, 0.0, 0.0, 0.0, 0.0
    for row in rows:
        if row[0] == partner:
            n += 1
            dips += 0.5 * (row[4] + row[5]) - row[3]
            sy, sx = sy + row[1], sx + row[2]
            yy, xx, xy = yy + row[1] ** 2, xx + row[2] ** 2, xy + row[1] * row[2]
    a, c, b = yy / n - (sy / n) ** 2, xx / n - (sx / n) ** 2, xy / n - sy / n * sx / n
    root = math.sqrt(max((a - c) ** 2 + 4 * b * b, 0.0))
    large, small = (a + c + root) / 2, max((a + c - root) / 2, 0.0)
    bend = math.sqrt(small / large) if large > 0 else 0.0
    return int(partner), dips / n / spread, bend


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def overlapped(own: Mask, other: NDArray[np.int32]) -> Any:
    """Area of the convex hull, and the part of it that other cells cover."""
    low, high = hull(*extents(own))
    area, covered = 0, 0
    for y in range(own.shape[0]):
        for x in range(low[y], high[y] + 1):
            area += 1
            if 0 <= x < own.shape[1] and other[y, x] != 0:
                covered += 1
    return area, covered / max(area, 1)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def joint(labels: NDArray[np.int32], label: int, partner: int, box: Any) -> Any:
    """Area and solidity of a cell together with a neighbour, as far as ``box`` (half-open) of the image reaches."""
    top, left, bottom, right = box
    both = np.zeros((bottom - top + 2, right - left + 2), np.bool_)
    area = 0
    for y in range(top, bottom):
        for x in range(left, right):
            if labels[y, x] == label or labels[y, x] == partner:
                both[y - top + 1, x - left + 1] = True
                area += 1
    low, high = hull(*extents(both))
    whole = 0
    for y in range(both.shape[0]):
        whole += max(high[y] - low[y] + 1, 0)
    return area, area / max(whole, 1)
