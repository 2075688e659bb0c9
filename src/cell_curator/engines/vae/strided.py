"""Convolutions 4×4 with stride 2 and their transposes, quicker where training is in bfloat16 on the processor.

Each has the weights of PyTorch's layer and gives the same answer; which way it goes depends on what it is given.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.engines.vae.layout import empty, is_quick, pixels

if TYPE_CHECKING:
    from torch import Tensor

PAIRED = 32
"""Channels up to which pictures lie in pairs between these layers, see `layout`; with more `_of_many` is quicker."""


def halving(few: int, many: int) -> Any:
    """``Conv2d(few, many, 4, stride=2, padding=1, bias=False)``, of pairs as well."""
    import torch
    from torch.nn.functional import conv2d

    of_many: Any = _of_many()

    class Halving(torch.nn.Conv2d):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            """``(N, C, 2Y, 2X)``, or its pairs, to ``(N, D, Y, X)``."""
            if input.shape[1] == 2 * few:
                return conv2d(input, _of_pairs(self.weight), stride=(2, 1), padding=(1, 0))
            if self.training and few > PAIRED and is_quick(input):
                made: Tensor = of_many.apply(input, self.weight, False)
                return made
            return super().forward(input)

    return Halving(few, many, 4, stride=2, padding=1, bias=False)


def first_halving(few: int, many: int) -> Any:
    """``Conv2d(few, many, 4, stride=2, padding=1, bias=False)`` for pictures of which no gradient is asked.

    oneDNN fills channels up to sixteen, so a picture of one costs as much as one of sixteen. Its quarters (even and
    odd rows and columns) are four channels, and a 2×2 convolution of them is the same: twice as quick.
    """
    import torch
    from torch.nn.functional import conv2d, pixel_unshuffle

    from cell_curator.engines.vae import bfloat16

    class FirstHalving(torch.nn.Conv2d):  # type: ignore[misc]
        def forward(self, input: Tensor) -> Tensor:
            """``(N, C, 2Y, 2X)`` float32 to ``(N, D, Y, X)``."""
            quick = torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16
            if not quick or input.requires_grad or input.device.type != "cpu" or input.dtype != torch.float32:
                return super().forward(input)
            count, channels, height, width = input.shape
            quarters = empty(count, 4 * channels, height // 2 + 1, width // 2 + 1)
            bfloat16.spread(np.ascontiguousarray(input.numpy()), pixels(quarters, 4 * channels))
            return conv2d(quarters, pixel_unshuffle(self.weight, 2))

    return FirstHalving(few, many, 4, stride=2, padding=1, bias=False)


def doubling(many: int, few: int) -> Any:
    """``ConvTranspose2d(many, few, 4, stride=2, padding=1, bias=False)``; where it is quick it answers in pairs."""
    import torch
    from torch.nn.functional import conv_transpose2d

    of_many: Any = _of_many()

    class Doubling(torch.nn.ConvTranspose2d):  # type: ignore[misc]
        def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
            """``(N, C, Y, X)`` to ``(N, D, 2Y, 2X)`` or its pairs."""
            if not (self.training and is_quick(input)):
                return super().forward(input)
            if few > PAIRED:
                made: Tensor = of_many.apply(input, self.weight, True)
                return made
            pairs = conv_transpose2d(input, _of_pairs(self.weight), stride=(2, 1), padding=(1, 0))
            return pairs.contiguous(memory_format=torch.channels_last)

    return Doubling(many, few, 4, stride=2, padding=1, bias=False)


def last_doubling(few: int, many: int) -> Any:
    """``ConvTranspose2d(few, many, 4, stride=2, padding=1)`` to a picture.

    Each quarter of the pixels is a plain 2×2 convolution of the input; the quarters are four channels, as in
    `first_halving`, and are laid together. 2.4 times faster with one channel, forward and back.
    """
    import torch
    from torch.nn.functional import conv2d, pixel_shuffle

    laid: Any = _laid()

    class LastDoubling(torch.nn.ConvTranspose2d):  # type: ignore[misc]
        def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
            """``(N, C, Y, X)`` to ``(N, D, 2Y, 2X)``."""
            taps = self.weight.view(few, many, 2, 2, 2, 2).flip(2, 4)  # which of two neighbours, which row of the pair
            quarters = conv2d(input, taps.permute(1, 3, 5, 0, 2, 4).reshape(4 * many, few, 2, 2), padding=1)
            if is_quick(quarters):
                painted: Tensor = laid.apply(quarters, self.bias)
                return painted
            return pixel_shuffle(quarters, 2)[..., 1:-1, 1:-1] + self.bias.view(1, -1, 1, 1)

    return LastDoubling(few, many, 4, stride=2, padding=1)


def _of_pairs(weight: Tensor) -> Tensor:
    """``(A, B, 4, 4)`` as ``(A, 2 B, 4, 2)``; with channels last that is how it lies."""
    first, second = weight.shape[:2]
    return weight.permute(0, 2, 3, 1).reshape(first, 4, 2, 2 * second).permute(0, 3, 1, 2)


def _of_many() -> Any:
    """A layer of many channels; the gradient of its weights is one product of matrices, a quarter quicker."""
    import torch
    from torch.nn.functional import conv2d, conv_transpose2d

    from cell_curator.engines.vae import bfloat16

    class OfMany(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, input: Tensor, weight: Tensor, up: bool) -> Tensor:
            rough = weight.bfloat16()
            ctx.save_for_backward(input, rough)
            ctx.up = up
            return (conv_transpose2d if up else conv2d)(input, rough, stride=2, padding=1)

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor, None]:  # type: ignore[override]
            input, rough = ctx.saved_tensors
            gradient = gradient.contiguous(memory_format=torch.channels_last)
            back = (conv2d if ctx.up else conv_transpose2d)(gradient, rough, stride=2, padding=1)
            fine, coarse = (gradient, input) if ctx.up else (input, gradient)
            many, few = rough.shape[:2]
            places = coarse.permute(0, 2, 3, 1)
            seen = torch.empty((*places.shape[:3], 4, 4, few), dtype=torch.bfloat16)
            bfloat16.windows(pixels(fine, few), seen.view(torch.int16).numpy())
            product = places.reshape(-1, many).t() @ seen.view(-1, 16 * few)
            return back, product.view(many, 4, 4, few).permute(0, 3, 1, 2).float(), None

    return OfMany


def _laid() -> Any:
    import torch

    from cell_curator.engines.vae import bfloat16

    class Laid(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, quarters: Tensor, bias: Tensor) -> Tensor:
            count, planes, height, width = ctx.shape = quarters.shape
            out = torch.empty((count, planes // 4, 2 * height - 2, 2 * width - 2))
            bfloat16.lay(pixels(quarters, planes), bias.numpy(), out.numpy())
            return out

        @staticmethod
        def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:  # type: ignore[override]
            out = empty(*ctx.shape)
            bfloat16.spread(np.ascontiguousarray(gradient.numpy()), pixels(out, ctx.shape[1]))
            return out, gradient.sum(dim=(0, 2, 3))

    return Laid
