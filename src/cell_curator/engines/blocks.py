"""Finding and measuring the cells of an image that is never held as a whole.

`survey_image` learns once what holds for the whole image: grey levels, diameter, polarity. After that every block is
searched for itself (`search_block`), with so much around it that its cells are seen whole; `join` puts its cells
beside those of the blocks before, each cell once. All but `join` are jobs that run here or in a
worker, from a small description, and leave what is large as files in a folder that the caller
names: what is there already is not done again. Knows no project.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.edits import Box, grown
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.large import Known, prepared_part, sample, survey
from cell_curator.core.lazy import Lazy
from cell_curator.core.measure import around, measure_window
from cell_curator.core.recipe import Recipe
from cell_curator.engines.network import PERCENTILES
from cell_curator.engines.segmenter import NOTHING, SegmentParameters, limited_threads, runnable
from cell_curator.engines.tiling import Block, blocks
from cell_curator.io.atomic import write_atomic
from cell_curator.io.blocks import open_large
from cell_curator.io.known_file import read_known, write_known
from cell_curator.io.label_store import open_labels
from cell_curator.io.safe_numpy import DAMAGED

CORES = (1024, 3072)
"""Least and largest side of a block, px: what a worker holds grows with its square."""

_DIAMETERS = 64  # side of a block
_MARGIN = 3.0  # around a block, in diameters
_LEAST_MARGIN = 48  # px
_LOOK = 2048  # px, side of the part in which diameter and polarity are found
_LOOKS = 3  # so many parts are tried until one shows cells
_SLACK = 3  # px that the middle of a cell may lie beyond its block: seen from the next block it may lie there

Limits = tuple[float, float] | None


@dataclass(frozen=True)
class Sized:
    """What holds for the whole of an image when its cells are looked for.

    Parameters
    ----------
    shape
        (Y, X).
    diameter, inverted
        As of a `segmenter.Segmentation`; 0 where nothing looks like a cell.
    limits
        Grey levels that become 0 and 1 for the network, of each plane it is shown; None where all are equal.
    raw
        Smallest and largest value of each channel of the file.
    angle_deg, notes
        As of a `preprocess.Prepared`.
    why
        Why there is nothing to look for, or empty.
    """

    shape: tuple[int, int]
    diameter: float
    inverted: bool
    limits: tuple[Limits, ...]
    raw: tuple[tuple[float, float], ...]
    angle_deg: float
    notes: tuple[str, ...] = ()
    why: str = ""

    def blocks(self) -> list[Block]:
        """The blocks in which the image is searched, row by row; none where there is nothing to look for."""
        if self.why:
            return []
        margin = int(np.ceil(max(_MARGIN * self.diameter, _LEAST_MARGIN)))
        return list(blocks(self.shape, _side(self.diameter), margin))


def _side(diameter: float) -> int:
    return int(np.clip(_DIAMETERS * diameter, *CORES))


def count(shape: Sequence[int]) -> int:
    """About how many blocks an image of ``(…, Y, X)`` has, to tell how many workers are worth starting."""
    return int(np.prod([-(-side // (2 * CORES[0])) for side in shape[-2:]]))


def survey_image(path: Path, plane: int | None, recipe: Recipe, params: SegmentParameters, folder: Path) -> Job[Sized]:
    """Learn what holds for the whole image; kept in ``folder`` as ``known.npz`` (see `known_file`) and ``sized.json``.

    Raises
    ------
    UserError
        The image cannot be read, or the engine cannot run here.
    """
    done = folder / "sized.json"
    if done.is_file() and (folder / "known.npz").is_file():
        return _sized(json.loads(done.read_text(encoding="utf-8")))
    image, file = open_large(path, plane), folder / "known.npz"
    if file.is_file():
        known = read_known(file)
    else:
        known = yield from scaled(survey(image, recipe), 0.0, 0.6)
        folder.mkdir(parents=True, exist_ok=True)
        write_known(file, known)
    limits = _limits(image, known, params)
    sized = Sized(known.shape, params.diameter, False, limits, known.raw, known.angle_deg, known.notes)
    if limits[0] is None:
        sized = replace(sized, why="all pixels are equal; choose another channel or image")
    else:
        sized = yield from scaled(_look(image, known, params, sized), 0.6, 1.0)
    text = json.dumps(sized.__dict__).encode()
    write_atomic(done, lambda file: file.write(text))
    return sized


def _sized(stored: dict[str, Any]) -> Sized:
    pairs = {name: tuple(one and tuple(one) for one in stored[name]) for name in ("limits", "raw")}
    return Sized(**{**stored, **pairs, "shape": tuple(stored["shape"]), "notes": tuple(stored["notes"])})


def _limits(image: Lazy, known: Known, params: SegmentParameters) -> tuple[Limits, ...]:
    """See `Sized`: as `network.normalise` finds them, from parts that stand for the whole."""
    parts = [_raw_planes(image, known, params, box) for box in sample(known.shape)]
    found: list[Limits] = []
    for plane in zip(*parts, strict=True):
        values = np.concatenate([part.ravel() for part in plane])
        span, limits = float(np.ptp(values)), None
        for percentiles in PERCENTILES if span > 0 else ():
            low, high = np.percentile(values, percentiles)
            limits = float(np.float32(low)), float(np.float32(high))
            if high - low > 1e-3 * span:
                break
        found.append(limits)
    return tuple(found)


def _raw_planes(image: Lazy, known: Known, params: SegmentParameters, box: Box) -> list[NDArray[np.float32]]:
    """The planes that an engine is shown of a box, not yet normalised; as `segmenter.source_image` chooses them."""
    prepared = params.source == "prepared"
    first = prepared_part(image, known, box) if prepared else _channel(image, params.channel, box)
    return [first] if params.second_channel < 0 else [first, _channel(image, params.second_channel, box)]


def _channel(image: Lazy, index: int, box: Box) -> NDArray[np.float32]:
    if index >= len(image):
        raise UserError(f"the image has {len(image)} channels, counted from 0; there is no channel {index}")
    pixels: NDArray[np.float32] = image.window(box)[index].astype(np.float32)
    return pixels


def _planes(
    image: Lazy, known: Known, params: SegmentParameters, limits: Sequence[Limits], box: Box
) -> NDArray[np.float32]:
    """The planes of a box as an engine wants them."""
    shown = []
    for plane, found in zip(_raw_planes(image, known, params, box), limits, strict=True):
        if found is None:
            shown.append(np.zeros_like(plane))
        else:
            shown.append((plane - np.float32(found[0])) / np.float32(found[1] - found[0]))
    return np.stack(shown).astype(np.float32)


def _look(image: Lazy, known: Known, params: SegmentParameters, sized: Sized) -> Job[Sized]:
    """With diameter and polarity, from the parts of the image in which most is to be seen."""
    if params.diameter and params.polarity != "auto":
        return replace(sized, inverted=params.polarity == "dark")
    engine = runnable(params.engine)
    notes: tuple[str, ...] = ()
    parts = {_around(box, known.shape): None for box in _busiest(image, known, params)}
    for number, box in enumerate(list(parts)[:_LOOKS]):
        planes = _planes(image, known, params, sized.limits, box)
        with limited_threads(params.threads):
            job = engine.segment(planes, params.model_copy(update={"drop_border": False}))
            found = yield from scaled(job, number / _LOOKS, (number + 1) / _LOOKS, "size of the cells: ")
        if found.count and found.diameter:
            return replace(sized, diameter=float(found.diameter), inverted=found.inverted)
        notes = found.notes
    if params.diameter:  # few cells, but how large they are is known
        return replace(sized, inverted=params.polarity == "dark")
    why = next((note.removeprefix(f"{NOTHING}: ") for note in notes), "nothing looks like a cell")
    return replace(sized, why=why)


def _busiest(image: Lazy, known: Known, params: SegmentParameters) -> list[Box]:
    boxes = sample(known.shape)
    spread = [float(_raw_planes(image, known, params, box)[0].std()) for box in boxes]
    return [boxes[index] for index in np.argsort(spread)[::-1]]


def _around(box: Box, shape: tuple[int, int]) -> Box:
    """A part of `_LOOK` px with this box in its middle, as far as the image reaches."""
    sides = [min(_LOOK, side) for side in shape]
    middles = ((box[0] + box[2]) // 2, (box[1] + box[3]) // 2)
    top, left = (
        min(max(0, middle - side // 2), whole - side) for middle, side, whole in zip(middles, sides, shape, strict=True)
    )
    return top, left, top + sides[0], left + sides[1]


# ---------------------------------------------------------------------- blocks


def search_block(
    path: Path, plane: int | None, params: SegmentParameters, folder: Path, sized: Sized, window: Box
) -> Job[Path]:
    """Find the cells of a window; returns a file of `read_found`, which may be there already.

    ``folder`` is the one given to `survey_image`.

    Raises
    ------
    UserError
        As `survey_image`.
    """
    out = folder / f"{window[0]}-{window[1]}.npz"
    if out.is_file() and _is_whole(out):
        return out
    yield Progress(0.0, "preparing")
    planes = _planes(open_large(path, plane), _known(folder / "known.npz"), params, sized.limits, window)
    own = params.model_copy(update={"drop_border": False, **_size(sized)})
    labels, errors = np.zeros(planes.shape[1:], np.int32), np.zeros(1, np.float32)
    if np.ptp(planes[0]) > 0:
        with limited_threads(params.threads):
            found = yield from scaled(runnable(params.engine).segment(planes, own), 0.1, 1.0)
        labels, errors = found.labels, found.flow_error
    small = labels.astype(np.uint16 if len(errors) < 65_536 else np.uint32)
    write_atomic(out, lambda file: np.savez_compressed(file, labels=small, flow_error=errors))
    return out


def _size(sized: Sized) -> dict[str, Any]:
    return {"diameter": sized.diameter, "polarity": "dark" if sized.inverted else "bright"}


@lru_cache(maxsize=1)
def _known(file: Path) -> Known:
    return read_known(file)


def _is_whole(file: Path) -> bool:
    try:
        read_found(file)
    except DAMAGED:
        return False
    return True


def read_found(file: Path) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
    """Labels 1..n of a window, and the flow error of each (entry 0: the ground)."""
    with np.load(file, allow_pickle=False) as stored:
        return stored["labels"].astype(np.int32), stored["flow_error"]


def join(
    here: NDArray[np.int32],
    found: NDArray[np.int32],
    block: Block,
    shape: tuple[int, int],
    first: int,
    *,
    drop_border: bool = False,
) -> tuple[NDArray[np.int32], NDArray[np.intp]]:
    """The labels of a block's window with the block's own cells among them, and which of ``found`` these are.

    A cell counts in the block in which its middle lies. Seen from two blocks the middle of a cell may lie a
    little differently, so both may claim it; a cell of which more than half is taken already is not put in again.

    Parameters
    ----------
    here
        Labels that are in the window already.
    found
        ``(y, x)`` labels 1..n of the window.
    shape
        (Y, X) of the image.
    first
        Label of the first cell that is put in; others follow.
    drop_border
        Whether to leave out cells that touch the border of the image.
    """
    size = int(found.max(initial=0)) + 1
    area = np.bincount(found.ravel(), minlength=size)
    area[0] = 0
    counts = area > 0
    for axis, (core, window) in enumerate(zip(block.core, block.window, strict=True)):
        place = np.arange(window.start, window.stop, dtype=np.float64)
        place = place[:, None] if axis == 0 else place[None, :]
        total = np.bincount(found.ravel(), weights=np.broadcast_to(place, found.shape).ravel(), minlength=size)
        middle = total / np.maximum(area, 1)
        counts &= (middle >= core.start - _SLACK) & (middle < core.stop + _SLACK)
        if drop_border:
            ends = (0, window.start == 0), (-1, window.stop == shape[axis])
            for index, at_border in ends:
                if at_border:
                    counts[np.unique(found.take(index, axis=axis))] = False
    taken = np.bincount(found[here > 0], minlength=size)
    kept = np.flatnonzero(counts & (2 * taken <= area))
    number = np.zeros(size, np.int32)
    number[kept] = first + np.arange(len(kept))
    new = number[found]
    return np.where((here == 0) & (new > 0), new, here).astype(np.int32), kept


def measure_block(
    path: Path,
    plane: int | None,
    channels: slice,
    labels: Path,
    values: Sequence[int],
    window: Box,
    sized: Sized,
) -> Job[pd.DataFrame]:
    """Measure cells that lie in a window of an image, see `core.measure.measure`.

    Parameters
    ----------
    channels
        Those that are measured in.
    labels
        Folder of the stored label image.
    values
        The cells' labels.
    """
    yield Progress(0.0, "measuring")
    image, stored = open_large(path, plane)[channels], open_labels(labels)
    box = grown(window, around(sized.diameter), sized.shape)
    raw = sized.raw[channels]
    levels = min(low for low, _ in raw), max(high for _, high in raw)
    return measure_window(stored.window(box), image.window(box), values, box[:2], sized.shape, levels)
