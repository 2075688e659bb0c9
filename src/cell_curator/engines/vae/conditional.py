"""The conditional variational autoencoder, whole: the condition is told to the decoder, and to it alone.

``(N, C, P, P) → convs → mean, log-variance → z;   z ⊕ E[condition] → transposed convs → logits``

The encoder never sees a condition, so the latent holds none that is not in the picture. Clustering
``z ⊕ E`` would find the conditions whatever the cells look like. Sohn, Lee & Yan 2015 (NeurIPS 28).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cell_curator.engines.vae import convolutional
from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

CONDITIONED = True
"""Whether conditions reach the decoder."""

WIDTH = 8
"""Numbers that describe a condition."""


def build(size: int, channels: int, params: VaeParameters, conditions: int) -> ModuleDict:
    """An untrained network for pictures ``(channels, size, size)`` of so many conditions."""
    from torch import nn

    return nn.ModuleDict(
        {
            **convolutional.encoder(size, channels, params),
            "condition": nn.Embedding(conditions, WIDTH),
            "decoder": convolutional.decoder(size, channels, params, params.latent + WIDTH),
        }
    )


def posterior(network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latent, both ``(N, D)``: of the pictures alone."""
    return convolutional.posterior(network, images)


def decode(network: ModuleDict, latent: Tensor, conditions: Tensor | None) -> Tensor:
    """Logits of the pictures; their sigmoid is the reconstruction."""
    import torch

    described = torch.cat([latent, told(network, conditions, len(latent))], dim=1)
    return convolutional.painted(network["decoder"], described)


def told(network: ModuleDict, conditions: Tensor | None, count: int) -> Tensor:
    """``(N, WIDTH)`` description of each condition; of unknown ones (negative, or None) the mean of all."""
    import torch

    table: Tensor = network["condition"].weight
    mean = table.mean(dim=0, keepdim=True).expand(count, -1)
    if conditions is None:
        return mean
    return torch.where((conditions < 0)[:, None], mean, table[conditions.clamp(min=0)])
