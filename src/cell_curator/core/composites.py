"""Pictures in which the type of every cell is known, made of cells of pictures that hold one type each.

To tell how well types are told where they are mixed, cells are cut out with the background beside them and put
into one picture, side by side. Background grey levels are brought together first, since each picture has its own, and
that alone would give the type away. Neighbours are not cut out along, so cells of a composite never touch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_FEATHER = 4.0  # px over which the cut-out passes into the background of the composite
_TRIES = 60


@dataclass(frozen=True)
class Crop:
    """One cell cut out: ``pixels`` ``(Y, X)`` float64 less the background, ``mask`` ``(Y, X)``, its type."""

    pixels: NDArray[np.float64]
    mask: NDArray[np.bool_]
    type: str


@dataclass(frozen=True)
class Composite:
    """``image`` ``(Y, X)`` in the dtype of the crops' pictures, ``labels`` ``(Y, X)`` int32, the type of each label."""

    image: NDArray[np.generic]
    labels: NDArray[np.int32]
    types: dict[int, str]


def cut_cells(
    image: NDArray[np.generic], labels: NDArray[np.integer[Any]], kind: str, margin: int = 12
) -> tuple[list[Crop], NDArray[np.float64]]:
    """Every whole cell of a picture with the background beside it, and a sample of its background.

    Parameters
    ----------
    image, labels
        ``(Y, X)``.
    kind
        The type of all of them.
    margin
        Width of the background that comes along, px. Cells nearer than this to the rim are left out.

    Returns
    -------
    The crops, and grey levels of the background less their median.
    """
    away = ndimage.distance_transform_edt(labels == 0) > margin
    outside = image[away if away.any() else labels == 0].astype(np.float64)
    level = float(np.median(outside)) if outside.size else float(image.min())
    crops = []
    for value, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None or any(
            s.start < margin or s.stop > size - margin for s, size in zip(box, labels.shape, strict=True)
        ):
            continue
        wide = tuple(slice(s.start - margin, s.stop + margin) for s in box)
        part = labels[wide]
        others = (part != 0) & (part != value)
        here = image[wide][part == 0]  # light falls unevenly, so the background beside this cell is its own
        pixels = image[wide].astype(np.float64) - (float(np.median(here)) if here.size else level)
        if others.any():  # what belongs to a neighbour is background here
            others = ndimage.binary_dilation(others, iterations=2) & (part != value)
            pixels[others] = np.median(pixels[part == 0]) if (part == 0).any() else 0.0
        crops.append(Crop(pixels, part == value, kind))
    return crops, outside[:: max(1, outside.size // 20000)] - level


def compose(
    crops: Sequence[Crop],
    background: NDArray[np.float64],
    shape: tuple[int, int],
    rng: np.random.Generator,
    *,
    level: float = 200.0,
    dtype: Any = np.uint16,
) -> tuple[Composite, list[Crop]]:
    """Put as many crops as find a place into one picture; each is mirrored and turned by quarters at random.

    Parameters
    ----------
    background
        Grey levels from which the noise between the cells is drawn.
    level
        Grey level of the background.

    Returns
    -------
    The picture, and the crops that found no place.
    """
    canvas = rng.choice(background, shape) if len(background) else np.zeros(shape)
    labels = np.zeros(shape, np.int32)
    taken = np.zeros(shape, bool)
    types: dict[int, str] = {}
    left = []
    for crop in crops:
        turn, flip = int(rng.integers(4)), bool(rng.integers(2))
        pixels, mask = (np.rot90(part[:, ::-1] if flip else part, turn) for part in (crop.pixels, crop.mask))
        place = _place(taken, pixels.shape, rng)
        if place is None:
            left.append(crop)
            continue
        number = len(types) + 1
        taken[place] = True
        labels[place][mask] = number
        share = _feathered(mask)
        canvas[place] = share * pixels + (1 - share) * canvas[place]
        types[number] = crop.type
    top = np.iinfo(dtype).max if np.issubdtype(dtype, np.integer) else np.inf
    image = np.clip(np.round(canvas + level), 0, top).astype(dtype)
    return Composite(image, labels, types), left


def _place(taken: NDArray[np.bool_], size: tuple[int, ...], rng: np.random.Generator) -> tuple[slice, slice] | None:
    """A free rectangle, or None where none was found."""
    room = (taken.shape[0] - size[0], taken.shape[1] - size[1])
    if min(room) < 0:
        return None
    for _ in range(_TRIES):
        top, left = int(rng.integers(room[0] + 1)), int(rng.integers(room[1] + 1))
        place = (slice(top, top + size[0]), slice(left, left + size[1]))
        if not taken[place].any():
            return place
    return None


def _feathered(mask: NDArray[np.bool_]) -> NDArray[np.float64]:
    """1 on the cell and beside it, falling to 0 at the rim of the crop."""
    inner = np.zeros(mask.shape, bool)
    inner[1:-1, 1:-1] = True
    result: NDArray[np.float64] = np.clip(ndimage.distance_transform_edt(inner) / _FEATHER, 0.0, 1.0)
    result[mask] = 1.0
    return result
