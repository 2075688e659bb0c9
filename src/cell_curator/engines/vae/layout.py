"""How pictures lie in memory while a network learns in bfloat16 on the processor.

*Pairs*: two neighbouring pixels of a row as one of twice as many channels. With an empty pixel before and behind it a
row of channels-last pixels is a row of pairs as it lies, and a convolution with stride 2 along it becomes one with
stride 1, which oneDNN does in two thirds of the time where channels are few.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor


def is_quick(picture: Tensor) -> bool:
    """Whether loops of our own may run over it: bfloat16 with channels last, on the processor."""
    import torch

    here = picture.dtype == torch.bfloat16 and picture.device.type == "cpu"
    return here and bool(picture.is_contiguous(memory_format=torch.channels_last))


def empty(count: int, channels: int, height: int, width: int) -> Tensor:
    """``(N, C, Y, X)`` bfloat16 with channels last, yet to be filled."""
    import torch

    return torch.empty((count, channels, height, width), dtype=torch.bfloat16, memory_format=torch.channels_last)


def empty_pairs(count: int, channels: int, height: int, width: int) -> Tensor:
    """``(N, 2 C, Y, X / 2 + 1)``: pairs of a picture ``(N, C, Y, X)``, yet to be filled."""
    return empty(count, 2 * channels, height, width // 2 + 1)


def width_of(picture: Tensor, channels: int) -> int:
    """Pixels in a row of a picture of so many channels, which may lie in pairs."""
    there, width = int(picture.shape[1]), int(picture.shape[3])
    return width if there == channels else 2 * width - 2


def pixels(picture: Tensor, channels: int) -> NDArray[np.int16]:
    """The bits as they lie, ``(N, Y, X, C)``; of pairs with the empty pixels, ``(N, Y, X + 2, C)``."""
    import torch

    count, _, height, _ = picture.shape
    seen: NDArray[np.int16] = picture.permute(0, 2, 3, 1).view(torch.int16).numpy()
    return seen.reshape(count, height, -1, channels)
