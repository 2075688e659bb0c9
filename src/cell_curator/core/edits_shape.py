"""Changing the shape of cells: fill holes, smooth, grow, shrink.

See `edits` for what an edit is. No tool here takes a pixel from another cell.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import cv2
import numpy as np
from scipy import ndimage

from cell_curator.core.edits import (
    LabelEdit,
    Labels,
    Mask,
    among,
    box_of,
    changed,
    components,
    grown,
    joined,
    places,
    unlocked,
    window,
)
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of


def fill_holes(labels: Labels, values: Collection[int], *, locked: Collection[int] = ()) -> LabelEdit:
    """Fill background that a cell encloses; other cells in a hole stay."""

    def filled(mask: Mask) -> Mask:
        return np.asarray(ndimage.binary_fill_holes(mask))

    return _reshaped(labels, values, filled, margin=0, locked=locked, idle="there are no holes to fill")


def smooth(
    labels: Labels, values: Collection[int], *, radius_px: float = 2.0, locked: Collection[int] = ()
) -> LabelEdit:
    """Round off the outline: a Gaussian of ``radius_px`` on the mask, cut at one half; area is nearly kept."""
    margin = int(np.ceil(3 * radius_px)) + 1

    def rounded(mask: Mask) -> Mask:
        soft = cv2.GaussianBlur(mask.astype(np.float32), (0, 0), radius_px, borderType=cv2.BORDER_REPLICATE)
        pieces, count = components(soft >= 0.5)
        if count < 2:
            return np.asarray(pieces > 0)
        return np.asarray(pieces == np.bincount(pieces.ravel())[1:].argmax() + 1)

    return _reshaped(labels, values, rounded, margin=margin, locked=locked, idle="the outline is smooth already")


def grow(labels: Labels, values: Collection[int], *, px: float = 1.0, locked: Collection[int] = ()) -> LabelEdit:
    """Widen cells by ``px`` into the background; two that meet share the gap evenly."""
    values, note = unlocked(labels, values, locked)
    box = grown(box_of(labels, values), int(np.ceil(px)), labels.shape)
    before = labels[window(box)]
    mask = among(before, values)
    distance, nearest = cv2.distanceTransformWithLabels(
        (~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(nearest.max()) + 1, np.int32)
    owner[nearest[mask]] = before[mask]
    # 5×5 masks measure a knight's move as 2.1969, and lengths up to 2 % too short or long.
    reached = (distance <= px * 1.02) & (before == 0)
    if not reached.any():
        raise UserError(joined("there is no room to grow; neighbours are all around", note))
    after = before.copy()
    after[reached] = owner[nearest[reached]]
    return changed(box, before, after, note=note)


def shrink(labels: Labels, values: Collection[int], *, px: float = 1.0, locked: Collection[int] = ()) -> LabelEdit:
    """Take ``px`` off the outline; the image's border is no outline. Cells that would vanish stay as they are."""

    def narrowed(mask: Mask) -> Mask:
        return np.asarray(cv2.distanceTransform(mask.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE) > px)

    return _reshaped(labels, values, narrowed, margin=1, locked=locked, idle="nothing would change")


def _reshaped(
    labels: Labels,
    values: Collection[int],
    reshape: Callable[[Mask], Mask],
    *,
    margin: int,
    locked: Collection[int],
    idle: str,
) -> LabelEdit:
    """Give each cell the mask that ``reshape`` makes of its own, as far as it lies on background."""
    values, note = unlocked(labels, values, locked)
    box = grown(box_of(labels, values), margin, labels.shape)
    before = labels[window(box)]
    after, vanished = before.copy(), 0
    for value, (rows, columns) in _places(before, values):
        place = grown((rows.start, columns.start, rows.stop, columns.stop), margin, before.shape)
        here = after[window(place)]
        mask = before[window(place)] == value
        wanted = reshape(mask)
        if not wanted.any():
            vanished += 1
            continue
        here[mask & ~wanted] = 0
        here[wanted & (here == 0) & (before[window(place)] == 0)] = value
    if vanished:
        note = joined(note, f"{number_of(vanished, 'cell')} would vanish and stayed as before")
        if vanished == len(values):
            raise UserError(f"nothing would be left of {'these cells' if vanished > 1 else 'this cell'}; take fewer px")
    if np.array_equal(before, after):
        raise UserError(joined(idle, note))
    return changed(box, before, after, note=note)


def _places(before: Labels, values: Collection[int]) -> list[tuple[int, tuple[slice, slice]]]:
    """Each cell with the slices of its own box."""
    if len(values) == 1:
        return [(value, window(box_of(before, [value]))) for value in values]
    wanted = set(values)
    return [(value, at) for value, at in places(before) if value in wanted]
