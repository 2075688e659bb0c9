"""Colours of many cells at once: by cluster, verdict, word or measured value.

What a colour means is decided in `core.colors`; this module spreads it over the rows of a cell
table and adds the continuous scale. It draws nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cell_curator.core.cell_types import CellTypes, by_hand
from cell_curator.core.colors import (
    NOISE_COLOR,
    RGB,
    VERDICT_COLORS,
    cluster_rgba,
    condition_colors,
    scale,
    to_hex,
    word_color,
)
from cell_curator.core.doses import in_order

RGBA = NDArray[np.float32]
"""``(N, 4)`` float32 in 0..1."""

SELECTED = "#ff3ad1"
"""Ring around what is selected; seen on black, on white and on every cluster's colour."""

TYPE = "cell_type"
"""Colouring by the type of a cell."""

_TOLD, _UNTYPED = 0.6, 0.55  # opacity


def by_verdict(verdicts: Sequence[str] | NDArray[Any]) -> RGBA:
    """One colour per cell from its verdict."""
    return _spread(verdicts, lambda verdict: VERDICT_COLORS[verdict])


def by_name(names: Sequence[object] | NDArray[Any], colors: Mapping[str, RGB] | None = None) -> RGBA:
    """One colour per cell from a word (an image, say); ``colors`` fixes which gets which."""
    if colors is None:
        colors = {word: word_color(rank) for rank, word in enumerate(in_order(map(str, dict.fromkeys(names))))}
    return _spread(names, lambda name: colors.get(str(name), NOISE_COLOR))


def _spread(words: Sequence[Any] | NDArray[Any], color: Callable[[Any], RGB]) -> RGBA:
    """One colour per word; each word is looked up once, not once for every cell."""
    values = np.asarray(words, None if isinstance(words, np.ndarray) else object)
    place, known = pd.factorize(values, use_na_sentinel=False)
    table = np.array([(*color(word), 1.0) for word in known], np.float32).reshape(-1, 4)
    return table[place]


def by_value(values: ArrayLike, limits: tuple[float, float] | None = None) -> RGBA:
    """One colour per cell on a continuous scale from the 1st to the 99th percentile; unknown is grey."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    colors = np.ones((len(values), 4), np.float32)
    colors[:, :3] = NOISE_COLOR
    if not known.any():
        return colors
    low, high = value_limits(values) if limits is None else limits
    colors[known, :3] = scale((values[known] - low) / max(high - low, 1e-12))
    return colors


def value_limits(values: ArrayLike) -> tuple[float, float]:
    """The range that `by_value` spans: 1st to 99th percentile of what is known."""
    values = np.asarray(values, np.float64)
    values = values[np.isfinite(values)]
    if not len(values):
        return 0.0, 1.0
    low, high = np.percentile(values, [1, 99])
    return float(low), float(high)


def scale_colors(steps: int) -> list[str]:
    """``#rrggbb`` of the continuous scale from low to high, for a legend."""
    return [to_hex(tuple(map(float, row[:3]))) for row in by_value(np.linspace(0, 1, steps), (0.0, 1.0))]


def by_type(frame: pd.DataFrame, types: CellTypes) -> RGBA:
    """One colour per cell from its type: full where a person said so, fainter where a model did; none is grey."""
    colors = _spread(frame["cell_type"].to_numpy(), types.color)
    colors[:, 3] = np.where(by_hand(frame), 1.0, np.where(frame["cell_type"] == "", _UNTYPED, _TOLD))
    return colors


def color_cells(frame: pd.DataFrame, by: str, types: CellTypes | None = None) -> RGBA:
    """One colour per row of a cell table, by ``cluster``, ``verdict``, ``cell_type``, a word or a measurement.

    By ``corrected``, the cell corrected last is brightest, and those that never were are grey. ``types`` are those
    of the project.
    """
    if by == TYPE:
        return by_type(frame, types or CellTypes())
    if by == "cluster":
        return cluster_rgba(frame["cluster"].to_numpy(np.int64))
    if by == "verdict":
        return by_verdict(frame["verdict"].to_numpy())
    if by == "condition":
        return by_name(frame[by].to_numpy(), condition_colors(frame[by].unique()))
    if by == "image":
        return by_name(frame[by].to_numpy())
    return by_value(frame[by].to_numpy(np.float64))
