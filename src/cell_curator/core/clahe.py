"""CLAHE of an image that is seen in parts: the same as OpenCV's of the whole, to the last grey level.

Each tile of the image has its own curve from grey level to grey level, and a pixel takes the mean of the
four curves round it, weighted by how near their tiles are (Zuiderveld 1994). The curves follow from
histograms, which can be gathered part by part; with the curves at hand any part can be treated
alone. Where tiles do not fit, OpenCV widens the image by mirroring it; so do the histograms here.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.grey_levels import quantise
from cell_curator.core.recipe import Clahe
from cell_curator.core.steps import Grey, Levels, clahe_tiles

_BINS = 256
_COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "error_model": "numpy"}


@dataclass(frozen=True)
class Curves:
    """The curves of all tiles of an image.

    Parameters
    ----------
    shape
        (Y, X) of the image.
    levels
        Grey levels that become black and white first.
    tile
        (down, across) px of a tile.
    table
        ``(tiles down, tiles across, 256 or 65536)``: the new level of each level; while they are gathered, counts.
    """

    shape: tuple[int, int]
    levels: Levels
    tile: tuple[int, int]
    table: NDArray[Any]

    @property
    def top(self) -> int:
        """The highest level."""
        return int(self.table.shape[2] - 1)


def empty(shape: tuple[int, int], clahe: Clahe, levels: Levels) -> Curves:
    """Counts to be filled in by `count`."""
    tiles = clahe_tiles(shape, clahe)
    padded = _padded(shape, tiles)
    depth = _BINS if clahe.depth == "8 bit" else 65_536
    sides = (padded[0] // tiles[0], padded[1] // tiles[1])
    return Curves(shape, levels, sides, np.zeros((*tiles, depth), np.int64))


def _padded(shape: tuple[int, int], tiles: tuple[int, int]) -> tuple[int, int]:
    """Size to which OpenCV mirrors an image; once one side does not fit, the other grows by a tile's count as well."""
    if shape[0] % tiles[0] == 0 and shape[1] % tiles[1] == 0:
        return shape
    return shape[0] + tiles[0] - shape[0] % tiles[0], shape[1] + tiles[1] - shape[1] % tiles[1]


def count(counts: Curves, grey: Grey, box: Box) -> None:
    """Add the pixels of a box, each once, and its mirror images."""
    tiles = counts.table.shape[:2]
    rows, cols = (
        _places(box[axis], box[axis + 2], counts.shape[axis], counts.tile[axis], tiles[axis]) for axis in (0, 1)
    )
    _count(quantise(grey, *counts.levels, counts.top), rows, cols, counts.table)


def _places(start: int, stop: int, length: int, tile: int, tiles: int) -> NDArray[np.int64]:
    """Tile of each pixel along an axis, and of its mirror image (-1: none): ``(2, n)``."""
    at = np.arange(start, stop)
    mirrored = 2 * (length - 1) - at
    there = (mirrored >= length) & (mirrored < tile * tiles)
    return np.stack([at // tile, np.where(there, mirrored // tile, -1)])


@njit(**_COMPILE)  # type: ignore[misc]
def _count(image, rows, cols, counts):  # type: ignore[no-untyped-def]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            value = image[y, x]
            for i in range(2):
                for j in range(2):
                    if rows[i, y] >= 0 and cols[j, x] >= 0:
                        counts[rows[i, y], cols[j, x], value] += 1


def curves(counts: Curves, clahe: Clahe) -> Curves:
    """The curves that follow from all counts."""
    area, depth = counts.tile[0] * counts.tile[1], counts.table.shape[2]
    most = max(int(max(clahe.clip_limit * _BINS, 1.0) * area / depth), 1)
    table = np.empty(counts.table.shape, np.uint16)
    _curves(counts.table.copy(), most, np.float32(depth - 1) / np.float32(area), table)
    return replace(counts, table=table)


@njit(**_COMPILE)  # type: ignore[misc]
def _curves(counts, most, scale, table):  # type: ignore[no-untyped-def]
    depth = counts.shape[2]
    for i in range(counts.shape[0]):
        for j in range(counts.shape[1]):
            own = counts[i, j]
            cut = 0
            for k in range(depth):
                if own[k] > most:
                    cut += own[k] - most
                    own[k] = most
            each = cut // depth
            rest = cut - each * depth
            own += each
            if rest > 0:
                stride = max(depth // rest, 1)
                k = 0
                while k < depth and rest > 0:
                    own[k] += 1
                    k += stride
                    rest -= 1
            total = 0
            for k in range(depth):
                total += own[k]
                table[i, j, k] = min(max(np.rint(np.float32(total) * scale), 0), depth - 1)


def equalise_part(grey: Grey, found: Curves, box: Box, scale: float = 1.0) -> Grey:
    """The pixels of a box as in the whole image, in 0..1; written over ``grey``.

    ``scale``: pixels of the image that one of ``grey``, and of ``box``, stands for.
    """
    seen = quantise(grey, *found.levels, found.top)
    sides = [_between(box[axis], box[axis + 2], found.tile[axis], found.table.shape[axis], scale) for axis in (0, 1)]
    (low_y, high_y, part_y), (low_x, high_x, part_x) = sides
    out = np.ascontiguousarray(grey)
    _apply(seen, found.table, low_y, high_y, part_y, low_x, high_x, part_x, out)
    return np.asarray(cv2.multiply(out, 1.0 / found.top, dst=out), np.float32)


def _between(start: int, stop: int, tile: int, tiles: int, scale: float) -> tuple[Any, Any, Any]:
    """The tiles before and after each pixel along an axis, and how far it is on the way from one to the other."""
    middles = np.arange(start, stop) if scale == 1.0 else (np.arange(start, stop) + 0.5) * scale - 0.5
    at = middles.astype(np.float32) * np.float32(1.0 / tile) - np.float32(0.5)
    low = np.clip(np.floor(at), -1, tiles - 1).astype(np.int64)
    return np.maximum(low, 0), np.minimum(low + 1, tiles - 1), (at - low.astype(np.float32)).astype(np.float32)


@njit(**_COMPILE)  # type: ignore[misc]
def _apply(seen, table, low_y, high_y, part_y, low_x, high_x, part_x, out):  # type: ignore[no-untyped-def]
    one = np.float32(1)
    for y in range(seen.shape[0]):
        ya = part_y[y]
        yb = one - ya
        above, below = table[low_y[y]], table[high_y[y]]
        for x in range(seen.shape[1]):
            value, xa = seen[y, x], part_x[x]
            xb = one - xa
            a, b = np.float32(above[low_x[x], value]), np.float32(above[high_x[x], value])
            c, d = np.float32(below[low_x[x], value]), np.float32(below[high_x[x], value])
            out[y, x] = np.rint((a * xb + b * xa) * yb + (c * xb + d * xa) * ya)
