"""The negative evidence lower bound, each term summed over a cell and averaged over the batch.

Averaging one term and summing the other would silently divide β by the batch size.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from cell_curator.engines.vae.network import Network
from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Tensor

_LEAST_NOISE = -5.0  # log of the standard deviation of a pixel; less would only follow rounding


@dataclass(frozen=True)
class VaeLoss:
    """Terms of the loss, in nats per cell. ``total`` is what is minimised, with β and free bits in it."""

    total: Tensor
    reconstruction: Tensor
    kl: Tensor


def loss(
    network: Network,
    images: Tensor,
    weights: Tensor,
    params: VaeParameters,
    *,
    beta: float,
    noise: Tensor,
    conditions: Tensor | None = None,
    shown: Tensor | None = None,
    entropy: Tensor | None = None,
) -> VaeLoss:
    """The loss of a batch.

    Parameters
    ----------
    images
        ``(N, C, P, P)`` float32 in 0..1, what is to be painted.
    weights
        ``(N, 1, P, P)`` how much each pixel counts, 0..1.
    params
        Kind of likeness and free bits.
    beta
        Weight of the KL term now.
    noise
        ``(N, D)`` standard normal numbers for the sample of the posterior.
    conditions
        ``(N,)`` int64, for the decoder alone.
    shown
        What the encoder sees, if it is not ``images``.
    entropy
        `entropies` of the pictures, where they are known already.
    """
    mean, log_variance = network.posterior(images if shown is None else shown)
    logits = network.decode(mean + noise * (0.5 * log_variance).exp(), conditions)
    error = reconstruction_error(network, images, logits, weights, params.loss, entropy).mean()
    charge = 0.0
    if params.loss == "gaussian":  # what a picture of this noise costs at best
        counted = (weights.expand(len(images), 1, *images.shape[2:]).sum() / len(images)) * images.shape[1]
        charge = counted * (log_noise(network) + 0.5 * math.log(2 * math.pi))
    units = kl_of_units(mean, log_variance).mean(dim=0)
    charged = units.clamp(min=params.free_bits) if params.free_bits else units
    return VaeLoss(total=error + charge + beta * charged.sum(), reconstruction=error, kl=units.sum())


def reconstruction_error(
    network: Network, images: Tensor, logits: Tensor, weights: Tensor, kind: str, entropy: Tensor | None = None
) -> Tensor:
    """``(N,)`` divergence of the reconstruction from each picture, summed over its weighted pixels; 0 = perfect.

    ``bce``: binary cross-entropy less the entropy of the picture itself: the gradient of the published
    cross-entropy, but comparable between cells. ``mse``: squared difference. ``gaussian``: half the squared
    difference over the variance that was learned.
    """
    if kind == "bce":
        cross: Tensor = _cross_entropy().apply(logits, images, weights)
        return cross - (entropies(images, weights) if entropy is None else entropy)
    each = (logits.sigmoid() - images) ** 2
    if kind == "gaussian":
        each = 0.5 * each * (-2 * log_noise(network)).exp()
    error: Tensor = (each * weights).sum(dim=(1, 2, 3))
    return error


@lru_cache(maxsize=1)
def _cross_entropy() -> Any:
    """Of logits and pictures, summed over weighted pixels: PyTorch's own, written to memory half as often."""
    import torch
    from torch.nn.functional import softplus

    class CrossEntropy(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, logits: Tensor, images: Tensor, weights: Tensor) -> Tensor:
            ctx.save_for_backward(logits, images, weights)
            each = softplus(logits).addcmul_(logits, images, value=-1)
            if weights.numel() == 1:  # pixels all count alike
                return each.sum(dim=(1, 2, 3)) * weights.flatten()
            return each.mul_(weights).sum(dim=(1, 2, 3))

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:  # type: ignore[override]
            logits, images, weights = ctx.saved_tensors
            return logits.sigmoid().sub_(images).mul_(weights * gradient.view(-1, 1, 1, 1)), None, None

    return CrossEntropy


def entropies(images: Tensor, weights: Tensor) -> Tensor:
    """``(N,)`` cross-entropy of each picture with itself, the least there is. Turning or flipping leaves it as it is.

    Its logarithms would be a twentieth of a training step.
    """
    from torch.special import entr

    least: Tensor = ((entr(images) + entr(1 - images)) * weights).sum(dim=(1, 2, 3))
    return least


def kl_of_units(mean: Tensor, log_variance: Tensor) -> Tensor:
    """``(N, D)`` divergence of each latent unit's posterior from the standard normal."""
    units: Tensor = 0.5 * (mean**2 + log_variance.exp() - 1 - log_variance)
    return units


def log_noise(network: Network) -> Tensor:
    """Log standard deviation of a pixel, as learned (Rybkin, Daniilidis & Levine 2021, arXiv:2006.13202)."""
    learned: Tensor = network.modules.log_noise.clamp(min=_LEAST_NOISE)
    return learned
