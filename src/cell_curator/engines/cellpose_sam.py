"""The engine ``cellpose-sam``: Cellpose 4's transformer, run in a process of its own.

Cellpose 4 lies in the overlay folder (see `overlay`); only the network runs there. Diameter and polarity
are the user's: the network was trained for cells of 7.5 to 120 px, so 0 means that the image is not
rescaled. Reference: Pachitariu et al., bioRxiv 2025. How it learns is in `learning`.
"""

from __future__ import annotations

import atexit
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress, UserError, scaled
from cell_curator.engines import overlay
from cell_curator.engines.downloads import fetch
from cell_curator.engines.masks import outline
from cell_curator.engines.network import read_tensors, resize
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.segmenter import Segmentation, SegmentParameters
from cell_curator.engines.tiling import Tiling, run_tiles
from cell_curator.engines.worker import Worker

if TYPE_CHECKING:
    from cell_curator.engines.finetune import Trained, TrainParameters
    from cell_curator.engines.training_data import Example, Reviewed
    from cell_curator.engines.training_material import Material

MODEL = "cpsam"
"""The public weights; used where the model that is set is of another engine."""

DIAMETER = 30.0
"""Diameter that cells are rescaled to if one is given, px."""

TILES = Tiling(side=256, batch_pixels=256 * 256, fixed=True)
"""The transformer knows one size only."""


class CellposeSAM:
    """See `cell_curator.engines.segmenter.Segmenter`."""

    name = "cellpose-sam"
    title = "Cellpose 4 (Cellpose-SAM)"

    def unavailable(self) -> str | None:
        """Why it cannot run here and what to do, or None if it can."""
        return overlay.unavailable()

    def segment(self, planes: NDArray[np.float32], params: SegmentParameters) -> Job[Segmentation]:
        """Find the cells of ``(C, Y, X)``, normalised.

        Raises
        ------
        UserError
            If the model cannot be found or read, or the process ended.
        """
        weights = yield from scaled(fetch(params.model, engine=self.name), 0.0, 0.05)
        dark = params.polarity == "dark"
        shown = np.concatenate([1 - planes[:1], planes[1:]]) if dark else planes
        if params.diameter:
            scale = DIAMETER / params.diameter
            shape = (max(8, round(planes.shape[1] * scale)), max(8, round(planes.shape[2] * scale)))
            shown = np.stack([resize(plane, shape) for plane in shown])
        job = _process().call("cell_curator.engines.cellpose_sam:look", planes=shown, weights=weights)
        answer, note = yield from scaled(job, 0.05, 0.95)
        yield Progress(0.95, "outlining cells")
        raw = Segmentation(
            labels=np.zeros(planes.shape[1:], dtype=np.int32),
            diameter=params.diameter or DIAMETER,
            inverted=dark,
            flow_error=np.zeros(1, dtype=np.float32),
            flow=answer[:2],
            cell_probability=answer[2],
        )
        found = outline(raw, params)
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
        """See `cell_curator.engines.finetune.finetune`. Flows are computed here, all else in its process."""
        from cell_curator.engines.training_material import gather

        def decide(one: Reviewed, diameter: float) -> Job[bool]:
            yield from ()
            return params.polarity == "dark"

        ready = gather(train, holdout, preview, params, decide, DIAMETER)
        material = yield from scaled(ready, 0.0, 0.0)
        made: Trained = yield from _process().call(
            "cell_curator.engines.cellpose_sam:learn_here",
            weights=base,
            material=material,
            params=params,
            folder=folder,
            resume=resume,
        )
        return made


@lru_cache(maxsize=1)
def _process() -> Worker:
    """The process that sees Cellpose 4; started with the first call, ended with this one."""
    worker = Worker(paths=(str(overlay.overlay_folder()),))
    atexit.register(worker.close)
    return worker


def look(planes: NDArray[np.float32], weights: Path) -> Job[tuple[NDArray[np.float16], str]]:
    """Flow and cell probability ``(3, Y, X)`` of ``planes``; runs where Cellpose 4 is first on the path.

    Raises
    ------
    UserError
        If the weights are missing, unsafe, damaged or of another network.
    """
    yield Progress(0.0, "loading the model")
    module, bfloat16 = load(weights)

    return (yield from _run(module, bfloat16, planes))


def _run(module: Any, bfloat16: bool, planes: NDArray[np.float32]) -> Job[tuple[NDArray[np.float16], str]]:
    """Show ``planes`` to the transformer, in bfloat16 if that is said even where its weights are float32."""
    import torch

    dtype = next(module.parameters()).dtype
    mixed = bfloat16 and dtype == torch.float32

    def forward(tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        data = np.zeros((len(tiles), 3, *tiles.shape[2:]), dtype=np.float32)
        data[:, : min(3, tiles.shape[1])] = tiles[:, :3]
        with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed):
            out: NDArray[np.float32] = module(torch.from_numpy(data).to(dtype))[0].float().numpy()[:, -3:]
        out[:, :2] /= 5
        return out

    return (yield from run_tiles(planes, forward, TILES))


def learn_here(weights: Path, material: Material, params: TrainParameters, folder: Path, resume: bool) -> Job[Trained]:
    """Train on from ``weights``; runs where Cellpose 4 is first on the path."""
    from cell_curator.engines.learning import learn
    from cell_curator.engines.trainable import Trainable

    yield Progress(0.0, "loading the model")
    module = _built(weights)
    fast = bfloat16_is_faster()
    module.diam_labels.data[:] = material.diameter

    def look(planes: NDArray[np.float32]) -> Job[tuple[NDArray[np.float16], str]]:
        return (yield from _run(module, fast, planes))

    made = yield from learn(
        Trainable("cellpose-sam", weights, module, 3, fast, look, TILES.side), material, params, folder, resume
    )
    load.cache_clear()  # the file may have been read before it was written anew
    return made


@lru_cache(maxsize=1)
def load(weights: Path) -> tuple[Any, bool]:
    """The transformer to look with, and whether it is in bfloat16.

    Raises
    ------
    UserError
        See `look`.
    """
    import torch

    module = _built(weights)
    fast = bfloat16_is_faster()
    return module.to(torch.bfloat16 if fast else torch.float32), fast


def _built(weights: Path) -> Any:
    """The transformer in float32: as many layers as the file holds, its tensors taken over without a copy."""
    import torch

    state = read_tensors(weights)
    if "W2" not in state or "encoder.patch_embed.proj.weight" not in state:
        raise UserError(
            f"{weights.name}: not the weights of Cellpose-SAM, but this engine runs nothing else; "
            "choose the engine cellpose-unet for models of Cellpose 2 and 3"
        )
    _without_torchvision()
    from cellpose.vit import CPSAM

    with torch.device("meta"):
        module = CPSAM()
    depth = 1 + max(int(name.split(".")[2]) for name in state if name.startswith("encoder.blocks."))
    module.encoder.blocks = module.encoder.blocks[:depth]
    for name in ("diam_labels", "diam_mean"):
        state.setdefault(name, torch.tensor([DIAMETER]))
    try:
        missing = module.load_state_dict(state, strict=False, assign=True).missing_keys
    except RuntimeError as error:
        raise UserError(f"{weights.name}: the layers are not those of Cellpose-SAM; download it again") from error
    if missing:
        raise UserError(f"{weights.name}: layers of Cellpose-SAM are missing; download it again")
    return module.eval()


def _without_torchvision() -> None:
    """Where torchvision is missing, put empty functions in its place.

    segment_anything imports four of them for its mask generator, which Cellpose does not use; the
    encoder is plain torch.
    """
    if "torchvision" in sys.modules or find_spec("torchvision") is not None:
        return
    names = {"torchvision.ops.boxes": ("batched_nms", "box_area")}
    names["torchvision.transforms.functional"] = ("resize", "to_pil_image")
    for module, functions in names.items():
        parts = module.split(".")
        for depth in range(1, len(parts) + 1):
            sys.modules.setdefault(".".join(parts[:depth]), ModuleType(".".join(parts[:depth])))
        for function in functions:
            setattr(sys.modules[module], function, None)
