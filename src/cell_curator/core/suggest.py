"""Starting values for the recipe, from one image, with a reason for each.

Rules of thumb, meant to be looked at and changed: noise sets the denoising, the covered fraction the
clip, the size of cells the CLAHE tile, grooves the rotation. Nothing here is learned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.density import REFERENCE, covered_fraction, otsu
from cell_curator.core.grey_levels import extremes, histogram
from cell_curator.core.orientation import estimate_angle, quarters_that_agree
from cell_curator.core.preprocess import chain
from cell_curator.core.quality import noise_sigma
from cell_curator.core.recipe import Channel, Clahe, Clip, Normalise, Recipe, Rotate, TotalVariation
from cell_curator.core.steps import Grey, select_channel

_SIDE = 1024  # px looked at, in the middle of the image and at full resolution, since noise must stay as it is
_QUARTERS = 2  # `quarters_that_agree` from which on we believe in grooves
_UNEVEN = 0.25  # robust spread of cell brightness from which on CLAHE helps
_CLEAN = 0.003  # noise below which denoising has nothing to do
_CUT_OF_CELLS = 0.05
_BLACK_OF_BACKGROUND = 0.2


@dataclass(frozen=True)
class Suggestion:
    """A recipe and, for each choice made, one line that says why."""

    recipe: Recipe
    reasons: tuple[str, ...]


def suggest(image: Any) -> Suggestion:
    """Suggest a recipe for ``(Y, X)`` or ``(C, Y, X)``, which may be sliced lazily (dask, zarr)."""
    image = image if image.ndim == 3 else image[None]
    top, left = (max(0, (side - _SIDE) // 2) for side in image.shape[1:])
    part = np.asarray(image[:, top : top + _SIDE, left : left + _SIDE])
    channel, why_channel = _channel(part.shape[0])
    grey = select_channel(part, channel)
    low, high = extremes(grey)
    if not high > low:
        return Suggestion(Recipe(), ("the image has one grey level only: nothing to go by, published values",))
    covered = covered_fraction(grey)
    rotate, why_rotate = _rotate(grey)
    clahe, why_clahe = _clahe(grey, covered)
    clip, why_clip = _clip(covered)
    recipe = Recipe(rotate=rotate, channel=channel, clahe=clahe, normalise=Normalise(enabled=True), clip=clip)
    tv, why_tv = _denoise(grey, recipe)
    recipe = recipe.model_copy(update={"total_variation": tv})
    reasons = (why_channel, why_rotate, why_clahe, why_clip, why_tv)
    return Suggestion(recipe, tuple(reason for reason in reasons if reason))


def _channel(count: int) -> tuple[Channel, str]:
    if count == 1:
        return Channel(), ""
    if count == 3:
        return Channel(), "three channels: taken as colour, their luminance is used"
    return Channel(mode="max"), f"{count} channels: the brightest at each pixel, so that cells show in any of them"


def _rotate(grey: Grey) -> tuple[Rotate, str]:
    angle = estimate_angle(grey)
    agreeing = 0 if angle is None else quarters_that_agree(grey, angle)
    if angle is None or agreeing < _QUARTERS:
        return Rotate(), "no grooves: not turned"
    return Rotate(enabled=True), f"grooves run the same way in {agreeing} of 4 quarters: turned by {angle:.1f}°"


def _clahe(grey: Grey, covered: float) -> tuple[Clahe, str]:
    sizes, levels = _cells(grey)
    if covered == 0.0 or sizes.size < 3:
        return Clahe(enabled=False), "no single cells stand out: local contrast off"
    width = float(np.median(sizes))
    spread = float(1.4826 * np.median(np.abs(levels - np.median(levels))) / max(float(np.median(levels)), 1e-9))
    tile = int(np.clip(8 * round(4 * width / 8), 32, 4096))
    if spread < _UNEVEN:
        return (
            Clahe(enabled=False, tile_px=tile),
            f"cells are about equally bright (spread {100 * spread:.0f} %): local contrast off",
        )
    return (
        Clahe(tile_px=tile),
        f"cells differ in brightness (spread {100 * spread:.0f} %) and are about {width:.0f} px wide:"
        f" local contrast in tiles of {tile} px, four cells across",
    )


def _cells(grey: Grey) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Equivalent diameters in px of the bright blobs, and how much brighter than the background each is."""
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    mask = (smooth > otsu(*histogram(smooth, *extremes(smooth), 256))).astype(np.uint8)
    mask = cv2.morphologyEx(mask, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    count, labels, facts, _ = cv2.connectedComponentsWithStats(mask)
    area = facts[1:count, cv2.CC_STAT_AREA].astype(np.float64)
    total = np.bincount(labels.ravel(), grey.ravel(), minlength=count)[1:]
    big = area >= max(30.0, 0.2 * float(np.median(area)) if area.size else 0.0)
    background = float(np.median(grey[mask == 0])) if (mask == 0).any() else 0.0
    return 2 * np.sqrt(area[big] / np.pi), total[big] / area[big] - background


def _clip(covered: float) -> tuple[Clip, str]:
    if covered == 0.0:
        return (
            Clip(low_percent=0.5, high_percent=99.5),
            "no bright cells on a dark ground: only the darkest and brightest 0.5 % are cut",
        )
    low = round(100 * _BLACK_OF_BACKGROUND * (1 - covered), 1)
    high = round(100 - 100 * _CUT_OF_CELLS * covered, 2)
    crowd = (
        "sparse" if covered < REFERENCE / 2 else "crowded" if covered > 3 * REFERENCE else "neither sparse nor crowded"
    )
    return (
        Clip(low_percent=low, high_percent=high),
        f"cells cover {100 * covered:.0f} % ({crowd}): a fifth of the background becomes black ({low:g} %),"
        f" a twentieth of the cells white ({high:g} %)",
    )


def _denoise(grey: Grey, recipe: Recipe) -> tuple[TotalVariation, str]:
    off = recipe.model_copy(update={"total_variation": TotalVariation(enabled=False)})
    for _, picture in chain(grey, off, {}):
        grey = picture
    noise = noise_sigma(grey)
    if noise < _CLEAN:
        return TotalVariation(enabled=False), f"noise is {100 * noise:.1f} % of the grey range: denoising off"
    weight = float(np.clip(round(noise, 3), 0.005, 0.3))
    return TotalVariation(
        weight=weight
    ), f"noise is {100 * noise:.1f} % of the grey range: denoising of strength {weight:g}"
