"""Cells that go on from one plane of a stack, or frame of a time lapse, to the next.

Two cells of neighbouring planes that overlap enough are one, as in Cellpose. No tracking: nobody looks
further than one plane. Label images only; no network, no project.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from itertools import count

import numpy as np
from numpy.typing import NDArray

Labels = NDArray[np.int32]


def stitch(planes: Labels, threshold: float) -> Labels:
    """Give cells of neighbouring planes that overlap by an IoU of ``threshold`` or more one label.

    As ``cellpose.utils.stitch3D``: a cell goes on in that cell of the next plane which overlaps it most;
    but in one cell only, where two overlap it equally.

    Parameters
    ----------
    planes
        ``(Z, Y, X)`` int32; in each plane labels of its own.

    Returns
    -------
    NDArray
        ``(Z, Y, X)`` int32, 1..n; the argument is left as it is.
    """
    joined = np.zeros_like(planes, dtype=np.int32)
    for plane, numbers, out in zip(planes, chains(planes, threshold), joined, strict=True):
        out[:] = relabelled(plane, numbers)
    return joined


def chains(planes: Iterable[Labels], threshold: float) -> list[dict[int, int]]:
    """Number the cells that run through ``planes``: for each plane the number, 1..n, of each of its labels.

    Numbers follow the first pixel of each cell, not its label, so that numbering anew what was numbered
    gives the same again.
    """
    last = 0
    numbers: list[dict[int, int]] = []
    before: Labels | None = None
    for now in planes:
        going_on = {} if before is None else dict(_continued(now, before, threshold))
        found: dict[int, int] = {}
        for label in _in_order(now):
            if label in going_on:
                found[label] = numbers[-1][going_on[label]]
            else:
                last += 1
                found[label] = last
        numbers.append(found)
        before = now
    return numbers


def common_labels(
    numbers: Sequence[dict[int, int]], fixed: Sequence[Collection[int]], first: int = 1
) -> list[dict[int, int]]:
    """New labels for the cells of each plane: one for each chain, and in no plane the same one twice.

    Parameters
    ----------
    numbers
        As `chains` gives them.
    fixed
        For each plane the labels that stay as they are. A chain takes the label of a fixed cell in it where no
        other fixed cell stands in the way.
    first
        Other labels are free numbers from here on.
    """
    taken = {label for labels in fixed for label in labels}
    free = (number for number in count(first) if number not in taken)
    members: dict[int, list[tuple[int, int]]] = {}
    for plane, labels in enumerate(numbers):
        for label, chain in labels.items():
            members.setdefault(chain, []).append((plane, label))
    given: list[dict[int, int]] = [{} for _ in numbers]
    claimed: set[int] = set()
    for _, cells in sorted(members.items()):
        loose = [plane for plane, label in cells if label not in fixed[plane]]
        wishes = [label for plane, label in cells if label in fixed[plane] and label not in claimed]
        name = next((label for label in wishes if not any(label in fixed[plane] for plane in loose)), None)
        name = next(free) if name is None and loose else name
        if name is not None:
            claimed.add(name)
        for plane, label in cells:
            given[plane][label] = label if label in fixed[plane] or name is None else name
    return given


def relabelled(labels: Labels, numbers: dict[int, int]) -> Labels:
    """``labels`` with other numbers; every label must be in ``numbers``."""
    lookup = np.zeros(max(numbers, default=0) + 1, np.int32)
    lookup[list(numbers)] = list(numbers.values())
    made: Labels = lookup[labels]
    return made


def _in_order(labels: Labels) -> list[int]:
    """The labels by their first pixel."""
    flat = labels.ravel()
    first = np.full(int(flat.max(initial=0)) + 1, flat.size, np.int64)
    first[flat[::-1]] = np.arange(flat.size)[::-1]
    there = np.flatnonzero(first < flat.size)
    ordered: list[int] = there[np.argsort(first[there])].tolist()
    return [label for label in ordered if label]


def _continued(now: Labels, before: Labels, threshold: float) -> list[tuple[int, int]]:
    """(cell of ``now``, the cell of ``before`` that it continues)."""
    both = (now > 0) & (before > 0)
    pairs, shared = np.unique(np.stack([now[both], before[both]]), axis=1, return_counts=True)
    size_now, size_before = np.bincount(now.ravel()), np.bincount(before.ravel())
    iou = shared / (size_now[pairs[0]] + size_before[pairs[1]] - shared)
    best: dict[int, float] = {}
    for other, value in zip(pairs[1].tolist(), iou.tolist(), strict=True):
        best[other] = max(best.get(other, 0.0), value)
    chosen: dict[int, tuple[float, int]] = {}
    for cell, other, value in zip(*pairs.tolist(), iou.tolist(), strict=True):
        good = value >= threshold and value == best[other]
        if good and value > chosen.get(cell, (0.0, 0))[0]:
            chosen[cell] = (value, other)
    one_each = {other: cell for cell, (_, other) in reversed(chosen.items())}
    return [(cell, other) for other, cell in one_each.items()]
