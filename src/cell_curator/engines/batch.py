"""Find the cells in a folder of images and write one label image for each.

One image after the other, or many at once by a crew. The networks are behind `segmenter`; what belongs to
a project is in `searching`.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import ALONE, Crew, Job, Progress, scaled
from cell_curator.core.lazy import is_large
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Recipe
from cell_curator.engines.block_search import in_blocks
from cell_curator.engines.segmenter import (
    Segmentation,
    SegmentParameters,
    explain_channel,
    segment_image,
    source_image,
)
from cell_curator.engines.volumes import Stack, StackParameters, check_stack, segment_stack
from cell_curator.io.folders import FolderReport, Source, convert
from cell_curator.io.images import ImageInfo, read_image, read_image_with_info, read_info
from cell_curator.io.label_store import open_labels
from cell_curator.io.labels import write_labels
from cell_curator.io.large_tiff import write_pyramid


@dataclass(frozen=True)
class SegmentReport:
    """What became of the folder, and by stem: number of cells, diameter (px), lines for the user."""

    folder: FolderReport
    cells: dict[str, int] = field(default_factory=dict)
    diameter_px: dict[str, float] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def segment_folder(
    images: Path | str,
    out: Path | str,
    params: SegmentParameters,
    recipe: Recipe,
    stack: StackParameters | None = None,
    crew: Crew = ALONE,
) -> Job[SegmentReport]:
    """Write ``<stem>.tif`` with integer labels (0 = background) for every image; of a stack a stack of labels.

    Parameters
    ----------
    stack
        How the planes of a stack belong together.
    recipe
        How an image is prepared before cells are looked for; its turn is not applied, so labels
        lie on the original pixel by pixel.

    Raises
    ------
    UserError
        As `io.folders.convert`, or the engine cannot run here.
    """
    cells: dict[str, int] = {}
    diameters: dict[str, float] = {}
    notes: dict[str, tuple[str, ...]] = {}
    how = {"params": params, "recipe": recipe, "stack": stack or StackParameters()}

    def one(source: Source, target: Path) -> Job[SegmentedFile]:
        info = read_info(source.path)
        if is_large(info.shape) and not info.axis:  # its blocks are shared out, not the image
            return _large(info, target, params, recipe, crew)
        return crew.call(f"{__name__}:segment_file", path=source.path, target=target, **how)

    def take(source: Source, made: SegmentedFile) -> None:
        cells[source.stem], diameters[source.stem], notes[source.stem] = made.cells, made.diameter_px, made.notes

    report = yield from convert(images, out, one, take, crew)
    return SegmentReport(report, cells, diameters, notes)


@dataclass(frozen=True)
class SegmentedFile:
    """Number of cells in one file, their diameter (px), and lines for the user."""

    cells: int
    diameter_px: float
    notes: tuple[str, ...]


def segment_file(
    path: Path, target: Path, params: SegmentParameters, recipe: Recipe, stack: StackParameters
) -> Job[SegmentedFile]:
    """Write the labels of one image or stack."""
    info = read_info(path)
    found: Segmentation | Stack
    if info.axis:
        found, count = yield from _stack(info, params, recipe, stack)
    else:
        found, info = yield from _single(path, params, recipe)
        count = found.count
    write_labels(target, found.labels, pixel_size_um=info.pixel_size_um, axis=info.axis)
    return SegmentedFile(count, float(found.diameter), (*info.notes, *found.notes))


def _single(path: Path, params: SegmentParameters, recipe: Recipe) -> Job[tuple[Segmentation, ImageInfo]]:
    pixels, info = read_image_with_info(path)
    yield Progress(0.0, "preparing")
    image = source_image(lambda: prepare(pixels, recipe).image, lambda: pixels, params)
    found: Segmentation = yield from scaled(segment_image(image, params), 0.05, 1.0)
    return explain_channel(found, params, lambda: pixels), info


def _large(info: ImageInfo, target: Path, params: SegmentParameters, recipe: Recipe, crew: Crew) -> Job[SegmentedFile]:
    """Write the labels of an image that is never held as a whole; the file has tiles and coarser levels."""
    parts = target.with_name(f".{target.name}.parts")
    where = {"path": info.path, "plane": None}
    try:
        found = yield from scaled(in_blocks(crew, where, recipe, params, slice(0, 1), parts), 0.0, 0.95)
        count = len(found.rows)
        dtype = np.uint16 if count < 2**16 else np.uint32
        labels = open_labels(found.labels.folder)
        yield from scaled(write_pyramid(target, labels, dtype, pixel_size_um=info.pixel_size_um), 0.95, 1.0)
    finally:
        shutil.rmtree(parts, ignore_errors=True)
    return SegmentedFile(count, found.sized.diameter, (*info.notes, *found.notes))


def _stack(
    info: ImageInfo, params: SegmentParameters, recipe: Recipe, stack: StackParameters
) -> Job[tuple[Stack, int]]:
    """The cells of a stack and their number: a cell that goes through several planes counts once, if it is joined."""
    check_stack(info.path, info.axis, params, stack)
    volume = np.zeros((info.planes, *info.shape[1:]), np.float32)
    for plane, out in enumerate(volume):
        yield Progress(0.1 * plane / info.planes, f"preparing plane {plane + 1}")
        pixels = read_image(info.path, plane)
        out[:] = source_image(partial(_prepared, pixels, recipe), partial(np.asarray, pixels), params)
    found: Stack = yield from scaled(segment_stack(volume, params, stack), 0.1, 1.0)
    if stack.method == "planes":
        return found, sum(len(np.unique(plane[plane > 0])) for plane in found.labels)
    return found, found.count


def _prepared(pixels: NDArray[Any], recipe: Recipe) -> NDArray[np.float32]:
    return prepare(pixels, recipe).image
