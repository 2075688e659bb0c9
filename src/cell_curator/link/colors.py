"""Colours of many cells at once: by cluster, verdict, word or measured value.

What a colour means is decided in `core.colors`; this module spreads it over the rows of a cell
table and adds the continuous scale. It draws nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cell_curator.core.colors import NOISE_COLOR, VERDICT_COLORS, cluster_rgba, to_hex, word_color
from cell_curator.core.doses import in_order

RGBA = NDArray[np.float32]
"""``(N, 4)`` float32 in 0..1."""

SELECTED = "#ff3ad1"
"""Ring around what is selected; seen on black, on white and on every cluster's colour."""

# Seven stops of viridis (van der Walt & Smith 2015), linear in between.
_SCALE = np.array(
    [
        (0.267, 0.005, 0.329), (0.268, 0.224, 0.512), (0.191, 0.407, 0.556), (0.128, 0.567, 0.551),
        (0.267, 0.749, 0.441), (0.678, 0.864, 0.190), (0.993, 0.906, 0.144),
    ]
)  # fmt: skip


def by_verdict(verdicts: Sequence[str]) -> RGBA:
    """One colour per cell from its verdict."""
    colors = np.ones((len(verdicts), 4), np.float32)
    if len(verdicts):
        colors[:, :3] = [VERDICT_COLORS[verdict] for verdict in verdicts]
    return colors


def by_name(names: Sequence[object], order: Sequence[object] | None = None) -> RGBA:
    """One colour per cell from a word (a condition, an image); ``order`` fixes which gets which."""
    if order is None:
        place = {word: number for number, word in enumerate(in_order(str(name) for name in set(names)))}
        rank = {name: place[str(name)] for name in set(names)}
    else:
        rank = {name: number for number, name in enumerate(order)}
    known, where = np.unique([rank.get(name, -1) for name in names], return_inverse=True)
    table = np.array([(*(word_color(int(n)) if n >= 0 else NOISE_COLOR), 1.0) for n in known], np.float32)
    return table[where] if len(known) else np.ones((0, 4), np.float32)


def by_value(values: ArrayLike, limits: tuple[float, float] | None = None) -> RGBA:
    """One colour per cell on a continuous scale from the 1st to the 99th percentile; unknown is grey."""
    values = np.asarray(values, np.float64)
    known = np.isfinite(values)
    colors = np.ones((len(values), 4), np.float32)
    colors[:, :3] = NOISE_COLOR
    if not known.any():
        return colors
    low, high = value_limits(values) if limits is None else limits
    at = np.clip((values[known] - low) / max(high - low, 1e-12), 0, 1) * (len(_SCALE) - 1)
    for channel in range(3):
        colors[known, channel] = np.interp(at, np.arange(len(_SCALE)), _SCALE[:, channel])
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


def color_cells(frame: pd.DataFrame, by: str) -> RGBA:
    """One colour per row of a cell table, by ``cluster``, ``verdict``, a word or a measurement.

    By ``corrected``, the cell corrected last is brightest, and those that never were are grey.
    """
    if by == "cluster":
        return cluster_rgba(frame["cluster"].to_numpy(np.int64))
    if by == "verdict":
        return by_verdict(list(frame["verdict"]))
    if by in ("condition", "image"):
        return by_name(list(frame[by]))
    return by_value(frame[by].to_numpy(np.float64))
