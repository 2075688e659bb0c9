"""Loops of our own over bfloat16 numbers with channels last, forward and back.

Normalise a batch and bend it: PyTorch does each in steps of its own, and they were a seventh of a training step.
Pictures are ``(N, Y, X, C)`` int16, the upper half of a float32's bits; they may have an empty pixel more on the left
and on the right. For the loops they are rows, so that number k of every row is of the same channel. Batch normalisation
as in Ioffe & Szegedy 2015.

Lay four quarters of a picture together and apart: PyTorch's own way took as long as the convolution beside it. Lay out
what a convolution sees.
Knows no torch.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

Bits = NDArray[np.int16]
Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]

_ROWS = 64  # that are summed up in single precision


@njit(inline="always")  # type: ignore[untyped-decorator]
def _wide(bits: Any) -> Any:
    return np.uint32(np.uint32(np.uint16(bits)) << np.uint32(16)).view(np.float32)


@njit(inline="always")  # type: ignore[untyped-decorator]
def _narrow(value: Any) -> Any:
    """The nearest bfloat16; of two as near the larger one, which takes fewer steps than PyTorch's even one."""
    bits = np.uint32(np.float32(value).view(np.uint32) + np.uint32(0x8000))
    return np.int16(np.uint16(bits >> np.uint32(16)))


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def forward(
    x: Bits,
    width: int,
    weight: Floats,
    bias: Floats,
    running_mean: Floats,
    running_variance: Floats,
    momentum: float,
    eps: float,
    slope: np.float32,
    out: Bits,
) -> tuple[Floats, Doubles, Doubles]:
    """Fill ``out`` and move the running figures; rows are ``width`` pixels and what is empty beside them.

    Returns scale and shift ``(2, L)`` of each number of a row, mean and variance ``(C,)``.
    """
    channels = len(weight)
    length = width * channels
    rows, made = _rows(x), _rows(out)
    count = len(rows) * width
    total, squares = _by_channel(_moments(rows, length), channels)
    mean = total / count
    variance = np.maximum(squares / count - mean**2, 0)
    for c in range(channels):
        running_mean[c] += momentum * (mean[c] - running_mean[c])
        running_variance[c] += momentum * (variance[c] * count / max(count - 1, 1) - running_variance[c])
    lines = np.empty((2, length), np.float32)
    for k in range(length):
        c = k % channels
        scale = weight[c] / np.sqrt(variance[c] + eps)
        lines[0, k], lines[1, k] = scale, bias[c] - mean[c] * scale
    _bend(rows, lines, slope, made)
    return lines, mean, variance


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def backward(
    x: Bits, gradient: Bits, lines: Floats, mean: Doubles, variance: Doubles, eps: float, slope: np.float32, out: Bits
) -> Floats:
    """Fill ``out`` with the gradient of ``x``; returns those of weight and bias, ``(2, C)``."""
    rows, back = _rows(x), _rows(gradient)
    channels, length = len(mean), lines.shape[1]
    count = len(rows) * length // channels
    total, products = _by_channel(_gradient_sums(rows, back, lines, slope), channels)
    steep = 1 / np.sqrt(variance + eps)
    made = np.empty((2, channels), np.float32)
    leans = np.empty((2, length), np.float32)
    for c in range(channels):
        for_weight = (products[c] - mean[c] * total[c]) * steep[c]
        made[0, c], made[1, c] = for_weight, total[c]
        lean = -lines[0, c] * steep[c] * for_weight / count
        for k in range(c, length, channels):
            leans[0, k], leans[1, k] = lean, -lines[0, c] * total[c] / count - lean * mean[c]
    _gradient_back(rows, back, lines, leans, slope, _rows(out))
    return made


@njit(inline="always")  # type: ignore[untyped-decorator]
def _rows(picture: Bits) -> Bits:
    return picture.reshape(picture.shape[0] * picture.shape[1], picture.shape[2] * picture.shape[3])


@njit(inline="always")  # type: ignore[untyped-decorator]
def _inside(row: Bits, length: int) -> Bits:
    """Of a row with margins, alike on both sides, what is between them."""
    before = (len(row) - length) // 2
    return row[before : before + length]


@njit(inline="always")  # type: ignore[untyped-decorator]
def _emptied(row: Bits, length: int) -> Bits:
    """The same; the margins are emptied."""
    before = (len(row) - length) // 2
    row[:before] = 0
    row[before + length :] = 0
    return row[before : before + length]


@njit(cache=True)  # type: ignore[untyped-decorator]
def _by_channel(columns: Doubles, channels: int) -> Doubles:
    """``(2, L)`` summed up to ``(2, C)``."""
    made = np.zeros((2, channels))
    for k in range(columns.shape[1]):
        made[0, k % channels] += columns[0, k]
        made[1, k % channels] += columns[1, k]
    return made


@njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _moments(x: Bits, length: int) -> Doubles:
    """Sums of each column of ``x`` and of its squares."""
    rows = len(x)
    sums = np.zeros((2, length))
    few, fewer = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for start in range(0, rows, _ROWS):
        few[:] = 0
        fewer[:] = 0
        for row in range(start, min(start + _ROWS, rows)):
            seen = _inside(x[row], length)
            for k in range(length):
                value = _wide(seen[k])
                few[k] += value
                fewer[k] += value * value
        for k in range(length):
            sums[0, k] += few[k]
            sums[1, k] += fewer[k]
    return sums


@njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _bend(x: Bits, lines: Floats, slope: np.float32, out: Bits) -> None:
    """``scale · x + shift``, times ``slope`` where that is negative."""
    rows, length = len(x), lines.shape[1]
    scale, shift = lines[0], lines[1]
    for row in range(rows):
        seen, made = _inside(x[row], length), _emptied(out[row], length)
        for k in range(length):
            value = _wide(seen[k]) * scale[k] + shift[k]
            made[k] = _narrow(value if value > 0 else slope * value)


@njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _gradient_sums(x: Bits, gradient: Bits, lines: Floats, slope: np.float32) -> Doubles:
    """Sums by column of the gradient before the bend, and of it times ``x``."""
    rows, length = len(x), lines.shape[1]
    scale, shift = lines[0], lines[1]
    sums = np.zeros((2, length))
    few, fewer = np.zeros(length, np.float32), np.zeros(length, np.float32)
    for start in range(0, rows, _ROWS):
        few[:] = 0
        fewer[:] = 0
        for row in range(start, min(start + _ROWS, rows)):
            seen, back = _inside(x[row], length), _inside(gradient[row], length)
            for k in range(length):
                value, steep = _wide(seen[k]), _wide(back[k])
                steep = steep if value * scale[k] + shift[k] > 0 else slope * steep
                few[k] += steep
                fewer[k] += steep * value
        for k in range(length):
            sums[0, k] += few[k]
            sums[1, k] += fewer[k]
    return sums


@njit(nogil=True, cache=True, fastmath={"contract"})  # type: ignore[untyped-decorator]
def _gradient_back(x: Bits, gradient: Bits, lines: Floats, leans: Floats, slope: np.float32, out: Bits) -> None:
    """``scale · g + lean · x + less`` with g the gradient before the bend; ``out`` is laid out as ``x``."""
    rows, length = len(x), lines.shape[1]
    scale, shift, lean, less = lines[0], lines[1], leans[0], leans[1]
    for row in range(rows):
        seen, back, made = _inside(x[row], length), _inside(gradient[row], length), _emptied(out[row], length)
        for k in range(length):
            value, steep = _wide(seen[k]), _wide(back[k])
            steep = steep if value * scale[k] + shift[k] > 0 else slope * steep
            made[k] = _narrow(scale[k] * steep + lean[k] * value + less[k])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def lay(quarters: Bits, bias: Floats, out: Floats) -> None:
    """``(N, Y + 1, X + 1, 4 D)``, quarters of pixels, as ``(N, D, 2 Y, 2 X)``, which loses half a quarter all round."""
    for n in range(out.shape[0]):
        for d in range(out.shape[1]):
            for row in range(out.shape[2]):
                y, first = (row + 1) // 2, 4 * d + 2 * ((row + 1) % 2)
                for x in range(out.shape[3] // 2):
                    out[n, d, row, 2 * x] = _wide(quarters[n, y, x, first + 1]) + bias[d]
                    out[n, d, row, 2 * x + 1] = _wide(quarters[n, y, x + 1, first]) + bias[d]


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def spread(picture: Floats, out: Bits) -> None:
    """The way back of `lay`: ``(N, D, 2 Y, 2 X)`` into quarters ``(N, Y + 1, X + 1, 4 D)``; nothing where it ends."""
    out[:] = 0
    for n in range(picture.shape[0]):
        for d in range(picture.shape[1]):
            for row in range(picture.shape[2]):
                y, first = (row + 1) // 2, 4 * d + 2 * ((row + 1) % 2)
                for x in range(picture.shape[3] // 2):
                    out[n, y, x, first + 1] = _narrow(picture[n, d, row, 2 * x])
                    out[n, y, x + 1, first] = _narrow(picture[n, d, row, 2 * x + 1])


@njit(nogil=True, cache=True)  # type: ignore[untyped-decorator]
def windows(picture: Bits, out: Bits) -> None:
    """Of ``(N, 2 Y, 2 X, C)`` what a 4×4 convolution with stride 2 sees from each place, ``(N, Y, X, 4, 4, C)``."""
    edges = picture.shape[1:3]
    for n in range(out.shape[0]):
        for y in range(out.shape[1]):
            for x in range(out.shape[2]):
                for down in range(4):
                    for right in range(4):
                        row, column = 2 * y - 1 + down, 2 * x - 1 + right
                        if 0 <= row < edges[0] and 0 <= column < edges[1]:
                            out[n, y, x, down, right] = picture[n, row, column]
                        else:
                            out[n, y, x, down, right] = 0
