"""Many masks that overlap as one label image in which every cell is there once.

Masks come from overlapping pieces of an image. Two of different pieces that agree where both pieces lie are one
cell, joined; of two of the same piece that are nearly alike the surer stays. What is left may still overlap a
little: the surer cell keeps the pixels, the other keeps the rest of its own, so that cells that touch survive.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

ALIKE = 0.5
"""Overlap (IoU) from which two masks are the same cell."""

_INSIDE = 0.7  # share of the smaller of two masks that lies in the other, from which both are one cell
_LEFT = 0.5  # share of its own pixels that a cell must keep to be one

Window = tuple[slice, slice]


@dataclass(frozen=True)
class Mask:
    """One find.

    Parameters
    ----------
    top, left
        Where ``pixels`` ``(y, x)`` bool lies in the image, px.
    likely
        ``(K,)`` how likely it is a cell of each type.
    piece
        Which piece of the image it was seen in.
    cut
        Whether the piece ends where the cell does, though the image goes on.
    """

    top: int
    left: int
    pixels: NDArray[np.bool_]
    likely: NDArray[np.float64]
    piece: int = 0
    cut: bool = False
    area: int = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "area", int(self.pixels.sum()))

    @property
    def score(self) -> float:
        """How likely it is a cell at all."""
        return float(min(1.0, self.likely.sum()))

    @property
    def box(self) -> tuple[int, int, int, int]:
        """Top, left, bottom, right."""
        return self.top, self.left, self.top + self.pixels.shape[0], self.left + self.pixels.shape[1]


def as_labels(
    masks: Sequence[Mask], shape: tuple[int, int], pieces: Sequence[Window] = (), least: float = 0.0
) -> tuple[NDArray[np.int32], list[Mask]]:
    """Label image ``(Y, X)``, 1..n, and the mask behind each label, in order.

    Parameters
    ----------
    masks
        All finds; those with no pixels are passed over.
    pieces
        Where each piece of the image lies, by ``Mask.piece``.
    least
        Score below which a find is no cell.
    """
    whole = _joined([mask for mask in masks if mask.area], pieces)
    kept = _once(whole)
    labels = np.zeros(shape, np.int32)
    made: list[Mask] = []
    for mask in kept:
        window = (slice(mask.top, mask.box[2]), slice(mask.left, mask.box[3]))
        free = _largest(mask.pixels & (labels[window] == 0))
        if mask.score < least or free.sum() < _LEFT * mask.area:
            continue
        made.append(mask)
        labels[window][free] = len(made)
    return labels, made


def overlap(one: Mask, other: Mask, within: tuple[int, int, int, int] | None = None) -> tuple[int, int, int]:
    """Pixels that both have, and that each has, all of them or those in a box (top, left, bottom, right)."""
    boxes = [one.box, other.box] if within is None else [one.box, other.box, within]
    top, left = max(box[0] for box in boxes), max(box[1] for box in boxes)
    bottom, right = min(box[2] for box in boxes), min(box[3] for box in boxes)
    shared = 0
    if bottom > top and right > left:
        shared = int((_part(one, (top, left, bottom, right)) & _part(other, (top, left, bottom, right))).sum())
    if within is None:
        return shared, one.area, other.area
    return shared, int(_part(one, within).sum()), int(_part(other, within).sum())


def _part(mask: Mask, box: tuple[int, int, int, int]) -> NDArray[np.bool_]:
    """What of a mask lies in a box; it may be less than the box."""
    top, left, bottom, right = box
    rows = slice(max(0, top - mask.top), max(0, bottom - mask.top))
    columns = slice(max(0, left - mask.left), max(0, right - mask.left))
    return mask.pixels[rows, columns]


def _near(masks: Sequence[Mask]) -> list[list[int]]:
    """For each mask those of lower number whose boxes touch its own."""
    boxes = np.array([mask.box for mask in masks]).reshape(-1, 4)
    found = []
    for index, (top, left, bottom, right) in enumerate(boxes):
        before = boxes[:index]
        meets = (before[:, 0] < bottom) & (before[:, 2] > top) & (before[:, 1] < right) & (before[:, 3] > left)
        found.append(np.flatnonzero(meets).tolist())
    return found


def _joined(masks: list[Mask], pieces: Sequence[Window]) -> list[Mask]:
    """Cells cut by the rim of a piece put together with what the neighbouring piece shows of them."""
    if len(pieces) < 2:
        return masks
    cut = [mask for mask in masks if mask.cut]
    others = [mask for mask in masks if not mask.cut]
    groups = list(range(len(cut)))
    for index, near in enumerate(_near(cut)):
        for other in near:
            if _agree(cut[index], cut[other], pieces):
                old, new = groups[index], groups[other]
                groups = [new if group == old else group for group in groups]
    members: dict[int, list[Mask]] = {}
    for group, mask in zip(groups, cut, strict=True):
        members.setdefault(group, []).append(mask)
    return [*others, *(_together(group) for group in members.values())]


def _agree(one: Mask, other: Mask, pieces: Sequence[Window]) -> bool:
    """Whether two finds of different pieces are alike where both pieces lie."""
    if one.piece == other.piece:
        return False
    (y1, x1), (y2, x2) = pieces[one.piece], pieces[other.piece]
    both = (max(y1.start, y2.start), max(x1.start, x2.start), min(y1.stop, y2.stop), min(x1.stop, x2.stop))
    shared, mine, theirs = overlap(one, other, both)
    return shared > 0 and shared >= ALIKE * (mine + theirs - shared)


def _together(group: list[Mask]) -> Mask:
    if len(group) == 1:
        return group[0]
    boxes = np.array([mask.box for mask in group])
    (top, left), (bottom, right) = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
    pixels = np.zeros((bottom - top, right - left), bool)
    for mask in group:
        pixels[mask.top - top : mask.box[2] - top, mask.left - left : mask.box[3] - left] |= mask.pixels
    weights = np.array([mask.area for mask in group], np.float64)
    likely = np.average([mask.likely for mask in group], axis=0, weights=weights)
    return Mask(int(top), int(left), pixels, likely)


def _once(masks: list[Mask]) -> list[Mask]:
    """Whole cells first, then the surer; what is the same as one before is left out."""
    ordered = sorted(masks, key=lambda mask: (mask.cut, -mask.score))
    kept: set[int] = set()
    for index, near in enumerate(_near(ordered)):
        if not any(other in kept and _same(ordered[index], ordered[other]) for other in near):
            kept.add(index)
    return sorted((ordered[index] for index in kept), key=lambda mask: -mask.score)


def _same(one: Mask, other: Mask) -> bool:
    shared, mine, theirs = overlap(one, other)
    return shared >= ALIKE * (mine + theirs - shared) or shared >= _INSIDE * min(mine, theirs)


def _largest(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Its largest piece."""
    numbers, count = ndimage.label(mask)
    if count < 2:
        return mask
    largest: NDArray[np.bool_] = numbers == 1 + np.bincount(numbers.ravel())[1:].argmax()
    return largest
