"""Object tools on a label image: what changes when cells are merged, deleted, redrawn or taken apart.

Each tool is a function that leaves the image as it is and returns a `LabelEdit`: the smallest box
that holds the change, with its pixels before and after. Splitting is in `edits_split`, growing,
smoothing and the like in `edits_shape`. Nothing here knows cell ids, verdicts or history.

Points are ``(N, 2)`` floats ``(y, x)`` in pixels of the label image; ``locked`` are labels that must
not change, whatever else is done. A tool that has nothing to do raises `UserError` and says why.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of

Labels = NDArray[np.int32]
Mask = NDArray[np.bool_]
Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in pixels, half-open."""

_INSIDE = 0.5  # share of a cell inside a lasso from which the cell is meant
_TABLE = 1 << 24  # label values up to here are looked up in a table; beyond, memory says no


@dataclass(frozen=True)
class LabelEdit:
    """A change of a label image, limited to ``box``.

    ``before`` and ``after`` are ``(H, W)`` int32 of the box. ``origin`` gives for each new label the one
    it was cut from. ``note`` is one line for the user, or ``""``.
    """

    box: Box
    before: Labels
    after: Labels
    origin: Mapping[int, int] = field(default_factory=dict)
    note: str = ""

    @property
    def inverse(self) -> LabelEdit:
        """The edit that takes this one back."""
        return LabelEdit(self.box, self.after, self.before)

    @property
    def where(self) -> tuple[slice, slice]:
        """The box as an index."""
        return window(self.box)

    @property
    def touched(self) -> frozenset[int]:
        """Labels that lose or gain pixels."""
        moved = self.before != self.after
        values = np.union1d(self.before[moved], self.after[moved])
        return frozenset(int(value) for value in values if value)

    def applied(self, labels: Labels) -> Labels:
        """A copy of ``labels`` with the change made."""
        changed = labels.copy()
        changed[self.where] = self.after
        return changed


# ---------------------------------------------------------------------- tools


def merge(
    labels: Labels, values: Collection[int], *, bridge_px: float = 4.0, locked: Collection[int] = ()
) -> LabelEdit:
    """Make one cell of several; the largest gives its label.

    Background between them is filled where they lie at most ``bridge_px`` apart; pieces further
    apart stay pieces of one cell, and the note says so.

    Raises
    ------
    UserError
        If fewer than two of the cells may be changed.
    """
    values, note = unlocked(labels, values, locked)
    if len(values) < 2:
        raise UserError("merging needs two cells; drag across both, or select both" + (f" ({note})" if note else ""))
    margin = int(np.ceil(bridge_px))
    box = grown(box_of(labels, values), margin, labels.shape)
    before = labels[window(box)]
    mask = among(before, values)
    sizes = dict.fromkeys(values, 0) | counted(before[mask])
    kept = values[int(np.argmax([sizes[value] for value in values]))]
    after = before.copy()
    after[mask | (bridged(mask, bridge_px) & (before == 0))] = kept
    pieces = components(after == kept)[1]
    if pieces > 1:
        note = joined(note, f"left as {pieces} pieces: they lie more than {bridge_px:g} px apart")
    return changed(box, before, after, note=note)


def delete(labels: Labels, values: Collection[int], *, locked: Collection[int] = ()) -> LabelEdit:
    """Take cells out of the image."""
    values, note = unlocked(labels, values, locked)
    mask = _present(labels, values)
    box = box_of_mask(mask)
    before = labels[window(box)]
    return changed(box, before, np.where(mask[window(box)], 0, before).astype(np.int32), note=note)


def redraw(labels: Labels, value: int | None, outline: ArrayLike, *, locked: Collection[int] = ()) -> LabelEdit:
    """Give a cell a new outline; pixels of other cells stay theirs. ``value`` None draws a new cell.

    Raises
    ------
    UserError
        If no free pixel lies inside the outline, or the cell is locked.
    """
    from skimage.draw import polygon

    points = as_points(outline)
    if len(points) < 3:
        raise UserError("an outline needs three points; drag all the way round the cell")
    rows, columns = polygon(points[:, 0], points[:, 1], labels.shape)
    if not len(rows):
        raise UserError("nothing lies inside this outline; draw it inside the image")
    box: Box = (int(rows.min()), int(columns.min()), int(rows.max()) + 1, int(columns.max()) + 1)
    if value is None:
        value = int(labels.max()) + 1
    else:
        (value,), _ = unlocked(labels, [value], locked)
        box = union(box, box_of(labels, [value]))
    before = labels[window(box)]
    after = np.where(before == value, 0, before).astype(np.int32)
    inside = np.zeros(before.shape, bool)
    inside[rows - box[0], columns - box[1]] = True
    inside &= after == 0
    if not inside.any():
        raise UserError("other cells fill this outline; delete or shrink them first")
    after[inside] = value
    return changed(box, before, after)


def separate_pieces(
    labels: Labels, values: Collection[int] | None = None, *, locked: Collection[int] = ()
) -> LabelEdit:
    """Give disconnected pieces of one label labels of their own; the largest piece keeps it.

    ``values`` None looks at all cells.
    """
    note = ""
    if values is not None:
        values, note = unlocked(labels, values, locked)
    wanted = None if values is None else set(values)
    box: Box = (0, 0, labels.shape[0], labels.shape[1]) if values is None else box_of(labels, values)
    before = labels[window(box)]
    after, fresh = before.copy(), int(labels.max()) + 1
    origin: dict[int, int] = {}
    for value, at in places(before):
        if value not in wanted if wanted is not None else value in locked:
            continue
        pieces, count = components(before[at] == value)
        if count < 2:
            continue
        sizes = np.bincount(pieces.ravel())[1:]
        for piece in np.flatnonzero(np.arange(count) != sizes.argmax()) + 1:
            after[at][pieces == piece] = fresh
            origin[fresh] = value
            fresh += 1
    if not origin:
        raise UserError("every cell is in one piece already; there is nothing to take apart")
    return changed(box, before, after, origin=origin, note=note)


# ---------------------------------------------------------------------- picking


def labels_under(labels: Labels, points: ArrayLike) -> list[int]:
    """Labels under a drawn line, in the order in which it meets them."""
    line = inside_image(polyline(points), labels.shape)
    met = labels[line[:, 0], line[:, 1]]
    return [int(value) for value in dict.fromkeys(met.tolist()) if value]


def labels_in_polygon(labels: Labels, outline: ArrayLike) -> list[int]:
    """Labels of which at least half lies inside a drawn outline, ascending."""
    import cv2

    points = np.floor(as_points(outline) + 0.5).astype(np.int32)
    (top, left), (bottom, right) = np.maximum(points.min(axis=0), 0), np.minimum(points.max(axis=0) + 1, labels.shape)
    if bottom <= top or right <= left:
        return []
    box: Box = (int(top), int(left), int(bottom), int(right))
    inside = np.zeros((box[2] - box[0], box[3] - box[1]), np.uint8)
    cv2.fillPoly(inside, [(points - box[:2]).astype(np.int32)[:, ::-1]], 1)
    return _mostly(labels, np.where(inside, labels[window(box)], 0), box)


def labels_in_box(labels: Labels, corner: ArrayLike, opposite: ArrayLike) -> list[int]:
    """Labels of which at least half lies in the rectangle between two corners, ascending."""
    corners = np.array([corner, opposite], float)
    height, width = labels.shape
    low = np.floor(corners.min(axis=0) + 0.5).astype(int)
    high = np.floor(corners.max(axis=0) + 0.5).astype(int) + 1
    top, left = (int(v) for v in np.clip(low, 0, (height, width)))
    bottom, right = (int(v) for v in np.clip(high, 0, (height, width)))
    found = labels[top:bottom, left:right]
    return _mostly(labels, found, (top, left, bottom, right)) if found.size else []


def _mostly(labels: Labels, found: Labels, box: Box) -> list[int]:
    """Which of the labels ``found`` in ``box`` have at least half their pixels there."""
    inside = counted(found)
    if not inside:
        return []
    # A cell that is half inside ends within its own extent of the box: look there, not everywhere.
    total = counted(labels[window(grown(box, max(*inside.values(), 8), labels.shape))])
    return [value for value, count in inside.items() if count >= _INSIDE * total[value]]


# ---------------------------------------------------------------------- helpers


def unlocked(labels: Labels, values: Iterable[int], locked: Collection[int]) -> tuple[list[int], str]:
    """The labels that may be changed, and a note on those that are locked.

    Raises
    ------
    UserError
        If none are given, or all are locked.
    """
    values = [int(value) for value in dict.fromkeys(values) if value]
    if not values:
        raise UserError("there is no cell here; start on a cell, or select one first")
    free = [value for value in values if value not in locked]
    if not free:
        many = len(values) > 1
        raise UserError(
            f"{'these cells are' if many else 'this cell is'} locked; unlock {'them' if many else 'it'} first"
        )
    held = len(values) - len(free)
    return free, f"{number_of(held, 'locked cell')} left alone" if held else ""


def counted(values: Labels) -> dict[int, int]:
    """How many pixels each label has, by label in ascending order."""
    values = values.ravel()
    if values.max(initial=0) > _TABLE:
        found, counts = np.unique(values, return_counts=True)
    else:
        counts = np.bincount(values)
        found = np.flatnonzero(counts)
        counts = counts[found]
    return {int(value): int(count) for value, count in zip(found, counts, strict=True) if value}


def places(labels: Labels) -> list[tuple[int, tuple[slice, slice]]]:
    """Each label with the slices of its box, ascending."""
    if labels.max(initial=0) > _TABLE:
        values, labels = np.unique(labels, return_inverse=True)
        known = [(int(value), at) for value, at in zip(values, ndimage.find_objects(labels + 1), strict=True)]
        return [(value, at) for value, at in known if value]
    return [(index + 1, at) for index, at in enumerate(ndimage.find_objects(labels)) if at is not None]


def changed(
    box: Box, before: Labels, after: Labels, *, origin: Mapping[int, int] | None = None, note: str = ""
) -> LabelEdit:
    """The edit, trimmed to the pixels that differ.

    Raises
    ------
    UserError
        If none do.
    """
    moved = before != after
    if not moved.any():
        raise UserError(note or "nothing would change; the cells are like that already")
    top, left, bottom, right = box_of_mask(moved)
    part = np.s_[top:bottom, left:right]
    placed = (box[0] + top, box[1] + left, box[0] + bottom, box[1] + right)
    return LabelEdit(placed, before[part].astype(np.int32), after[part].astype(np.int32), dict(origin or {}), note)


def among(labels: Labels, values: Sequence[int] | Collection[int]) -> Mask:
    """Where ``labels`` is one of ``values``."""
    values = list(values)
    if len(values) == 1:
        return np.asarray(labels == values[0])
    top = max(int(labels.max(initial=0)), max(values, default=0))
    if top > _TABLE:
        return np.isin(labels, values)
    table = np.zeros(top + 1, bool)
    table[values] = True
    return np.asarray(table[labels])


def box_of(labels: Labels, values: Collection[int]) -> Box:
    """The box around these cells.

    Raises
    ------
    UserError
        If none of them is in the image.
    """
    return box_of_mask(_present(labels, values))


def _present(labels: Labels, values: Collection[int]) -> Mask:
    mask = among(labels, values)
    if not mask.any():
        raise UserError("this cell is no longer in the image; choose another")
    return mask


def box_of_mask(mask: Mask) -> Box:
    """The box around the True pixels; there must be one."""
    rows = np.flatnonzero(mask.any(axis=1))
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    columns = np.flatnonzero(mask[top:bottom].any(axis=0))
    return top, int(columns[0]), bottom, int(columns[-1]) + 1


def window(box: Box) -> tuple[slice, slice]:
    """A box as an index."""
    return slice(box[0], box[2]), slice(box[1], box[3])


def grown(box: Box, margin: int, shape: tuple[int, ...]) -> Box:
    """The box with a margin, within the image."""
    top, left, bottom, right = box
    return max(0, top - margin), max(0, left - margin), min(shape[0], bottom + margin), min(shape[1], right + margin)


def union(one: Box, other: Box) -> Box:
    """The box around two boxes."""
    return min(one[0], other[0]), min(one[1], other[1]), max(one[2], other[2]), max(one[3], other[3])


def as_points(points: ArrayLike) -> NDArray[np.float64]:
    """Points as ``(N, 2)`` float64.

    Raises
    ------
    UserError
        If there are none.
    """
    array = np.asarray(points, np.float64)
    if array.ndim != 2 or array.shape[1:] != (2,) or not len(array):
        raise UserError("nothing was drawn; press the mouse button and drag")
    return array


def polyline(points: ArrayLike) -> NDArray[np.intp]:
    """All pixels ``(N, 2)`` of a drawn line in order, 8-connected; they may lie outside the image."""
    points = as_points(points)
    parts = [points[:1]]
    for start, end in pairwise(points):
        steps = int(np.ceil(np.abs(end - start).max()))
        if steps:
            parts.append(start + (end - start) * (np.arange(1, steps + 1) / steps)[:, None])
    pixels = np.floor(np.concatenate(parts) + 0.5).astype(np.intp)
    moved = np.ones(len(pixels), bool)
    moved[1:] = (np.diff(pixels, axis=0) != 0).any(axis=1)
    return np.asarray(pixels[moved], np.intp)


def inside_image(pixels: NDArray[np.intp], shape: tuple[int, ...]) -> NDArray[np.intp]:
    """Those of the pixels ``(N, 2)`` that lie in an image of ``shape``."""
    inside = ((pixels >= 0) & (pixels < np.array(shape))).all(axis=1)
    return np.asarray(pixels[inside], np.intp)


def bridged(mask: Mask, gap_px: float) -> Mask:
    """``mask`` with gaps of up to ``gap_px`` closed: a closing with a disc."""
    if gap_px <= 0:
        return mask
    import cv2

    radius = gap_px / 2 + 0.5
    margin = int(np.ceil(radius)) + 1
    padded = np.pad(mask, margin)
    wide = cv2.distanceTransform((~padded).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) <= radius
    closed = cv2.distanceTransform(wide.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > radius
    return np.asarray(closed[margin:-margin, margin:-margin] | mask)


def joined(*notes: str) -> str:
    """Notes as one line."""
    return "; ".join(note for note in notes if note)


def components(mask: Mask) -> tuple[NDArray[np.int32], int]:
    """8-connected pieces 1.. of a mask and their number; OpenCV takes a third of SciPy's time."""
    import cv2

    count, pieces = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.asarray(pieces, np.int32), count - 1
