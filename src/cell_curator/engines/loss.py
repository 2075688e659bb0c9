"""Cellpose's loss over the pixels that count, and the learning rates of a training."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


CellLoss = Literal["bce", "dice", "focal"]
"""How cell or not is judged: binary cross-entropy, the same and Dice, or focal loss."""

FOCUS = 2.0
"""Exponent of the focal loss (Lin et al. 2017): how little pixels count of which the network is sure."""


def masked_loss(target: Tensor, answer: Tensor, counts: Tensor, cells: CellLoss = "bce") -> Tensor:
    """Loss over the pixels that count; with ``cells="bce"`` it is Cellpose's.

    Parameters
    ----------
    target
        ``(N, 3, Y, X)``: cell or not, flow y, flow x.
    answer
        ``(N, 3, Y, X)``: flow y, flow x (five times), cell probability (logit); or ``(N, 1, Y, X)``, the last alone.
    counts
        ``(N, Y, X)`` bool.
    """
    weight = counts.to(answer.dtype)
    pixels = weight.sum().clamp(min=1)
    probability = cell_loss(target[:, 0] > 0.5, answer[:, -1], weight, cells)
    if answer.shape[1] == 1:
        return probability
    flow = (((answer[:, :2] - 5.0 * target[:, 1:]) ** 2) * weight[:, None]).sum() / (2 * pixels)
    return flow / 2 + probability


def cell_loss(cell: Tensor, logit: Tensor, weight: Tensor, kind: CellLoss) -> Tensor:
    """How wrong ``logit`` is about which pixels are ``cell``, all ``(N, Y, X)``."""
    import torch
    from torch.nn.functional import binary_cross_entropy_with_logits

    there = cell.to(logit.dtype)
    pixels = weight.sum().clamp(min=1)
    each = binary_cross_entropy_with_logits(logit, there, reduction="none")
    if kind == "focal":
        each = each * (1 - torch.exp(-each)) ** FOCUS
    loss: Tensor = (each * weight).sum() / pixels
    if kind == "dice":
        found = torch.sigmoid(logit) * weight
        there = there * weight
        loss = loss + 1 - (2 * (found * there).sum() + 1) / (found.sum() + there.sum() + 1)
    return loss


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
