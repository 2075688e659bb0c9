"""The layout of the 2018 Data Science Bowl: a folder for each image, one PNG for each nucleus. Read only.

``<id>/images/<id>.png`` is the image, ``<id>/masks/*.png`` are its nuclei, white on black. They are
merged into one label image; where two overlap, the first by name keeps the pixels. Nuclei that touch stay
two. Merging hundreds of files takes long, so it is done once: see `io.caches`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from cell_curator.core.jobs import UserError
from cell_curator.io import images
from cell_curator.io.caches import Arrays, kept, stamp
from cell_curator.io.formats.base import Format, Incoming, Shape
from cell_curator.io.formats.outlines import Canvas


def is_folder(path: Path) -> bool:
    """Whether this is the folder of one image; a folder of images beside one of their masks is none."""
    if not (path / "images").is_dir() or not (path / "masks").is_dir():
        return False
    pictures = _pictures(path)
    return len(pictures) == 1 and not (path / "masks" / pictures[0].name).exists()


def name_in(path: Path, name: str) -> str:
    """What the image of the folder ``path`` is called, which is itself called ``name`` below its root."""
    return f"{name}/images/{_picture(path).stem}" if name else f"images/{_picture(path).stem}"


def read(path: Path, name: str, shape_of: Callable[[str], Shape]) -> Iterator[Incoming]:
    """Merge the nuclei of one folder.

    Raises
    ------
    UserError
        The folder has not exactly one image, a mask cannot be read, or masks differ in size.
    """
    picture = _picture(path)
    masks = sorted((p for p in (path / "masks").iterdir() if p.suffix.lower() == ".png"), key=lambda p: p.name)
    made = kept("nuclei", path, stamp([picture, *masks]), lambda: _merged(picture, masks))
    canvas = Canvas(made["labels"], *(int(count) for count in made["odd"]))
    yield Incoming(name_in(path, name), canvas.labels, {}, canvas.notes())


def _merged(picture: Path, masks: list[Path]) -> Arrays:
    """The labels, and how many nuclei overlapped others and covered nothing."""
    height, width = images.read_info(picture).shape[1:]
    canvas = Canvas.of((height, width))
    for label, mask in enumerate(masks, 1):
        pixels = images.read_plane(mask, colours=False).pixels
        assert pixels is not None
        if pixels.shape[1:] != (height, width):
            raise UserError(
                f"{mask}: is {pixels.shape[2]} × {pixels.shape[1]} px but its image is {width} × {height} px"
            )
        canvas.put_pixels(label, *np.nonzero(pixels.max(axis=0)))
    return {"labels": canvas.labels, "odd": np.array([canvas.overlapping, canvas.empty], np.int32)}


def _pictures(path: Path) -> list[Path]:
    return [p for p in (path / "images").iterdir() if p.suffix.lower() in images.SUFFIXES]


def _picture(path: Path) -> Path:
    pictures = _pictures(path)
    if len(pictures) != 1:
        raise UserError(f"{path / 'images'}: holds {len(pictures)} images; one is needed beside the folder of masks")
    return pictures[0]


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
