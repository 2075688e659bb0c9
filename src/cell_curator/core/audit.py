"""How many bad cells are left in a set: a blind random sample, and what it says with an exact interval.

A sample is drawn by chance, spread over images and conditions in proportion to their cells, so that every
cell has the same chance. The interval is Clopper and Pearson's (1934, *Biometrika* 26:404), which never
promises more than the sample holds; spreading over strata can only make it wider than it need be.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

CONFIDENCE = 0.95


@dataclass(frozen=True)
class Audit:
    """A sample to look at, and what was said of it so far.

    Parameters
    ----------
    seed
        With which it was drawn.
    cells
        Ids in the order to look at them.
    population
        How many cells it stands for.
    revisions
        Of the cells when they were drawn; one that was changed since is no longer the cell that was drawn.
    verdicts
        Whether a cell is bad, by id; cells nobody looked at are missing.
    """

    seed: int
    cells: tuple[int, ...]
    population: int
    revisions: tuple[int, ...] = ()
    verdicts: dict[int, bool] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """As the project stores it."""
        return {
            "seed": self.seed,
            "cells": list(self.cells),
            "population": self.population,
            "revisions": list(self.revisions),
            "verdicts": {str(cell): bad for cell, bad in self.verdicts.items()},
        }

    @classmethod
    def from_json(cls, stored: dict[str, Any]) -> Audit:
        """From what `to_json` gave."""
        verdicts = {int(cell): bool(bad) for cell, bad in stored["verdicts"].items()}
        return cls(stored["seed"], tuple(stored["cells"]), stored["population"], tuple(stored["revisions"]), verdicts)


def draw(frame: pd.DataFrame, n: int, seed: int = 0, by: Sequence[str] = ("condition", "image")) -> tuple[int, ...]:
    """Ids of ``n`` cells by chance, in random order; all of them if there are fewer.

    Parameters
    ----------
    frame
        Rows of a `cells.CellTable`.
    by
        Columns whose groups each give their share, to one cell.
    """
    rng = np.random.default_rng(seed)
    ids = np.sort(np.asarray(frame.index, dtype=np.int64))
    n = min(n, len(ids))
    if n <= 0:
        return ()
    names = [name for name in by if name in frame]
    strata = frame.loc[ids].groupby(names, sort=True, dropna=False).ngroup().to_numpy() if names else np.zeros(len(ids))
    shuffled = rng.permutation(len(ids))
    # Every cell stands at a place of its own in its stratum; a systematic sample over all strata gives each
    # of them its share rounded up or down, and every cell the same chance.
    order = shuffled[np.argsort(strata[shuffled], kind="stable")]
    step = len(ids) / n
    taken = np.floor(rng.uniform(0, step) + step * np.arange(n)).astype(np.int64)
    chosen: NDArray[np.int64] = ids[order[np.minimum(taken, len(ids) - 1)]]
    return tuple(int(cell) for cell in rng.permutation(chosen))


def interval(bad: int, n: int, confidence: float = CONFIDENCE) -> tuple[float, float]:
    """Lowest and highest share of bad cells that agrees with ``bad`` of ``n``, after Clopper and Pearson.

    ``(0, 1)`` where nobody looked yet.

    Raises
    ------
    ValueError
        If ``bad`` is not in 0..n.
    """
    from scipy.stats import beta

    if not 0 <= bad <= n:
        raise ValueError(f"{bad} bad cells of {n} cannot be")
    tail = (1 - confidence) / 2
    low = float(beta.ppf(tail, bad, n - bad + 1)) if bad > 0 else 0.0
    high = float(beta.ppf(1 - tail, bad + 1, n - bad)) if bad < n else 1.0
    return low, high


def needed(bad: int, n: int, bound: float, confidence: float = CONFIDENCE) -> int:
    """How many more cells, all of them good, until the share of bad ones is at most ``bound``.

    Says 0 where that holds already. The limit is the upper one of `interval`.

    Raises
    ------
    ValueError
        If ``bound`` is not above 0.
    """
    if bound <= 0:
        raise ValueError("no sample can show that there is no bad cell at all; choose a bound above 0")
    if bound >= 1 or (n and interval(bad, n, confidence)[1] <= bound):
        return 0
    enough = 1
    while interval(bad, n + enough, confidence)[1] > bound:
        enough *= 2
    low = enough // 2  # not enough
    while enough - low > 1:
        middle = (low + enough) // 2
        if interval(bad, n + middle, confidence)[1] > bound:
            low = middle
        else:
            enough = middle
    return enough
