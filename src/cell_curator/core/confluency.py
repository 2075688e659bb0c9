"""How much of a dish cells cover: percentage, area, count and density, with an interval.

The interval says how much chance there is in one picture of a dish: parts of the picture are drawn with
return (bootstrap), since pixels of one cell do not vary by themselves. A few hand-marked parts
mend a method that always finds too much or too little. Where masks come from is in `pixel_clusters` and elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.pixel_clusters import KmeansParameters

_DRAWS = 1000
_LINE = 4  # hand-marked parts from which on a line is tried
_VARIED = 5.0  # points by which the estimates must differ for a line
_SURE = 1.96
_TIME = re.compile(
    r"(?:^|[_\-. ])(?:(?:t|time|frame|days?|hours?|d|h)[=_ ]?(\d+(?:\.\d+)?)"
    r"|(\d+(?:\.\d+)?)(?:min|hours?|hrs|h|days?|d))(?=$|[_\-. ])",
    re.IGNORECASE,
)


class ConfluencyParameters(Parameters):
    """What is said of the cover."""

    alarm: float = parameter(
        80.0, "Alarm from", "Images that are covered so far or further are named.", unit="%", ge=0, le=100, step=1
    )
    parts: int = parameter(
        6,
        "Parts",
        "The interval comes from so many parts along each side of the image.",
        ge=2,
        le=50,
        step=1,
        more=True,
    )
    seed: int = parameter(0, "Seed", "The same seed gives the same interval.", ge=0, more=True)


class UnetCover(Parameters):
    """Finding the covered area by a network that learned what cells look like."""

    model: str = parameter(
        "", "Model", "A U-Net or U-Net++ that learned from images like these; its name, or the path of its folder."
    )
    threshold: float = parameter(
        0.5,
        "Threshold",
        "How sure a pixel must be a cell, from 0 to 1. The one threshold that masks and percentages have.",
        ge=0.01,
        le=0.99,
        step=0.01,
    )
    looks: int = parameter(
        2,
        "Looks",
        "How often the image is looked at, each time turned or mirrored otherwise; the mean of all counts. More are "
        "slower and a little more exact.",
        ge=1,
        le=8,
        step=1,
        more=True,
    )
    trim_px: int = parameter(
        0, "Trim edges", "Take away so much along the edge of what was found.", unit="px", ge=0, le=50, more=True
    )
    smallest_hole: int = parameter(
        50, "Smallest hole", "Smaller gaps inside cells are filled.", unit="px", ge=0, le=1_000_000, more=True
    )
    smallest_island: int = parameter(
        30, "Smallest island", "Smaller spots are left out.", unit="px", ge=0, le=1_000_000, more=True
    )


CoverMethod = KmeansParameters | UnetCover
"""How the covered area is found where it is not taken from masks."""


@dataclass(frozen=True)
class Confluency:
    """How far one image is covered.

    Attributes
    ----------
    percent
        0..100.
    interval
        95 % interval of ``percent``, ``(low, high)``; None where the image is too small for parts.
    count
        Number of cells; None where the method tells none from another.
    image_um2
        Area of the whole image; None where the size of a pixel is not known.
    """

    percent: float
    interval: tuple[float, float] | None
    count: int | None
    image_um2: float | None

    @property
    def covered_um2(self) -> float | None:
        """Covered area, where sizes are known."""
        return None if self.image_um2 is None else self.image_um2 * self.percent / 100.0

    @property
    def density(self) -> float | None:
        """Cells per mm², where count and sizes are known."""
        return None if self.count is None or not self.image_um2 else 1e6 * self.count / self.image_um2

    def alarming(self, params: ConfluencyParameters) -> bool:
        """Whether it is time to pass the cells on, or whatever the alarm is for."""
        return self.percent >= params.alarm


@dataclass(frozen=True)
class Calibration:
    """``marked = offset + slope × estimated``, in points.

    ``error`` is the root mean square of what each marked part differs from the line that the others give; NaN
    for a single one. ``parts`` is how many there were.
    """

    slope: float
    offset: float
    error: float
    parts: int

    def corrected(self, percent: float) -> float:
        """A percentage put right, within 0..100."""
        return float(np.clip(self.offset + self.slope * percent, 0.0, 100.0))

    def apply(self, found: Confluency) -> Confluency:
        """The same image with its percentage put right; the interval gets wider by the error that is left."""
        percent = self.corrected(found.percent)
        interval = found.interval
        if interval is not None:
            more = 0.0 if np.isnan(self.error) else _SURE * self.error
            low, high = (self.corrected(end) for end in interval)
            low = percent - float(np.hypot(percent - low, more))
            high = percent + float(np.hypot(high - percent, more))
            interval = max(0.0, low), min(100.0, high)
        return replace(found, percent=percent, interval=interval)


def union_of_masks(labels: NDArray[np.integer[Any]], cells: Collection[int] | None = None) -> NDArray[np.bool_]:
    """Where any cell lies, ``(Y, X)``; with ``cells`` only those labels count. Overlap never counts twice."""
    if cells is None:
        return np.asarray(labels != 0)
    return np.asarray(np.isin(labels, [cell for cell in cells if cell != 0]))


def confluency(
    mask: NDArray[np.bool_],
    pixel_size_um: float | None = None,
    *,
    count: int | None = None,
    params: ConfluencyParameters | None = None,
) -> Confluency:
    """How far ``mask`` (Y, X) covers its image.

    Parameters
    ----------
    pixel_size_um
        Edge of a pixel, or None.
    count
        Number of cells, where known.
    """
    params = params or ConfluencyParameters()
    return Confluency(
        percent=100.0 * float(mask.mean()) if mask.size else 0.0,
        interval=interval(mask, params.parts, params.seed),
        count=count,
        image_um2=None if pixel_size_um is None else mask.size * pixel_size_um**2,
    )


def interval(mask: NDArray[np.bool_], parts: int, seed: int) -> tuple[float, float] | None:
    """95 % interval of the cover, in per cent, by drawing parts of the image with return.

    None where fewer than four parts of at least 8 px along each side fit.
    """
    down, across = (min(parts, side // 8) for side in mask.shape)
    if down < 2 or across < 2:
        return None
    rows, columns = (
        np.linspace(0, side, n + 1).astype(int) for side, n in zip(mask.shape, (down, across), strict=True)
    )
    sums = np.add.reduceat(np.add.reduceat(mask, rows[:-1], axis=0, dtype=np.int64), columns[:-1], axis=1).ravel()
    sizes = np.outer(np.diff(rows), np.diff(columns)).ravel()
    drawn = np.random.default_rng(seed).integers(0, len(sums), (_DRAWS, len(sums)))
    low, high = np.percentile(100.0 * sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1), [2.5, 97.5])
    return float(low), float(high)


def calibrate(estimates: Sequence[float], marked: Sequence[float]) -> Calibration:
    """Learn from hand-marked images or parts how to put percentages right.

    Nothing, the mean difference, or a line (from four parts on whose estimates differ): that which tells each part
    best from the others. A method that is right already is left as it is.

    Parameters
    ----------
    estimates, marked
        Percentages of the same parts, by the method and by hand.

    Raises
    ------
    UserError
        There is none.
    """
    found, true = np.asarray(estimates, np.float64), np.asarray(marked, np.float64)
    if found.shape != true.shape or found.ndim != 1:
        raise ValueError(f"{found.shape} estimates for {true.shape} hand-marked parts")
    if not len(found):
        raise UserError("there is no hand-marked part to learn from; mark a few by hand")
    if len(found) == 1:
        return Calibration(*_shift(found, true), float("nan"), 1)
    ways = (_as_it_is, _shift, _line) if len(found) >= _LINE and np.ptp(found) >= _VARIED else (_as_it_is, _shift)
    errors = [_left_out(way, found, true) for way in ways]
    best = int(np.argmin(errors))  # of equal ones the simpler
    return Calibration(*ways[best](found, true), errors[best], len(found))


Points = NDArray[np.float64]


def _as_it_is(found: Points, true: Points) -> tuple[float, float]:
    return 1.0, 0.0


def _shift(found: Points, true: Points) -> tuple[float, float]:
    return 1.0, float((true - found).mean())


def _line(found: Points, true: Points) -> tuple[float, float]:
    """Slope and offset; a slope that is not positive or far from 1 is not believed."""
    if np.ptp(found) > 0:
        slope, offset = np.polyfit(found, true, 1)
        if 0.25 <= slope <= 4.0:
            return float(slope), float(offset)
    return _shift(found, true)


def _left_out(way: Callable[[Points, Points], tuple[float, float]], found: Points, true: Points) -> float:
    """Root mean square of what each part differs from what the others teach."""
    missed = []
    for left in range(len(found)):
        others = np.arange(len(found)) != left
        slope, offset = way(found[others], true[others])
        missed.append(true[left] - (offset + slope * found[left]))
    return float(np.sqrt(np.mean(np.square(missed))))


def time_in(name: str) -> float | None:
    """The time that a file name tells, as it stands there: ``A3_t012``, ``dish 36h``, ``day3``; the last one counts."""
    found = _TIME.findall(name.rsplit("/", 1)[-1])
    return float(found[-1][0] or found[-1][1]) if found else None


@dataclass(frozen=True)
class CurvePoint:
    """Images of one condition at one time: how many, mean, least and greatest percentage."""

    condition: str
    time: float | None
    images: int
    percent: float
    least: float
    greatest: float


def curve(conditions: Sequence[str], times: Sequence[float | None], percents: Sequence[float]) -> list[CurvePoint]:
    """Cover by condition and time, in this order; images whose time is not known come first, together."""
    groups: dict[tuple[str, float | None], list[float]] = {}
    for condition, time, percent in zip(conditions, times, percents, strict=True):
        groups.setdefault((condition, time), []).append(percent)
    rank = {condition: index for index, condition in enumerate(dict.fromkeys(conditions))}
    order = sorted(groups, key=lambda key: (rank[key[0]], -np.inf if key[1] is None else key[1]))
    return [
        CurvePoint(*key, len(groups[key]), float(np.mean(groups[key])), min(groups[key]), max(groups[key]))
        for key in order
    ]
