"""A contact sheet: one region prepared with every combination of a few values of two or three parameters.

A parameter is named by its path in the recipe, ``"clip.high_percent"``. What makes one tile better than
another is for the caller to say, for example the segmentation's AP on reviewed labels.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from cell_curator.core.jobs import Job, Progress, UserError
from cell_curator.core.overview import Overview, overview
from cell_curator.core.parameters import is_nested
from cell_curator.core.preview import Preview, Region, preview
from cell_curator.core.recipe import Recipe

Score = Callable[[Preview], float]

MOST_TILES = 100
"""More than these nobody compares by eye."""

# A value without effect unless another one is set: that one is set too.
_NEEDS: dict[str, dict[str, Any]] = {
    "channel.index": {"mode": "index"},
    "tone.gamma": {"method": "gamma"},
    "tone.gain": {"method": "sigmoid"},
    "tone.middle": {"method": "sigmoid"},
}


@dataclass(frozen=True)
class Tile:
    """One cell of the sheet: where it stands, what was set, the recipe and its picture.

    ``score`` is NaN without one. ``surplus`` is what speaks against a tile among those of equal score.
    """

    index: tuple[int, ...]
    values: Mapping[str, Any]
    recipe: Recipe
    preview: Preview
    score: float = float("nan")
    surplus: int = 0

    @property
    def image(self) -> NDArray[np.float32]:
        """``(y, x)`` float32 in 0..1."""
        return self.preview.image


def with_value(recipe: Recipe, path: str, value: Any) -> Recipe:
    """The recipe with one value changed, its step switched on, and the method chosen that the value belongs to.

    Raises
    ------
    UserError
        If there is no such parameter, or the value is out of its bounds.
    """
    step, _, name = path.partition(".")
    field = Recipe.model_fields.get(step)
    if field is None or not is_nested(field) or name not in type(getattr(recipe, step)).model_fields:
        raise UserError(f"{path}: is no parameter of the recipe; name it as in clip.high_percent")
    values = recipe.model_dump()
    values[step] |= {"enabled": True} if "enabled" in values[step] and name != "enabled" else {}
    values[step] |= _NEEDS.get(path, {})
    values[step][name] = value
    try:
        return Recipe.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{path}: {value!r}: {error.errors()[0]['msg']}; choose another value") from None


def sweep(
    image: Any,
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    *,
    region: Region | None = None,
    step: float = 1.0,
    score: Score | None = None,
    whole: Overview | None = None,
) -> Job[tuple[Tile, ...]]:
    """Prepare the region once per combination.

    Parameters
    ----------
    grid
        Values by parameter path; the first parameter varies slowest. Switches have the last word,
        then methods: a step that is switched off stays off whatever its other values are.
    region, step, whole
        As in `preview`.
    score
        Judges a tile; higher is better, NaN counts as worst.

    Returns
    -------
    The tiles in the order of the grid; each is also the `Progress.payload` of its step. See `ranked`.

    Raises
    ------
    UserError
        A parameter or value that does not exist (before anything is computed).
    """
    recipes = _combinations(recipe, grid)
    whole = whole or overview(image)
    tiles: list[Tile] = []
    for index, values, changed in recipes:
        yield Progress(len(tiles) / len(recipes), f"{len(tiles) + 1} of {len(recipes)}", tiles[-1] if tiles else None)
        shown = preview(image, changed, region=region, step=step, whole=whole)
        tiles.append(Tile(index, values, changed, shown, float("nan") if score is None else float(score(shown))))
    if tiles:
        yield Progress(1.0, "done", tiles[-1])
    return tuple(tiles)


def _combinations(
    recipe: Recipe, grid: Mapping[str, Sequence[Any]]
) -> list[tuple[tuple[int, ...], dict[str, Any], Recipe]]:
    """Index, values and recipe of every tile."""
    names = list(grid)
    rank = {float: 0, int: 0, str: 1, bool: 2}
    made = []
    for index in itertools.product(*(range(len(grid[name])) for name in names)):
        values = {name: grid[name][at] for name, at in zip(names, index, strict=True)}
        changed = recipe
        for name in sorted(names, key=lambda name: rank.get(type(values[name]), 0)):
            changed = with_value(changed, name, values[name])
        made.append((index, values, changed))
    return made


def merit(tile: Tile) -> tuple[float, int]:
    """Larger is better: the score, at equal scores the smaller surplus; no score is worst."""
    return (tile.score, -tile.surplus) if tile.score == tile.score else (-math.inf, 0)


def ranked(tiles: Sequence[Tile]) -> tuple[Tile, ...]:
    """Best first; tiles of equal merit stay in the order of the grid, those without score come last."""
    return tuple(sorted(tiles, key=merit, reverse=True))
