"""What is measured on every cell, from its mask and the original pixels.

Shapes come from the label image, intensities and focus from the original image (grey levels
of the file), so that figures do not change when the preprocessing does. What tells a good mask from a
bad one is measured too: contrast, the step across the outline, humps, contact with neighbours.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.edits import Box, among, grown, window
from cell_curator.core.grey_levels import length
from cell_curator.core.measure_cells import FIGURES, PAD, boxes, figures

MEASURED: dict[str, str] = {
    "y": "float64",
    "x": "float64",
    "top": "int64",
    "left": "int64",
    "bottom": "int64",
    "right": "int64",
    "area": "float64",
    "perimeter": "float64",
    "major_axis": "float64",
    "minor_axis": "float64",
    "eccentricity": "float64",
    "solidity": "float64",
    "orientation_deg": "float64",
    "mean_intensity": "float64",
    "std_intensity": "float64",
    "min_intensity": "float64",
    "max_intensity": "float64",
    "focus": "float64",
    "touches_border": "bool",
    "saturated": "float64",
    "surround": "float64",
    "contrast": "float64",
    "texture_contrast": "float64",
    "offset": "float64",
    "edge": "float64",
    "edge_share": "float64",
    "edge_weakest": "float64",
    "contact": "float64",
    "seam_dip": "float64",
    "seam_bend": "float64",
    "joint_solidity": "float64",
    "joint_area": "float64",
    "neck": "float64",
    "valley": "float64",
    "overlapped": "float64",
    "pieces": "float64",
    "elsewhere": "float64",
    "elsewhere_texture": "float64",
    "lopsided": "float64",
    "core": "float64",
    "halo": "float64",
    "halves": "float64",
    "two_tone": "float64",
    "fold": "float64",
    "grain": "float64",
}
"""Column name → dtype. Lengths in px, areas in px², positions in px (centroid), boxes half-open.

``orientation_deg``: direction of the long axis, counter-clockwise from the image's x axis, (-90, 90].
``focus``: variance of the Laplacian within the cell divided by its intensity variance (no unit;
higher is sharper). Shapes as in `skimage.measure.regionprops`.

The rest tells how well the mask sits; all without unit unless said, and NaN where it cannot be known:

- ``saturated``: share of the cell at the highest grey level.
- ``surround``: mean grey level of the background within 6 px. ``contrast``: correlation of inside or outside
  with grey level, −1 (dark cell) to 1; ``texture_contrast``: the same with the length of the gradient.
- ``offset``: from the middle of the mask to the middle of what stands out from the background, in radii.
- ``edge``: mean step across the outline, ``edge_weakest`` of its weakest eighth, in units of the spread of grey
  levels; ``edge_share``: part of the outline that is brighter inside.
- ``contact``: part of the outline within 2 px of another cell. With the neighbour it touches most: ``seam_dip``, how
  far grey levels between the two fall; ``seam_bend``, 0 for a straight seam; ``joint_area`` (px²), ``joint_solidity``.
- ``neck``: how narrow the narrowest place between two thick parts is, 0 (one part) to 1; ``valley``: how far the grey
  level falls between two bright parts. ``overlapped``: part of the convex hull that other cells cover.
- ``pieces``: number.
- ``elsewhere``: how much more would stand out from the background under the mask if it were moved by up to a radius
  (logarithm of the ratio); ``elsewhere_texture`` the same of the length of the gradient; ``lopsided``: from the middle
  of the mask to the middle of the gradients in it, in radii.
- ``core``: grey level of the middle less that of the rim; ``halo``: next to the cell less farther away; both in units
  of the spread of grey levels, as ``two_tone``, the difference of the two halves of the cell, and ``fold``, how far
  grey levels fall on the line between them. ``halves``: solidity of both halves together.
- ``grain``: root mean square of what smoothing (σ 1 px) takes away, grey levels.
"""

_MARGIN = PAD + 8  # further than any figure but the joint ones looks, pictures included
_TABLE = 1 << 24  # labels up to here are looked up in a table
_FLAT = 0.003  # of the range of the image: what varies less is taken for flat


def median_diameter(images: Iterable[NDArray[np.int32]]) -> float:
    """Median diameter of all cells of these label images, as if they were round, px; 0 without cells."""
    areas = np.concatenate([np.zeros(0, np.intp), *(np.bincount(labels.ravel())[1:] for labels in images)])
    areas = areas[areas > 0]
    return float(2 * np.sqrt(np.median(areas) / np.pi)) if len(areas) else 0.0


def measure(
    labels: NDArray[np.int32], image: NDArray[np.generic], values: Collection[int] | None = None
) -> pd.DataFrame:
    """Measure the cells of one image.

    Parameters
    ----------
    labels
        ``(Y, X)`` integers, 0 = background.
    image
        ``(C, Y, X)`` or ``(Y, X)``; of several channels the brightest value of each pixel counts.
    values
        Only these labels; the others are neighbours all the same.

    Returns
    -------
    DataFrame indexed by label value (ascending), with the columns of `MEASURED`.
    """
    return _table(labels, image, values, _levels(image))


def measure_part(
    labels: NDArray[np.int32], image: NDArray[np.generic], values: Collection[int], box: Box
) -> pd.DataFrame:
    """Measure some cells of an image, all of whose pixels lie in ``box``; the same figures as `measure` gives.

    Parameters
    ----------
    labels, image
        As for `measure`.
    values
        Labels of the cells.
    """
    # a neighbour is looked at as far away as the cell is large
    place = grown(box, _MARGIN + max(box[2] - box[0], box[3] - box[1]), labels.shape)
    table = _table(labels[window(place)], image[(..., *window(place))], values, _levels(image))
    for names, offset in ((["y", "top", "bottom"], place[0]), (["x", "left", "right"], place[1])):
        table[names] += offset
    return _bordering(table, labels.shape)


def measure_window(
    labels: NDArray[np.int32],
    image: NDArray[np.generic],
    values: Collection[int],
    corner: tuple[int, int],
    shape: tuple[int, int],
    levels: tuple[float, float],
) -> pd.DataFrame:
    """As `measure_part`, from a window of an image that is not held as a whole.

    Parameters
    ----------
    labels, image
        Of the window, which reaches `around` px beyond the cells.
    corner
        Its first row and column in the image.
    shape
        (Y, X) of the image.
    levels
        Smallest and largest grey level of the whole image.
    """
    top = 255.0 if image.dtype == np.uint8 else levels[1]
    table = _table(labels, image, values, (levels[0], top))
    for names, offset in ((["y", "top", "bottom"], corner[0]), (["x", "left", "right"], corner[1])):
        table[names] += offset
    return _bordering(table, shape)


def around(diameter: float) -> int:
    """How far beyond cells of a diameter, px, their measurements look."""
    return _MARGIN + int(2 * diameter)


def _levels(image: NDArray[np.generic]) -> tuple[float, float]:
    """Lowest grey level, and the one from which pixels are saturated."""
    if not image.size:
        return 0.0, 0.0
    numbers: NDArray[Any] = image
    return float(np.nanmin(numbers)), 255.0 if image.dtype == np.uint8 else float(np.nanmax(numbers))


def _table(
    labels: NDArray[np.int32], image: NDArray[np.generic], values: Collection[int] | None, levels: tuple[float, float]
) -> pd.DataFrame:
    labels = np.require(labels, np.int32, ["C", "W"])  # of read-only ones all would be compiled a second time
    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.max(axis=0)
    grey = np.ascontiguousarray(np.nan_to_num(grey))
    there = np.unique(labels[labels > 0])
    if values is not None:
        there = there[among(there, values)]
    seen, rows = labels, np.full(int(labels.max(initial=0)) + 1 if labels.max(initial=0) < _TABLE else 1, -1)
    if len(rows) == 1 and len(there):
        seen = np.where(labels > 0, np.searchsorted(there, labels), 0)
        seen = np.where(there[seen.clip(0, len(there) - 1)] == labels, seen + 1, 0).astype(np.int32)
        rows = np.arange(-1, len(there))
    else:
        rows[there] = np.arange(len(there))
    where = boxes(seen, rows, len(there))
    smooth = cv2.GaussianBlur(grey, (0, 0), 1.0)
    gx, gy = (cv2.Sobel(smooth, cv2.CV_32F, dx, 1 - dx, scale=0.125) for dx in (1, 0))
    pictures = (grey, smooth, length(gx, gy), cv2.Laplacian(smooth, cv2.CV_32F))
    low, top = levels
    flat = max((_FLAT * (top - low)) ** 2, 1e-12)
    saturated = top if top > low else np.inf
    found = figures(labels, pictures, there, where, saturated, (flat, flat / 16))
    found += 0.0  # -0 becomes 0: SQLite knows no other, and a table read back is to be the same to the byte
    table = pd.DataFrame(found, columns=list(FIGURES), index=there.astype(np.int64))
    table[["top", "left", "bottom", "right"]] = where
    return _bordering(table.rename_axis("label"), labels.shape)


def _bordering(table: pd.DataFrame, shape: tuple[int, ...]) -> pd.DataFrame:
    """The same with the border of an image of this shape."""
    height, width = shape
    touching = (table["top"] == 0) | (table["left"] == 0) | (table["bottom"] == height) | (table["right"] == width)
    return table.assign(touches_border=touching)[list(MEASURED)].astype(MEASURED)
