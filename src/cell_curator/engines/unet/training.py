"""What U-Net and U-Net++ bring to the training loop in `learning`: their heads, and a loss on each of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cell_curator.engines.loss import CellLoss, masked_loss
from cell_curator.engines.network import PERCENTILES
from cell_curator.engines.unet.networks import FOREGROUND, heads

if TYPE_CHECKING:
    from torch import Tensor

    from cell_curator.engines.finetune import TrainParameters
    from cell_curator.engines.training_material import Material
    from cell_curator.engines.unet.model import Network


def all_heads(module: Any, data: Tensor) -> Tensor:
    """What all heads say, one after the other: ``(N, heads × outputs, y, x)``."""
    import torch

    return torch.cat(heads(module, data), dim=1)


def deep_loss(target: Tensor, answer: Tensor, counts: Tensor, cells: CellLoss = "bce", *, outputs: int) -> Tensor:
    """Mean of the losses of every head of `all_heads`, and of their mean, since a careful look uses that.

    Parameters
    ----------
    target, counts
        See `loss.masked_loss`.
    outputs
        Planes of a head.
    """
    said = list(answer.split(outputs, dim=1))
    if len(said) > 1:
        said.append(sum(said) / len(said))
    return sum(masked_loss(target, one, counts, cells) for one in said) / len(said)


def prepared_as(network: Network, material: Material, params: TrainParameters) -> dict[str, Any]:
    """How images were made to look like for the network, as its card keeps it for those that it will be shown."""
    shown = [source.inverted for source in material.train]
    polarity = "dark" if all(shown) else "auto" if any(shown) else "bright"
    return {
        "percentiles": list(PERCENTILES[0]),
        "polarity": params.polarity if params.polarity != "auto" else polarity,
        "cells_shown_at_px": round(network.diam_mean, 2),
        "channels": network.design.channels,
        "answers": "foreground" if network.design.outputs == FOREGROUND else "flows and cell probability",
    }
