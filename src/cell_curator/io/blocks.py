"""Large images window by window, and the door for whoever does not care how large an image is.

`open_image` gives small images as arrays, as `images.read_image` does, and large ones as a `core.lazy.Lazy`
that reads what is sliced: tiles of a TIFF, or chunks of an OME-Zarr, never the whole. Pixels are the
same either way, but for two things that only the whole could tell: whole numbers wider than 16 bits become
float32 whatever their values, and pixels that are not finite become 0. Writes nothing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.lazy import Lazy, is_large
from cell_curator.io import bioio_reader, ome_zarr, tiff
from cell_curator.io.images import read_image, read_info
from cell_curator.io.tiff_axes import check_plane

_BAND_PX = 16_000_000
"""Pixels read at once where every so-manieth of a large box is wanted."""

_FINEST_LEVEL = 4096
"""Side in px of the finest of the levels that are made here: what stays in memory."""

Window = Callable[[Box, int], NDArray[Any]]
"""Pixels ``(C, y, x)`` of a box at a level, in the type stored."""


def open_image(path: Path | str, plane: int | None = None) -> NDArray[Any] | Lazy:
    """``(C, Y, X)`` as `images.read_image` gives it, or a large image that is read as it is sliced.

    Raises
    ------
    UserError
        As `images.read_image`; a large image that can only be read as a whole.
    """
    path = Path(path)
    info = read_info(path)
    return seen_from_afar(open_large(path, plane)) if is_large(info.shape) else read_image(path, plane)


def seen_from_afar(image: Lazy) -> Lazy:
    """The same with coarser levels, of picked pixels, if its file has none; they are read when first asked for."""
    if image.levels:
        return image
    step = 2 ** max(1, math.ceil(math.log2(max(image.shape[-2:]) / _FINEST_LEVEL)))
    whole = (0, 0, image.shape[-2], image.shape[-1])

    @lru_cache(maxsize=1)
    def picked() -> NDArray[Any]:
        return image.window(whole, step)

    def level(further: int) -> Lazy:
        shape = (len(image), *(-(-side // (step * further)) for side in whole[2:]))

        def read(box: Box, own: int) -> NDArray[Any]:
            part = picked()[:, ::further, ::further][:, box[0] : box[2] : own, box[1] : box[3] : own]
            return np.ascontiguousarray(part)

        return Lazy(image.name, shape, image.dtype, read)

    levels = [level(further) for further in (1, 2, 4)]
    return Lazy(
        image.name, image.shape, image.dtype, lambda box, own: _near_or_far(image, picked, step, box, own), levels
    )


def _near_or_far(image: Lazy, picked: Callable[[], NDArray[Any]], step: int, box: Box, own: int) -> NDArray[Any]:
    """Pixels of the file; of a large part looked at from afar those that were picked before."""
    if own % step or (box[0] % step or box[1] % step):
        return image.window(box, own)
    top, left, bottom, right = (-(-side // step) for side in box)
    return np.ascontiguousarray(picked()[:, top : bottom : own // step, left : right : own // step])


def open_large(path: Path | str, plane: int | None = None) -> Lazy:
    """An image of any size as one that is read as it is sliced, with the coarser levels that its file has.

    Raises
    ------
    UserError
        As `open_image`.
    """
    path = Path(path)
    info = read_info(path)
    check_plane(path, plane, info.axis, info.planes)
    if path.is_dir():
        store = ome_zarr.open_store(path)
        shapes = [_plane_shape(store.axes, level.shape) for level in store.levels]

        def stored(box: Box, level: int) -> NDArray[Any]:
            return store.read(box, plane, level)

        read: Window = stored
    elif path.suffix.lower() in bioio_reader.SUFFIXES:
        read, shapes = bioio_reader.open_windows(path, plane), [(info.shape[1], info.shape[2])]
    else:
        read, shapes = tiff.open_windows(path, plane)
    dtype = _plain_type(np.dtype(info.dtype))
    count = info.shape[0]
    made = [
        Lazy(path.name, (count, *shape), dtype, _reader(read, dtype, level, shapes))
        for level, shape in enumerate(shapes)
    ]
    return Lazy(path.name, made[0].shape, dtype, made[0].window, made[1:])


def _plane_shape(axes: Sequence[str], shape: Sequence[int]) -> tuple[int, int]:
    return int(shape[axes.index("y")]), int(shape[axes.index("x")])


def _reader(
    read: Window, dtype: np.dtype[Any], level: int, shapes: Sequence[tuple[int, int]]
) -> Callable[[Box, int], NDArray[Any]]:
    """Boxes of one level; of every so-manieth pixel the coarser levels give those that they have."""

    def window(box: Box, step: int) -> NDArray[Any]:
        if step == 1:
            return _plain(read(box, level), dtype)
        coarse = _coarser(shapes, level, step)
        if coarse != level:
            return _picked(read, dtype, box, step, coarse, (shapes[level], shapes[coarse]))
        top, left, bottom, right = box
        band = max(1, _BAND_PX // max(1, right - left) // step) * step
        parts = [
            _plain(read((start, left, min(start + band, bottom), right), level)[:, ::step, ::step], dtype)
            for start in range(top, bottom, band)
        ]
        return np.concatenate(parts, axis=1)

    return window


def _coarser(shapes: Sequence[tuple[int, int]], level: int, step: int) -> int:
    """The coarsest level that still has a pixel of its own for every ``step``-th."""
    height = shapes[level][0]
    fitting = [index for index, shape in enumerate(shapes) if index >= level and height / shape[0] <= step * 1.01]
    return max(fitting)


def _picked(
    read: Window, dtype: np.dtype[Any], box: Box, step: int, level: int, shapes: tuple[tuple[int, int], tuple[int, int]]
) -> NDArray[Any]:
    """Of a coarser level the pixels in which those wanted lie."""
    at = [
        np.minimum((np.arange(box[axis], box[axis + 2], step) * coarse) // fine, coarse - 1)
        for axis, (fine, coarse) in enumerate(zip(*shapes, strict=True))
    ]
    rows, cols = at
    part = read((int(rows[0]), int(cols[0]), int(rows[-1]) + 1, int(cols[-1]) + 1), level)
    return _plain(part[:, rows - rows[0]][:, :, cols - cols[0]], dtype)


def _plain_type(stored: np.dtype[Any]) -> np.dtype[Any]:
    if stored.kind == "b":
        return np.dtype(np.uint8)
    return np.dtype(stored.type) if stored.type in (np.uint8, np.uint16) else np.dtype(np.float32)


def _plain(data: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Bring a window to the type that the image has here."""
    if data.dtype.kind == "b":
        return data.astype(np.uint8) * np.uint8(255)
    with np.errstate(over="ignore", invalid="ignore"):
        data = np.ascontiguousarray(data, dtype=dtype)
    return np.nan_to_num(data, copy=False, nan=0.0, posinf=0.0, neginf=0.0) if dtype.kind == "f" else data
