"""What every segmentation engine can do, what it is told and what it answers, and their registry.

Engines are found by name; one that cannot run here is still listed, with the reason. No network
and no image processing in here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.preprocess import select_channel
from cell_curator.core.recipe import Channel
from cell_curator.engines.network import normalise
from cell_curator.engines.preflight import channel_note, flat_note
from cell_curator.engines.region import Place, RegionLike, inside_only, place

if TYPE_CHECKING:
    from cell_curator.engines.finetune import Trained, TrainParameters
    from cell_curator.engines.training_data import Example


class SegmentParameters(Parameters):
    """How cells are found."""

    engine: str = parameter(
        "cellpose-unet",
        "Engine",
        "Kind of network that looks for the cells; that of the model, where another model is chosen",
        more=True,
    )
    model: str = parameter(
        "starter-nuclei", "Model", "Name of a model listed by `cell-curator models`, or the path of a weights file"
    )
    source: Literal["prepared", "raw"] = parameter(
        "prepared", "Look at", "prepared: the image as the recipe makes it. raw: a channel as it is in the file"
    )
    channel: int = parameter(
        0, "Channel", "Of the raw image, counted from 0; not used with the prepared image", ge=0, le=63, more=True
    )
    second_channel: int = parameter(
        -1,
        "Nucleus channel",
        "A second channel for models trained with cytoplasm and nucleus, counted from 0 in the file; -1: none",
        ge=-1,
        le=63,
        more=True,
    )
    diameter: float = parameter(
        0.0,
        "Cell diameter",
        "Typical diameter of a cell; 0: estimate it in every image",
        unit="px",
        ge=0,
        le=2000,
        step=0.5,
    )
    cellprob_threshold: float = parameter(
        0.0, "Cell threshold", "Lower: more and larger cells. Higher: fewer and smaller ones", ge=-6, le=6, step=0.1
    )
    flow_threshold: float = parameter(
        0.4,
        "Shape tolerance",
        "Cells whose shape disagrees with the network by more than this are dropped; 0: keep all",
        ge=0,
        le=3,
        step=0.05,
    )
    min_size: int = parameter(15, "Smallest cell", "Cells with fewer pixels are dropped", unit="px", ge=1, le=100_000)
    drop_border: bool = parameter(False, "Drop cut cells", "Leave out cells that touch the border of the image")
    polarity: Literal["auto", "bright", "dark"] = parameter(
        "auto",
        "Cells are",
        "bright on a dark ground, dark on a bright ground, or decided for every image",
        more=True,
    )
    tile: int = parameter(
        224,
        "Piece",
        "Side of the pieces in which the network is shown an image, at its own scale; it was trained on 224",
        unit="px",
        ge=96,
        le=2048,
        step=16,
        more=True,
    )
    quality: Literal["accurate", "fast"] = parameter(
        "accurate",
        "Care",
        "For the U-Net++. accurate: the mean of all its answers. fast: stops at an early one, about 3 times sooner",
        more=True,
    )
    threads: int = parameter(
        0, "Processor threads", "Fewer leave more of the computer to other programs; 0: all", ge=0, le=256, more=True
    )


@dataclass(frozen=True)
class Segmentation:
    """The cells found in one image, and what is needed to change the thresholds without the network.

    Parameters
    ----------
    labels
        ``(Y, X)`` int32, 0 = background, 1..n.
    diameter
        The diameter used, px; 0 if none could be estimated.
    inverted
        Whether the image was inverted for the network (dark cells on a bright ground).
    flow_error
        ``(n + 1,)`` float32 by label, in units of ``error_unit``; entry 0 is 0. Higher: the shape is less certain.
    flow, cell_probability
        ``(2, y, x)`` and ``(y, x)`` float16 at the size that the network saw; flow in px per step,
        probability as a logit. Empty where there was nothing to look at.
    notes
        Lines for the user: why nothing was found, what was estimated.
    place
        The part of the image that was looked at, or None for all of it. Flow and probability are of this
        part, labels of the whole image.
    error_unit
        By how much more than Cellpose's the flows of this network disagree with cells that it has right. Errors
        are told in this unit, so that one tolerance means the same for all networks.
    """

    labels: NDArray[np.int32]
    diameter: float
    inverted: bool
    flow_error: NDArray[np.float32]
    flow: NDArray[np.float16] = field(default_factory=lambda: np.zeros((2, 0, 0), np.float16))
    cell_probability: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    notes: tuple[str, ...] = ()
    place: Place | None = None
    error_unit: float = 1.0

    @property
    def count(self) -> int:
        """Number of cells."""
        return int(self.labels.max(initial=0))


@runtime_checkable
class Segmenter(Protocol):
    """One engine."""

    name: str
    title: str

    def unavailable(self) -> str | None:
        """Why it cannot run here and what to do, or None if it can."""
        ...

    def segment(self, planes: NDArray[np.float32], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(C, Y, X)``: one plane, or cytoplasm and nucleus, normalised to about 0..1."""
        ...

    def rethreshold(self, result: Segmentation, params: SegmentParameters) -> Segmentation:
        """Redo only the mask step of ``result`` with the thresholds of ``params``. Loads no network."""
        ...

    def finetune(
        self,
        base: Path,
        train: Sequence[Example],
        holdout: Sequence[Example],
        params: TrainParameters,
        folder: Path,
        preview: Example | None,
        resume: bool,
    ) -> Job[Trained]:
        """Train on from the weights ``base``; see `cell_curator.engines.finetune.finetune`."""
        ...


@dataclass(frozen=True)
class EngineState:
    """One engine; ``reason`` says why it cannot run here and what to do, None where it can."""

    name: str
    title: str
    reason: str | None


def engines() -> dict[str, Segmenter]:
    """All engines by name, also those that cannot run here."""
    from cell_curator.engines.cellpose_sam import CellposeSAM
    from cell_curator.engines.cellpose_unet import CellposeUNet
    from cell_curator.engines.unet.engine import UNet, UNetPlusPlus

    known: tuple[Segmenter, ...] = (CellposeUNet(), CellposeSAM(), UNet(), UNetPlusPlus())
    return {engine.name: engine for engine in known}


def available() -> tuple[EngineState, ...]:
    """Every engine and whether it can run here; cheap enough to ask whenever a dock opens."""
    return tuple(EngineState(name, engine.title, engine.unavailable()) for name, engine in engines().items())


def segment_image(
    image: NDArray[Any], params: SegmentParameters, region: RegionLike | None = None
) -> Job[Segmentation]:
    """Find the cells of one image with the engine that ``params`` names.

    Parameters
    ----------
    image
        ``(Y, X)``, as a rule prepared (float32, 0..1); ``(C, Y, X)``: one channel, or RGB, of which the
        luminance is taken; ``(2, Y, X)`` with a second channel set: cytoplasm, nucleus.
    region
        Where to look: a box ``(top, left, bottom, right)`` in px, or the corners ``(y, x)`` of a polygon. Only cells
        wholly inside count. Grey levels are scaled as in the whole image.

    Raises
    ------
    UserError
        If there is no such engine or model, or it cannot run here, or the image has a wrong shape.
    """
    engine = runnable(params.engine)
    channels = _channels(image, params)
    where = None if region is None else place(region, (channels[0].shape[0], channels[0].shape[1]))
    planes = [normalise(channel) for channel in channels]
    if planes[0] is None:
        return replace(nothing(channels[0].shape, "all pixels are equal; choose another channel or image"), place=where)
    shown = np.stack([np.zeros_like(planes[0]) if plane is None else plane for plane in planes])
    if where is not None:
        shown = shown[:, *where.window]
    with limited_threads(params.threads):
        found = yield from engine.segment(shown, params)
    if not found.count and (flat := flat_note(channels[0])):
        found = replace(found, notes=(flat,))
    return found if where is None else _placed(found, where)


def rethreshold(result: Segmentation, params: SegmentParameters) -> Segmentation:
    """Redo the mask step of an earlier ``result`` with other thresholds; fast enough for a slider."""
    engine = engines().get(params.engine)
    if engine is None:
        raise _unknown(params.engine)
    where = result.place
    if where is None:
        return engine.rethreshold(result, params)
    rows, cols = where.window
    part = replace(result, labels=np.zeros((rows.stop - rows.start, cols.stop - cols.start), np.int32), place=None)
    return _placed(engine.rethreshold(part, params), where)


NOTHING = "0 cells found"
"""What a note says first where there are none; then why, and what to do."""


def nothing(shape: tuple[int, ...], why: str) -> Segmentation:
    """A result without cells, and ``why``."""
    return Segmentation(
        labels=np.zeros(shape, dtype=np.int32),
        diameter=0.0,
        inverted=False,
        flow_error=np.zeros(1, dtype=np.float32),
        notes=(f"{NOTHING}: {why}",),
    )


def source_image(
    prepared: Callable[[], NDArray[np.float32]], pixels: Callable[[], NDArray[Any]], params: SegmentParameters
) -> NDArray[Any]:
    """What `segment_image` is to be given: the prepared image or a raw channel, with the second channel if set.

    Parameters
    ----------
    prepared
        Gives the prepared image ``(Y, X)``; asked only if needed.
    pixels
        Gives the file's ``(C, Y, X)``; asked only if needed.

    Raises
    ------
    UserError
        If the image has no such channel.
    """
    first = prepared() if params.source == "prepared" else _channel(pixels(), params.channel)
    if params.second_channel < 0:
        return first
    second = _channel(pixels(), params.second_channel)
    return np.stack([first, second]).astype(np.float32) if first.dtype != second.dtype else np.stack([first, second])


def explain_channel(found: Segmentation, params: SegmentParameters, pixels: Callable[[], NDArray[Any]]) -> Segmentation:
    """``found``, and if it has no cells a note on a channel of the file that shows more than the one looked at."""
    if found.count:
        return found
    note = channel_note(pixels(), params.channel if params.source == "raw" else None)
    return found if note is None else replace(found, notes=(*found.notes, note))


def _channel(pixels: NDArray[Any], index: int) -> NDArray[Any]:
    if index >= len(pixels):
        raise UserError(f"the image has {len(pixels)} channels, counted from 0; there is no channel {index}")
    plane: NDArray[Any] = pixels[index]
    return plane


def _channels(image: NDArray[Any], params: SegmentParameters) -> list[NDArray[Any]]:
    """The planes to look at, in the dtype they came in."""
    if image.ndim not in (2, 3) or 0 in image.shape:
        raise UserError(
            f"an image of shape {image.shape} cannot be segmented; give one plane (Y, X) or its channels (C, Y, X)"
        )
    if image.ndim == 2:
        return [image]
    if len(image) == 2 and params.second_channel >= 0:
        return [image[0], image[1]]
    return [image[0] if len(image) == 1 else select_channel(image, Channel())]


def _placed(found: Segmentation, where: Place) -> Segmentation:
    """The cells of a part of an image that lie in the region, in the whole image."""
    labels, old = inside_only(found.labels, where)
    notes = found.notes
    if len(old) == 1 and found.count:
        notes = ("0 cells found: none of the cells here lies wholly in the region; draw a larger one",)
    return replace(found, labels=labels, flow_error=found.flow_error[old], notes=notes, place=where)


@contextmanager
def limited_threads(count: int) -> Iterator[None]:
    """Let torch and numba use ``count`` threads at most (0: as many as they do now)."""
    if not count:
        yield
        return
    import numba
    import torch

    before = torch.get_num_threads(), numba.get_num_threads()
    torch.set_num_threads(count)
    numba.set_num_threads(min(count, before[1]))
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        numba.set_num_threads(before[1])


def runnable(name: str) -> Segmenter:
    """The engine of this name.

    Raises
    ------
    UserError
        If there is none, or it cannot run here.
    """
    engine = engines().get(name)
    if engine is None:
        raise _unknown(name)
    if reason := engine.unavailable():
        raise UserError(f"{name} cannot run here: {reason}")
    return engine


def _unknown(name: str) -> UserError:
    return UserError(f"{name}: no such engine; choose one of: {', '.join(engines())}")
