"""What is measured on every cell, from its mask and the original pixels.

Shapes come from the label image, intensities and focus from the original image (grey levels
of the file), so that figures do not change when the preprocessing does.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.edits import Box, among, grown, window

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
}
"""Column name → dtype. Lengths in px, areas in px², positions in px (centroid), boxes half-open.

``orientation_deg``: direction of the long axis, counter-clockwise from the image's x axis, (-90, 90].
``focus``: variance of the Laplacian within the cell divided by its intensity variance (no unit;
higher is sharper). Shapes as in `skimage.measure.regionprops`.
"""

_FOCUS_PX = 8  # how far around a pixel its focus looks: 4 for the Gaussian, 1 for the Laplacian, and some

_SHAPES = ("label", "centroid", "bbox", "area", "perimeter", "axis_major_length", "axis_minor_length")
_MORE_SHAPES = ("eccentricity", "solidity", "orientation")


def measure(labels: NDArray[np.int32], image: NDArray[np.generic]) -> pd.DataFrame:
    """Measure every cell of one image.

    Parameters
    ----------
    labels
        ``(Y, X)`` integers, 0 = background.
    image
        ``(C, Y, X)`` or ``(Y, X)``; of several channels the brightest value of each pixel counts.

    Returns
    -------
    DataFrame indexed by label value (ascending), with the columns of `MEASURED`.
    """
    from skimage.measure import regionprops_table

    grey = image.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.max(axis=0)
    with warnings.catch_warnings():
        # Cells of one or two pixels have no hull; scikit-image says so once for each.
        warnings.simplefilter("ignore")
        table = pd.DataFrame(regionprops_table(labels, properties=_SHAPES + _MORE_SHAPES))
    table = table.rename(
        columns={
            "centroid-0": "y",
            "centroid-1": "x",
            "bbox-0": "top",
            "bbox-1": "left",
            "bbox-2": "bottom",
            "bbox-3": "right",
            "axis_major_length": "major_axis",
            "axis_minor_length": "minor_axis",
        }
    ).set_index("label")
    # scikit-image measures from the row axis; biologists from the horizontal, counter-clockwise.
    degrees = np.degrees(table.pop("orientation").to_numpy(float)) + 90.0
    table["orientation_deg"] = -((-degrees + 90.0) % 180.0 - 90.0)
    height, width = labels.shape
    table["touches_border"] = (
        (table["top"] == 0) | (table["left"] == 0) | (table["bottom"] == height) | (table["right"] == width)
    )
    for name, values in _intensities(labels, grey).items():
        table[name] = values
    return table[list(MEASURED)].astype(MEASURED)


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
    place = grown(box, _FOCUS_PX, labels.shape)
    part = labels[window(place)]
    table = measure(np.where(among(part, values), part, 0), image[(..., *window(place))])
    for names, offset in ((["y", "top", "bottom"], place[0]), (["x", "left", "right"], place[1])):
        table[names] += offset
    height, width = labels.shape
    table["touches_border"] = (
        (table["top"] == 0) | (table["left"] == 0) | (table["bottom"] == height) | (table["right"] == width)
    )
    return table


def _intensities(labels: NDArray[np.int32], grey: NDArray[np.float32]) -> dict[str, NDArray[np.float64]]:
    """Grey levels and focus of every cell, in ascending order of label."""
    laplacian = cv2.Laplacian(cv2.GaussianBlur(grey, (0, 0), 1.0), cv2.CV_32F)
    cells = np.flatnonzero(labels)
    cells = cells[np.argsort(labels.ravel()[cells], kind="stable")]
    counts = np.unique(labels.ravel()[cells], return_counts=True)[1]
    values = grey.ravel()[cells].astype(np.float64)
    variance = _variance(values, counts)
    return {
        "mean_intensity": _per_cell(np.add, values, counts) / counts,
        "std_intensity": np.sqrt(variance),
        "min_intensity": _per_cell(np.minimum, values, counts),
        "max_intensity": _per_cell(np.maximum, values, counts),
        "focus": _variance(laplacian.ravel()[cells].astype(np.float64), counts) / np.maximum(variance, 1e-12),
    }


def _per_cell(operation: np.ufunc, values: NDArray[np.float64], counts: NDArray[np.intp]) -> NDArray[np.float64]:
    """Reduce runs of ``counts`` values each."""
    if not len(counts):
        return np.empty(0)
    starts = np.concatenate(([0], np.cumsum(counts)[:-1]))
    reduced: NDArray[np.float64] = operation.reduceat(values, starts)
    return reduced


def _variance(values: NDArray[np.float64], counts: NDArray[np.intp]) -> NDArray[np.float64]:
    means = _per_cell(np.add, values, counts) / counts
    return _per_cell(np.add, (values - np.repeat(means, counts)) ** 2, counts) / counts
