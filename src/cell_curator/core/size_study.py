"""How large cells are, before patches are cut: figures by condition, and a patch that fits them.

What a patch cannot hold is lost before anything is learned, and it is the large and the long cells
that are lost, which may be just one condition's. So the sizes are looked at first.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.cluster_reading import smooth_density
from cell_curator.core.doses import in_order
from cell_curator.core.jobs import UserError
from cell_curator.core.patches import PatchParameters
from cell_curator.core.words import number_of

QUANTITIES = ("area", "height", "width")
"""What is looked at, in px² and px: the cell's box, after the turn that patches get."""

_SMALLEST, _LARGEST = 8, 512
_FIT = 0.99
_SPREAD = 3.0  # a patch for the largest so many times the middle cell is mostly empty
_BINS = 40
_SEVERAL = 5  # cells, before one condition is said to lose more than the others
_GRID = 128


@dataclass(frozen=True)
class Histogram:
    """One quantity of one condition.

    ``edges`` ``(B + 1,)`` and ``counts`` ``(B,)``; ``grid`` and ``density`` ``(G,)`` a smooth curve that integrates to
    1; ``box`` the figures of a box plot: 5 %, 25 %, 50 %, 75 %, 95 %.
    """

    condition: str
    quantity: str
    edges: NDArray[np.float64]
    counts: NDArray[np.int64]
    grid: NDArray[np.float64]
    density: NDArray[np.float64]
    box: tuple[float, float, float, float, float]


@dataclass(frozen=True)
class SizeStudy:
    """Sizes of cells and the patch that they ask for.

    Attributes
    ----------
    sizes
        By cell id: ``image``, ``condition``, ``area``, ``height``, ``width`` (px). For a scatter per image.
    histograms
        For each condition and quantity, on the same edges in every condition.
    fits
        Patch size by share of cells that fit whole: 0.95, 0.99, 1.0; None where no patch is that large.
    method, size
        The proposal.
    why, cut
        One sentence each: why, and what would be cut off; ``cut`` is "" where nothing would.
    """

    sizes: pd.DataFrame
    histograms: tuple[Histogram, ...]
    fits: Mapping[float, int | None]
    method: Literal["resize", "pad", "mask"]
    size: int
    why: str
    cut: str


def study_sizes(
    frame: pd.DataFrame, params: PatchParameters | None = None, angles: Mapping[int, float] | None = None
) -> SizeStudy:
    """Look at the sizes of all cells of a table; those that were not measured are passed over.

    Parameters
    ----------
    frame
        Rows of `core.cells.CellTable`.
    params
        Margin and turn of the patches that are to be cut.
    angles
        Turn of each image in degrees, by image id; without, the box as it lies in the image.

    Raises
    ------
    UserError
        If there are no cells, or none was measured.
    """
    if not len(frame):
        raise UserError("there are no cells to measure yet; find cells first")
    params = params or PatchParameters()
    sizes = box_sizes(frame, angles, params.turn)
    sizes = sizes[np.isfinite(sizes[list(QUANTITIES)].to_numpy(np.float64)).all(axis=1)]
    if not len(sizes):
        raise UserError("no cell has a measured size; look for suspicious cells, which measures them anew")
    needed = _needed(sizes, params.margin)
    fits = {share: _patch_for(needed, share) for share in (0.95, _FIT, 1.0)}
    method, size, why = _proposal(needed, fits, params)
    return SizeStudy(sizes, _histograms(sizes), fits, method, size, why, cut_off(sizes, method, size, params.margin))


def box_sizes(
    frame: pd.DataFrame, angles: Mapping[int, float] | None = None, turn: Literal["image", "own"] = "image"
) -> pd.DataFrame:
    """Area, height and width of every cell; of turned ones, from the ellipse that has the cell's axes."""
    height = (frame["bottom"] - frame["top"]).to_numpy(np.float64)
    width = (frame["right"] - frame["left"]).to_numpy(np.float64)
    angle = frame["image"].map(dict(angles or {})).fillna(0.0).to_numpy(np.float64)
    turned = angle % 180 != 0
    if turned.any():
        direction = np.deg2rad(frame["orientation_deg"].to_numpy(np.float64) + angle)[turned]
        long, short = (frame[name].to_numpy(np.float64)[turned] for name in ("major_axis", "minor_axis"))
        height[turned] = np.hypot(long * np.sin(direction), short * np.cos(direction))
        width[turned] = np.hypot(long * np.cos(direction), short * np.sin(direction))
    if turn == "own":
        height, width = (frame[name].to_numpy(np.float64) for name in ("major_axis", "minor_axis"))
    columns = {"image": frame["image"], "condition": frame["condition"], "area": frame["area"]}
    return pd.DataFrame({**columns, "height": height, "width": width}, index=frame.index)


def cut_off(sizes: pd.DataFrame, method: str, size: int, margin: int = 0) -> str:
    """What a patch of this size would lose, in a sentence; "" if nothing.

    Parameters
    ----------
    sizes
        As `box_sizes` gives them.
    """
    if method == "resize":
        shrunk = int((_needed(sizes, margin) > size).sum())
        return (
            f"{number_of(shrunk, 'cell')} would be shrunk to fit, and sizes would no longer be seen" if shrunk else ""
        )
    # without its margin a cell is whole all the same
    lost = (_needed(sizes, 0) > size).to_numpy()
    if not lost.any():
        return ""
    said = f"{number_of(int(lost.sum()), 'cell')} of {len(sizes)} ({_percent(lost.mean())}) would be cut off"
    by_condition = {
        str(c): float(lost[(sizes["condition"] == c).to_numpy()].mean()) for c in sizes["condition"].unique()
    }
    worst = max(by_condition, key=lambda c: by_condition[c])
    if (
        lost.sum() >= _SEVERAL
        and len(by_condition) > 1
        and by_condition[worst] > 1.5 * float(lost.mean())
        and by_condition[worst] > 0.01
    ):
        said += (
            f", most of them in {worst or 'images without a condition'} ({_percent(by_condition[worst])} of its cells)"
        )
    return said


def _needed(sizes: pd.DataFrame, margin: int) -> pd.Series[float]:
    """Edge of the patch that holds each cell with its margin."""
    return sizes[["height", "width"]].max(axis=1) + 2 * margin


def _patch_for(needed: pd.Series[float], share: float) -> int | None:
    edge = float(np.quantile(needed, share, method="higher"))
    size = max(4 * math.ceil(edge / 4), _SMALLEST)
    return size if size <= _LARGEST else None


def _proposal(
    needed: pd.Series[float], fits: Mapping[float, int | None], params: PatchParameters
) -> tuple[Literal["resize", "pad", "mask"], int, str]:
    size, middle = fits[_FIT], float(needed.median())
    method: Literal["pad", "mask"] = "pad" if params.method == "pad" else "mask"
    if size is not None and size <= _SPREAD * middle + 8:
        share = float((needed <= size).mean())
        return method, size, f"{_percent(share)} of cells fit {size}×{size} px in their true size"
    fine = max(4 * round(1.5 * middle / 4), _SMALLEST)
    fine = min(fine, _LARGEST)
    if size is None:
        return "resize", fine, f"cells are larger than the largest patch ({_LARGEST} px): scale each to its patch"
    return (
        "resize",
        fine,
        f"the middle cell needs {middle:.0f} px and one in a hundred more than {size} px: in patches that large most "
        f"cells would be specks, so scale each to its patch (its size stays in the table)",
    )


def _histograms(sizes: pd.DataFrame) -> tuple[Histogram, ...]:
    made = []
    for quantity in QUANTITIES:
        everything = sizes[quantity].to_numpy(np.float64)
        low, high = float(everything.min()), float(np.quantile(everything, 0.995))
        # whole numbers of pixels, or a histogram of whole numbers has teeth
        step = max(math.ceil((high - low) / _BINS), 1)
        edges = low + step * np.arange(max(math.ceil((high - low) / step), 1) + 1.0)
        grid = np.linspace(max(low - 0.1 * (edges[-1] - low), 0), edges[-1], _GRID)
        for condition in in_order(sizes["condition"]):
            part = sizes[sizes["condition"] == condition]
            values = part[quantity].to_numpy(np.float64)
            width = max(1.06 * float(values.std()) * len(values) ** -0.2, float(grid[1] - grid[0]))
            inside = values.clip(grid[0], grid[-1])
            counts = np.histogram(values.clip(edges[0], edges[-1]), edges)[0].astype(np.int64)
            box = tuple(float(v) for v in np.quantile(values, (0.05, 0.25, 0.5, 0.75, 0.95)))
            density = smooth_density(inside, grid, width)
            made.append(Histogram(condition, quantity, edges, counts, grid, density, _five(box)))
    return tuple(made)


def _five(values: tuple[float, ...]) -> tuple[float, float, float, float, float]:
    a, b, c, d, e = values
    return a, b, c, d, e


def _percent(share: float | Any) -> str:
    percent = 100 * float(share)
    return f"{percent:.0f} %" if percent >= 10 and percent <= 99 else f"{percent:.1f} %".replace("100.0 %", "100 %")
