"""How a Mask R-CNN learns and looks."""

from __future__ import annotations

from typing import Literal

from cell_curator.core.parameters import Parameters, parameter


class MaskRcnnParameters(Parameters):
    """How cells and their types are found in one go."""

    minutes: float = parameter(
        10.0,
        "Time",
        "When to stop, however fast the computer is; the steps grow smaller towards the end. 0: after the number of "
        "steps below. Only then does the same seed give exactly the same model",
        unit="min",
        ge=0,
        le=10_000,
        step=0.5,
    )
    steps: int = parameter(1500, "Steps", "How often it learns, where no time is set", ge=1, le=1_000_000, more=True)
    holdout: float = parameter(
        0.2,
        "Held out",
        "Part of the images, or wells, kept for judging; 0: all are learned from",
        ge=0,
        le=0.5,
        step=0.05,
    )
    score: float = parameter(
        0.5,
        "Cell score",
        "Lower: more cells. Higher: only those that it is sure are cells",
        ge=0.05,
        le=0.99,
        step=0.05,
    )
    drop_border: bool = parameter(False, "Drop cut cells", "Leave out cells that touch the border of the image")
    shown: Literal["prepared", "all"] = parameter(
        "prepared",
        "Channels",
        "What the network sees. prepared: the one channel that the preparation makes. all: up to three channels of the "
        "image, each prepared like that one",
        more=True,
    )
    cell_side: int = parameter(
        40,
        "Cells are shown",
        "Images are scaled so that a typical cell of those learned from is this wide or high",
        unit="px",
        ge=16,
        le=256,
        step=4,
        more=True,
    )
    crop: int = parameter(
        192, "Piece", "Side of the pieces that it learns from", unit="px", ge=64, le=1024, step=32, more=True
    )
    tile: int = parameter(
        640,
        "Look at",
        "Side of the pieces in which large images are looked at; neighbours overlap",
        unit="px",
        ge=128,
        le=2048,
        step=32,
        more=True,
    )
    backbone: Literal["resnet18", "resnet50"] = parameter(
        "resnet18", "Network", "ResNet-18 learns faster; ResNet-50 holds more, for many images", more=True
    )
    channels: int = parameter(
        64, "Width", "Of the layers behind the ResNet; 256 as published", ge=16, le=256, step=16, more=True
    )
    batch: int = parameter(4, "Pieces per step", "More are steadier and slower", ge=1, le=64, more=True)
    learning_rate: float = parameter(
        1e-3, "Learning rate", "Size of the steps; lower it if the loss jumps", ge=1e-6, le=0.1, more=True
    )
    heads_first: float = parameter(
        0.2,
        "Heads first",
        "Part of the training in which only the last layers learn, where the first came from a trained network",
        ge=0,
        le=1,
        step=0.05,
        more=True,
    )
    patience: int = parameter(
        0,
        "Stop early",
        "After so many looks at the held-out images without improvement; 0: never",
        ge=0,
        le=1000,
        more=True,
    )
    seed: int = parameter(
        0, "Seed", "Start of all random numbers: same seed, same result", ge=0, le=1_000_000, more=True
    )
    threads: int = parameter(
        0, "Processor threads", "Fewer leave more of the computer to other programs; 0: all", ge=0, le=256, more=True
    )
