"""Large results as tiled TIFF with coarser levels, written part by part.

What is to be written is a `core.lazy.Lazy`; `Scratch` is one that is filled block by block on the disk first. Any
program that reads OME-TIFF pyramids (QuPath, Fiji with Bio-Formats, napari) opens such a file without
holding it. Label images get coarser levels of picked pixels, pictures of averaged ones.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tifffile
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.core.large import BLOCK, prepared_part, survey, turned_part
from cell_curator.core.lazy import Lazy, tiles
from cell_curator.core.recipe import Recipe
from cell_curator.io.atomic import atomic_file
from cell_curator.io.blocks import open_large
from cell_curator.io.images import read_info

_TILE = 512
_SMALLEST_LEVEL = 1024


class Scratch:
    """A picture ``(Y, X)`` float32 on the disk that is filled block by block, for as long as a job takes."""

    def __init__(self, folder: Path, shape: tuple[int, int]) -> None:
        import zarr

        self.folder, self.shape = folder, shape
        shutil.rmtree(folder, ignore_errors=True)
        self._group = zarr.open_group(folder, mode="w", zarr_format=3)
        self._levels = [self._level(0, shape)]

    def _level(self, number: int, shape: tuple[int, int]) -> Any:
        chunks = (min(_TILE, shape[0]), min(_TILE, shape[1]))
        return self._group.create_array(str(number), shape=shape, chunks=chunks, dtype="float32")

    def write(self, box: Box, part: NDArray[np.float32]) -> None:
        """Fill a box."""
        self._levels[0][box[0] : box[2], box[1] : box[3]] = part

    def read(self, box: Box) -> NDArray[np.float32]:
        """What a box holds."""
        return np.asarray(self._levels[0][box[0] : box[2], box[1] : box[3]], np.float32)

    def lazy(self) -> Lazy:
        """The picture with coarser levels, each half as fine as the one before."""
        while max(self._levels[-1].shape) > _SMALLEST_LEVEL:
            above = self._levels[-1]
            below = self._level(len(self._levels), (-(-above.shape[0] // 2), -(-above.shape[1] // 2)))
            for top, left, bottom, right in tiles(below.shape, BLOCK):
                part = np.asarray(above[2 * top : 2 * bottom, 2 * left : 2 * right])
                below[top:bottom, left:right] = cv2.resize(
                    part, (right - left, bottom - top), interpolation=cv2.INTER_AREA
                )
            self._levels.append(below)
        made = [_lazily(level) for level in self._levels]
        return Lazy(self.folder.name, self.shape, np.float32, made[0].window, made[1:])

    def remove(self) -> None:
        """Give the disk back."""
        shutil.rmtree(self.folder, ignore_errors=True)


def _lazily(array: Any) -> Lazy:
    def read(box: Box, step: int) -> NDArray[Any]:
        return np.asarray(array[box[0] : box[2] : step, box[1] : box[3] : step])

    return Lazy("scratch", array.shape, array.dtype, read)


def write_pyramid(path: Path, image: Lazy, dtype: Any, *, pixel_size_um: float | None = None) -> Job[None]:
    """Write ``(Y, X)`` and its coarser levels as one OME-TIFF with tiles, whole or not at all.

    Raises
    ------
    UserError
        The disk is full, or the place cannot be written to.
    """
    metadata: dict[str, Any] = {"axes": "YX"}
    if pixel_size_um:
        unit = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "µm"}
        metadata |= {"PhysicalSizeX": pixel_size_um, "PhysicalSizeY": pixel_size_um, **unit}
    levels = (image, *image.levels)
    options: dict[str, Any] = {"tile": (_TILE, _TILE), "compression": "zlib", "photometric": "minisblack"}
    with atomic_file(path) as file, tifffile.TiffWriter(file, bigtiff=True, ome=True) as tiff:
        for number, level in enumerate(levels):
            yield Progress(number / len(levels), "writing")
            more = {"subfiletype": 1} if number else {"subifds": len(levels) - 1, "metadata": metadata}
            data = _tiles(level, np.dtype(dtype))
            tiff.write(data, shape=level.shape, dtype=dtype, **options, **more)


def _tiles(image: Lazy, dtype: np.dtype[Any]) -> Iterator[NDArray[Any]]:
    """The tiles of an image row by row, each of full size."""
    height, width = image.shape
    for top in range(0, height, _TILE):
        band = image.window((top, 0, min(top + _TILE, height), width)).astype(dtype)
        for left in range(0, width, _TILE):
            tile = np.zeros((_TILE, _TILE), dtype)
            part = band[:, left : left + _TILE]
            tile[: part.shape[0], : part.shape[1]] = part
            yield tile


def prepare_large(path: Path, target: Path, recipe: Recipe) -> Job[tuple[float, tuple[int, ...]]]:
    """Write a large image prepared and turned; returns the turn in degrees and the size before it.

    Raises
    ------
    UserError
        The image cannot be read, or the disk is full.
    """
    image = open_large(path)
    size = read_info(path).pixel_size_um
    known = yield from scaled(survey(image, recipe), 0.0, 0.3)
    shape = known.shape
    scratch = Scratch(target.with_name(f".{target.name}.parts"), shape)
    turned = Scratch(target.with_name(f".{target.name}.turned"), shape) if known.angle_deg else scratch
    try:
        yield from _filled(scratch, lambda box: prepared_part(image, known, box), 0.3, 0.7)
        if turned is not scratch:
            yield from _filled(turned, lambda box: turned_part(scratch.read, shape, known.angle_deg, box), 0.7, 0.85)
        yield from scaled(write_pyramid(target, turned.lazy(), np.float32, pixel_size_um=size), 0.85, 1.0)
    finally:
        scratch.remove()
        turned.remove()
    return known.angle_deg, shape


def _filled(scratch: Scratch, make: Callable[[Box], NDArray[np.float32]], start: float, stop: float) -> Job[None]:
    boxes = list(tiles(scratch.shape, BLOCK))
    for index, box in enumerate(boxes):
        yield Progress(start + (stop - start) * index / len(boxes), "preparing")
        scratch.write(box, make(box))
