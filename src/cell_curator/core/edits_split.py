"""Splitting cells: along a drawn line, or from seeds.

See `edits` for what an edit is. The largest piece keeps the cell's label; no pixel is lost.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from cell_curator.core.edits import (
    Box,
    LabelEdit,
    Labels,
    Mask,
    as_points,
    box_of,
    changed,
    components,
    counted,
    inside_image,
    joined,
    places,
    polyline,
    union,
    unlocked,
    window,
)
from cell_curator.core.jobs import UserError
from cell_curator.core.words import number_of

_SPECK_PX = 4  # a corner this small that a line cuts off stays with its cell
_SPECK = 0.01  # and so does one of this share of the cell


def split_by_line(labels: Labels, points: ArrayLike, *, locked: Collection[int] = ()) -> LabelEdit:
    """Split the cells that a line crosses from edge to edge.

    Where it crosses none, the cell under most of it is split, and ends inside that cell are drawn on
    straight to its border.

    Raises
    ------
    UserError
        If no cell is under the line, all are locked, or the line cuts nothing in two.
    """
    line = polyline(points)
    seen = _seen(labels, line)
    if not seen.any():
        raise UserError("the line meets no cell; draw it across the cell that is to be split")
    crossed = [int(v) for v in dict.fromkeys(seen.tolist()) if v and seen[0] != v and seen[-1] != v]
    values, note = unlocked(labels, crossed or [_most(seen)], locked)
    if not crossed:
        line = _drawn_on(labels, line, as_points(points), values[0])
    box = box_of(labels, values)
    before = labels[window(box)]
    after, fresh = before.copy(), int(labels.max()) + 1
    origin: dict[int, int] = {}
    inside = inside_image(_four_connected(line) - box[:2], before.shape)
    cut = np.zeros(before.shape, bool)
    cut[inside[:, 0], inside[:, 1]] = True
    wanted = set(values)
    for value, at in places(before):
        if value not in wanted:
            continue
        pieces = _pieces(before[at] == value, cut[at])
        for piece in range(2, int(pieces.max()) + 1):
            after[at][pieces == piece] = fresh
            origin[fresh] = value
            fresh += 1
    if not origin:
        raise UserError("the line cuts no cell in two; draw it across, from edge to edge")
    return changed(box, before, after, origin=origin, note=note)


def split_by_seeds(
    labels: Labels,
    points: ArrayLike,
    *,
    image: NDArray[np.float32] | None = None,
    by: Literal["shape", "image"] = "shape",
    locked: Collection[int] = (),
) -> LabelEdit:
    """Split every cell that holds two seeds or more, by a watershed from the seeds.

    Parameters
    ----------
    by
        ``shape``: along the waists of the mask (distance transform); ``image``: along dark
        valleys of ``image``, ``(Y, X)``, which must then be given.

    Raises
    ------
    UserError
        If no cell holds two seeds.
    """
    seeds = inside_image(np.floor(as_points(points) + 0.5).astype(np.intp), labels.shape)
    seeds = np.unique(seeds, axis=0)
    under = labels[seeds[:, 0], seeds[:, 1]]
    enough = [value for value, count in counted(under).items() if count > 1]
    if not enough:
        raise UserError("a cell is split by two seeds or more; click once into each part of the same cell")
    values, note = unlocked(labels, enough, locked)
    box: Box | None = None
    for value in values:
        here = box_of(labels, [value])
        box = here if box is None else union(box, here)
    assert box is not None
    before = labels[window(box)]
    after, fresh = before.copy(), int(labels.max()) + 1
    origin: dict[int, int] = {}
    for value in values:
        pieces = _flooded(before == value, seeds[under == value] - box[:2], None if by == "shape" else image, box)
        for piece in range(2, int(pieces.max()) + 1):
            after[pieces == piece] = fresh
            origin[fresh] = value
            fresh += 1
    idle = int((~np.isin(under, values)).sum())
    if idle:
        note = joined(note, f"{number_of(idle, 'seed')} split nothing")
    return changed(box, before, after, origin=origin, note=note)


def _flooded(mask: Mask, seeds: NDArray[np.intp], image: NDArray[np.float32] | None, box: Box) -> NDArray[np.int32]:
    """Pieces 1.. of a cell in falling order of size."""
    from skimage.segmentation import watershed

    markers = np.zeros(mask.shape, np.int32)
    markers[seeds[:, 0], seeds[:, 1]] = np.arange(1, len(seeds) + 1)
    if image is None:
        relief = -ndimage.distance_transform_edt(np.pad(mask, 1))[1:-1, 1:-1]
    else:
        relief = -ndimage.gaussian_filter(np.asarray(image[window(box)], np.float32), 1.0)
    # Below the highest seed all is flat, else a seed beside the middle drowns in the water of another.
    relief = np.maximum(relief, relief[seeds[:, 0], seeds[:, 1]].max())
    return _by_size(watershed(relief, markers, mask=mask).astype(np.int32))


def _seen(labels: Labels, line: NDArray[np.intp]) -> Labels:
    """The label under each pixel of the line; 0 outside the image."""
    seen = np.zeros(len(line), np.int32)
    inside = ((line >= 0) & (line < np.array(labels.shape))).all(axis=1)
    seen[inside] = labels[line[inside, 0], line[inside, 1]]
    return seen


def _most(seen: Labels) -> int:
    """The label that most of the line lies on."""
    counts = counted(seen)
    return max(counts, key=counts.__getitem__)


def _drawn_on(labels: Labels, line: NDArray[np.intp], points: NDArray[np.float64], value: int) -> NDArray[np.intp]:
    """The line, with ends that lie inside the cell drawn on straight to its border."""
    seen = _seen(labels, line)
    if len(line) < 2:
        raise UserError("a click does not split; draw a line across the cell")
    top, left, bottom, right = box_of(labels, [value])
    far = float(np.hypot(bottom - top, right - left)) + 2
    parts = [line]
    for end, inner in ((0, line[:8][-1]), (-1, line[-8:][0])):
        if seen[end] != value:
            continue
        way = (line[end] - inner).astype(float)
        ray = polyline([line[end], line[end] + way / np.hypot(*way) * far]) if way.any() else line[:0]
        out = np.flatnonzero(_seen(labels, ray) != value)
        # A bay of the outline ends the ray; what lies beyond it was not meant.
        parts.append(ray[: out[0] if len(out) else len(ray)])
    return np.concatenate(parts) if len(parts) > 1 else line


def _four_connected(line: NDArray[np.intp]) -> NDArray[np.intp]:
    """The line without diagonal steps, so that no 8-connected cell slips through."""
    steps = np.diff(line, axis=0)
    diagonal = (np.abs(steps) == 1).all(axis=1)
    corners = line[:-1][diagonal] + steps[diagonal] * (1, 0)
    return np.concatenate([line, corners])


def _pieces(mask: Mask, cut: Mask) -> NDArray[np.int32]:
    """Pieces 1.. of a cell after a cut, in falling order of size; all 0 if it stays in one.

    Parts of the cell that the cut does not touch go with the largest piece.
    """
    cut = cut & mask
    parts, _ = components(mask)
    hit = np.isin(parts, np.unique(parts[cut])) & mask
    pieces, count = components(hit & ~cut)
    sizes = np.bincount(pieces.ravel(), minlength=count + 1)
    sizes[0] = 0
    large = sizes > max(_SPECK_PX, _SPECK * float(mask.sum()))
    if large.sum() < 2:
        return np.zeros(mask.shape, np.int32)
    pieces[~large[pieces]] = 0
    nearest = ndimage.distance_transform_edt(pieces == 0, return_distances=False, return_indices=True)
    full = np.where(hit, pieces[tuple(nearest)], 0)
    return _by_size(full.astype(np.int32))


def _by_size(pieces: NDArray[np.int32]) -> NDArray[np.int32]:
    """The same pieces, numbered from the largest."""
    sizes = np.bincount(pieces.ravel())
    sizes[0] = 0
    order = np.argsort(-sizes, kind="stable")
    order = order[sizes[order] > 0]
    rank = np.zeros(len(sizes), np.int32)
    rank[order] = np.arange(1, len(order) + 1)
    return rank[pieces]
