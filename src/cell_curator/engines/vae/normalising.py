"""Batch normalisation and the bend after it as one layer, quick where it is trained in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

SLOPE = 0.1
"""Of the bend below zero."""

_SLOPE = np.float32(SLOPE)


def normalising(channels: int) -> list[Any]:
    """``[BatchNorm2d, LeakyReLU]``: the same weights under the same names, the same answer up to rounding."""
    import torch
    from torch.nn.functional import leaky_relu

    joined: Any = _joined()

    class Normalising(torch.nn.BatchNorm2d):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            """``(N, C, Y, X)`` to the same, normalised and bent."""
            last = input.is_contiguous(memory_format=torch.channels_last)
            if not (self.training and last and input.dtype == torch.bfloat16 and input.device.type == "cpu"):
                return leaky_relu(super().forward(input), SLOPE, inplace=True)
            out: Tensor = joined.apply(input, self.weight, self.bias, self)
            return out

    return [Normalising(channels), torch.nn.Identity()]  # the second keeps the numbers of the layers after it


def _joined() -> Any:
    import torch

    from cell_curator.engines.vae import bfloat16

    class Joined(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Any) -> Tensor:
            out = torch.empty_like(x)
            followed = layer.running_mean.numpy(), layer.running_var.numpy(), layer.momentum, layer.eps
            kept = bfloat16.forward(bits(x), weight.numpy(), bias.numpy(), *followed, _SLOPE, bits(out))
            layer.num_batches_tracked += 1
            ctx.save_for_backward(x)
            ctx.kept = (*kept, layer.eps)
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:  # type: ignore[override]
            (x,) = ctx.saved_tensors
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            out = torch.empty_like(x)
            made = torch.from_numpy(bfloat16.backward(bits(x), bits(gradient), *ctx.kept, _SLOPE, bits(out)))
            return out, made[0], made[1], None

    return Joined


def bits(picture: Tensor) -> NDArray[np.int16]:
    """The bits of ``(N, C, Y, X)`` bfloat16 with channels last, ``(N, Y, X, C)``."""
    import torch

    seen: NDArray[np.int16] = picture.permute(0, 2, 3, 1).view(torch.int16).numpy()
    return seen
