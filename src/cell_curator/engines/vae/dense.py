"""The dense β-variational autoencoder, whole.

``(N, C, P, P) → 8w → 4w → 2w → mean, log-variance → z → 2w → 4w → 8w → logits``, where w is the width
(16: the published 128-64-32). No condition enters it.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

CONDITIONED = False
"""Whether conditions reach the decoder."""


def build(size: int, channels: int, params: VaeParameters, conditions: int) -> ModuleDict:
    """An untrained network for pictures ``(channels, size, size)``; ``conditions`` is not used."""
    from torch import nn

    pixels = channels * size**2
    widths = [8 * params.width, 4 * params.width, 2 * params.width]
    return nn.ModuleDict(
        {
            "encoder": nn.Sequential(nn.Flatten(), *_layers([pixels, *widths])),
            "mean": nn.Linear(widths[-1], params.latent),
            "log_variance": nn.Linear(widths[-1], params.latent),
            "decoder": nn.Sequential(
                *_layers([params.latent, *reversed(widths)]),
                nn.Linear(widths[0], pixels),
                nn.Unflatten(1, (channels, size, size)),
            ),
        }
    )


def posterior(network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latent, both ``(N, D)``."""
    features = network["encoder"](images)
    return network["mean"](features), network["log_variance"](features)


def decode(network: ModuleDict, latent: Tensor, conditions: Tensor | None) -> Tensor:
    """Logits of the pictures; their sigmoid is the reconstruction."""
    logits: Tensor = network["decoder"](latent)
    return logits


def _layers(widths: list[int]) -> list[Any]:
    from torch import nn

    layers: list[Any] = []
    for before, after in pairwise(widths):
        layers += [nn.Linear(before, after, bias=False), nn.BatchNorm1d(after), nn.LeakyReLU(0.1)]
    return layers
