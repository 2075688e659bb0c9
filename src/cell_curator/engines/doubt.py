"""Where a model is least sure of an image: what to correct next.

The network looks twice, once at the image turned by half a circle. Of every piece of the image three
things are asked: how well the shapes of its cells fit the flows, how near the cell probability is to
one half, and whether both looks agree. What a model has learned well it finds from either side.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, scaled
from cell_curator.engines.network import resize
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, segment_image

SIDE = 256
"""Side of a piece, px; pieces at the border are widened to fill the image."""

WORDS = ("shapes do not fit", "unsure what is a cell", "two looks disagree")


@dataclass(frozen=True)
class Place:
    """A piece of an image: its box ``(top, left, bottom, right)`` in px, how doubtful (0..1), and why.

    ``parts`` are the three figures behind the score, each 0..1: shape, probability, agreement.
    """

    box: tuple[int, int, int, int]
    score: float
    why: str
    parts: tuple[float, float, float]


def doubt(image: NDArray[Any], params: SegmentParameters) -> Job[tuple[Place, ...]]:
    """Every piece of an image, the most doubtful first.

    Parameters
    ----------
    image
        As for `segment_image`.

    Raises
    ------
    UserError
        See `segment_image`.
    """
    first: Segmentation = yield from scaled(segment_image(image, params), 0.0, 0.5)
    same = {"diameter": first.diameter, "polarity": "dark" if first.inverted else "bright"} if first.diameter else {}
    turned = np.ascontiguousarray(image[..., ::-1, ::-1])
    second: Segmentation = yield from scaled(segment_image(turned, params.model_copy(update=same)), 0.5, 1.0)
    shape = (first.labels.shape[0], first.labels.shape[1])
    other = second.labels[::-1, ::-1]
    unsure = (_unsure(first, shape) + _unsure(second, shape)[::-1, ::-1]) / 2
    error = first.flow_error[first.labels]
    places = [
        _place(box, error, unsure, first.labels, other)
        for box in ((*rows, *cols) for rows in _edges(shape[0]) for cols in _edges(shape[1]))
    ]
    return tuple(sorted(places, key=lambda place: -place.score))


def _unsure(found: Segmentation, shape: tuple[int, int]) -> NDArray[np.float32]:
    """Entropy of the cell probability in bits, at the size of the image."""
    if not found.cell_probability.size:
        return np.zeros(shape, np.float32)
    p = 1 / (1 + np.exp(-np.clip(found.cell_probability.astype(np.float32), -20, 20)))
    p = np.clip(p, 1e-6, 1 - 1e-6)
    bits = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
    return resize(bits.astype(np.float32), shape)


def _edges(length: int) -> list[tuple[int, int]]:
    count = max(1, round(length / SIDE))
    cuts = np.linspace(0, length, count + 1).round().astype(int).tolist()
    return list(pairwise(cuts))


def _place(
    edges: tuple[int, int, int, int],
    error: NDArray[np.float32],
    unsure: NDArray[np.float32],
    first: NDArray[np.int32],
    second: NDArray[np.int32],
) -> Place:
    top, bottom, left, right = edges
    window = (slice(top, bottom), slice(left, right))
    a, b = first[window], second[window]
    inside = a > 0
    shape = float(np.clip(error[window][inside].mean(), 0, 1)) if inside.any() else 0.0
    either, both = ((a > 0) | (b > 0)).sum(), ((a > 0) & (b > 0)).sum()
    counts = [len(np.unique(part[part > 0])) for part in (a, b)]
    alike = (both / either) * (min(counts) / max(counts)) if either and max(counts) else 1.0
    # A piece without any sign of a cell is not doubtful, however large.
    parts = (shape, float(unsure[window].mean()), 1 - float(alike))
    score = float(np.mean(parts))
    return Place((top, left, bottom, right), score, WORDS[int(np.argmax(parts))], parts)
