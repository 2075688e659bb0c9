"""Why a search found no cells, and what to try: one line for the user.

Looks at grey levels only; what the network itself says is in `masks` and `diameter`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FLAT = 5.0
"""Contrast below which an image holds nothing but noise; pure noise of a megapixel reaches 3."""

FAR = 1.6
"""How far off a given diameter must be to be named, as a factor."""

CLEARER = 2.0
"""How much higher the contrast of another channel must be for it to be recommended."""


def contrast(image: NDArray[Any]) -> float:
    """How far bright or dark areas of ``(Y, X)`` stand out, in units of the noise after smoothing by 2 px.

    Infinite where there is structure and no noise; 0 for a constant image.
    """
    values = np.asarray(image[:: max(1, image.shape[0] // 1024), :: max(1, image.shape[1] // 1024)], dtype=np.float32)
    values = np.where(np.isfinite(values), values, 0)
    if min(values.shape) < 8 or np.ptp(values) == 0:
        return 0.0 if np.ptp(values) == 0 else float("inf")
    # The difference of neighbours has √2 times the noise of one; smoothing by 2 px leaves 1 / (4 √π) of it.
    noise = 1.4826 * np.median(np.abs(np.diff(values, axis=1))) / np.sqrt(2) / (4 * np.sqrt(np.pi))
    low, middle, high = np.percentile(ndimage.gaussian_filter(values, 2), (0.5, 50, 99.5))
    step = max(high - middle, middle - low)
    return float(step / noise) if noise > 0 else float("inf")


def flat_note(image: NDArray[Any]) -> str | None:
    """A line if ``(Y, X)`` is too dim or flat to hold cells."""
    found = contrast(image)
    if found >= FLAT:
        return None
    return (
        f"0 cells found: the image is almost flat (its brightest and darkest areas stand out by only {found:.1f} times "
        "the noise, cells by 10 or more); choose another channel, or check lamp and exposure"
    )


def size_note(given: float, looks: float) -> str | None:
    """A line if cells look as if they had quite another diameter than the one that was set (px)."""
    if not given or not looks or 1 / FAR < given / looks < FAR:
        return None
    return (
        f"0 cells found with a cell diameter of {given:g} px, but something looks like cells of about {looks:.0f} px; "
        f"set the cell diameter to {looks:.0f} or to 0 (automatic)"
    )


def polarity_note(given: str, looks_inverted: bool) -> str | None:
    """A line if cells look dark where bright ones were asked for, or the other way round."""
    looks = "dark" if looks_inverted else "bright"
    if given in ("auto", looks):
        return None
    return f"0 cells found: cells were said to be {given}, but look {looks} here; set “Cells are” to {looks} or to auto"


def channel_note(channels: NDArray[Any], used: int | None) -> str | None:
    """A line that names a channel of ``(C, Y, X)`` that stands out more than the one ``used`` (None: of the recipe)."""
    if channels.ndim != 3 or len(channels) < 2:
        return None
    seen = [contrast(channel) for channel in channels]
    best = int(np.argmax(seen))
    if used == best or (used is not None and seen[best] < CLEARER * max(seen[used], 1e-9)):
        return None
    return f"of {len(channels)} channels in the file channel {best} shows most; try it (Look at: raw, Channel: {best})"
