"""The convolutional variational autoencoder, whole.

``(N, C, P, P) → conv 4×4 stride 2 … → mean, log-variance → z → transposed convs → logits (N, C, P, P)``

No condition enters it, so whatever the latent separates, it saw in the pictures. Kingma & Welling 2014
(arXiv:1312.6114); β as in Higgins et al. 2017 (beta-VAE).
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING, Any

from cell_curator.engines.vae.normalising import normalising
from cell_curator.engines.vae.parameters import VaeParameters
from cell_curator.engines.vae.strided import PAIRED, doubling, first_halving, halving, last_doubling

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

CONDITIONED = False
"""Whether conditions reach the decoder."""

_MOST_LAYERS = 4


def build(size: int, channels: int, params: VaeParameters, conditions: int) -> ModuleDict:
    """An untrained network for pictures ``(channels, size, size)``; ``conditions`` is not used."""
    from torch import nn

    return nn.ModuleDict({**encoder(size, channels, params), "decoder": decoder(size, channels, params, params.latent)})


def posterior(network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latent, both ``(N, D)``."""
    import torch
    from torch.nn.functional import linear

    both = network["mean"], network["log_variance"]  # one product of both is a quarter of a millisecond quicker
    weight, bias = torch.cat([layer.weight for layer in both]), torch.cat([layer.bias for layer in both])
    mean, log_variance = linear(network["encoder"](images), weight, bias).chunk(2, dim=1)
    return mean, log_variance


def decode(network: ModuleDict, latent: Tensor, conditions: Tensor | None) -> Tensor:
    """Logits of the pictures; their sigmoid is the reconstruction."""
    return painted(network["decoder"], latent)


def painted(layers: Any, latent: Tensor) -> Tensor:
    """What the layers of `decoder` make of ``(N, D)``; channels stay last where the weights have them last."""
    from torch import channels_last

    first = layers[:2](latent)
    if layers[4].weight.is_contiguous(memory_format=channels_last):
        first = first.contiguous(memory_format=channels_last)
    logits: Tensor = layers[2:](first)
    return logits


def layer_sizes(size: int) -> list[int]:
    """Edge of the picture before and after each halving, e.g. ``[64, 32, 16, 8, 4]``.

    Halves while the edge is even and larger than 4, at most four times.
    """
    edges = [size]
    while edges[-1] % 2 == 0 and edges[-1] > 4 and len(edges) <= _MOST_LAYERS:
        edges.append(edges[-1] // 2)
    return edges


def encoder(size: int, channels: int, params: VaeParameters) -> dict[str, Any]:
    """The layers from picture to posterior."""
    from torch import nn

    edges, steps = _plan(size, channels, params.width)
    layers = [first_halving(*steps[0])]
    for few, many in steps[1:]:
        layers += [*normalising(few, into_pairs=few <= PAIRED), halving(few, many)]
    layers += normalising(steps[-1][1])
    flat = steps[-1][1] * edges[-1] ** 2
    return {
        "encoder": nn.Sequential(*layers, nn.Flatten()),
        "mean": nn.Linear(flat, params.latent),
        "log_variance": nn.Linear(flat, params.latent),
    }


def decoder(size: int, channels: int, params: VaeParameters, inputs: int) -> Any:
    """The layers from ``inputs`` numbers to logits."""
    from torch import nn

    edges, steps = _plan(size, channels, params.width)
    layers: list[Any] = []
    for few, many in reversed(steps):
        layers += [
            *normalising(many),
            doubling(many, few),
        ]
    layers[-1] = last_doubling(steps[0][1], channels)  # the others need no bias: the next layer takes it out again
    first = (steps[-1][1], edges[-1], edges[-1])
    return nn.Sequential(nn.Linear(inputs, first[0] * first[1] * first[2]), nn.Unflatten(1, first), *layers)


def _plan(size: int, channels: int, width: int) -> tuple[list[int], list[tuple[int, int]]]:
    """Edges, and the channels before and after each layer."""
    edges = layer_sizes(size)
    return edges, list(pairwise([channels] + [width * 2**depth for depth in range(len(edges) - 1)]))
