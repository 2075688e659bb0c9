"""Chambolle's total-variation denoising as one fused, parallel loop.

The same iteration as `skimage.restoration.denoise_tv_chambolle` (Chambolle 2004, *J. Math.
Imaging Vis.* 20:89), in float32 with all its passes merged, so that a slider can follow it.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

_TAU = 0.25  # step of the dual ascent in two dimensions: 1 / (2 * ndim)


@njit(parallel=True, cache=True, nogil=True, fastmath=True)  # type: ignore[misc]
def _denoised(image, py, px, out, norm):  # type: ignore[no-untyped-def]
    """``out = image + div p``; returns its part of the energy, the sum of ``div p`` squared."""
    height, width = image.shape
    for y in prange(height):
        total = 0.0
        for x in range(width):
            d = -py[y, x] - px[y, x]
            if y > 0:
                d += py[y - 1, x]
            if x > 0:
                d += px[y, x - 1]
            out[y, x] = image[y, x] + d
            total += d * d
        norm[y] = total
    return norm.sum()


@njit(parallel=True, cache=True, nogil=True, fastmath=True)  # type: ignore[misc]
def _ascend(out, py, px, step, norm):  # type: ignore[no-untyped-def]
    """One projected step of the dual field ``p``; returns the total variation of ``out``."""
    height, width = out.shape
    for y in prange(height):
        total = 0.0
        for x in range(width):
            gy = out[y + 1, x] - out[y, x] if y + 1 < height else np.float32(0.0)
            gx = out[y, x + 1] - out[y, x] if x + 1 < width else np.float32(0.0)
            size = math.sqrt(gy * gy + gx * gx)
            total += size
            scale = np.float32(1.0 / (1.0 + step * size))
            py[y, x] = (py[y, x] - np.float32(_TAU) * gy) * scale
            px[y, x] = (px[y, x] - np.float32(_TAU) * gx) * scale
        norm[y] = total
    return norm.sum()


def denoise_tv(
    image: NDArray[np.float32], weight: float = 0.02, tolerance: float = 2e-4, iterations: int = 200
) -> NDArray[np.float32]:
    """Denoise one image.

    Parameters
    ----------
    image
        ``(Y, X)`` float32, any range; ``weight`` is on the same scale.
    weight
        Strength; 0 returns a copy.
    tolerance
        Stop when the energy changes by less than this share of its first value.
    iterations
        At most this many iterations.

    Returns
    -------
    ``(Y, X)`` float32.
    """
    image = np.ascontiguousarray(image, dtype=np.float32)
    if weight <= 0 or image.size == 0:
        return image.copy()
    py, px = np.zeros_like(image), np.zeros_like(image)
    out = np.empty_like(image)
    rows = np.empty(image.shape[0], dtype=np.float64)
    first = previous = 0.0
    for iteration in range(iterations):
        energy = float(_denoised(image, py, px, out, rows))
        energy += weight * float(_ascend(out, py, px, _TAU / weight, rows))
        energy /= image.size
        if iteration == 0:
            first = previous = energy
        elif abs(previous - energy) < tolerance * first:
            break
        else:
            previous = energy
    return out
