"""From flows to label images: Cellpose's mask step, at the size the network saw.

Pixels follow the flow to the middle of their cell; those that end together are one cell. Stock
Cellpose does this at the size of the image; here it runs where cells measure about 17 (or 30) px,
and only the last steps are made at the size of the image, which gives the same cells several times
faster. Reference: Stringer et al., Nature Methods 2021. No network in here.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray
from scipy import ndimage

STEPS = 200
"""Steps that pixels are followed for; each is at most about one pixel long."""

LAST_STEPS = 12
"""Steps after which a pixel has left the seam between two cells and the nearest pixel's cell is its own."""

MOST_SPREADING = 600
"""Steps that heat spreads at most: as in Cellpose for cells up to 150 px, where 17 or 30 px are usual."""

PAD = 20
"""Pixels around the image where flows that point outside may end."""

NOWHERE = (False, False, False, False)


@njit(cache=True, parallel=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow(flow, ys, xs, steps):  # type: ignore[no-untyped-def]
    """Move the points ``(ys, xs)`` along ``flow`` ``(2, Y, X)``, linear interpolation, in place."""
    height, width = flow.shape[1:]
    for i in prange(ys.size):
        y, x = ys[i], xs[i]
        for _ in range(steps):
            y0 = min(int(y), height - 1)
            x0 = min(int(x), width - 1)
            y1 = min(y0 + 1, height - 1)
            x1 = min(x0 + 1, width - 1)
            fy, fx = y - y0, x - x0
            a, b = (1 - fy) * (1 - fx), (1 - fy) * fx
            c, d = fy * (1 - fx), fy * fx
            dy = a * flow[0, y0, x0] + b * flow[0, y0, x1] + c * flow[0, y1, x0] + d * flow[0, y1, x1]
            dx = a * flow[1, y0, x0] + b * flow[1, y0, x1] + c * flow[1, y1, x0] + d * flow[1, y1, x1]
            y = min(max(y + dy, np.float32(0)), np.float32(height - 1))
            x = min(max(x + dx, np.float32(0)), np.float32(width - 1))
        ys[i], xs[i] = y, x


def find_cells(flow: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Group the pixels ``inside`` by where the flow takes them.

    Parameters
    ----------
    flow
        ``(2, Y, X)``, px per step (Cellpose's network output divided by 5).
    inside
        ``(Y, X)``, pixels of cells.

    Returns
    -------
    NDArray
        ``(Y, X)`` int32, 1..n.
    """
    labels = np.zeros(inside.shape, dtype=np.int32)
    rows, cols = np.nonzero(inside)
    if not len(rows):
        return labels
    ys, xs = rows.astype(np.float32), cols.astype(np.float32)
    _follow(np.ascontiguousarray(flow * inside, dtype=np.float32), ys, xs, STEPS)
    shape = (inside.shape[0] + 2 * PAD, inside.shape[1] + 2 * PAD)
    place = (ys.astype(np.int64) + PAD) * shape[1] + xs.astype(np.int64) + PAD
    ends = np.bincount(place, minlength=shape[0] * shape[1]).astype(np.int32).reshape(shape)
    labels[rows, cols] = _sinks(ends).ravel()[place]
    return labels


def _sinks(ends: NDArray[np.int32]) -> NDArray[np.int32]:
    """Label the places where many pixels end: peaks of more than 10, grown 5 px over more than 2."""
    seeds = np.argwhere(ends > 10)
    seeds = seeds[_is_peak(ends, seeds)]
    seeds = seeds[np.argsort(ends[tuple(seeds.T)], kind="stable")]  # the strongest comes last and overwrites
    sinks = np.zeros(ends.shape, dtype=np.int32)
    _grow(ends, seeds, sinks)
    return sinks


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_peak(ends, seeds):  # type: ignore[no-untyped-def]
    """Whether nothing within 2 px is higher."""
    peak = np.ones(len(seeds), dtype=np.bool_)
    for k in range(len(seeds)):
        y, x = seeds[k]
        peak[k] = ends[y, x] >= ends[y - 2 : y + 3, x - 2 : x + 3].max()
    return peak


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grow(ends, seeds, sinks):  # type: ignore[no-untyped-def]
    """Write seed k + 1 over all that is joined to it by at most 5 steps over ends of more than 2."""
    now, after = np.zeros((13, 13), dtype=np.bool_), np.zeros((13, 13), dtype=np.bool_)
    for k in range(len(seeds)):
        top, left = seeds[k, 0] - 6, seeds[k, 1] - 6
        now[:] = False
        now[6, 6] = True
        for step in range(1, 6):
            after[:] = False
            for y in range(6 - step, 7 + step):
                for x in range(6 - step, 7 + step):
                    after[y, x] = ends[top + y, left + x] > 2 and now[y - 1 : y + 2, x - 1 : x + 2].any()
            now, after = after, now
        for y in range(1, 12):
            for x in range(1, 12):
                if now[y, x]:
                    sinks[top + y, left + x] = k + 1


def flow_errors(labels: NDArray[np.int32], flow: NDArray[np.float32]) -> NDArray[np.float32]:
    """Mean squared difference between ``flow`` and the flow that each cell's shape would give.

    Returns
    -------
    NDArray
        ``(n + 1,)`` float32; entry 0 (the ground) is 0. Above about 0.4 a shape is not to be trusted.
    """
    count = int(labels.max(initial=0))
    if not count:
        return np.zeros(1, dtype=np.float32)
    squared = ((shape_flow(labels) - flow) ** 2).sum(axis=0)
    area = np.bincount(labels.ravel(), minlength=count + 1)
    total = np.bincount(labels.ravel(), weights=squared.ravel(), minlength=count + 1)
    errors: NDArray[np.float32] = (total / np.maximum(area, 1)).astype(np.float32)
    errors[0] = 0
    return errors


def shape_flow(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """Flow ``(2, Y, X)`` of unit length that cells of this shape have: down the heat from their middles.

    The same as ``cellpose.dynamics.masks_to_flows``, several times faster, and gaps in the label
    values do not matter.
    """
    boxes = [
        (value, place[0].start, place[0].stop, place[1].start, place[1].stop)
        for value, place in enumerate(ndimage.find_objects(labels), start=1)
        if place is not None
    ]
    flow = np.zeros((2, *labels.shape))
    if boxes:
        _spread(labels, np.array(boxes, dtype=np.int64), flow, MOST_SPREADING)
    length = np.sqrt((flow**2).sum(axis=0))
    unit: NDArray[np.float32] = (flow / np.maximum(length, 1e-60)).astype(np.float32)
    return unit


@njit(cache=True, parallel=True, nogil=True)  # type: ignore[untyped-decorator]
def _spread(labels, boxes, flow, most_steps):  # type: ignore[no-untyped-def]
    """Let heat spread within each cell from its middle; ``flow`` receives the slope of the heat."""
    for k in prange(boxes.shape[0]):
        value, top, bottom, left, right = boxes[k]
        height, width = bottom - top + 2, right - left + 2  # with a frame of one pixel
        ys, xs = np.nonzero(labels[top:bottom, left:right] == value)
        middle = ((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2).argmin()
        heat, after = np.zeros((height, width)), np.zeros((height, width))
        for _ in range(min(2 * (height + width), most_steps)):
            heat[ys[middle] + 1, xs[middle] + 1] += 1
            for i in range(ys.size):
                y, x = ys[i], xs[i]
                total = 0.0
                for dy in range(3):
                    for dx in range(3):
                        total += heat[y + dy, x + dx]
                after[y + 1, x + 1] = total / 9
            heat, after = after, heat
        for i in range(ys.size):
            y, x = ys[i], xs[i]
            flow[0, top + y, left + x] = heat[y + 2, x + 1] - heat[y, x + 1]
            flow[1, top + y, left + x] = heat[y + 1, x + 2] - heat[y + 1, x]


def to_image(
    labels: NDArray[np.int32],
    flow: NDArray[np.float32],
    probability: NDArray[np.float32],
    threshold: float,
    ys: NDArray[np.float32],
    xs: NDArray[np.float32],
) -> NDArray[np.int32]:
    """Label image with a row for each of ``ys`` and a column for each of ``xs``, which are places in ``labels`` (px).

    Each pixel of the result that lies in a cell follows the flow for a few steps and takes the
    label it meets there, so that seams between touching cells are not stairs.
    """
    if _is_grid(ys, labels.shape[0]) and _is_grid(xs, labels.shape[1]):
        return labels
    import cv2

    grid_y, grid_x = (np.ascontiguousarray(g, dtype=np.float32) for g in np.meshgrid(ys, xs, indexing="ij"))
    there = cv2.remap(probability, grid_x, grid_y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    inside = there > threshold
    y, x = grid_y[inside], grid_x[inside]
    within = (labels > 0) & (probability > threshold)
    _follow(np.ascontiguousarray(flow * within, dtype=np.float32), y, x, LAST_STEPS)
    result = np.zeros(there.shape, dtype=np.int32)
    result[inside] = labels[np.rint(y).astype(np.intp), np.rint(x).astype(np.intp)]
    return result


def _is_grid(places: NDArray[np.float32], length: int) -> bool:
    return len(places) == length and bool((places == np.arange(length, dtype=np.float32)).all())


def centres(count: int, other: int) -> NDArray[np.float32]:
    """Middles of ``count`` pixels, counted in pixels of a grid of ``other`` over the same length."""
    middles = (np.arange(count, dtype=np.float64) + 0.5) * (other / count) - 0.5
    clipped: NDArray[np.float32] = np.clip(middles, 0, other - 1).astype(np.float32)
    return clipped


def tidy(
    labels: NDArray[np.int32], *, min_size: int, drop_at: Sequence[bool] = NOWHERE
) -> tuple[NDArray[np.int32], NDArray[np.intp], int]:
    """Keep each cell's largest piece, fill its holes, drop small ones and, if asked, cut ones.

    Parameters
    ----------
    labels
        ``(Y, X)`` int32.
    min_size
        Fewest pixels of a cell.
    drop_at
        Whether to drop cells that touch the first row, the last row, the first column, the last one.

    Returns
    -------
    labels
        ``(Y, X)`` int32, 1..n.
    old
        ``(n + 1,)`` the value each new label had before; ``old[0] == 0``.
    largest
        Pixels of the largest cell, dropped or not.
    """
    result = np.zeros_like(labels)
    old = [0]
    largest = 0
    height, width = labels.shape
    for value, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        rows, cols = place
        cell = ndimage.binary_fill_holes(_largest_piece(labels[place] == value))
        cell &= result[place] == 0
        area = int(np.count_nonzero(cell))
        largest = max(largest, area)
        touches = (rows.start == 0, rows.stop == height, cols.start == 0, cols.stop == width)
        if area < max(min_size, 1) or any(a and b for a, b in zip(touches, drop_at, strict=True)):
            continue
        result[place][cell] = len(old)
        old.append(value)
    return result, np.array(old), largest


def _largest_piece(cell: NDArray[np.bool_]) -> NDArray[np.bool_]:
    pieces, count = ndimage.label(cell)
    if count <= 1:
        return cell
    largest: NDArray[np.bool_] = pieces == 1 + np.argmax(np.bincount(pieces.ravel())[1:])
    return largest
