"""Which cells deserve a second look, and why, in plain words.

Every suspicion is measured against the cell's own population with medians, so that a few bad
cells do not move the yardstick. It only proposes: verdicts belong to people, and nothing here
deletes a cell. It reads the table of cells, never pixels.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.parameters import Parameters, parameter

Floats = NDArray[np.float64]

FLAGGED = 0.5
"""A score from here on comes with at least one reason, below it with none."""

_MAD_TO_SIGMA = 1.4826
_SIZE_FLOOR = 0.1  # sizes that agree within 10 % are never out of range
_INTENSITY_FLOOR = 0.05


class OutlierParameters(Parameters):
    """How far from its population a cell may be."""

    size_z: float = parameter(
        3.5,
        "Size range",
        "How far a cell's size or elongation may be from the median of its population.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    intensity_z: float = parameter(
        4.0,
        "Intensity range",
        "How far a cell's brightness may be from the median of its image and of its condition.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    focus_z: float = parameter(
        3.5,
        "Focus range",
        "How much blurrier than the median of its image and condition a cell may be.",
        unit="robust σ",
        ge=1,
        le=20,
        step=0.5,
    )
    merged: float = parameter(
        2.0,
        "Several cells in one",
        "Evidence asked for: doublings of size above the median (up to 1.5) plus one for every 5 % of "
        "missing convexity (up to 4). Lower finds more.",
        ge=0.5,
        le=5,
        step=0.1,
    )
    border: bool = parameter(True, "Cut by the border", "Flag cells that touch the border of the image.")
    debris_size: float = parameter(
        0.4,
        "Debris",
        "Round, bright things smaller than this part of the median size count as debris.",
        ge=0,
        le=1,
        step=0.05,
        more=True,
    )
    min_population: int = parameter(
        8,
        "Smallest population",
        "Images or conditions with fewer cells are compared with all cells instead.",
        unit="cells",
        ge=3,
        le=100,
        more=True,
    )


def score(frame: pd.DataFrame, params: OutlierParameters | None = None) -> pd.DataFrame:
    """Suspicion and reasons for every cell.

    Parameters
    ----------
    frame
        Rows of a `cells.CellTable`: ``image``, ``condition`` and the columns of
        `measure.MEASURED`. Values that are not numbers raise no suspicion.
    params
        Thresholds.

    Returns
    -------
    DataFrame
        Same index, with ``score`` (float 0..1, higher = more suspicious) and ``reasons`` (str,
        sentences joined by ``"; "``). Reasons are given exactly from a score of 0.5 on.
    """
    params = params or OutlierParameters()
    findings = [
        _merged(frame, params),
        _size(frame, params),
        _elongation(frame, params),
        _intensity(frame, params),
        _focus(frame, params),
        _debris(frame, params),
        _border(frame, params),
    ]
    unsuspicious = np.ones(len(frame))
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    for suspicion, reason in findings:
        unsuspicious *= 1 - np.nan_to_num(suspicion).clip(0, 0.99)
        for row in np.flatnonzero(np.nan_to_num(suspicion) >= FLAGGED):
            reasons[row].append(reason(int(row)))
    total = 1 - unsuspicious
    # several small suspicions without one reason stay below the line
    unexplained = np.array([not found for found in reasons], dtype=bool)
    total = np.where(unexplained, np.minimum(total, FLAGGED - 0.01), np.maximum(total, FLAGGED))
    return pd.DataFrame({"score": total, "reasons": ["; ".join(found) for found in reasons]}, index=frame.index)


Finding = tuple[Floats, Callable[[int], str]]
"""Suspicion 0..1 of each row, and what to say about a row."""


def _merged(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    """Larger than the others and dented: the two marks of cells that grew into one mask."""
    ratio = _column(frame, "area") / _reference(frame, "area", params)
    dent = (_reference(frame, "solidity", params) - _column(frame, "solidity")).clip(0, 0.2)
    with np.errstate(divide="ignore", invalid="ignore"):
        evidence = np.log2(ratio).clip(0, 1.5) + 20 * dent

    def reason(row: int) -> str:
        if dent[row] < 0.02:
            return f"{ratio[row]:.1f}× the usual size: perhaps several cells"
        if not ratio[row] >= 1.3:
            return "dented outline: perhaps two cells or a wrong mask"
        return f"{ratio[row]:.1f}× the usual size with a dented outline: perhaps several cells"

    return _suspicion(evidence, params.merged), reason


def _size(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        z = _range_z(frame, np.log(_column(frame, "area")), _SIZE_FLOOR, params)
        ratio = _column(frame, "area") / _reference(frame, "area", params)

    def reason(row: int) -> str:
        if z[row] > 0:
            return f"{ratio[row]:.1f}× the usual size"
        return f"only {100 * ratio[row]:.0f} % of the usual size"

    return _suspicion(np.abs(z), params.size_z), reason


def _elongation(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = _column(frame, "major_axis") / _column(frame, "minor_axis")
        z = _range_z(frame, np.log(ratio), _SIZE_FLOOR, params)

    def reason(row: int) -> str:
        return f"{ratio[row]:.1f} times longer than wide, unlike the others"

    return _suspicion(z, params.size_z), reason


def _intensity(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    values = _column(frame, "mean_intensity")
    z = _range_z(frame, values, _INTENSITY_FLOOR * _median_size(values), params)

    def reason(row: int) -> str:
        return f"unusually {'bright' if z[row] > 0 else 'dark'} (mean {values[row]:.4g} grey levels)"

    return _suspicion(np.abs(z), params.intensity_z), reason


def _focus(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        # focus follows size (small cells have proportionally more edge), so compare at equal size
        size = _column(frame, "area") / _reference(frame, "area", params)
        values = np.log(_column(frame, "focus")) + np.log(size.clip(0.25, 4))
    z = _range_z(frame, values, 0.2, params)
    return _suspicion(-z, params.focus_z), lambda row: "blurrier than the others: perhaps out of focus"


def _debris(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    ratio = _column(frame, "area") / _reference(frame, "area", params)
    values = _column(frame, "mean_intensity")
    bright = _range_z(frame, values, _INTENSITY_FLOOR * _median_size(values), params)
    round_ = _column(frame, "eccentricity") < 0.85
    small = ratio < params.debris_size
    suspicion = np.where(small & round_ & (bright > 2), 0.8, 0.0)
    return suspicion, lambda row: "small, round and bright: perhaps debris or a dead cell"


def _border(frame: pd.DataFrame, params: OutlierParameters) -> Finding:
    touching = _column(frame, "touches_border") > 0
    return np.where(touching & params.border, 0.5, 0.0), lambda row: "cut by the border of the image"


def _suspicion(evidence: Floats, threshold: float) -> Floats:
    """0 for none, 0.5 at the threshold, towards 1 beyond; steep, so that noise adds up to little."""
    positive = np.nan_to_num(evidence, nan=0.0, posinf=1e6, neginf=0.0).clip(0)
    powered = (positive / threshold) ** 4
    return np.asarray(powered / (1 + powered))


def _column(frame: pd.DataFrame, name: str) -> Floats:
    """A column as floats, not-a-number where the table has none."""
    if name not in frame:
        return np.full(len(frame), np.nan)
    return np.asarray(frame[name], dtype=np.float64)


def _groups(frame: pd.DataFrame, params: OutlierParameters) -> tuple[NDArray[Any], NDArray[Any]]:
    """Group number by image and by condition; -1 where the group is too small to compare with."""
    result = []
    for name in ("image", "condition"):
        if name not in frame:
            result.append(np.full(len(frame), -1))
            continue
        codes, _ = pd.factorize(frame[name])
        counts = np.bincount(codes[codes >= 0], minlength=1)
        result.append(np.where((codes >= 0) & (counts[codes] >= params.min_population), codes, -1))
    return result[0], result[1]


def _median_by(values: Floats, groups: NDArray[Any]) -> Floats:
    """Median of each value's group, broadcast back; group -1 stands for all cells."""
    finite = np.isfinite(values)
    everything = np.median(values[finite]) if finite.any() else np.nan
    medians = pd.Series(np.where(finite, values, np.nan)).groupby(groups).transform("median").to_numpy()
    return np.asarray(np.where(groups < 0, everything, medians))


def _reference(frame: pd.DataFrame, name: str, params: OutlierParameters) -> Floats:
    """What is usual: the median of the image, else of the condition, else of all cells."""
    image, condition = _groups(frame, params)
    values = _column(frame, name)
    return np.where(image >= 0, _median_by(values, image), _median_by(values, condition))


def _range_z(frame: pd.DataFrame, values: Floats, floor: float, params: OutlierParameters) -> Floats:
    """Robust z within the image or within the condition, whichever is *less* unusual.

    A condition may differ from the others and an image from its condition (staining,
    exposure), so a cell is out of range only if it is so in both of its populations.
    """
    image, condition = _groups(frame, params)
    per_image, per_condition = (_robust_z(values, groups, floor) for groups in (image, condition))
    return np.where(np.abs(per_image) < np.abs(per_condition), per_image, per_condition)


def _robust_z(values: Floats, groups: NDArray[Any], floor: float) -> Floats:
    """Distance from the median in units of 1.4826 × median absolute deviation, at least ``floor``."""
    distance = values - _median_by(values, groups)
    sigma = np.fmax(_MAD_TO_SIGMA * _median_by(np.abs(distance), groups), max(floor, 1e-9))
    return np.asarray(distance / sigma)


def _median_size(values: Floats) -> float:
    finite = np.abs(values[np.isfinite(values)])
    return float(np.median(finite)) if finite.size else 0.0
