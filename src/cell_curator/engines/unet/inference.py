"""Show an image of any size to a network in overlapping tiles, and blend what it answers without seams.

A tile's answer fades out in the middle eighth of the overlap; further out, where the tile's own border is felt, it
does not count at all. Where the image ends the tile ends, too, as if the whole image were one tile. Only one
row of tiles is held on the way. If memory runs out, fewer and then smaller tiles are tried. Knows no cells.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.engines.tiling import out_of_memory, piece
from cell_curator.engines.unet.networks import STEP

NetworkFunction = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Answers ``(N, heads, y, x)`` for tiles ``(N, C, y, x)``, whose sides are multiples of 16."""

SMALLEST = 96
"""Side below which a tile is no longer halved, px."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grid:
    """How an image is cut; see `predict_tiled`."""

    tile: int
    overlap: int
    batch: int

    def cuts(self, length: int) -> tuple[list[int], int]:
        """Starts of the tiles over ``length`` px, all multiples of 16, and their length; the last may end beyond.

        They are as few as they can be, and as short as so many can be.
        """
        padded = _up(length)
        most = max(_up(self.tile), STEP)
        if padded <= most:
            return [0], padded
        shared = min(_up(self.overlap), most // 2 // STEP * STEP)
        count = -(-(padded - shared) // (most - shared)) if most > shared else padded // STEP
        side = _up(-(-(padded + (count - 1) * shared) // count))
        step = _up(-(-(padded - side) // (count - 1)))
        return sorted({*range(0, padded - side, step), padded - side}), side

    def smaller(self) -> Grid | None:
        """What to try next when memory ran out: fewer tiles at once, then smaller ones."""
        if self.batch > 1:
            return replace(self, batch=self.batch // 2)
        half = _up(self.tile // 2)
        return replace(self, tile=half) if SMALLEST <= half < self.tile else None


def predict_tiled(
    network: NetworkFunction,
    planes: NDArray[np.float32],
    tile: int = 512,
    overlap: int = 96,
    batch: int = 2,
    dtype: type[np.floating[Any]] = np.float32,
) -> Job[NDArray[Any]]:
    """What ``network`` answers to ``(C, Y, X)``: ``(heads, Y, X)``. One `Progress` per batch of tiles.

    Parameters
    ----------
    tile
        Side of a tile, px; as large as the image or larger: all of it at once.
    overlap
        What neighbours share at least, px; at most half a tile.
    batch
        Tiles that are shown at once.

    Raises
    ------
    UserError
        If not even one small tile fits in memory.
    """
    grid = Grid(min(tile, _up(max(planes.shape[1:]))), overlap, batch)
    while True:
        try:
            return (yield from _blended(network, planes, grid, dtype))
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            smaller = grid.smaller()
            if smaller is None:
                raise UserError(
                    "memory ran out even with the smallest tiles; close other programs, or look at a part of the image"
                ) from error
            log.warning("memory ran out with %s; trying %s", grid, smaller)
            grid = smaller


def _blended(
    network: NetworkFunction, planes: NDArray[np.float32], grid: Grid, dtype: type[np.floating[Any]]
) -> Job[NDArray[Any]]:
    height, width = planes.shape[1:]
    tops, tall = grid.cuts(height)
    lefts, wide = grid.cuts(width)
    across = lefts[-1] + wide
    down_ramps = _ramps(tops, tall, grid.overlap)
    over_ramps = _ramps(lefts, wide, grid.overlap)
    answer: NDArray[Any] | None = None
    total: NDArray[np.float32] | None = None
    for row, top in enumerate(tops):
        for first in range(0, len(lefts), grid.batch):
            yield Progress((row + first / len(lefts)) / len(tops), "looking at the image")
            some = range(first, min(first + grid.batch, len(lefts)))
            said = network(np.stack([piece(planes, top, lefts[index], tall, wide) for index in some]))
            if answer is None or total is None:
                answer = np.empty((said.shape[1], height, width), dtype)
                total = np.zeros((said.shape[1], tall, across), np.float32)
            for index, out in zip(some, said, strict=True):
                out *= down_ramps[row][:, np.newaxis]
                out *= over_ramps[index]
                total[:, :, lefts[index] : lefts[index] + wide] += out
            del said, out
        assert answer is not None
        assert total is not None
        done = tops[row + 1] - top if row + 1 < len(tops) else tall  # rows that no later tile reaches
        rows = slice(0, min(done, height - top))
        answer[:, top : top + rows.stop] = total[:, rows, :width]
        total[:, : tall - done] = total[:, done:].copy()
        total[:, tall - done :] = 0
    assert answer is not None
    return answer


def _ramps(starts: list[int], side: int, overlap: int) -> list[NDArray[np.float32]]:
    """Weight of every tile's pixels along one axis; those of all tiles make 1 at every pixel."""
    made = [np.ones(side) for _ in starts]
    for index, (start, after) in enumerate(pairwise(starts)):
        shared = start + side - after
        used = min(shared, max(overlap, 1))
        low = (shared - used) / 2
        place = (np.arange(shared) + 0.5 - low) / used  # 0..1 over the part that is blended
        rise = np.clip(8 * place - 3.5, 0, 1)
        rise = rise**2 * (3 - 2 * rise)
        made[index][side - shared :] *= 1 - rise
        made[index + 1][:shared] *= rise
    together = np.zeros(starts[-1] + side)
    for start, ramp in zip(starts, made, strict=True):
        together[start : start + side] += ramp
    return [
        (ramp / together[start : start + side]).astype(np.float32) for start, ramp in zip(starts, made, strict=True)
    ]


def _up(length: int) -> int:
    """The next multiple of 16."""
    return int(-(-length // STEP) * STEP)
