"""Cells of stacks ``(Z, Y, X)`` and time lapses ``(T, Y, X)``: plane by plane with stitching, or in 3-D.

Functions on arrays; the project itself holds planes. Which cells of neighbouring planes are one is told by
`core.stitching`. In 3-D the network looks at the planes along all three axes, and voxels follow the mean
flow. Reference: Stringer et al., Nature Methods 2021.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.stitching import stitch
from cell_curator.engines.diameter import estimate
from cell_curator.engines.downloads import fetch
from cell_curator.engines.flows_3d import find_cells_3d
from cell_curator.engines.network import Network, load_network, normalise, resize
from cell_curator.engines.preflight import contrast
from cell_curator.engines.segmenter import SegmentParameters, limited_threads, runnable


class StackParameters(Parameters):
    """How the planes of a stack, or the frames of a time lapse, belong together."""

    method: Literal["planes", "stitch", "3-D"] = parameter(
        "stitch",
        "Planes",
        "planes: each on its own. stitch: cells of neighbouring planes or frames that overlap are one. "
        "3-D: looked at along all three axes",
    )
    stitch_threshold: float = parameter(
        0.25, "Overlap", "IoU from which cells of neighbouring planes are one cell", ge=0.01, le=1, step=0.05
    )
    anisotropy: float = parameter(
        1.0, "Distance of planes", "In pixels: 2 if planes are twice as far apart as pixels", ge=0.1, le=50, step=0.1
    )


@dataclass(frozen=True)
class Stack:
    """Cells of a stack: ``(Z, Y, X)`` int32 labels, the diameter used (px), and lines for the user."""

    labels: NDArray[np.int32]
    diameter: float
    notes: tuple[str, ...] = ()

    @property
    def count(self) -> int:
        """Number of cells; of planes on their own, of all planes together."""
        return len(np.unique(self.labels)) - int((self.labels == 0).any())


def check_stack(path: Path, axis: str, params: SegmentParameters, stack: StackParameters) -> None:
    """Refuse what cannot be done with this stack, before its planes are read.

    Parameters
    ----------
    axis
        ``"Z"``: depth; ``"T"``: time.

    Raises
    ------
    UserError
        Names the file and what to choose instead.
    """
    if stack.method == "3-D" and axis != "Z":
        raise UserError(f"{path}: is a time lapse, and 3-D is for stacks in depth; stitch its frames")
    if params.second_channel >= 0:
        raise UserError(f"{path}: of a stack one channel is looked at; set the nucleus channel to -1")


def segment_stack(volume: NDArray[Any], params: SegmentParameters, stack: StackParameters) -> Job[Stack]:
    """Find the cells of ``(Z, Y, X)``.

    Diameter and polarity, where not given, are estimated in the plane with most contrast and are the
    same for all planes; so are the grey levels.

    Raises
    ------
    UserError
        If the array is no stack, or the engine or model cannot be used.
    """
    if volume.ndim != 3 or 0 in volume.shape:
        raise UserError(f"an array of shape {volume.shape} is no stack; give one of shape (Z, Y, X)")
    yield Progress(0.0, "looking at the stack")
    bright = normalise(volume)
    if bright is None:
        return Stack(np.zeros(volume.shape, np.int32), 0.0, ("0 cells found: all voxels are equal",))
    with limited_threads(params.threads):
        if stack.method == "3-D":
            return (yield from _in_3d(bright, params, stack))
        return (yield from _plane_by_plane(bright, params, stack))


def _plane_by_plane(bright: NDArray[np.float32], params: SegmentParameters, stack: StackParameters) -> Job[Stack]:
    engine = runnable(params.engine)
    # Small pieces may be parts of a large cell: they are dropped after planes were joined.
    inner = params if stack.method == "planes" else params.model_copy(update={"min_size": 1})
    order = sorted(range(len(bright)), key=lambda z: -contrast(bright[z]))
    labels = np.zeros(bright.shape, np.int32)
    diameter, notes = 0.0, []
    for index, z in enumerate(order):
        job = engine.segment(bright[z : z + 1], inner)
        found = yield from scaled(job, index / len(order), (index + 1) / len(order), f"plane {z + 1}: ")
        labels[z] = found.labels
        if index == 0:
            diameter = found.diameter
            notes = list(found.notes)
            known = {"polarity": "dark" if found.inverted else "bright"}
            inner = inner.model_copy(update={**known, **({"diameter": diameter} if diameter else {})})
    if stack.method == "stitch":
        labels = _without_small(stitch(labels, stack.stitch_threshold), params.min_size)
    return Stack(labels, diameter, () if labels.any() else tuple(notes))


def _in_3d(bright: NDArray[np.float32], params: SegmentParameters, stack: StackParameters) -> Job[Stack]:
    if params.engine != "cellpose-unet":
        raise UserError("3-D is done by the engine cellpose-unet only; choose it, or stitch planes")
    runnable(params.engine)
    network = load_network((yield from fetch(params.model)))
    clearest = max(range(len(bright)), key=lambda z: contrast(bright[z]))
    job = estimate(network, bright[clearest : clearest + 1], params.diameter, params.polarity)
    guess = yield from scaled(job, 0.0, 0.1)
    if not guess.diameter:
        return Stack(np.zeros(bright.shape, np.int32), 0.0, ("0 cells found: nothing looks like a cell at any size",))
    scale = network.diam_mean / guess.diameter
    sides = np.array(bright.shape) * (scale * stack.anisotropy, scale, scale)
    shape = tuple(max(8, round(float(side))) for side in sides)
    seen = _resized(1 - bright if guess.inverted else bright, shape)
    flow, probability = yield from scaled(_three_ways(network, seen, params.tile), 0.1, 0.9)
    yield Progress(0.9, "outlining cells")
    labels = find_cells_3d(flow, probability > params.cellprob_threshold)
    places = [
        ((np.arange(count) + 0.5) * side / count).astype(np.intp)
        for count, side in zip(bright.shape, shape, strict=True)
    ]
    labels = _without_small(labels[np.ix_(*places)], params.min_size)
    notes = () if labels.any() else (f"0 cells found: the best voxel reaches {probability.max():.1f}",)
    return Stack(labels, guess.diameter, notes)


def _three_ways(
    network: Network, volume: NDArray[np.float32], tile: int
) -> Job[tuple[NDArray[np.float32], NDArray[np.float32]]]:
    """Mean flow ``(3, Z, Y, X)`` and mean cell probability ``(Z, Y, X)`` of the planes along each axis."""
    flow = np.zeros((3, *volume.shape), np.float32)
    probability = np.zeros(volume.shape, np.float32)
    total, done = sum(volume.shape), 0
    for axis, (down, across) in enumerate(((1, 2), (0, 2), (0, 1))):
        planes = np.moveaxis(volume, axis, 0)
        for index, plane in enumerate(planes):
            part = network.predict(np.ascontiguousarray(plane), tile)
            answer, _ = yield from scaled(part, done / total, (done + 1) / total)
            np.moveaxis(flow[down], axis, 0)[index] += answer[0] / 2
            np.moveaxis(flow[across], axis, 0)[index] += answer[1] / 2
            np.moveaxis(probability, axis, 0)[index] += answer[2] / 3
            done += 1
    return flow, probability


def _resized(volume: NDArray[np.float32], shape: tuple[int, ...]) -> NDArray[np.float32]:
    """``volume`` resampled to ``shape``, linear."""
    planes = np.stack([resize(plane, (shape[1], shape[2])) for plane in volume])
    if len(planes) == shape[0]:
        return planes
    turned = [resize(np.ascontiguousarray(planes[:, y]), (shape[0], shape[2])) for y in range(shape[1])]
    return np.stack(turned, axis=1)


def _without_small(labels: NDArray[np.int32], min_size: int) -> NDArray[np.int32]:
    """Cells of at least ``min_size`` voxels with their holes filled, numbered 1..n."""
    result = np.zeros_like(labels)
    count = 0
    for value, place in enumerate(ndimage.find_objects(labels), start=1):
        if place is None:
            continue
        cell = ndimage.binary_fill_holes(labels[place] == value) & np.isin(labels[place], (0, value))
        if cell.sum() >= min_size:
            count += 1
            result[place][cell] = count
    return result
