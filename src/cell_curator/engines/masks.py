"""The mask step that all Cellpose engines share: flows and cell probability to cells.

Needs neither the network nor torch, so a moved threshold can be answered in the viewer's process. A
large image is outlined in blocks; a cell counts in the block in which its middle lies.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell_curator.engines.flows import centres, find_cells, flow_errors, tidy, to_image
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.tiling import Block, blocks

BLOCK = 2048
"""Side of a block at the size that the network saw, px: about 0.5 GB on the way."""

MARGIN = 3.0
"""Margin around a block in cell diameters; cells up to this size are outlined whole."""


@dataclass(frozen=True)
class Lost:
    """Where candidates were lost, for the note where none is left.

    ``best`` is the highest cell probability (logit), ``largest`` the px of the largest candidate.
    """

    candidates: int = 0
    doubtful: int = 0
    largest: int = 0
    best: float = -np.inf


def outline(result: Segmentation, params: SegmentParameters) -> Segmentation:
    """``result`` with labels made anew from its flows with the thresholds of ``params``."""
    if not result.cell_probability.size:
        return result
    if not result.flow.size:
        return _pieces(result, params)
    labels = np.zeros(result.labels.shape, dtype=np.int32)
    errors = [np.zeros(1, dtype=np.float32)]
    lost = Lost()
    parts = list(_blocks(result))
    for block in parts:
        found, error, here = _outline_block(result, params, block)
        lost = Lost(
            lost.candidates + here.candidates,
            lost.doubtful + here.doubtful,
            max(lost.largest, here.largest),
            max(lost.best, here.best),
        )
        if len(parts) == 1:
            labels, errors = found, [error]
        else:
            errors.append(error[_paste(labels, found, block, sum(map(len, errors)))])
    together = np.concatenate(errors)
    notes = (_why_nothing(lost, params),) if len(together) == 1 else ()
    return replace(result, labels=labels, flow_error=together, notes=notes)


def _pieces(result: Segmentation, params: SegmentParameters) -> Segmentation:
    """The same for a network that answers no flows: every connected piece of foreground is a cell."""
    import cv2

    height, width = result.labels.shape
    there = cv2.resize(result.cell_probability.astype(np.float32), (width, height), interpolation=cv2.INTER_LINEAR)
    found, _ = ndimage.label(there > params.cellprob_threshold, output=np.int32)
    labels, old, largest = tidy(found, min_size=params.min_size, drop_at=(params.drop_border,) * 4)
    notes: tuple[str, ...] = ()
    if len(old) == 1:
        lost = Lost(int(found.max(initial=0)), 0, largest, float(there.max(initial=-np.inf)))
        notes = (_why_nothing(lost, params),)
    return replace(result, labels=labels, flow_error=np.zeros(len(old), np.float32), notes=notes)


def _blocks(result: Segmentation) -> Iterator[Block]:
    scale = result.cell_probability.shape[0] / result.labels.shape[0]
    height, width = result.labels.shape
    margin = int(np.ceil(max(MARGIN * result.diameter, 40 / scale)))
    return blocks((height, width), max(int(BLOCK / scale), 1), margin)


def _outline_block(
    result: Segmentation, params: SegmentParameters, block: Block
) -> tuple[NDArray[np.int32], NDArray[np.float32], Lost]:
    """Labels of the block's window, the flow error of each, and what was lost on the way."""
    (rows, ys), (cols, xs) = (
        _seen(window, whole, seen)
        for window, whole, seen in zip(block.window, result.labels.shape, result.cell_probability.shape, strict=True)
    )
    flow = result.flow[:, rows, cols].astype(np.float32)
    probability = result.cell_probability[rows, cols].astype(np.float32)
    cells = find_cells(flow, probability > params.cellprob_threshold)
    errors = flow_errors(cells, flow) / np.float32(result.error_unit)
    doubtful = errors > (params.flow_threshold or np.inf)
    kept = np.where(doubtful[cells], 0, cells).astype(np.int32) if doubtful.any() else cells
    labels = to_image(kept, flow, probability, params.cellprob_threshold, ys, xs)
    sides = tuple(
        at
        for window, length in zip(block.window, result.labels.shape, strict=True)
        for at in (window.start == 0, window.stop == length)
    )
    tidied, old, largest = tidy(labels, min_size=params.min_size, drop_at=sides if params.drop_border else (False,) * 4)
    lost = Lost(len(errors) - 1, int(doubtful.sum()), largest, float(probability.max(initial=-np.inf)))
    return tidied, errors[old], lost


def _seen(window: slice, whole: int, seen: int) -> tuple[slice, NDArray[np.float32]]:
    """The pixels that the network saw of ``window``, and where in them the window's pixels lie."""
    middles = centres(whole, seen)[window]
    start, stop = int(np.floor(middles[0])), min(int(np.ceil(middles[-1])) + 1, seen)
    return slice(start, stop), middles - np.float32(start)


def _paste(labels: NDArray[np.int32], found: NDArray[np.int32], block: Block, first: int) -> NDArray[np.intp]:
    """Put the cells that count in ``block`` into ``labels``, numbered from ``first``; returns which they are."""
    count = int(found.max(initial=0))
    area = np.bincount(found.ravel(), minlength=count + 1)
    area[0] = 0
    counts = area > 0
    for axis, (core, window) in enumerate(zip(block.core, block.window, strict=True)):
        place = np.arange(window.start, window.stop, dtype=np.float64)
        place = place[:, None] if axis == 0 else place[None, :]
        total = np.bincount(found.ravel(), weights=np.broadcast_to(place, found.shape).ravel(), minlength=count + 1)
        middle = np.floor(total / np.maximum(area, 1))
        counts &= (middle >= core.start) & (middle < core.stop)
    view = labels[block.window]
    taken = np.bincount(found[view > 0], minlength=count + 1)
    kept = np.flatnonzero(counts & (2 * taken <= area))
    number = np.zeros(count + 1, dtype=np.int32)
    number[kept] = first + np.arange(len(kept))
    new = number[found]
    np.copyto(view, new, where=(view == 0) & (new > 0))
    return kept


def _why_nothing(lost: Lost, params: SegmentParameters) -> str:
    """One line: at which step the last cell was lost, and which control brings it back."""
    if not lost.candidates:
        return (
            f"0 cells found: the best pixel reaches {lost.best:.1f} where the cell threshold is "
            f"{params.cellprob_threshold:g}; lower the cell threshold, or set the cell diameter"
        )
    if lost.doubtful == lost.candidates:
        return (
            f"0 cells found: all {lost.candidates} candidates disagree with the network's idea of their shape; raise "
            "the shape tolerance, or set the cell diameter"
        )
    if lost.largest < params.min_size:
        return (
            f"0 cells found: the largest of {lost.candidates} candidates has {lost.largest} px where the smallest cell "
            f"is set to {params.min_size} px; lower the smallest cell"
        )
    return f"0 cells found: all {lost.candidates} candidates touch the border; switch off “Drop cut cells”"
