"""Cells of an image that is never held as a whole: their patches and measurements, from their rows in the table.

Where each cell lies is known from its row, so only the parts with cells in them are read, each once.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from cell_curator.core.edits import Box, grown
from cell_curator.core.lazy import Lazy, tiles
from cell_curator.core.measure import MEASURED, around, measure_window
from cell_curator.core.patches import Patches, PatchParameters, cut

SIDE = 1024
"""Side in px of the parts that are read at once, before their surroundings."""


def parts(rows: pd.DataFrame) -> Iterator[tuple[Box, NDArray[np.intp]]]:
    """Positions of rows whose cells lie near each other, and the box that holds these cells."""
    block = (rows["y"] // SIDE).astype(int) * 100_000 + (rows["x"] // SIDE).astype(int)
    for found in rows.groupby(block.to_numpy()).indices.values():
        members = np.asarray(found, np.intp)
        near = rows.iloc[members]
        box = near["top"].min(), near["left"].min(), near["bottom"].max(), near["right"].max()
        top, left, bottom, right = (int(side) for side in box)
        yield (top, left, bottom, right), members


def cut_lazily(
    image: Lazy, labels: Lazy, rows: pd.DataFrame, params: PatchParameters | None = None, angle_deg: float = 0.0
) -> Patches:
    """As `patches.cut`, for the cells of these rows."""
    params = params or PatchParameters()
    count, size = len(rows), params.size
    made = Patches(
        np.zeros((count, size, size), np.float32), np.zeros((count, size, size), bool), np.zeros(count, bool)
    )
    for near, members in parts(rows):
        # a turned crop is cut from as much more as its corners need
        largest = int(
            (rows["bottom"] - rows["top"]).iloc[members].max() + (rows["right"] - rows["left"]).iloc[members].max()
        )
        box = grown(near, params.margin + size + largest, image.shape)
        values = rows["label"].iloc[members].tolist()
        some = cut(image.window(box), labels.window(box), values, params, angle_deg)
        made.images[members], made.masks[members], made.clipped[members] = some.images, some.masks, some.clipped
    return made


def measure_lazily(labels: Lazy, image: Lazy, rows: pd.DataFrame) -> pd.DataFrame:
    """As `measure.measure`, for the cells of these rows; indexed by label."""
    levels = (np.inf, -np.inf)
    for box in tiles(image.shape[-2:], 2 * SIDE):
        pixels = image.window(box)
        levels = min(levels[0], float(pixels.min())), max(levels[1], float(pixels.max()))
    shape = (labels.shape[0], labels.shape[1])
    measured = []
    for near, members in parts(rows):
        box = grown(near, around(_widest(rows, members)), shape)
        values = rows["label"].iloc[members].tolist()
        measured.append(measure_window(labels.window(box), image.window(box), values, box[:2], shape, levels))
    empty = pd.DataFrame(columns=list(MEASURED)).astype(MEASURED).rename_axis("label")
    return pd.concat(measured).sort_index() if measured else empty


def _widest(rows: pd.DataFrame, members: NDArray[np.intp]) -> int:
    """The longest side of the boxes of these cells."""
    some = rows.iloc[members]
    return int(max((some["bottom"] - some["top"]).max(), (some["right"] - some["left"]).max()))
