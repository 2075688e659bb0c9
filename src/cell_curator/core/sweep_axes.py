"""Which parameters of a recipe can be swept, in whose words, and between which values to begin.

Rotation is geometry and changes no picture, so it is left out.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import ParameterInfo, describe
from cell_curator.core.recipe import STEPS, Recipe
from cell_curator.core.sweep import MOST_TILES

# What is felt as a ratio: from 0.01 to 0.02 is as far as from 0.02 to 0.04.
_BY_RATIO = {
    "background.radius_px",
    "clahe.clip_limit",
    "clahe.tile_px",
    "tone.gamma",
    "tone.gain",
    "total_variation.weight",
    "total_variation.tolerance",
    "total_variation.iterations",
}
_ALIKE = 0.02  # of the distance to the next value: so much nobody sees
_USUAL = ("clip.high_percent", "total_variation.weight", "clahe.clip_limit", "clip.low_percent")


@dataclass(frozen=True)
class Sweepable:
    """One parameter of a recipe.

    Parameters
    ----------
    path
        As in `sweep.with_value`.
    step
        Title of its step.
    enabled
        Whether the step is switched on.
    present
        The recipe's value.
    maximum
        Its largest value; None without one.
    """

    path: str
    step: str
    info: ParameterInfo
    enabled: bool
    present: Any
    maximum: float | None

    @property
    def title(self) -> str:
        """``"Clip extremes · High"``."""
        if self.path.endswith(".enabled"):
            return f"{self.step} · on or off"
        return self.info.title if self.info.title.startswith(self.step) else f"{self.step} · {self.info.title}"

    @property
    def title_with_unit(self) -> str:
        """``"Clip extremes · High (%)"``."""
        return f"{self.title} ({self.info.unit})" if self.info.unit else self.title

    @property
    def words(self) -> tuple[Any, ...]:
        """All values of a choice or a switch; empty for a number."""
        return (False, True) if self.info.annotation is bool else self.info.choices

    @property
    def whole(self) -> bool:
        """Whether only whole numbers will do."""
        return self.info.annotation is int

    def say(self, value: Any, *, unit: bool = True) -> str:
        """A value as it is written: ``"98.5 %"``, ``"on"``."""
        if isinstance(value, bool):
            return "on" if value else "off"
        text = value if isinstance(value, str) else f"{value:.6f}".rstrip("0").rstrip(".")
        return f"{text} {self.info.unit}" if unit and self.info.unit else text


def sweepable(recipe: Recipe, channels: int = 1) -> tuple[Sweepable, ...]:
    """All parameters that can be swept, those of steps that are on first.

    Parameters
    ----------
    channels
        Number of channels of the image; with one there is none to choose.
    """
    found = []
    for name in STEPS:
        if name == "rotate" or (name == "channel" and channels < 2):
            continue
        step = getattr(recipe, name)
        infos = {info.name: info for info in describe(type(step))}
        title = infos["enabled"].title if "enabled" in infos else type(step).__name__
        for info in infos.values():
            most = channels - 1 if (name, info.name) == ("channel", "index") else info.maximum
            enabled = getattr(step, "enabled", True)
            found.append(Sweepable(f"{name}.{info.name}", title, info, enabled, getattr(step, info.name), most))
    return tuple(sorted(found, key=lambda one: (not one.enabled, one.path.endswith(".enabled"))))


def usual_pair(parameters: Sequence[Sweepable]) -> tuple[Sweepable, Sweepable]:
    """The two parameters to begin with: what is most often turned, of the steps that are on."""
    numbers = [one for one in parameters if not one.words and one.path != "channel.index"]
    place = {path: index for index, path in enumerate(_USUAL)}
    first, second, *_ = sorted(numbers, key=lambda one: (not one.enabled, place.get(one.path, len(place))))
    return first, second


def start_range(one: Sweepable) -> tuple[float, float, int]:
    """From, to and number of values around the present one.

    Ratios go from a quarter to four times; other values as far to both sides as the nearer bound
    is away, at most a fifth of what is allowed, and from next to a bound inwards only.
    """
    low = -math.inf if one.info.minimum is None else one.info.minimum
    high = math.inf if one.maximum is None else one.maximum
    at = float(one.present)
    step = one.info.step or 1.0
    if one.path in _BY_RATIO:
        first, last = (at / 4, at * 4) if at > 0 else (2 * step, 32 * step)
        return max(_bound(first, one), low), min(_bound(last, one), high), 5
    if one.whole and high - low < 10:
        return low, high, int(high - low) + 1
    fifth = (high - low) / 5
    inwards = fifth / 4 if one.info.unit == "%" else fifth / 2
    if at - low < (high - low) / 100:
        return at, _bound(at + inwards, one), 5
    if high - at < (high - low) / 100:
        return _bound(at - inwards, one), at, 5
    wide = min(at - low, high - at, fifth)
    return _bound(at - wide, one), _bound(at + wide, one), 5


def values_between(one: Sweepable, first: float, last: float, count: int) -> tuple[Any, ...]:
    """So many values from ``first`` to ``last``, ascending and without repeats.

    They lie at equal ratios where the parameter is felt so, else at equal distances. The recipe's
    own value stands for one that differs from it by rounding only.
    """
    first, last = min(first, last), max(first, last)
    shares = [index / (count - 1) for index in range(count)] if count > 1 else [0.0]
    if one.path in _BY_RATIO and first > 0:
        raw = [first * (last / first) ** share for share in shares]
    else:
        raw = [first + (last - first) * share for share in shares]
    kind = int if one.whole else float
    values = [kind(value) for value in _shortened(raw, one.whole)]
    for index, gap in enumerate(_gaps(raw)):
        if abs(raw[index] - one.present) <= _ALIKE * gap:
            values[index] = one.present
    return tuple(dict.fromkeys(values))


def _shortened(raw: Sequence[float], whole: bool) -> list[float]:
    """With as few digits as leave the values where they are; the first and the last stay exact."""
    if whole:
        return [round(value) for value in raw]
    gaps = _gaps(raw)
    for digits in range(2, 10):
        short = [raw[0], *(_rounded(value, digits) for value in raw[1:-1]), *raw[1:][-1:]]
        if all(abs(a - b) <= _ALIKE * gap for a, b, gap in zip(short, raw, gaps, strict=True)):
            return short
    return list(raw)


def _gaps(raw: Sequence[float]) -> list[float]:
    """Distance of each value to the nearest other one; 0 where there is none."""
    between = [abs(b - a) for a, b in itertools.pairwise(raw)] or [0.0]
    return [min(between[max(0, index - 1) : index + 1]) for index in range(len(raw))]


def check(grid: Sequence[tuple[Sweepable, Sequence[Any]]]) -> Mapping[str, Sequence[Any]]:
    """The grid of a sheet by path, slowest first.

    Raises
    ------
    UserError
        If nothing is chosen, a parameter is chosen twice, or the sheet would be too large.
    """
    if not grid:
        raise UserError("no parameter is chosen; choose one under “Across”")
    paths = [one.path for one, _ in grid]
    for one, _ in grid:
        if paths.count(one.path) > 1:
            raise UserError(f"“{one.title}” is chosen twice; choose another parameter for one of the two")
    counts = [len(values) for _, values in grid]
    if math.prod(counts) > MOST_TILES:
        said = " × ".join(str(count) for count in reversed(counts))
        raise UserError(f"{said} = {math.prod(counts)} tiles, at most {MOST_TILES} fit; take fewer steps")
    return {one.path: values for one, values in grid}


def _bound(value: float, one: Sweepable) -> float:
    return round(value) if one.whole else _rounded(value, 4)


def _rounded(value: float, digits: int) -> float:
    """To so many significant digits."""
    return round(value, digits - 1 - math.floor(math.log10(abs(value)))) if value else value
