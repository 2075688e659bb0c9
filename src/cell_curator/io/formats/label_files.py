"""Label images as TIFF or PNG: one file for each image, one number for each cell.

TIFF holds any number of cells (16 bits where they fit, else 32) and the pixel size; PNG ends at
65 535. What a label image cannot hold are verdicts, so cells that come in from one have none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cell_curator.core.jobs import Job, UserError
from cell_curator.io.atomic import write_atomic
from cell_curator.io.formats.base import Content, Format, Incoming, Labelled, Shape, image_files
from cell_curator.io.labels import read_labels, write_labels

_PNG_LARGEST = 2**16 - 1


def write_tiffs(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>.tif`` for every image."""

    def one(path: Path, image: Labelled) -> None:
        write_labels(path, image.labels, pixel_size_um=image.record.pixel_size_um)

    return image_files(content, out, ".tif", one)


def write_pngs(content: Content, out: Path) -> Job[tuple[Path, ...]]:
    """Write ``<image>.png``, 16 bits, for every image.

    Raises
    ------
    UserError
        An image has a label above 65 535.
    """
    return image_files(content, out, ".png", _write_png)


def _write_png(path: Path, image: Labelled) -> None:
    import imagecodecs

    largest = int(image.labels.max(initial=0))
    if largest > _PNG_LARGEST:
        raise UserError(
            f"{image.record.name}: has the label {largest} and PNG ends at {_PNG_LARGEST}; export label TIFFs"
        )
    data = imagecodecs.png_encode(image.labels.astype(np.uint16))
    write_atomic(path, lambda file: file.write(data))


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """The labels of one file.

    Raises
    ------
    UserError
        As `io.labels.read_labels`.
    """
    yield Incoming(name, read_labels(path))


TIFF = Format(
    name="labels",
    title="Label images (TIFF)",
    ending=".tif",
    lossless=True,
    cannot_hold="verdicts and ids",
    write=write_tiffs,
    read=read,
    reads=(".tif", ".tiff", ".png"),
    aliases=("tiff", "tif", "label-tiff", "labels-tiff", "masks"),
)
PNG = Format(
    name="png",
    title="Label images (PNG, 16 bits)",
    ending=".png",
    lossless=True,
    cannot_hold="verdicts and ids, more than 65 535 cells",
    write=write_pngs,
    read=read,
    reads=(".png",),
    aliases=("label-png", "labels-png"),
)
