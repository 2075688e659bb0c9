"""All figures of all cells of an image in one compiled pass, cell by cell; `measure` makes a table of them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cell_curator.core.measure_context import GAP, RING, contrast, joint, offset, outline, overlapped
from cell_curator.core.measure_peaks import second_hump
from cell_curator.core.measure_placement import elsewhere, grain, halves, lopsided, profile
from cell_curator.core.measure_shapes import distance, moments, perimeter

FIGURES = (
    "y", "x", "area", "perimeter", "major_axis", "minor_axis", "eccentricity", "solidity", "orientation_deg",
    "mean_intensity", "std_intensity", "min_intensity", "max_intensity", "focus",
    "saturated", "surround", "contrast", "texture_contrast", "offset",
    "edge", "edge_share", "edge_weakest", "contact", "seam_dip", "seam_bend", "joint_solidity", "joint_area",
    "neck", "valley", "overlapped", "pieces",
    "elsewhere", "elsewhere_texture", "lopsided", "core", "halo", "halves", "two_tone", "fold", "grain",
)  # fmt: skip
"""Columns of what `figures` returns."""

PAD = 8
"""How far beyond its box the surroundings of a cell are looked at, in px; pictures look one or two further."""

_HUMP = 0.12  # part of the cell that the smaller hump must have when humps of brightness meet
_BODY = 0.04  # the same for humps of the distance to the outline


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def boxes(labels: NDArray[np.int32], places: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Top, left, bottom, right (half-open) of each cell; ``places`` gives the row of a label, −1 for none."""
    found = np.empty((count, 4), np.int64)
    found[:, 0], found[:, 1] = labels.shape
    found[:, 2], found[:, 3] = 0, 0
    for y in range(labels.shape[0]):
        for x in range(labels.shape[1]):
            row = places[labels[y, x]] if labels[y, x] > 0 else -1
            if row >= 0:
                found[row, 0] = min(found[row, 0], y)
                found[row, 1] = min(found[row, 1], x)
                found[row, 2] = max(found[row, 2], y + 1)
                found[row, 3] = max(found[row, 3], x + 1)
    return found


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def figures(
    labels: NDArray[np.int32],
    pictures: Any,
    values: NDArray[np.int32],
    where: NDArray[np.int64],
    top_level: float,
    floors: Any,
) -> NDArray[np.float64]:
    """``(cells, FIGURES)``.

    Parameters
    ----------
    pictures
        Grey levels, the same smoothed (σ 1), length of its gradient, its Laplacian; each ``(Y, X)`` float32.
    values, where
        Labels, and their boxes.
    top_level
        Grey level from which a pixel is saturated.
    floors
        Least variance of grey levels and of gradients that counts as structure.
    """
    out = np.empty((len(values), len(FIGURES)))
    for row in range(len(values)):
        _one(labels, pictures, values[row], where[row], top_level, floors, out[row])
    return out


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _window(labels: NDArray[np.int32], pictures: Any, label: int, box: NDArray[np.int64]) -> Any:
    """Masks and pictures of the box of a cell with `PAD` pixels round it; beyond the image nothing is there."""
    height, width = box[2] - box[0] + 2 * PAD, box[3] - box[1] + 2 * PAD
    own, there = np.zeros((height, width), np.bool_), np.zeros((height, width), np.bool_)
    other = np.zeros((height, width), np.int32)
    cut = np.zeros((len(pictures), height, width), np.float32)
    for y in range(max(box[0] - PAD, 0), min(box[2] + PAD, labels.shape[0])):
        for x in range(max(box[1] - PAD, 0), min(box[3] + PAD, labels.shape[1])):
            wy, wx = y - box[0] + PAD, x - box[1] + PAD
            there[wy, wx] = True
            own[wy, wx] = labels[y, x] == label
            other[wy, wx] = 0 if own[wy, wx] else labels[y, x]
            for number in range(len(pictures)):
                cut[number, wy, wx] = pictures[number][y, x]
    return own, other, there, cut


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _one(
    labels: NDArray[np.int32],
    pictures: Any,
    label: int,
    box: NDArray[np.int64],
    top_level: float,
    floors: Any,
    out: NDArray[np.float64],
) -> None:
    own, other, there, cut = _window(labels, pictures, label, box)
    area, cy, cx, major, minor, eccentricity, turn = moments(own)
    whole, covered = overlapped(own, other)
    degrees = math.degrees(turn) + 90.0
    out[0], out[1], out[2], out[3] = cy + box[0] - PAD, cx + box[1] - PAD, area, perimeter(own)
    out[4], out[5], out[6], out[7] = major, minor, eccentricity, area / max(whole, 1)
    # scikit-image measures from the row axis; biologists from the horizontal, counter-clockwise.
    out[8] = -((-degrees + 90.0) % 180.0 - 90.0)
    out[9], out[10], out[11], out[12], out[14] = _levels(cut[0], own, top_level)
    out[13] = _levels(cut[3], own, top_level)[1] ** 2 / max(out[10] ** 2, 1e-12)
    inner, outer = distance(own), distance(~own)
    ring = there & (outer > GAP) & (outer <= RING) & (other == 0)
    out[16], out[15], spread = contrast(cut[0], own, ring, floors[0])
    out[17] = contrast(cut[2], own, ring, floors[1])[0]
    out[18] = offset(cut[1], own, ring, out[15], cy, cx)
    edge, share, weakest, contact, partner, dip, bend = outline(
        cut[1], own, other, there, inner - outer, (cy, cx), spread
    )
    sign = -1.0 if out[16] < 0 else 1.0
    out[19], out[20], out[21], out[22], out[23], out[24] = edge, share, weakest, contact, sign * dip, bend
    out[25], out[26] = math.nan, math.nan
    if partner:
        reach = max(box[2] - box[0], box[3] - box[1])
        wide = (
            max(box[0] - reach, 0),
            max(box[1] - reach, 0),
            min(box[2] + reach, labels.shape[0]),
            min(box[3] + reach, labels.shape[1]),
        )
        out[26], out[25] = joint(labels, label, partner, wide)
    height, summit, _, pieces = second_hump(inner, own, max(_BODY * area, 2.0))
    out[27] = height / summit if summit > 0 else 0.0
    out[28] = second_hump(sign * cut[1].astype(np.float64), own, max(_HUMP * area, 3.0))[0] / spread
    out[29], out[30] = covered, pieces
    corner = (box[0] - PAD, box[1] - PAD)
    out[31] = elsewhere(labels, pictures[1], own, label, corner, out[15], math.sqrt(floors[0]))
    out[32] = elsewhere(labels, pictures[2], own, label, corner, 0.0, math.sqrt(floors[1]))
    out[33] = lopsided(cut[2], own, (cy, cx))
    out[34], out[35] = profile(cut[1], own, there & (other == 0), inner, outer, spread)
    out[36], out[37], dip = halves(cut[1], own, (cy, cx), spread)
    out[38] = sign * dip
    out[39] = grain(cut[0], cut[1], own)


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _levels(picture: NDArray[np.float32], own: NDArray[np.bool_], top_level: float) -> Any:
    """Mean, standard deviation, lowest, highest, and share of pixels at the top level."""
    n, total, low, high, at_top = 0, 0.0, math.inf, -math.inf, 0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                value = float(picture[y, x])
                n += 1
                total += value
                low, high = min(low, value), max(high, value)
                at_top += value >= top_level
    mean, squares = total / n, 0.0
    for y in range(own.shape[0]):
        for x in range(own.shape[1]):
            if own[y, x]:
                squares += (float(picture[y, x]) - mean) ** 2
    return mean, math.sqrt(squares / n), low, high, at_top / n
