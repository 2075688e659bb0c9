"""Where two label images of the same picture disagree, cell by cell."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

SAME = 0.5
"""IoU from which two cells are the same."""

PIECE = 0.5
"""Part of a cell that must lie in another for it to be a piece of it."""


@dataclass(frozen=True)
class Difference:
    """One place: ``kind`` is ``"only first"``, ``"only second"``, ``"split"`` (one cell of the first is
    ``count`` of the second), ``"merged"`` (the other way round) or ``"shape"``; middle ``(y, x)`` and size in px.
    """

    kind: str
    y: float
    x: float
    size: int
    count: int = 1


def differences(first: NDArray[np.integer[Any]], second: NDArray[np.integer[Any]]) -> tuple[Difference, ...]:
    """All of them, the largest first; each cell is named once.

    Parameters
    ----------
    first, second
        ``(Y, X)``, 0 = background.

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    if first.shape != second.shape:
        raise ValueError(f"the label images differ in shape: {first.shape} and {second.shape}")
    pairs, shared = np.unique(np.stack([first.ravel(), second.ravel()]), axis=1, return_counts=True)
    areas = [_areas(first), _areas(second)]
    both = (pairs != 0).all(axis=0)
    overlaps = [(int(a), int(b), int(n)) for (a, b), n in zip(pairs[:, both].T, shared[both], strict=True)]
    same = {(a, b) for a, b, n in overlaps if n / (areas[0][a] + areas[1][b] - n) >= SAME}
    done = [{a for a, _ in same} | {0}, {b for _, b in same} | {0}]
    found: list[Difference] = []
    for side, (here, there) in enumerate(((0, 1), (1, 0))):
        pieces: dict[int, list[int]] = {}
        for overlap in overlaps:
            cell, other, n = overlap[here], overlap[there], overlap[2]
            if other not in done[there] and n > PIECE * areas[there][other]:
                pieces.setdefault(cell, []).append(other)
        for cell, others in pieces.items():
            if cell not in done[here] and len(others) > 1:
                found.append(_at((first, second)[side], cell, ("split", "merged")[side], len(others)))
                done[here].add(cell)
                done[there].update(others)
    for a, b, n in overlaps:
        if a not in done[0] and b not in done[1] and n > PIECE * min(areas[0][a], areas[1][b]):
            found.append(_at(first, a, "shape"))
            done[0].add(a)
            done[1].add(b)
    for side, (image, kind) in enumerate(((first, "only first"), (second, "only second"))):
        found += [_at(image, cell, kind) for cell in areas[side] if cell not in done[side]]
    return tuple(sorted(found, key=lambda one: -one.size))


def _areas(labels: NDArray[np.integer[Any]]) -> dict[int, int]:
    values, counts = np.unique(labels, return_counts=True)
    return dict(zip(values.tolist(), counts.tolist(), strict=True))


def _at(labels: NDArray[np.integer[Any]], cell: int, kind: str, count: int = 1) -> Difference:
    ys, xs = np.nonzero(labels == cell)
    return Difference(kind, float(ys.mean()), float(xs.mean()), len(ys), count)
