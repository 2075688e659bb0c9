"""Further columns for tables of cells: lengths in µm, and intensities of each channel.

`core.measure` gives px and, of several channels, the brightest; here the same figures are brought to
µm where an image says how large its pixels are, and grey levels are taken channel by channel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, each
from cell_curator.io.formats.base import Content
from cell_curator.io.records import ImageRecord

_LENGTHS = ("y", "x", "perimeter", "major_axis", "minor_axis")


def in_micrometres(cells: pd.DataFrame, pixel_size_um: Mapping[int, float | None]) -> pd.DataFrame:
    """Columns ``y_um``, …, ``area_um2`` for the rows of a cell table; none if no image tells its pixel size.

    Parameters
    ----------
    pixel_size_um
        Edge of a pixel by image id; NaN in the rows of images that have None.
    """
    size = cells["image"].map({image: value for image, value in pixel_size_um.items() if value}).astype("float64")
    if size.isna().all():
        return pd.DataFrame(index=cells.index)
    columns = {f"{name}_um": cells[name] * size for name in _LENGTHS}
    return pd.DataFrame({**columns, "area_um2": cells["area"] * size**2}, index=cells.index)


def by_channel(content: Content) -> Job[pd.DataFrame]:
    """Columns ``mean_<channel>``, ``std_…``, ``min_…``, ``max_…`` by cell id; none if no image has several channels."""
    parts: list[pd.DataFrame] = []

    def one(record: ImageRecord) -> Job[None]:
        image = content.load(record)
        if len(image.cells):
            levels = _grey_levels(image.labels, image.pixels(), record.channel_names)
            parts.append(levels.reindex(image.cells["label"]).set_axis(image.cells.index))
        yield from ()

    several = [record for record in content.records if record.shape[0] > 1]
    yield from each(several, one, name=lambda record: record.name)
    return pd.concat(parts) if parts else pd.DataFrame(index=pd.Index([], dtype="int64", name="cell_id"))


def _grey_levels(labels: NDArray[np.int32], pixels: NDArray[Any], names: tuple[str, ...]) -> pd.DataFrame:
    """One row for each label, ascending; columns in the order of the channels."""
    inside = np.flatnonzero(labels)
    values, cell, count = np.unique(labels.ravel()[inside], return_inverse=True, return_counts=True)
    order = np.argsort(cell, kind="stable")
    starts = np.concatenate([[0], np.cumsum(count)[:-1]]).astype(np.intp)
    columns: dict[str, NDArray[np.float64]] = {}
    for name, channel in zip(_unique(names, len(pixels)), pixels, strict=True):
        levels = channel.ravel()[inside][order].astype(np.float64)
        mean = np.add.reduceat(levels, starts) / count
        spread = np.add.reduceat((levels - np.repeat(mean, count)) ** 2, starts) / count
        columns[f"mean_{name}"] = mean
        columns[f"std_{name}"] = np.sqrt(spread)
        columns[f"min_{name}"] = np.minimum.reduceat(levels, starts)
        columns[f"max_{name}"] = np.maximum.reduceat(levels, starts)
    return pd.DataFrame(columns, index=values)


def _unique(names: tuple[str, ...], count: int) -> list[str]:
    """One name for each channel, no two the same."""
    given = [names[n] if n < len(names) else f"channel {n + 1}" for n in range(count)]
    return [name if given.count(name) == 1 else f"{name} ({n + 1})" for n, name in enumerate(given)]
