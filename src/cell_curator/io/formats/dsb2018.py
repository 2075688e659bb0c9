"""The layout of the 2018 Data Science Bowl: a folder for each image, one PNG for each nucleus. Read only.

``<id>/images/<id>.png`` is the image, ``<id>/masks/*.png`` are its nuclei, white on black. They are
merged into one label image; where two overlap, the first by name keeps the pixels.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cell_curator.core.jobs import UserError
from cell_curator.io import images
from cell_curator.io.formats.base import Format, Incoming, Shape
from cell_curator.io.formats.outlines import Canvas


def is_folder(path: Path) -> bool:
    """Whether this is the folder of one image."""
    return (path / "images").is_dir() and (path / "masks").is_dir()


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """Merge the nuclei of one folder.

    Raises
    ------
    UserError
        The folder has not exactly one image, a mask cannot be read, or masks differ in size.
    """
    pictures = [p for p in (path / "images").iterdir() if p.suffix.lower() in images.SUFFIXES]
    if len(pictures) != 1:
        raise UserError(f"{path / 'images'}: holds {len(pictures)} images; one is needed beside the folder of masks")
    masks = sorted((p for p in (path / "masks").iterdir() if p.suffix.lower() == ".png"), key=lambda p: p.name)
    height, width = images.read_info(pictures[0]).shape[1:]
    canvas = Canvas.of((height, width))
    for label, mask in enumerate(masks, 1):
        pixels = images.read_plane(mask, colours=False).pixels
        assert pixels is not None
        if pixels.shape[1:] != (height, width):
            raise UserError(
                f"{mask}: is {pixels.shape[2]} × {pixels.shape[1]} px but its image is {width} × {height} px"
            )
        canvas.put_pixels(label, *np.nonzero(pixels.max(axis=0)))
    folder = f"{name}/" if name else ""
    yield Incoming(f"{folder}images/{pictures[0].stem}", canvas.labels, {}, canvas.notes())


FORMAT = Format(
    name="dsb2018",
    title="Data Science Bowl 2018 (one PNG for each nucleus)",
    ending="",
    lossless=True,
    cannot_hold="read only",
    read=read,
    folder=is_folder,
    aliases=("dsb", "bbbc038"),
)
