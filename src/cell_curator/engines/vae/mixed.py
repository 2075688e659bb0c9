"""The "refined" conditional variational autoencoder, whole: the condition gets one of α parts of the latent.

``(N, C, P, P) → convs → mean, log softplus → z;   z' = g(W₁ z ⊕ W₂ E[condition]) → transposed convs → logits``

with ``W₁ z`` of size d − d/α and ``W₂ E`` of size d/α. The embedding is z, before any condition is mixed in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from cell_curator.engines.vae import convolutional
from cell_curator.engines.vae.conditional import WIDTH, told
from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

CONDITIONED = True
"""Whether conditions reach the decoder."""

_SMALLEST = 1e-4  # variance


def build(size: int, channels: int, params: VaeParameters, conditions: int) -> ModuleDict:
    """An untrained network for pictures ``(channels, size, size)`` of so many conditions."""
    from torch import nn

    part = max(1, params.latent // params.alpha)
    return nn.ModuleDict(
        {
            **convolutional.encoder(size, channels, params),
            "condition": nn.Embedding(conditions, WIDTH),
            "mix_latent": nn.Linear(params.latent, params.latent - part),
            "mix_condition": nn.Linear(WIDTH, part),
            "decoder": convolutional.decoder(size, channels, params, params.latent),
        }
    )


def posterior(network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latent, both ``(N, D)``: of the pictures alone. The variance is a softplus."""
    from torch.nn.functional import softplus

    mean, raw = convolutional.posterior(network, images)
    return mean, (softplus(raw.float()) + _SMALLEST).log()


def decode(network: ModuleDict, latent: Tensor, conditions: Tensor | None) -> Tensor:
    """Logits of the pictures; their sigmoid is the reconstruction."""
    import torch
    from torch.nn.functional import leaky_relu

    condition = network["mix_condition"](told(network, conditions, len(latent)))
    mixed = leaky_relu(torch.cat([network["mix_latent"](latent), condition], dim=1), 0.1)
    return convolutional.painted(network["decoder"], mixed)
