"""Do conditions differ in how their cells spread over the clusters? Asked of whole images or wells, never of cells.

Cells of one image share its focus, its light and its neighbours, so a thousand of them are not a
thousand experiments. Whole units (images, or wells) are exchanged between conditions, and the
question is how often chance alone separates them as far (Fisher 1935; Phipson & Smyth 2010 for
random arrangements). Whether the clusters themselves can be believed is asked in `core.doubts`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.doses import in_order
from cell_curator.core.permutation import CHANCE, benjamini_hochberg, deals, holm, p_text, smallest_p, with_article
from cell_curator.core.trend import Trend, trend_over_doses

_FEWEST_UNITS = 2
_DELTA = ((0.147, "negligible"), (0.33, "small"), (0.474, "medium"), (math.inf, "large"))
_EPSILON = ((0.01, "negligible"), (0.08, "small"), (0.26, "medium"), (math.inf, "large"))


@dataclass(frozen=True)
class ClusterTest:
    """One cluster between conditions.

    Attributes
    ----------
    shares
        (C,) mean over units of the share of a unit's cells that lie in this cluster, 0..1.
    ranges
        (C, 2) smallest and largest share among the units of each condition.
    effect, word
        Two conditions: Cliff's delta over units, -1..1, positive where the second has more. More: ε², 0..1.
        In words: negligible, small, medium, large (Romano et al. 2006).
    p, q
        By permutation of units, and corrected over the clusters; NaN where nothing was tested.
    sentence
        The same for a reader.
    """

    cluster: int
    shares: NDArray[np.float64]
    ranges: NDArray[np.float64]
    effect: float
    word: str
    p: float
    q: float
    sentence: str


@dataclass(frozen=True)
class Comparison:
    """How conditions spread over clusters.

    Attributes
    ----------
    conditions
        C names, in the order of the columns of everything else: amounts from the smallest.
    counts
        (K, C) cells.
    tests
        One for each of the K clusters.
    p
        For the composition as a whole: do conditions differ in any cluster? NaN where nothing was tested.
    units
        Number of units by condition.
    unit_shares, unit_conditions
        (U, K) share of each unit's cells in each cluster, and (U,) its condition.
    unit
        What was exchanged: ``"image"`` or ``"well"``.
    arrangements, exact
        How many arrangements of units were compared, and whether these are all there are.
    correction
        ``"Holm"`` or ``"Benjamini-Hochberg"``.
    refused
        Why nothing was tested, with what to do; "" where it was.
    trend
        Where conditions are amounts: whether clusters follow them.
    notes
        What the reader should know, one sentence each.
    """

    conditions: tuple[str, ...]
    counts: NDArray[np.int64]
    tests: tuple[ClusterTest, ...]
    p: float
    units: Mapping[str, int]
    unit_shares: NDArray[np.float64]
    unit_conditions: NDArray[Any]
    unit: str
    arrangements: int
    exact: bool
    correction: str
    refused: str = ""
    trend: Trend | None = None
    notes: tuple[str, ...] = field(default=())

    @property
    def clusters(self) -> tuple[int, ...]:
        """Numbers of the clusters, in the order of the rows."""
        return tuple(test.cluster for test in self.tests)


def compare_conditions(
    clusters: NDArray[np.integer[Any]],
    conditions: Sequence[str] | NDArray[Any],
    units: Sequence[Any] | NDArray[Any],
    seed: int = 0,
    *,
    names: Mapping[int, str] | None = None,
    unit: str = "image",
    correction: Literal["Holm", "Benjamini-Hochberg"] = "Holm",
) -> Comparison:
    """Compare the composition of conditions over clusters, unit by unit.

    Parameters
    ----------
    clusters
        (N,) cluster of each cell; negative = none. Such cells count as cells of their unit.
    conditions, units
        (N,) condition of each cell, and the image or well it is from. A unit has one condition.
    names
        What a cluster is called in the sentences.
    unit
        The word for a unit.

    Raises
    ------
    ValueError
        If a unit lies in two conditions.
    """
    clusters, conditions = np.asarray(clusters), np.asarray(conditions, dtype=object)
    known = tuple(in_order(conditions.tolist()))
    numbers = np.unique(clusters[clusters >= 0])
    owner, table = _composition(clusters, conditions, np.asarray(units, dtype=object), numbers)
    size = {name: sum(owner == name) for name in known}
    counts = np.array([[np.sum((clusters == k) & (conditions == c)) for c in known] for k in numbers], np.int64)
    refused, tested = _may_test(known, size, unit)
    notes: list[str] = []
    shares = np.array([table[owner == name].mean(axis=0) for name in known]).reshape(len(known), -1)
    ranges = np.array([[table[owner == n].min(axis=0), table[owner == n].max(axis=0)] for n in known])
    p, whole, done, exact = np.full(len(numbers), np.nan), math.nan, 0, False
    effects = np.full(len(numbers), np.nan)
    if not refused and len(numbers):
        used = np.isin(owner, tested)
        group = np.array([tested.index(name) for name in owner[used]])
        p, whole, done, exact = _permuted(table[used], group, seed)
        effects = np.array([_effect(column, group) for column in table[used].T])
        notes += _notes(known, tested, group, size, unit, len(numbers) if correction == "Holm" else 1)
    q = holm(p) if correction == "Holm" else benjamini_hochberg(p)
    called = {int(number): (names or {}).get(int(number), f"Cluster {int(number) + 1}") for number in numbers}
    trend, said = trend_over_doses(table, owner, called, seed, unit)
    notes += [said] * bool(said)
    rows = []
    for index, number in enumerate(numbers):
        word, name = _word(effects[index], len(tested)), called[int(number)]
        said = _sentence(name, known, tested, shares[:, index], p[index], q[index], word, unit)
        rows.append(
            ClusterTest(
                int(number), shares[:, index], ranges[:, :, index],
                float(effects[index]), word, float(p[index]), float(q[index]), said,
            )
        )  # fmt: skip
    return Comparison(
        known,
        counts,
        tuple(rows),
        whole,
        size,
        table,
        owner,
        unit,
        done,
        exact,
        correction,
        refused,
        trend,
        tuple(notes),
    )


# ---------------------------------------------------------------------- units


def _composition(
    clusters: NDArray[Any], conditions: NDArray[Any], units: NDArray[Any], numbers: NDArray[Any]
) -> tuple[NDArray[Any], NDArray[np.float64]]:
    """Condition of each unit (U,), and its share of cells in each cluster (U, K)."""
    owners: dict[Any, Any] = {}
    for unit, condition in zip(units.tolist(), conditions.tolist(), strict=True):
        if owners.setdefault(unit, condition) != condition:
            raise ValueError(f"unit {unit!r} lies in the conditions {owners[unit]!r} and {condition!r}")
    place = {unit: index for index, unit in enumerate(owners)}
    row = np.array([place[unit] for unit in units.tolist()], np.intp)
    table = np.zeros((len(place), len(numbers)))
    inside = clusters >= 0
    np.add.at(table, (row[inside], np.searchsorted(numbers, clusters[inside])), 1)
    cells = np.bincount(row, minlength=len(place)).astype(float)
    return np.array([*owners.values(), None], dtype=object)[:-1], table / np.maximum(cells, 1)[:, None]


def _may_test(known: tuple[str, ...], size: Mapping[str, int], unit: str) -> tuple[str, list[str]]:
    """Why not, and the conditions that can be compared."""
    enough = [name for name in known if size[name] >= _FEWEST_UNITS]
    if len(known) < 2:
        return f"there is only one condition; put the {unit}s of each condition into a folder of its own", []
    if len(enough) >= 2:
        return "", enough
    few = [name for name in known if name not in enough]
    if all(size[name] == 1 for name in known):
        return (
            f"one {unit} of each condition cannot tell a condition from {with_article(unit)}; add more {unit}s of each",
            [],
        )
    what = ", ".join(f"“{name}”" for name in few[:3])
    have = f"{what} ha{'ve' if len(few) > 1 else 's'} only one"
    return f"one {unit} cannot tell a condition from {with_article(unit)}: {have}; add at least one more", []


def _notes(
    known: tuple[str, ...], tested: list[str], group: NDArray[np.intp], size: Mapping[str, int], unit: str, times: int
) -> list[str]:
    """``times``: what the smallest p is multiplied by when it is corrected."""
    notes = []
    left = [name for name in known if name not in tested]
    if left:
        notes.append(f"not tested for want of a second {unit}: {', '.join(left[:6])}{' …' if len(left) > 6 else ''}")
    least = smallest_p(np.bincount(group))
    pairs = " and ".join(str(size[name]) for name in tested)
    if least > CHANCE:
        notes.append(
            f"with {pairs} {unit}s no p below {least:.2f} is possible, however large the difference; add {unit}s"
        )
    elif least * times > CHANCE:
        notes.append(
            f"with {pairs} {unit}s and {times} clusters no corrected p below {min(least * times, 1):.2f} is possible, "
            f"however large the difference; add {unit}s, or make fewer clusters"
        )
    return notes


# ---------------------------------------------------------------------- permutation


def _permuted(
    table: NDArray[np.float64], group: NDArray[np.intp], seed: int
) -> tuple[NDArray[np.float64], float, int, bool]:
    """P of each column and of all together, how many arrangements were looked at, and whether all there are.

    What is compared is the spread of the group means (weighted by their size) about the common mean.
    """
    sizes = np.bincount(group)
    dealt, exact = deals(group, seed)
    centred = table - table.mean(axis=0)
    above, all_above, count = np.zeros(table.shape[1]), 0, 0
    here = _spread(centred, group[None], sizes)[0]
    tiny = 1e-9 * max(float(here.max(initial=0)), 1e-12)  # sums of the same numbers in another order are no less
    scale = np.maximum(centred.var(axis=0), 1e-12)  # a rare cluster counts as much as a common one
    for part in dealt:
        there = _spread(centred, part, sizes)
        above += (there >= here - tiny).sum(axis=0)
        all_above += int(((there / scale).sum(axis=1) >= (here / scale).sum() * (1 - 1e-9)).sum())
        count += len(part)
    extra = 0 if exact else 1  # the arrangement that was found is one of them
    return (above + extra) / (count + extra), (all_above + extra) / (count + extra), count + extra, exact


def _spread(centred: NDArray[np.float64], deals: NDArray[np.intp], sizes: NDArray[np.intp]) -> NDArray[np.float64]:
    """(M, K) sum of squares between groups for M deals (M, U)."""
    total = np.zeros((len(deals), centred.shape[1]))
    for number, size in enumerate(sizes):
        total += ((deals == number).astype(float) @ centred) ** 2 / size
    return total


# ---------------------------------------------------------------------- effect


def cliffs_delta(first: NDArray[Any], second: NDArray[Any]) -> float:
    """How often a value of ``second`` is the larger, less how often it is the smaller; -1..1."""
    return float(np.sign(np.asarray(second)[:, None] - np.asarray(first)[None]).mean())


def _effect(values: NDArray[np.float64], group: NDArray[np.intp]) -> float:
    if group.max() == 1:
        return cliffs_delta(values[group == 0], values[group == 1])
    parts = [values[group == number] for number in range(int(group.max()) + 1)]
    total = float(((values - values.mean()) ** 2).sum())
    if total == 0:
        return 0.0
    within = sum(float(((part - part.mean()) ** 2).sum()) for part in parts)
    left = within / (len(values) - len(parts))
    return max((total - within - (len(parts) - 1) * left) / total, 0.0)


def _word(effect: float, conditions: int) -> str:
    if math.isnan(effect):
        return ""
    return next(word for limit, word in (_DELTA if conditions == 2 else _EPSILON) if abs(effect) < limit)


def _sentence(
    name: str, known: tuple[str, ...], tested: list[str], shares: NDArray[np.float64], p: float, q: float,
    word: str, unit: str,
) -> str:  # fmt: skip
    if math.isnan(p):
        return ""
    by_name = {c: float(share) for c, share in zip(known, shares, strict=True) if c in tested}
    low, high = min(by_name, key=lambda c: by_name[c]), max(by_name, key=lambda c: by_name[c])
    if q > CHANCE:
        hint = "; a hint only, once corrected for the number of clusters" if p <= CHANCE else ""
        return f"{name}: no difference beyond that of {unit}s of one condition (p {p_text(p)}){hint}"
    more, than = ("more in", " than in") if len(tested) == 2 else ("most in", ", least in")
    return (
        f"{name}: {more} {high} ({100 * by_name[high]:.0f} % of the cells of {with_article(unit)}){than} {low} "
        f"({100 * by_name[low]:.0f} %), a {word} effect (corrected p {p_text(q)})"
    )
