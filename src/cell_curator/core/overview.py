"""What the steps need to know of a whole image, from a small copy of it.

A preview prepares only what is in view, and yet it must look as in the whole: extremes, percentiles and the
covered fraction come from here. What was measured last is kept, so that a slider measures only what it moves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.density import adapt, covered_fraction
from cell_curator.core.grey_levels import extremes, histogram, to_grey
from cell_curator.core.preprocess import chain
from cell_curator.core.recipe import Channel, Clip, Recipe, Rotate, Tone, TotalVariation, ZeroBelow
from cell_curator.core.steps import Grey, Levels, clahe_tiles, coarse_background, pool, select_channel

BINS = 192
"""Of the histograms that are shown."""

_SIDE = 768  # px, of an overview
_BEFORE_CLIP = ("background", "clahe", "normalise")


@dataclass(frozen=True)
class Overview:
    """Every so-manieth pixel of an image, ``small`` (C, y, x), and the size (Y, X) of the whole.

    Pixels are picked, not averaged: noise and extremes stay as they are, and with them the percentiles.
    ``extremes`` holds each channel's smallest and largest value where all pixels were at hand, and ``blocks``
    the darkest and the brightest of those that each picked one stands for, both (C, y, x).
    """

    small: NDArray[Any]
    shape: tuple[int, int]
    extremes: tuple[Levels, ...] = ()
    blocks: tuple[NDArray[Any], NDArray[Any]] | None = None
    _known: dict[str, tuple[Any, Any]] = field(default_factory=dict, repr=False, compare=False)

    def measure(self, recipe: Recipe) -> Measured:
        """What the recipe's steps need to know of the whole image: a few milliseconds, nothing where it is known."""
        # After these steps nothing is measured any more.
        steps = undenoised(recipe).model_copy(update={"rotate": Rotate(), "tone": Tone()})
        known: Measured = self.recall("all", steps, lambda: self._measure(steps))
        return replace(known, recipe=recipe.model_copy(update={"clip": known.recipe.clip, "clahe": known.recipe.clahe}))

    def _measure(self, recipe: Recipe) -> Measured:
        used: dict[str, float] = {}
        if recipe.clip.adaptive or recipe.clahe.adaptive:
            covered = self.recall("covered", recipe.channel, lambda: covered_fraction(self._grey(recipe.channel)))
            recipe, used = adapt(recipe, covered)
        early = before_clip(recipe)
        unclipped: _Unclipped = self.recall("unclipped", early, lambda: self._measure_unclipped(early))
        # A handle of the histogram moves what follows only: go on from the picture before clipping.
        levels: dict[str, Levels] = {"normalise": (0.0, 1.0)}
        for _ in chain(unclipped.picture.copy(), from_clip(recipe), levels):
            pass
        return Measured(recipe, levels | unclipped.levels, unclipped.raw, unclipped.counts, used)

    def _measure_unclipped(self, recipe: Recipe) -> _Unclipped:
        grey = self._grey(recipe.channel)
        raw = self._raw_levels(grey, recipe.channel)
        first = "background" if recipe.background.enabled else "clahe" if recipe.clahe.enabled else "normalise"
        levels: dict[str, Levels] = {first: raw}
        scale = self.shape[0] / grey.shape[0]
        tiles, estimate = clahe_tiles(self.shape, recipe.clahe), self._background(recipe, scale)
        for _, picture in chain(grey, recipe, levels, scale=scale, tiles=tiles, background=estimate):
            grey = picture
        return _Unclipped(grey, levels, raw, unit_counts(grey))

    def apart(self) -> Overview:
        """The same with a memory of its own, for whoever must not push out what a slider goes back to."""
        return replace(self, _known={})

    def recall(self, what: str, key: Any, make: Callable[[], Any]) -> Any:
        """What was made of this image last, if it was made for the same ``key``; else made now and kept."""
        known = self._known.get(what)
        if known is None or known[0] != key:
            known = self._known[what] = (key, make())
        return known[1]

    def _grey(self, channel: Channel) -> Grey:
        return select_channel(self.small, channel)

    def _background(self, recipe: Recipe, scale: float) -> Grey | None:
        if not recipe.background.enabled or self.blocks is None:
            return None
        darkest, brightest = self.blocks
        blocks = select_channel(brightest if recipe.background.sign > 0 else darkest, recipe.channel)
        return coarse_background(blocks, recipe.background, scale=scale, shape=blocks.shape)

    def _raw_levels(self, grey: Grey, channel: Channel) -> Levels:
        single = channel.mode == "index" or (channel.mode == "auto" and len(self.small) != 3)
        if single and self.extremes:
            return self.extremes[channel.index if channel.mode == "index" else 0]
        return extremes(grey)


def unit_counts(grey: Grey) -> NDArray[np.int64]:
    """``(BINS,)`` counts of the levels of an image, evenly from 0 to 1; what is beyond counts as 0 or 1."""
    return histogram(np.clip(grey, 0.0, 1.0), 0.0, 1.0, BINS)[0]


@dataclass(frozen=True)
class _Unclipped:
    """The overview after the steps before clipping, the levels those steps used, and its histogram."""

    picture: Grey
    levels: dict[str, Levels]
    raw: Levels
    counts: NDArray[np.int64]


@dataclass(frozen=True)
class Measured:
    """The recipe with its adaptive values set, and what was found in the whole image.

    ``levels`` are grey levels by step and ``raw`` those of the raw channel; ``unclipped`` is the histogram
    before clipping, as of `unit_counts`.
    """

    recipe: Recipe
    levels: dict[str, Levels]
    raw: Levels
    unclipped: NDArray[np.int64]
    used: dict[str, float] = field(default_factory=dict)


def overview(image: Any, side: int = _SIDE) -> Overview:
    """Pick at most ``side`` × ``side`` pixels of ``(Y, X)`` or ``(C, Y, X)``. Do this once per image."""
    image = image if image.ndim == 3 else image[None]
    height, width = image.shape[1:]
    down, across = -(-height // side), -(-width // side)
    small = np.asarray(image[:, ::down, ::across])
    known: tuple[Levels, ...] = ()
    blocks: tuple[NDArray[Any], NDArray[Any]] | None = None
    if isinstance(image, np.ndarray):
        if np.issubdtype(image.dtype, np.integer):
            known = tuple((float(channel.min()), float(channel.max())) for channel in image)
        darkest, brightest = (
            np.stack([pool(_poolable(channel), sign, max(down, across))[::down, ::across] for channel in image])
            for sign in (-1, 1)
        )
        blocks = darkest, brightest
    return Overview(small, (height, width), known, blocks)


def _poolable(channel: NDArray[Any]) -> NDArray[Any]:
    """As it is where OpenCV knows the type."""
    return channel if channel.dtype in (np.uint8, np.uint16) else to_grey(channel)


def undenoised(recipe: Recipe) -> Recipe:
    """The recipe without denoising, of which nothing is measured."""
    return recipe.model_copy(update={"total_variation": TotalVariation(enabled=False)})


def before_clip(recipe: Recipe) -> Recipe:
    """The steps on the picture before it is clipped; equal for recipes that differ only in what follows."""
    off = {"rotate": Rotate(), "clip": Clip(enabled=False), "zero_below": ZeroBelow(), "tone": Tone()}
    return undenoised(recipe.model_copy(update=off))


def from_clip(recipe: Recipe) -> Recipe:
    """The other steps, for a picture that is in 0..1 already."""
    return recipe.model_copy(
        update={name: getattr(recipe, name).model_copy(update={"enabled": False}) for name in _BEFORE_CLIP}
    )
