"""What a training tells on its way, and what it hands back."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from cell_curator.engines.vae.model import VaeModel


@dataclass(frozen=True)
class MapPreview:
    """The map as it is now: ``cell_id`` ``(M,)`` int64 of some cells, and where they lie, ``map2d`` ``(M, 2)``."""

    cell_id: NDArray[np.int64]
    map2d: NDArray[np.float32]


@dataclass(frozen=True)
class VaeProgress:
    """Losses per cell while training, in nats.

    Attributes
    ----------
    total
        What is minimised.
    reconstruction, kl
        Its two parts.
    validation
        ``total`` of cells held back, at full β; NaN until the first check.
    active
        Latent units that vary between cells (variance of their means above 0.01: Burda, Grosse &
        Salakhutdinov 2016, arXiv:1509.00519); None until the first check.
    preview
        The map, at each check only.
    """

    step: int
    steps: int
    total: float
    reconstruction: float
    kl: float
    validation: float = math.nan
    active: int | None = None
    preview: MapPreview | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Embedding:
    """What training hands back for N cells.

    Attributes
    ----------
    latent
        (N, D) float32 posterior means: never a sample and never with a condition in it, so the same for the
        same model and patch.
    error
        (N,) float32 divergence of each cell from its reconstruction, in nats; large = unlike the rest.
    validation
        (N,) bool, cells that were held back.
    history
        Losses at each check, in order. Step 0: the model that training started from.
    model
        The best network by validation loss.
    split
        How the cells were divided, in words.
    precision
        ``"float32"`` or ``"bfloat16"``, as used in training.
    notes
        What the user should know, one sentence each.
    active_units
        Latent units that vary between cells; the others have died.
    """

    latent: NDArray[np.float32]
    error: NDArray[np.float32]
    validation: NDArray[np.bool_]
    history: tuple[VaeProgress, ...]
    model: VaeModel
    split: str
    precision: str
    seconds: float
    notes: tuple[str, ...] = ()
    active_units: int = 0


def active_units(latent: NDArray[np.float32]) -> int:
    """How many columns of posterior means ``(N, D)`` vary between cells."""
    return int((latent.var(axis=0) > 0.01).sum()) if len(latent) else 0
