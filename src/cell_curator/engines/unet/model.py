"""A U-Net or U-Net++ from its weights file, and what the card beside it says of how images were prepared for it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
from cell_curator.engines.cards import CARD, WEIGHTS, read_card
from cell_curator.engines.network import read_tensors
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.unet.bands import mean_of_heads
from cell_curator.engines.unet.inference import predict_tiled
from cell_curator.engines.unet.networks import (
    DEPTH,
    EARLY,
    FLOWS,
    STEP,
    TITLES,
    Design,
    Kind,
    build,
    for_looking,
    restored,
)

DIAMETER = 24.0
"""Diameter that a new network is shown cells at, px."""

AREA_DIAMETER = 34.0
"""The same for one that tells foreground alone, where the outline to the pixel is all that counts."""

NEW = "new.features"
"""In the weights file of a network that is yet to be made: its widths, with ``new.outputs`` and ``new.nested``."""

OVERLAP = 192
"""What neighbouring pieces of an image share, px. A pixel 96 px from the border of its piece is as in the whole."""

SMALLEST_TILE, LARGEST_TILE = 512, 4096
MEMORY = 1.12e9
"""Bytes that looking at one piece may take, about; the larger the pieces, the less is looked at twice."""


@dataclass(frozen=True)
class Network:
    """A loaded network.

    Parameters
    ----------
    module
        In ``eval`` mode.
    bfloat16
        Whether it runs in bfloat16 + channels_last.
    depth
        The deepest head that is asked; see `networks.heads`.
    settled
        Whether it is for looking alone; see `networks.for_looking`.
    """

    module: Any
    design: Design
    bfloat16: bool
    depth: int = DEPTH
    settled: bool = False

    @property
    def diam_mean(self) -> float:
        """Diameter that cells are rescaled to before they reach the network, px."""
        return float(self.module.diam_mean[0])

    @property
    def learned_diameter(self) -> float:
        """Mean diameter of the cells that it learned from, px; 0: it learned from none yet."""
        return float(self.module.diam_labels[0])

    def forward(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Mean of the heads ``(N, outputs, y, x)`` for ``(N, C, y, x)``; flow in px per step, probability as a logit.

        Planes that are not given are zero. Sides must be multiples of 16.
        """
        import torch

        data = np.zeros((len(tiles), self.design.channels, *tiles.shape[2:]), np.float32)
        shown = min(data.shape[1], tiles.shape[1])
        data[:, :shown] = tiles[:, :shown]
        shape = torch.channels_last if self.bfloat16 else torch.contiguous_format
        kind = torch.bfloat16 if self.bfloat16 and self.settled else torch.float32
        learning = self.bfloat16 and not self.settled
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=learning):
            mean = mean_of_heads(self.module, torch.from_numpy(data).to(kind, memory_format=shape), self.depth)
        out: NDArray[np.float32] = mean.numpy()
        if self.design.outputs == FLOWS:
            out[:, :2] /= 5  # the network is trained on five times the flow
        return out

    @property
    def tile(self) -> int:
        """Side of the largest piece that `MEMORY` is enough for, px; what the two finest levels keep counts."""
        size = 2 if self.bfloat16 else 4
        nodes = 1 if self.design.kind == "unet" else self.depth / 2
        per_pixel = size * (self.design.features[0] + nodes * self.design.features[1]) + 8 * self.design.outputs
        side: int = math.isqrt(int(MEMORY / per_pixel)) // STEP * STEP
        return min(max(side, SMALLEST_TILE), LARGEST_TILE)

    def predict(self, planes: NDArray[np.float32], tile: int = 0) -> Job[tuple[NDArray[np.float16], str]]:
        """As `forward`, ``(outputs, Y, X)`` float16, for a whole normalised image ``(C, Y, X)`` of any size.

        The second result is empty, since memory that runs short changes nothing that a user would see.
        """
        framed = planes
        if self.design.outputs == FLOWS:  # with ground around it a cell cut by the border ends there
            framed = np.pad(planes, ((0, 0), (STEP, STEP), (STEP, STEP)))
        answer = yield from predict_tiled(self.forward, framed, max(tile, self.tile), OVERLAP, 1, np.float16)
        if framed is not planes:
            answer = answer[:, STEP:-STEP, STEP:-STEP]
        return answer.astype(np.float16, copy=False), ""


def load(weights: Path, depth: int = DEPTH) -> Network:
    """The network of a weights file; the last two are kept for the next image.

    Raises
    ------
    UserError
        If the file is missing, unsafe, damaged, or of another architecture.
    """
    try:
        changed = weights.stat().st_mtime_ns
    except OSError:
        changed = 0
    kept = _kept(weights, changed)
    return replace(kept, depth=depth)


@lru_cache(maxsize=2)
def _kept(weights: Path, changed: int) -> Network:
    made = read(weights)
    return replace(made, module=for_looking(made.module, bfloat16=made.bfloat16), settled=True)


def read(weights: Path, channels: int = 0) -> Network:
    """As `load`, one of its own, which may learn; a network yet to be made looks at ``channels`` planes (0: one)."""
    import torch

    state = read_tensors(weights)
    if NEW in state:
        kind: Kind = "unetpp" if float(state["new.nested"][0]) else "unet"
        widths = tuple(int(width) for width in state[NEW])
        design = Design(kind, widths, max(channels, 1), int(state["new.outputs"][0]))
        module = build(design)
        module.diam_mean.fill_(DIAMETER if design.outputs == FLOWS else AREA_DIAMETER)
    else:
        module, design = restored(state, weights.name)
    fast = bfloat16_is_faster()
    if fast:
        module.to(memory_format=torch.channels_last)
    return Network(module, design, fast)


def description(kind: Kind, widths: tuple[int, ...], outputs: int) -> dict[str, Any]:
    """The weights file of a network that is yet to be made, by name of tensor."""
    import torch

    numbers = {NEW: widths, "new.outputs": (outputs,), "new.nested": (kind == "unetpp",)}
    return {name: torch.tensor(values, dtype=torch.float32) for name, values in numbers.items()}


def checked(network: Network, kind: str, weights: Path) -> Network:
    """The network, if the engine ``kind`` is for it.

    Raises
    ------
    UserError
        If it is of the other of the two engines.
    """
    if network.design.kind == kind:
        return network
    raise UserError(
        f"{weights.name}: weights of a {TITLES[network.design.kind]}, but the engine {kind} is set; "
        f"choose the engine {network.design.kind}"
    )


def preprocessing(weights: Path) -> dict[str, Any]:
    """How images were prepared when it learned, as its card has it; empty where there is no card."""
    card = weights.with_name(CARD)
    if weights.name != WEIGHTS or not card.is_file():
        return {}
    said = read_card(weights.parent).details.get("preprocessing", {})
    return dict(said) if isinstance(said, dict) else {}


def error_unit(prepared: Mapping[str, Any]) -> float:
    """In which unit its flow errors are told, see `Segmentation`, of `preprocessing`; 1 where that is silent."""
    said = prepared.get("error_unit")
    return float(said) if isinstance(said, int | float) and said > 0 else 1.0


def depth_of(quality: str) -> int:
    """The deepest head for a look of this quality: all of them for ``"accurate"``."""
    return EARLY if quality == "fast" else DEPTH
