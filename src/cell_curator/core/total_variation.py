"""Chambolle's total-variation denoising as one fused pass per iteration, on all cores.

The same iteration and the same stopping rule as `skimage.restoration.denoise_tv_chambolle`
(Chambolle 2004, *J. Math. Imaging Vis.* 20:89), in float32. The image that the dual field
stands for is never stored: two rows of it at a time are made, used and forgotten, so that an
iteration reads and writes the dual field once. Not for volumes or colour.

Bands of rows go to threads of our own (the kernels release the GIL) rather than to numba's
`prange`: its default scheduler must not be entered by two threads at a time, which a preview
beside a running job would do.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

_TAU = np.float32(0.25)  # step of the dual ascent in two dimensions: 1 / (2 * ndim)
_ONE = np.float32(1)
_BAND = 1 << 16  # px that a further thread must have to do, to be worth starting
_NEAR = 1.2  # expected change of energy, in tolerances, from which on we look before we step
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
def _first_rows(image, py, px, starts, zero, rows, norms):  # type: ignore[no-untyped-def]
    """The first row of each band, made before any thread changes the dual field."""
    for band in range(starts.size):
        y = starts[band]
        norms[band] = _primal_row(image[y], py[y - 1] if y > 0 else zero, py[y], px[y], rows[band])


@njit(**_COMPILE)  # type: ignore[misc]
def _sweep(image, py, px, start, stop, first, after, step, pair, move):  # type: ignore[no-untyped-def]
    """One iteration in rows ``start..stop``; only measures unless ``move``.

    ``first`` is the primal row ``start``, ``after`` the primal row ``stop`` (the last row has none).
    Returns the sum of ``div p`` squared, without that of the first row, and the total variation.
    """
    norm = variation = 0.0
    now = 0
    pair[now] = first
    for y in range(start, stop):
        if y + 1 < stop:
            # Row y of p is still the old one here: the primal row below needs it.
            norm += _primal_row(image[y + 1], py[y], py[y + 1], px[y + 1], pair[1 - now])
            below = pair[1 - now]
        else:
            below = after if stop < image.shape[0] else pair[now]
        if move:
            variation += _ascend_row(pair[now], below, py[y], px[y], step)
        else:
            variation += _variation_row(pair[now], below)
        now = 1 - now
    return norm, variation


@njit(**_COMPILE)  # type: ignore[misc]
def _finish(image, py, px, zero, out):  # type: ignore[no-untyped-def]
    """``out = image + div p``; ``out`` may be ``image``."""
    for y in range(image.shape[0]):
        _primal_row(image[y], py[y - 1] if y > 0 else zero, py[y], px[y], out[y])


@cache
def _threads() -> tuple[ThreadPoolExecutor, int]:
    count = max(1, cv2.getNumberOfCPUs())
    return ThreadPoolExecutor(count, thread_name_prefix="total-variation"), count


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
    if weight <= 0 or image.size == 0:
        return image
    py, px = np.zeros_like(image), np.zeros_like(image)
    energy_of = _iteration(image, py, px, weight)
    first = previous = change = expected = math.inf
    for iteration in range(iterations - 1):
        # Near the end, look first: where the rule says stop, the step must not be taken any more.
        near = expected < _NEAR * tolerance * first
        energy = energy_of(not near)
        if iteration == 0:
            first = energy
            if first == 0.0:  # a constant image is its own solution
                break
        change, before = abs(previous - energy), change
        if iteration and change < tolerance * first:
            if not near:  # a step too far, which the energy did not announce: once more, that many steps
                py[:], px[:] = 0.0, 0.0
                for _ in range(iteration):
                    energy_of(True)
            break
        expected = change * min(1.0, change / before) if 0 < before < math.inf else change
        previous = energy
        if near:
            energy_of(True)
    zero = np.zeros(image.shape[1], np.float32)
    _finish(image, py, px, zero, image)
    return image


def _iteration(
    image: NDArray[np.float32], py: NDArray[np.float32], px: NDArray[np.float32], weight: float
) -> Callable[[bool], float]:
    """A function that does one iteration (or only measures) and returns the energy before it, per pixel."""
    height, width = image.shape
    pool, cores = _threads()
    bands = max(1, min(cores, image.size // _BAND, height))
    cuts = np.linspace(0, height, bands + 1).astype(np.int64)
    rows = np.zeros((bands + 1, width), np.float32)
    pairs = np.empty((bands, 2, width), np.float32)
    norms = np.empty(bands, np.float64)
    zero = np.zeros(width, np.float32)
    step = np.float32(_TAU / weight)

    def band(index: int, move: bool) -> tuple[float, float]:
        start, stop = cuts[index], cuts[index + 1]
        norm, variation = _sweep(image, py, px, start, stop, rows[index], rows[index + 1], step, pairs[index], move)
        return float(norm), float(variation)

    def energy(move: bool) -> float:
        _first_rows(image, py, px, cuts[:-1], zero, rows, norms)
        others = [pool.submit(band, index, move) for index in range(1, bands)]
        parts = [band(0, move), *(other.result() for other in others)]
        norm = float(norms.sum()) + sum(part[0] for part in parts)
        return (norm + weight * sum(part[1] for part in parts)) / image.size

    return energy
