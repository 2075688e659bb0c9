"""Contact sheets as jobs: the pictures first, then what the segmenter makes of each of them.

A sheet without scores needs no project. Scores are taken on the cells of a project that a
person accepted, edited or locked, and only there: see `core.scores.reviewed_ap`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.clean import DECIDED
from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.overview import Overview, overview
from cell_curator.core.preview import Preview, Region, preview
from cell_curator.core.recipe import Recipe
from cell_curator.core.scores import reviewed_ap, surplus
from cell_curator.core.sweep import Tile, sweep
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.project_models import resolved

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.session import Session

_SIDE = 512  # px, longest side of a tile's picture
_PIXELS = 1_000_000  # of the picture that is segmented
_PICTURES = 0.1  # part of a scored sheet's time that the pictures take, roughly
_INSIDE = 0.5  # part of a cell that must lie in the region for it to count


@dataclass(frozen=True)
class ScoredTile(Tile):
    """A tile with the cells that were found in it: ``found`` is ``(y, x)`` int32 on the pixels of its picture.

    Its surplus is the number of cells found where none is labelled: see `core.scores.surplus`.
    """

    found: NDArray[np.int32] = field(default_factory=lambda: np.zeros((0, 0), np.int32))


@dataclass(frozen=True)
class Judged:
    """What a person decided in a region.

    Parameters
    ----------
    labels
        ``(Y, X)`` int32: the label image of the region, whose corner lies at ``origin`` (y, x) px.
    reviewed, rejected
        Label values of the cells that are the truth, and of those that are none.
    diameter
        Median diameter of the reviewed cells, px of the original.
    """

    labels: NDArray[np.int32]
    origin: tuple[int, int]
    reviewed: tuple[int, ...]
    rejected: tuple[int, ...]
    diameter: float

    def on(self, tile: Preview) -> NDArray[np.int32]:
        """The labels on the pixels of a preview, nearest neighbour."""
        return _nearest(self.labels, self.origin, (1.0, 1.0), tile)


def count_reviewed(session: Session, image_id: int, region: Region | None = None) -> int:
    """How many reviewed cells have their centre in the region. Reads no pixels."""
    rows = session.cells.of_image(image_id)
    return int((rows["verdict"].isin(DECIDED) & _centred(rows, region)).sum())


def contact_sheet(
    image: Any, recipe: Recipe, grid: Mapping[str, Sequence[Any]], *, region: Region | None, step: float
) -> Job[tuple[Tile, ...]]:
    """The pictures of a sheet; as `core.sweep.sweep`, at most 512 px wide and high.

    Raises
    ------
    UserError
        If a value is not allowed, or the image can no longer be read.
    """
    yield Progress(0.0, "looking at the image")
    _, tiles = yield from _pictures(image, recipe, grid, region, step)
    return tiles


def scored_sheet(
    session: Session,
    image_id: int,
    image: Any,
    recipe: Recipe,
    grid: Mapping[str, Sequence[Any]],
    *,
    region: Region | None,
    step: float,
) -> Job[tuple[ScoredTile, ...]]:
    """The pictures, then the same tiles again, one by one, with the segmentation's AP as their score.

    Each tile is segmented at full resolution, or at that at which the region has a megapixel. All
    tiles are segmented for the same cell diameter: the project's, or else that of the reviewed
    cells, so that they differ by the picture alone.

    Raises
    ------
    UserError
        If no reviewed cell is in the region, the image is gone, or the engine cannot run.
    """
    yield Progress(0.0, "looking at the image")
    truth = _judged(session, image_id, region, image.shape[-2:])
    whole, tiles = yield from scaled(_pictures(image, recipe, grid, region, step), 0.0, _PICTURES)
    fine = max(1.0, math.sqrt(truth.labels.size / _PIXELS))
    scored: list[ScoredTile] = []
    for number, tile in enumerate(tiles):
        start = _PICTURES + (1 - _PICTURES) * number / len(tiles)
        stop = _PICTURES + (1 - _PICTURES) * (number + 1) / len(tiles)
        head = f"finding cells in tile {number + 1} of {len(tiles)}"
        yield Progress(start, head, scored[-1] if scored else None)
        with _reading():
            shown = preview(image, tile.recipe, region=region, step=fine, whole=whole)
        found = yield from scaled(_find_cells(session, shown, truth.diameter), start, stop, f"{head}: ")
        labels = truth.on(shown)
        score = reviewed_ap(found, labels, truth.reviewed, truth.rejected)
        small = _nearest(found, shown.origin, shown.scale, tile.preview)
        scored.append(
            ScoredTile(tile.index, tile.values, tile.recipe, tile.preview, score, surplus(found, labels), small)
        )
    if scored:
        yield Progress(1.0, "done", scored[-1])
    return tuple(scored)


def _pictures(
    image: Any, recipe: Recipe, grid: Mapping[str, Sequence[Any]], region: Region | None, step: float
) -> Job[tuple[Overview, tuple[Tile, ...]]]:
    top, left, bottom, right = region or (0, 0, *image.shape[-2:])
    step = max(step, (bottom - top) / _SIDE, (right - left) / _SIDE)
    with _reading():
        whole = overview(image)
        tiles = yield from sweep(image, recipe, grid, region=region, step=step, whole=whole)
    return whole, tiles


@contextmanager
def _reading() -> Iterator[None]:
    """Images larger than memory are read while the job goes on, and may be gone by then."""
    try:
        yield
    except OSError as error:
        raise UserError(f"the image can no longer be read ({error}); open it again") from None


def _find_cells(session: Session, shown: Preview, diameter: float) -> Job[NDArray[np.int32]]:
    """Labels on the pixels of the preview; ``diameter`` in px of the original, for want of one that was set."""
    parameters = session.get(SegmentParameters)
    scale = math.sqrt(shown.scale[0] * shown.scale[1])
    parameters = resolved(session, parameters).model_copy(
        update={
            "diameter": (parameters.diameter or diameter) / scale,
            "min_size": max(1, round(parameters.min_size / scale**2)),
        }
    )
    # Without the engine's payloads: what a sheet shows are tiles.
    job = session.execute("cell_curator.engines.segmenter:segment_image", image=shown.image, params=parameters)
    found: Segmentation = yield from _without_payload(job)
    return found.labels


def _without_payload(job: Job[Any]) -> Job[Any]:
    try:
        while True:
            progress = next(job)
            yield replace(progress, payload=None)
    except StopIteration as end:
        return end.value
    finally:
        job.close()


def _judged(session: Session, image_id: int, region: Region | None, shape: tuple[int, ...]) -> Judged:
    """The truth in a region, cut at the border of the image."""
    if all(record.image_id != image_id for record in session.images):
        raise UserError("the image is no longer in the project; choose another one and make the sheet again")
    labels = session.labels(image_id)
    if labels.shape != tuple(shape):
        raise UserError(f"cells of an image of {labels.shape} px do not fit this one of {shape} px; reload the image")
    top, left, bottom, right = region or (0, 0, *labels.shape)
    top, left = max(top, 0), max(left, 0)
    part = labels[top:bottom, left:right]
    rows = session.cells.of_image(image_id)
    numbers = rows["label"].to_numpy()
    everywhere = np.bincount(labels.ravel(), minlength=int(numbers.max(initial=0)) + 1)
    here = np.bincount(part.ravel(), minlength=len(everywhere))
    inside = here[numbers] > _INSIDE * everywhere[numbers]
    verdict = rows["verdict"].to_numpy()
    reviewed = numbers[inside & np.isin(verdict, DECIDED)]
    if not len(reviewed):
        raise UserError("no reviewed cell is in view; accept, correct or lock cells here, or make the sheet unscored")
    diameter = 2 * math.sqrt(float(np.median(everywhere[reviewed])) / math.pi)
    return Judged(part, (top, left), tuple(reviewed), tuple(numbers[verdict == "rejected"]), diameter)


def _nearest(
    labels: NDArray[np.int32], origin: tuple[float, float], scale: tuple[float, float], onto: Preview
) -> NDArray[np.int32]:
    """Labels whose corner and pixel size are given in px of the original, on the pixels of a preview."""
    at = []
    for axis in (0, 1):
        centres = onto.origin[axis] + (np.arange(onto.image.shape[axis]) + 0.5) * onto.scale[axis]
        inside = np.floor((centres - origin[axis]) / scale[axis]).astype(np.intp)
        at.append(np.clip(inside, 0, labels.shape[axis] - 1))
    return labels[np.ix_(at[0], at[1])]


def _centred(rows: pd.DataFrame, region: Region | None) -> pd.Series[bool]:
    if region is None:
        return rows["y"].notna()
    top, left, bottom, right = region
    return rows["y"].between(top, bottom) & rows["x"].between(left, right)
