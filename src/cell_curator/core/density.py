"""How densely cells lie in an image, and recipes that follow it.

A fixed percentile means something else in each field: where cells cover 2 %, the 98.5th percentile
lies in the background and every cell turns white; where they cover half, it cuts only the
brightest cells. Adaptive percentiles keep the *share of the cells* that is cut as it was in the
published fields. This is an estimate for choosing grey levels, not a measurement of confluency.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.grey_levels import extremes, histogram, stretch
from cell_curator.core.recipe import Recipe

REFERENCE = 0.085
"""Covered fraction of the published fields: 320 nuclei of 1093 px on 2044×2048 px."""
_LEAST, _MOST = 0.002, 0.9  # covered fractions beyond are not believed
_ROUNDS = 3
_SIDE = 512  # px, longest side of the image that is looked at
_APART = 5.0  # cells are at least so many spreads of the background brighter; noise alone reaches 3


def covered_fraction(grey: NDArray[np.float32]) -> float:
    """Share of ``(Y, X)`` float32 that bright cells cover, 0..1; 0 where nothing stands out.

    A blurred small copy is cut halfway between the median of the cells and that of the background,
    starting from Otsu's threshold (1979): edges count half, however bright the brightest cells are.
    """
    factor = max(1, max(grey.shape) // _SIDE)
    small = cv2.resize(grey, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA) if factor > 1 else grey
    return covered_part(small, extremes(grey))


def covered_part(small: NDArray[np.float32], levels: tuple[float, float]) -> float:
    """As `covered_fraction`, from a copy of the image reduced to about 512 px and the extremes of the image."""
    small = cv2.GaussianBlur(stretch(small, *levels), (0, 0), 1.0)
    low, high = extremes(small)
    if not high > low:
        return 0.0
    threshold = otsu(*histogram(small, low, high, 256))
    for _ in range(_ROUNDS):
        bright = small > threshold
        if bright.all() or not bright.any():
            return 0.0
        threshold = (float(np.median(small[bright])) + float(np.median(small[~bright]))) / 2
    bright = small > threshold
    inside, outside = small[bright], small[~bright]
    if not inside.size or not outside.size:
        return 0.0
    if float(inside.mean()) - float(outside.mean()) < _APART * float(outside.std()):
        return 0.0
    return float(bright.mean())


def otsu(counts: NDArray[np.int64], values: NDArray[np.float64]) -> float:
    """Otsu's threshold of a histogram: what is above it is the brighter class."""
    weight = np.cumsum(counts)
    total = np.cumsum(counts * values)
    below, above = weight[:-1], weight[-1] - weight[:-1]
    with np.errstate(divide="ignore", invalid="ignore"):
        apart = below * above * (total[:-1] / below - (total[-1] - total[:-1]) / above) ** 2
    return float(values[int(np.nanargmax(apart))]) if np.isfinite(apart).any() else float(values[-1])


def adapted(recipe: Recipe, grey: NDArray[np.float32]) -> tuple[Recipe, dict[str, float]]:
    """The recipe with its adaptive parameters set for this image, and the values used.

    Parameters
    ----------
    grey
        ``(Y, X)`` float32: the channel that the recipe works on, or a small copy of it.

    Returns
    -------
    The recipe with plain numbers, and ``{"covered": …, "clip.high_percent": …}``; without an adaptive
    parameter the same recipe and an empty mapping.
    """
    if not (recipe.clip.enabled and recipe.clip.adaptive) and not (recipe.clahe.enabled and recipe.clahe.adaptive):
        return recipe, {}
    return adapt(recipe, covered_fraction(grey))


def adapt(recipe: Recipe, covered: float) -> tuple[Recipe, dict[str, float]]:
    """As `adapted`, for a covered fraction that is known already."""
    used = {"covered": covered}
    believed = min(max(covered, _LEAST), _MOST) if covered > 0 else REFERENCE
    clip, clahe = recipe.clip, recipe.clahe
    if clip.enabled and clip.adaptive:
        high = 100.0 - (100.0 - clip.high_percent) * believed / REFERENCE
        low = clip.low_percent * (1.0 - believed) / (1.0 - REFERENCE)
        high = max(high, 100.0 * (1.0 - believed))  # never below the darkest cell
        used["clip.low_percent"], used["clip.high_percent"] = low, high = min(low, 100.0), min(max(high, 0.0), 100.0)
        clip = clip.model_copy(update={"low_percent": low, "high_percent": high, "adaptive": False})
    if clahe.enabled and clahe.adaptive:
        limit = min(1.0, clahe.clip_limit * (believed / REFERENCE) ** 0.5)
        used["clahe.clip_limit"] = limit
        clahe = clahe.model_copy(update={"clip_limit": limit, "adaptive": False})
    return recipe.model_copy(update={"clip": clip, "clahe": clahe}), used
