"""What can be set of the embedding. Knows neither networks nor training."""

from __future__ import annotations

from typing import Literal

from cell_curator.core.parameters import Parameters, parameter


class VaeParameters(Parameters):
    """How the embedding is learned."""

    model: Literal["vae", "dense", "cvae", "cvae-mixed"] = parameter(
        "vae",
        "Model",
        "vae: learns from the pictures alone. dense: the same without convolutions, for small patches. cvae: is told "
        "the condition when it paints, so that the features hold what the condition does not explain. cvae-mixed: the "
        "condition is mixed into the features before painting.",
    )
    latent: int = parameter(16, "Features", "Numbers that describe each cell.", ge=2, le=256, step=1)
    steps: int = parameter(
        800,
        "Training steps",
        "Batches seen at most; training stops earlier when it no longer improves. 800 take about a minute "
        "on two cores.",
        ge=1,
        le=100_000,
        step=100,
    )
    beta: float = parameter(
        1.0,
        "β",
        "Weight of the order in the map against the likeness of the pictures; higher makes rounder, "
        "simpler maps and blurrier pictures.",
        ge=0,
        le=100,
        step=0.1,
        more=True,
    )
    loss: Literal["bce", "mse", "gaussian"] = parameter(
        "bce",
        "Likeness",
        "How pictures are compared. bce: cross-entropy, as published. mse: squared difference. gaussian: squared "
        "difference in units of a noise that is learned too, which balances it against β.",
        more=True,
    )
    background: float = parameter(
        1.0,
        "Background",
        "How much pixels outside the cell count in the likeness; at 0 the shape of the cell is not learned.",
        ge=0,
        le=1,
        step=0.1,
        more=True,
    )
    augment: bool = parameter(
        True, "Turn and flip", "Also train on cells turned and flipped as the three switches below say.", more=True
    )
    half_turn: bool = parameter(True, "Turn by 180°", "Also train on cells turned by 180°.", more=True)
    flip: bool = parameter(True, "Flip", "Also train on cells mirrored along and across.", more=True)
    any_turn: bool = parameter(
        False, "Turn by any angle", "Also train on cells turned by any angle: for cells without orientation.", more=True
    )
    jitter: float = parameter(
        0.0,
        "Ignore small changes",
        "Show the network cells that are shifted, turned, stretched and bent this much, and have it paint them "
        "unchanged; the map then ignores such changes. 0: off.",
        ge=0,
        le=2,
        step=0.1,
        more=True,
    )
    free_bits: float = parameter(
        0.0,
        "Free information",
        "What each feature may hold without being charged for by β; keeps features from dying.",
        unit="nats",
        ge=0,
        le=5,
        step=0.05,
        more=True,
    )
    alpha: int = parameter(
        8, "α", "cvae-mixed: the condition gets one of α parts of the features.", ge=2, le=64, step=1, more=True
    )
    refine: Literal["full", "frozen encoder"] = parameter(
        "full",
        "Refine",
        "Going on from a trained model. full: all of it learns on. frozen encoder: features stay what they were, only "
        "the painting adapts.",
        more=True,
    )
    batch: int = parameter(64, "Batch", "Cells per step.", unit="cells", ge=2, le=4096, more=True)
    learning_rate: float = parameter(3e-3, "Learning rate", "Of Adam.", ge=1e-6, le=1, more=True)
    width: int = parameter(
        16, "Width", "Channels of the first layer; each layer doubles them.", ge=4, le=128, step=4, more=True
    )
    warmup: float = parameter(
        0.25, "Warm-up", "Part of the steps over which β grows from 0.", ge=0, le=1, step=0.05, more=True
    )
    patience: int = parameter(
        8, "Patience", "Checks without improvement before training stops (25 checks in all).", ge=1, more=True
    )
    holdout: float = parameter(
        0.15, "Held back", "Part of the cells, by whole images, never trained on.", ge=0.02, le=0.5, more=True
    )
    precision: Literal["auto", "float32", "bfloat16"] = parameter(
        "auto", "Precision", "Arithmetic in training; auto takes the faster of the two here.", more=True
    )
    seed: int = parameter(0, "Seed", "The same seed gives the same map on the same machine.", ge=0, more=True)
