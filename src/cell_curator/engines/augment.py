"""Other views of the same picture, for networks to learn from: image, masks and boxes are changed together.

Turned, flipped, scaled and bent, then other contrast, light, colour and noise, each with a chance of its own.
Splitting images into those to learn from and those to judge by comes before: see `core.groups`. Geometry
and colour are torchvision's (``transforms.v2``); it has no CLAHE, so that is the one of the preprocessing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import Job, Progress
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.recipe import Clahe
from cell_curator.core.steps import equalise

if TYPE_CHECKING:
    from torch import Tensor

Image = NDArray[np.float32]
Masks = NDArray[Any]
Boxes = NDArray[np.float32]
Dice = Mapping[str, np.random.Generator]

_KINDS = ("flip", "turn", "scale", "elastic", "clahe", "gamma", "light", "hue", "noise")
"""Each has random numbers of its own, so that changing one in the dock leaves the others as they are."""


def _chance(default: float, what: str, description: str) -> Any:
    return parameter(default, what, description, ge=0.0, le=1.0, step=0.1)


def _amount(default: float, title: str, description: str, most: float, step: float, *, unit: str = "") -> Any:
    return parameter(default, title, description, unit=unit, ge=0.0, le=most, step=step, more=True)


class AugmentParameters(Parameters):
    """How pictures are varied while a network learns; a chance of 0 leaves that out."""

    flip: float = _chance(0.5, "Mirror", "Chance of being mirrored left to right, and another one top to bottom")
    turn: float = _chance(0.5, "Turn", "Chance of being turned")
    scale: float = _chance(0.3, "Size", "Chance of being enlarged or shrunk")
    elastic: float = _chance(0.2, "Bend", "Chance of being bent like a sheet of rubber")
    clahe: float = _chance(0.2, "Local contrast (CLAHE)", "Chance of evened-out contrast between dim and bright areas")
    gamma: float = _chance(0.3, "Gamma", "Chance of brighter or darker middle tones")
    light: float = _chance(0.3, "Brightness and contrast", "Chance of other brightness and contrast")
    hue: float = _chance(0.2, "Hue and saturation", "Chance of other colours; only of pictures with three channels")
    noise: float = _chance(0.3, "Noise", "Chance of added noise")

    turn_deg: float = _amount(180.0, "Turn up to", "The most either way", 180.0, 5.0, unit="°")
    scale_range: float = _amount(0.25, "Size range", "0.25: from 1/1.25 to 1.25 times as large", 2.0, 0.05)
    elastic_px: float = _amount(3.0, "Bend by", "Typical distance that a point moves", 50.0, 0.5, unit="px")
    elastic_wave_px: float = parameter(
        32.0, "Bend over", "Distance over which the bend changes", unit="px", ge=4.0, le=1000.0, step=4.0, more=True
    )
    clahe_clip: float = _amount(0.02, "Clip limit", "Higher means more local contrast", 1.0, 0.005)
    gamma_range: float = _amount(0.5, "Gamma range", "0.5: an exponent from 1/1.5 to 1.5", 3.0, 0.1)
    brightness: float = _amount(0.2, "Brightness range", "0.2: from 0.8 to 1.2 times as bright", 0.9, 0.05)
    contrast: float = _amount(0.2, "Contrast range", "0.2: from 0.8 to 1.2 times the contrast", 0.9, 0.05)
    hue_shift: float = _amount(0.05, "Hue range", "The most either way, in turns of the colour circle", 0.5, 0.01)
    saturation: float = _amount(0.3, "Saturation range", "0.3: from 0.7 to 1.3 times as colourful", 0.9, 0.05)
    noise_sigma: float = _amount(0.05, "Noise up to", "Standard deviation, 1 being black to white", 0.5, 0.01)

    @property
    def varies(self) -> bool:
        """Whether anything is varied at all."""
        return any(getattr(self, kind) > 0 for kind in _KINDS)


UNCHANGED = AugmentParameters(flip=0, turn=0, scale=0, elastic=0, clahe=0, gamma=0, light=0, hue=0, noise=0)
"""All chances 0."""


@dataclass(frozen=True)
class Augmented:
    """A varied picture.

    Parameters
    ----------
    image
        ``(C, Y, X)`` float32 in 0..1; what comes from outside has the median of its channel.
    masks
        As given, same dtype; what comes from outside is 0. With boxes, a stack holds only masks still in sight.
    boxes
        ``(N, 4)`` float32, or None where none were given.
    kept
        ``(N,)`` int, which of the given boxes these are; None without boxes.
    """

    image: Image
    masks: Masks | None = None
    boxes: Boxes | None = None
    kept: NDArray[np.intp] | None = None


def augment(
    image: Image, masks: Masks | None, boxes: Boxes | None, params: AugmentParameters, seed: int | Sequence[int]
) -> Augmented:
    """Vary one picture with all that belongs to it; the size stays. Nothing is written over.

    Parameters
    ----------
    image
        ``(C, Y, X)`` float32 in 0..1, any number of channels.
    masks
        ``(Y, X)`` label image or mask, ``(N, Y, X)`` several, or None. Any integer or bool dtype, labels below 2²⁴.
        Pixels are taken from the nearest, never mixed. Where a mask of ones is among them, it says afterwards what
        comes from inside.
    boxes
        ``(N, 4)`` x0, y0, x1, y1 in px, of pixel edges (a cell of one pixel is 1 wide), or None. With masks, box i
        belongs to the i-th label in rising order or to the i-th of the stack, and is afterwards the box of what is
        seen of it; without, it is the box round the varied box.
    seed
        Equal seeds, equal results; several numbers make one, such as (training, round, picture).

    Raises
    ------
    ValueError
        If shapes do not belong together.
    """
    import torch
    from torchvision import tv_tensors

    _check(image, masks, boxes)
    dice = dict(zip(_KINDS, np.random.default_rng(seed).spawn(len(_KINDS)), strict=True))
    parts: list[Tensor] = [tv_tensors.Image(torch.from_numpy(np.array(image, np.float32)))]
    if masks is not None:
        kind = np.uint8 if masks.dtype == np.bool_ else np.int32
        stack = masks if masks.ndim == 3 else masks[None]
        parts.append(tv_tensors.Mask(torch.from_numpy(stack.astype(kind))))
    elif boxes is not None:
        given = torch.from_numpy(np.array(boxes, np.float32))
        parts.append(tv_tensors.BoundingBoxes(given, format="XYXY", canvas_size=image.shape[1:]))  # type: ignore[call-overload]
    parts = _placed(parts, params, dice)
    made = _lit(parts[0].as_subclass(torch.Tensor), params, dice)
    return _collected(made, parts[1].numpy() if len(parts) > 1 else None, masks, boxes)


def boxes_of(masks: Masks) -> Boxes:
    """The boxes ``(N, 4)`` of the labels of ``(Y, X)`` in rising order, or of each mask of ``(N, Y, X)``.

    x0, y0, x1, y1 in px, of pixel edges. An empty mask has a box of zeros.
    """
    from skimage.measure import regionprops

    if masks.ndim == 2:
        found = [one.bbox for one in regionprops(masks.astype(np.int32))]
        return np.array([(x0, y0, x1, y1) for y0, x0, y1, x1 in found], np.float32).reshape(-1, 4)
    made = np.zeros((len(masks), 4), np.float32)
    for box, mask in zip(made, masks, strict=True):
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        if len(rows):
            box[:] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return made


def preview(
    image: Image, labels: NDArray[np.integer[Any]], params: AugmentParameters, n: int = 8, seed: int = 0
) -> NDArray[np.uint8]:
    """The picture as it is and ``n`` varied ones with the outlines of their cells, side by side in a grid.

    Parameters
    ----------
    image
        ``(C, Y, X)`` float32 in 0..1; three channels are shown as colours, of others the mean.
    labels
        ``(Y, X)``.

    Returns
    -------
    (rows × Y, columns × X, 3) uint8
        The first is the picture as it is; a line of two pixels between them.
    """
    several = [augment(image, labels, None, params, (seed, number)) for number in range(n)]
    pieces = [_drawn(image, labels), *(_drawn(one.image, one.masks) for one in several)]
    columns = int(np.ceil(np.sqrt(len(pieces))))
    rows = -(-len(pieces) // columns)
    height, width = image.shape[1] + _GAP, image.shape[2] + _GAP
    sheet = np.full((rows * height - _GAP, columns * width - _GAP, 3), 255, np.uint8)
    for index, piece in enumerate(pieces):
        down, across = divmod(index, columns)
        sheet[down * height :, across * width :][: image.shape[1], : image.shape[2]] = piece
    return sheet


def previewed(**arguments: Any) -> Job[NDArray[np.uint8]]:
    """`preview` as a job, for a process that may import torch: `PREVIEW` is its name."""
    yield Progress(0.0)
    return preview(**arguments)


PREVIEW = "cell_curator.engines.augment:previewed"

_GAP = 2  # px between pictures
_OUTLINE = (240, 228, 66)


def _drawn(image: Image, labels: Any) -> NDArray[np.uint8]:
    from skimage.segmentation import find_boundaries

    colours = image if len(image) == 3 else np.repeat(image.mean(axis=0, keepdims=True), 3, axis=0)
    picture: NDArray[np.uint8] = np.rint(255 * np.moveaxis(colours, 0, 2)).astype(np.uint8)
    picture[find_boundaries(labels, mode="inner")] = _OUTLINE
    return picture


def _check(image: Image, masks: Masks | None, boxes: Boxes | None) -> None:
    if image.ndim != 3:
        raise ValueError(f"an image of shape {image.shape}; (C, Y, X) is asked for")
    if masks is not None and masks.shape[-2:] != image.shape[1:]:
        raise ValueError(f"masks of shape {masks.shape} for an image of shape {image.shape}")
    if boxes is None or masks is None:
        return
    count = len(masks) if masks.ndim == 3 else np.count_nonzero(np.unique(masks))
    if count != len(boxes):
        raise ValueError(f"{len(boxes)} boxes for {count} masks")


def _placed(parts: list[Tensor], params: AugmentParameters, dice: Dice) -> list[Tensor]:
    """Flip, turn, scale and bend all parts alike."""
    from torchvision.transforms.v2 import functional as to

    if _falls("flip", params, dice):
        parts = [to.horizontal_flip(part) for part in parts]
    if _falls("flip", params, dice):
        parts = [to.vertical_flip(part) for part in parts]
    turn, scale = _falls("turn", params, dice), _falls("scale", params, dice)
    angle = float(dice["turn"].uniform(-params.turn_deg, params.turn_deg)) if turn else 0.0
    grown = _factor(params.scale_range, dice["scale"]) if scale else 1.0
    if angle or grown != 1.0:
        parts = _moved(parts, to.affine, angle=angle, scale=grown, translate=[0, 0], shear=[0.0, 0.0])
    if _falls("elastic", params, dice):
        bend = _bend(parts[0].shape[-2:], params, dice["elastic"])
        parts = _moved(parts, to.elastic, displacement=bend)
    return parts


def _moved(parts: list[Tensor], move: Callable[..., Tensor], **how: Any) -> list[Tensor]:
    """``move`` image and what belongs to it; from outside comes the median of each channel.

    torchvision's own ``fill`` blends twice at the rim of the picture, which leaves a dark line.
    """
    import torch
    from torchvision import tv_tensors
    from torchvision.transforms.v2.functional import InterpolationMode

    image = parts[0].as_subclass(torch.Tensor)
    middle = torch.from_numpy(np.median(image.numpy(), axis=(1, 2), keepdims=True))
    there = move(tv_tensors.Image(image - middle), interpolation=InterpolationMode.BILINEAR, **how)
    image = (there.as_subclass(torch.Tensor) + middle).clamp(0, 1)  # a gamma of -1e-9 is no number
    return [tv_tensors.Image(image), *(move(part, **how) for part in parts[1:])]


def _falls(kind: str, params: AugmentParameters, dice: Dice) -> bool:
    return bool(dice[kind].random() < getattr(params, kind))


def _factor(reach: float, random: np.random.Generator) -> float:
    """Between 1 / (1 + reach) and 1 + reach, as often above 1 as below."""
    return float((1.0 + reach) ** random.uniform(-1.0, 1.0))


def _bend(shape: Sequence[int], params: AugmentParameters, random: np.random.Generator) -> Tensor:
    """Where each pixel comes from, ``(1, Y, X, 2)`` x and y in halves of the sides, smooth between knots."""
    import torch
    from torch.nn.functional import interpolate

    height, width = shape
    knots = [max(2, round(side / params.elastic_wave_px) + 1) for side in shape]
    coarse = torch.from_numpy(random.normal(0.0, params.elastic_px, (1, 2, *knots)).astype(np.float32))
    fine = interpolate(coarse, size=(height, width), mode="bicubic", align_corners=True)
    return fine.permute(0, 2, 3, 1) * torch.tensor([2.0 / width, 2.0 / height])


def _lit(image: Tensor, params: AugmentParameters, dice: Dice) -> Image:
    """Contrast, light, colours and noise."""
    import torch
    from torchvision.transforms.v2 import functional as to

    if _falls("clahe", params, dice):
        image = _equalised(image, params.clahe_clip)
    if _falls("gamma", params, dice):
        image = to.adjust_gamma(image, _factor(params.gamma_range, dice["gamma"]))
    if _falls("light", params, dice):
        brighter, steeper = 1 + np.array([params.brightness, params.contrast]) * dice["light"].uniform(-1, 1, 2)
        apart = image[:, None]  # each channel has a mean of its own
        image = to.adjust_contrast(to.adjust_brightness(apart, float(brighter)), float(steeper))[:, 0]
    if _falls("hue", params, dice) and len(image) == 3:
        turned, fuller = np.array([params.hue_shift, params.saturation]) * dice["hue"].uniform(-1, 1, 2)
        image = to.adjust_saturation(to.adjust_hue(image, float(turned)), 1 + float(fuller))
    if _falls("noise", params, dice):
        sigma = np.float32(params.noise_sigma * dice["noise"].random())
        image = image + torch.from_numpy(sigma * dice["noise"].standard_normal(tuple(image.shape), dtype=np.float32))
    return np.ascontiguousarray(image.clamp(0.0, 1.0).numpy())


def _equalised(image: Tensor, clip: float) -> Tensor:
    """CLAHE of each channel, within its own range of grey levels."""
    import torch

    made = np.empty(image.shape, np.float32)
    for channel, out in zip(image.numpy(), made, strict=True):
        low, high = float(channel.min()), float(channel.max())
        spread = equalise(np.ascontiguousarray(channel), Clahe(clip_limit=clip, tile_px=64), levels=(low, high))
        out[:] = low + (high - low) * spread if high > low else channel
    return torch.from_numpy(made)


def _collected(image: Image, moved: Any, masks: Masks | None, boxes: Boxes | None) -> Augmented:
    """Masks in the type they came in, and the boxes of what is still in sight."""
    if masks is None:
        if boxes is None:
            return Augmented(image)
        seen = np.flatnonzero((moved[:, 2] > moved[:, 0]) & (moved[:, 3] > moved[:, 1]))
        return Augmented(image, None, moved[seen], seen)
    made = moved.astype(masks.dtype)
    if boxes is None:
        return Augmented(image, made if masks.ndim == 3 else made[0])
    if masks.ndim == 3:
        seen = np.flatnonzero(made.any(axis=(1, 2)))
        return Augmented(image, made[seen], boxes_of(made[seen]), seen)
    before, after = (np.unique(one[one != 0]) for one in (masks, made[0]))
    return Augmented(image, made[0], boxes_of(made[0]), np.flatnonzero(np.isin(before, after)))
