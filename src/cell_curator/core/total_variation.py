"""Chambolle's total-variation denoising as one fused pass over several iterations.

The same iteration and the same stopping rule as `skimage.restoration.denoise_tv_chambolle`
(Chambolle 2004, *J. Math. Imaging Vis.* 20:89), in float32. The image that the dual field
stands for is never stored: two rows of it at a time are made, used and forgotten. Memory is what
the loop waits for (7 ms an iteration at 2044×2048, 2 ms where all lies in the cache), so several
iterations follow each other down the image, one row apart, each core in a band of rows. Not for
volumes or colour.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cell_curator.core.bands import cuts, in_bands

_TAU = np.float32(0.25)  # step of the dual ascent in two dimensions: 1 / (2 * ndim)
_ONE = np.float32(1)
_NEAR = 1.05  # expected change of energy, in tolerances, from which on we look before we step
_LEAST_WEIGHT = 1e-9  # on the scale of the image: below, nothing changes
_TOGETHER = 6  # iterations that follow each other through the cache
_COMPILE: dict[str, Any] = {"nogil": True, "cache": True, "fastmath": True, "error_model": "numpy"}


@njit(**_COMPILE)  # type: ignore[misc]
def _primal_row(image, above, py, px, out):  # type: ignore[no-untyped-def]
    """One row of ``image + div p``; returns the sum of ``div p`` squared. ``above`` is ``py`` of the row before."""
    d = above[0] - py[0] - px[0]
    out[0] = image[0] + d
    total = d * d
    for x in range(1, image.size):
        d = above[x] - py[x] + px[x - 1] - px[x]
        out[x] = image[x] + d
        total += d * d
    return total


@njit(**_COMPILE)  # type: ignore[misc]
def _ascend_row(row, below, py, px, step):  # type: ignore[no-untyped-def]
    """One projected step of a row of the dual field; returns the total variation of the row."""
    last = row.size - 1
    total = np.float32(0)
    for x in range(last):
        gy = below[x] - row[x]
        gx = row[x + 1] - row[x]
        size = np.sqrt(gy * gy + gx * gx)
        total += size
        scale = _ONE / (_ONE + step * size)
        py[x] = (py[x] - _TAU * gy) * scale
        px[x] = (px[x] - _TAU * gx) * scale
    gy = below[last] - row[last]
    py[last] = (py[last] - _TAU * gy) / (_ONE + step * abs(gy))
    return total + abs(gy)


@njit(**_COMPILE)  # type: ignore[misc]
def _variation_row(row, below):  # type: ignore[no-untyped-def]
    last = row.size - 1
    total = np.float32(0)
    for x in range(last):
        gy = below[x] - row[x]
        gx = row[x + 1] - row[x]
        total += np.sqrt(gy * gy + gx * gx)
    return total + abs(below[last] - row[last])


@njit(**_COMPILE)  # type: ignore[misc]
def _step_row(image, py, px, y, pair, now, end, after, step, move, norms, variations, k):  # type: ignore[no-untyped-def]
    """Iteration ``k`` of row ``y``, whose primal row is ``pair[now]``; puts the next one into the other of the pair.

    Where ``y + 1 == end`` the next one is ``after``, or there is none if ``end`` is the image's.
    """
    below = pair[now]
    if y + 1 < end:
        # Row y of p is still the old one here: the primal row below needs it.
        norms[k] += _primal_row(image[y + 1], py[y], py[y + 1], px[y + 1], pair[1 - now])
        below = pair[1 - now]
    elif end < image.shape[0]:
        below = after
    if move:
        variations[k] += _ascend_row(pair[now], below, py[y], px[y], step)
    else:
        variations[k] += _variation_row(pair[now], below)


@njit(**_COMPILE)  # type: ignore[misc]
def _band(image, py, px, start, stop, count, step, move, pairs, upper, lower, norms, variations, zero):  # type: ignore[no-untyped-def]
    """``count`` iterations of the rows ``start..stop`` that need nothing from other bands.

    Iteration k runs one row behind iteration k - 1, while those rows are still in the cache. It does the
    rows from ``start + k`` to ``stop - 1 - k`` (all, at the image's border); `_seam` does the rest. For it
    the primal rows at both ends are kept: the first in ``lower[k]``, the one after the last in ``upper[k]``.
    """
    height = image.shape[0]
    for t in range(start, stop + count):
        for k in range(count):
            y = t - k
            first = start + k if start > 0 else 0
            end = stop - 1 - k if stop < height else height
            if y < first or y >= end:
                continue
            now = y % 2
            pair = pairs[k]
            if y == first:
                norms[k] += _primal_row(image[y], py[y - 1] if y > 0 else zero, py[y], px[y], pair[now])
                lower[k] = pair[now]
            # The row at ``end`` is not done here, but made: hence one further.
            _step_row(image, py, px, y, pair, now, min(end + 1, height), zero, step, move, norms, variations, k)
            if y == end - 1 and end < height:
                upper[k] = pair[1 - now]


@njit(**_COMPILE)  # type: ignore[misc]
def _seam(image, py, px, border, count, step, move, pairs, upper, lower, norms, variations, zero):  # type: ignore[no-untyped-def]
    """The same iterations of the rows near a border between two bands, once both are done."""
    for k in range(count):
        pair = pairs[k]
        first, end = border - 1 - k, border + k
        pair[first % 2] = upper[k]
        for y in range(first, end):
            _step_row(image, py, px, y, pair, y % 2, end, lower[k], step, move, norms, variations, k)


@njit(**_COMPILE)  # type: ignore[misc]
def _finish(image, py, px, start, stop, zero):  # type: ignore[no-untyped-def]
    """Rows ``start..stop`` of ``image + div p``, written over the image."""
    for y in range(start, stop):
        _primal_row(image[y], py[y - 1] if y > 0 else zero, py[y], px[y], image[y])


def denoise_tv(
    image: NDArray[np.float32],
    weight: float = 0.02,
    tolerance: float = 2e-4,
    iterations: int = 200,
    *,
    in_place: bool = False,
) -> NDArray[np.float32]:
    """Denoise one image.

    Parameters
    ----------
    image
        ``(Y, X)`` float32, any range; ``weight`` is on the same scale.
    weight
        Strength; 0 returns the image.
    tolerance
        Stop when the energy changes by less than this share of its first value.
    iterations
        At most this many iterations.
    in_place
        Put the result into ``image`` (which must be float32 and C-contiguous) instead of a new array.

    Returns
    -------
    ``(Y, X)`` float32. Memory needed besides: twice that of the image.
    """
    if not (in_place and image.dtype == np.float32 and image.flags.c_contiguous):
        image = np.array(image, dtype=np.float32, order="C")
    if weight < _LEAST_WEIGHT or image.size == 0:
        return image
    run = _Iterations(image, weight)
    energies: list[float] = []
    while len(energies) < iterations - 1:
        left = _left(energies, tolerance)
        # Near the end, look first: where the rule says stop, the step must not be taken any more.
        near = left < 2
        count = 1 if near else min(_TOGETHER, left - 1, iterations - 1 - len(energies))
        for energy in run.advance(count, move=not near):
            energies.append(energy)
            if energy == 0.0 or _converged(energies, tolerance):
                break
        else:
            if near:
                run.advance(1)
            continue
        taken = len(energies) - 1
        if not near and run.done != taken:  # steps too far, which the energy did not announce: all over again
            run.restart()
            while run.done < taken:
                run.advance(min(_TOGETHER, taken - run.done))
        break
    run.finish()
    return image


def steps_needed(images: Sequence[NDArray[np.float32]], weight: float, tolerance: float, iterations: int) -> int:
    """After how many steps `denoise_tv` would stop, had the image these parts and no others.

    `denoise_tv` with ``tolerance=0`` and one iteration more than that takes just as many.
    """
    if weight < _LEAST_WEIGHT or not images:
        return 0
    runs = [_Iterations(np.array(image, np.float32, order="C"), weight) for image in images]
    pixels = sum(run.image.size for run in runs)
    energies: list[float] = []
    while len(energies) < iterations - 1:
        count = min(_TOGETHER, iterations - 1 - len(energies))
        each = [np.multiply(run.advance(count), run.image.size / pixels) for run in runs]
        for energy in np.sum(each, axis=0):
            energies.append(float(energy))
            if energy == 0.0 or _converged(energies, tolerance):
                return len(energies) - 1
    return len(energies)


def _converged(energies: list[float], tolerance: float) -> bool:
    return len(energies) > 1 and abs(energies[-2] - energies[-1]) < tolerance * energies[0]


def _left(energies: list[float], tolerance: float) -> int:
    """In which of the next iterations the rule may say stop, if the changes of energy go on as they do.

    They shrink ever more slowly, and in turns, a large one after a small one: each is told from the last but one.
    """
    changes = np.abs(np.diff(energies[-5:]))
    if changes.size < 4:
        return _TOGETHER + 1
    goal = _NEAR * tolerance * energies[0]
    soonest = _TOGETHER + 1
    for turn in (0, 1):
        before, change = changes[turn], changes[turn + 2]
        shrink = min(change / before, 0.99) if before > 0 else 0.0
        for cycle in range(_TOGETHER):
            change *= shrink
            if change < goal:
                soonest = min(soonest, 1 + turn + 2 * cycle)
                break
    return soonest


class _Iterations:
    """The dual field of one image, and the threads that move it."""

    def __init__(self, image: NDArray[np.float32], weight: float) -> None:
        self.image, self.weight, self.done = image, weight, 0
        width = image.shape[1]
        self._cuts = cuts(image.shape, 4 * _TOGETHER)
        bands = len(self._cuts) - 1
        self._py, self._px = np.zeros_like(image), np.zeros_like(image)
        rows = np.empty((3, bands, 2 * _TOGETHER, width), np.float32)
        self._pairs = rows[0].reshape(bands, _TOGETHER, 2, width)
        self._upper, self._lower = rows[1], rows[2]
        self._zero = np.zeros(width, np.float32)
        self._step = np.float32(_TAU / weight)

    def advance(self, count: int, *, move: bool = True) -> list[float]:
        """Do ``count`` iterations; the energy per pixel before each. Without ``move`` (and with 1) only measure."""
        bands = len(self._cuts) - 1
        norms, variations = np.zeros((2, 2 * bands, count))
        common = (count, self._step, move)

        def band(index: int) -> None:
            _band(
                self.image, self._py, self._px, self._cuts[index], self._cuts[index + 1], *common,
                self._pairs[index], self._upper[index], self._lower[index], norms[index], variations[index], self._zero,
            )  # fmt: skip

        in_bands(self._cuts, band)
        for index in range(1, bands):
            _seam(
                self.image, self._py, self._px, self._cuts[index], *common, self._pairs[index],
                self._upper[index - 1], self._lower[index], norms[-index], variations[-index], self._zero,
            )  # fmt: skip
        self.done += count if move else 0
        return [float(e) for e in (norms.sum(axis=0) + self.weight * variations.sum(axis=0)) / self.image.size]

    def restart(self) -> None:
        """Go back to the beginning."""
        self._py[:], self._px[:], self.done = 0.0, 0.0, 0

    def finish(self) -> None:
        """Write the image that the dual field stands for over the original."""

        def band(index: int) -> None:
            _finish(self.image, self._py, self._px, self._cuts[index], self._cuts[index + 1], self._zero)

        in_bands(self._cuts, band)
