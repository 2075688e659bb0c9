"""One plane of a TIFF file, with its channels, names and pixel size; and writing one.

Reads plain, ImageJ, OME, palette, planar and compressed TIFF through tifffile. Of a stack in depth or a
time lapse one plane is read without decoding the others; a file with both is refused. What becomes
of odd number types is decided in `images`, which is the door to use.
"""

from __future__ import annotations

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile
from numpy.typing import NDArray

from cell_curator.core.edits import Box
from cell_curator.core.jobs import UserError
from cell_curator.io.atomic import atomic_file
from cell_curator.io.tiff_axes import (
    Order,
    check_pieces,
    check_plane,
    order_of,
    size_of_level,
    stored,
    stored_part,
)

MAX_PIXELS = 2**32
"""Images that declare more pixels than this are refused before anything is decoded."""

BELIEVABLE_UM = (0.002, 20.0)
"""Pixel sizes outside (µm) are screen resolutions (72 dpi = 353 µm) or unset fields."""

_UNITS_UM = {
    "micron": 1.0, "microns": 1.0, "micrometer": 1.0, "um": 1.0, "µm": 1.0, "μm": 1.0, "\\u00b5m": 1.0,
    "nm": 1e-3, "mm": 1e3, "cm": 1e4, "m": 1e6, "inch": 25400.0, "pm": 1e-6, "å": 1e-4,
}  # fmt: skip

# Its remarks on broken files would print beside our own one line.
logging.getLogger("tifffile").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class Plane:
    """What a reader knows of an image before (and after) decoding its pixels.

    ``pixels`` is (C, Y, X) in the type stored, or None where only the header was asked for. A stack has
    ``axis`` ``"Z"``, a time lapse ``"T"``, and ``planes`` says how many there are; ``shape`` is that of one.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    channel_names: tuple[str, ...]
    pixel_size_um: float | None
    notes: tuple[str, ...]
    pixels: NDArray[Any] | None
    axis: str = ""
    planes: int = 1


def check_size(path: Path, height: int, width: int, channels: int = 1) -> None:
    """Refuse an image without pixels, one that declares absurdly many, or more than its file can hold.

    Raises
    ------
    UserError
        Names the file and what to do.
    """
    if height < 1 or width < 1:
        raise UserError(f"{path}: has no pixels ({width} × {height}); export the image again")
    samples = height * width * channels
    if samples > MAX_PIXELS:
        raise UserError(
            f"{path}: declares {width} × {height} pixels and {channels} channels, more than "
            f"{MAX_PIXELS / 1e9:.1f} gigapixels; if that is right, cut it into tiles, otherwise export it again"
        )
    # Decoding such a header would fill the memory with zeros; deflate packs at most 1 : 1032.
    if samples > 2**28 and samples > 5000 * path.stat().st_size:
        raise UserError(
            f"{path}: declares {width} × {height} pixels, which cannot be in so small a file; export it again"
        )


def read_plane(path: Path, *, plane: int | None = None, pixels: bool = True, colours: bool = True) -> Plane:
    """Header, and with ``pixels`` the data, of the first image in a TIFF file.

    ``plane`` is the number, from 0, of the plane of a stack whose pixels are wanted. With ``colours`` a colour
    table is applied; without, the stored numbers are returned.

    Raises
    ------
    UserError
        A stack of which no plane was named, depth and time in one file, CMYK, a truncated or damaged file, no
        pixels.
    """
    with _opened(path) as tiff:
        series = tiff.series[0]
        page = series.keyframe
        notes = []
        if len(tiff.series) > 1:
            notes.append(f"holds {len(tiff.series)} images; the first is used")
        order = order_of(path, series, tiff)
        shape = (order.channels, *order.size)
        check_size(path, *order.size, order.channels)
        names = _channel_names(tiff, order)
        data = None
        if pixels:
            check_plane(path, plane, order.axis, order.planes)
            data = order.arrange(stored(path, tiff, series, order, plane))
            data = _as_shown(page, tiff, data) if colours else data
            shape = (data.shape[0], *order.size)
        elif colours and _real_palette(page, tiff):
            shape = (3, *order.size)
        if shape[0] != len(names):
            names = ("red", "green", "blue")[: shape[0]] if shape[0] <= 3 else default_names(shape[0])
        size = _pixel_size(tiff)
        return Plane(shape, np.dtype(series.dtype), names, size, tuple(notes), data, order.axis, order.planes)


def open_windows(path: Path, plane: int | None) -> tuple[Callable[[Box, int], NDArray[Any]], list[tuple[int, int]]]:
    """A function that reads ``(C, y, x)`` of a box at a level of one plane, and the size of each level, finest first.

    The file is opened for each window, so that none is held open and any thread may ask.

    Raises
    ------
    UserError
        As `read_plane`; a large image that is packed in one piece.
    """

    def window(box: Box, level: int) -> NDArray[Any]:
        with _opened(path) as tiff:
            series = tiff.series[0]
            order = order_of(path, series, tiff)
            data = order.arrange_part(stored_part(path, tiff, series.levels[level], order, plane, box))
            return _as_shown(series.keyframe, tiff, data)

    with _opened(path) as tiff:
        series = tiff.series[0]
        order = order_of(path, series, tiff)
        check_plane(path, plane, order.axis, order.planes)
        check_size(path, *order.size, order.channels)
        sizes = [size_of_level(level, order) for level in series.levels]
        check_pieces(path, series)
    return window, [size for size in sizes if size is not None]


def one_line(error: Exception) -> str:
    """What an error of a library says, fit for the middle of a sentence."""
    return " ".join(str(error).split())[:200] or type(error).__name__


def default_names(channels: int) -> tuple[str, ...]:
    """Names for channels that the file does not name."""
    return tuple(f"channel {i + 1}" for i in range(channels))


def write_tiff(
    path: Path | str,
    image: NDArray[Any],
    *,
    pixel_size_um: float | None = None,
    channel_names: tuple[str, ...] = (),
    axis: str = "C",
) -> None:
    """Write (Y, X) or (C, Y, X) as a zlib-compressed ImageJ-readable TIFF, whole or not at all.

    Parameters
    ----------
    image
        Any real number type. ImageJ's own layout is used where its types allow
        (uint8, uint16, float32), so names and pixel size show up there too.
    pixel_size_um
        Edge of a pixel in µm.
    channel_names
        One per channel.
    axis
        What the first of three axes is: ``"C"``, or ``"Z"`` or ``"T"`` for a stack.

    Raises
    ------
    UserError
        The disk is full, or the place cannot be written to.
    ValueError
        ``image`` has other than two or three dimensions.
    """
    if image.ndim not in (2, 3):
        raise ValueError(f"expected (Y, X) or (C, Y, X), got shape {image.shape}")
    axes = f"{axis}YX" if image.ndim == 3 else "YX"
    options: dict[str, Any] = {"metadata": {"axes": axes}}
    if image.dtype in (np.uint8, np.uint16, np.float32):
        options["imagej"] = True
        options["metadata"]["unit"] = "micron" if pixel_size_um else "pixel"
        if len(channel_names) == (len(image) if image.ndim == 3 else 1):
            options["metadata"]["Labels"] = list(channel_names)
    if pixel_size_um:
        per_unit = 1.0 / pixel_size_um
        if "imagej" not in options:
            per_unit, options["resolutionunit"] = per_unit * 1e4, "CENTIMETER"
        options["resolution"] = (per_unit, per_unit)
    with atomic_file(path) as file:
        tifffile.imwrite(file, image, photometric="minisblack", compression="zlib", **options)


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tifffile.TiffFile]:
    """The file, with whatever a damaged one makes tifffile raise turned into one line."""
    try:
        with contextlib.ExitStack() as stack:
            tiff = stack.enter_context(tifffile.TiffFile(path))
            if tiff.series and tiff.series[0].is_multifile:
                # An OME file naming others as its channels: each file is an image of its own here.
                tiff = stack.enter_context(tifffile.TiffFile(path, is_ome=False))
            if not tiff.series:
                raise UserError(f"{path}: is a TIFF file without an image; export the image again")
            yield tiff
    except (UserError, MemoryError):
        raise
    except OSError as error:
        raise UserError(
            f"{path}: cannot be read ({error.strerror or error}); check that the file is still there"
        ) from error
    except Exception as error:  # every codec has its own kinds of error
        raise UserError(f"{path}: is damaged or cut short ({one_line(error)}); copy or export it again") from error


def _colours(page: Any) -> NDArray[np.uint8] | None:
    """(256 or 65536, 3) colours of a palette image."""
    if page.photometric != tifffile.PHOTOMETRIC.PALETTE or page.colormap is None:
        return None
    colours = np.asarray(page.colormap).T
    return (colours >> 8).astype(np.uint8) if colours.max() > 255 else colours.astype(np.uint8)


def is_ramp(colours: NDArray[Any]) -> bool:
    """Whether a colour table (N, 3) only tints grey levels, so that the stored values are the measurement."""
    return bool((np.diff(colours.astype(int), axis=0) >= 0).all())


def _real_palette(page: Any, tiff: tifffile.TiffFile) -> bool:
    """Whether the stored numbers are names of colours rather than brightness.

    ImageJ writes every look-up table as a palette, on measurements and label images alike.
    """
    colours = _colours(page)
    return colours is not None and not tiff.is_imagej and not is_ramp(colours)


def _as_shown(page: Any, tiff: tifffile.TiffFile, data: NDArray[Any]) -> NDArray[Any]:
    """Apply the colour table, and turn "white is zero" round. ImageJ files hold measurements as they are."""
    if tiff.is_imagej:
        return data
    white_is_zero = page.photometric == tifffile.PHOTOMETRIC.MINISWHITE and data.dtype.kind in "bu"
    if white_is_zero and not tiff.is_shaped:  # tifffile itself marks bool arrays so, without meaning it
        return ~data
    colours = _colours(page)
    if colours is None or len(data) != 1:
        return data
    if is_ramp(colours):
        grey = bool((colours == colours[:, :1]).all())
        return colours[:, 0][data] if grey and data.dtype == np.uint8 else data
    return np.ascontiguousarray(np.moveaxis(colours[data[0]], -1, 0))


def _channel_names(tiff: tifffile.TiffFile, order: Order) -> tuple[str, ...]:
    """From OME or ImageJ where they name every channel, else red/green/blue or numbers."""
    count = order.channels
    names: list[str] = []
    if tiff.is_ome:
        names = [c.get("Name") or "" for c in _ome_elements(tiff, "Channel")]
    elif tiff.is_imagej and tiff.imagej_metadata:
        labels = tiff.imagej_metadata.get("Labels") or []
        names = [str(label).split("\n")[0] for label in ([labels] if isinstance(labels, str) else labels)]
    if len(names) == count and all(names):
        return tuple(names)
    return ("red", "green", "blue") if order.rgb and count == 3 else default_names(count)


def _ome_elements(tiff: tifffile.TiffFile, name: str) -> list[ElementTree.Element]:
    """Elements called ``name`` of the first image in the OME header; none where it is damaged."""
    with contextlib.suppress(ElementTree.ParseError):
        root = ElementTree.fromstring(tiff.ome_metadata or "<OME/>")
        image = next((e for e in root.iter() if _bare(e) == "Image"), root)
        return [e for e in image.iter() if _bare(e) == name]
    return []


def _bare(element: ElementTree.Element) -> str:
    return re.sub(r"^\{.*\}", "", element.tag)


def _pixel_size(tiff: tifffile.TiffFile) -> float | None:
    """Edge of a pixel in µm, where the file says something believable and pixels are square."""
    sizes: list[float] = []
    if tiff.is_ome:
        for pixels in _ome_elements(tiff, "Pixels")[:1]:
            for axis in "XY":
                unit = _UNITS_UM.get(pixels.get(f"PhysicalSize{axis}Unit", "µm").lower())
                with contextlib.suppress(ValueError):
                    sizes.append(float(pixels.get(f"PhysicalSize{axis}", "nan")) * (unit or np.nan))
    else:
        page = tiff.pages.first
        per_unit = _resolution_unit_um(tiff, page)
        for tag in ("XResolution", "YResolution"):
            value = page.tags.valueof(tag)
            if per_unit and isinstance(value, tuple) and value[0] > 0:
                sizes.append(per_unit * value[1] / value[0])
    if len(sizes) != 2 or not np.isfinite(sizes).all() or abs(sizes[0] - sizes[1]) > 0.02 * max(sizes):
        return None
    return round(sizes[0], 6) if BELIEVABLE_UM[0] <= sizes[0] <= BELIEVABLE_UM[1] else None


def _resolution_unit_um(tiff: tifffile.TiffFile, page: Any) -> float | None:
    """Micrometres in the unit that the resolution tags count in."""
    if tiff.is_imagej:
        unit = str((tiff.imagej_metadata or {}).get("unit", "")).lower()
        return _UNITS_UM.get(unit)
    units = {2: 25400.0, 3: 1e4, 4: 1e3, 5: 1.0}
    return units.get(int(page.tags.valueof("ResolutionUnit", 2)))
