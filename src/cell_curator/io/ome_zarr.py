"""OME-Zarr (OME-NGFF 0.4 and 0.5) as images: what is in it, one plane of it, and parts of one plane.

Only the pixels; label images in such a folder, and writing, are in `formats.ngff`. A store from a stranger
may name any codec, and one of them (``pickle``) runs what it decodes: only codecs that unpack numbers
are let through.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import UserError
from cell_curator.io.tiff import BELIEVABLE_UM, Plane, check_size, default_names, one_line
from cell_curator.io.tiff_axes import check_plane

_CODECS = {
    *("bytes", "blosc", "gzip", "zstd", "crc32c", "transpose", "sharding_indexed"),
    *("zlib", "lz4", "lzma", "bz2", "delta", "shuffle", "bitround", "packbits", "default", "v2"),
}
T = TypeVar("T")
_METADATA = ("zarr.json", ".zgroup")
_UNITS_UM = {"micrometer": 1.0, "nanometer": 1e-3, "millimeter": 1e3, "centimeter": 1e4, "meter": 1e6}


def is_image(path: Path) -> bool:
    """Whether a folder is an OME-Zarr with pixels in it, and not a label image alone."""
    if not is_store(path):
        return False
    try:
        about = attributes(path)
    except (OSError, ValueError):
        return False
    return bool(about.get("multiscales")) and "image-label" not in about


def is_store(path: Path) -> bool:
    """Whether a folder is a zarr group."""
    return path.is_dir() and any((path / name).is_file() for name in _METADATA)


@dataclass(frozen=True)
class Store:
    """An open OME-Zarr image; ``levels`` are its zarr arrays, the finest first."""

    path: Path
    axes: tuple[str, ...]
    levels: tuple[Any, ...]
    names: tuple[str, ...]
    pixel_size_um: float | None
    notes: tuple[str, ...]

    @property
    def axis(self) -> str:
        """``"Z"`` or ``"T"`` where there are several planes."""
        counted = [
            name for name, side in zip(self.axes, self.levels[0].shape, strict=True) if name in "zt" and side > 1
        ]
        return counted[0].upper() if counted else ""

    @property
    def planes(self) -> int:
        """How many planes there are."""
        return int(self.levels[0].shape[self.axes.index(self.axis.lower())]) if self.axis else 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """(C, Y, X) of one plane."""
        shape = dict(zip(self.axes, self.levels[0].shape, strict=True))
        return int(shape.get("c", 1)), int(shape["y"]), int(shape["x"])

    def read(self, box: Box, plane: int | None = None, level: int = 0) -> NDArray[Any]:
        """Pixels of a box as (C, y, x), in the type stored."""
        top, left, bottom, right = box
        place = {"y": slice(top, bottom), "x": slice(left, right), "c": slice(None)}
        place[self.axis.lower()] = slice(plane or 0, (plane or 0) + 1)
        key = tuple(place.get(name, slice(0, 1)) for name in self.axes)
        data = guarded(self.path, lambda: np.asarray(self.levels[level][key]))
        order = sorted(range(len(self.axes)), key=lambda i: "tzcyx".index(self.axes[i]))
        return data.transpose(order).reshape(-1, bottom - top, right - left)


def open_store(path: Path) -> Store:
    """Open an OME-Zarr image without reading pixels.

    Raises
    ------
    UserError
        No image in it, axes other than t, z, c, y, x, both depth and time, a codec that is not let through, damage.
    """
    return guarded(path, lambda: _open(path))


def _open(path: Path) -> Store:
    import zarr

    about = attributes(path)
    scales = about.get("multiscales") or []
    if not scales:
        raise UserError(f"{path}: is no OME-Zarr image; give the folder that holds one")
    first = scales[0]
    levels = []
    for dataset in first["datasets"]:
        check_codecs(path, path / str(dataset["path"]))
        levels.append(zarr.open_array(path / str(dataset["path"]), mode="r"))
    named = [axis["name"] if isinstance(axis, dict) else axis for axis in first.get("axes", ())]
    axes = tuple(str(name).lower() for name in named or "tczyx"[-levels[0].ndim :])
    if len(axes) != levels[0].ndim or not {"y", "x"} <= set(axes) <= set("tzcyx") or len(set(axes)) != len(axes):
        raise UserError(f"{path}: has axes {', '.join(axes)}; t, z, c, y and x are read")
    shape = dict(zip(axes, levels[0].shape, strict=True))
    if shape.get("z", 1) > 1 and shape.get("t", 1) > 1:
        raise UserError(f"{path}: has planes in depth and in time; split it, so that it is a stack or a time lapse")
    count = int(shape.get("c", 1))
    labels = [str(c.get("label") or "") for c in (about.get("omero") or {}).get("channels", []) if isinstance(c, dict)]
    names = tuple(labels) if len(labels) == count and all(labels) else default_names(count)
    notes = (f"holds {len(scales)} images; the first is used",) if len(scales) > 1 else ()
    return Store(path, axes, tuple(levels), names, _pixel_size(first, axes), notes)


def read_plane(path: Path, *, plane: int | None = None, pixels: bool = True) -> Plane:
    """Header, and with ``pixels`` the data, of one plane; as `tiff.read_plane`.

    Raises
    ------
    UserError
        As `open_store`; a stack of which no plane was named.
    """
    store = open_store(path)
    channels, height, width = store.shape
    if height < 1 or width < 1:
        check_size(path, height, width, channels)
    data = None
    if pixels:
        check_plane(path, plane, store.axis, store.planes)
        data = store.read((0, 0, height, width), plane)
    dtype = np.dtype(store.levels[0].dtype)
    return Plane(store.shape, dtype, store.names, store.pixel_size_um, store.notes, data, store.axis, store.planes)


def guarded(path: Path, work: Callable[[], T]) -> T:
    """What ``work`` returns; whatever a broken store raises becomes one line."""
    try:
        return work()
    except (UserError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise UserError(f"{path}: a part of it is missing ({one_line(error)}); copy it again") from error
    except Exception as error:  # a broken store raises nearly anything
        raise UserError(f"{path}: is a broken OME-Zarr ({one_line(error)}); export it again") from error


def attributes(group: Path) -> dict[str, Any]:
    """The OME attributes of a group, of version 0.5 or before."""
    if (group / "zarr.json").is_file():
        found = json.loads((group / "zarr.json").read_text(encoding="utf-8")).get("attributes", {})
        return dict(found.get("ome", found))
    file = group / ".zattrs"
    return dict(json.loads(file.read_text(encoding="utf-8"))) if file.is_file() else {}


def check_codecs(path: Path, array: Path) -> None:
    """Refuse codecs that could do more than unpack numbers, before anything is decoded."""
    if (array / "zarr.json").is_file():
        found = _codec_names(json.loads((array / "zarr.json").read_text(encoding="utf-8")).get("codecs", []))
    else:
        about = json.loads((array / ".zarray").read_text(encoding="utf-8"))
        found = _codec_names([about.get("compressor"), *(about.get("filters") or [])])
    bad = sorted(found - _CODECS)
    if bad:
        raise UserError(f"{path}: is packed with “{bad[0]}”, which is not read here; save it with blosc, gzip or zstd")


def _codec_names(codecs: Any) -> set[str]:
    """Names of codecs, those within a sharding codec too."""
    if isinstance(codecs, list):
        return set().union(*(_codec_names(codec) for codec in codecs))
    if not isinstance(codecs, dict):
        return set()
    own = {str(codecs[key]).removeprefix("numcodecs.") for key in ("id", "name") if key in codecs}
    inner = codecs.get("configuration")
    parts = [inner.get(key, []) for key in ("codecs", "index_codecs")] if isinstance(inner, dict) else []
    return own.union(*(_codec_names(part) for part in parts))


def _pixel_size(multiscale: dict[str, Any], axes: tuple[str, ...]) -> float | None:
    """Edge of a pixel in µm, where the store says something believable and pixels are square."""
    described = multiscale.get("axes") or []
    factors = [1.0] * len(axes)
    for transform in (
        *multiscale["datasets"][0].get("coordinateTransformations", ()),
        *multiscale.get("coordinateTransformations", ()),
    ):
        if transform.get("type") == "scale" and len(transform.get("scale", ())) == len(axes):
            factors = [a * float(b) for a, b in zip(factors, transform["scale"], strict=True)]
    sizes = []
    for name in "yx":
        axis = described[axes.index(name)] if described else {}
        unit = axis.get("unit") if isinstance(axis, dict) else None
        sizes.append(factors[axes.index(name)] * _UNITS_UM.get(str(unit).lower(), np.nan))
    if not np.isfinite(sizes).all() or abs(sizes[0] - sizes[1]) > 0.02 * max(sizes):
        return None
    return round(sizes[0], 6) if BELIEVABLE_UM[0] <= sizes[0] <= BELIEVABLE_UM[1] else None
