"""Images that are too large to be held in memory, in the shape of arrays.

A `Lazy` has shape and dtype and is sliced like an array, and each slice is read when it is asked for. Whatever
would need all of it at once gets a `UserError` of one line instead of the computer's memory. What
stands behind it is a function that reads a box; files are the business of `io.blocks`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.lib.mixins import NDArrayOperatorsMixin
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import UserError

LIMIT_MPX = 64.0
"""Megapixels above which one plane of an image is never held as a whole."""

_SETTING = "CELL_CURATOR_LARGE_MPX"

Read = Callable[[Box, int], NDArray[Any]]
"""``read(box, step)``: the pixels of a box, every ``step``-th in both directions, with all leading axes."""


def limit() -> float:
    """Pixels above which a plane is large: `LIMIT_MPX`, or what the environment says in CELL_CURATOR_LARGE_MPX."""
    try:
        return float(os.environ.get(_SETTING, LIMIT_MPX)) * 1e6
    except ValueError:
        return LIMIT_MPX * 1e6


def is_large(shape: Sequence[int]) -> bool:
    """Whether a plane of an image of shape ``(…, Y, X)`` is worked on in parts."""
    return shape[-2] * shape[-1] > limit()


class Lazy(NDArrayOperatorsMixin):
    """``(Y, X)`` or ``(C, Y, X)`` that is read as it is sliced.

    Parameters
    ----------
    name
        What it is called when something asks for too much of it.
    shape, dtype
        As of an array.
    read
        See `Read`; it gives ``(y, x)`` or ``(C, y, x)``.
    levels
        The same at coarser resolutions, for whoever looks from afar; the finest first, without this one.
    """

    nbytes = 0

    def __init__(self, name: str, shape: Sequence[int], dtype: Any, read: Read, levels: Sequence[Lazy] = ()) -> None:
        self.name, self.shape, self.dtype = name, tuple(int(side) for side in shape), np.dtype(dtype)
        self.levels = tuple(levels)
        self._read = read

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of values."""
        return int(np.prod(self.shape, dtype=np.int64))

    def __len__(self) -> int:
        return self.shape[0]

    def window(self, box: Box, step: int = 1) -> NDArray[Any]:
        """The pixels of a box, which must lie within the image, every ``step``-th in both directions."""
        return self._read(box, step)

    def __getitem__(self, key: Any) -> Any:
        return self.sliced(key, refuse=True)

    def sliced(self, key: Any, *, refuse: bool = False) -> Any:
        """As by an index: the pixels, or for whole channels another `Lazy`; refuses too many pixels only if told to."""
        key = key if isinstance(key, tuple) else (key,)
        if not all(isinstance(one, slice | int | np.integer) for one in key if one is not Ellipsis):
            raise UserError(self._too_large())  # picking pixels by mask or by list: all of it would be looked through
        if Ellipsis in key:
            at = key.index(Ellipsis)
            key = (*key[:at], *(slice(None),) * (self.ndim - len(key) + 1), *key[at + 1 :])
        key = (*key, *(slice(None),) * (self.ndim - len(key)))
        front, (rows, cols) = key[:-2], key[-2:]
        if rows == cols == slice(None) and front not in ((), (slice(None),)):
            return self._channels(front[0])
        (top, bottom, down), (left, right, across) = (
            _span(one, side) for one, side in zip((rows, cols), self.shape[-2:], strict=True)
        )
        step = min(down, across)
        if refuse and max(0, bottom - top) // down * (max(0, right - left) // across) > limit():
            raise UserError(self._too_large())
        if bottom <= top or right <= left:
            part = np.zeros((*self.shape[:-2], max(0, bottom - top), max(0, right - left)), self.dtype)
        else:
            part = self._read((top, left, bottom, right), step)
        part = part[..., :: down // step, :: across // step] if down % step == across % step == 0 else part
        if down % step or across % step:
            part = self._read((top, left, bottom, right), 1)[..., ::down, ::across]
        part = part[..., 0, :] if not isinstance(rows, slice) else part
        part = part[..., 0] if not isinstance(cols, slice) else part
        return part[front[0]] if front else part

    def _channels(self, chosen: Any) -> Lazy:
        """Some channels, or one without its axis; still nothing is read."""
        shape = np.empty((self.shape[0], 0))[chosen].shape[:-1] + self.shape[1:]
        levels = [level._channels(chosen) for level in self.levels]
        return Lazy(self.name, shape, self.dtype, lambda box, step: self._read(box, step)[chosen], levels)

    def _too_large(self) -> str:
        height, width = self.shape[-2:]
        return (
            f"{self.name}: is too large ({width} × {height} px) to be held as a whole, which this needs; "
            "cut out the part that matters and work on that"
        )

    def __array__(self, *_: Any, **__: Any) -> NDArray[Any]:
        raise UserError(self._too_large())

    def __array_ufunc__(self, *_: Any, **__: Any) -> Any:
        raise UserError(self._too_large())

    def __array_function__(self, *_: Any, **__: Any) -> Any:
        raise UserError(self._too_large())

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_") or not hasattr(np.ndarray, name):
            raise AttributeError(name)
        raise UserError(self._too_large())  # copy, max, astype…: all of them look at every pixel


def _span(key: Any, side: int) -> tuple[int, int, int]:
    """Start, stop and step of one axis; an index is a span of one."""
    if isinstance(key, slice):
        start, stop, step = key.indices(side)
        if step < 1:
            raise IndexError("steps backwards are not read")
        return start, stop, step
    at = int(key)
    at += side * (at < 0)
    if not 0 <= at < side:
        raise IndexError(f"{key} is outside 0..{side - 1}")
    return at, at + 1, 1


def tiles(shape: Sequence[int], side: int) -> Iterator[Box]:
    """``(Y, X)`` in boxes of at most ``side`` × ``side`` px, row by row."""
    for top in range(0, shape[0], side):
        for left in range(0, shape[1], side):
            yield top, left, min(top + side, shape[0]), min(left + side, shape[1])
