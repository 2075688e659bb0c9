"""The mask step in 3-D: voxels follow the flow to the middle of their cell.

As `flows`, with one dimension more and without its finer outlines. No network in here.
"""

from __future__ import annotations

import numpy as np
from numba import njit, prange
from numpy.typing import NDArray

STEPS = 200
PAD = 6
"""Voxels around the volume, so that windows never leave it."""


def find_cells_3d(flow: NDArray[np.float32], inside: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Group the voxels ``inside`` ``(Z, Y, X)`` by where ``flow`` ``(3, Z, Y, X)`` (px per step) takes them.

    Returns
    -------
    NDArray
        ``(Z, Y, X)`` int32, 1..n.
    """
    labels = np.zeros(inside.shape, dtype=np.int32)
    start = np.argwhere(inside)
    if not len(start):
        return labels
    points = start.astype(np.float32)
    _follow(np.ascontiguousarray(flow * inside, dtype=np.float32), points, STEPS)
    shape = tuple(side + 2 * PAD for side in inside.shape)
    end = np.ravel_multi_index(tuple((points.astype(np.intp) + PAD).T), shape)
    ends = np.bincount(end, minlength=int(np.prod(shape))).astype(np.int32).reshape(shape)
    seeds = np.argwhere(ends > 10)
    seeds = seeds[_is_peak(ends, seeds)]
    seeds = seeds[np.argsort(ends[tuple(seeds.T)], kind="stable")]
    sinks = np.zeros(shape, dtype=np.int32)
    _grow(ends, seeds, sinks)
    labels[inside] = sinks.ravel()[end]
    return labels


@njit(cache=True, parallel=True, nogil=True)  # type: ignore[untyped-decorator]
def _follow(flow, points, steps):  # type: ignore[no-untyped-def]
    """Move ``points`` ``(N, 3)`` along ``flow``, trilinear interpolation, in place."""
    last = np.array([flow.shape[1] - 1, flow.shape[2] - 1, flow.shape[3] - 1])
    for i in prange(len(points)):
        at = points[i].copy()
        step = np.zeros(3, dtype=np.float32)
        for _ in range(steps):
            step[:] = 0
            for corner in range(8):
                weight = np.float32(1)
                z = y = x = 0
                for axis in range(3):
                    low = min(int(at[axis]), last[axis])
                    part = at[axis] - low
                    up = (corner >> axis) & 1
                    weight *= part if up else 1 - part
                    place = min(low + up, last[axis])
                    if axis == 0:
                        z = place
                    elif axis == 1:
                        y = place
                    else:
                        x = place
                if weight > 0:
                    for axis in range(3):
                        step[axis] += weight * flow[axis, z, y, x]
            for axis in range(3):
                at[axis] = min(max(at[axis] + step[axis], np.float32(0)), np.float32(last[axis]))
        points[i] = at


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _is_peak(ends, seeds):  # type: ignore[no-untyped-def]
    """Whether nothing within 2 voxels is higher."""
    peak = np.ones(len(seeds), dtype=np.bool_)
    for k in range(len(seeds)):
        z, y, x = seeds[k]
        peak[k] = ends[z, y, x] >= ends[z - 2 : z + 3, y - 2 : y + 3, x - 2 : x + 3].max()
    return peak


@njit(cache=True, nogil=True)  # type: ignore[untyped-decorator]
def _grow(ends, seeds, sinks):  # type: ignore[no-untyped-def]
    """Write seed k + 1 over all that is joined to it by at most 5 steps over ends of more than 2."""
    now, after = np.zeros((13, 13, 13), dtype=np.bool_), np.zeros((13, 13, 13), dtype=np.bool_)
    for k in range(len(seeds)):
        top, left, front = seeds[k, 0] - 6, seeds[k, 1] - 6, seeds[k, 2] - 6
        now[:] = False
        now[6, 6, 6] = True
        for step in range(1, 6):
            after[:] = False
            for z in range(6 - step, 7 + step):
                for y in range(6 - step, 7 + step):
                    for x in range(6 - step, 7 + step):
                        if ends[top + z, left + y, front + x] > 2:
                            after[z, y, x] = now[z - 1 : z + 2, y - 1 : y + 2, x - 1 : x + 2].any()
            now, after = after, now
        for z in range(1, 12):
            for y in range(1, 12):
                for x in range(1, 12):
                    if now[z, y, x]:
                        sinks[top + z, left + y, front + x] = k + 1
