"""A network that can learn, as the training loop sees it: what it answers, and how wrong that is."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job
from cell_curator.engines.loss import CellLoss, masked_loss

if TYPE_CHECKING:
    from torch import Tensor


def last_planes(module: Any, data: Tensor) -> Tensor:
    """The last three planes of the first output, which in Cellpose's networks are flow y, flow x and probability."""
    answer: Tensor = module(data)[0][:, -3:]
    return answer


@dataclass(frozen=True)
class Trainable:
    """A network that can learn.

    Parameters
    ----------
    engine
        Name of its engine.
    base
        Where its weights came from.
    module
        The network itself; see ``answers``.
    bfloat16
        Whether it computes in bfloat16.
    look
        Shows it normalised planes ``(C, Y, X)`` of any size: ``(3, Y, X)`` float16 and a note; ``(1, Y, X)`` if
        it answers cell probability alone.
    side
        The only side of a tile that it knows, px; None: any multiple of 16.
    answers
        What ``module`` says of tiles ``(N, channels, side, side)``, as ``loss`` takes it: as a rule flow y,
        flow x and cell probability ``(N, 3, side, side)``.
    loss
        Of target, answer and counts, as `loss.masked_loss`.
    error_unit
        Of its flow errors, see `Segmentation`.
    """

    engine: str
    base: Path
    module: Any
    channels: int
    bfloat16: bool
    look: Callable[[NDArray[np.float32]], Job[tuple[NDArray[np.float16], str]]]
    side: int | None = None
    answers: Callable[[Any, Tensor], Tensor] = last_planes
    loss: Callable[[Tensor, Tensor, Tensor, CellLoss], Tensor] = masked_loss
    error_unit: float = 1.0

    def answer(self, planes: NDArray[np.float32]) -> Tensor:
        """What the network says of a batch, in float32."""
        import torch

        data = torch.from_numpy(planes)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.bfloat16):
            if self.bfloat16:
                data = data.to(memory_format=torch.channels_last)
            out = self.answers(self.module, data)
        return out.float()
