"""Other views of the same cell: turned, flipped, and, for what the map shall ignore, shifted and bent.

Works on batches of the training part only; the split was made before. Draws from the generator it is given.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from cell_curator.engines.vae.parameters import VaeParameters

if TYPE_CHECKING:
    from torch import Generator, Tensor

_SHIFT, _TURN, _STRETCH, _SHEAR, _BEND = 0.1, 0.35, 0.2, 0.3, 0.025
"""The most at a jitter of 1: part of the edge, radians, log of the factor, radians; and the typical bend, part of
the edge."""

_KNOTS = 4  # of the grid that bends


def turned_and_flipped(
    images: Tensor, weights: Tensor, params: VaeParameters, random: Generator
) -> tuple[Tensor, Tensor]:
    """Pictures ``(N, C, P, P)`` and what their pixels count, each turned and flipped as ``params`` allows.

    Weights ``(1, 1, 1, 1)``, where all pixels count alike, stay as they are.
    """
    import torch

    if not params.augment:
        return images, weights
    pair = [images] if weights.shape[-1] == 1 else [images, weights]
    if params.any_turn:
        angle = torch.rand(len(images), generator=random) * (2 * math.pi)
        still = torch.zeros(len(images))
        grid = _grid(images, angle, torch.ones(len(images), 2), still, torch.zeros(len(images), 2))
        pair = [_sampled(one, grid) for one in pair]
    rows, columns = _flips(len(images), params, random)
    for axis, chosen in ((2, rows), (3, columns)):
        pair = [torch.where(chosen[:, None, None, None], one.flip(axis), one) for one in pair]
    return pair[0], (pair[1] if len(pair) > 1 else weights)


def _flips(count: int, params: VaeParameters, random: Generator) -> tuple[Tensor, Tensor]:
    """Which pictures are mirrored along rows and along columns; both is a turn by 180°."""
    import torch

    first, second = torch.rand((2, count), generator=random)
    if params.flip:  # of original, two mirrors and 180°, or of original and two mirrors
        if params.half_turn:
            return first < 0.5, second < 0.5
        return first < 1 / 3, first >= 2 / 3
    both = (first < 0.5) & params.half_turn
    return both, both


def jittered(images: Tensor, amount: float, random: Generator) -> Tensor:
    """Pictures ``(N, C, P, P)`` shifted, turned, stretched, slanted and bent at random."""
    import torch
    from torch.nn.functional import interpolate

    def within(*shape: int) -> Tensor:
        return torch.rand((len(images), *shape), generator=random) * 2 - 1

    stretch = (_STRETCH * amount * within(2)).exp()
    grid = _grid(
        images, _TURN * amount * within(), stretch, _SHEAR * amount * within(), 2 * _SHIFT * amount * within(2)
    )
    knots = torch.randn((len(images), 2, _KNOTS, _KNOTS), generator=random) * (2 * _BEND * amount)
    bend = interpolate(knots, size=images.shape[2:], mode="bicubic", align_corners=True)
    return _sampled(images, grid + bend.permute(0, 2, 3, 1))


def _grid(images: Tensor, angle: Tensor, stretch: Tensor, shear: Tensor, shift: Tensor) -> Tensor:
    """Where each pixel ``(N, P, P, 2)`` of the new pictures comes from, in -1..1."""
    import torch
    from torch.nn.functional import affine_grid

    along = torch.stack([angle.cos() * stretch[:, 0], shear - angle.sin(), shift[:, 0]], dim=1)
    across = torch.stack([angle.sin(), angle.cos() * stretch[:, 1], shift[:, 1]], dim=1)
    grid: Tensor = affine_grid(torch.stack([along, across], dim=1), list(images.shape), align_corners=False)
    return grid


def _sampled(images: Tensor, grid: Tensor) -> Tensor:
    from torch.nn.functional import grid_sample

    sampled: Tensor = grid_sample(images, grid, align_corners=False)
    return sampled.clamp(0, 1)
