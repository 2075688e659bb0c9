"""The engine ``cellpose-unet``: Cellpose 1–3's U-Net with automatic diameter and polarity.

Puts together `network` (pixels to flows), `diameter` (how large the cells are, whether they are
dark) and `flows` (flows to labels), and says why when it finds nothing. Trains nothing.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.core.preprocess import select_channel
from cell_curator.core.recipe import Channel
from cell_curator.engines.cards import find_model
from cell_curator.engines.diameter import estimate
from cell_curator.engines.flows import find_cells, flow_errors, tidy, to_image
from cell_curator.engines.network import Network, load_network, normalise, resize
from cell_curator.engines.segmenter import Segmentation, SegmentParameters

MOST_PIXELS = 60_000_000
"""Most pixels the network is shown at once (about 3 GB)."""


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

    def segment(self, image: NDArray[Any], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(Y, X)`` or ``(C, Y, X)``.

        Raises
        ------
        UserError
            If the model cannot be found or read, the image is no plane, or the diameter is far too
            small for the size of the image.
        """
        gray = _one_channel(image)
        yield Progress(0.0, "loading the model")
        network = load_network(find_model(params.model))
        bright = normalise(gray)
        if bright is None:
            return _nothing(gray.shape, "0 cells found: all pixels are equal; choose another channel or image")
        guess = yield from scaled(estimate(network, bright, params.diameter, params.polarity), 0.02, 0.5)
        if guess.diameter == 0:
            return _nothing(
                gray.shape,
                "0 cells found: nothing looks like a cell at any size from 6 to 200 px; "
                "set the cell diameter, choose another channel, or lower the cell threshold",
            )
        seen = 1 - bright if guess.inverted else bright
        shape = _network_shape(bright.shape, guess.diameter, network)
        output = yield from scaled(network.predict(resize(seen, shape)), 0.5, 0.95)
        yield Progress(0.95, "outlining cells")
        raw = Segmentation(
            labels=np.zeros(gray.shape, dtype=np.int32),
            diameter=guess.diameter,
            inverted=guess.inverted,
            flow_error=np.zeros(1, dtype=np.float32),
            flow=(output[:2] / 5).astype(np.float16),
            cell_probability=output[2].astype(np.float16),
        )
        return self.rethreshold(raw, params)

    def rethreshold(self, result: Segmentation, params: SegmentParameters) -> Segmentation:
        """Redo only the mask step of ``result`` with the thresholds of ``params``."""
        if not result.cell_probability.size:
            return result
        flow = result.flow.astype(np.float32)
        probability = result.cell_probability.astype(np.float32)
        cells = find_cells(flow, probability > params.cellprob_threshold)
        errors = flow_errors(cells, flow)
        doubtful = errors > (params.flow_threshold or np.inf)
        kept = np.where(doubtful[cells], 0, cells).astype(np.int32)
        labels = to_image(kept, flow, probability, params.cellprob_threshold, result.labels.shape)
        tidied, old = tidy(labels, min_size=params.min_size, drop_border=params.drop_border)
        notes: tuple[str, ...] = ()
        if len(old) == 1:
            notes = (_why_nothing(probability, len(errors) - 1, int(doubtful.sum()), labels, params),)
        return Segmentation(
            labels=tidied,
            diameter=result.diameter,
            inverted=result.inverted,
            flow_error=errors[old],
            flow=result.flow,
            cell_probability=result.cell_probability,
            notes=notes,
        )


def _one_channel(image: NDArray[Any]) -> NDArray[np.float32]:
    """``(Y, X)`` float32 of a plane, of one channel, or of RGB (its luminance, as in preprocessing)."""
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(
            f"an image of shape {image.shape} cannot be segmented; give one plane (Y, X) or its channels (C, Y, X)"
        )
    return select_channel(image if image.ndim == 3 else image[np.newaxis], Channel())


def _network_shape(shape: tuple[int, ...], diameter: float, network: Network) -> tuple[int, int]:
    """Size at which cells of ``diameter`` have the size that the network was trained on."""
    scale = network.diam_mean / diameter
    height, width = (max(8, round(side * scale)) for side in shape)
    if height * width > MOST_PIXELS:
        least = network.diam_mean * float(np.sqrt(shape[0] * shape[1] / MOST_PIXELS))
        raise UserError(
            f"cells of {diameter:.0f} px are too small for an image of {shape[1]} × {shape[0]} px to be enlarged "
            f"in memory; set a cell diameter of {np.ceil(least):.0f} px or more, or use a part of the image"
        )
    return height, width


def _nothing(shape: tuple[int, ...], note: str) -> Segmentation:
    return Segmentation(
        labels=np.zeros(shape, dtype=np.int32),
        diameter=0.0,
        inverted=False,
        flow_error=np.zeros(1, dtype=np.float32),
        notes=(note,),
    )


def _why_nothing(
    probability: NDArray[np.float32],
    candidates: int,
    doubtful: int,
    labels: NDArray[np.int32],
    params: SegmentParameters,
) -> str:
    """One line: at which step the last cell was lost, and which control brings it back."""
    if not candidates:
        return (
            f"0 cells found: the best pixel reaches {probability.max():.1f} where the cell threshold is "
            f"{params.cellprob_threshold:g}; lower the cell threshold, or set the cell diameter"
        )
    if doubtful == candidates:
        return (
            f"0 cells found: all {candidates} candidates disagree with the network's idea of their shape; raise the "
            "shape tolerance, or set the cell diameter"
        )
    largest = int(np.bincount(labels.ravel())[1:].max(initial=0))
    if largest < params.min_size:
        return (
            f"0 cells found: the largest of {candidates} candidates has {largest} px where the smallest cell is set to "
            f"{params.min_size} px; lower the smallest cell"
        )
    return f"0 cells found: all {candidates} candidates touch the border; switch off “Drop cut cells”"
