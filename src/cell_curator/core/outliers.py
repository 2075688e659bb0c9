"""Which cells deserve a second look, and why, in plain words.

Every suspicion is measured against the cell's own population with medians, so that a few bad
cells do not move the yardstick. It only proposes: verdicts belong to people, and nothing here
deletes a cell. It reads the table of cells, never pixels.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from cell_curator.core.outlier_parameters import OutlierParameters as OutlierParameters
from cell_curator.core.population import Population
from cell_curator.core.suspicion import FINDERS, Finding

FLAGGED = 0.5
"""A score from here on comes with at least one reason, below it with none."""

REASONS: dict[str, str] = {
    "merged": "Several cells in one",
    "cut": "Piece of a cell",
    "shifted": "Mask beside the cell",
    "empty": "Background labelled",
    "inverted": "Inverted",
    "focus": "Out of focus",
    "saturated": "Saturated",
    "intensity": "Unusually bright or dark",
    "size": "Unusual size",
    "elongation": "Unusually long",
    "debris": "Debris",
    "overlap": "Overlaps another cell",
    "pieces": "In several pieces",
    "flow": "High flow error",
    "redraw": "Hard to redraw",
    "alone": "Alone on the map",
    "border": "Cut by the border",
    "unlike": "Unlike the others",
}
"""What may be wrong with a cell: key → title, the gravest first."""


RARE = ("intensity", "size", "elongation", "debris", "overlap", "pieces", "flow", "redraw", "alone", "unlike")
"""Reasons that say a cell is rare rather than wrong; they flag it, but move it up the list less."""

_RARE_WEIGHT = 0.05


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
    found = _findings(frame, params or OutlierParameters())
    unsuspicious = np.ones(len(frame))
    reasons: list[list[str]] = [[] for _ in range(len(frame))]
    for key, (suspicion, reason) in found.items():
        unsuspicious *= 1 - (_RARE_WEIGHT if key in RARE else 1.0) * suspicion.clip(0, 1 - 1e-9)
        for row in np.flatnonzero(suspicion >= FLAGGED):
            reasons[row].append(reason(int(row)))
    total = 1 - unsuspicious
    # several small suspicions without one reason stay below the line
    unexplained = np.array([not those for those in reasons], dtype=bool)
    total = np.where(unexplained, np.minimum(total, FLAGGED - 0.01), np.maximum(total, FLAGGED))
    return pd.DataFrame({"score": total, "reasons": ["; ".join(those) for those in reasons]}, index=frame.index)


def suspicions(frame: pd.DataFrame, params: OutlierParameters | None = None) -> pd.DataFrame:
    """One column 0..1 for each key of `REASONS`; a cell has that reason from 0.5 on."""
    found = _findings(frame, params or OutlierParameters())
    return pd.DataFrame({key: found[key][0] for key in REASONS}, index=frame.index)


def _findings(frame: pd.DataFrame, params: OutlierParameters) -> dict[str, Finding]:
    population = Population(frame, params.min_population)
    found = {key: FINDERS[key](population, params) for key in REASONS}
    return {key: (np.nan_to_num(suspicion), reason) for key, (suspicion, reason) in found.items()}
