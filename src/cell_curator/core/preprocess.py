"""The preprocessing chain: image in, prepared image out.

`prepare` applies a `Recipe` to one image; `chain` is the same step by step, for filmstrips and for
parts of an image that shall look as in the whole. Where the recipe turns the image, the turn is
kept apart as an angle (`Prepared.angle_deg`): cells are found and corrected in the pixels of the
original, and only patches and saved files are turned. The steps themselves are in `steps`. This
module does not read files and does not know where the recipe came from.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.density import adapted
from cell_curator.core.grey_levels import extremes
from cell_curator.core.lazy import Lazy
from cell_curator.core.orientation import common_angle, estimate_angle, inside_mask, turn_image
from cell_curator.core.recipe import Recipe, Rotate, TotalVariation
from cell_curator.core.steps import (
    Grey,
    Levels,
    bend,
    black_below,
    clahe_note,
    clip_extremes,
    clip_levels,
    equalise,
    normalise,
    remove_background,
    select_channel,
    zero_level,
)
from cell_curator.core.total_variation import denoise_tv

__all__ = [
    "Prepared",
    "chain",
    "clip_extremes",
    "equalise",
    "normalise",
    "prepare",
    "select_channel",
    "turn_of",
    "vote",
]


@dataclass(frozen=True)
class Prepared:
    """A prepared image and what was found out on the way.

    ``image`` is ``(Y, X)`` float32 in 0..1, in the frame of the original. ``angle_deg`` is the
    counter-clockwise turn that makes its grooves vertical (0 where the recipe does not rotate).
    ``notes`` are lines for the user. ``used`` holds what adaptive parameters became for this image,
    such as ``{"covered": 0.21, "clip.high_percent": 96.2}``; it is empty without any.
    """

    image: NDArray[np.float32]
    angle_deg: float
    notes: tuple[str, ...] = ()
    used: Mapping[str, float] = field(default_factory=dict)

    def turned(self) -> NDArray[np.float32]:
        """The image with its grooves vertical, same shape; corners from outside are 0."""
        return turn_image(self.image, self.angle_deg, fill=0.0)

    def inside_mask(self) -> NDArray[np.bool_]:
        """``(Y, X)`` bool: which pixels of `turned` come from inside the original."""
        return inside_mask(self.image.shape, self.angle_deg)


def prepare(image: NDArray[np.generic] | Lazy, recipe: Recipe) -> Prepared:
    """Apply ``recipe`` to one image.

    Parameters
    ----------
    image
        ``(C, Y, X)`` or ``(Y, X)``, any real dtype. Values that are not finite count as the darkest one. Of a large
        image, which is gone over part by part, the result is a `lazy.Lazy`, too.
    recipe
        Steps and their values.

    Returns
    -------
    Prepared
        A constant image gives zeros. At most four times the memory of the result is needed on the way.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    if isinstance(image, Lazy):
        from cell_curator.core.large import prepared_lazily  # which is built on this module

        return prepared_lazily(image, recipe)
    grey = select_channel(image if image.ndim == 3 else image[None], recipe.channel)
    angle, notes = turn_of(grey, recipe.rotate)
    recipe, used = adapted(recipe, grey)
    if recipe.clahe.enabled and (note := clahe_note(grey.shape, recipe.clahe)):
        notes = (*notes, note)
    for _, picture in chain(grey, recipe, {}):
        grey = picture
    return Prepared(np.ascontiguousarray(grey), angle, notes, used)


def chain(
    grey: Grey,
    recipe: Recipe,
    levels: dict[str, Levels],
    *,
    scale: float = 1.0,
    tiles: tuple[int, int] | None = None,
    background: Grey | None = None,
) -> Iterator[tuple[str, Grey]]:
    """Every enabled step after the choice of the channel, with the picture that it makes.

    Parameters
    ----------
    grey
        ``(Y, X)`` float32, finite. **It is written over**, and so is every picture by the next step:
        copy what shall stay.
    recipe
        Its adaptive parameters count as they stand; see `density.adapted`.
    levels
        Grey levels by step. Those given are used; those missing are measured here and put in.
    scale
        Pixels of the original that one pixel of ``grey`` stands for along an axis.
    tiles
        Number of CLAHE tiles (down, across); default: as the recipe says.
    background
        Of `steps.coarse_background`; made here, exactly, if it is not given.
    """
    if recipe.background.enabled:
        if "background" not in levels:
            levels["background"] = extremes(grey)
        darkest = levels["background"][0]
        grey = remove_background(grey, recipe.background, scale=scale, darkest=darkest, estimate=background, out=grey)
        yield "background", grey
    if recipe.clahe.enabled:
        if "clahe" not in levels:
            levels["clahe"] = extremes(grey)
        grey = equalise(grey, recipe.clahe, tiles=tiles, levels=levels["clahe"], out=grey)
        yield "clahe", grey
    if "normalise" not in levels:
        levels["normalise"] = extremes(grey)
    low, high = levels["normalise"]
    if recipe.normalise.enabled or low < 0.0 or high > 1.0:
        grey = normalise(grey, levels=(low, high), out=grey)
        yield "normalise", grey
    if recipe.clip.enabled:
        if "clip" not in levels:
            levels["clip"] = clip_levels(grey, recipe.clip)
        grey = clip_extremes(grey, recipe.clip, levels=levels["clip"], out=grey)
        yield "clip", grey
    if recipe.zero_below.enabled:
        if "zero_below" not in levels:
            levels["zero_below"] = (zero_level(grey, recipe.zero_below), 1.0)
        grey = black_below(grey, recipe.zero_below, level=levels["zero_below"][0], out=grey)
        yield "zero_below", grey
    if recipe.tone.enabled:
        grey = bend(grey, recipe.tone, out=grey)
        yield "tone", grey
    if recipe.total_variation.enabled:
        yield "total_variation", smooth(grey, recipe.total_variation, scale=scale)


def smooth(grey: Grey, tv: TotalVariation, *, scale: float = 1.0) -> Grey:
    """Denoise an image in 0..1, writing over it; ``scale`` as in `chain`."""
    # Where a pixel is coarser, edges between neighbours are steeper: the same smoothing needs less weight.
    grey = denoise_tv(grey, tv.weight / scale, tv.tolerance, tv.iterations, in_place=True)
    return np.clip(grey, 0.0, 1.0, out=grey)


def vote(image: NDArray[np.generic] | Lazy, recipe: Recipe) -> float | None:
    """The turn that ``image`` (as for `prepare`, or a large one) asks for, to be counted by `orientation.common_angle`.

    None where it shows no grooves.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    if isinstance(image, Lazy):
        from cell_curator.core.large import votes  # which is built on this module

        return common_angle(votes(image, recipe.rotate, recipe.channel))
    grey = select_channel(image if image.ndim == 3 else image[None], recipe.channel)
    return estimate_angle(grey, recipe.rotate.method)


def turn_of(grey: Grey, rotate: Rotate) -> tuple[float, tuple[str, ...]]:
    """The angle that the recipe turns this image by, and notes for the user."""
    if not rotate.enabled:
        return 0.0, ()
    if rotate.method == "fixed":
        return rotate.angle_deg, ()
    found = estimate_angle(grey, rotate.method)
    if found is None:
        return 0.0, ("no grooves or lines were found, so the image is not turned; set a fixed angle if it should be",)
    return found, ()
