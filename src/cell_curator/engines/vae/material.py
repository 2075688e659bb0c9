"""What a training works on: patches checked and brought to torch's side, and which come in which batch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.engines.vae.loss import entropies
from cell_curator.engines.vae.model import BATCH
from cell_curator.engines.vae.network import architecture
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.state import fingerprint

if TYPE_CHECKING:
    from torch import Tensor

FEWEST_CELLS = 8


@dataclass(frozen=True)
class Material:
    """Cells to learn from.

    Attributes
    ----------
    images
        Tensor ``(N, C, P, P)`` float32 in 0..1.
    inside
        Tensor ``(N, 1, P, P)`` float32, 1 in the cell; None where all pixels count alike.
    conditions
        Tensor ``(N,)`` int64, or None where the network is told of none.
    names
        Of the conditions.
    validation
        ``(N,)`` bool, held back.
    ids
        ``(N,)`` int64.
    background
        How much pixels outside the cell count.
    fingerprint
        Of pixels, conditions and split.
    entropy
        Tensor ``(N,)``, `loss.entropies` of each cell; None where the loss needs none.
    """

    images: Tensor
    inside: Tensor | None
    conditions: Tensor | None
    names: tuple[str, ...]
    validation: NDArray[np.bool_]
    ids: NDArray[np.int64]
    background: float
    fingerprint: str
    entropy: Tensor | None = None

    def weights(self, rows: Tensor) -> Tensor:
        """How much each pixel of these cells counts, ``(n, 1, P, P)`` or ``(1, 1, 1, 1)``."""
        import torch

        if self.inside is None:
            return torch.ones(1, 1, 1, 1)
        return self.background + (1 - self.background) * self.inside[rows]

    def told(self, rows: Tensor) -> Tensor | None:
        """Conditions of these cells."""
        return None if self.conditions is None else self.conditions[rows]


def prepare(
    images: NDArray[np.float32],
    masks: NDArray[np.bool_],
    validation: NDArray[np.bool_],
    params: VaeParameters,
    conditions: NDArray[np.int64] | None,
    names: tuple[str, ...],
    ids: NDArray[np.int64] | None,
) -> Material:
    """Bring checked arrays to torch's side; see `training.train`."""
    import torch

    conditioned = architecture(params.model).CONDITIONED and conditions is not None
    pixels = torch.from_numpy(np.ascontiguousarray(images, np.float32))
    inside = torch.from_numpy(masks.astype(np.float32))[:, None] if params.background < 1 else None
    told = np.asarray(conditions, np.int64) if conditioned else np.zeros(0, np.int64)
    material = Material(
        images=pixels if pixels.ndim == 4 else pixels[:, None],
        inside=inside,
        conditions=torch.from_numpy(told.copy()) if conditioned else None,
        names=names if conditioned else (),
        validation=validation,
        ids=np.arange(len(images)) if ids is None else np.asarray(ids, np.int64),
        background=params.background,
        fingerprint=fingerprint(images, masks, validation, told, repr(names if conditioned else ())),
    )
    if params.loss != "bce":
        return material
    rows = torch.arange(len(images)).split(BATCH)
    return replace(material, entropy=torch.cat([entropies(material.images[r], material.weights(r)) for r in rows]))


def check(
    images: NDArray[Any],
    masks: NDArray[Any],
    groups: NDArray[Any],
    params: VaeParameters,
    conditions: NDArray[Any] | None,
    names: tuple[str, ...],
) -> tuple[str, ...]:
    """Refuse what cannot be learned from; notes on what can, but with little gain.

    Raises
    ------
    UserError
        See `training.train`.
    """
    shape = images.shape[:1] + images.shape[-2:]
    if images.ndim not in (3, 4) or shape != masks.shape or shape[1] != shape[2] or len(images) != len(groups):
        raise ValueError(f"images {images.shape}, masks {masks.shape}, groups {groups.shape} do not belong together")
    if len(images) < FEWEST_CELLS:
        raise UserError(
            f"embedding: {len(images)} {'cell is' if len(images) == 1 else 'cells are'} too few (at least "
            f"{FEWEST_CELLS}); segment more images or accept more cells"
        )
    low, high = float(images.min()), float(images.max())
    if not (low >= 0 and high <= 1):  # also true for NaN
        raise UserError("embedding: patches hold values outside 0..1 or not numbers; prepare the images again")
    return _constant(images) + _conditions(len(images), params, conditions, names)


def _constant(images: NDArray[Any]) -> tuple[str, ...]:
    """Patches without any picture on them."""
    flat = images.reshape(len(images), -1)
    count = int((flat.min(axis=1) == flat.max(axis=1)).sum())
    if count == len(images):
        raise UserError(
            "embedding: every patch is of one grey level, so there is nothing to learn; look at the prepared images "
            "and at the size of the patches"
        )
    if not count:
        return ()
    return (f"{count} of {len(images)} patches are of one grey level; they lie together on the map and mean nothing",)


def _conditions(
    count: int, params: VaeParameters, conditions: NDArray[Any] | None, names: tuple[str, ...]
) -> tuple[str, ...]:
    if not architecture(params.model).CONDITIONED:
        return ()
    if conditions is None or not names:
        raise UserError(
            f"embedding: the model {params.model} needs conditions, and the cells have none; put the images of each "
            "condition into a folder of its own, or choose the model vae"
        )
    if len(conditions) != count or conditions.max() >= len(names):
        raise ValueError(f"{len(conditions)} conditions of {len(names)} names do not belong to {count} cells")
    there = len(np.unique(conditions[conditions >= 0]))
    if there < 2:
        return (f"only {there} condition: the model {params.model} learns no more than the model vae does",)
    return ()


class Batches:
    """Batches without end; every row comes once before any comes again, and each can be asked for by its number.

    Parameters
    ----------
    rows
        Cells to learn from.
    size
        Of a batch.
    seed
        Of the order.
    """

    def __init__(self, rows: NDArray[np.int64], size: int, seed: int) -> None:
        self._rows, self._size, self._seed = rows, min(size, len(rows)), seed
        self._passes: dict[int, NDArray[np.int64]] = {}

    def __getitem__(self, step: int) -> NDArray[np.int64]:
        """Rows of the batch number ``step``, from 0."""
        first, count = step * self._size, len(self._rows)
        passes = range(first // count, (first + self._size - 1) // count + 1)
        self._passes = {number: self._pass(number) for number in passes}
        offset = first - passes[0] * count
        return np.concatenate([self._passes[number] for number in passes])[offset : offset + self._size]

    def _pass(self, number: int) -> NDArray[np.int64]:
        known = self._passes.get(number)
        return np.random.default_rng((self._seed, number)).permutation(self._rows) if known is None else known
