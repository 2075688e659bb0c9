"""Files of microscopes (Zeiss CZI, Nikon ND2, Leica LIF) through the readers of ``bioio``.

They are no part of the installation: some are under the GPL and some are large. ``pip install
"napari-cell-curator[formats]"`` brings them; without, one line says so. Channel names and pixel size come from
the file. Of several scenes in a file the first is read. bioio is imported when the first such file is opened.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import UserError
from cell_curator.io.tiff import BELIEVABLE_UM, Plane, check_size, default_names, one_line
from cell_curator.io.tiff_axes import check_plane

T = TypeVar("T")

SUFFIXES = {".czi": "bioio-czi", ".nd2": "bioio-nd2", ".lif": "bioio-lif"}
"""What is read, and by which package."""


def read_plane(path: Path, *, plane: int | None = None, pixels: bool = True) -> Plane:
    """Header, and with ``pixels`` the data, of one plane of the first scene; as `tiff.read_plane`.

    Raises
    ------
    UserError
        The reader is not installed; the file is damaged; depth and time in one file; a stack of which no plane was
        named.
    """
    image = _opened(path)
    axis, planes = _axis(path, image)
    _, channels, _, height, width = (int(side) for side in image.shape[:5])
    check_size(path, height, width, channels)
    data = None
    if pixels:
        check_plane(path, plane, axis, planes)
        data = _guarded(path, lambda: np.asarray(image.get_image_data("CYX", **_at(axis, plane))))
    scenes = len(image.scenes)
    notes = (f"holds {scenes} scenes; the first is used",) if scenes > 1 else ()
    names = tuple(str(name) for name in image.channel_names or ())
    if len(names) != channels or not all(names):
        names = default_names(channels)
    shape = (channels, height, width)
    return Plane(shape, np.dtype(image.dtype), names, _pixel_size(image), notes, data, axis, planes)


def open_windows(path: Path, plane: int | None) -> Callable[[Box, int], NDArray[Any]]:
    """A function that reads ``(C, y, x)`` of a box of one plane; there are no coarser levels."""
    axis, planes = _axis(path, _opened(path))
    check_plane(path, plane, axis, planes)

    def window(box: Box, _level: int) -> NDArray[Any]:
        whole = _opened(path).get_image_dask_data("CYX", **_at(axis, plane))
        return _guarded(path, lambda: np.asarray(whole[:, box[0] : box[2], box[1] : box[3]]))

    return window


def _opened(path: Path) -> Any:
    return _of_file(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=2)
def _of_file(path: Path, _changed: int) -> Any:
    """The open file; opening one reads all its metadata, so the last two stay open."""
    package = SUFFIXES[path.suffix.lower()]
    try:
        from importlib import import_module

        import_module(package.replace("-", "_"))
        make = import_module("bioio").BioImage
    except ImportError:
        raise UserError(
            f"{path}: {path.suffix} files need the package {package}; run `pip install "
            '"napari-cell-curator[formats]"`, or export as TIFF'
        ) from None
    return _guarded(path, lambda: make(path))


def _guarded(path: Path, work: Callable[[], T]) -> T:
    """What ``work`` returns; whatever a reader raises becomes one line."""
    try:
        return work()
    except (UserError, MemoryError):
        raise
    except Exception as error:  # every reader has its own kinds of error
        raise UserError(f"{path}: is damaged or cut short ({one_line(error)}); copy or export it again") from error


def _axis(path: Path, image: Any) -> tuple[str, int]:
    """``"Z"`` or ``"T"`` and the number of planes, where there are several."""
    times, _, depths = (int(side) for side in image.shape[:3])
    if times > 1 and depths > 1:
        raise UserError(f"{path}: has planes in depth and in time; split it, so that it is a stack or a time lapse")
    if times > 1:
        return "T", times
    return ("Z", depths) if depths > 1 else ("", 1)


def _at(axis: str, plane: int | None) -> dict[str, int]:
    """Which plane that is, as bioio counts them."""
    return {"T": 0, "Z": 0} | ({axis: plane or 0} if axis else {})


def _pixel_size(image: Any) -> float | None:
    """Edge of a pixel in µm, where the file says something believable and pixels are square."""
    sizes = image.physical_pixel_sizes
    down, across = (float(size) if size else np.nan for size in (sizes.Y, sizes.X))
    if not abs(down - across) <= 0.02 * max(down, across):
        return None
    return round(down, 6) if BELIEVABLE_UM[0] <= down <= BELIEVABLE_UM[1] else None
