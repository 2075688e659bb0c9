"""Look at a large picture with a U-Net or U-Net++ in a fraction of the memory, with the same answer.

Most of the memory goes into the finest levels. Their layers see two pixels around, so they are run on a few rows at
a time; the coarse levels are run whole. Rows at the edge of a band are computed twice, and that is all it
costs. For looking alone: figures of a batch would differ from band to band.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from cell_curator.engines.unet.networks import DEPTH, STEP

if TYPE_CHECKING:
    from torch import Tensor

ROWS = 128
"""Of a band, at the finest level."""

_HALO = 2  # px that two convolutions of 3 × 3 see around


def mean_of_heads(module: Any, data: Tensor, depth: int = DEPTH) -> Tensor:
    """The mean of what the heads of `networks.heads` say, ``(N, outputs, y, x)`` float32."""
    if hasattr(module, "final_conv"):
        return _unet(module, data)
    return _nested(module, data, depth)


def _unet(module: Any, data: Tensor) -> Tensor:
    first = in_bands(module.conv_0, [(data, 1)])
    second = in_bands(module.down_1, [(first, 2)])
    third = in_bands(module.down_2, [(second, 2)])
    fourth = module.down_3(third)
    up = module.upcat_4(module.down_4(fourth), fourth)
    up = in_bands(module.upcat_3, [(up, 0.5), (third, 1)])
    del third, fourth
    up = in_bands(module.upcat_2, [(up, 0.5), (second, 1)])
    del second

    def last(coarse: Tensor, fine: Tensor) -> Tensor:
        said: Tensor = module.final_conv(module.upcat_1(coarse, fine)).float()
        return said

    return in_bands(last, [(up, 0.5), (first, 1)])


def _nested(module: Any, data: Tensor, depth: int) -> Tensor:
    """The nodes of the finest row are needed by the heads alone, so they are made band by band with them."""
    import torch

    nodes = [[in_bands(module.conv_0_0, [(data, 1)])]]
    for column in range(1, depth + 1):
        down = getattr(module, f"conv_{column}_0")
        above = nodes[column - 1][0]
        nodes.append([in_bands(down, [(above, 2)]) if column == 1 else down(above)])
        for row in range(column - 1, 0, -1):
            up = getattr(module, f"upcat_{row}_{column - row}")
            nodes[row].append(up(nodes[row + 1][-1], torch.cat(nodes[row], dim=1)))
    finest, second = nodes[0][0], nodes[1]
    del nodes

    def last(fine: Tensor, *coarse: Tensor) -> Tensor:
        row, total = [fine], torch.zeros(())
        for column, below in enumerate(coarse, 1):
            row.append(getattr(module, f"upcat_0_{column}")(below, torch.cat(row, dim=1)))
            total = total + getattr(module, f"final_conv_0_{column}")(row[-1]).float()
        return total / len(coarse)

    return in_bands(last, [(finest, 1), *((node, 0.5) for node in second)], halo=_HALO * depth)


def in_bands(
    layer: Callable[..., Tensor], inputs: Sequence[tuple[Tensor, float]], rows: int = ROWS, halo: int = _HALO
) -> Tensor:
    """What ``layer`` makes of ``inputs``, some rows of its answer at a time.

    Parameters
    ----------
    inputs
        Tensors ``(N, C, y, x)``, each with how many of its rows belong to one row of the answer.
    rows
        Even.
    halo
        Rows of the answer, even, that are seen around a row.
    """
    import torch

    whole = int(inputs[0][0].shape[2] / inputs[0][1])
    if whole <= rows + STEP:
        return layer(*(tensor for tensor, _ in inputs))
    answer: Tensor | None = None
    for top in range(0, whole, rows):
        low, high = max(0, top - halo), min(whole, top + rows + halo)
        made = layer(*(tensor[:, :, int(low * scale) : int(high * scale)] for tensor, scale in inputs))
        if answer is None:
            shape = made.shape[0], made.shape[1], whole, made.shape[3]
            answer = torch.empty(shape, dtype=made.dtype, memory_format=torch.channels_last)
        stop = min(whole, top + rows)
        answer[:, :, top:stop] = made[:, :, top - low : stop - low]
    assert answer is not None
    return answer
