"""Exchanging whole units between groups: how many ways there are, p by counting them, and corrected p.

All arrangements are looked at where they can be counted, else as many as can be are drawn at random, and the one that
was found is counted with them (Phipson & Smyth 2010).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

EXACT = 20_000
"""Up to so many arrangements of units, all are looked at; beyond, as many are drawn at random."""

CHANCE = 0.05
"""A corrected p up to this is called a finding."""


def smallest_p(sizes: Sequence[int] | NDArray[np.integer[Any]]) -> float:
    """The least p that exchanging units can give: arrangements that separate as far, over all there are."""
    sizes = [int(size) for size in sizes]
    twins = math.prod(math.factorial(sizes.count(size)) for size in set(sizes))  # groups of one size change places
    return twins / arrangements(sizes)


def arrangements(sizes: Sequence[int]) -> int:
    """In how many ways units can be dealt to groups of these sizes."""
    total, left = 1, sum(sizes)
    for size in sizes:
        total *= math.comb(left, size)
        left -= size
    return total


def deals(group: NDArray[np.intp], seed: int) -> tuple[list[NDArray[np.intp]], bool]:
    """Arrangements of ``group`` (U,), in parts of (M, U), and whether these are all there are."""
    sizes = np.bincount(group)
    exact = arrangements(sizes.tolist()) <= EXACT
    return (_all_deals(group, sizes) if exact else _random_deals(group, EXACT, seed)), exact


def _all_deals(group: NDArray[np.intp], sizes: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    deals = [np.full(len(group), len(sizes) - 1)]
    for number, size in enumerate(sizes[:-1]):
        more = []
        for deal in deals:
            free = np.flatnonzero(deal == len(sizes) - 1)
            for chosen in itertools.combinations(free, int(size)):
                new = deal.copy()
                new[list(chosen)] = number
                more.append(new)
        deals = more
    return [np.array(deals)]


def _random_deals(group: NDArray[np.intp], count: int, seed: int) -> list[NDArray[np.intp]]:
    rng, part = np.random.default_rng(seed), 2000
    return [rng.permuted(np.tile(group, (part, 1)), axis=1) for _ in range(count // part)]


def holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P corrected so that the chance of *any* false finding is kept (Holm 1979); NaN stays NaN."""
    q, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(p[known], kind="stable")]
    q[order] = np.minimum(np.maximum.accumulate(p[order] * np.arange(len(order), 0, -1)), 1)
    return q


def benjamini_hochberg(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P corrected so that the *share* of false findings is kept (Benjamini & Hochberg 1995); NaN stays NaN."""
    q, known = np.full(len(p), np.nan), np.flatnonzero(~np.isnan(p))
    order = known[np.argsort(-p[known], kind="stable")]
    ranks = np.arange(len(order), 0, -1)
    q[order] = np.minimum(np.minimum.accumulate(p[order] * len(order) / np.maximum(ranks, 1)), 1)
    return q


def p_text(p: float) -> str:
    """A p for a reader: two digits that count, never 0."""
    if math.isnan(p):
        return "–"
    return "< 0.0001" if p < 1e-4 else f"{p:.4f}" if p < 1e-3 else f"{p:.3f}" if p < 0.1 else f"{p:.2f}"


def with_article(unit: str) -> str:
    """``"an image"``, ``"a well"``."""
    return f"an {unit}" if unit[0] in "aeiou" else f"a {unit}"
