"""What every segmentation engine can do, what it is told and what it answers, and their registry.

Engines are found by name; one that cannot run here is still listed, with the reason. No network
and no image processing in here.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
from cell_curator.core.parameters import Parameters, parameter


class SegmentParameters(Parameters):
    """How cells are found."""

    engine: str = parameter("cellpose-unet", "Engine", "Kind of network that looks for the cells", more=True)
    model: str = parameter(
        "starter-nuclei", "Model", "Name of a model listed by `cell-curator models`, or the path of a weights file"
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
        ``(n + 1,)`` float32 by label; entry 0 is 0. Higher: the shape is less certain.
    flow, cell_probability
        ``(2, y, x)`` and ``(y, x)`` float16 at the size that the network saw; flow in px per step,
        probability as a logit. Empty where there was nothing to look at.
    notes
        Lines for the user: why nothing was found, what was estimated.
    """

    labels: NDArray[np.int32]
    diameter: float
    inverted: bool
    flow_error: NDArray[np.float32]
    flow: NDArray[np.float16] = field(default_factory=lambda: np.zeros((2, 0, 0), np.float16))
    cell_probability: NDArray[np.float16] = field(default_factory=lambda: np.zeros((0, 0), np.float16))
    notes: tuple[str, ...] = ()

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

    def segment(self, image: NDArray[Any], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(Y, X)`` or ``(C, Y, X)``."""
        ...

    def rethreshold(self, result: Segmentation, params: SegmentParameters) -> Segmentation:
        """Redo only the mask step of ``result`` with the thresholds of ``params``."""
        ...


def engines() -> dict[str, Segmenter]:
    """All engines by name, also those that cannot run here."""
    from cell_curator.engines.cellpose_unet import CellposeUNet

    return {engine.name: engine for engine in (CellposeUNet(),)}


def segment_image(image: NDArray[Any], params: SegmentParameters) -> Job[Segmentation]:
    """Find the cells of one image with the engine that ``params`` names.

    Parameters
    ----------
    image
        ``(Y, X)``, as a rule prepared (float32, 0..1), or ``(C, Y, X)``: one channel, or RGB, of
        which the luminance is taken.

    Raises
    ------
    UserError
        If there is no such engine or model, or it cannot run here, or the image has a wrong shape.
    """
    return (yield from _runnable(params.engine).segment(image, params))


def rethreshold(result: Segmentation, params: SegmentParameters) -> Segmentation:
    """Redo the mask step of an earlier ``result`` with other thresholds; fast enough for a slider."""
    return _runnable(params.engine).rethreshold(result, params)


def _runnable(name: str) -> Segmenter:
    known = engines()
    if name not in known:
        raise UserError(f"{name}: no such engine; choose one of: {', '.join(known)}")
    if reason := known[name].unavailable():
        raise UserError(f"{name} cannot run here: {reason}")
    return known[name]
