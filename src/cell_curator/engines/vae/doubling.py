"""The last layer of a painter, quicker than the one it is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from torch import Tensor


def doubling(few: int, many: int) -> Any:
    """``ConvTranspose2d(few, many, 4, stride=2, padding=1)``: the same weights, the same answer.

    oneDNN fills its output channels up to sixteen, so a single one costs as much as sixteen. Each quarter of the
    pixels (even and odd rows and columns) is a plain 2×2 convolution of the input; the quarters are four channels
    and are laid together. 2.4 times faster, forward and back.
    """
    import torch
    from torch.nn.functional import conv2d, pixel_shuffle

    laid: Any = _laid()

    class Doubling(torch.nn.ConvTranspose2d):  # type: ignore[misc]
        def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
            """``(N, C, Y, X)`` to ``(N, D, 2Y, 2X)``."""
            taps = self.weight.view(few, many, 2, 2, 2, 2).flip(2, 4)  # which of two neighbours, which row of the pair
            quarters = conv2d(input, taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * many, few, 2, 2), padding=1)
            last = quarters.is_contiguous(memory_format=torch.channels_last)
            if last and quarters.dtype == torch.bfloat16 and quarters.device.type == "cpu":
                painted: Tensor = laid.apply(quarters, self.bias)
                return painted
            return pixel_shuffle(quarters, 2)[..., 1:-1, 1:-1] + self.bias.view(1, -1, 1, 1)

    return Doubling(few, many, 4, stride=2, padding=1)


def _laid() -> Any:
    import torch

    from cell_curator.engines.vae import bfloat16
    from cell_curator.engines.vae.normalising import bits

    class Laid(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, quarters: Tensor, bias: Tensor) -> Tensor:
            count, planes, height, width = quarters.shape
            ctx.shape = quarters.shape
            out = torch.empty((count, planes // 4, 2 * height - 2, 2 * width - 2))
            bfloat16.lay(bits(quarters), bias.numpy(), out.numpy())
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            out = torch.empty(ctx.shape, dtype=torch.bfloat16, memory_format=torch.channels_last)
            for_bias = bfloat16.lay_back(np.ascontiguousarray(gradient.numpy()), bits(out))
            return out, torch.from_numpy(for_bias)

    return Laid
