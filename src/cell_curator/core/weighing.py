"""Evidence that is weighed from several figures at once, and an isolation forest over all of them.

It is weighed by small trees that were grown on public nuclei and phase-contrast cells with faults put in by
`benchmarks/outliers.py`; see there for how good they are on images not seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.population import Population
from cell_curator.core.trees import shipped

Floats = NDArray[np.float64]

BALANCED = 2.0
"""Evidence at which a fault is as likely as none; the default of the thresholds."""

_FEWEST_FOR_FOREST = 32


_ESSENTIAL = {
    "merged": "neck",
    "cut": "contact",
    "shifted": "contrast_now",
    "empty": "contrast_now",
    "inverted": "contrast_now",
    "blurred": "blur",
}


def figures(cells: Population) -> dict[str, Floats]:
    """What evidence is weighed from: figures of each cell relative to its population, by name.

    Missing values are missing here too.
    """
    return cells.once("figures", _figures)


def _figures(cells: Population) -> dict[str, Floats]:
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.log2(cells.column("area") / cells.usual("area"))
        joined = np.log2(cells.column("joint_area") / cells.usual("area"))
        brightness = np.log2(cells.column("mean_intensity") / cells.usual("mean_intensity"))
        length = np.log2(cells.column("major_axis") / cells.column("minor_axis"))
        spread = np.log2(cells.column("std_intensity") / cells.usual("std_intensity"))
        focus = np.log(cells.column("focus").clip(1e-6)) + np.log(2.0) * area.clip(-2, 2)
    sign = np.where(cells.usual("contrast") < 0, -1.0, 1.0)
    edge_sign = np.where(cells.usual("edge") < 0, -1.0, 1.0)
    share = cells.column("edge_share")
    share = np.where(edge_sign > 0, share, 1 - share)
    dent = 10 * (cells.usual("solidity") - cells.column("solidity")).clip(-0.05, 0.25)
    return _placement(cells, sign) | {
        "area": area.clip(-3, 3),
        "large": area.clip(0, 2),
        "joined": np.abs(joined).clip(0, 2),
        "brightness": brightness.clip(-2, 2),
        "spread": spread.clip(-3, 3),
        "length": (length - cells.middle(length)).clip(-2, 2),
        "dent": dent,
        "grown": area.clip(0, 2) * dent.clip(0),
        "doubled": np.exp(-(((area - 1) / 0.5) ** 2)),
        "waist": cells.column("neck") * dent.clip(0),
        "grown_waist": cells.column("neck") * area.clip(0, 2),
        "grown_valley": cells.column("valley").clip(0, 2) * area.clip(0, 2),
        "rough": 10 * (1 - cells.column("solidity")).clip(0, 0.4),
        "blur": (cells.middle(focus) - focus).clip(-4, 4),
        "contrast": (cells.usual("contrast") - cells.column("contrast")) * sign,
        "contrast_now": cells.column("contrast") * sign,
        "texture": cells.usual("texture_contrast") - cells.column("texture_contrast"),
        "edge": (cells.usual("edge") - cells.column("edge")) * edge_sign,
        "edge_share": cells.middle(share) - share,
        "weakest": cells.usual("edge_weakest") - cells.column("edge_weakest"),
        "offset": (cells.column("offset") - cells.usual("offset")).clip(-1, 2),
        "contact": cells.column("contact"),
        "seam": (cells.column("seam_dip")).clip(-1, 1),
        "bend": cells.column("seam_bend"),
        "joint_rough": 10 * (1 - cells.column("joint_solidity")).clip(0, 0.4),
        "joint_dent": 10 * (cells.usual("solidity") - cells.column("joint_solidity")).clip(-0.05, 0.25),
        "contrast_z": -_apart(cells, cells.column("contrast") * sign),
        "texture_z": -_apart(cells, cells.column("texture_contrast")),
        "edge_z": -_apart(cells, cells.column("edge") * edge_sign),
        "offset_z": _apart(cells, cells.column("offset")),
        "blur_z": -_apart(cells, focus),
        "neck": cells.column("neck"),
        "valley": cells.column("valley").clip(0, 2),
    }


def _placement(cells: Population, sign: Floats) -> dict[str, Floats]:
    """Where the mask would lie better, levels outwards, both halves: each as it is and against what is usual."""
    found = {name: cells.column(name) for name in ("elsewhere", "elsewhere_texture", "lopsided", "two_tone", "fold")}
    found["halves"] = cells.column("halves") - cells.column("solidity")
    for name in ("core", "halo"):
        found[name] = cells.column(name) * np.where(cells.usual(name) < 0, -1.0, 1.0)
    with np.errstate(divide="ignore", invalid="ignore"):
        found["grain"] = np.log(cells.column("grain").clip(1e-3))
    against = {f"{name}_more": values - cells.middle(values) for name, values in found.items()}
    apart = {f"{name}_z": _apart(cells, values) for name, values in found.items()}
    signed = {f"{name}_signed": cells.column(name) * sign for name in ("core", "halo")}
    del found["grain"]  # depends on the camera; only to be compared
    return {**found, **against, **apart, **signed}


def _apart(cells: Population, values: Floats) -> Floats:
    """Distance from what is usual in the image, in its own spread."""
    return cells.distance_in_image(values, 0.05).clip(-6, 6)


def evidence(key: str, cells: Population) -> Floats:
    """Evidence for one reason; 2 where the odds are even, and 1.3 times as much for each further factor e of them.

    A figure that is missing counts as usual, but without the one that matters most there is no evidence; and
    without a neighbour there is no piece of a cell.
    """
    total = shipped()[key](cells.once("whole figures", whole_figures))
    essential = figures(cells)[_ESSENTIAL[key]]
    there = essential > 0 if key == "cut" else np.isfinite(essential)
    return np.where(there, BALANCED * np.exp(total.clip(-40, 40) / 4), 0.0)


def whole_figures(cells: Population) -> dict[str, Floats]:
    """`figures` without gaps: what is missing counts as usual."""
    return {name: np.nan_to_num(values, nan=0.0, posinf=0.0, neginf=0.0) for name, values in figures(cells).items()}


def forest(cells: Population) -> Floats:
    """How easily each cell is told from all others, about 0.35..1, by an isolation forest (Liu et al. 2008).

    0 where there are too few cells, or nothing differs.
    """
    from sklearn.ensemble import IsolationForest

    table = np.column_stack(list(figures(cells).values())) if len(cells) else np.empty((0, 1))
    table = np.nan_to_num(table)
    if len(table) < _FEWEST_FOR_FOREST or not np.ptp(table, axis=0).any():
        return np.zeros(len(table))
    trees = IsolationForest(n_estimators=100, max_samples=min(256, len(table)), random_state=0)
    return np.asarray(-trees.fit(table).score_samples(table))
