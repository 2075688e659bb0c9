"""Which cells count: the one definition that map, export and reports use, and the funnel that shows it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.outliers import FLAGGED, OutlierParameters, suspicions
from cell_curator.core.parameters import Parameters, parameter

DECIDED = ("accepted", "edited", "locked")
"""Verdicts of a person for a cell; it counts whatever its score."""


class CleanParameters(Parameters):
    """Which cells count."""

    leave_out: bool = parameter(
        False,
        "Leave out flagged cells",
        "Cells that nobody decided on do not count if their suspicion is above the threshold.",
    )
    threshold: float = parameter(
        0.5,
        "Threshold",
        "Suspicion from which a cell that nobody decided on does not count.",
        ge=0.05,
        le=1,
        step=0.05,
    )


@dataclass(frozen=True)
class Step:
    """One step of the funnel: its name, the cells left after it, and how many it took away."""

    name: str
    left: int
    removed: int


_STEPS = (
    ("whole", ("border", "cut", "pieces")),
    ("in focus", ("focus",)),
    ("one cell each", ("merged", "overlap")),
    ("on a cell", ("shifted", "empty", "debris", "flow")),
)
"""Which suspicions each step of the funnel answers to; what is left over is taken by the last step."""


def counts(
    frame: pd.DataFrame, params: CleanParameters | None = None, given: Callable[[str], NDArray[np.bool_]] | None = None
) -> pd.Series[bool]:
    """Whether each cell counts.

    A cell that a person accepted, edited or locked always does, a rejected one never. One that nobody
    decided on does, unless flagged cells are left out and its score is at the threshold or above.

    Parameters
    ----------
    frame
        Rows of a `cells.CellTable`.
    given
        Which rows have a verdict, where that is known without comparing texts, see `cells.CellTable.where`.
    """
    params = params or CleanParameters()
    given = given or (lambda verdict: (frame["verdict"] == verdict).to_numpy())
    kept = ~given("rejected")
    if params.leave_out:
        decided = np.logical_or.reduce([given(verdict) for verdict in DECIDED])
        kept &= decided | ~(frame["score"].to_numpy(np.float64) >= params.threshold)
    return pd.Series(kept, frame.index)


def funnel(
    frame: pd.DataFrame, params: CleanParameters | None = None, outliers: OutlierParameters | None = None
) -> tuple[Step, ...]:
    """From the cells found to the cells that count; the last step has as many as `counts` says.

    Each cell leaves at the first step that one of its reasons belongs to.
    """
    params = params or CleanParameters()
    kept = counts(frame, params).to_numpy()
    left = len(frame)
    steps = [Step("found", left, 0)]
    rejected = (frame["verdict"] == "rejected").to_numpy()
    left -= int(rejected.sum())
    steps.append(Step("not rejected", left, int(rejected.sum())))
    leaving = ~kept & ~rejected
    if params.leave_out and len(frame):
        evidence = suspicions(frame, outliers)
        for name, keys in _STEPS:
            known = [key for key in keys if key in evidence]
            here = leaving & (evidence[known].to_numpy(np.float64) >= FLAGGED).any(axis=1)
            leaving &= ~here
            left -= int(here.sum())
            steps.append(Step(name, left, int(here.sum())))
    steps.append(Step("kept", int(kept.sum()), left - int(kept.sum())))
    return tuple(steps)
