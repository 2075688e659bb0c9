"""The engines ``unet`` and ``unetpp``: cells by a U-Net or U-Net++ of this program's own.

Puts together `model` (pixels to flows, or to foreground), `diameter` (how large the cells are, whether they
are dark) and `masks` (flows to labels). What images were made to look like when the model learned stands on
its card and is done again here. How it learns is in `learning`, with what `training` brings to it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines.cellpose_unet import inverted, network_shape
from cell_curator.engines.diameter import Guess, estimate
from cell_curator.engines.downloads import fetch
from cell_curator.engines.masks import outline
from cell_curator.engines.network import resize
from cell_curator.engines.segmenter import Segmentation, SegmentParameters, nothing

if TYPE_CHECKING:
    from cell_curator.engines.finetune import Trained, TrainParameters
    from cell_curator.engines.training_data import Example, Reviewed
    from cell_curator.engines.unet.model import Network

NUCLEI = "unetpp-nuclei"
"""The model that comes with the package."""

_USUAL = SegmentParameters()


class UNet:
    """See `cell_curator.engines.segmenter.Segmenter`."""

    name = "unet"
    title = "U-Net"

    def unavailable(self) -> str | None:
        """Why it cannot run here and what to do, or None if it can."""
        missing = [package for package in ("torch", "monai") if find_spec(package) is None]
        if missing:
            return f"{' and '.join(missing)} not installed; run `pip install {' '.join(missing)}`"
        return None

    def segment(self, planes: NDArray[np.float32], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(C, Y, X)``, normalised.

        Raises
        ------
        UserError
            If the model cannot be found or read, is of another architecture, knows fewer channels, or the
            diameter is far too small for the size of the image.
        """
        from cell_curator.engines.unet.model import checked, depth_of, error_unit, load, preprocessing

        yield Progress(0.0, "loading the model")
        weights = yield from scaled(fetch(self._model(params), engine=self.name), 0.0, 0.02)
        network = checked(load(weights, depth_of(params.quality)), self.name, weights)
        if not network.learned_diameter:
            return nothing(
                planes.shape[1:],
                f"{params.model} has learned nothing yet; correct some cells, mark them reviewed and train a round",
            )
        if len(planes) > network.design.channels:
            raise UserError(
                f"{params.model} learned on {network.design.channels} channel(s) and makes nothing of {len(planes)}; "
                "set the nucleus channel to -1, or choose a model trained with cytoplasm and nucleus"
            )
        prepared = preprocessing(weights)
        polarity = params.polarity if params.polarity != "auto" else prepared.get("polarity", "auto")
        guess = yield from scaled(_guess(network, planes, params.diameter, polarity), 0.02, 0.4)
        if not guess.diameter:
            return nothing(
                planes.shape[1:],
                "nothing looks like a cell at any size from 6 to 200 px; set the cell diameter or choose another model",
            )
        shape = network_shape(planes.shape[1:], guess.diameter, network.diam_mean)
        seen = np.stack([resize(plane, shape) for plane in inverted(planes, guess.inverted)])
        answer, _ = yield from scaled(network.predict(seen, params.tile), 0.4, 0.95)
        yield Progress(0.95, "outlining cells")
        raw = Segmentation(
            labels=np.zeros(planes.shape[1:], dtype=np.int32),
            diameter=guess.diameter,
            inverted=guess.inverted,
            flow_error=np.zeros(1, dtype=np.float32),
            flow=answer[:-1],
            cell_probability=answer[-1],
            error_unit=error_unit(prepared),
        )
        return outline(raw, params)

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
        """See `cell_curator.engines.finetune.finetune`. A new network learns from nothing but these examples."""
        from cell_curator.engines.learning import learn
        from cell_curator.engines.trainable import Trainable
        from cell_curator.engines.training_material import gather
        from cell_curator.engines.unet.model import checked, error_unit, preprocessing, read
        from cell_curator.engines.unet.networks import FOREGROUND
        from cell_curator.engines.unet.training import all_heads, deep_loss, prepared_as

        yield Progress(0.0, "loading the model")
        network = checked(read(base, max((_planes(one) for one in train), default=1)), self.name, base)
        foreground = network.design.outputs == FOREGROUND
        decide = partial(_decide, network, params.polarity)
        ready = gather(train, holdout, preview, params, decide, network.diam_mean, foreground)
        material = yield from scaled(ready, 0.0, 0.0)
        network.module.diam_labels.fill_(material.diameter)
        if not params.rescale:
            network.module.diam_mean.fill_(material.diameter)
        unit = error_unit(preprocessing(base))
        details = {**material.details, "preprocessing": {**prepared_as(network, material, params), "error_unit": unit}}
        net = Trainable(
            self.name,
            base,
            network.module,
            network.design.channels,
            network.bfloat16,
            network.predict,
            answers=all_heads,
            loss=partial(deep_loss, outputs=network.design.outputs),
            error_unit=unit,
        )
        return (yield from learn(net, replace(material, details=details), params, folder, resume))

    def _model(self, params: SegmentParameters) -> str:
        """The model that is set; where nobody chose one, that of this engine."""
        return NUCLEI if params.model == _USUAL.model and self.name == "unetpp" else params.model


class UNetPlusPlus(UNet):
    """See `cell_curator.engines.segmenter.Segmenter`."""

    name = "unetpp"
    title = "U-Net++"


def _guess(network: Network, planes: NDArray[np.float32], diameter: float, polarity: str) -> Job[Guess]:
    """Diameter and polarity; a network that tells foreground alone has the one scale that it learned on.

    Early heads tell sizes as well as all of them, at a third of the cost.
    """
    from cell_curator.engines.unet.networks import EARLY, FOREGROUND

    if network.design.outputs == FOREGROUND:
        return Guess(diameter or network.learned_diameter, polarity == "dark")
    return (yield from estimate(replace(network, depth=EARLY), planes, diameter, polarity))


def _decide(network: Network, polarity: str, one: Reviewed, diameter: float) -> Job[bool]:
    """Whether an example is shown inverted: as it will be when cells are looked for; a new network asks the labels."""
    from cell_curator.engines.training_data import contrast
    from cell_curator.engines.unet.networks import FOREGROUND

    if polarity != "auto":
        return polarity == "dark"
    if network.design.outputs == FOREGROUND or not network.learned_diameter:
        return contrast(one) < 0
    guess: Guess = yield from _guess(network, one.planes, diameter, "auto")
    return guess.inverted


def _planes(example: Any) -> int:
    """How many planes an example is shown as; of RGB it is the luminance alone."""
    return 2 if example.image.ndim == 3 and len(example.image) == 2 else 1
