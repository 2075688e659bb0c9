"""What a Mask R-CNN learns from: images with their cells, of which some have a type, cut into pieces.

Images are scaled by one factor, so that a typical cell has the size that the network is made for. A cell without a
type teaches that there is a cell and where its outline is, but nothing about types, and never that it is background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.core.preprocess import select_channel
from cell_curator.core.recipe import Channel
from cell_curator.engines.augment import AugmentParameters, augment

if TYPE_CHECKING:
    from torch import Tensor

UNKNOWN = -1
"""Number of a cell without a type, for torchvision: neither learned as a type nor as background."""

VARIED = AugmentParameters(turn=0.8, elastic=0.0, clahe=0.0, hue=0.0, light=0.5, noise=0.3, scale=0.8)

_LEAST_SEEN = 0.3  # share of a cell that must lie in a piece for its type to be learned there
_LEAST_PIXELS = 12
_CENTRED = 0.8  # share of pieces that are cut round a cell
_EXTREMES = (1.0, 99.8)


@dataclass(frozen=True)
class TypedImage:
    """One image.

    Parameters
    ----------
    name
        For messages.
    group
        Image, or well, that is never torn apart between learning and judging.
    image
        ``(Y, X)`` or ``(C, Y, X)``.
    labels
        ``(Y, X)`` int32, 0 = background: every cell that there is.
    types
        Type by label; cells that are missing here have none.
    """

    name: str
    group: str
    image: NDArray[Any]
    labels: NDArray[np.int32]
    types: Mapping[int, str]


@dataclass(frozen=True)
class Scaled:
    """One image as the network sees it: ``planes`` ``(3, y, x)`` float32 in 0..1, ``labels`` ``(y, x)``.

    ``numbers`` is the number of the type of each cell, 1.. or `UNKNOWN`; ``areas`` its px.
    """

    name: str
    planes: NDArray[np.float32]
    labels: NDArray[np.int32]
    numbers: Mapping[int, int]
    areas: Mapping[int, int]


def planes_of(image: NDArray[Any], name: str) -> NDArray[np.float32]:
    """``(3, Y, X)`` float32 in 0..1: one grey plane three times, two and one that is empty, or three.

    Raises
    ------
    UserError
        All pixels are equal, or the shape is of no image.
    """
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(f"{name}: an image of shape {image.shape}; give one plane (Y, X) or its channels (C, Y, X)")
    channels = [image] if image.ndim == 2 else list(image)
    if len(channels) > 3:
        channels = [select_channel(image, Channel())]
    stretched = [_stretched(channel) for channel in channels]
    if not any(plane.any() for plane in stretched):
        raise UserError(f"{name}: all pixels are equal, so there is nothing to see; leave this image out")
    if len(stretched) == 1:
        return np.repeat(stretched[0][None], 3, axis=0)
    return np.stack([*stretched, np.zeros_like(stretched[0])][:3])


def _stretched(plane: NDArray[Any]) -> NDArray[np.float32]:
    values = np.nan_to_num(plane.astype(np.float32))
    low, high = (float(value) for value in np.percentile(values, _EXTREMES))
    if high <= low:
        low, high = float(values.min()), float(values.max())
    if high <= low:
        return np.zeros(values.shape, np.float32)
    made: NDArray[np.float32] = np.clip((values - low) / (high - low), 0, 1)
    return made


def shrunk(planes: NDArray[np.float32], factor: float) -> NDArray[np.float32]:
    """Planes at ``factor`` of their size."""
    if factor == 1:
        return planes
    size = (max(8, round(planes.shape[2] * factor)), max(8, round(planes.shape[1] * factor)))
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    made: NDArray[np.float32] = np.stack([cv2.resize(plane, size, interpolation=how) for plane in planes])
    return made


def sides(labels: NDArray[np.int32]) -> NDArray[np.float64]:
    """Longer side of the box of every cell, px."""
    from scipy import ndimage

    boxes = [box for box in ndimage.find_objects(labels) if box is not None]
    return np.array([max(s.stop - s.start for s in box) for box in boxes], np.float64)


def scale(one: TypedImage, names: Sequence[str], factor: float) -> Scaled:
    """The image as the network sees it, and the types of its cells as numbers."""
    planes = shrunk(planes_of(one.image, one.name), factor)
    if planes.shape[1:] == one.labels.shape:
        labels = one.labels
    else:
        labels = cv2.resize(one.labels.astype(np.int32), planes.shape[:0:-1], interpolation=cv2.INTER_NEAREST_EXACT)
    values, areas = np.unique(labels[labels > 0], return_counts=True)
    numbers = {name: number for number, name in enumerate(names, 1)}
    known = {int(value): numbers.get(one.types.get(int(value), ""), UNKNOWN) for value in values}
    return Scaled(one.name, planes, labels, known, dict(zip(values.tolist(), areas.tolist(), strict=True)))


def anchors(images: Sequence[Scaled]) -> tuple[float, float, float, float]:
    """Sides of boxes that are tried first: from the smallest cells to the largest, as the network sees them."""
    from scipy import ndimage

    found = [
        np.sqrt((box[0].stop - box[0].start) * (box[1].stop - box[1].start))
        for one in images
        for box in ndimage.find_objects(one.labels)
        if box is not None
    ]
    low, *between, high = (float(value) for value in np.percentile(found, [5, 35, 65, 95]))
    low, high = max(8.0, low), max(12.0, high)
    made = [low, *(min(max(value, low), high) for value in between), high]
    return made[0], made[1], made[2], made[3]


def target(labels: NDArray[np.int32], numbers: Mapping[int, int], areas: Mapping[int, int]) -> dict[str, Tensor]:
    """What torchvision is told of the cells of a piece: boxes, types, masks."""
    import torch
    from scipy import ndimage

    values = np.unique(labels[labels > 0])
    dense = np.searchsorted(values, labels) + 1
    dense[labels == 0] = 0
    boxes, types, masks = [], [], []
    for value, box in zip(values.tolist(), ndimage.find_objects(dense), strict=True):
        mask = labels == value
        seen = int(mask.sum())
        if seen < _LEAST_PIXELS:
            continue
        whole = seen >= _LEAST_SEEN * areas[value]
        boxes.append((box[1].start, box[0].start, box[1].stop, box[0].stop))
        types.append(numbers[value] if whole else UNKNOWN)
        masks.append(mask)
    return {
        "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
        "labels": torch.tensor(types, dtype=torch.int64),
        "masks": torch.from_numpy(np.array(masks, np.uint8).reshape(-1, *labels.shape)),
    }


class Pieces:
    """Pieces of images, without end; every step draws from a seed of its own."""

    def __init__(self, images: Sequence[Scaled], side: int, batch: int, seed: int, *, varied: bool = True) -> None:
        self.images, self.side, self.batch, self.seed, self.varied = images, side, batch, seed, varied
        cells = [(one, value) for one in images for value, number in one.numbers.items() if number > 0]
        kinds = sorted({one.numbers[value] for one, value in cells})
        self.by_type = [[pair for pair in cells if pair[0].numbers[pair[1]] == kind] for kind in kinds]

    def __getitem__(self, step: int) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
        """The pieces of a step: images ``(3, side, side)`` and targets."""
        import torch

        rng = np.random.default_rng((self.seed, step))
        images, targets = [], []
        for number in range(self.batch):
            one, top, left = self._place(rng)
            planes, labels = _cut(one, top, left, self.side)
            if self.varied:
                made = augment(planes, labels, None, VARIED, (self.seed, step, number))
                planes, labels = made.image, made.masks if made.masks is not None else labels
            images.append(torch.from_numpy(planes))
            targets.append(target(labels, one.numbers, one.areas))
        return images, targets

    def _place(self, rng: np.random.Generator) -> tuple[Scaled, int, int]:
        """As a rule round a cell, each type as often as any other; else anywhere."""
        if rng.random() < _CENTRED:
            one, value = (of := self.by_type[rng.integers(len(self.by_type))])[rng.integers(len(of))]
            rows, columns = np.nonzero(one.labels == value)
            middle = (int(rows.mean()), int(columns.mean()))
        else:
            one = self.images[rng.integers(len(self.images))]
            middle = tuple(int(rng.integers(length)) for length in one.labels.shape)  # type: ignore[assignment]
        away = rng.integers(-self.side // 3, self.side // 3 + 1, 2)
        top, left = (
            int(np.clip(at + off - self.side // 2, 0, max(0, length - self.side)))
            for at, off, length in zip(middle, away, one.labels.shape, strict=True)
        )
        return one, top, left


def _cut(one: Scaled, top: int, left: int, side: int) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """A piece; what lies outside of a small image has the median of each plane."""
    planes = np.empty((3, side, side), np.float32)
    planes[:] = np.median(one.planes, axis=(1, 2))[:, None, None]
    labels = np.zeros((side, side), np.int32)
    inside = one.labels[top : top + side, left : left + side]
    here = (slice(inside.shape[0]), slice(inside.shape[1]))
    planes[:, *here] = one.planes[:, top : top + side, left : left + side]
    labels[here] = inside
    return planes, labels
