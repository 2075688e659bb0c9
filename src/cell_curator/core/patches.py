"""Cut one small square picture per cell, by the three published methods.

``resize``  crop the cell's box, scale it to fill the patch with its aspect kept, pad the rest
``pad``     crop the cell's box, keep its true size, pad the rest
``mask``    as ``pad``, with everything outside the cell set to zero

Grooves are made vertical by turning each cell's own crop: turning the whole image costs more
and loses its corners. This module does not decide which cells deserve a patch, and it does
not read files.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator
from scipy import ndimage

from cell_curator.core.grey_levels import extremes, stretch, to_grey
from cell_curator.core.parameters import Parameters, parameter

Box = tuple[int, int, int, int]
"""``(top, left, bottom, right)`` in px, half-open."""

_CHANNEL_COLOURS = ((0.1, 1.0, 0.1), (1.0, 0.1, 1.0), (0.2, 0.6, 1.0), (1.0, 1.0, 0.2))
_OUTLINE = (255, 220, 0)


class PatchParameters(Parameters):
    """How patches are cut."""

    method: Literal["resize", "pad", "mask"] = parameter(
        "mask",
        "Patch",
        "resize: every cell fills its patch (size is lost). pad: true size with its surroundings. "
        "mask: true size, everything but the cell is black.",
    )
    size: int = parameter(
        64, "Patch size", "Edge of the square patch; a multiple of 4.", unit="px", ge=8, le=512, step=4
    )
    masked: bool = parameter(
        False,
        "Black surroundings",
        "resize: everything but the cell is black, as with mask.",
        more=True,
    )
    turn: Literal["image", "own"] = parameter(
        "image",
        "Turn",
        "image: as the image was turned, so that cells keep their direction to the grooves. own: each cell's long axis "
        "upright and its heavier end below, so that direction does not count.",
    )
    channels: Literal["prepared", "all"] = parameter(
        "prepared",
        "Channels",
        "What the network sees. prepared: the one channel that the preparation makes. all: every channel of the image, "
        "each prepared like that one.",
        more=True,
    )
    margin: int = parameter(
        2, "Margin", "Surroundings kept around the cell's box.", unit="px", ge=0, le=64, step=1, more=True
    )

    @field_validator("size")
    @classmethod
    def _multiple_of_four(cls, value: int) -> int:
        if value % 4:
            raise ValueError(f"patch size {value} is not a multiple of 4; use {value + 4 - value % 4}")
        return value


@dataclass(frozen=True)
class Patches:
    """Patches of N cells, in the order they were asked for.

    Attributes
    ----------
    images
        (N, size, size) float32 in 0..1; 0 where there is no picture.
    masks
        (N, size, size) bool, the cell itself.
    clipped
        (N,) bool, the cell was larger than its patch, so that part of it is missing.
    """

    images: NDArray[np.float32]
    masks: NDArray[np.bool_]
    clipped: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.images)


def stacked(channels: Sequence[Patches]) -> Patches:
    """The same cells in several channels as one: ``images`` are (N, C, size, size)."""
    return replace(channels[0], images=np.stack([one.images for one in channels], axis=1))


def cut(
    image: NDArray[Any],
    labels: NDArray[Any],
    label_values: Sequence[int] | NDArray[np.integer[Any]],
    params: PatchParameters | None = None,
    angle_deg: float = 0.0,
) -> Patches:
    """Cut the patch of every cell named in ``label_values``.

    Parameters
    ----------
    image
        (Y, X) prepared image, float in 0..1. Any other number type or range is stretched from
        its minimum..maximum to 0..1 first, in floating point, so that nothing wraps around.
        NaN and infinite pixels count as 0.
    labels
        (Y, X) integer label image, 0 = background, in the same frame.
    label_values
        The N labels wanted.
    params
        How to cut.
    angle_deg
        Counter-clockwise turn, as `skimage.transform.rotate`, that makes the grooves vertical; of no account where
        each cell is turned to its own axis.

    Returns
    -------
    Patches
        Without a turn, ``pad`` and ``mask`` copy pixels unchanged.

    Raises
    ------
    ValueError
        If shapes differ, or a wanted label is not in the label image.
    """
    params = params or PatchParameters()
    if image.shape != labels.shape or image.ndim != 2:
        raise ValueError(f"image {image.shape} and labels {labels.shape} must be one (Y, X) shape")
    wanted = np.asarray(label_values, dtype=np.int64)
    boxes = bounding_boxes(labels, wanted)
    picture = unit_range(image)
    count, size = len(wanted), params.size
    result = Patches(
        images=np.zeros((count, size, size), np.float32),
        masks=np.zeros((count, size, size), bool),
        clipped=np.zeros(count, bool),
    )
    for index, (value, box) in enumerate(zip(wanted, boxes, strict=True)):
        angle = angle_deg if params.turn == "image" else own_turn(labels[box[0] : box[2], box[1] : box[3]] == value)
        if angle % 360 == 0:
            crop, mask = _straight(picture, labels, value, box, params.margin)
        else:
            crop, mask = _turned(picture, labels, value, box, params.margin, angle)
        if params.method == "mask" or (params.method == "resize" and params.masked):
            crop = crop * mask
        if params.method == "resize":
            crop, mask = _fill(crop, mask, size)
        _centre(crop, result.images[index])
        _centre(mask, result.masks[index])
        result.clipped[index] = np.count_nonzero(result.masks[index]) < np.count_nonzero(mask)
    return result


def own_turn(mask: NDArray[np.bool_]) -> float:
    """Counter-clockwise turn in degrees that puts a cell's long axis upright and its heavier end below.

    The long axis is that of the ellipse with the same second moments; the heavier end is the one nearer to the middle
    of mass. A round cell has no axis and gets one by chance, the same each time.
    """
    rows, cols = np.nonzero(mask)
    if len(rows) < 2:
        return 0.0
    points = np.stack([cols - cols.mean(), rows - rows.mean()])
    x, y = np.linalg.eigh(points @ points.T)[1][:, 1]
    along = np.array([x, y]) @ points
    if (along**3).sum() > 0:  # the long, light tail points this way: it goes up
        x, y = -x, -y
    # the heavier end lies in direction (x, y) and is to point down, which is +y; see `_turned`
    return float(np.rad2deg(np.arctan2(-x, y)))


def unit_range(image: NDArray[Any]) -> NDArray[np.float32]:
    """``image`` (Y, X) as float32 in 0..1, see `to_grey`: floats already there are kept, anything else is stretched."""
    grey = to_grey(image)
    if grey.size == 0:
        return grey
    low, high = extremes(grey)
    if image.dtype.kind == "f" and low >= 0 and high <= 1:
        return grey
    return stretch(grey, low, high, grey)


def bounding_boxes(labels: NDArray[Any], label_values: NDArray[np.integer[Any]]) -> list[Box]:
    """Box of each label; raises ValueError naming the labels that are not in the image."""
    if len(label_values) == 0:
        return []
    if labels.max(initial=0) > labels.size:  # find_objects makes a list as long as the largest label
        known, dense = np.unique(labels, return_inverse=True)
        position = np.searchsorted(known, label_values)
        present = known[np.minimum(position, len(known) - 1)] == label_values
        found = ndimage.find_objects(dense.reshape(labels.shape).astype(np.int32) + 1)
        slices = [found[p] if ok else None for p, ok in zip(position, present, strict=True)]
    else:
        found = ndimage.find_objects(np.asarray(labels, np.int32))
        slices = [found[v - 1] if 0 < v <= len(found) else None for v in label_values]
    missing = [int(v) for v, where in zip(label_values, slices, strict=True) if where is None]
    if missing:
        raise ValueError(f"labels {missing[:5]} are not in the label image")
    return [(s[0].start, s[1].start, s[0].stop, s[1].stop) for s in slices if s is not None]


def _straight(
    picture: NDArray[np.float32], labels: NDArray[Any], value: int, box: Box, margin: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The cell's box with its margin, zero where the margin leaves the image."""
    top, left, bottom, right = box
    shape = (bottom - top + 2 * margin, right - left + 2 * margin)
    crop, mask = np.zeros(shape, np.float32), np.zeros(shape, bool)
    y0, x0 = max(top - margin, 0), max(left - margin, 0)
    source = np.s_[y0 : bottom + margin, x0 : right + margin]
    height, width = picture[source].shape
    dy, dx = y0 - (top - margin), x0 - (left - margin)
    crop[dy : dy + height, dx : dx + width] = picture[source]
    mask[dy : dy + height, dx : dx + width] = labels[source] == value
    return crop, mask


def _turned(
    picture: NDArray[np.float32], labels: NDArray[Any], value: int, box: Box, margin: int, angle_deg: float
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """The box of the cell after a turn about the middle of its present box, with its margin.

    With (u, v) the turned coordinates, x = cx + c·u - s·v and y = cy + s·u + c·v.
    """
    top, left, bottom, right = box
    c, s = np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))
    cy, cx = (top + bottom - 1) / 2, (left + right - 1) / 2
    rows, cols = np.nonzero(labels[top:bottom, left:right] == value)
    y, x = rows + (top - cy), cols + (left - cx)
    u, v = c * x + s * y, c * y - s * x
    width = int(np.ceil(np.ptp(u))) + 1 + 2 * margin
    height = int(np.ceil(np.ptp(v))) + 1 + 2 * margin
    u0, v0 = (u.min() + u.max() - width + 1) / 2, (v.min() + v.max() - height + 1) / 2
    # only the part of the image that the turned box covers is handed to OpenCV
    corner_u, corner_v = (
        np.array([u0, u0 + width, u0, u0 + width]),
        np.array([v0, v0, v0 + height, v0 + height]),
    )
    xs, ys = cx + c * corner_u - s * corner_v, cy + s * corner_u + c * corner_v
    x0, y0 = max(int(xs.min()) - 2, 0), max(int(ys.min()) - 2, 0)
    source = np.s_[y0 : int(ys.max()) + 3, x0 : int(xs.max()) + 3]
    matrix = np.array(
        [[c, -s, cx - x0 + c * u0 - s * v0], [s, c, cy - y0 + s * u0 + c * v0]],
    )
    crop = cv2.warpAffine(picture[source], matrix, (width, height), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP)
    mask = cv2.warpAffine(
        (labels[source] == value).astype(np.uint8),
        matrix,
        (width, height),
        flags=cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP,
    )
    return crop, mask.astype(bool)


def _fill(
    crop: NDArray[np.float32], mask: NDArray[np.bool_], size: int
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Scale so that the longer side is ``size``, aspect kept."""
    height, width = crop.shape
    scale = size / max(height, width)
    shape = (max(round(width * scale), 1), max(round(height * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    cover = cv2.resize(mask.astype(np.float32), shape, interpolation=how)
    half = min(0.5, float(cover.max()))  # a hair-thin cell must not vanish
    scaled = cv2.resize(crop, shape, interpolation=how)
    return np.clip(scaled, 0, 1), cover >= half  # its sums may round to a hair above 1


def _centre(source: NDArray[Any], target: NDArray[Any]) -> None:
    """Copy ``source`` into the middle of ``target``, cropping what does not fit."""
    here, there = [], []
    for have, want in zip(source.shape, target.shape, strict=True):
        take = min(have, want)
        here.append(slice((have - take) // 2, (have - take) // 2 + take))
        there.append(slice((want - take) // 2, (want - take) // 2 + take))
    target[tuple(there)] = source[tuple(here)]


def patch_thumbnail(
    image: NDArray[Any],
    labels: NDArray[Any] | None,
    bbox: Box,
    size: int = 96,
    *,
    label: int | None = None,
    limits: tuple[float, float] | None = None,
    margin: int = 4,
) -> NDArray[np.uint8]:
    """A square colour picture of one cell for galleries and hovering.

    Parameters
    ----------
    image
        (Y, X) or (C, Y, X), any number type. Several channels are shown in green, magenta,
        blue and yellow.
    labels
        (Y, X) label image for the outline, or None for no outline.
    bbox
        ``(top, left, bottom, right)`` in px, half-open.
    size
        Edge of the result in px.
    label
        Outline this label only; by default every cell in view is outlined.
    limits
        Grey levels shown as black and white; by default those of the crop.
    margin
        Surroundings shown around the box, px.

    Returns
    -------
    (size, size, 3) uint8
    """
    height, width = image.shape[-2:]
    middle_y, middle_x = (bbox[0] + bbox[2]) // 2, (bbox[1] + bbox[3]) // 2
    half = max(bbox[2] - bbox[0], bbox[3] - bbox[1], 2) // 2 + margin
    y0, x0 = max(middle_y - half, 0), max(middle_x - half, 0)
    window = np.s_[y0 : min(middle_y + half, height), x0 : min(middle_x + half, width)]
    crop = image[(Ellipsis, *window)]
    result = np.zeros((size, size, 3), np.uint8)
    if crop.size == 0:
        return result
    channels = crop[None] if crop.ndim == 2 else crop
    colours = ((1.0, 1.0, 1.0),) if len(channels) == 1 else _CHANNEL_COLOURS
    colour = np.zeros((*channels.shape[1:], 3), np.float32)
    for channel, tint in zip(channels, colours, strict=False):
        grey = unit_range(channel) if limits is None else stretch(to_grey(channel), *limits)
        colour += grey[..., None] * np.asarray(tint, np.float32)
    scale = size / max(colour.shape[:2])
    shape = (max(round(colour.shape[1] * scale), 1), max(round(colour.shape[0] * scale), 1))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    picture = (cv2.resize(colour.clip(0, 1), shape, interpolation=how) * 255).astype(np.uint8)
    if labels is not None:
        seen = labels[window] if label is None else np.where(labels[window] == label, 1, 0)
        shown = cv2.resize(seen.astype(np.float32), shape, interpolation=cv2.INTER_NEAREST)
        edge = cv2.dilate(shown, np.ones((3, 3))) != cv2.erode(shown, np.ones((3, 3)))
        picture[edge & (shown > 0)] = _OUTLINE
    for colour_index in range(3):
        _centre(picture[..., colour_index], result[..., colour_index])
    return result
