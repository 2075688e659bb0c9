"""What is usual among cells: medians and robust distances by image and by condition.

Medians, so that a few bad cells do not move the yardstick.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Floats = NDArray[np.float64]

_MAD_TO_SIGMA = 1.4826


class Population:
    """The cells of a table as populations of images and of conditions.

    Parameters
    ----------
    frame
        Rows of a `cells.CellTable`; columns may be missing.
    smallest
        Images and conditions with fewer cells are compared with all cells instead.
    """

    def __init__(self, frame: pd.DataFrame, smallest: int) -> None:
        self.frame = frame
        self._image, self._condition = (_groups(frame, name, smallest) for name in ("image", "condition"))
        self._usual: dict[str, Floats] = {}
        self._made: dict[str, dict[str, Floats]] = {}

    def __len__(self) -> int:
        return len(self.frame)

    def column(self, name: str) -> Floats:
        """A column as floats, not-a-number where the table has none."""
        if name not in self.frame:
            return np.full(len(self.frame), np.nan)
        return np.asarray(self.frame[name], dtype=np.float64)

    def usual(self, name: str) -> Floats:
        """What is usual for each cell: the median of its image, else of its condition, else of all cells."""
        if name not in self._usual:
            self._usual[name] = self.middle(self.column(name))
        return self._usual[name]

    def middle(self, values: Floats) -> Floats:
        """As `usual`, of any values."""
        return np.where(self._image >= 0, _median_by(values, self._image), _median_by(values, self._condition))

    def once(self, name: str, make: Callable[[Population], dict[str, Floats]]) -> dict[str, Floats]:
        """What ``make`` makes of this population; made when it is first asked for."""
        if name not in self._made:
            self._made[name] = make(self)
        return self._made[name]

    def distance(self, values: Floats, floor: float) -> Floats:
        """Robust z within the image or within the condition, whichever is *less* unusual.

        A condition may differ from the others and an image from its condition (staining, exposure), so
        a cell is out of range only if it is so in both of its populations. ``floor`` is the least sigma.
        """
        per_image, per_condition = (_robust_z(values, groups, floor) for groups in (self._image, self._condition))
        return np.where(np.abs(per_image) < np.abs(per_condition), per_image, per_condition)

    def distance_in_image(self, values: Floats, floor: float) -> Floats:
        """Robust z within the image, or within the condition where the image has too few cells."""
        groups = np.where(self._image >= 0, self._image, self._condition + self._image.max(initial=0) + 1)
        return _robust_z(values, np.where((self._image < 0) & (self._condition < 0), -1, groups), floor)


def typical_size(values: Floats) -> float:
    """Median of the absolute values; 0 for none."""
    finite = np.abs(values[np.isfinite(values)])
    return float(np.median(finite)) if finite.size else 0.0


def _groups(frame: pd.DataFrame, name: str, smallest: int) -> NDArray[np.int64]:
    """Group number of each row; -1 where the group is too small to compare with."""
    if name not in frame:
        return np.full(len(frame), -1)
    codes, _ = pd.factorize(frame[name])
    sizes = np.bincount(codes[codes >= 0], minlength=1)
    result: NDArray[np.int64] = np.where((codes >= 0) & (sizes[codes] >= smallest), codes, -1)
    return result


def _median_by(values: Floats, groups: NDArray[Any]) -> Floats:
    """Median of each value's group, broadcast back; group -1 stands for all cells."""
    finite = np.isfinite(values)
    everything = np.median(values[finite]) if finite.any() else np.nan
    medians = pd.Series(np.where(finite, values, np.nan)).groupby(groups).transform("median").to_numpy()
    return np.asarray(np.where(groups < 0, everything, medians))


def _robust_z(values: Floats, groups: NDArray[Any], floor: float) -> Floats:
    """Distance from the median in units of 1.4826 × median absolute deviation, at least ``floor``."""
    distance = values - _median_by(values, groups)
    sigma = np.fmax(_MAD_TO_SIGMA * _median_by(np.abs(distance), groups), max(floor, 1e-9))
    return np.asarray(distance / sigma)
