"""A classifier that learns from the verdicts of a person which cells are bad, and says how well it does.

It works on what is measured, as distances from what is usual in each cell's population, so that it
carries over to images it has not seen; its accuracy is measured on images it did not learn from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.clean import DECIDED
from cell_curator.core.outliers import OutlierParameters, suspicions
from cell_curator.core.population import Population

FEWEST = 30
"""Verdicts from which on there is something to learn."""

FEWEST_OF_A_KIND = 5
_FOLDS = 5
_BOOSTED_FROM = 300  # with fewer verdicts a straight line is the better guess

_LOGARITHMS = ("area", "perimeter", "mean_intensity", "std_intensity", "focus", "major_axis", "minor_axis")
_PLAIN = (
    "eccentricity", "solidity", "contrast", "texture_contrast", "edge", "edge_share", "contact", "offset",
    "neck", "valley", "saturated", "flow_error",
)  # fmt: skip


@dataclass(frozen=True)
class Learned:
    """What was learned, and how good it is on images it did not learn from.

    ``accuracy``: share of cells told right; ``balanced``: mean of that of the good and of the bad ones;
    ``bad`` and ``good``: how many verdicts it learned from; ``text``: one line for the user.
    """

    model: Any
    params: OutlierParameters
    accuracy: float
    balanced: float
    bad: int
    good: int
    text: str

    def probability(self, frame: pd.DataFrame) -> pd.Series[float]:
        """How likely each cell is bad, 0..1, for rows of the whole `cells.CellTable` it was learned from."""
        if not len(frame):
            return pd.Series(dtype="float64", index=frame.index)
        return pd.Series(self.model.predict_proba(features(frame, self.params))[:, 1], index=frame.index)


def features(frame: pd.DataFrame, params: OutlierParameters | None = None) -> NDArray[np.float64]:
    """What the classifier sees: one row for each cell, no gaps."""
    params = params or OutlierParameters()
    population = Population(frame, params.min_population)
    columns = []
    for name in (*_LOGARITHMS, *_PLAIN):
        values = population.column(name)
        if name in _LOGARITHMS:
            with np.errstate(divide="ignore", invalid="ignore"):
                values = np.log(values)
        columns.append(population.distance_in_image(values, 0.02).clip(-8, 8))
    both = np.column_stack([*columns, suspicions(frame, params).to_numpy(np.float64)])
    return np.nan_to_num(both, nan=0.0, posinf=8.0, neginf=-8.0)


def learn(
    frame: pd.DataFrame, verdicts: Mapping[int, str] | pd.Series[str], params: OutlierParameters | None = None
) -> Learned | None:
    """Learn from verdicts, or None where there are fewer than 30 or fewer than 5 of a kind.

    Parameters
    ----------
    frame
        All rows of a `cells.CellTable`; those without a verdict say what is usual.
    verdicts
        Word of `cells.VERDICTS` by cell id: rejected cells are bad; accepted, edited and locked ones good;
        others are passed over.
    """
    from sklearn.calibration import CalibratedClassifierCV
    from sklearn.metrics import balanced_accuracy_score
    from sklearn.model_selection import cross_val_predict

    params = params or OutlierParameters()
    said = pd.Series(verdicts, dtype="object").reindex(frame.index)
    bad, good = (said == "rejected").to_numpy(), said.isin(DECIDED).to_numpy()
    known = bad | good
    if known.sum() < FEWEST or min(bad.sum(), good.sum()) < FEWEST_OF_A_KIND:
        return None
    x, y = features(frame, params)[known], bad[known].astype(int)
    images = frame["image"].to_numpy()[known]
    folds, by_image = _folds(y, images)
    chosen = _classifier(len(y))
    guessed = cross_val_predict(chosen, x, y, cv=folds)
    model = CalibratedClassifierCV(chosen, method="sigmoid", cv=folds, ensemble=False).fit(x, y)
    accuracy, balanced = float((guessed == y).mean()), float(balanced_accuracy_score(y, guessed))
    always = max(y.mean(), 1 - y.mean())
    where = "in images it did not learn from" if by_image else "of cells it did not learn from"
    text = (
        f"Learned from {len(y)} verdicts ({int(y.sum())} bad): right for {accuracy:.0%} {where}"
        f" ({always:.0%} by always saying the same)."
    )
    return Learned(model, params, accuracy, balanced, int(y.sum()), int((1 - y).sum()), text)


def _classifier(count: int) -> Any:
    from sklearn.ensemble import HistGradientBoostingClassifier
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    if count >= _BOOSTED_FROM:
        return HistGradientBoostingClassifier(max_iter=120, learning_rate=0.06, max_leaf_nodes=15, random_state=0)
    return make_pipeline(StandardScaler(), LogisticRegression(C=0.3, max_iter=2000))


def _folds(y: NDArray[np.int64], images: NDArray[Any]) -> tuple[list[tuple[Any, Any]], bool]:
    """Folds that keep each image whole where both kinds are found in enough of them, else of single cells."""
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    spread = min(len(np.unique(images[y == kind])) for kind in (0, 1))
    if spread >= 3:
        count = min(_FOLDS, spread)
        folds = list(StratifiedGroupKFold(count, shuffle=True, random_state=0).split(images, y, images))
        if all(len(np.unique(y[learned])) == 2 for learned, _ in folds):
            return folds, True
    count = min(_FOLDS, int(min(y.sum(), (1 - y).sum())))
    return list(StratifiedKFold(count, shuffle=True, random_state=0).split(images, y)), False
