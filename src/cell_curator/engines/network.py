"""The Cellpose 1–3 U-Net (``CPnet``) as fast as this processor runs it.

Loads a weights file safely, chooses bfloat16 + channels_last where the processor has it, and runs tiles of
a normalised image. Knows nothing of cells: flows go in `flows.py`, sizes in `diameter.py`. Reference:
Stringer et al., Nature Methods 2021.
"""

from __future__ import annotations

import warnings
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, UserError
from cell_curator.engines.cards import WEIGHTS, read_card
from cell_curator.engines.processor import bfloat16_is_faster
from cell_curator.engines.tiling import Tiling, run_tiles

if TYPE_CHECKING:
    import torch

PERCENTILES = ((1.0, 99.0), (0.1, 99.9), (0.0, 100.0))
"""Grey levels mapped to 0..1: Cellpose's own first, wider ones where nearly all pixels are equal."""


@dataclass(frozen=True)
class Network:
    """A loaded network.

    Parameters
    ----------
    module
        The ``CPnet`` in ``eval`` mode.
    diam_mean
        Diameter that cells are rescaled to before they reach the network, px.
    bfloat16
        Whether it runs in bfloat16 + channels_last.
    channels
        How many planes it looks at; planes that are not given are zero, as in Cellpose.
    """

    module: Any
    diam_mean: float
    bfloat16: bool
    channels: int = 2

    def forward(self, tiles: NDArray[np.float32]) -> NDArray[np.float32]:
        """Flow y, flow x (px per step) and cell probability (logit) ``(N, 3, y, x)`` of tiles ``(N, C, y, x)``.

        Sides must be multiples of 8.
        """
        import torch

        data = np.zeros((len(tiles), self.channels, *tiles.shape[2:]), dtype=np.float32)
        shown = min(self.channels, tiles.shape[1])
        data[:, :shown] = tiles[:, :shown]
        out = _forward(self.module, torch.from_numpy(data), self.bfloat16)
        out[:, :2] /= 5  # the network is trained on five times the flow
        return out

    def predict(self, planes: NDArray[np.float32], tile: int = 224) -> Job[tuple[NDArray[np.float16], str]]:
        """As `forward`, ``(3, Y, X)`` float16, for a whole normalised image ``(C, Y, X)`` or ``(Y, X)``.

        Yields one `Progress` per batch of tiles; the second result is a note if memory ran short.
        """
        planes = planes if planes.ndim == 3 else planes[np.newaxis]
        return (yield from run_tiles(planes, self.forward, Tiling(side=tile)))


def _forward(module: Any, data: torch.Tensor, bfloat16: bool) -> NDArray[np.float32]:
    """Run ``module`` and hand back float32, since NumPy has no bfloat16."""
    import torch

    with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16, enabled=bfloat16):
        if bfloat16:
            data = data.to(memory_format=torch.channels_last)
        result: NDArray[np.float32] = module(data)[0].float().numpy()
    return result


def normalise(image: NDArray[np.generic]) -> NDArray[np.float32] | None:
    """Map the 1st..99th percentile of ``(Y, X)`` to 0..1, or None for a constant image.

    NaN and infinite pixels count as the darkest finite one.
    """
    values = np.asarray(image, dtype=np.float32)
    good = np.isfinite(values)
    if not good.all():
        if not good.any():
            return None
        values = np.where(good, values, values[good].min())
    span = float(np.ptp(values))
    if not span > 0:
        return None
    for percentiles in PERCENTILES:
        low, high = np.percentile(values, percentiles)
        if high - low > 1e-3 * span:
            break
    return ((values - np.float32(low)) / np.float32(high - low)).astype(np.float32)


def resize(image: NDArray[np.float32], shape: tuple[int, int]) -> NDArray[np.float32]:
    """Resample ``(Y, X)``: area average when it shrinks by much, else linear, as Cellpose does."""
    import cv2

    if image.shape == shape:
        return image
    much = shape[0] < 0.5 * image.shape[0]
    how = cv2.INTER_AREA if much else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(image, (shape[1], shape[0]), interpolation=how), dtype=np.float32)


@lru_cache(maxsize=2)
def load_network(path: Path) -> Network:
    """Load a Cellpose 1–3 weights file; the last two are kept for the next image.

    Raises
    ------
    UserError
        If the file is missing, unsafe, damaged, or of another kind or generation of Cellpose.
    """
    from cellpose.resnet_torch import CPnet

    state = read_weights(path)
    diameter = float(state["diam_mean"][0]) if "diam_mean" in state else _usual_diameter(path)
    first = state.get("downsample.down.res_down_0.conv.conv_0.0.weight")
    channels = 2 if first is None else len(first)
    module = CPnet([channels, 32, 64, 128, 256], 3, sz=3, mkldnn=False, max_pool=True, diam_mean=diameter)
    try:
        missing = module.load_state_dict(state, strict=False).missing_keys
    except RuntimeError as error:
        raise UserError(f"{path.name}: the layers are not those of Cellpose's U-Net; {REMEDY}") from error
    if not set(missing) <= {"diam_mean", "diam_labels"}:
        raise UserError(f"{path.name}: layers of Cellpose's U-Net are missing; {REMEDY}")
    module.eval()
    fast = bfloat16_is_faster()
    if fast:
        import torch

        module.to(memory_format=torch.channels_last)
    return Network(module=module, diam_mean=diameter, bfloat16=fast, channels=channels)


def _usual_diameter(path: Path) -> float:
    """For files of Cellpose 1, which do not name their diameter: by the card or the name, px."""
    card = read_card(path.parent).details if path.name == WEIGHTS else {}
    return float(card.get("diameter_px", 17.0 if "nuclei" in path.stem else 30.0))


REMEDY = "choose a model listed by `cell-curator models`, or a weights file trained with Cellpose 2 or 3"


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """Tensors of a U-Net's weights file by name, in float32, without running any code in it.

    Raises
    ------
    UserError
        See `load_network`.
    """
    state = read_tensors(path)
    if "W2" in state or any("encoder.neck" in name for name in state):
        raise UserError(
            f"{path.name}: weights of Cellpose 4 (Cellpose-SAM), but this engine is Cellpose 3's U-Net; "
            "choose the engine cellpose-sam, or a weights file trained with Cellpose 2 or 3"
        )
    if "output.2.weight" not in state:
        if "new.nested" in state or any(name.startswith("upcat_") for name in state):
            raise UserError(
                f"{path.name}: weights of a U-Net or U-Net++ of this program, not of Cellpose's U-Net; "
                "choose the engine unet or unetpp"
            )
        other = "Cellpose 3's transformer" if any(n.startswith("encoder.") for n in state) else "another network"
        raise UserError(f"{path.name}: weights of {other}, not of Cellpose's U-Net; {REMEDY}")
    return state


def read_tensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of a weights file by name, in float32, without running any code in it.

    Raises
    ------
    UserError
        If the file is missing, unsafe, damaged or holds something else.
    """
    import torch

    if not path.is_file():
        raise UserError(f"{path}: there is no such weights file; {REMEDY}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of a foreign pickle, which is refused right after
            state = torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise UserError(
            f"{path.name}: refused, since it is no plain weights file and could run foreign code; {REMEDY}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UserError(f"{path.name}: damaged or no weights file; {REMEDY}") from error
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise UserError(f"{path.name}: does not hold the weights of a Cellpose network; {REMEDY}")
    return {
        name.removeprefix("module."): value.float() if value.is_floating_point() else value
        for name, value in state.items()
    }
