"""Images in: find the files of an experiment, and read one as (C, Y, X).

TIFF and OME-TIFF are read in `tiff`, PNG, JPEG and BMP in `raster`, OME-Zarr folders in `ome_zarr`, files of
microscopes in `bioio_reader`. What a file is is told from its first bytes, not from its name. Everything leaves here
as uint8, uint16 or finite float32; what had to be changed for that is in ``ImageInfo.notes``. Originals are never
written to. Stacks in depth and time lapses are read plane by plane. Not for label images (`labels`), nor for images
that are larger than memory (`blocks`).
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.doses import natural_key
from cell_curator.core.jobs import UserError
from cell_curator.io import bioio_reader, ome_zarr, raster, tiff
from cell_curator.io.tiff import Plane, write_tiff
from cell_curator.io.tiff_axes import check_plane

__all__ = [
    "ImageInfo",
    "find_images",
    "natural_key",
    "read_image",
    "read_image_with_info",
    "read_info",
    "write_tiff",
]

SUFFIXES = (".tif", ".tiff", ".png", ".jpg", ".jpeg", ".bmp", *bioio_reader.SUFFIXES)
_OTHER_FORMATS = (".lsm", ".oib", ".oif", ".vsi", ".zvi", ".dv", ".ims", ".svs")
_OUTPUT_STEM = re.compile(r"_(cp_masks?|masks?|seg|flows|cp_output|outlines)$", re.IGNORECASE)
_OUTPUT_FOLDER = re.compile(r"^(masks?|labels?|truth|ground_?truth|.*_(masks|labels|truth))$", re.IGNORECASE)
_ZARR = ".zarr"
_STORES = (".curator", _ZARR)
_TIFF_MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")


@dataclass(frozen=True)
class ImageInfo:
    """What an image file holds.

    Parameters
    ----------
    path
        The file.
    shape
        (C, Y, X).
    dtype
        Number type in the file, e.g. ``"uint16"``; `read_image` returns uint8, uint16 or float32.
    channel_names
        One per channel; from the file, or red/green/blue, or "channel 1"…
    pixel_size_um
        Edge of a pixel in µm, or None where the file does not say (or says 72 dpi).
    notes
        What a user should know: planes left out, pixels replaced. One short sentence each.
    axis
        ``"Z"`` for a stack in depth, ``"T"`` for a time lapse, ``""`` for a single image.
    planes
        How many planes the stack has; ``shape`` is that of one.
    """

    path: Path
    shape: tuple[int, int, int]
    dtype: str
    channel_names: tuple[str, ...]
    pixel_size_um: float | None
    notes: tuple[str, ...] = ()
    axis: str = ""
    planes: int = 1

    @property
    def numbers(self) -> tuple[int | None, ...]:
        """What to give `read_image` as ``plane`` to read all there is, one after the other."""
        return tuple(range(self.planes)) if self.axis else (None,)


def find_images(source: Path | str) -> list[tuple[Path, str]]:
    """Image files under ``source`` with the condition of each, in natural order.

    The condition is the name of the first sub-folder; files at the top, and those in a folder
    called ``images`` or ``NAME/images/NAME.png``, have the condition ``""``. An OME-Zarr folder (``NAME.zarr``) with
    pixels in it is one image. Hidden files, masks that Cellpose or this
    program wrote (``*_masks.*``, ``*_seg.*``), folders of labels, and project folders are left out.

    Raises
    ------
    UserError
        ``source`` is missing, cannot be entered, or holds no image.
    """
    root = Path(source)
    if root.is_file() or (root.suffix.lower() == _ZARR and ome_zarr.is_image(root)):
        return [(root, "")]
    if not root.exists():
        raise UserError(f"{root}: does not exist; check the path")
    files = list(_walk(root))
    wanted = (*SUFFIXES, _ZARR)
    found = [path for path in files if path.suffix.lower() in wanted and not _OUTPUT_STEM.search(path.stem)]
    if not found:
        raise UserError(f"{root}: {_why_none(files)}")
    keyed = [(path, path.relative_to(root).parts) for path in found]
    keyed.sort(key=lambda item: (len(item[1]) > 1, [natural_key(part) for part in item[1]]))
    return [(path, _condition(parts)) for path, parts in keyed]


def _condition(parts: tuple[str, ...]) -> str:
    own = len(parts) > 2 and parts[0] == Path(parts[-1]).stem  # ID/images/ID.png, as in the Data Science Bowl
    return "" if own or len(parts) == 1 or parts[0].lower() == "images" else parts[0]


def _walk(root: Path) -> list[Path]:
    """Files and OME-Zarr images below ``root``; links to folders are followed once."""

    def refuse(error: OSError) -> None:
        raise UserError(f"{error.filename}: cannot be opened ({error.strerror}); check its permissions")

    seen: set[str] = set()
    files = []
    for folder, folders, names in os.walk(root, followlinks=True, onerror=refuse):
        real = os.path.realpath(folder)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        stores = [Path(folder, name) for name in folders if name.lower().endswith(_ZARR) and not name.startswith(".")]
        files += [path for path in stores if ome_zarr.is_image(path)]
        folders[:] = [f for f in folders if not _skipped_folder(f)]
        files += [Path(folder, name) for name in names if not name.startswith(".")]
    return files


def _skipped_folder(name: str) -> bool:
    hidden = name.startswith((".", "__"))
    return hidden or name.lower().endswith(_STORES) or bool(_OUTPUT_FOLDER.match(name))


def _why_none(files: list[Path]) -> str:
    wanted = "TIFF, PNG, JPEG, BMP or OME-Zarr"
    if not files:
        return f"holds no images; choose a folder with {wanted} files in it"
    for suffix in _OTHER_FORMATS:
        count = sum(path.suffix.lower() == suffix for path in files)
        if count:
            return f"holds {count} {suffix} file{'s' * (count > 1)}, which are not read here; export as TIFF"
    return f"holds {len(files)} files but no images; choose a folder with {wanted} files in it"


def read_info(path: Path | str) -> ImageInfo:
    """What the header of an image says, without decoding the pixels.

    Raises
    ------
    UserError
        As `read_image`, except for damage that only decoding shows.
    """
    return _info(Path(path), read_plane(Path(path), pixels=False))


def read_image(path: Path | str, plane: int | None = None) -> NDArray[Any]:
    """Read an image, or one ``plane`` (counted from 0) of a stack, as (C, Y, X): uint8, uint16 or finite float32.

    bool becomes 0/255. Wider or signed integers become uint16 where all values fit, else
    float32; float64 becomes float32. NaN and −inf become the least finite value, +inf the
    greatest. RGB gives three channels and transparency is dropped; colour tables are applied.

    Raises
    ------
    UserError
        Missing, empty, truncated, not an image, a stack of which no plane was named, complex or CMYK, without
        pixels or with absurdly many: one line that names the file and the remedy.
    """
    return read_image_with_info(path, plane)[0]


def read_image_with_info(path: Path | str, plane: int | None = None) -> tuple[NDArray[Any], ImageInfo]:
    """Pixels as `read_image`, and the info with notes on what had to be changed.

    Raises
    ------
    UserError
        As `read_image`.
    """
    path = Path(path)
    stored = read_plane(path, plane=plane)
    assert stored.pixels is not None
    pixels, notes = _plain_numbers(path, stored.pixels)
    return pixels, _info(path, replace(stored, notes=stored.notes + notes))


def _info(path: Path, stored: Plane) -> ImageInfo:
    return ImageInfo(
        path,
        stored.shape,
        str(stored.dtype.newbyteorder("=")),
        stored.channel_names,
        stored.pixel_size_um,
        stored.notes,
        stored.axis,
        stored.planes,
    )


def read_plane(path: Path, *, plane: int | None = None, pixels: bool = True, colours: bool = True) -> Plane:
    """The image as it is stored, by the reader its first bytes ask for (for `labels` and for here).

    Parameters
    ----------
    plane
        Which plane of a stack to decode.
    pixels
        Decode them, or read only the header.
    colours
        Apply colour tables; without, the stored numbers.

    Raises
    ------
    UserError
        As `read_image`.
    """
    if ome_zarr.is_store(path):
        return ome_zarr.read_plane(path, plane=plane, pixels=pixels)
    try:
        with path.open("rb") as file:
            head = file.read(32)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; check the path") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; choose an image file in it") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror}); check its permissions") from error
    if not head:
        raise UserError(f"{path}: is empty (0 bytes); copy or export it again")
    try:
        if head[:4] in _TIFF_MAGIC:
            return tiff.read_plane(path, plane=plane, pixels=pixels, colours=colours)
        if head.startswith(raster.MAGIC):
            check_plane(path, plane, "", 1)
            return raster.read_plane(path, head, pixels=pixels, colours=colours)
    except MemoryError:
        raise UserError(f"{path}: is too large for this computer's memory; cut it into tiles") from None
    if path.suffix.lower() in bioio_reader.SUFFIXES:
        return bioio_reader.read_plane(path, plane=plane, pixels=pixels)
    if path.suffix.lower() in _OTHER_FORMATS:
        raise UserError(f"{path}: {path.suffix} files are not read here; export as TIFF")
    raise UserError(f"{path}: is not a TIFF, PNG, JPEG or BMP image, whatever its name; export it again")


def _plain_numbers(path: Path, data: NDArray[Any]) -> tuple[NDArray[Any], tuple[str, ...]]:
    """Bring any number type to uint8, uint16 or finite float32, with notes on what was lost."""
    kind = data.dtype.kind
    if kind == "c":
        raise UserError(f"{path}: holds complex numbers; save its magnitude as an ordinary image")
    if kind == "b":
        return data.astype(np.uint8) * np.uint8(255), ()
    if data.dtype in (np.uint8, np.uint16):
        return np.ascontiguousarray(data, dtype=data.dtype.newbyteorder("=")), ()
    if kind in "iu":
        fits = data.min() >= 0 and data.max() <= np.iinfo(np.uint16).max
        return np.ascontiguousarray(data, dtype=np.uint16 if fits else np.float32), ()
    if kind != "f":
        raise UserError(f"{path}: holds {data.dtype}, not grey levels; export it as 8 or 16 bit")
    return _finite(data)


def _finite(data: NDArray[Any]) -> tuple[NDArray[np.float32], tuple[str, ...]]:
    """Float32 without NaN and infinities."""
    largest = np.finfo(np.float32).max
    with np.errstate(over="ignore", invalid="ignore"):
        pixels: NDArray[np.float32] = np.ascontiguousarray(data, dtype=np.float32)
    good = np.isfinite(pixels)
    bad = int(pixels.size - np.count_nonzero(good))
    if not bad:
        return pixels, ()
    if bad == pixels.size:
        return np.zeros_like(pixels), ("no pixel has a finite value; all were set to 0",)
    low, high = pixels[good].min(), pixels[good].max()
    pixels = np.nan_to_num(pixels, copy=True, nan=low, posinf=min(high, largest), neginf=low)
    return pixels, (f"{bad} pixels were not finite (NaN or infinite) and were replaced",)
