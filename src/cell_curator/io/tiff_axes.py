"""What the axes of a TIFF file mean, and the stored numbers of one plane of it.

Channels, colour samples, and the planes of a stack in depth or of a time lapse are told apart here. Of
a stack only the pages of the plane that is wanted are decoded. Called by `tiff` alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError

_LARGEST_PIECE = 1 << 28
"""Bytes of the largest piece that is unpacked for a window."""

_SERIES = {"Z": "depth (Z)", "T": "time (T)"}


@dataclass(frozen=True)
class Order:
    """How the axes of a series become (C, Y, X).

    ``axes`` and ``shape`` are those of one plane. In the file, planes are counted along ``axis``, which comes
    before the axis number ``at`` of these.
    """

    axes: str
    shape: tuple[int, ...]
    drop_alpha: bool
    rgb: bool
    axis: str = ""
    planes: int = 1
    at: int = 0

    @property
    def full(self) -> tuple[int, ...]:
        """Shape with the axis of the planes."""
        return (*self.shape[: self.at], self.planes, *self.shape[self.at :]) if self.axis else self.shape

    @property
    def size(self) -> tuple[int, int]:
        """Rows and columns."""
        return self.shape[self.axes.index("Y")], self.shape[self.axes.index("X")]

    @property
    def channels(self) -> int:
        """Number of channels, without transparency."""
        rest = [n for axis, n in zip(self.axes, self.shape, strict=True) if axis not in "YX"]
        return int(np.prod(rest, dtype=int)) - self.drop_alpha

    def arrange_part(self, data: NDArray[Any]) -> NDArray[Any]:
        """As `arrange`, for a part of the plane."""
        return replace(self, shape=data.shape).arrange(data)

    def arrange(self, data: NDArray[Any]) -> NDArray[Any]:
        """One plane's numbers as (C, Y, X)."""
        data = data.reshape(self.shape)
        front = [i for i, axis in enumerate(self.axes) if axis not in "YX"]
        data = data.transpose(*front, self.axes.index("Y"), self.axes.index("X"))
        return data.reshape(-1, *self.size)[: self.channels]


def order_of(path: Path, series: Any, tiff: tifffile.TiffFile) -> Order:
    """Decide which axes are channels and which counts the planes of a stack."""
    axes, full = series.get_axes(False), series.get_shape(False)
    if "Y" not in axes or "X" not in axes:
        axes, full = series.axes, series.shape
    kept = [(a, n) for a, n in zip(axes, full, strict=True) if a in "YX" or n != 1]
    if 0 in series.shape:
        raise UserError(f"{path}: has no pixels (shape {series.shape}); export the image again")
    if "Y" not in axes or "X" not in axes:
        raise UserError(f"{path}: is not an image of rows and columns ({series.shape}); export it again")
    if (tiff.imagej_metadata or {}).get("images", 1) > series.size // series.keyframe.size:
        raise _cut_short(path)  # the pages after the first are gone, and nothing else tells
    plain, shape = not (tiff.is_imagej or tiff.is_ome), tuple(n for _, n in kept)
    unknown = [(a, n) for a, n in kept if a not in "YXCSZT"]
    if plain and len(shape) == 3 and unknown and shape[2] <= 4 < min(shape[:2]):
        return Order("YXC", shape, False, False)  # an array saved with its channels last
    at = _planes_at(path, kept)
    rest = [one for index, one in enumerate(kept) if index != at]
    order = _samples(path, series.keyframe, "".join(a for a, _ in rest), tuple(n for _, n in rest))
    if at is None:
        return order
    axis, planes = kept[at]
    return replace(order, axis=axis if axis in _SERIES else "Z", planes=planes, at=at)


def _planes_at(path: Path, kept: list[tuple[str, int]]) -> int | None:
    """Which axis counts planes, if any: depth or time, or more than 4 pages of which the file says nothing."""
    named = [index for index, (axis, _) in enumerate(kept) if axis in _SERIES]
    if len(named) > 1:
        sizes = " and ".join(f"{kept[index][1]} in {_SERIES[kept[index][0]]}" for index in named)
        raise UserError(
            f"{path}: has planes {sizes}; split it, so that a file is either a stack or a time lapse "
            "(in Fiji: Image ▸ Duplicate… with a range)"
        )
    unknown = [index for index, (axis, _) in enumerate(kept) if axis not in "YXCSZT"]
    many = [index for index in unknown if kept[index][1] > 4 or kept[index][0] == "R"]
    if len(unknown) > 1 or (named and many) or any(kept[index][0] == "R" for index in many):
        raise UserError(
            f"{path}: has axes {''.join(axis for axis, _ in kept)} of {' × '.join(str(n) for _, n in kept)}, more than "
            "a stack or a time lapse has; export its positions as single files"
        )
    return next(iter(named or many), None)


def _samples(path: Path, page: Any, axes: str, shape: tuple[int, ...]) -> Order:
    """Colour samples of a pixel: which are light, which is transparency."""
    if page.photometric == tifffile.PHOTOMETRIC.SEPARATED:
        raise UserError(f"{path}: is in printing colours (CMYK); save it as RGB or grey levels")
    samples = shape[axes.index("S")] if "S" in axes else 1
    rgb = page.photometric in (tifffile.PHOTOMETRIC.RGB, tifffile.PHOTOMETRIC.YCBCR) and samples in (3, 4)
    alpha = any(int(extra) in (1, 2) for extra in page.extrasamples) or (rgb and samples == 4)
    only = axes.replace("S", "") in ("YX", "XY")
    return Order(axes, shape, alpha and only and samples > 1, rgb and only)


def stored(path: Path, tiff: tifffile.TiffFile, series: Any, order: Order, plane: int | None) -> NDArray[Any]:
    """The stored numbers of one plane in the order of its axes; other planes are not decoded."""
    if plane is None:
        _check_complete(path, series.pages)
        return np.asarray(series.asarray())
    if series.dataoffset is not None:  # all planes lie in the file as in memory, perhaps under one page
        place: list[Any] = [slice(None)] * len(order.full)
        place[order.at] = plane
        return _fetched(path, tiff, series, order.full, place)
    before = math.prod(order.full[: order.at])
    pages = len(series.pages)
    after, left = divmod(pages, before * order.planes)
    if left:  # planes within a page
        _check_complete(path, series.pages)
        whole: NDArray[Any] = np.asarray(series.asarray()).reshape(order.full)
        return whole[(slice(None),) * order.at + (plane,)]
    wanted = np.arange(pages).reshape(before, order.planes, after)[:, plane].ravel().tolist()
    _check_complete(path, [series.pages[index] for index in wanted])
    return np.asarray(tiff.asarray(key=wanted, series=0)).reshape(order.shape)


def size_of_level(level: Any, order: Order) -> tuple[int, int] | None:
    """Rows and columns of one level of a pyramid; None where its axes are not those of the image."""
    shape = _kept(level)
    if len(shape) != len(order.full):
        return None
    plane = [side for index, side in enumerate(shape) if not order.axis or index != order.at]
    return plane[order.axes.index("Y")], plane[order.axes.index("X")]


def _kept(level: Any) -> list[int]:
    axes, shape = level.get_axes(False), level.get_shape(False)
    if "Y" not in axes or "X" not in axes:
        axes, shape = level.axes, level.shape
    return [n for a, n in zip(axes, shape, strict=True) if a in "YX" or n != 1]


def check_pieces(path: Path, series: Any) -> None:
    """Refuse an image of which every window would mean unpacking most of the file.

    Raises
    ------
    UserError
        Names the file and the remedy.
    """
    page = series.keyframe
    piece = math.prod(page.chunks) * page.dtype.itemsize
    if series.dataoffset is None and piece > _LARGEST_PIECE:
        raise UserError(
            f"{path}: is packed in pieces of {piece / 1e6:.0f} MB, too large to be read in parts; "
            "save it as tiled TIFF or OME-Zarr"
        )


def stored_part(
    path: Path, tiff: tifffile.TiffFile, level: Any, order: Order, plane: int | None, box: tuple[int, int, int, int]
) -> NDArray[Any]:
    """The stored numbers of a box of one plane at one level, in the order of the plane's axes."""
    top, left, bottom, right = box
    at = {"Y": slice(top, bottom), "X": slice(left, right)}
    place: list[Any] = [at.get(axis, slice(None)) for axis in order.axes]
    if order.axis:
        place.insert(order.at, plane)
    shape = tuple(_kept(level))
    if level.dataoffset is not None:  # as in memory: only what is asked for is fetched from the disk
        return _fetched(path, tiff, level, shape, place)
    import zarr

    with level.aszarr(level=0) as store:
        array = zarr.open_array(store, mode="r")
        wide = [n for n in array.shape if n != 1]
        if len(wide) != len([n for n in shape if n != 1]) or array.ndim != len(shape):
            raise UserError(f"{path}: its planes cannot be read in parts; save it as tiled TIFF or OME-Zarr")
        return np.asarray(array[tuple(place)])


def _fetched(
    path: Path, tiff: tifffile.TiffFile, series: Any, shape: Sequence[int], place: Sequence[Any]
) -> NDArray[Any]:
    """A part of pixels that lie in the file as in memory.

    Read, not mapped: a mapped file that another program cuts short, or whose network goes, ends the process.
    """
    if series.dataoffset + series.nbytes > path.stat().st_size:
        raise _cut_short(path)
    spans = [range(n)[at] if isinstance(at, slice) else range(at, at + 1) for at, n in zip(place, shape, strict=True)]
    part = [axis for axis, (span, n) in enumerate(zip(spans, shape, strict=True)) if len(span) < n]
    last = max(part, default=0)  # all behind it is wanted whole, so that one piece of it is one piece of the file
    dtype = np.dtype(tiff.byteorder + series.dtype.char)
    steps = [math.prod(shape[axis + 1 :]) * dtype.itemsize for axis in range(len(shape))]
    made = np.empty([len(span) for span in spans], dtype)
    pieces = made.reshape(math.prod(made.shape[:last]), -1)
    with path.open("rb", buffering=0) as file:
        for piece, at in zip(pieces, product(*spans[:last]), strict=True):
            start = sum(number * step for number, step in zip((*at, spans[last].start), steps, strict=False))
            file.seek(series.dataoffset + start)
            left = memoryview(piece.view(np.uint8))
            while len(left):
                got = file.readinto(left)
                if not got:
                    raise _cut_short(path)
                left = left[got:]
    kept = tuple(slice(None) if isinstance(at, slice) else 0 for at in place)
    return np.asarray(made[kept], dtype=series.dtype)


def _check_complete(path: Path, pages: Sequence[Any]) -> None:
    """Segments that lie beyond the end of the file: it was cut short."""
    end = path.stat().st_size
    for page in pages:
        if page is None:
            raise UserError(f"{path}: planes of it are missing; export it again")
        stops = (o + n for o, n in zip(page.dataoffsets, page.databytecounts, strict=False))
        if max(stops, default=0) > end:
            raise _cut_short(path)


def _cut_short(path: Path) -> UserError:
    return UserError(f"{path}: is cut short (the file ends before its pixels do); copy it again")


def check_plane(path: Path, plane: int | None, axis: str, planes: int) -> None:
    """Refuse to read a stack as one image, or a plane that the file does not have.

    Raises
    ------
    UserError
        Names the file and the remedy.
    """
    if plane is None and axis:
        raise UserError(
            f"{path}: is a stack of {planes} planes, {_SERIES[axis]}, where one image is needed; "
            "export single planes or a maximum projection (in Fiji: Image ▸ Stacks ▸ Z Project…)"
        )
    if plane is not None and (not axis or not 0 <= plane < planes):
        there = f"has {planes} planes" if axis else "is no stack any more"
        raise UserError(f"{path}: {there}, so there is no plane {plane + 1}; put the file back or add it again")
