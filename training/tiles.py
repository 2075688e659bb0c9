"""Training tiles for the starter model: DSB2018 images, their flows, and the augmentation.

Not a general data loader: it knows the folder layout of the CC0 nuclei set only (``images/*.png``,
``labels/*.tif``, ``mosaic_groups.json``).
"""

from __future__ import annotations

import json
import os
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import cv2
import imageio.v3 as imageio
import numpy as np
import tifffile
from cellpose import dynamics, transforms, utils
from numpy.typing import NDArray
from torch import device

HERE = Path(__file__).parent
LUMINANCE = np.array([0.2125, 0.7154, 0.0721], dtype=np.float32)
"""Rec. 709 weights, as images are prepared for the network everywhere else."""

SHARE = {"fluorescence": 0.62, "histology": 0.26, "brightfield": 0.12}
"""Share of the tiles by kind of image: without it 11 brightfield images would be one tile in forty."""


@dataclass(frozen=True)
class Example:
    """One image with what the network should say of it.

    Parameters
    ----------
    pixels
        ``(Y, X)`` or ``(Y, X, 3)`` float32, file's grey levels.
    target
        ``(3, Y, X)`` float32: cell or not, flow in y, flow in x.
    diameter
        Median diameter of the objects, px.
    kind
        A key of `SHARE`.
    """

    name: str
    group: str
    pixels: NDArray[np.float32]
    target: NDArray[np.float32]
    diameter: float
    kind: str


def data_folder() -> Path:
    """The DSB2018 folder: ``$CELL_CURATOR_DATA/dsb2018``, by default beside the checkout."""
    default = HERE.parent.parent / "shared" / "data"
    return Path(os.environ.get("CELL_CURATOR_DATA", default)) / "dsb2018"


def split(folder: Path) -> tuple[list[str], list[str], dict[str, str]]:
    """Image names for training and validation, and the mosaic group of each image.

    Raises
    ------
    ValueError
        If a mosaic group has images on both sides, since its tiles show the same cells.
    """
    groups: dict[str, str] = json.loads((folder / "mosaic_groups.json").read_text())
    held = set(json.loads((HERE / "starter_validation_ids.json").read_text()))
    train = sorted(name for name in groups if name not in held)
    both = {groups[name] for name in train} & {groups[name] for name in held}
    if both:
        raise ValueError(f"mosaic groups on both sides of the split: {sorted(both)}")
    return train, sorted(held), groups


def kind_of(pixels: NDArray[np.float32], labels: NDArray[np.int32]) -> str:
    """Fluorescence, histology (coloured) or brightfield (gray, cells darker than the ground)."""
    if pixels.ndim == 3 and np.ptp(pixels, axis=2).max() > 10:
        return "histology"
    gray = pixels @ LUMINANCE if pixels.ndim == 3 else pixels
    dark = gray[labels > 0].mean() < gray[labels == 0].mean() if labels.any() else False
    return "brightfield" if dark else "fluorescence"


def read_pair(folder: Path, name: str) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """Image ``(Y, X)`` or ``(Y, X, 3)`` and label image ``(Y, X)`` of one name."""
    pixels = imageio.imread(folder / "images" / f"{name}.png").astype(np.float32)
    labels = tifffile.imread(folder / "labels" / f"{name}.tif").astype(np.int32)
    return (pixels[..., :3] if pixels.ndim == 3 else pixels), labels


def load(folder: Path, names: list[str], groups: dict[str, str]) -> list[Example]:
    """Read images and compute the flows of their labels (a minute or two for all)."""
    examples = []
    for name in names:
        pixels, labels = read_pair(folder, name)
        if not labels.any():
            continue
        flows = dynamics.labels_to_flows([labels], device=device("cpu"))[0]
        examples.append(
            Example(
                name=name,
                group=groups[name],
                pixels=pixels,
                target=flows[1:],
                diameter=float(utils.diameters(labels)[0]),
                kind=kind_of(pixels, labels),
            )
        )
    return examples


def weights(examples: list[Example]) -> NDArray[np.float64]:
    """Chance of each example: `SHARE` by kind, then every mosaic by the root of its size."""
    size: dict[str, int] = defaultdict(int)
    for example in examples:
        size[example.group] += 1
    chance = np.array([size[example.group] ** -0.5 for example in examples])
    kinds = np.array([example.kind for example in examples])
    for kind, share in SHARE.items():
        here = kinds == kind
        if here.any():
            chance[here] *= share / chance[here].sum()
    return chance / chance.sum()


def batch(
    examples: list[Example],
    chance: NDArray[np.float64],
    rng: np.random.Generator,
    *,
    size: int,
    side: int,
    diam_mean: float | None,
    light: float = 1.0,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Draw ``size`` augmented tiles.

    Parameters
    ----------
    diam_mean
        Diameter that objects are rescaled to, px; None: images stay about as large as they are.
    light
        Share of the tiles whose light is changed. How generous outlines are was the habit of whoever drew
        them, and which images were whose shows in their light.

    Returns
    -------
    tiles
        ``(size, 2, side, side)`` float32. The second channel is always exactly zero: were it
        another constant now and then, BatchNorm would store a variance of 0 and a wrong mean for
        it, and the network would fail in ``eval`` mode only.
    targets
        ``(size, 3, side, side)`` float32.
    """
    out = np.zeros((size, 2, side, side), dtype=np.float32)
    targets = np.zeros((size, 3, side, side), dtype=np.float32)
    for i, k in enumerate(rng.choice(len(examples), size=size, p=chance)):
        example = examples[k]
        # Images of large cells shrink to less than a tile: four views of them fill it, where one
        # would leave two thirds of it empty.
        shrunk = 1.0 if diam_mean is None else diam_mean / example.diameter
        small = min(example.pixels.shape[:2]) * shrunk < 0.75 * side
        parts = 2 if small else 1
        step = side // parts
        image, fill = _ground_at_zero(example, rng)
        for top in range(0, side, step):
            for left in range(0, side, step):
                here = (slice(top, top + step), slice(left, left + step))
                out[i, 0][here], targets[i][(slice(None), *here)] = _view(example, image, rng, step, diam_mean)
        out[i, 0] += fill
        if rng.random() < light:
            out[i, 0] = _change_light(out[i, 0], rng)
    return out, targets


def _ground_at_zero(example: Example, rng: np.random.Generator) -> tuple[NDArray[np.float32], float]:
    """Gray image minus a grey level, and that level: zero, as in stock Cellpose, or the ground's.

    It is what a tile shows outside a small image.
    """
    gray = _gray(example.pixels, rng)
    ground = float(np.median(gray[example.target[0] < 0.5])) if rng.random() < 0.6 else 0.0
    return gray - np.float32(ground), ground


def _view(
    example: Example, image: NDArray[np.float32], rng: np.random.Generator, side: int, diam_mean: float | None
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """One turned, flipped, rescaled piece ``(side, side)`` of an image and its target ``(3, side, side)``."""
    smallest, largest = (0.8, 1.25) if diam_mean is None else (0.65, 1.55)
    stretch = np.exp(rng.uniform(np.log(smallest), np.log(largest)))
    shrink = 1.0 if diam_mean is None else example.diameter / diam_mean
    tile, target, _ = transforms.random_rotate_and_resize(
        [image[np.newaxis]],
        Y=[example.target],
        rescale=np.array([shrink / stretch]),
        scale_range=0.0,
        xy=(side, side),
    )
    return tile[0, 0], target[0]


def _gray(pixels: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Luminance, or half of the time another mixture of the colours; 1st to 99th percentile to 0..1."""
    if pixels.ndim == 3:
        mixture = LUMINANCE if rng.random() < 0.5 else rng.dirichlet([1.0, 1.0, 1.0]).astype(np.float32)
        pixels = pixels @ mixture
    gray: NDArray[np.float32] = transforms.normalize99(pixels.copy())
    return gray


def _change_light(tile: NDArray[np.float32], rng: np.random.Generator) -> NDArray[np.float32]:
    """Random gamma, saturation, shading, CLAHE, blur, noise, contrast and inversion of one tile."""
    if rng.random() < 0.5:
        tile = np.clip(tile, 0, None) ** np.float32(np.exp(rng.uniform(-0.6, 0.6)))
    if rng.random() < 0.12:
        top = rng.uniform(0.5, 0.9)
        tile = np.minimum(tile, top) / np.float32(top)
    if rng.random() < 0.2:
        across = np.linspace(-1, 1, tile.shape[0], dtype=np.float32)
        slope = rng.uniform(-0.3, 0.3, 2).astype(np.float32)
        tile = tile + np.add.outer(slope[0] * across, slope[1] * across) * np.float32(rng.uniform(0, 1))
    if rng.random() < 0.15:
        clahe = cv2.createCLAHE(clipLimit=rng.uniform(1, 4), tileGridSize=(4, 4))
        tile = clahe.apply((np.clip(tile, 0, 1) * 255).astype(np.uint8)).astype(np.float32) / 255
    if rng.random() < 0.25:
        tile = cv2.GaussianBlur(tile, (0, 0), rng.uniform(0.4, 1.6))
    if rng.random() < 0.35:
        noise = rng.standard_normal(tile.shape, dtype=np.float32) * np.float32(rng.uniform(0.01, 0.12))
        shot = np.sqrt(np.clip(tile, 0.05, 1)) if rng.random() < 0.5 else np.float32(1)
        tile = tile + noise * shot
    if rng.random() < 0.5:
        tile = tile * np.float32(rng.uniform(0.7, 1.3)) + np.float32(rng.uniform(-0.1, 0.1))
    if rng.random() < 0.3:
        tile = 1 - tile
    return tile.astype(np.float32)
