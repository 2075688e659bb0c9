"""The layers of a Mask R-CNN for cells, and where their weights start.

torchvision's, with anchors as large as the cells are, and no limit on how many cells there may be. Without trained
weights to start from, group normalisation takes the place of frozen batch normalisation, by which a ResNet learns
from nothing (He, Girshick & Dollár 2018, arXiv:1811.08883). Weights are read from files that the user names, and
never fetched.
"""

from __future__ import annotations

import warnings
from dataclasses import asdict, dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, Literal

from cell_curator.core.jobs import UserError

MOST = 1000
"""Cells in one piece of an image, several times what fits there; an image has as many pieces as it needs."""

_FITTING = 0.5  # share of the ResNet's weights that a file must hold to be of this architecture


@dataclass(frozen=True)
class Layout:
    """What there must be known to build the layers again.

    Parameters
    ----------
    types
        How many types there are.
    norm
        ``"group"``, or ``"frozen"`` batch normalisation of trained weights.
    anchors
        Sides of the boxes that are tried at each of the four scales, px as shown to the network.
    """

    backbone: Literal["resnet18", "resnet50"]
    channels: int
    types: int
    norm: Literal["group", "frozen"]
    anchors: tuple[float, float, float, float]

    def plain(self) -> dict[str, Any]:
        """For a card."""
        return asdict(self)


def build(layout: Layout) -> Any:
    """The network, with weights drawn at random."""
    import torch
    from torchvision.models import resnet
    from torchvision.models.detection.backbone_utils import BackboneWithFPN
    from torchvision.models.detection.faster_rcnn import FastRCNNPredictor, TwoMLPHead
    from torchvision.models.detection.mask_rcnn import MaskRCNN, MaskRCNNHeads, MaskRCNNPredictor
    from torchvision.models.detection.rpn import AnchorGenerator
    from torchvision.ops import FrozenBatchNorm2d

    def group_norm(channels: int) -> Any:
        return torch.nn.GroupNorm(16, channels)

    norm = FrozenBatchNorm2d if layout.norm == "frozen" else group_norm
    body = getattr(resnet, layout.backbone)(weights=None, norm_layer=norm)
    wide = body.inplanes // 8
    width = layout.channels
    backbone = BackboneWithFPN(
        body,
        {f"layer{number}": str(number - 1) for number in range(1, 5)},
        [wide, wide * 2, wide * 4, wide * 8],
        width,
        extra_blocks=_Nothing(),
    )
    return MaskRCNN(
        backbone,
        rpn_anchor_generator=AnchorGenerator(tuple((side,) for side in layout.anchors), ((0.5, 1.0, 2.0),) * 4),
        box_head=TwoMLPHead(width * 7 * 7, 4 * width),
        box_predictor=FastRCNNPredictor(4 * width, layout.types + 1),
        mask_head=MaskRCNNHeads(width, (width,) * 4, 1),
        mask_predictor=MaskRCNNPredictor(width, width, layout.types + 1),
        image_mean=[0.2] * 3,
        image_std=[0.3] * 3,
        _skip_resize=True,
        rpn_batch_size_per_image=128,
        rpn_pre_nms_top_n_train=1000,
        rpn_post_nms_top_n_train=400,
        rpn_pre_nms_top_n_test=MOST,
        rpn_post_nms_top_n_test=MOST,
        box_batch_size_per_image=64,
        box_score_thresh=0.05,
        box_detections_per_img=MOST,
    )


def _Nothing() -> Any:  # noqa: N802  (stands for a class of torchvision, which is imported only when asked)
    """No coarser scale beyond the ResNet's own: cells are never that large."""
    from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

    class Nothing(ExtraFPNBlock):  # type: ignore[misc]
        def forward(self, results: Any, x: Any, names: Any) -> Any:
            return results, names

    return Nothing()


def heads_only(module: Any, wanted: bool) -> None:
    """Let only what lies behind the ResNet learn, or all."""
    for weight in module.backbone.body.parameters():
        weight.requires_grad_(not wanted)


# ---------------------------------------------------------------------- weights to start from


def read_weights(path: Path) -> dict[str, Any]:
    """Tensors of a weights file by name; nothing in it is run.

    Raises
    ------
    UserError
        There is none, or it is something else.
    """
    import torch

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle, which is refused right after
            content = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise UserError(f"{path}: does not exist; name a file of weights") from None
    except (OSError, UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path}: is no file of weights that can be read; name another") from error
    if not isinstance(content, dict) or not all(isinstance(value, torch.Tensor) for value in content.values()):
        raise UserError(f"{path}: holds no plain weights; name a file that holds a network's state and nothing else")
    return content


def norm_of(weights: dict[str, Any]) -> Literal["group", "frozen"]:
    """Which kind of normalisation they were trained with."""
    return "frozen" if any(name.endswith("running_mean") for name in weights) else "group"


def begin_from(module: Any, weights: dict[str, Any], layout: Layout, path: Path) -> int:
    """Put trained weights into all layers that have the same name and size; how many did.

    Weights of a ResNet alone, as trained on photographs, are those of the body.

    Raises
    ------
    UserError
        If they are of another architecture.
    """
    state = module.state_dict()
    named = weights if any(name.startswith("backbone.body.") for name in weights) else {
        f"backbone.body.{name}": value for name, value in weights.items()
    }  # fmt: skip
    fitting = {name: value for name, value in named.items() if name in state and state[name].shape == value.shape}
    body = [name for name in state if name.startswith("backbone.body.")]
    if sum(name in fitting for name in body) < _FITTING * len(body):
        raise UserError(f"{path}: weights of another architecture, not of a {layout.backbone}; name others, or none")
    module.load_state_dict({**state, **fitting})
    return len(fitting)
