"""Does the share of a cluster rise or fall with the dose? Asked of whole images or wells.

Where conditions are amounts, their order says more than that they differ: a share that rises from dose to dose is found
with one well of each dose, which no comparison of single doses can do. Spearman's rank correlation over
units, with p by exchanging whole units.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from cell_curator.core.doses import doses
from cell_curator.core.permutation import CHANCE, arrangements, deals, holm, p_text, with_article

_FEWEST_DOSES = 3


@dataclass(frozen=True)
class TrendTest:
    """One cluster over the doses.

    ``rho``: Spearman's correlation of the share in a unit with its dose, -1..1; NaN if all units have the same share.
    ``p`` by permutation of units, ``q`` corrected over the clusters (Holm). ``sentence``: the same for a reader.
    """

    cluster: int
    rho: float
    p: float
    q: float
    sentence: str


@dataclass(frozen=True)
class Trend:
    """How clusters follow the amounts that conditions are.

    ``doses``: what each condition was read as, the smallest first. ``arrangements`` and ``exact`` as in `Comparison`.
    """

    doses: Mapping[str, float]
    tests: tuple[TrendTest, ...]
    arrangements: int
    exact: bool

    @property
    def found(self) -> tuple[TrendTest, ...]:
        """Those that are more than chance."""
        return tuple(test for test in self.tests if test.q <= CHANCE)


def trend_over_doses(
    shares: NDArray[np.float64], conditions: NDArray[Any], names: Mapping[int, str], seed: int = 0, unit: str = "image"
) -> tuple[Trend | None, str]:
    """Test each cluster for a trend, if conditions are three or more amounts.

    Parameters
    ----------
    shares, conditions
        (U, K) share of each unit's cells in each cluster, and (U,) its condition.
    names
        What each of the K clusters is called, by its number.

    Returns
    -------
    The trend, None where conditions are no amounts or no p below 0.05 is possible; and then a note, else "".
    """
    known = doses(str(name) for name in conditions)
    if known is None or len(known) < _FEWEST_DOSES or not names:
        return None, ""
    place = {name: number for number, name in enumerate(known)}
    group = np.array([place[str(name)] for name in conditions], np.intp)
    least = 2 / arrangements(np.bincount(group).tolist())
    if least > CHANCE:
        return (
            None,
            f"{len(group)} {unit}s are too few to tell a trend over {len(known)} doses from chance; add {unit}s",
        )
    rho, p, done, exact = _permuted(shares, group, seed)
    q = holm(p)
    tests = []
    for index, (number, name) in enumerate(names.items()):
        ends = [float(shares[group == end, index].mean()) for end in (0, len(known) - 1)]
        said = _sentence(name, tuple(known), rho[index], p[index], q[index], ends, unit)
        tests.append(TrendTest(number, float(rho[index]), float(p[index]), float(q[index]), said))
    return Trend(known, tuple(tests), done, exact), ""


def _permuted(
    shares: NDArray[np.float64], group: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int, bool]:
    """Spearman's rho and its p for each column, how many arrangements were looked at, and whether all there are."""
    ranks = rankdata(shares, axis=0)
    ranks -= ranks.mean(axis=0)
    length = np.linalg.norm(ranks, axis=0)
    flat = length < 1e-9
    ranks /= np.where(flat, 1.0, length)
    dose = rankdata(group)
    dose = (dose - dose.mean()) / np.linalg.norm(dose - dose.mean())
    by_group = np.zeros(int(group.max()) + 1)
    by_group[group] = dose
    here = dose @ ranks
    dealt, exact = deals(group, seed)
    above, count = np.zeros(shares.shape[1]), 0
    for part in dealt:
        above += (np.abs(by_group[part] @ ranks) >= np.abs(here) - 1e-9).sum(axis=0)
        count += len(part)
    extra = 0 if exact else 1  # the arrangement that was found is one of them
    p = (above + extra) / (count + extra)
    return np.where(flat, math.nan, here), np.where(flat, 1.0, p), count + extra, exact


def _sentence(name: str, known: tuple[str, ...], rho: float, p: float, q: float, ends: list[float], unit: str) -> str:
    if q > CHANCE:
        hint = "; a hint only, once corrected for the number of clusters" if p <= CHANCE else ""
        return f"{name}: no trend from {known[0]} to {known[-1]} (p {p_text(p)}){hint}"
    way = "rises" if rho > 0 else "falls"
    return (
        f"{name}: {way} from {known[0]} ({100 * ends[0]:.0f} % of the cells of {with_article(unit)}) to {known[-1]} "
        f"({100 * ends[1]:.0f} %), rank correlation {rho_text(rho)}, corrected p {p_text(q)}"
    )


def rho_text(rho: float) -> str:
    """A correlation for a reader."""
    return "–" if math.isnan(rho) else f"{rho:+.2f}".replace("-", "−")
