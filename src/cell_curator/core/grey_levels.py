"""Grey levels of one image: finite numbers, extremes, histogram, percentiles, stretching.

Compiled loops that read the image once and make no temporary copies (`numpy.percentile` sorts a
copy: 60 ms at 2048², here 8 ms). Images must be as `to_grey` makes them. What the levels are used for is in `steps`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from numba import njit
from numpy.typing import NDArray

BINS = 65_536
"""Bins of the histogram behind `percentiles`: one for each level of a 16-bit image."""

_MOST = np.float32(1e30)  # beyond are no grey levels, but marks of missing values; below, sums of a few cannot overflow


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[misc]
def _count_beyond(image, most):  # type: ignore[no-untyped-def]
    beyond = 0
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            beyond += not abs(image[y, x]) < most  # NaN is less than nothing
    return beyond


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[misc]
def _count(image, low, scale, counts):  # type: ignore[no-untyped-def]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            counts[int((image[y, x] - low) * scale + 0.5)] += 1


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[misc]
def _stretch(image, low, scale, out):  # type: ignore[no-untyped-def]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            # In float64, since the range of a float32 image can overflow float32 itself.
            out[y, x] = min(max((image[y, x] - low) * scale, 0.0), 1.0)


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[misc]
def _quantise(image, low, scale, top, out):  # type: ignore[no-untyped-def]
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            out[y, x] = int(min(max((image[y, x] - low) * scale + 0.5, 0.0), top))


@njit(nogil=True, cache=True, error_model="numpy")  # type: ignore[misc]
def _bend(image, table, out):  # type: ignore[no-untyped-def]
    top = np.float32(table.size - 2)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            at = min(max(image[y, x] * top, np.float32(0)), top)
            index = int(at)
            out[y, x] = table[index] + (at - np.float32(index)) * (table[index + 1] - table[index])


def to_grey(pixels: NDArray[Any]) -> NDArray[np.float32]:
    """A float32 copy of ``(Y, X)`` of any real type, safe to count with.

    What is NaN, infinite or beyond ±1e30 becomes the smallest of the other values (0 where there is none).
    """
    with np.errstate(over="ignore", invalid="ignore"):  # a float64 beyond float32 becomes infinite
        grey = np.array(pixels, np.float32, order="C")
    if pixels.dtype.kind == "f" and _count_beyond(grey, _MOST):
        good = np.abs(grey) < _MOST
        grey[~good] = grey[good].min() if good.any() else 0.0
    return grey


def length(gx: NDArray[np.float32], gy: NDArray[np.float32]) -> NDArray[np.float32]:
    """Length of the vectors; rounded the same wherever the arrays lie in memory, which `cv2.magnitude` is not."""
    return np.asarray(np.sqrt(gx * gx + gy * gy), np.float32)


def extremes(image: NDArray[np.float32]) -> tuple[float, float]:
    """Smallest and largest value of ``(Y, X)`` float32."""
    low, high, _, _ = cv2.minMaxLoc(image)
    return float(low), float(high)


def histogram(
    image: NDArray[np.float32], low: float, high: float, bins: int = BINS
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Counts and values of ``bins`` levels, evenly from ``low`` to ``high``, which the image must not exceed."""
    counts = np.zeros(bins, np.int64)
    if high > low:
        _count(np.ascontiguousarray(image), low, (bins - 1) / (high - low), counts)
    else:
        counts[0] = image.size
    return counts, np.linspace(low, high, bins)


def percentiles(image: NDArray[np.float32], percents: Sequence[float]) -> tuple[float, ...]:
    """Percentiles as by `numpy.percentile`, to within 1/65,535 of the image's range.

    Parameters
    ----------
    image
        ``(Y, X)`` float32, finite, not empty.
    percents
        Each 0..100.
    """
    counts, values = histogram(image, *extremes(image))
    below = np.cumsum(counts)
    ranks = np.asarray(percents, np.float64) / 100 * (image.size - 1)
    lower = np.floor(ranks).astype(np.int64)
    at = values[np.searchsorted(below, lower, side="right")]
    after = values[np.searchsorted(below, np.minimum(lower + 1, image.size - 1), side="right")]
    return tuple(float(v) for v in at + (ranks - lower) * (after - at))


def stretch(
    image: NDArray[np.float32], low: float, high: float, out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Map ``low..high`` to 0..1 and cut what is beyond; zeros unless ``high > low``.

    ``out`` must be C-contiguous and may be ``image``.
    """
    out = np.empty(image.shape, np.float32) if out is None else out
    if high > low:
        # One memory layout, so that nothing has to be compiled again in the middle of a drag.
        _stretch(np.ascontiguousarray(image), low, 1.0 / (high - low), out)
    else:
        out[:] = 0.0
    return out


def quantise(image: NDArray[np.float32], low: float, high: float, top: int) -> NDArray[np.unsignedinteger[Any]]:
    """Map ``low..high`` to whole numbers 0..``top`` (at most 65,535), rounded."""
    out: NDArray[Any] = np.zeros(image.shape, np.uint8 if top < 256 else np.uint16)
    if high > low:
        _quantise(np.ascontiguousarray(image), low, top / (high - low), float(top), out)
    return out


def bend_by(
    image: NDArray[np.float32], curve: Callable[[NDArray[np.float64]], NDArray[np.float64]], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Put an image in 0..1 through a curve from 0..1 to 0..1, by linear interpolation in a table of 65,536 values.

    ``out`` must be C-contiguous and may be ``image``.
    """
    table = np.asarray(curve(np.linspace(0.0, 1.0, BINS)), np.float32)
    _bend(np.ascontiguousarray(image), np.append(table, table[-1]), out)  # one more, to interpolate at 1
    return out
