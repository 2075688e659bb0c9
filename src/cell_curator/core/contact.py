"""Which cell lies against which, for how long a stretch of its outline, and which see that something changed."""

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


def beside(labels: NDArray[np.integer[Any]], box: Box, changed: NDArray[np.bool_], reach_px: int) -> frozenset[int]:
    """Labels that are there within ``reach_px`` of a change.

    Parameters
    ----------
    labels
        ``(Y, X)``, 0 = background.
    box, changed
        ``(top, left, bottom, right)``, and which of its pixels changed.
    """
    wide = grown(box, reach_px, labels.shape)
    where = np.zeros((wide[2] - wide[0], wide[3] - wide[1]), np.uint8)
    top, left = box[0] - wide[0], box[1] - wide[1]
    where[top : top + changed.shape[0], left : left + changed.shape[1]] = changed
    near = cv2.dilate(where, np.ones((2 * reach_px + 1, 2 * reach_px + 1), np.uint8)) > 0
    return frozenset(int(value) for value in np.unique(labels[window(wide)][near]) if value)
