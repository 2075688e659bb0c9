"""All that is shown beside a preview: histogram and clip marks at once, the rest when the hand rests.

`look` is what one move of a slider needs, a few tens of milliseconds; `study` is what may follow:
the filmstrip, the quality figures, the direction of the grooves. Like `preview`, both read only what
is visible, from arrays in memory or lazily sliced ones. Nothing here knows about threads.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.overview import Overview, overview, unit_counts
from cell_curator.core.preprocess import turn_of
from cell_curator.core.preview import Preview, Region, preview, stages
from cell_curator.core.quality import Quality, measure_quality
from cell_curator.core.recipe import Recipe
from cell_curator.core.steps import clahe_note, select_channel

_STUDY_SIDE = 1024  # px of the original in which noise and focus are measured, in the middle of what is visible
_ANGLE_SIDE = 2048  # px of the original in which grooves are looked for


@dataclass(frozen=True)
class Histograms:
    """Grey levels of the whole image before clipping, and of the visible part when all is done.

    ``before`` and ``after`` are ``(BINS,)`` int64 (`overview.BINS`) counts of levels evenly from 0 to 1;
    ``low`` and ``high`` are the levels, before clipping, that become black and white (0 and 1 without), and
    ``percents`` the percentiles that they were set by.
    """

    before: NDArray[np.int64]
    after: NDArray[np.int64]
    low: float
    high: float
    percents: tuple[float, float] = (0.0, 100.0)

    def percent(self, level: float) -> float:
        """Share in % of the pixels that are darker than a level of the unclipped image."""
        below = np.concatenate(([0], np.cumsum(self.before)))
        at = float(np.interp(level, np.linspace(0, 1, len(below)), below))
        return 100.0 * at / max(int(below[-1]), 1)


@dataclass(frozen=True)
class Look:
    """The prepared part that is visible, and the histograms that belong to it."""

    preview: Preview
    histograms: Histograms


@dataclass(frozen=True)
class Study:
    """What takes a little longer.

    ``film`` is the filmstrip of `stages`; ``raw`` and ``prepared`` are the quality of the middle of the
    visible part before and after the steps, at full resolution; ``angle_deg`` is the turn of this image;
    ``notes`` are lines for the user.
    """

    film: tuple[tuple[str, NDArray[np.float32]], ...]
    raw: Quality
    prepared: Quality
    angle_deg: float
    notes: tuple[str, ...]


def look(
    image: Any, recipe: Recipe, *, region: Region | None = None, step: float = 1.0, whole: Overview | None = None
) -> Look:
    """The visible part and the histograms; parameters and errors as of `preview`."""
    whole = whole or overview(image)
    shown = preview(image, recipe, region=region, step=step, whole=whole)
    measured = whole.measure(recipe)
    clip = measured.recipe.clip
    low, high = measured.levels["clip"] if clip.enabled else (0.0, 1.0)
    percents = (clip.low_percent, clip.high_percent) if clip.enabled else (0.0, 100.0)
    return Look(shown, Histograms(measured.unclipped, unit_counts(shown.image), low, high, percents))


def study(
    image: Any,
    recipe: Recipe,
    *,
    region: Region | None = None,
    whole: Overview | None = None,
    side: int = 256,
) -> Study:
    """Filmstrip, quality and direction; ``side`` is the longest side of the filmstrip's pictures in px.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    image = image if image.ndim == 3 else image[None]
    whole = (whole or overview(image)).apart()
    middle = _middle(region or (0, 0, *image.shape[1:]), _STUDY_SIDE)
    top, left, bottom, right = middle
    raw = select_channel(np.asarray(image[:, top:bottom, left:right]), recipe.channel)
    prepared = preview(image, recipe, region=middle, whole=whole)
    angle, notes = angle_of(image, recipe)
    if recipe.clahe.enabled and (note := clahe_note(whole.shape, recipe.clahe)):
        notes = (*notes, note)
    return Study(
        tuple(stages(image, recipe, region=region, side=side, whole=whole)),
        measure_quality(raw),
        measure_quality(prepared.image),
        angle,
        notes,
    )


def used_notes(recipe: Recipe, used: Mapping[str, float]) -> dict[str, str]:
    """By step, a line on what its values came to for this image ('' where as set); ``used`` as of `Preview`."""
    notes = {"clip": "", "clahe": ""}
    covered = f"{100 * used['covered']:.0f} % covered" if "covered" in used else ""
    if "clip.high_percent" in used:
        notes["clip"] = f"Here: {used['clip.low_percent']:.2g} % to {used['clip.high_percent']:.4g} % ({covered})"
    elif recipe.clip.low_percent >= recipe.clip.high_percent:
        notes["clip"] = "Low is not below High: nothing is cut off"
    if "clahe.clip_limit" in used:
        notes["clahe"] = f"Here: clip limit {used['clahe.clip_limit']:.3g} ({covered})"
    return notes


def angle_of(image: Any, recipe: Recipe) -> tuple[float, tuple[str, ...]]:
    """The turn of an image, as `preprocess.turn_of`, from the middle of it if it is large."""
    if not recipe.rotate.enabled or recipe.rotate.method == "fixed":
        return turn_of(np.zeros((1, 1), np.float32), recipe.rotate)
    image = image if image.ndim == 3 else image[None]
    top, left, bottom, right = _middle((0, 0, *image.shape[1:]), _ANGLE_SIDE)
    return turn_of(select_channel(np.asarray(image[:, top:bottom, left:right]), recipe.channel), recipe.rotate)


def _middle(region: Region, side: int) -> Region:
    """The part of at most ``side`` × ``side`` px in the middle of a region."""
    top, left, bottom, right = region
    down, across = max(0, (bottom - top - side) // 2), max(0, (right - left - side) // 2)
    return top + down, left + across, bottom - down, right - across
