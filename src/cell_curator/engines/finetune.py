"""Teach a network the cells that were reviewed: what can be set, what is told on the way, what comes out.

`finetune` is the job; it runs in the worker process. Closing it ends the process, so whatever is worth
keeping lies in the folder at any moment: ``weights.pth`` (the best so far, loads in stock Cellpose) with
a card that names its engine, for the caller to complete, ``training.json`` (what `best_so_far` reads) and
``checkpoint.pt`` (to go on after a crash). The loop itself is in `learning`, the tiles in
`training_tiles`. Scores no masks and promotes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.engines.augment import UNCHANGED, AugmentParameters
from cell_curator.engines.cards import WEIGHTS
from cell_curator.engines.loss import CellLoss
from cell_curator.engines.training_data import Example
from cell_curator.io.atomic import write_atomic

NOTES = "training.json"
CHECKPOINT = "checkpoint.pt"

Point = tuple[int, float, float | None]
"""Epoch, mean loss of its tiles, hold-out loss after it (None: not looked at, or no hold-out)."""


NOT_VARIED = frozenset({"flip", "turn", "turn_deg", "scale", "scale_range", "hue", "hue_shift", "saturation"})
"""What of `AugmentParameters` means nothing here: pieces are turned and scaled as they are cut, and are grey."""


class TrainParameters(Parameters):
    """How a network learns. The defaults are those of Cellpose's ``train_seg``."""

    minutes: float = parameter(
        0.0,
        "Time",
        "When to stop, however fast the computer is; the steps grow smaller towards the end. 0: after the number of "
        "passes below. Only then does the same seed give exactly the same model",
        unit="min",
        ge=0,
        le=10_000,
        step=0.5,
    )
    epochs: int = parameter(
        2000, "Passes", "How often all images are gone through, where no time is set", ge=1, le=100_000, more=True
    )
    learning_rate: float = parameter(
        0.005, "Learning rate", "Size of the steps; lower it if the loss jumps", ge=1e-7, le=0.5, more=True
    )
    schedule: Literal["cellpose", "cosine"] = parameter(
        "cellpose",
        "Step sizes",
        "cellpose: grow for 10 passes, then stay (and halve at the end of long trainings). cosine: grow in the first "
        "tenth, then fall smoothly to 0, as always where a time is set",
        more=True,
    )
    weight_decay: float = parameter(1e-5, "Weight decay", "Pulls weights towards 0", ge=0, le=1, more=True)
    sgd: bool = parameter(False, "Plain gradient descent", "SGD with momentum in place of AdamW", more=True)
    momentum: float = parameter(0.9, "Momentum", "Of plain gradient descent", ge=0, le=0.999, more=True)
    batch_size: int = parameter(8, "Pieces per step", "More are steadier and slower", ge=1, le=128, more=True)
    tile: int = parameter(
        224, "Piece", "Side of the pieces that are cut at random", unit="px", ge=64, le=512, step=16, more=True
    )
    images_per_epoch: int = parameter(
        0,
        "Pieces per pass",
        "0: one of each image; else this many, of images drawn at random",
        ge=0,
        le=100_000,
        more=True,
    )
    cell_loss: CellLoss = parameter(
        "bce",
        "Judge pixels by",
        "How cell or not is judged. bce: every pixel alike, as in Cellpose. dice: also the overlap as a whole, for "
        "cells that cover little. focal: mostly pixels that are hard",
        more=True,
    )
    rescale: bool = parameter(
        True,
        "Bring cells to one size",
        "Rescale images so that cells have the size that the network expects",
        more=True,
    )
    scale_range: float = parameter(
        0.5,
        "Vary the size",
        "0.5: pieces are shown at 0.75 to 1.25 of their size",
        ge=0,
        le=1.5,
        step=0.1,
        more=True,
    )
    min_train_masks: int = parameter(
        5,
        "Fewest cells",
        "Images with fewer reviewed cells are left out; 0: none is",
        ge=0,
        le=1000,
        more=True,
    )
    vary: AugmentParameters = UNCHANGED
    polarity: Literal["auto", "bright", "dark"] = parameter(
        "auto",
        "Cells are",
        "bright on a dark ground, dark on a bright ground, or decided as when cells are looked for",
        more=True,
    )
    keep: Literal["best", "last"] = parameter(
        "best",
        "Keep",
        "best: the network with the lowest loss on the hold-out, whose scores there are then slightly favourable. "
        "last: the one at the end, which makes the hold-out a clean judge. Without a hold-out the last is kept",
        more=True,
    )
    patience: int = parameter(
        0, "Stop early", "After so many looks at the hold-out without improvement; 0: never", ge=0, le=1000, more=True
    )
    evaluate_every: int = parameter(
        10, "Look every", "Passes between two looks at the hold-out and the preview", ge=1, le=10_000, more=True
    )
    seed: int = parameter(0, "Seed", "Another number draws other pieces", ge=0, le=1_000_000, more=True)
    threads: int = parameter(
        0, "Processor threads", "Fewer leave more of the computer to other programs; 0: all", ge=0, le=256, more=True
    )


PRESETS: dict[str, TrainParameters] = {
    "quick": TrainParameters(
        minutes=2,
        learning_rate=3e-3,
        batch_size=4,
        tile=160,
        images_per_epoch=16,
        min_train_masks=0,
        evaluate_every=2,
    ),
    "thorough": TrainParameters(
        minutes=15, learning_rate=3e-3, batch_size=8, images_per_epoch=32, min_train_masks=0, evaluate_every=3
    ),
    "cellpose": TrainParameters(),
}
"""For the U-Net: about 2 minutes and 15 minutes on any computer, and exactly what ``train_seg`` does."""

_SAM = {"learning_rate": 1e-5, "weight_decay": 0.1, "batch_size": 1, "tile": 256, "rescale": False}
_SAM_TIMES = {"quick": {"minutes": 10}, "thorough": {"minutes": 120}, "cellpose": {"epochs": 100}}


def presets(engine: str = "cellpose-unet") -> dict[str, TrainParameters]:
    """`PRESETS`; with the learning rate, weight decay and sizes of Cellpose 4 for ``cellpose-sam``.

    A U-Net, which knows nothing yet, is shown more varied pieces.
    """
    if engine in ("unet", "unetpp"):
        varied = {"vary": AugmentParameters(), "cell_loss": "dice"}
        return {name: preset.model_copy(update=varied if preset.minutes else {}) for name, preset in PRESETS.items()}
    if engine != "cellpose-sam":
        return PRESETS
    longer: dict[str, dict[str, Any]] = {
        "quick": {"minutes": 10},
        "thorough": {"minutes": 120},
        "cellpose": {"epochs": 100},
    }
    return {name: preset.model_copy(update={**_SAM, **longer[name]}) for name, preset in PRESETS.items()}


@dataclass(frozen=True)
class TrainingState:
    """How the training stands; the payload of its `Progress`.

    Parameters
    ----------
    epoch, epochs
        Passes begun and planned (estimated where a time is set).
    step
        Steps done.
    loss
        Mean loss of this pass so far.
    holdout_loss
        At the last look, None without a hold-out.
    holdout_before
        Of the model that the training started from.
    curve
        All passes that ended.
    best_epoch
        The pass whose network is kept so far, 0: none yet.
    preview
        ``(Y, X)`` int32, the cells found now in the marked part of the preview, 0 outside of it; only right
        after each look.
    preview_name
        Name of the example it is of.
    """

    epoch: int
    epochs: int
    step: int
    loss: float
    holdout_loss: float | None
    holdout_before: float | None
    curve: tuple[Point, ...]
    best_epoch: int
    preview: NDArray[np.int32] | None = None
    preview_name: str = ""


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Parameters
    ----------
    weights
        The file, loads in stock Cellpose.
    epoch, epochs
        The pass that was kept, and those that were done.
    curve
        Loss of every pass.
    diameter
        Mean over the images of their typical diameter, px.
    seconds
        Time spent learning.
    stopped
        ``"end"``, ``"early"`` (no more improvement), ``"diverged"`` (the loss stopped being a number; the
        network of the last look is kept) or ``"cancelled"``.
    details
        For the card; plain numbers, words and lists.
    """

    weights: Path
    epoch: int
    epochs: int
    curve: tuple[Point, ...]
    diameter: float
    seconds: float
    stopped: str
    details: dict[str, Any] = field(default_factory=dict)


def finetune(
    base: Path,
    train: Sequence[Example],
    holdout: Sequence[Example],
    params: TrainParameters,
    folder: Path,
    preview: Example | None = None,
    resume: bool = True,
    engine: str = "cellpose-unet",
) -> Job[Trained]:
    """Train on from ``base``; yields `TrainingState` payloads.

    Parameters
    ----------
    base
        Weights file to start from; it is not changed.
    train
        What to learn.
    holdout
        What to judge by, never learned from; may be empty.
    folder
        Where the model goes; made if it does not exist. One training at a time.
    preview
        An image to show the cells of on the way; its ``counts`` mark the part that is shown (the box round it).
    resume
        Go on from a checkpoint in ``folder`` if it is of exactly this training.

    Raises
    ------
    UserError
        If there is nothing to learn from, the base cannot be read, the disk is full, or the loss stops
        being a number before there is anything to keep.
    """
    from cell_curator.engines.segmenter import runnable

    learner = runnable(engine)
    return (yield from learner.finetune(base, train, holdout, params, folder, preview, resume))


def best_so_far(folder: Path) -> Trained | None:
    """What a training in ``folder`` that ended in whatever way has left, None if nothing is worth keeping."""
    try:
        noted = json.loads((folder / NOTES).read_text(encoding="utf-8"))
        curve = tuple((int(epoch), float(loss), held) for epoch, loss, held in noted.pop("curve"))
        made = Trained(weights=folder / WEIGHTS, curve=curve, **noted)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return made if made.weights.is_file() and made.epoch > 0 else None


def note(folder: Path, trained: Trained) -> None:
    """Write what `best_so_far` reads."""
    noted = {name: value for name, value in asdict(trained).items() if name != "weights"}
    text = json.dumps(noted, indent=1, ensure_ascii=False)
    write_atomic(folder / NOTES, lambda file: file.write(text.encode()))
