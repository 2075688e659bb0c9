"""Batch normalisation and the bend after it as one layer, quick where it is trained in bfloat16."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.engines.vae.layout import empty, empty_pairs, is_quick, pixels, width_of

if TYPE_CHECKING:
    from torch import Tensor

SLOPE = 0.1
"""Of the bend below zero."""

_SLOPE = np.float32(SLOPE)


def normalising(channels: int, into_pairs: bool = False) -> list[Any]:
    """``[BatchNorm2d, LeakyReLU]``: the same weights under the same names, the same answer up to rounding.

    Where it is quick it takes pairs (see `layout`) as well, and hands them on where ``into_pairs``.
    """
    import torch
    from torch.nn.functional import leaky_relu

    joined: Any = _joined()

    class Normalising(torch.nn.BatchNorm2d):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            """``(N, C, Y, X)`` to the same, normalised and bent."""
            if not (self.training and is_quick(input)):
                return leaky_relu(super().forward(input), SLOPE, inplace=True)
            out: Tensor = joined.apply(input, self.weight, self.bias, self, into_pairs)
            return out

    return [Normalising(channels), torch.nn.Identity()]  # the second keeps the numbers of the layers after it


def _joined() -> Any:
    import torch

    from cell_curator.engines.vae import bfloat16

    class Joined(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor, layer: Any, into_pairs: bool) -> Tensor:
            channels = len(weight)
            width = width_of(x, channels)
            out = (empty_pairs if into_pairs else empty)(len(x), channels, x.shape[2], width)
            followed = layer.running_mean.numpy(), layer.running_var.numpy(), layer.momentum, layer.eps
            seen, made = pixels(x, channels), pixels(out, channels)
            kept = bfloat16.forward(seen, width, weight.numpy(), bias.numpy(), *followed, _SLOPE, made)
            layer.num_batches_tracked += 1
            ctx.save_for_backward(x)
            ctx.kept = (*kept, layer.eps)
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:  # type: ignore[override]
            (x,) = ctx.saved_tensors
            gradient, out = gradient.contiguous(memory_format=torch.channels_last), torch.empty_like(x)
            channels = len(ctx.kept[1])
            seen, back, made = (pixels(picture, channels) for picture in (x, gradient, out))
            slopes = torch.from_numpy(bfloat16.backward(seen, back, *ctx.kept, _SLOPE, made))
            return out, slopes[0], slopes[1], None, None

    return Joined
