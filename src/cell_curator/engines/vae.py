"""A convolutional variational autoencoder for patches: the network and its loss, nothing else.

``(N, 1, P, P) → conv 4×4 stride 2 … → mean, log-variance of the latent → transposed convs → logits``

Training lives in `engines.vae_training`. No condition or label enters this network, so whatever
the latent separates, it saw in the pictures. The network is a plain ``torch.nn.ModuleDict`` and
functions over it, because torch is imported only where it is used.

Kingma & Welling 2014 (arXiv:1312.6114); β as in Higgins et al. 2017 (beta-VAE).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal

from cell_curator.core.parameters import Parameters, parameter

if TYPE_CHECKING:
    from torch import Tensor
    from torch.nn import ModuleDict

_MOST_LAYERS = 4
_LOG_VARIANCE = 8.0  # |log σ²| beyond this adds nothing but overflow


class VaeParameters(Parameters):
    """How the embedding is learned."""

    latent: int = parameter(16, "Features", "Numbers that describe each cell.", ge=2, le=256, step=1)
    steps: int = parameter(
        800,
        "Training steps",
        "Batches seen at most; training stops earlier when it no longer improves. 800 take about a minute "
        "on two cores.",
        ge=1,
        le=100_000,
        step=100,
    )
    beta: float = parameter(
        1.0,
        "β",
        "Weight of the order in the map against the likeness of the pictures; higher makes rounder, "
        "simpler maps and blurrier pictures.",
        ge=0,
        le=100,
        step=0.1,
        more=True,
    )
    background: float = parameter(
        1.0,
        "Background",
        "How much pixels outside the cell count in the likeness; at 0 the shape of the cell is not learned.",
        ge=0,
        le=1,
        step=0.1,
        more=True,
    )
    augment: bool = parameter(True, "Flip cells", "Also train on flipped cells and cells turned by 180°.", more=True)
    batch: int = parameter(64, "Batch", "Cells per step.", unit="cells", ge=2, le=4096, more=True)
    learning_rate: float = parameter(3e-3, "Learning rate", "Of Adam.", ge=1e-6, le=1, more=True)
    width: int = parameter(
        16, "Width", "Channels of the first layer; each layer doubles them.", ge=4, le=128, step=4, more=True
    )
    warmup: float = parameter(
        0.25, "Warm-up", "Part of the steps over which β grows from 0.", ge=0, le=1, step=0.05, more=True
    )
    patience: int = parameter(
        8, "Patience", "Checks without improvement before training stops (25 checks in all).", ge=1, more=True
    )
    holdout: float = parameter(
        0.15, "Held back", "Part of the cells, by whole images, never trained on.", ge=0.02, le=0.5, more=True
    )
    precision: Literal["auto", "float32", "bfloat16"] = parameter(
        "auto", "Precision", "Arithmetic in training; auto takes the faster of the two here.", more=True
    )
    seed: int = parameter(0, "Seed", "The same seed gives the same map on the same machine.", ge=0, more=True)


@dataclass(frozen=True)
class VaeLoss:
    """Terms of the loss, each summed over a cell and averaged over the batch.

    Averaging one term and summing the other would silently divide β by the batch size.
    """

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def layer_sizes(size: int) -> list[int]:
    """Edge of the picture before and after each halving, e.g. ``[64, 32, 16, 8, 4]``.

    Halves while the edge is even and larger than 4, at most four times.
    """
    edges = [size]
    while edges[-1] % 2 == 0 and edges[-1] > 4 and len(edges) <= _MOST_LAYERS:
        edges.append(edges[-1] // 2)
    return edges


def build(size: int, latent: int, width: int) -> ModuleDict:
    """An untrained network.

    Parameters
    ----------
    size
        Edge of the patches in px; a multiple of 4.
    latent
        Length of the latent vector.
    width
        Channels of the first layer.
    """
    if size % 4 or size < 8:
        raise ValueError(f"patches of {size} px: the size must be a multiple of 4 and at least 8")
    from torch import nn

    edges = layer_sizes(size)
    channels = [1] + [width * 2**depth for depth in range(len(edges) - 1)]
    steps = list(pairwise(channels))
    down: list[Any] = []
    for few, many in steps:
        down += [nn.Conv2d(few, many, 4, stride=2, padding=1, bias=False), nn.BatchNorm2d(many), nn.LeakyReLU(0.1)]
    up: list[Any] = []
    for few, many in reversed(steps):
        up += [nn.BatchNorm2d(many), nn.LeakyReLU(0.1), nn.ConvTranspose2d(many, few, 4, stride=2, padding=1)]
    flat = channels[-1] * edges[-1] ** 2
    return nn.ModuleDict(
        {
            "down": nn.Sequential(*down, nn.Flatten()),
            "mean": nn.Linear(flat, latent),
            "log_variance": nn.Linear(flat, latent),
            "up": nn.Sequential(nn.Linear(latent, flat), nn.Unflatten(1, (channels[-1], edges[-1], edges[-1])), *up),
        }
    )


def posterior(network: ModuleDict, images: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and log-variance of the latent, both (N, D) float32, for images (N, 1, P, P) in 0..1."""
    features = network["down"](images)
    mean, log_variance = network["mean"](features).float(), network["log_variance"](features).float()
    return mean, log_variance.clamp(-_LOG_VARIANCE, _LOG_VARIANCE)


def decode(network: ModuleDict, latent: Tensor) -> Tensor:
    """Logits of the pictures, (N, 1, P, P) float32; their sigmoid is the reconstruction."""
    logits: Tensor = network["up"](latent).float()
    return logits


def reconstruction_error(images: Tensor, logits: Tensor, weights: Tensor) -> Tensor:
    """(N,) divergence of the reconstruction from each picture, summed over its weighted pixels.

    Binary cross-entropy less the entropy of the picture itself: the same gradient as the
    published cross-entropy, but 0 for a perfect picture, so that cells can be compared.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits
    from torch.special import entr

    cross = binary_cross_entropy_with_logits(logits, images, reduction="none")
    entropy = entr(images) + entr(1 - images)
    error: Tensor = ((cross - entropy) * weights).sum(dim=(1, 2, 3))
    return error


def loss(network: ModuleDict, images: Tensor, weights: Tensor, beta: float, noise: Tensor) -> VaeLoss:
    """Negative evidence lower bound of a batch.

    Parameters
    ----------
    images
        (N, 1, P, P) float32 in 0..1.
    weights
        (N, 1, P, P) how much each pixel counts, 0..1.
    beta
        Weight of the KL term.
    noise
        (N, D) standard normal numbers for the sample of the posterior.
    """
    mean, log_variance = posterior(network, images)
    logits = decode(network, mean + noise * (0.5 * log_variance).exp())
    reconstruction = reconstruction_error(images, logits, weights).mean()
    kl = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance).sum(dim=1).mean()
    return VaeLoss(total=reconstruction + beta * kl, reconstruction=reconstruction, kl=kl)
