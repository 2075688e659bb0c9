"""Reasons not to believe a map: batch effects, groups that do not return or only follow direction, dead features.

Every answer has a ``warning``, a plain sentence, "" where there is nothing to warn of. Conditions are
only ever used to judge the map, never to make it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clustering import FEW_STARTS, ClusterParameters, cluster
from cell_curator.core.groups import held_out

_MOST_CELLS = 150  # of a unit; one more cell says little more about its unit
_MOST_PAIRS = 40
_FOLDS = 3
_FEWEST_CELLS = 2 * _FOLDS  # of a unit, to learn from some and be asked about others
_SHRINK = 0.1  # towards a round cloud, as there may be fewer cells than features
_CLEAR = 0.6  # right so often, with chance at one half
_DEAD = 0.01  # variance of a posterior mean over cells (Burda et al. 2016); its prior has 1
_SHAKY = 0.6  # Jaccard index below which a group is not the same (Hennig 2007)
_MOST_FOR_STABILITY = 2000
_LONG = 0.6  # eccentricity from which a cell has a direction
_MOST_BY_DIRECTION = 0.2  # share of the spread of directions that clusters may explain


@dataclass(frozen=True)
class BatchEffect:
    """How well the map tells apart images of one condition, and conditions in images never seen.

    Both are the share of right answers between two, so that chance is 0.5 for both; NaN where it cannot be asked.
    """

    image: float
    condition: float
    warning: str


@dataclass(frozen=True)
class Stability:
    """How well each cluster comes back when a part of the cells is grouped again (Jaccard index, 1 = the same)."""

    clusters: tuple[int, ...]
    jaccard: tuple[float, ...]
    warning: str


@dataclass(frozen=True)
class DeadUnits:
    """Learned features that are the same for every cell, counted from 0, and how many there are in all."""

    dead: tuple[int, ...]
    total: int
    warning: str


# ---------------------------------------------------------------------- batch effect


def batch_effect(
    latent: NDArray[Any],
    conditions: Sequence[str] | NDArray[Any],
    units: Sequence[Any] | NDArray[Any],
    seed: int = 0,
    unit: str = "image",
) -> BatchEffect:
    """Ask whether the map knows the image better than the condition.

    ``image``: two images of one condition, learned from some of their cells
    and asked about the others. ``condition``: two conditions, learned from some images and asked about others.

    Parameters
    ----------
    latent
        (N, D) posterior means.
    conditions, units
        (N,) of each cell.
    """
    x, rng = np.asarray(latent, np.float64), np.random.default_rng(seed)
    conditions, units = np.asarray(conditions, dtype=object), np.asarray(units, dtype=object)
    members: dict[Any, dict[Any, NDArray[np.intp]]] = {}
    for value in dict.fromkeys(units.tolist()):
        rows = np.flatnonzero(units == value)
        if len(rows) >= _FEWEST_CELLS:
            chosen = rng.permutation(rows)[:_MOST_CELLS]
            members.setdefault(conditions[rows[0]], {})[value] = chosen
    image = _between_units(x, members, rng)
    condition = _between_conditions(x, members, seed)
    return BatchEffect(image, condition, _batch_warning(image, condition, unit))


def _batch_warning(image: float, condition: float, unit: str) -> str:
    if math.isnan(image) or image < _CLEAR:
        return ""
    if math.isnan(condition):
        return (
            f"the map tells two {unit}s of one condition apart in {100 * image:.0f} % of cells (chance 50 %): "
            f"look for differences in light or focus before comparing conditions"
        )
    if condition >= image:
        return ""
    return (
        f"batch effect: the map tells two {unit}s of one condition apart in {100 * image:.0f} % of cells, but two "
        f"conditions in only {100 * condition:.0f} % (chance 50 %); even out light and focus in the preparation, "
        f"or compare conditions on the same plate and day"
    )


def _between_units(x: NDArray[np.float64], members: dict[Any, dict[Any, NDArray[np.intp]]], rng: Any) -> float:
    pairs = [pair for own in members.values() for pair in itertools.combinations(own.values(), 2)]
    if len(pairs) > _MOST_PAIRS:
        pairs = [pairs[i] for i in rng.choice(len(pairs), _MOST_PAIRS, replace=False)]
    right = []
    for pair in pairs:
        for fold in range(_FOLDS):
            learn = [np.delete(rows, np.s_[fold::_FOLDS]) for rows in pair]
            right.append(_told_apart(x, learn, [rows[fold::_FOLDS] for rows in pair]))
    return float(np.mean(right)) if right else math.nan


def _between_conditions(x: NDArray[np.float64], members: dict[Any, dict[Any, NDArray[np.intp]]], seed: int) -> float:
    several = [own for own in members.values() if len(own) > 1]
    right = []
    for first, second in itertools.islice(itertools.combinations(several, 2), _MOST_PAIRS):
        for fold in range(_FOLDS):
            out = [held_out(list(own), 1 / _FOLDS, seed + fold) for own in (first, second)]
            ask = [
                np.concatenate([own[name] for name in own if name in left])
                for own, left in zip((first, second), out, strict=True)
            ]
            learn = [
                np.concatenate([own[name] for name in own if name not in left])
                for own, left in zip((first, second), out, strict=True)
            ]
            right.append(_told_apart(x, learn, ask))
    return float(np.mean(right)) if right else math.nan


def _told_apart(x: NDArray[np.float64], learn: list[NDArray[np.intp]], ask: list[NDArray[np.intp]]) -> float:
    """Mean share of right answers over the two sides, by Fisher's discriminant (1936) with a little shrinkage."""
    means = [x[rows].mean(axis=0) for rows in learn]
    centred = np.concatenate([x[rows] - mean for rows, mean in zip(learn, means, strict=True)])
    spread = centred.T @ centred / max(len(centred) - 2, 1)
    size = float(np.trace(spread)) / len(spread)
    away = means[1] - means[0]
    if size <= 0 and not away.any():
        return 0.5
    inner = (1 - _SHRINK) * spread + max(_SHRINK * size, 1e-12) * np.eye(len(spread))
    direction = np.linalg.solve(inner, away)
    middle = float(direction @ (means[0] + means[1])) / 2
    right = [((x[rows] @ direction > middle) == side).mean() for side, rows in enumerate(ask)]
    return float(np.mean(right))


# ---------------------------------------------------------------------- stability


def cluster_stability(
    points: NDArray[Any],
    labels: NDArray[np.integer[Any]],
    params: ClusterParameters | None = None,
    repeats: int = 8,
    names: dict[int, str] | None = None,
) -> Stability:
    """Group four fifths of the cells again and again, and see whether each cluster comes back.

    Hennig 2007: the cluster of the new grouping that overlaps most counts as the same one.

    Parameters
    ----------
    points, labels
        (N, D) in the space of the clustering, and (N,) its clusters.
    params
        How they were made.
    """
    params = params or ClusterParameters()
    x, labels, rng = np.asarray(points, np.float64), np.asarray(labels), np.random.default_rng(params.seed)
    if len(x) > _MOST_FOR_STABILITY:
        chosen = rng.choice(len(x), _MOST_FOR_STABILITY, replace=False)
        x, labels = x[chosen], labels[chosen]
    numbers = [int(n) for n in np.unique(labels[labels >= 0])]
    if len(numbers) < 2:
        return Stability(tuple(numbers), (math.nan,) * len(numbers), "")
    found = np.zeros((repeats, len(numbers)))
    for repeat in range(repeats):
        part = rng.permutation(len(x))[: max(4 * len(x) // 5, 1)]
        seeded = params.model_copy(update={"seed": params.seed + repeat + 1})
        again = cluster(x[part], seeded, starts=FEW_STARTS).labels
        for column, number in enumerate(numbers):
            found[repeat, column] = _best_overlap(labels[part] == number, again)
    jaccard = tuple(float(v) for v in found.mean(axis=0))
    return Stability(tuple(numbers), jaccard, _stability_warning(numbers, jaccard, names or {}))


def _best_overlap(inside: NDArray[np.bool_], again: NDArray[np.int64]) -> float:
    best = 0.0
    for number in np.unique(again[inside & (again >= 0)]):
        there = again == number
        best = max(best, float((inside & there).sum() / (inside | there).sum()))
    return best


def _stability_warning(numbers: list[int], jaccard: tuple[float, ...], names: dict[int, str]) -> str:
    shaky = [
        (value, names.get(n, f"Cluster {n + 1}")) for n, value in zip(numbers, jaccard, strict=True) if value < _SHAKY
    ]
    if not shaky:
        return ""
    named = ", ".join(f"{name} ({value:.2f})" for value, name in sorted(shaky)[:4])
    verb = "does" if len(shaky) == 1 else "do"
    return (
        f"{len(shaky)} of {len(numbers)} clusters {verb} not come back when a fifth of the cells is left out: {named} "
        f"(1 would be the same cells); try fewer clusters, and read no more into these"
    )


# ---------------------------------------------------------------------- direction


def by_direction(
    clusters: NDArray[np.integer[Any]], orientation_deg: NDArray[Any], eccentricity: NDArray[Any]
) -> tuple[float, str]:
    """Share of the spread of directions of long cells that their clusters explain, 0..1, and a warning if it is large.

    For images in which direction means nothing; NaN where there are too few long cells or only one cluster.
    A direction is that of an axis, so it is the angle's double that is compared.
    """
    there = (np.asarray(clusters) >= 0) & (np.asarray(eccentricity) >= _LONG) & np.isfinite(orientation_deg)
    groups = np.unique(np.asarray(clusters)[there], return_inverse=True)[1]
    count, kinds = len(groups), int(groups.max(initial=-1)) + 1
    if kinds < 2 or count < 10 * kinds:
        return math.nan, ""
    doubled = 2 * np.deg2rad(np.asarray(orientation_deg, np.float64)[there])
    axes = np.column_stack([np.cos(doubled), np.sin(doubled)])
    means = np.stack([axes[groups == kind].mean(axis=0) for kind in range(kinds)])
    total, within = float(((axes - axes.mean(axis=0)) ** 2).sum()), float(((axes - means[groups]) ** 2).sum())
    if total <= 0:
        return 0.0, ""
    share = max(1 - within / (count - kinds) / (total / (count - 1)), 0.0)
    if share < _MOST_BY_DIRECTION:
        return share, ""
    return share, (
        f"the clusters follow the direction in which cells lie ({100 * share:.0f} % of its spread): if direction means "
        "nothing in these images, turn patches to each cell's own axis and make the map again"
    )


# ---------------------------------------------------------------------- dead features


def dead_units(latent: NDArray[Any]) -> DeadUnits:
    """Features whose posterior mean varies less than 0.01 over all cells (Burda et al. 2016)."""
    x = np.asarray(latent, np.float64)
    if len(x) < 2:
        return DeadUnits((), x.shape[1], "")
    dead = tuple(int(i) for i in np.flatnonzero(x.var(axis=0) < _DEAD))
    total, left = x.shape[1], x.shape[1] - len(dead)
    if not dead:
        return DeadUnits((), total, "")
    if not left:
        said = (
            f"all {total} learned features are the same for every cell: the map shows nothing; lower β or train longer"
        )
    else:
        verb = "is" if len(dead) == 1 else "are"
        said = (
            f"{len(dead)} of {total} learned features {verb} the same for every cell; "
            f"the map rests on the other {left}{', lower β if that is too few' if left < 4 else ''}"
        )
    return DeadUnits(dead, total, said)
