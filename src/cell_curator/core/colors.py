"""Colours that mean the same everywhere: in the viewer, the gallery, the legend and the report.

A cluster's colour depends on its number alone, never on which clusters happen to be shown.
The first seven are those of Okabe & Ito (2008, https://jfly.uni-koeln.de/color/), which the
colour-blind can tell apart; their black is left out since it vanishes on a dark canvas. This
module knows no layers, no Qt and no files.
"""

from __future__ import annotations

import colorsys
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.doses import doses, in_order

# Seven stops of viridis (van der Walt & Smith 2015), linear in between.
_SCALE = np.array(
    [
        (0.267, 0.005, 0.329), (0.268, 0.224, 0.512), (0.191, 0.407, 0.556), (0.128, 0.567, 0.551),
        (0.267, 0.749, 0.441), (0.678, 0.864, 0.190), (0.993, 0.906, 0.144),
    ]
)  # fmt: skip
_A_SCALE = 3  # amounts

RGB = tuple[float, float, float]
"""Red, green, blue, each 0..1."""

_OKABE_ITO = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#f0e442")
_WORDS_FROM = 4  # of those, where conditions begin
_GOLDEN = 0.6180339887498949  # consecutive hues lie as far apart as they can
_LIGHTNESS = (0.30, 0.50, 0.75)


def from_hex(text: str) -> RGB:
    """``"#0072b2"`` as numbers."""
    return int(text[1:3], 16) / 255, int(text[3:5], 16) / 255, int(text[5:7], 16) / 255


def to_hex(color: RGB) -> str:
    """The colour as the web writes it, ``"#0072b2"``."""
    return "#" + "".join(f"{round(255 * value):02x}" for value in color)


NOISE_COLOR: RGB = from_hex("#8c8c8c")
"""Cells that belong to no cluster (cluster below 0)."""

VERDICT_COLORS: dict[str, RGB] = {
    "proposed": from_hex("#56b4e9"),
    "accepted": from_hex("#009e73"),
    "edited": from_hex("#f0e442"),
    "rejected": from_hex("#d55e00"),
    "locked": from_hex("#cc79a7"),
}
"""One colour for each verdict of `core.cells.VERDICTS`."""


def cluster_color(number: int) -> RGB:
    """The colour of cluster ``number``; grey below 0."""
    if number < 0:
        return NOISE_COLOR
    if number < len(_OKABE_ITO):
        return from_hex(_OKABE_ITO[number])
    extra = number - len(_OKABE_ITO)
    lightness = _LIGHTNESS[extra % len(_LIGHTNESS)]
    return colorsys.hls_to_rgb((0.04 + extra * _GOLDEN) % 1.0, lightness, 0.8)


def word_color(rank: int) -> RGB:
    """The colour of a condition or image by its rank; the first few are not those of the clusters beside them."""
    return cluster_color((rank + _WORDS_FROM) % len(_OKABE_ITO)) if rank < len(_OKABE_ITO) else cluster_color(rank)


def condition_colors(names: Iterable[str]) -> dict[str, RGB]:
    """A colour for each of these conditions, in their order; three or more amounts run from dark to bright."""
    known = in_order(names)
    if len(known) >= _A_SCALE and doses(known) is not None:
        return dict(zip(known, map(_as_rgb, scale(np.linspace(0, 1, len(known)))), strict=True))
    return {name: word_color(rank) for rank, name in enumerate(known)}


def scale(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Colours (N, 3) of numbers in 0..1 (N,), from dark to bright."""
    at, stops = np.clip(values, 0, 1) * (len(_SCALE) - 1), np.arange(len(_SCALE))
    return np.stack([np.interp(at, stops, _SCALE[:, channel]) for channel in range(3)], axis=1)


def _as_rgb(row: NDArray[np.float64]) -> RGB:
    return float(row[0]), float(row[1]), float(row[2])


def cluster_rgba(clusters: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
    """Colours of many cells at once.

    Parameters
    ----------
    clusters
        (N,) cluster numbers, below 0 for none.

    Returns
    -------
    (N, 4) float32
        Opaque RGBA, ready for the face colour of a Points layer.
    """
    result = np.ones((len(clusters), 4), np.float32)
    for number in np.unique(clusters):
        result[clusters == number, :3] = cluster_color(int(number))
    return result
