"""Weigh the evidence for bad cells: writes ``src/cell_curator/core/weights.py``.

    python training/fit_outliers.py

Faults are put into every second image of the DSB2018 groups that are not held out and into the first six
images of Usiigaci, as ``benchmarks/outliers.py`` does, and each fault is told from untouched cells by a
logistic regression with few weights (L1). What is held out is judged by that benchmark.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
from sklearn.linear_model import LogisticRegression

from cell_curator.core.population import Population
from cell_curator.core.weighing import figures

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "benchmarks"))
from outliers import FAULTS, SHARE, dsb2018, spoil, usiigaci  # noqa: E402

SEED = 7
PHASE_WEIGHT = 8.0  # six images against two hundred
_PLACED = ("contrast", "edge", "edge_share", "brightness")
_SEEN = ("contrast_z", "texture_z", "edge_z", "offset_z", "blur_z", "texture", "weakest", "offset", "spread", "blur")
USED: dict[str, tuple[str, ...]] = {
    "merged": (
        "contrast_z", "texture_z", "offset_z", "area", "large", "doubled", "spread", "length", "dent", "grown", "rough",
        "waist", "grown_waist", "grown_valley", "neck", "valley", "contrast", "contrast_now", "texture", "edge_share",
        "offset", "brightness",
    ),
    "cut": (
        "area", "large", "length", "rough", "dent", "contact", "joined", "seam", "bend", "joint_dent", "joint_rough",
        "offset", "contrast", "edge_share", "blur",
    ),
    "shifted": (*_PLACED, "contrast_now", *_SEEN),
    "empty": (*_PLACED, "contrast_now", *_SEEN),
    "inverted": (*_PLACED, "contrast_now", "contrast_z", "edge_z"),
    "blurred": (
        "blur_z", "texture_z", "edge_z", "blur", "spread", "texture", "edge", "area", "brightness", "contrast_now",
        "weakest",
    ),
}  # fmt: skip
"""Figures that may speak for each fault."""


def table(rows: pd.DataFrame) -> pd.DataFrame:
    """Figures of all cells; what is missing counts as usual."""
    found = pd.DataFrame(figures(Population(rows, 8)))
    return found.replace([np.inf, -np.inf], np.nan).fillna(0.0)


def main() -> None:
    """Fit and write."""
    nuclei = spoil(list(dsb2018(False))[::2], FAULTS, SHARE, SEED).reset_index(drop=True)
    phase = spoil(list(usiigaci())[:6], FAULTS, SHARE, 0).reset_index(drop=True)
    fault = pd.concat([nuclei["fault"], phase["fault"]], ignore_index=True)
    known = pd.concat([table(nuclei), table(phase)], ignore_index=True)
    weight = np.where(np.arange(len(known)) < len(nuclei), 1.0, PHASE_WEIGHT)
    lines = ["WEIGHTS: dict[str, tuple[float, dict[str, float]]] = {"]
    for name, columns in USED.items():
        chosen = fault.isin(["", name]).to_numpy()
        if name == "cut":
            chosen &= (known["contact"] > 0).to_numpy()
        x = known.loc[chosen, list(columns)].to_numpy()
        spread = x.std(axis=0) + 1e-9
        fit = LogisticRegression(penalty="l1", C=0.15, solver="liblinear", max_iter=500, random_state=0)
        fit.fit(x / spread, (fault[chosen] == name).to_numpy(), sample_weight=weight[chosen])
        constant = round(float(np.ravel(fit.intercept_)[0]), 2)
        lines.append(f'    "{name}": ({constant}, {{')
        lines += [
            f'        "{column}": {round(float(coefficient / size), 2)},'
            for column, coefficient, size in zip(columns, fit.coef_[0], spread, strict=True)
            if abs(coefficient) > 0.05
        ]
        lines.append("    }),")
    path = ROOT / "src" / "cell_curator" / "core" / "weights.py"
    head, tail = (
        path.read_text().split("WEIGHTS:")[0],
        '"""Constant and weights of the logarithm of the odds, by fault."""',
    )
    path.write_text("\n".join([head + lines[0], *lines[1:], "}", tail, ""]))


if __name__ == "__main__":
    main()
