"""Outlines of cells as polygons, and back, exactly.

The one convention for all polygon formats: **a vertex lies on a corner of pixels**, so the pixel in
column x and row y is the square from (x, y) to (x + 1, y + 1), and **a pixel belongs to a
polygon when its centre (x + ½, y + ½) lies inside**, by the even-odd rule. ImageJ's wand and QuPath
use the same. With it the outline of a mask, filled again, is the mask: every pixel, holes,
several pieces and single pixels included.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ring = NDArray[np.float64]
"""(N, 2) corners as x, y; the first is not repeated at the end."""

Polygon = list[Ring]
"""The outer ring, then its holes."""

_STEPS = np.array([[1, 0], [0, 1], [-1, 0], [0, -1]])  # x, y of the four directions: right, down, left, up


def trace(labels: NDArray[np.int32]) -> Iterator[tuple[int, list[Polygon]]]:
    """(label, polygons) of every cell, ascending; one polygon for each piece that hangs together by edges.

    Parameters
    ----------
    labels
        (Y, X) integers, 0 = background.

    Yields
    ------
    Outer rings have a positive area in x, y (clockwise on the screen), holes a negative one. No ring
    crosses or touches itself, so each polygon is valid by the Simple Features standard.
    """
    from skimage.measure import label

    pieces = label(labels, background=0, connectivity=1)
    owner = np.zeros(int(pieces.max(initial=0)) + 1, np.int64)
    owner[pieces] = labels
    outer: dict[int, Polygon] = {}
    holes: dict[int, list[Ring]] = {}
    for piece, ring in _rings(pieces):
        if signed_area(ring) > 0:
            outer[piece] = [ring]
        else:
            holes.setdefault(piece, []).append(ring)
    for piece, inside in holes.items():
        outer[piece] += inside
    by_label: dict[int, list[Polygon]] = {}
    for piece in sorted(outer):
        by_label.setdefault(int(owner[piece]), []).append(outer[piece])
    yield from sorted(by_label.items())


def signed_area(ring: Ring) -> float:
    """Area enclosed, in px²; negative where the ring runs the other way round."""
    x, y = ring[:, 0], ring[:, 1]
    return float((x * np.roll(y, -1) - np.roll(x, -1) * y).sum() / 2)


def fill(rings: Iterable[Ring], shape: tuple[int, int]) -> tuple[tuple[slice, slice], NDArray[np.bool_]]:
    """Pixels whose centres lie inside, by the even-odd rule; what lies off the image is cut.

    Returns
    -------
    The box (rows, columns) within ``shape`` that the rings reach, and the mask in it.

    Raises
    ------
    ValueError
        A corner is NaN or infinite.
    """
    edges = [np.stack([ring, np.roll(ring, -1, axis=0)], axis=1) for ring in rings if len(ring) > 2]
    height, width = shape
    if not edges:
        return (slice(0, 0), slice(0, 0)), np.zeros((0, 0), bool)
    lines = np.concatenate(edges).astype(np.float64)
    if not np.isfinite(lines).all():
        raise ValueError("corners that are no numbers")
    low, high = lines.min(axis=(0, 1)), lines.max(axis=(0, 1))
    left, top = (int(np.clip(np.floor(v), 0, side)) for v, side in zip(low, (width, height), strict=True))
    right, bottom = (int(np.clip(np.ceil(v), 0, side)) for v, side in zip(high, (width, height), strict=True))
    right, bottom = max(right, left), max(bottom, top)
    flips = np.zeros((bottom - top, right - left + 1), np.uint8)
    rows, columns = _crossings(lines, top, bottom)
    np.add.at(flips, (rows - top, np.clip(columns - left, 0, right - left)), 1)
    mask = (np.cumsum(flips, axis=1, dtype=np.int64)[:, :-1] % 2).astype(bool)
    return (slice(top, bottom), slice(left, right)), mask


@dataclass
class Canvas:
    """A label image into which shapes are painted; where two overlap, the first keeps the pixels."""

    labels: NDArray[np.int32]
    overlapping: int = 0
    empty: int = 0

    @classmethod
    def of(cls, shape: tuple[int, int]) -> Canvas:
        """Nothing but background."""
        return cls(np.zeros(shape, np.int32))

    def put(self, label: int, polygons: Iterable[Polygon]) -> None:
        """Paint one cell of any number of pieces."""
        drawn = hidden = False
        for polygon in polygons:
            box, mask = fill(polygon, (self.labels.shape[0], self.labels.shape[1]))
            covered = mask & (self.labels[box] > 0) & (self.labels[box] != label)
            self.labels[box][mask & ~covered] = label
            drawn |= bool((mask & ~covered).any())
            hidden |= bool(covered.any())
        self.overlapping += hidden
        self.empty += not drawn

    def put_pixels(self, label: int, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> None:
        """Paint one cell from its pixels."""
        free = self.labels[rows, columns] == 0
        self.labels[rows[free], columns[free]] = label
        self.overlapping += not bool(free.all())
        self.empty += not bool(free.any())

    def notes(self) -> tuple[str, ...]:
        """What was not as a label image wants it."""
        lines = []
        if self.overlapping:
            lines.append(f"{self.overlapping} outlines overlap others; shared pixels went to the first of them")
        if self.empty:
            lines.append(f"{self.empty} outlines cover no pixel and were left out")
        return tuple(lines)


def numbered(wanted: Sequence[int | None]) -> list[int]:
    """Labels for outlines: those that the file tells if each tells another one, else 1, 2, 3…"""
    told = [number for number in wanted if number is not None and 0 < number < 2**31]
    if len(told) == len(wanted) == len(set(told)):
        return told
    return list(range(1, len(wanted) + 1))


# ---------------------------------------------------------------------- tracing


def _rings(pieces: NDArray[np.integer[Any]]) -> Iterator[tuple[int, Ring]]:
    """Every boundary ring of every piece, the piece on the right-hand side of its edges on the screen."""
    keys, piece, width = _edges(pieces)
    if not len(keys):
        return
    follower = _followers(keys, piece, width).tolist()
    start, turn = (keys // 4).tolist(), (keys % 4).tolist()
    owner = piece.tolist()
    seen = bytearray(len(follower))
    for first in range(len(follower)):
        if seen[first]:
            continue
        walk = []
        edge = first
        while not seen[edge]:
            seen[edge] = 1
            walk.append(edge)
            edge = follower[edge]
        corners = [start[b] for a, b in zip([walk[-1], *walk[:-1]], walk, strict=True) if turn[a] != turn[b]]
        for ring in _simple([*corners]):
            at = np.array(ring, np.int64)
            yield owner[first], np.stack([at % width, at // width], axis=1).astype(np.float64)


def _edges(pieces: NDArray[np.integer[Any]]) -> tuple[NDArray[np.int64], NDArray[np.int64], int]:
    """Directed pixel edges between different pieces: key = 4 · corner + direction (sorted), and the piece."""
    padded = np.pad(pieces, 1)
    width = pieces.shape[1] + 1  # corners in a row
    own = padded[1:-1, 1:-1]
    keys, owners = [], []
    # neighbour above / right / below / left, and the corner at which that side of the pixel starts
    sides = (
        (padded[:-2, 1:-1], 0, 0),
        (padded[1:-1, 2:], 0, 1),
        (padded[2:, 1:-1], 1, 1),
        (padded[1:-1, :-2], 1, 0),
    )
    for direction, (neighbour, down, right) in enumerate(sides):
        y, x = np.nonzero((own > 0) & (own != neighbour))
        keys.append(((y + down) * width + x + right) * 4 + direction)
        owners.append(own[y, x])
    joined, owner = np.concatenate(keys).astype(np.int64), np.concatenate(owners).astype(np.int64)
    order = np.argsort(joined)
    return joined[order], owner[order], width


def _followers(keys: NDArray[np.int64], piece: NDArray[np.int64], width: int) -> NDArray[np.int64]:
    """Index of the edge that comes next: round the same pixel if there is one, else straight on, else outwards.

    Turning round the same pixel first keeps pixels apart that touch at a corner only.
    """
    direction = keys % 4
    end = keys // 4 + _STEPS[direction, 0] + width * _STEPS[direction, 1]
    follower = np.full(len(keys), -1, np.int64)
    for turn in (1, 0, 3):
        wanted = end * 4 + (direction + turn) % 4
        at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        fits = (follower < 0) & (keys[at] == wanted) & (piece[at] == piece)
        follower[fits] = at[fits]
    return follower


def _simple(corners: list[int]) -> Iterator[list[int]]:
    """Cut a ring that meets itself in a point into rings that do not."""
    if len(set(corners)) == len(corners):
        yield corners
        return
    path: list[int] = []
    place: dict[int, int] = {}
    for corner in corners:
        if corner in place:
            cut = place[corner]
            yield path[cut:]
            for gone in path[cut + 1 :]:
                del place[gone]
            del path[cut + 1 :]
        else:
            place[corner] = len(path)
            path.append(corner)
    yield path


def _crossings(lines: NDArray[np.float64], top: int, bottom: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Where (N, 2 ends, xy) edges cross the middles of rows: row, and first column whose centre is not left of it."""
    (x0, y0), (x1, y1) = lines[:, 0].T, lines[:, 1].T
    first = np.clip(np.ceil(np.minimum(y0, y1) - 0.5), top, bottom).astype(np.int64)
    last = np.clip(np.ceil(np.maximum(y0, y1) - 0.5), top, bottom).astype(np.int64)
    counts = last - first
    index = np.repeat(np.arange(len(lines)), counts)
    rows = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts) + np.repeat(first, counts)
    part = (rows + 0.5 - y0[index]) / (y1[index] - y0[index])
    x = x0[index] + part * (x1[index] - x0[index])
    return rows, np.ceil(np.clip(x, -1e9, 1e9) - 0.5).astype(np.int64)
