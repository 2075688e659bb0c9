"""Joining a new segmentation with what a person already decided.

Cells that were accepted, edited or locked stay as they are; proposals give way to them. A
rejected cell stays only where it is found again, so that it need not be rejected twice.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_SAME = 0.5  # IoU from which a proposal is the same cell as an old one
_COVERED = 0.5  # share of a proposal under kept cells from which nothing of it is worth keeping


@dataclass(frozen=True)
class Reconciled:
    """The joined ``(Y, X)`` int32 labels.

    ``kept`` are the old label values still there; ``added`` maps each new value to the proposal's.
    """

    labels: NDArray[np.int32]
    kept: frozenset[int]
    added: dict[int, int]


def reconcile(
    current: NDArray[np.int32],
    proposal: NDArray[np.int32],
    keep: Collection[int],
    rejected: Collection[int] = (),
) -> Reconciled:
    """Put ``proposal`` into an image in which some cells are already decided.

    Parameters
    ----------
    current, proposal
        ``(Y, X)`` integer label images.
    keep
        Labels of ``current`` that stay untouched.
    rejected
        Labels of ``current`` that stay if the proposal holds the same cell again (IoU ≥ 0.5).
    """
    found = proposal.astype(np.int32, copy=True)
    again = [label for label in rejected if _found_again(current == label, found)]
    stay = np.isin(current, [*keep, *again]) if keep or again else np.zeros(current.shape, bool)
    size = np.bincount(found.ravel())
    covered = np.bincount(found[stay], minlength=len(size))
    found[np.isin(found, np.flatnonzero(covered > _COVERED * size))] = 0
    found[stay] = 0
    values = np.unique(found[found > 0])
    first = int(current[stay].max(initial=0)) + 1
    lookup = np.zeros(int(found.max(initial=0)) + 1, np.int32)
    lookup[values] = np.arange(first, first + len(values))
    labels = np.where(stay, current, lookup[found]).astype(np.int32)
    added = {int(lookup[value]): int(value) for value in values}
    return Reconciled(labels, frozenset(int(i) for i in (*keep, *again)), added)


def _found_again(mask: NDArray[np.bool_], proposal: NDArray[np.int32]) -> bool:
    inside = proposal[mask]
    counts = np.bincount(inside[inside > 0]) if inside.any() else np.zeros(1, np.int64)
    best = int(counts.argmax())
    if best == 0:
        return False
    shared = int(counts[best])
    return shared / (int(mask.sum()) + int((proposal == best).sum()) - shared) >= _SAME
