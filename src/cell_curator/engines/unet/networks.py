"""The networks: MONAI's U-Net and U-Net++, their heads, and which of their parts a quick look needs.

A network answers either flows and cell probability, as Cellpose does, so that touching cells stay apart,
or the probability of foreground alone. What it is made of is read from the shapes in its weights file,
which stock MONAI loads too. References: Ronneberger et al. 2015 (arXiv:1505.04597); Zhou et al. 2018,
U-Net++ (arXiv:1807.10165); flows as in Stringer et al., Nature Methods 2021. Knows no image.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from cell_curator.core.jobs import UserError

if TYPE_CHECKING:
    from torch import Tensor

Kind = Literal["unet", "unetpp"]

FLOWS, FOREGROUND = 3, 1
"""Planes of a head: flow y, flow x and cell probability, or the probability of foreground alone."""

DEPTH = 4
"""Times that the picture is halved, and heads of a U-Net++."""

STEP = 2**DEPTH
"""Sides of a tile are multiples of this, px."""

EARLY = 2
"""The head of a U-Net++ that a quick look stops at; what only deeper heads need is not computed."""

REMEDY = "choose a model of the engines unet or unetpp that `cell-curator models` lists"


@dataclass(frozen=True)
class Design:
    """What a network is made of.

    Parameters
    ----------
    kind
        ``"unet"`` or ``"unetpp"``.
    features
        Widths of the five levels, fine to coarse, and of the last layer.
    channels
        Planes that it looks at.
    outputs
        `FLOWS` or `FOREGROUND`.
    """

    kind: Kind
    features: tuple[int, ...]
    channels: int = 1
    outputs: int = FLOWS


WIDTHS: dict[Kind, tuple[int, ...]] = {"unet": (32, 32, 64, 128, 256, 32), "unetpp": (16, 32, 64, 128, 128, 16)}
"""Widths that learn in minutes on a laptop."""


def build(design: Design, seed: int = 0) -> Any:
    """An untrained network; ``diam_mean`` and ``diam_labels`` (px) are kept with its weights.

    ``diam_labels`` is the mean diameter of the cells it learned from, 0 as long as it learned from none.
    """
    import torch
    from monai.networks.nets import BasicUNet, BasicUNetPlusPlus

    given: dict[str, Any] = {
        "spatial_dims": 2,
        "in_channels": design.channels,
        "out_channels": design.outputs,
        "features": design.features,
        "act": ("relu", {"inplace": True}),
        "norm": "batch",  # one tile's figures must not depend on what else is in it, or seams show
        "bias": False,
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = BasicUNet(**given) if design.kind == "unet" else BasicUNetPlusPlus(deep_supervision=True, **given)
    module.register_buffer("diam_mean", torch.zeros(1))
    module.register_buffer("diam_labels", torch.zeros(1))
    return module.eval()


def heads(module: Any, data: Tensor, depth: int = DEPTH) -> list[Tensor]:
    """What each head says ``(N, outputs, y, x)``, the shallowest first; a U-Net has one.

    Parameters
    ----------
    depth
        The deepest head of a U-Net++ that is asked. Layers that only deeper ones need are not run.
    """
    import torch

    if hasattr(module, "final_conv"):
        return [module(data)]
    nodes = [[module.conv_0_0(data)]]
    said = []
    for column in range(1, depth + 1):
        nodes.append([getattr(module, f"conv_{column}_0")(nodes[column - 1][0])])
        for row in range(column - 1, -1, -1):
            up = getattr(module, f"upcat_{row}_{column - row}")
            nodes[row].append(up(nodes[row + 1][-1], torch.cat(nodes[row], dim=1)))
        said.append(getattr(module, f"final_conv_0_{column}")(nodes[0][-1]))
    return said


def for_looking(module: Any, *, bfloat16: bool) -> Any:
    """The network changed for looking alone: it can no longer learn, nor be saved.

    Normalisation is folded into the layer before it. In bfloat16 all of it is, so that no layer is converted again
    for every tile: 1.5 times as fast as under autocast, in two thirds of the memory.
    """
    import torch
    from torch.nn.utils.fusion import fuse_conv_bn_eval

    for part in list(module.modules()):
        if hasattr(part, "conv") and isinstance(getattr(getattr(part, "adn", None), "N", None), torch.nn.BatchNorm2d):
            part.conv, part.adn.N = fuse_conv_bn_eval(part.conv, part.adn.N), torch.nn.Identity()
    for layer in module.modules():
        if bfloat16 and isinstance(layer, torch.nn.Conv2d | torch.nn.ConvTranspose2d):
            layer.to(torch.bfloat16)
    return module


def design_of(state: Mapping[str, Tensor], name: str) -> Design:
    """The design of the network whose weights these are.

    Raises
    ------
    UserError
        If they are those of another architecture.
    """
    if "conv_0_0.conv_0.conv.weight" in state:
        kind: Kind = "unetpp"
        rows = ["conv_0_0.conv_1", *(f"conv_{row}_0.convs.conv_1" for row in range(1, 5)), "upcat_0_4.convs.conv_1"]
        first, last = "conv_0_0.conv_0.conv.weight", "final_conv_0_4.weight"
    elif "conv_0.conv_0.conv.weight" in state:
        kind = "unet"
        rows = ["conv_0.conv_1", *(f"down_{row}.convs.conv_1" for row in range(1, 5)), "upcat_1.convs.conv_1"]
        first, last = "conv_0.conv_0.conv.weight", "final_conv.weight"
    else:
        raise UserError(f"{name}: weights of {_other(state)}, not of a U-Net or U-Net++ of this program; {REMEDY}")
    wanted = [*(f"{row}.conv.weight" for row in rows), first, last]
    shapes = [tuple(state[key].shape) for key in wanted if key in state]
    known = len(shapes) == len(wanted) and all(len(shape) == 4 for shape in shapes)
    if not known or shapes[-1][0] not in (FLOWS, FOREGROUND):
        raise UserError(f"{name}: layers of a {TITLES[kind]} are missing or of another kind; {REMEDY}")
    return Design(kind, tuple(shape[0] for shape in shapes[:6]), shapes[-2][1], shapes[-1][0])


TITLES: dict[str, str] = {"unet": "U-Net", "unetpp": "U-Net++"}


def _other(state: Mapping[str, Tensor]) -> str:
    """What else weights are of, in words."""
    if "W2" in state:
        return "Cellpose-SAM (engine cellpose-sam)"
    return "Cellpose's U-Net (engine cellpose-unet)" if "output.2.weight" in state else "another network"


def restored(state: Mapping[str, Tensor], name: str) -> tuple[Any, Design]:
    """The network whose weights these are, ready to look.

    Raises
    ------
    UserError
        If layers are missing or of another architecture.
    """
    design = design_of(state, name)
    module = build(design)
    try:
        module.load_state_dict(dict(state))
    except RuntimeError as error:
        raise UserError(f"{name}: the layers are not those of a {TITLES[design.kind]}; {REMEDY}") from error
    return module, design
