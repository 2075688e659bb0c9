"""Find the cells in a folder of images and write one label image for each.

One image after another, in this process. The networks are behind `segmenter`; what belongs to
a project is in `workflow`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from cell_curator.core.jobs import Job, Progress, scaled
from cell_curator.core.preprocess import prepare
from cell_curator.core.recipe import Recipe
from cell_curator.engines.segmenter import (
    Segmentation,
    SegmentParameters,
    explain_channel,
    segment_image,
    source_image,
)
from cell_curator.io.folders import FolderReport, Source, convert
from cell_curator.io.images import read_image_with_info
from cell_curator.io.labels import write_labels


@dataclass(frozen=True)
class SegmentReport:
    """What became of the folder, and by stem: number of cells, diameter (px), lines for the user."""

    folder: FolderReport
    cells: dict[str, int] = field(default_factory=dict)
    diameter_px: dict[str, float] = field(default_factory=dict)
    notes: dict[str, tuple[str, ...]] = field(default_factory=dict)


def segment_folder(
    images: Path | str, out: Path | str, params: SegmentParameters, recipe: Recipe
) -> Job[SegmentReport]:
    """Write ``<stem>.tif`` with integer labels (0 = background) for every image.

    Parameters
    ----------
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

    def one(source: Source, target: Path) -> Job[None]:
        pixels, info = read_image_with_info(source.path)
        yield Progress(0.0, "preparing")
        channels = pixels if pixels.ndim == 3 else pixels[None]
        image = source_image(lambda: prepare(pixels, recipe).image, lambda: channels, params)
        found: Segmentation = yield from scaled(segment_image(image, params), 0.05, 1.0)
        found = explain_channel(found, params, lambda: channels)
        write_labels(target, found.labels, pixel_size_um=info.pixel_size_um)
        cells[source.stem] = int(found.labels.max(initial=0))
        diameters[source.stem] = float(found.diameter)
        notes[source.stem] = (*info.notes, *found.notes)

    report = yield from convert(images, out, one)
    return SegmentReport(report, cells, diameters, notes)
