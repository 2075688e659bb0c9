"""The engine ``cellpose-unet``: Cellpose 1–3's U-Net with automatic diameter and polarity.

Puts together `network` (pixels to flows), `diameter` (how large the cells are, whether they are
dark) and `masks` (flows to labels), and says why when it finds nothing. How it learns is in `learning`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines.cards import CARD, read_card
from cell_curator.engines.diameter import Guess, estimate
from cell_curator.engines.downloads import fetch
from cell_curator.engines.masks import outline
from cell_curator.engines.network import Network, load_network, resize
from cell_curator.engines.preflight import polarity_note, size_note
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, nothing

if TYPE_CHECKING:
    from cell_curator.engines.finetune import Trained, TrainParameters
    from cell_curator.engines.training_data import Example, Reviewed

MOST_PIXELS = 300_000_000
"""Most pixels the network is shown of one image (about 5 GB)."""


class CellposeUNet:
    """See `cell_curator.engines.segmenter.Segmenter`."""

    name = "cellpose-unet"
    title = "Cellpose 3 (U-Net)"

    def unavailable(self) -> str | None:
        """Why it cannot run here and what to do, or None if it can."""
        missing = [package for package in ("torch", "cellpose") if find_spec(package) is None]
        if missing:
            return f"{' and '.join(missing)} not installed; run `pip install 'cellpose>=3.1.1.2,<4'`"
        return None

    def segment(self, planes: NDArray[np.float32], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(C, Y, X)``: one plane, or cytoplasm and nucleus, normalised.

        Raises
        ------
        UserError
            If the model cannot be found or read, knows no second channel, or the diameter is far too small
            for the size of the image.
        """
        yield Progress(0.0, "loading the model")
        weights = yield from scaled(fetch(params.model), 0.0, 0.02)
        if len(planes) > 1 and _learned_on_one(weights):
            raise UserError(
                f"{params.model} learned on one channel and makes nothing of a second; "
                "set the nucleus channel to -1, or choose a model trained with cytoplasm and nucleus"
            )
        network = load_network(weights)
        guess = yield from scaled(estimate(network, planes, params.diameter, params.polarity), 0.02, 0.5)
        if guess.diameter == 0:
            return nothing(
                planes.shape[1:],
                "nothing looks like a cell at any size from 6 to 200 px; "
                "set the cell diameter, choose another channel, or lower the cell threshold",
            )
        shape = network_shape(planes.shape[1:], guess.diameter, network.diam_mean)
        seen = np.stack([resize(plane, shape) for plane in inverted(planes, guess.inverted)])
        answer, note = yield from scaled(network.predict(seen, params.tile), 0.5, 0.95)
        yield Progress(0.95, "outlining cells")
        raw = Segmentation(
            labels=np.zeros(planes.shape[1:], dtype=np.int32),
            diameter=guess.diameter,
            inverted=guess.inverted,
            flow_error=np.zeros(1, dtype=np.float32),
            flow=answer[:2],
            cell_probability=answer[2],
        )
        del seen
        found = outline(raw, params)
        if not found.count:
            found = yield from scaled(_explained(found, network, planes, params), 0.95, 1.0)
        return replace(found, notes=(*found.notes, note)) if note else found

    def rethreshold(self, result: Segmentation, params: SegmentParameters) -> Segmentation:
        """Redo only the mask step of ``result`` with the thresholds of ``params``."""
        return outline(result, params)

    def finetune(
        self,
        base: Path,
        train: Sequence[Example],
        holdout: Sequence[Example],
        params: TrainParameters,
        folder: Path,
        preview: Example | None = None,
        resume: bool = True,
    ) -> Job[Trained]:
        """See `cell_curator.engines.finetune.finetune`."""
        from cell_curator.engines.learning import learn
        from cell_curator.engines.trainable import Trainable
        from cell_curator.engines.training_material import gather

        yield Progress(0.0, "loading the model")
        network = load_network.__wrapped__(base)  # one of its own: the kept ones must not learn

        def decide(one: Reviewed, diameter: float) -> Job[bool]:
            if params.polarity != "auto":
                return params.polarity == "dark"
            guess: Guess = yield from estimate(network, one.planes, diameter, "auto")
            return guess.inverted

        ready = gather(train, holdout, preview, params, decide, network.diam_mean)
        material = yield from scaled(ready, 0.0, 0.0)
        network.module.diam_labels.data[:] = material.diameter
        net = Trainable(self.name, base, network.module, network.channels, network.bfloat16, network.predict)
        made = yield from learn(net, material, params, folder, resume)
        load_network.cache_clear()  # the file may have been read before it was written anew
        return made


def inverted(planes: NDArray[np.float32], dark: bool) -> NDArray[np.float32]:
    """The planes, the first (where cells are looked for) inverted if they are dark."""
    return np.concatenate([1 - planes[:1], planes[1:]]) if dark else planes


def _explained(
    found: Segmentation, network: Network, planes: NDArray[np.float32], params: SegmentParameters
) -> Job[Segmentation]:
    """A result without cells, with what a look without the given diameter and polarity suggests."""
    if not params.diameter and params.polarity == "auto":
        return found
    free: Guess = yield from estimate(network, planes, 0.0, "auto")
    if free.diameter and (
        note := polarity_note(params.polarity, free.inverted) or size_note(params.diameter, free.diameter)
    ):
        return replace(found, notes=(note,))
    return found


def network_shape(shape: tuple[int, ...], diameter: float, diam_mean: float) -> tuple[int, int]:
    """Size at which cells of ``diameter`` have the size ``diam_mean`` (px) that a network was trained on."""
    scale = diam_mean / diameter
    height, width = (max(8, round(side * scale)) for side in shape)
    if height * width > MOST_PIXELS:
        least = diam_mean * float(np.sqrt(shape[0] * shape[1] / MOST_PIXELS))
        raise UserError(
            f"cells of {diameter:.0f} px are too small for an image of {shape[1]} × {shape[0]} px to be enlarged "
            f"in memory; set a cell diameter of {np.ceil(least):.0f} px or more, or use a part of the image"
        )
    return height, width


def _learned_on_one(weights: Path) -> bool:
    """Whether the card beside the weights says so; of models without a card nothing is known."""
    card = weights.with_name(CARD)
    return card.is_file() and read_card(weights.parent).details.get("channels") == 1
