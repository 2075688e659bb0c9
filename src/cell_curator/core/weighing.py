"""Evidence that is weighed from several figures at once, and an isolation forest over all of them.

The weights of `WEIGHTS` are those of logistic regressions on the public nuclei of DSB2018 (training groups)
with faults put in by `benchmarks/outliers.py`; see there for how good they are on images not seen.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.population import Population

Floats = NDArray[np.float64]

BALANCED = 2.0
"""Evidence at which a fault is as likely as none; the default of the thresholds."""

_FEWEST_FOR_FOREST = 32


def figures(cells: Population) -> dict[str, Floats]:
    """What evidence is weighed from: figures of each cell relative to its population, by name.

    Missing values are missing here too.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        area = np.log2(cells.column("area") / cells.usual("area"))
        joined = np.log2(cells.column("joint_area") / cells.usual("area"))
        brightness = np.log2(cells.column("mean_intensity") / cells.usual("mean_intensity"))
        length = np.log2(cells.column("major_axis") / cells.column("minor_axis"))
        spread = np.log2(cells.column("std_intensity") / cells.usual("std_intensity"))
    sign = np.where(cells.usual("contrast") < 0, -1.0, 1.0)
    edge_sign = np.where(cells.usual("edge") < 0, -1.0, 1.0)
    share = cells.column("edge_share")
    share = np.where(edge_sign > 0, share, 1 - share)
    return {
        "area": area.clip(-3, 3),
        "large": area.clip(0, 2),
        "joined": np.abs(joined).clip(0, 2),
        "brightness": brightness.clip(-2, 2),
        "spread": spread.clip(-3, 3),
        "length": (length - cells.middle(length)).clip(-2, 2),
        "dent": 10 * (cells.usual("solidity") - cells.column("solidity")).clip(-0.05, 0.25),
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
        "joint_dent": 10 * (cells.usual("solidity") - cells.column("joint_solidity")).clip(-0.05, 0.25),
        "neck": cells.column("neck"),
        "valley": cells.column("valley").clip(0, 2),
    }


WEIGHTS: dict[str, tuple[float, dict[str, float]]] = {
    "merged": (-4.0, {"large": 2.0, "dent": 3.0, "neck": 3.0, "valley": 1.5}),
    "cut": (-3.0, {"contact": 4.0, "joint_dent": -4.0, "seam": -4.0, "bend": -2.0}),
    "shifted": (-4.0, {"edge": 4.0, "weakest": 2.0, "offset": 3.0, "contrast": 2.0}),
    "empty": (-4.0, {"contrast_now": -3.0, "edge": 6.0, "texture": 4.0}),
    "inverted": (-3.0, {"contrast": 3.0, "edge": 3.0}),
}
"""Constant and weights of the logarithm of the odds, by reason. A figure that is missing counts as usual, but
without any contact there is no piece."""


def evidence(key: str, cells: Population) -> Floats:
    """Evidence for one reason; 2 where the odds are even, and 1.3 times as much for each further factor e of them."""
    constant, weights = WEIGHTS[key]
    values = figures(cells)
    total = np.full(len(cells), constant)
    for name, weight in weights.items():
        total += weight * np.nan_to_num(values[name])
    unknown = np.isnan(np.column_stack([values[name] for name in weights])).all(axis=1)
    if key == "cut":
        unknown |= ~(values["contact"] > 0)
    return np.where(unknown, 0.0, BALANCED * np.exp(total.clip(-40, 40) / 4))


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
