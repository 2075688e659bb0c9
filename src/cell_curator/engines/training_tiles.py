"""Augmented tiles of reviewed images, in batches.

Cuts and turns are Cellpose's own (``random_rotate_and_resize``). Where a whole image was reviewed, the
tiles are exactly those of stock ``train_seg``; where a part was, every tile lies round a reviewed pixel,
and says which of its pixels count.
"""

from __future__ import annotations

import importlib.util
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from cell_curator.engines.augment import UNCHANGED, AugmentParameters, augment
from cell_curator.engines.training_data import Source

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True)
class Tiles:
    """One batch: ``(N, C, side, side)``, ``(N, 3, side, side)`` and where it counts ``(N, side, side)``."""

    planes: NDArray[np.float32]
    target: NDArray[np.float32]
    counts: NDArray[np.bool_]


@dataclass(frozen=True)
class Cut:
    """How tiles are cut.

    Parameters
    ----------
    side
        px.
    channels
        Planes of a tile; those that an image lacks are zero.
    scale_range
        Sizes vary by a factor within ``1 ± scale_range / 2``.
    batch
        Tiles of a batch.
    per_epoch
        Tiles of an epoch; 0: as many as images, one of each.
    vary
        Light, noise and, where no flows are learned, bends; turns and sizes come of the cutting.
    """

    side: int
    channels: int
    scale_range: float
    batch: int
    per_epoch: int = 0
    vary: AugmentParameters = UNCHANGED


def batches(made: Sequence[Source], cut: Cut, seed: int) -> Iterator[Tiles]:
    """The batches of one epoch. Equal ``seed``, equal batches; NumPy's global numbers stay as they were."""
    random = np.random.RandomState(seed)
    count = cut.per_epoch or len(made)
    chance = np.full(len(made), 1 / len(made))  # as Cellpose gives it, which changes what is drawn
    order = random.permutation(len(made)) if count == len(made) else random.choice(len(made), count, p=chance)
    for first in range(0, count, cut.batch):
        some = [_tile(made[index], cut, random) for index in order[first : first + cut.batch]]
        if cut.vary != UNCHANGED:
            some = [_varied(*tile, cut.vary, (seed, first + index)) for index, tile in enumerate(some)]
        yield Tiles(*(np.stack(parts) for parts in zip(*some, strict=True)))


def _tile(
    source: Source, cut: Cut, random: np.random.RandomState
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """One turned, flipped, rescaled piece, of a place where something was reviewed."""
    side = cut.side
    planes, target, counts = source.planes, source.target, source.counts
    rescale, scale_range = source.rescale, cut.scale_range
    if counts is not None:
        rescale /= (1 - scale_range / 2) + scale_range * random.random_sample()
        scale_range = 0.0
        planes, target, counts = _window(planes, target, counts, round(side * rescale * np.sqrt(2)), random)
    turn = {"rescale": [rescale], "scale_range": scale_range, "xy": (side, side)}
    before = random.get_state()
    with _as_global(random):
        turned, made, _ = _transforms().random_rotate_and_resize([planes], Y=[target], **turn)
    tile = np.zeros((cut.channels, side, side), dtype=np.float32)
    tile[: len(planes)] = turned[0][: cut.channels]
    if counts is None:
        return tile, made[0], np.ones((side, side), dtype=bool)
    again = np.random.RandomState()
    again.set_state(before)
    with _as_global(again):
        seen, _, _ = _transforms().random_rotate_and_resize([counts[np.newaxis].astype(np.float32)], **turn)
    return tile, made[0], seen[0, 0] > 0.999  # none that is mixed with a pixel that does not count


def _varied(
    planes: NDArray[np.float32],
    target: NDArray[np.float32],
    counts: NDArray[np.bool_],
    vary: AugmentParameters,
    seed: tuple[int, int],
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """The same piece in other light, and bent if it has no flows, which would have to be bent with it."""
    elastic = 0.0 if target[1:].any() else vary.elastic
    chosen = vary.model_copy(update={"flip": 0.0, "turn": 0.0, "scale": 0.0, "elastic": elastic})
    low, high = min(0.0, float(planes.min())), max(1.0, float(planes.max()))
    there = planes.any(axis=(1, 2))
    image = (planes[there] - low) / (high - low)
    made = augment(image, np.stack([target[0] > 0.5, counts]), None, chosen, seed)
    assert made.masks is not None
    planes, target = planes.copy(), target.copy()
    planes[there] = made.image * (high - low) + low
    target[0] = made.masks[0]
    return planes, target, made.masks[1]


def _window(
    planes: NDArray[np.float32],
    target: NDArray[np.float32],
    counts: NDArray[np.bool_],
    side: int,
    random: np.random.RandomState,
) -> tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.bool_]]:
    """A square piece of all of them round a reviewed pixel; zero where it lies outside."""
    reviewed = np.flatnonzero(counts)
    middle = np.divmod(reviewed[random.randint(len(reviewed))], counts.shape[1])
    inner, outer = [], []
    for at, length in zip(middle, counts.shape, strict=True):
        start = int(at) - side // 2
        low, high = max(start, 0), min(start + side, length)
        inner.append(slice(low, high))
        outer.append(slice(low - start, high - start))

    def piece(whole: NDArray[T]) -> NDArray[T]:
        made = np.zeros((*whole.shape[:-2], side, side), dtype=whole.dtype)
        made[..., outer[0], outer[1]] = whole[..., inner[0], inner[1]]
        return made

    return piece(planes), piece(target), piece(counts)


_GLOBAL = threading.Lock()


@contextmanager
def _as_global(random: np.random.RandomState) -> Iterator[None]:
    """Let NumPy's global generator, which Cellpose draws from, go on from ``random`` for a moment."""
    with _GLOBAL:
        before = np.random.get_state()
        np.random.set_state(random.get_state())
        try:
            yield
        finally:
            random.set_state(np.random.get_state())
            np.random.set_state(before)


@lru_cache(maxsize=1)
def _transforms() -> Any:
    """Cellpose 3's ``transforms``, also in the process where Cellpose 4 is first on the path.

    Cellpose 4 turns tiles with torchvision, which may be missing, and takes other arguments.
    """
    if importlib.util.find_spec("cellpose.resnet_torch") is not None:
        from cellpose import transforms

        return transforms
    places = (Path(folder) / "cellpose" for folder in sys.path)
    place = next(place for place in places if (place / "resnet_torch.py").is_file())
    spec = importlib.util.spec_from_file_location("cell_curator_cellpose3_transforms", place / "transforms.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
