"""Label images in and out: 0 is background, every other number is one cell.

One plane only; TIFF, PNG, Cellpose's ``_seg.npy`` or a folder of one PNG for each nucleus (Data Science
Bowl 2018) in, TIFF out. The labels of a project live in its own store, not here; and nothing
here changes what a number means, except that a black-and-white mask is split into its
connected regions.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.io import images
from cell_curator.io.tiff import write_tiff

_LARGEST = int(np.iinfo(np.int32).max)


def read_labels(path: Path | str) -> NDArray[np.int32]:
    """Read a label image as (Y, X) int32.

    A black-and-white mask (bool, or only 0 and 255) becomes one label for each connected
    region. Whole numbers stored as float are accepted; colour tables are ignored. ``_seg.npy`` files
    of Cellpose and folders with ``images`` and ``masks`` in them (one PNG for each nucleus) are read, too.

    Raises
    ------
    UserError
        Not readable (as `images.read_image`), a stack, a colour picture, negative or broken
        numbers: one line that names the file and the remedy.
    """
    path = Path(path)
    if path.name.lower().endswith("_seg.npy") or path.is_dir():
        return _layout(path)
    pixels = images.read_plane(path, colours=False).pixels
    assert pixels is not None
    if len(pixels) > 1 and not (pixels == pixels[:1]).all():
        raise UserError(
            f"{path}: has {len(pixels)} channels, so it is a picture rather than a label image; "
            "save labels as one channel with a whole number for each cell"
        )
    return as_labels(pixels[0], path)


def as_labels(labels: NDArray[Any], path: Path | str) -> NDArray[np.int32]:
    """Bring (Y, X) labels of any number type to int32.

    Parameters
    ----------
    labels
        bool (each connected region becomes a label), integers, or floats with whole numbers.
        uint8 with only 0 and 255 counts as bool.
    path
        Named in errors.

    Raises
    ------
    UserError
        Not two-dimensional, negative, fractional, NaN, or beyond 2 147 483 647.
    """
    if labels.ndim != 2:
        raise UserError(f"{path}: labels have shape {labels.shape}; one plane of rows and columns is needed")
    if labels.dtype.kind not in "biuf":
        raise UserError(f"{path}: labels are {labels.dtype}; whole numbers are needed")
    if labels.size == 0:
        return labels.astype(np.int32)
    if labels.dtype == np.uint8 and labels.max() == 255 and not ((labels != 0) & (labels != 255)).any():
        labels = labels > 0
    if labels.dtype.kind == "b":
        return _regions(labels)
    if labels.dtype.kind == "f" and not _whole(labels):
        raise UserError(
            f"{path}: holds fractions or NaN, so it is not a label image; "
            "give the label image, with a whole number for each cell"
        )
    if labels.min() < 0:
        raise UserError(f"{path}: has negative labels; background must be 0 and cells 1, 2, 3…")
    if labels.max() > _LARGEST:
        raise UserError(f"{path}: has labels above {_LARGEST}; number the cells 1, 2, 3…")
    return np.ascontiguousarray(labels, dtype=np.int32)


def notes_on(labels: NDArray[np.int32]) -> tuple[str, ...]:
    """What a person should know of labels that came from elsewhere: cells in several pieces, which are kept so."""
    from skimage.measure import label

    pieces: NDArray[Any] = label(labels, background=0, connectivity=2)
    inside = labels > 0
    pairs = np.unique(labels[inside].astype(np.int64) << 32 | pieces[inside])
    count = int((np.unique(pairs >> 32, return_counts=True)[1] > 1).sum())
    if not count:
        return ()
    return ("1 cell is in several pieces",) if count == 1 else (f"{count} cells are in several pieces",)


def write_labels(path: Path | str, labels: NDArray[Any], *, pixel_size_um: float | None = None, axis: str = "") -> None:
    """Write (Y, X) labels as a compressed TIFF, uint16 where they fit and uint32 otherwise.

    With ``axis`` ``"Z"`` or ``"T"`` labels are those of a stack, (N, Y, X).

    Raises
    ------
    UserError
        As `as_labels`, or the disk is full or not writable.
    """
    whole = np.stack([as_labels(plane, path) for plane in labels]) if axis else as_labels(labels, path)
    wide = whole.size > 0 and int(whole.max()) > np.iinfo(np.uint16).max
    whole = whole.astype(np.uint32 if wide else np.uint16)
    write_tiff(path, whole, pixel_size_um=pixel_size_um, axis=axis or "C")


def check_shape(labels: NDArray[Any], image_shape: tuple[int, ...], path: Path | str) -> None:
    """Refuse labels that do not lie on their image pixel by pixel.

    Parameters
    ----------
    image_shape
        (Y, X) or (C, Y, X).

    Raises
    ------
    UserError
        Names the label file and both sizes.
    """
    rows, columns = image_shape[-2:]
    if labels.shape != (rows, columns):
        found = " × ".join(str(n) for n in reversed(labels.shape))
        raise UserError(
            f"{path}: labels are {found} px but the image is {columns} × {rows} px; "
            "give the label image that was made from this image"
        )


def _layout(path: Path) -> NDArray[np.int32]:
    """Labels of a ``_seg.npy`` or of a folder of nuclei."""
    from cell_curator.io.formats import cellpose_seg, dsb2018

    if path.is_dir() and not dsb2018.is_folder(path):
        raise UserError(f"{path}: is a folder; choose a label image in it")
    read = dsb2018.read if path.is_dir() else cellpose_seg.read
    (incoming,) = read(path, path.name, lambda name: (0, 0))
    return incoming.labels


def _regions(mask: NDArray[np.bool_]) -> NDArray[np.int32]:
    """Connected regions (8 neighbours) numbered from 1."""
    from scipy import ndimage

    numbered: NDArray[np.int32] = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure=np.ones((3, 3)), output=numbered)
    return numbered


def _whole(values: NDArray[Any]) -> bool:
    return bool(np.isfinite(values).all() and (values == np.round(values)).all())
