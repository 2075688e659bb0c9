"""A part of an image as the recipe will make it, at the resolution at which it is looked at.

Only what is visible is computed, and yet it looks as in the whole: grey levels (extremes,
percentiles, covered fraction) come from a small `Overview` of the image, CLAHE tiles lie where they
lie in the whole image, and what a step needs from beyond the border is read along. Images may be
NumPy arrays or anything that is sliced like one (dask, zarr). Rotation is geometry and is left to
whoever shows the picture. Nothing here knows about threads; see the dock for "latest wins".

The limits: where pixels are averaged, noise is, and steps that cut grey levels (black below) answer to
noise. And a disk of a background that is not wider than a few pixels of the overview (one in three at 2048²)
is seen too coarsely: on a noisy field the white top-hat of radius 2 px differed by 0.11 (mean absolute, 0..1)
at full resolution, of 8 px by 0.026, of 15 px by 0.004. A cell is wider than such a disk.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.grey_levels import extremes, stretch, to_grey
from cell_curator.core.overview import Measured, Overview, before_clip, from_clip, overview, undenoised
from cell_curator.core.preprocess import chain, smooth
from cell_curator.core.recipe import Background, Channel, Recipe, Tone, ZeroBelow
from cell_curator.core.steps import (
    Grey,
    clahe_tiles,
    coarse_background,
    select_channel,
)
from cell_curator.core.total_variation import denoise_tv

Region = tuple[int, int, int, int]
"""Top, left, bottom, right in pixels of the original, half open."""

# Averaging noise away before a step changes what the step makes of it. So many pixels are worked on at full
# resolution while a slider moves (1.5 million: 15 ms; denoising 0.8 million: 16 ms), and reduced afterwards.
_PIXELS = 1_500_000
_TV_PIXELS = 800_000
_TV_REACH = 12  # px of the preview beyond which denoising does not look, to the eye
_LEAST_TILE = 16  # px of the preview: below, a tile's histogram is too poor to equalise by


@dataclass(frozen=True)
class Preview:
    """A prepared part of an image.

    Parameters
    ----------
    image
        ``(y, x)`` float32 in 0..1.
    origin
        Where the corner of the first pixel lies in the original, (y, x) px.
    scale
        Pixels of the original that one pixel stands for, (y, x).
    used
        What adaptive parameters became, as in `preprocess.Prepared`.
    """

    image: NDArray[np.float32]
    origin: tuple[float, float]
    scale: tuple[float, float]
    used: dict[str, float] = field(default_factory=dict)

    @property
    def translate(self) -> tuple[float, float]:
        """The centre of the first pixel in the original's pixel coordinates: a layer's ``translate``."""
        return self.origin[0] + (self.scale[0] - 1) / 2, self.origin[1] + (self.scale[1] - 1) / 2


def preview(
    image: Any,
    recipe: Recipe,
    *,
    region: Region | None = None,
    step: float = 1.0,
    whole: Overview | None = None,
) -> Preview:
    """Prepare the visible region.

    Parameters
    ----------
    image
        ``(Y, X)`` or ``(C, Y, X)``: NumPy, dask, zarr.
    region
        What is visible, in pixels of the original (default: everything); cut at the image's border.
    step
        Pixels of the original that one pixel on screen stands for; below 1 counts as 1. The preview may
        be a little finer, since whole CLAHE tiles are scaled to whole pixels: see `Preview.scale`.
    whole
        The image's `overview`; made here if it is not given.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    image = image if image.ndim == 3 else image[None]
    whole = whole or overview(image)
    measured = whole.measure(recipe)
    cut = _Cut.of(image.shape[1:], measured.recipe, region, max(1.0, float(step)))
    early = replace(measured, recipe=before_clip(measured.recipe))
    late = replace(measured, recipe=from_clip(measured.recipe), levels=measured.levels | {"normalise": (0.0, 1.0)})
    unclipped: Grey = whole.recall("picture", (cut, early.recipe), lambda: _unclipped(image, whole, cut, early))
    grey = unclipped.copy()
    for _, picture in cut.chain(grey, late, None):
        grey = picture
    # Averages of ones may come out a last digit above one.
    return Preview(np.clip(cut.visible(grey), 0.0, 1.0), cut.origin, cut.scale, measured.used)


def _unclipped(image: Any, whole: Overview, cut: _Cut, measured: Measured) -> Grey:
    """The picture before clipping; what was read for it is kept, too."""
    recipe = measured.recipe
    grey, background = whole.recall("read", (cut, recipe.channel, recipe.background), lambda: cut.read(image, recipe))
    grey = grey.copy()
    for _, picture in cut.chain(grey, measured, background):
        grey = picture
    return np.asarray(grey, np.float32)


def stages(
    image: Any,
    recipe: Recipe,
    *,
    region: Region | None = None,
    side: int = 256,
    whole: Overview | None = None,
) -> list[tuple[str, NDArray[np.float32]]]:
    """A filmstrip: the title of each step with the picture after it, float32 in 0..1.

    The first is the channel as it came, stretched to 0..1, and so is the picture after background removal.
    ``side`` is about the longest side of the pictures in px.
    """
    image = image if image.ndim == 3 else image[None]
    measured = (whole or overview(image)).measure(recipe)
    top, left, bottom, right = region or (0, 0, *image.shape[1:])
    step = max(1.0, max(bottom - top, right - left) / side)
    cut = _Cut.of(image.shape[1:], measured.recipe, region, step)
    grey, background = cut.read(image, measured.recipe)
    film = [("Channel", stretch(cut.visible(grey), *measured.raw))]
    for name, picture in cut.chain(grey, measured, background):
        title = type(getattr(recipe, name)).model_fields["enabled"].title or name
        seen = cut.visible(picture)
        film.append((title, stretch(seen, *extremes(seen)) if name == "background" else np.clip(seen, 0.0, 1.0)))
    return film


def warm_up() -> None:
    """Compile (or load) every kernel, so that the first move of a slider is as fast as the next.

    Takes seconds the first time on a machine and a fraction of one later; call it in a background thread.
    """
    image = np.random.default_rng(0).integers(0, 255, (64, 64)).astype(np.uint16)
    steps = {"background": Background(enabled=True), "zero_below": ZeroBelow(enabled=True), "tone": Tone(enabled=True)}
    preview(image, Recipe(**steps), step=2.0)
    # Denoising that nears its end looks before it steps; one that ends at once goes back.
    denoise_tv(np.eye(8, dtype=np.float32), 0.1, 1e-3)
    denoise_tv(np.eye(8, dtype=np.float32), 0.1, 0.9)
    to_grey(np.eye(8, dtype=np.float32))


@dataclass(frozen=True)
class _Axis:
    """One axis of what is computed.

    ``start..stop`` of the original becomes ``count`` pixels, of which ``first..last`` are visible.
    """

    start: int
    stop: int
    count: int
    tiles: int
    first: int
    last: int

    @property
    def scale(self) -> float:
        return (self.stop - self.start) / self.count


def _axis(length: int, low: int, high: int, step: float, halo: int, tile: int) -> _Axis:
    """Lay out one axis; ``tile`` is 0 without CLAHE."""
    low = min(max(low, 0), length - 1)
    high = min(max(high, low + 1), length)
    start, stop = max(0, low - halo), min(length, high + halo)
    if tile:  # whole tiles, among them those whose curves a pixel lies between
        first = max(0, math.floor(start / tile - 0.5))
        tiles = min(math.ceil(length / tile), math.floor((stop - 1) / tile - 0.5) + 2) - first
        start, stop = first * tile, (first + tiles) * tile  # the last may reach beyond the image
        count = tiles * max(round(tile / step), min(tile, _LEAST_TILE))
    else:
        tiles, count = 0, max(1, round((stop - start) / step))
    scale = (stop - start) / count
    begin = math.floor((low - start) / scale)
    end = max(begin + 1, math.ceil((min(high, length) - start) / scale - 1e-9))
    return _Axis(start, stop, count, tiles, begin, end)


def tile_size(shape: tuple[int, ...], tiles: tuple[int, int]) -> tuple[int, int]:
    """Height and width in px of the tiles that OpenCV's CLAHE lays, (down, across) of them.

    Unless both sides can be divided, it extends both, by up to one pixel per tile.
    """
    if all(side % count == 0 for side, count in zip(shape, tiles, strict=True)):
        return shape[0] // tiles[0], shape[1] // tiles[1]
    return shape[0] // tiles[0] + 1, shape[1] // tiles[1] + 1


@dataclass(frozen=True)
class _Cut:
    """The part of an image that is computed, and the part of that which is visible."""

    y: _Axis
    x: _Axis

    @classmethod
    def of(cls, shape: tuple[int, ...], recipe: Recipe, region: Region | None, step: float) -> _Cut:
        top, left, bottom, right = region or (0, 0, *shape)
        halo = 2 * recipe.background.radius_px if recipe.background.enabled else 0
        if recipe.total_variation.enabled:
            halo = max(halo, math.ceil(_TV_REACH * step))
        tile = tile_size(shape, clahe_tiles(shape, recipe.clahe)) if recipe.clahe.enabled else (0, 0)
        return cls(
            _axis(shape[0], top, bottom, step, halo, tile[0]),
            _axis(shape[1], left, right, step, halo, tile[1]),
        )

    @property
    def origin(self) -> tuple[float, float]:
        return self.y.start + self.y.first * self.y.scale, self.x.start + self.x.first * self.x.scale

    @property
    def scale(self) -> tuple[float, float]:
        return self.y.scale, self.x.scale

    def read(self, image: Any, recipe: Recipe) -> tuple[Grey, Grey | None]:
        """The channel in this part, as finely as it is worked on, and its background where that is removed."""
        channel = recipe.channel
        if channel.mode == "index" and channel.index < image.shape[0]:
            image, channel = image[channel.index : channel.index + 1], Channel(mode="index", index=0)
        # What is not in memory is picked, since reading is what takes time; what is, is averaged.
        skip = (1, 1) if isinstance(image, np.ndarray) else tuple(int(scale) or 1 for scale in self.scale)
        part = np.asarray(image[:, self.y.start : self.y.stop : skip[0], self.x.start : self.x.stop : skip[1]])
        grey = select_channel(part, channel)
        below, right = (
            math.ceil((axis.stop - axis.start) / by) - size
            for axis, by, size in zip((self.y, self.x), skip, grey.shape, strict=True)
        )
        if below > 0 or right > 0:  # as OpenCV's CLAHE extends an image to whole tiles
            grey = cv2.copyMakeBorder(grey, 0, max(below, 0), 0, max(right, 0), cv2.BORDER_REFLECT_101)
        size = self.finer(_PIXELS)
        if not recipe.background.enabled:
            return _resized(grey, *size), None
        scale = (self.y.stop - self.y.start) / grey.shape[0]
        return _resized(grey, *size), coarse_background(grey, recipe.background, scale=scale, shape=size)

    def finer(self, pixels: int) -> tuple[int, int]:
        """Size (y, x) to work at: the original's, or what about so many pixels allow; never below the one shown."""
        return self._finer(self.y, pixels), self._finer(self.x, pixels)

    def _finer(self, axis: _Axis, pixels: int) -> int:
        tiles = axis.tiles or 1
        whole = (axis.stop - axis.start) / tiles
        area = (self.y.stop - self.y.start) * (self.x.stop - self.x.start)
        return tiles * max(axis.count // tiles, round(whole * min(1.0, math.sqrt(pixels / area))))

    def chain(self, grey: Grey, measured: Measured, background: Grey | None) -> Iterator[tuple[str, Grey]]:
        """The steps on what `read` gave; the pictures may be finer than what is shown until `visible` reduces them."""
        tiles = (self.y.tiles, self.x.tiles) if self.y.tiles else None
        recipe = measured.recipe
        scale = (self.y.stop - self.y.start) / grey.shape[0]
        steps, levels = undenoised(recipe), dict(measured.levels)
        for name, picture in chain(grey, steps, levels, scale=scale, tiles=tiles, background=background):
            grey = picture
            yield name, grey
        if recipe.total_variation.enabled:
            grey = _resized(grey, *self.finer(_TV_PIXELS))
            scale = (self.y.stop - self.y.start) / grey.shape[0]
            yield "total_variation", smooth(grey, recipe.total_variation, scale=scale)

    def visible(self, grey: Grey) -> Grey:
        """The visible part at the preview's resolution."""
        grey = _resized(grey, self.y.count, self.x.count)
        return grey[self.y.first : self.y.last, self.x.first : self.x.last]


def _resized(grey: Grey, height: int, width: int) -> Grey:
    if grey.shape == (height, width):
        return grey
    return np.asarray(cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA), np.float32)
