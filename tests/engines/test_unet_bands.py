"""A large picture is looked at in bands and tiles with the answer of the whole."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cell_curator.core.jobs import drive
from cell_curator.engines.unet.bands import in_bands, mean_of_heads
from cell_curator.engines.unet.inference import Grid, predict_tiled
from cell_curator.engines.unet.model import OVERLAP, Network
from cell_curator.engines.unet.networks import FLOWS, FOREGROUND, Design, build, for_looking, heads

WIDTHS = (6, 8, 8, 8, 8, 6)


def network(kind: str, outputs: int = FOREGROUND, seed: int = 0) -> torch.nn.Module:
    """Untrained but for its normalisation, which is that of learned networks: not 0 and 1."""
    made = build(Design(kind, WIDTHS, 1, outputs), seed)
    random = torch.Generator().manual_seed(seed)
    for part in made.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1, generator=random)
            part.running_var.uniform_(0.1, 0.5, generator=random)
            part.weight.data.uniform_(0.5, 1.5, generator=random)
            part.bias.data.normal_(0, 0.3, generator=random)
    return made


def picture(height: int, width: int) -> torch.Tensor:
    return torch.rand((1, 1, height, width), generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(("kind", "depth"), [("unet", 4), ("unetpp", 4), ("unetpp", 2)])
@pytest.mark.parametrize("outputs", [FLOWS, FOREGROUND])
def test_in_bands_the_heads_say_the_same(kind: str, depth: int, outputs: int) -> None:
    made, data = network(kind, outputs), picture(480, 64)
    with torch.inference_mode():
        said = heads(made, data, depth)
        wanted = sum(said) / len(said)
        found = mean_of_heads(made, data, depth)
    assert wanted.std() > 0
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)


def test_bands_that_see_too_little_would_be_seen() -> None:
    made, data = network("unet"), picture(400, 64)
    with torch.inference_mode():
        whole = made.conv_0(data)
        torch.testing.assert_close(in_bands(made.conv_0, [(data, 1)], rows=64), whole)
        blind = in_bands(made.conv_0, [(data, 1)], rows=64, halo=0)
    assert not torch.allclose(blind, whole)


@pytest.mark.parametrize("kind", ["unet", "unetpp"])
def test_a_network_settled_for_looking_says_the_same(kind: str) -> None:
    made, data = network(kind), picture(96, 96)
    with torch.inference_mode():
        before = mean_of_heads(made, data)
        after = mean_of_heads(for_looking(made, bfloat16=False), data)
    torch.testing.assert_close(after, before, rtol=1e-4, atol=1e-4)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in made.modules())
    quick = Network(for_looking(network(kind), bfloat16=True), Design(kind, WIDTHS, 1, FOREGROUND), True, settled=True)
    assert np.abs(quick.forward(data.numpy()) - before.numpy()).max() < 0.05 * float(before.abs().max())
    assert quick.diam_mean == 0  # sizes stay as exact as they were
    assert quick.module.diam_mean.dtype == torch.float32


@pytest.mark.parametrize("kind", ["unet", "unetpp"])
def test_with_the_usual_overlap_tiles_are_the_whole(kind: str) -> None:
    made = Network(for_looking(network(kind), bfloat16=False), Design(kind, WIDTHS, 1, FOREGROUND), False, settled=True)
    planes = picture(500, 470).numpy()[0]
    whole = drive(predict_tiled(made.forward, planes, 512))
    tiled = drive(predict_tiled(made.forward, planes, 400, OVERLAP, 1))
    np.testing.assert_allclose(tiled, whole, atol=1e-5 + 1e-4 * np.abs(whole).max())
    narrow = drive(predict_tiled(made.forward, planes, 400, 32, 1))
    assert np.abs(narrow - whole).max() > np.abs(tiled - whole).max()


@pytest.mark.parametrize("length", [1, 16, 100, 500, 1022, 2048, 2049, 3000, 8192, 20_000])
@pytest.mark.parametrize(("tile", "overlap"), [(512, 96), (2864, 192), (1120, 192), (96, 96), (32, 16), (16, 0)])
def test_tiles_cover_all_share_enough_and_are_few(length: int, tile: int, overlap: int) -> None:
    starts, side = Grid(tile, overlap, 1).cuts(length)
    assert starts[0] == 0
    assert starts[-1] + side >= length
    assert side <= tile or len(starts) == 1
    assert all(value % 16 == 0 for value in (*starts, side))
    shared = min(overlap, tile // 2 // 16 * 16)
    assert all(before < after <= before + side - shared for before, after in pairwise(starts))
    if len(starts) > 1:  # one tile less would not do
        assert (len(starts) - 1) * tile - (len(starts) - 2) * -(-shared // 16) * 16 < length + 16


def test_wide_and_deep_networks_get_smaller_tiles() -> None:
    def side(kind: str, widths: tuple[int, ...], *, bfloat16: bool = True) -> int:
        return Network(None, Design(kind, widths, 1, FOREGROUND), bfloat16).tile

    usual = side("unet", (32, 32, 64, 128, 256, 32))
    assert 2800 <= usual <= 2900
    assert side("unet", (64, 64, 64, 128, 256, 32)) < usual
    assert side("unet", (32, 32, 64, 128, 256, 32), bfloat16=False) < usual
    assert side("unetpp", (32, 32, 64, 128, 256, 32)) < usual
    assert side("unet", (2000,) * 6) == 512


def test_an_empty_model_file_is_no_network(tmp_path: Path) -> None:
    from cell_curator.core.jobs import UserError
    from cell_curator.engines.unet.model import load

    torch.save({}, tmp_path / "weights.pth")
    with pytest.raises(UserError, match="not of a U-Net"):
        load(tmp_path / "weights.pth")
