"""Show an image to a network in overlapping tiles and merge what it answers, a row of tiles at a time.

Only one row of tiles is held in full precision, so memory grows with the image by the 6 bytes per
pixel of the answer. If memory runs out all the same, fewer and then smaller tiles are tried. Knows
nothing of cells or of torch; a network is a function from tiles to answers.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError

Forward = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""Answers ``(N, 3, y, x)`` for tiles ``(N, C, y, x)``."""

SMALLEST = 96
"""Side in px below which a tile is no longer halved."""

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Tiling:
    """How an image is cut: exactly as stock Cellpose does, since the network pools over each tile.

    Parameters
    ----------
    side
        Side of a tile, px; Cellpose 1–3 were trained on 224, Cellpose-SAM on 256.
    overlap
        Part of a tile that neighbours share at least.
    batch_pixels
        Pixels shown at once: bounds memory, and the time until a click on Cancel is seen.
    fixed
        Whether every tile must have ``side``; else a smaller image is one smaller tile.
    """

    side: int = 224
    overlap: float = 0.1
    batch_pixels: int = 4 * 224 * 224
    fixed: bool = False

    def cuts(self, length: int) -> tuple[list[int], int]:
        """Starts of the tiles over ``length`` px, and their length.

        The first start is negative, and the last tile ends beyond: 8 px or more of zeros around the image
        tell a cell cut by the border, whose flow stays inside, from one cut by a tile, whose flow leads on.
        """
        padded = int(np.ceil(length / 16)) * 16 + 16
        if self.fixed:
            padded = max(length, self.side)
        before = (padded - length) // 2
        if padded <= self.side:
            return [-before], padded
        pieces = int(np.ceil((1 + 2 * self.overlap) * padded / self.side))
        return [int(start) - before for start in np.linspace(0, padded - self.side, pieces)], self.side


def run_tiles(planes: NDArray[np.float32], forward: Forward, tiling: Tiling) -> Job[tuple[NDArray[np.float16], str]]:
    """The network's answer ``(3, Y, X)`` to ``planes`` ``(C, Y, X)``, and a note if memory ran short (else empty).

    One `Progress` per batch of tiles.

    Raises
    ------
    UserError
        If not even one small tile fits in memory.
    """
    note = ""
    while True:
        try:
            answer = yield from _merged(planes, forward, tiling)
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            smaller = _smaller(tiling)
            if smaller is None:
                raise UserError(
                    "memory ran out even with the smallest tiles; close other programs, or look for cells in a region"
                ) from error
            log.warning("memory ran out with tiles of %d px; trying %s", tiling.side, smaller)
            tiling = smaller
            note = f"memory ran short, so the image was looked at in smaller pieces ({tiling.side} px)"
        else:
            return answer, note


def out_of_memory(error: BaseException) -> bool:
    """Whether ``error`` is NumPy's or torch's way to say that memory ran out."""
    return isinstance(error, MemoryError) or "alloc" in str(error).lower() or "out of memory" in str(error).lower()


def _smaller(tiling: Tiling) -> Tiling | None:
    """The next thing to try: one tile at a time, then tiles of half the side."""
    if tiling.batch_pixels >= 2 * tiling.side**2:
        return replace(tiling, batch_pixels=tiling.side**2)
    if tiling.fixed or tiling.side // 2 < SMALLEST:
        return None
    return replace(tiling, side=tiling.side // 2, batch_pixels=(tiling.side // 2) ** 2)


def _merged(planes: NDArray[np.float32], forward: Forward, tiling: Tiling) -> Job[NDArray[np.float16]]:
    height, width = planes.shape[1:]
    tops, tall = tiling.cuts(height)
    lefts, wide = tiling.cuts(width)
    taper = np.outer(_taper(tall), _taper(wide)).astype(np.float32)
    answer = np.empty((3, height, width), dtype=np.float16)
    total = np.zeros((3, tall, lefts[-1] - lefts[0] + wide), dtype=np.float32)
    weight = np.zeros(total.shape[1:], dtype=np.float32)
    inner = slice(-lefts[0], width - lefts[0])
    batch = max(1, tiling.batch_pixels // (tall * wide))
    for row, top in enumerate(tops):
        for first in range(0, len(lefts), batch):
            yield Progress((row + first / len(lefts)) / len(tops), "looking for cells")
            some = lefts[first : first + batch]
            tiles = np.stack([piece(planes, top, left, tall, wide) for left in some])
            for left, out in zip(some, forward(tiles), strict=True):
                place = slice(left - lefts[0], left - lefts[0] + wide)
                total[:, :, place] += out * taper
                weight[:, place] += taper
        done = tops[row + 1] - top if row + 1 < len(tops) else tall  # rows that no later tile reaches
        low, high = max(top, 0), min(top + done, height)
        if high > low:
            rows = slice(low - top, high - top)
            answer[:, low:high] = total[:, rows, inner] / weight[rows, inner]
        total[:, : tall - done], weight[: tall - done] = total[:, done:].copy(), weight[done:].copy()
        total[:, tall - done :], weight[tall - done :] = 0, 0
    return answer


def piece(planes: NDArray[np.float32], top: int, left: int, tall: int, wide: int) -> NDArray[np.float32]:
    """A piece of the image; zero where it lies outside."""
    height, width = planes.shape[1:]
    tile = np.zeros((len(planes), tall, wide), dtype=np.float32)
    rows = slice(max(top, 0), min(top + tall, height))
    cols = slice(max(left, 0), min(left + wide, width))
    if rows.stop > rows.start and cols.stop > cols.start:
        tile[:, rows.start - top : rows.stop - top, cols.start - left : cols.stop - left] = planes[:, rows, cols]
    return tile


def _taper(side: int) -> NDArray[np.float64]:
    """Weight of a tile's pixels along one axis: near 0 at its border, as in Cellpose."""
    whole = max(224, side)
    away = np.abs(np.arange(whole) - (whole - 1) / 2)
    weight = 1 / (1 + np.exp((away - (whole / 2 - 20)) / 7.5))
    start = whole // 2 - side // 2
    middle: NDArray[np.float64] = weight[start : start + side]
    return middle


@dataclass(frozen=True)
class Block:
    """A part of an image that is outlined at once.

    ``core`` are the rows and columns whose cells count here, ``window`` the same with a margin.
    """

    core: tuple[slice, slice]
    window: tuple[slice, slice]


def blocks(shape: tuple[int, int], side: int, margin: int) -> Iterator[Block]:
    """Cut ``shape`` into cores of at most ``side`` px with a ``margin`` around; one block if it is small."""
    cuts = []
    for length in shape:
        count = 1 if length <= side + 2 * margin else int(np.ceil(length / side))
        edges = [round(i * length / count) for i in range(count + 1)]
        pairs = list(pairwise(edges))
        cuts.append([(slice(a, b), slice(max(a - margin, 0), min(b + margin, length))) for a, b in pairs])
    for core_y, window_y in cuts[0]:
        for core_x, window_x in cuts[1]:
            yield Block((core_y, core_x), (window_y, window_x))
