"""Which cell lies against which, and for how long a stretch of its outline."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.edits import Box, grown, window

NEAR_PX = 3
"""Cells that are no farther from each other than this count as neighbours."""


def longest_contact(labels: NDArray[np.integer[Any]], label: int, box: Box, near_px: int = NEAR_PX) -> int | None:
    """The neighbour that shares most of a cell's outline; None if no cell is near.

    Parameters
    ----------
    labels
        ``(Y, X)``, 0 = background.
    label
        The cell whose neighbour is wanted.
    box
        A box ``(top, left, bottom, right)`` that holds the cell, px.
    near_px
        How wide a gap counts as contact. Of two cells the one that touches comes before one across a gap.
    """
    part = labels[window(grown(box, near_px + 1, labels.shape))]
    mask = (part == label).astype(np.uint8)
    for reach in range(1, near_px + 1):
        disc = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * reach + 1, 2 * reach + 1))
        near = part[(cv2.dilate(mask, disc) > 0) & (part != label) & (part != 0)]
        if near.size:
            values, counts = np.unique(near, return_counts=True)
            return int(values[counts.argmax()])
    return None
