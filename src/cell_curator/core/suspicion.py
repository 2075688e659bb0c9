"""Each thing that may be wrong with a cell: how suspicious each is, and the sentence that says so.

A finder takes the population and the thresholds and returns suspicions 0..1, 0.5 at the threshold, with a
function that words them. What needs several figures at once is weighed in `weighing`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.outlier_parameters import OutlierParameters
from cell_curator.core.population import Population, typical_size
from cell_curator.core.weighing import BALANCED, evidence, forest

Floats = NDArray[np.float64]
Finding = tuple[Floats, Callable[[int], str]]
"""Suspicion 0..1 of each row, and what to say about a row."""

_SIZE_FLOOR = 0.1  # sizes that agree within 10 % are never out of range
_INTENSITY_FLOOR = 0.05
_FOCUS_FLOOR = 0.3
_MAP_FLOOR = 0.1  # errors and distances that agree within 10 % are never out of range
_FOCUS_Z = 3.5  # the default threshold, where the evidence is balanced


def _merged(cells: Population, params: OutlierParameters) -> Finding:
    """Larger than the others and dented: the two marks of cells that grew into one mask."""
    ratio = _ratio(cells, "area")
    dent = (cells.usual("solidity") - cells.column("solidity")).clip(0, 0.2)
    valley = cells.column("valley")

    def reason(row: int) -> str:
        marks = []
        if dent[row] >= 0.02:
            marks.append("a dented outline")
        if valley[row] >= 0.4:
            marks.append("a line between two bright parts")
        if not ratio[row] >= 1.3:
            return f"{' and '.join(marks) or 'an unusual outline'}: perhaps two cells or a wrong mask"
        return f"{ratio[row]:.1f}× the usual size{' with ' * bool(marks)}{' and '.join(marks)}: perhaps several cells"

    with np.errstate(divide="ignore", invalid="ignore"):
        # of cells that were measured before humps were: doublings of size, and one for every 5 % of dent
        plain = np.log2(ratio).clip(0, 1.5) + 20 * dent
    weighed = np.where(np.isnan(cells.column("neck")), plain, evidence("merged", cells))
    return steep(weighed, params.merged), reason


def _cut(cells: Population, params: OutlierParameters) -> Finding:
    return (
        steep(evidence("cut", cells), params.cut),
        lambda row: "no seam to its neighbour, and together they look like one cell: perhaps a piece of a cell",
    )


def _shifted(cells: Population, params: OutlierParameters) -> Finding:
    return (
        steep(evidence("shifted", cells), params.shifted),
        lambda row: "the outline does not follow the edge in the picture: perhaps the mask lies beside the cell",
    )


def _empty(cells: Population, params: OutlierParameters) -> Finding:
    return (
        steep(evidence("empty", cells), params.empty),
        lambda row: "nothing sets it apart from its surroundings: perhaps background",
    )


def _inverted(cells: Population, params: OutlierParameters) -> Finding:
    dark = cells.column("contrast") < 0

    def reason(row: int) -> str:
        return f"{'darker' if dark[row] else 'brighter'} than its surroundings, unlike the others: perhaps inverted"

    return steep(evidence("inverted", cells), params.inverted), reason


def _focus(cells: Population, params: OutlierParameters) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        # of cells that were measured before grain was
        plain = -cells.distance(np.log(cells.column("focus")), _FOCUS_FLOOR)
    weighed = evidence("blurred", cells) * _FOCUS_Z / BALANCED
    weighed = np.where(np.isnan(cells.column("grain")), plain, weighed)
    return steep(weighed, params.focus_z), lambda row: "blurrier than the others: perhaps out of focus"


def _saturated(cells: Population, params: OutlierParameters) -> Finding:
    share = 100 * cells.column("saturated")
    # one pixel of a tiny cell is no plateau
    share = np.where(cells.column("saturated") * cells.column("area") >= 3, share, 0.0)
    # not steep: cells of which a twentieth is at the top are common and little harmed; half a cell is another thing
    return steep(share, params.saturated, power=1), lambda row: f"{share[row]:.0f} % of it is saturated"


def _intensity(cells: Population, params: OutlierParameters) -> Finding:
    values = cells.column("mean_intensity")
    z = cells.distance(values, _INTENSITY_FLOOR * typical_size(values))

    def reason(row: int) -> str:
        return f"unusually {'bright' if z[row] > 0 else 'dark'} (mean {values[row]:.4g} grey levels)"

    return steep(np.abs(z), params.intensity_z), reason


def _size(cells: Population, params: OutlierParameters) -> Finding:
    ratio = _ratio(cells, "area")
    with np.errstate(divide="ignore", invalid="ignore"):
        z = cells.distance(np.log(cells.column("area")), _SIZE_FLOOR)

    def reason(row: int) -> str:
        if z[row] > 0:
            return f"{ratio[row]:.1f}× the usual size"
        return f"only {100 * ratio[row]:.0f} % of the usual size"

    return steep(np.abs(z), params.size_z), reason


def _elongation(cells: Population, params: OutlierParameters) -> Finding:
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = cells.column("major_axis") / cells.column("minor_axis")
        z = cells.distance(np.log(ratio), _SIZE_FLOOR)
    return steep(z, params.size_z), lambda row: f"{ratio[row]:.1f} times longer than wide, unlike the others"


def _debris(cells: Population, params: OutlierParameters) -> Finding:
    values = cells.column("mean_intensity")
    bright = cells.distance(values, _INTENSITY_FLOOR * typical_size(values))
    round_ = cells.column("eccentricity") < 0.85
    small = _ratio(cells, "area") < params.debris_size
    suspicion = np.where(small & round_ & (bright > 2), 0.8, 0.0)
    return suspicion, lambda row: "small, round and bright: perhaps debris or a dead cell"


def _overlap(cells: Population, params: OutlierParameters) -> Finding:
    share = 100 * cells.column("overlapped")
    return (
        steep(share, params.overlap),
        lambda row: f"another cell lies in {share[row]:.0f} % of its outline: perhaps one object found twice",
    )


def _pieces(cells: Population, params: OutlierParameters) -> Finding:
    count = cells.column("pieces")
    return np.where(count > 1, 0.7, 0.0), lambda row: f"its mask is in {count[row]:.0f} pieces"


def _flow(cells: Population, params: OutlierParameters) -> Finding:
    errors = cells.column("flow_error")
    return (
        steep(errors, params.flow),
        lambda row: f"the network doubts this mask (flow error {errors[row]:.2f})",
    )


def _redraw(cells: Population, params: OutlierParameters) -> Finding:
    errors = cells.column("map_error")
    with np.errstate(divide="ignore", invalid="ignore"):
        z = cells.distance(np.log(errors), _MAP_FLOOR)
    ratio = _ratio(cells, "map_error")
    return (
        steep(z, params.redraw_z),
        lambda row: f"the map's network redraws it badly (error {ratio[row]:.1f}× the usual)",
    )


def _alone(cells: Population, params: OutlierParameters) -> Finding:
    far = cells.column("map_isolation")
    with np.errstate(divide="ignore", invalid="ignore"):
        z = cells.distance(np.log(far), _MAP_FLOOR)
    ratio = _ratio(cells, "map_isolation")
    return (
        steep(z, params.alone_z),
        lambda row: f"alone on the map: {ratio[row]:.1f}× as far from the most similar cells as usual",
    )


def _border(cells: Population, params: OutlierParameters) -> Finding:
    touching = cells.column("touches_border") > 0
    return np.where(touching & params.border, 0.5, 0.0), lambda row: "cut by the border of the image"


def _unlike(cells: Population, params: OutlierParameters) -> Finding:
    """Half of the evidence at most: it says that a cell is rare, not what is wrong with it."""
    if params.unlike >= 1:
        return np.zeros(len(cells)), lambda row: ""
    rarity = forest(cells)
    return (
        np.minimum(steep(rarity, params.unlike, power=16), 0.6),
        lambda row: "unlike the others in several figures at once",
    )


FINDERS: Mapping[str, Callable[[Population, OutlierParameters], Finding]] = {
    "merged": _merged,
    "cut": _cut,
    "shifted": _shifted,
    "empty": _empty,
    "inverted": _inverted,
    "focus": _focus,
    "saturated": _saturated,
    "intensity": _intensity,
    "size": _size,
    "elongation": _elongation,
    "debris": _debris,
    "overlap": _overlap,
    "pieces": _pieces,
    "flow": _flow,
    "redraw": _redraw,
    "alone": _alone,
    "border": _border,
    "unlike": _unlike,
}
"""How each of `outliers.REASONS` is found."""


def steep(values: Floats, threshold: float, power: int = 4) -> Floats:
    """0 for none, 0.5 at the threshold, towards 1 beyond; steep, so that noise adds up to little."""
    positive = np.nan_to_num(values, nan=0.0, posinf=1e6, neginf=0.0).clip(0, 1e6)
    powered = (positive / threshold) ** power
    return np.asarray(powered / (1 + powered))


def _ratio(cells: Population, name: str) -> Floats:
    with np.errstate(divide="ignore", invalid="ignore"):
        return cells.column(name) / cells.usual(name)
