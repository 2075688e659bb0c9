"""What a network learns from: the reviewed pixels of images, at its scale and polarity, and their flows.

Only pixels that `Example.counts` names reach loss and flows; the rest of an image is context that the
network sees. Tiles are cut in `training_tiles`. Knows no network. Reference: Stringer et al., Nature
Methods 2021.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.preprocess import select_channel
from cell_curator.core.recipe import Channel
from cell_curator.engines.cellpose_unet import inverted as inverted_planes
from cell_curator.engines.network import normalise

SMALLEST_DIAMETER = 5.0
"""Smaller cells count as this large, as in Cellpose, px."""

ENOUGH = 5
"""Cells from which an image has a typical diameter of its own; below it that of all images is taken."""

CLEAR = 0.1
"""Difference of cells and ground, in normalised grey levels, from which an image keeps a polarity of its own."""


@dataclass(frozen=True)
class Example:
    """One image to learn from.

    Parameters
    ----------
    name
        For messages.
    image
        ``(Y, X)`` or ``(C, Y, X)``: exactly what `segmenter.segment_image` would be shown, not normalised.
    labels
        ``(Y, X)`` int32, the cells to learn, 0 = background.
    counts
        ``(Y, X)`` bool, where the loss counts: reviewed, and no cell that is to be ignored. A cell that
        lies partly elsewhere is left out whole.
    """

    name: str
    image: NDArray[np.float32]
    labels: NDArray[np.int32]
    counts: NDArray[np.bool_]


@dataclass(frozen=True)
class Reviewed:
    """The reviewed part of an example.

    Parameters
    ----------
    planes
        ``(C, Y, X)`` float32, normalised over the whole image.
    labels
        ``(Y, X)`` int32, whole reviewed cells only.
    counts
        ``(Y, X)`` bool.
    areas
        Area of every cell, px.
    """

    name: str
    planes: NDArray[np.float32]
    labels: NDArray[np.int32]
    counts: NDArray[np.bool_]
    areas: NDArray[np.int64]

    @property
    def whole(self) -> bool:
        """Whether all of the image was reviewed."""
        return bool(self.counts.all())


@dataclass(frozen=True)
class Source:
    """An example made ready to cut tiles from.

    Parameters
    ----------
    planes
        ``(C, y, x)`` float32, inverted where cells are dark; shrunk where cells are much larger than
        the network expects.
    target
        ``(3, y, x)`` float32: cell or not, flow in y, flow in x.
    counts
        ``(y, x)`` bool, or None where all of the image counts: then the zeros around it are background,
        as in Cellpose, else they do not count.
    rescale
        By how much the planes are shrunk on the way to a tile.
    diameter
        Typical diameter in the image, px.
    """

    name: str
    planes: NDArray[np.float32]
    target: NDArray[np.float32]
    counts: NDArray[np.bool_] | None
    rescale: float
    diameter: float
    cells: int
    inverted: bool


Decide = Callable[[Reviewed, float], Job[bool]]
"""Whether the network is shown an image with cells of this diameter (px) inverted."""


def review(examples: Iterable[Example]) -> list[Reviewed]:
    """Normalise every image, and keep whole reviewed cells only.

    Raises
    ------
    UserError
        If shapes do not belong together or all pixels of an image are equal.
    """
    return [_review(example) for example in examples]


def _review(example: Example) -> Reviewed:
    shape = example.image.shape[-2:]
    if example.image.ndim not in (2, 3) or not shape == example.labels.shape == example.counts.shape:
        raise UserError(
            f"{example.name}: image {example.image.shape}, cells {example.labels.shape} and reviewed area "
            f"{example.counts.shape} differ in size; open the masks that were made for this image"
        )
    channels = [example.image] if example.image.ndim == 2 else list(example.image)
    if len(channels) > 2:
        channels = [select_channel(example.image, Channel())]
    planes = [normalise(channel) for channel in channels]
    if planes[0] is None:
        raise UserError(f"{example.name}: all pixels are equal, so there is nothing to learn; leave this image out")
    stack = np.stack([np.zeros_like(planes[0]) if plane is None else plane for plane in planes])
    counts = example.counts.astype(bool)
    largest = int(example.labels.max(initial=0))
    cut = np.zeros(largest + 1, dtype=bool)
    cut[example.labels[~counts]] = True
    cut[0] = False
    counts &= ~cut[example.labels]
    labels = np.where(counts, example.labels, 0).astype(np.int32)
    areas = np.bincount(labels.ravel(), minlength=1)[1:]
    return Reviewed(example.name, stack, labels, counts, areas[areas > 0])


def typical_diameter(areas: NDArray[np.int64]) -> float:
    """Median diameter of cells of these areas as Cellpose takes it, px."""
    return max(SMALLEST_DIAMETER, float(np.median(np.sqrt(areas)) * 2 / np.sqrt(np.pi)))


def diameter_of(one: Reviewed, typical: float) -> float:
    """Typical diameter in an image, px; ``typical`` where too few cells were reviewed to tell."""
    return typical_diameter(one.areas) if len(one.areas) >= ENOUGH else typical


def polarities(reviewed: Sequence[Reviewed], learned: int, decide: Decide, typical: float) -> Job[list[bool]]:
    """Whether each image is shown inverted: as `decide` says, and where it is not clear, as most others are.

    Parameters
    ----------
    learned
        How many of them, from the first, have a vote.
    typical
        Diameter of images with few cells, px.
    """
    own = []
    for index, one in enumerate(reviewed):
        part = (index / len(reviewed), (index + 1) / len(reviewed))
        own.append((yield from scaled(decide(one, diameter_of(one, typical)), *part)))
    most = 2 * sum(own[:learned]) > learned
    return [here if here == most or _clear(one, here) else most for one, here in zip(reviewed, own, strict=True)]


def _clear(one: Reviewed, inverted: bool) -> bool:
    """Whether the reviewed cells are clearly darker (``inverted``) or brighter than the ground."""
    difference = contrast(one)
    return (-difference if inverted else difference) >= CLEAR


def contrast(one: Reviewed) -> float:
    """How much brighter the reviewed cells are than the ground, in normalised grey levels; 0 where one is missing."""
    cells, ground = one.labels > 0, one.counts & (one.labels == 0)
    if not cells.any() or not ground.any():
        return 0.0
    return float(one.planes[0][cells].mean() - one.planes[0][ground].mean())


def sources(
    reviewed: Sequence[Reviewed],
    inverted: Sequence[bool],
    typical: float,
    diam_mean: float,
    scale_range: float,
    foreground: bool = False,
) -> Job[list[Source]]:
    """Make examples ready: scale, and flows once for the whole training.

    Parameters
    ----------
    typical
        Diameter of images with few cells, px.
    diam_mean
        Diameter that cells are brought to, px; 0: they stay as they are.
    foreground
        For a network that tells foreground and nothing else: no flows, and all images on one scale.
    """
    made = []
    for index, (one, dark) in enumerate(zip(reviewed, inverted, strict=True)):
        yield Progress(index / len(reviewed), f"computing flows: {one.name}")
        diameter = typical if foreground else diameter_of(one, typical)
        zoom = diam_mean / diameter if diam_mean else 1.0
        planes, labels, counts = inverted_planes(one.planes, dark), one.labels, one.counts
        if zoom < 0.5:
            planes, labels, counts = _shrunk(planes, labels, counts, zoom * (1 + scale_range / 2))
        made.append(
            Source(
                name=one.name,
                planes=planes,
                target=foreground_only(labels) if foreground else flows(labels),
                counts=None if one.whole else counts,
                rescale=labels.shape[0] / one.labels.shape[0] / zoom,
                diameter=diameter,
                cells=len(one.areas),
                inverted=dark,
            )
        )
    return made


def _shrunk(
    planes: NDArray[np.float32], labels: NDArray[np.int32], counts: NDArray[np.bool_], zoom: float
) -> tuple[NDArray[np.float32], NDArray[np.int32], NDArray[np.bool_]]:
    """All of them at ``zoom``, by area average as the network is shown images with large cells.

    Cellpose's augmentation would pick single pixels, which looks otherwise.
    """
    import cv2

    size = (max(8, round(labels.shape[1] * zoom)), max(8, round(labels.shape[0] * zoom)))
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA) for plane in planes]
    places = [
        ((np.arange(length) + 0.5) * whole / length).astype(int)
        for length, whole in zip(size[::-1], labels.shape, strict=True)
    ]
    nearest = np.ix_(*places)
    return np.stack(small).astype(np.float32), labels[nearest], counts[nearest]


def flows(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """What the network should say of ``labels``: ``(3, Y, X)`` float32, cell or not, flow in y and in x."""
    if not labels.any():
        return np.zeros((3, *labels.shape), dtype=np.float32)
    import torch
    from cellpose import dynamics

    made: NDArray[np.float32] = dynamics.labels_to_flows([labels.copy()], device=torch.device("cpu"))[0][1:]
    return made


def foreground_only(labels: NDArray[np.int32]) -> NDArray[np.float32]:
    """As `flows`, all of them zero."""
    made = np.zeros((3, *labels.shape), dtype=np.float32)
    made[0] = labels > 0
    return made


def fingerprint(*examples: Sequence[Example]) -> str:
    """Changes whenever any pixel, cell or reviewed area does."""
    made = hashlib.sha256()
    for group in examples:
        made.update(b"group")
        for example in group:
            made.update(example.name.encode())
            for array in (example.image, example.labels, example.counts):
                made.update(f"{array.shape}{array.dtype}".encode())
                made.update(np.ascontiguousarray(array).data)
    return made.hexdigest()
