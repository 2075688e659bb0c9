"""Label images that formats stumble over; each is (Y, X) int32."""

from __future__ import annotations

import numpy as np


def _touching():
    labels = np.zeros((12, 16), np.int32)
    labels[2:7, 2:8], labels[2:7, 8:13], labels[7:10, 5:9] = 1, 2, 3
    labels[9, 5], labels[10, 4] = 0, 4  # at a corner only
    return labels


def _holes():
    labels = np.zeros((14, 18), np.int32)
    labels[1:12, 1:12] = 5
    labels[3:9, 3:9] = 0
    labels[5:7, 5:7] = 6  # a cell in the hole of another
    labels[10, 10] = 0
    labels[2, 2] = labels[2, 10] = 0
    labels[1:6, 13:17] = 7
    labels[2, 14] = labels[3, 15] = 0  # two holes that touch at a corner
    return labels


def _pieces():
    labels = np.zeros((12, 12), np.int32)
    labels[1:4, 1:4] = labels[8:11, 7:11] = labels[4, 4] = 3  # the third piece touches the first at a corner
    labels[6, 1] = labels[11, 0] = 9
    return labels


def _closed_by_a_corner():
    labels = np.zeros((8, 8), np.int32)
    labels[2:6, 2:6] = 1
    labels[3:5, 3:5] = labels[2, 2] = labels[3, 2] = 0
    labels[2, 3], labels[3, 2] = 1, 1
    return labels


def _border():
    labels = np.zeros((9, 11), np.int32)
    labels[:3, :4], labels[6:, 8:], labels[0, 10], labels[4:, 0] = 1, 2, 3, 4
    return labels


def _noise():
    return np.random.default_rng(7).integers(0, 4, (23, 31)).astype(np.int32)


def _gaps():
    labels = np.zeros((10, 10), np.int32)
    labels[0, 0], labels[3:5, 3:5], labels[7:, 7:] = 3, 70, 4000
    return labels


HARD = {
    "touching": _touching(),
    "holes": _holes(),
    "two pieces": _pieces(),
    "closed by a corner": _closed_by_a_corner(),
    "one pixel": np.pad(np.array([[1]], np.int32), 3),
    "at the border": _border(),
    "full": np.full((5, 6), 1, np.int32),
    "gaps in the numbers": _gaps(),
    "noise": _noise(),
    "empty": np.zeros((7, 9), np.int32),
}


def many(count: int = 66_000) -> np.ndarray:
    """More cells than 16 bits can number, of 2 × 2 pixels."""
    columns = 300
    rows = -(-count // columns)
    labels = np.arange(1, rows * columns + 1, dtype=np.int32).reshape(rows, columns)
    labels[labels > count] = 0
    return labels.repeat(2, axis=0).repeat(2, axis=1)
