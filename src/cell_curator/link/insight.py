"""What the network saw: how likely each pixel is a cell, and the direction of the flow, as image layers.

Hue is the direction and brightness the length of the flow, as in Cellpose's own window.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.components import ViewerModel

    from cell_curator.engines.segmenter import Segmentation

PROBABILITY = "cell probability"
FLOW = "flow"


def show_insight(viewer: ViewerModel, found: Segmentation, affine: NDArray[np.float64], index: int) -> None:
    """Add both layers at ``index`` of the layer list, below the cells."""
    from napari.layers import Image

    hide_insight(viewer)
    if not found.cell_probability.size:
        return
    active = viewer.layers.selection.active
    place = affine @ _place(found)
    probability = 1.0 / (1.0 + np.exp(-found.cell_probability.astype(np.float32)))
    viewer.layers.insert(
        index,
        Image(probability, name=PROBABILITY, colormap="magma", contrast_limits=(0, 1), affine=place, opacity=0.8),
    )
    viewer.layers.insert(index, Image(flow_colors(found.flow), name=FLOW, rgb=True, affine=place, visible=False))
    viewer.layers.selection.active = active


def hide_insight(viewer: ViewerModel) -> None:
    """Take both layers out of the viewer."""
    for name in (PROBABILITY, FLOW):
        if name in viewer.layers:
            viewer.layers.remove(name)


def flow_colors(flow: NDArray[np.floating]) -> NDArray[np.uint8]:
    """``(2, y, x)`` flow (y, x) as ``(y, x, 3)`` uint8 colours."""
    down, across = flow.astype(np.float32)
    length = np.hypot(down, across)
    top = float(np.percentile(length, 99)) or 1.0
    hue = (np.degrees(np.arctan2(down, across)) % 360) / 2
    hsv = np.stack([hue, np.full_like(hue, 255), 255 * np.clip(length / top, 0, 1)], -1).astype(np.uint8)
    return np.asarray(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB), np.uint8)


def _place(found: Segmentation) -> NDArray[np.float64]:
    """From pixels as the network saw them to pixels of the image."""
    if found.place is None:
        (top, left), (height, width) = (0, 0), found.labels.shape
    else:
        rows, columns = found.place.window
        top, left, height, width = rows.start, columns.start, rows.stop - rows.start, columns.stop - columns.start
    down, across = (whole / own for whole, own in zip((height, width), found.cell_probability.shape, strict=True))
    return np.array([(down, 0, top + (down - 1) / 2), (0, across, left + (across - 1) / 2), (0, 0, 1)])
