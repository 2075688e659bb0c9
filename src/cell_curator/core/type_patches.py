"""Pictures of cells that types are told by, and a network that tells them, as plain numbers.

A picture shows one cell upright as it lies, alone: the light above the background beside it, in units of the cell's
own mean, and its outline. Exposure and staining of an image matter little that way, as in `type_figures`. The
network itself is in `engines.cell_classifier`; nothing is run to load it.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

FORMAT = "cell-curator cell type pictures 1"

SIDE = 64
"""Side of a picture, px."""

_FILLED = 0.95  # share of a picture that one of the larger cells fills
_BESIDE = 4  # px around a cell in which its background is taken
_BRIGHTEST = 4.0  # times the cell's mean that is white


@dataclass(frozen=True)
class PatchModel:
    """What was learned.

    Parameters
    ----------
    types
        Names of the K types.
    factor
        By which images are scaled before pictures are cut.
    weights
        Of the network, by name, float32.
    temperature, about
        As of `type_model.TypeModel`.
    """

    types: tuple[str, ...]
    factor: float
    weights: Mapping[str, NDArray[np.float32]]
    temperature: float = 1.0
    about: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change with the model."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:12]

    def to_json(self) -> dict[str, Any]:
        """Plain numbers and words; weights as text."""
        packed = {
            name: {"shape": list(value.shape), "float32": base64.b64encode(value.astype("<f4").tobytes()).decode()}
            for name, value in self.weights.items()
        }
        return {
            "format": FORMAT,
            "types": list(self.types),
            "factor": self.factor,
            "temperature": self.temperature,
            "weights": packed,
            "about": dict(self.about),
        }


def patch_model(said: Any) -> PatchModel:
    """What `PatchModel.to_json` said.

    Raises
    ------
    ValueError
        If it is something else or was damaged.
    """
    try:
        model = PatchModel(
            types=tuple(map(str, said["types"])),
            factor=float(said["factor"]),
            weights={str(name): _unpacked(value) for name, value in said["weights"].items()},
            temperature=float(said["temperature"]),
            about=dict(said["about"]),
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"it lacks {error}") from error
    if len(model.types) < 2 or not model.temperature > 0 or not model.factor > 0:
        raise ValueError("its numbers do not fit together")
    return model


def _unpacked(said: Mapping[str, Any]) -> NDArray[np.float32]:
    numbers = np.frombuffer(base64.b64decode(said["float32"], validate=True), "<f4")
    return numbers.reshape([int(length) for length in said["shape"]]).astype(np.float32)


def factor_of(sides: Sequence[float]) -> float:
    """By which images are scaled so that nearly all cells with boxes of these sides (px) fit a picture."""
    return float(_FILLED * SIDE / max(float(np.percentile(sides, 95)), 1.0))


def pictures(
    image: NDArray[Any], labels: NDArray[np.integer[Any]], values: Sequence[int], factor: float
) -> NDArray[np.float32]:
    """``(N, 2, SIDE, SIDE)`` float32: light and outline of the cells with these labels.

    Parameters
    ----------
    image
        ``(Y, X)``, or ``(C, Y, X)``, of which the mean is taken.
    labels
        ``(Y, X)``.

    Raises
    ------
    ValueError
        If a label is not there.
    """
    plane = image.astype(np.float32) if image.ndim == 2 else image.mean(axis=0, dtype=np.float32)
    places, dense = np.unique(labels[labels > 0], return_inverse=True)
    numbered = np.zeros(labels.shape, np.int32)
    numbered[labels > 0] = dense + 1
    boxes = dict(zip(places.tolist(), ndimage.find_objects(numbered), strict=True))
    made = np.zeros((len(values), 2, SIDE, SIDE), np.float32)
    for picture, value in zip(made, values, strict=True):
        if int(value) not in boxes:
            raise ValueError(f"there is no label {value}")
        window = tuple(slice(max(0, part.start - _BESIDE), part.stop + _BESIDE) for part in boxes[int(value)])
        _draw(plane[window], labels[window], int(value), factor, picture)
    return made


def _draw(
    crop: NDArray[np.float32], labels: NDArray[np.integer[Any]], value: int, factor: float, out: NDArray[np.float32]
) -> None:
    mask = labels == value
    beside = crop[labels == 0]
    ground = float(np.median(beside)) if beside.size else float(crop.min())
    light = np.where(mask, crop - ground, 0.0)
    mean = float(light[mask].mean())
    light = np.clip(light / (_BRIGHTEST * mean), 0, 1) if mean > 0 else np.zeros_like(light)
    size = tuple(max(1, round(length * factor)) for length in mask.shape[::-1])
    how = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    for plane, target in zip((light, mask), out, strict=True):
        small = cv2.resize(plane.astype(np.float32), size, interpolation=how)
        rows, columns = (min(length, SIDE) for length in small.shape)
        top, left = ((length - kept) // 2 for length, kept in zip(small.shape, (rows, columns), strict=True))
        down, across = (SIDE - rows) // 2, (SIDE - columns) // 2
        target[down : down + rows, across : across + columns] = small[top : top + rows, left : left + columns]
