"""Cellpose's loss over the pixels that count, and the learning rates of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def masked_loss(target: Tensor, answer: Tensor, counts: Tensor) -> Tensor:
    """Cellpose's loss over the pixels that count.

    Parameters
    ----------
    target
        ``(N, 3, Y, X)``: cell or not, flow y, flow x.
    answer
        ``(N, 3, Y, X)``: flow y, flow x (five times), cell probability (logit).
    counts
        ``(N, Y, X)`` bool.
    """
    from torch.nn.functional import binary_cross_entropy_with_logits

    weight = counts.to(answer.dtype)
    pixels = weight.sum().clamp(min=1)
    flow = (((answer[:, :2] - 5.0 * target[:, 1:]) ** 2) * weight[:, None]).sum() / (2 * pixels)
    cell = (target[:, 0] > 0.5).to(answer.dtype)
    probability = binary_cross_entropy_with_logits(answer[:, 2], cell, reduction="none")
    return flow / 2 + (probability * weight).sum() / pixels


def cellpose_rates(peak: float, epochs: int) -> NDArray[np.float64]:
    """Learning rate of every pass as in ``train_seg``."""
    rates = np.append(np.linspace(0, peak, 10), np.full(max(0, epochs - 10), peak))
    for longer, last, each in ((300, 100, 10), (100, 50, 5)):
        if epochs > longer:
            halved = peak / 2.0 ** np.arange(1, 11)
            return np.append(rates[:-last], np.repeat(halved, each))
    return rates[:epochs]


def falling_rate(peak: float, part: float) -> float:
    """Learning rate when ``part`` of the training is done: up in the first tenth, then down a cosine."""
    if part < 0.1:
        return peak * (0.1 + 0.9 * part / 0.1)
    return peak * (0.001 + 0.999 * 0.5 * (1 + math.cos(math.pi * (min(part, 1.0) - 0.1) / 0.9)))
