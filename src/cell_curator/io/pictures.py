"""Small pictures for a report: outlines over an image, patches, the map; as data URIs.

Drawn with numpy and OpenCV alone, so that a report needs no plotting library and no file
beside it. Colours come from the caller. Nothing here reads files or knows a project.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.colors import RGB

_OTHERS = (225, 225, 225)  # points of other conditions, in the background of a small map
_STRETCH = 1.5  # fill the page, but keep the shape
_DIMMED = 200  # grey level of white, so that coloured outlines stand out
_LINE = 2  # px, of an outline
_FIXED = 4  # OpenCV places circles on 1/16 px


def data_uri(picture: NDArray[np.uint8], kind: str = "jpg", quality: int = 82) -> str:
    """``(Y, X)`` or RGB ``(Y, X, 3)`` uint8 as ``data:image/…;base64,…``."""
    bgr = picture if picture.ndim == 2 else picture[..., ::-1]
    # full colour resolution, or thin coloured outlines turn grey
    sampling = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
    options = [cv2.IMWRITE_JPEG_QUALITY, quality, *sampling] if kind == "jpg" else []
    done, data = cv2.imencode(f".{kind}", np.ascontiguousarray(bgr), options)
    assert done
    mime = "jpeg" if kind == "jpg" else kind
    return f"data:image/{mime};base64,{base64.b64encode(data.tobytes()).decode()}"


def outlined(
    image: NDArray[np.float32], labels: NDArray[np.int32], colors: Mapping[int, RGB], side: int = 640
) -> NDArray[np.uint8]:
    """The image, reduced, with the outline of each cell in its colour.

    Parameters
    ----------
    image, labels
        (Y, X) in 0..1, and the label image of the same shape.
    colors
        By label; labels that are missing are not outlined.
    side
        Longer side of the picture (px); small images are enlarged at most twice.
    """
    height, width = image.shape
    scale = min(side / max(height, width), 2.0)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    smooth = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    grey = np.clip(cv2.resize(image, size, interpolation=smooth), 0, 1)
    small = cv2.resize(labels.astype(np.float64), size, interpolation=cv2.INTER_NEAREST).astype(np.int64)
    picture: NDArray[np.uint8] = np.repeat((grey * _DIMMED).astype(np.uint8)[..., None], 3, axis=2)
    table = np.zeros((int(labels.max(initial=0)) + 1, 3), np.uint8)
    for label, color in colors.items():
        table[label] = np.rint(255 * np.array(color))
    edge: NDArray[np.bool_] = _edges(small) & table.any(axis=1)[small]
    picture[edge] = table[small[edge]]
    return picture


def _edges(labels: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Pixels of a cell less than 2 px from its outside."""
    as_float = labels.astype(np.float32)  # exact to 16 million labels
    kernel = np.ones((2 * _LINE + 1, 2 * _LINE + 1), np.uint8)
    inside: NDArray[np.bool_] = cv2.erode(as_float, kernel) == cv2.dilate(as_float, kernel)
    return ~inside & (labels > 0)


def patch_picture(patch: NDArray[np.float32], side: int = 96) -> NDArray[np.uint8]:
    """One patch ``(P, P)`` in 0..1 as a grey picture of ``side`` px."""
    enlarged = cv2.resize(patch, (side, side), interpolation=cv2.INTER_CUBIC)
    picture: NDArray[np.uint8] = np.rint(np.clip(enlarged, 0, 1) * 255).astype(np.uint8)
    return picture


def scatter(
    points: NDArray[np.float32],
    colors: NDArray[np.float32],
    shown: NDArray[np.bool_] | None = None,
    *,
    width: int = 1400,
    height: int = 1000,
    radius: float | None = None,
) -> NDArray[np.uint8]:
    """Points on white; those not ``shown`` are light grey behind the others.

    Parameters
    ----------
    points
        (N, 2), x to the right and y upwards. The axes may differ in scale by half.
    colors
        (N, 4) RGBA in 0..1.
    shown
        (N,) or None for all.
    width, height, radius
        In px; the radius defaults to one that suits the number of points.

    Returns
    -------
    (height, width, 3) uint8 RGB
    """
    canvas = np.full((height, width, 3), 255, np.uint8)
    if not len(points):
        return canvas
    if radius is None:
        radius = float(np.clip(width / 24 / np.sqrt(len(points)) ** 0.75, 2.0, width / 90))
    where = _fit(points, width, height, margin=3 * radius)
    shown = np.ones(len(points), bool) if shown is None else shown
    order = np.random.default_rng(0).permutation(len(points))  # so that no group hides another
    for index in order[~shown[order]]:
        _dot(canvas, where[index], 0.8 * radius, _OTHERS)
    for index in order[shown[order]]:
        _dot(canvas, where[index], radius, tuple(round(255 * float(v)) for v in colors[index, :3]))
    return canvas


def _fit(points: NDArray[np.float32], width: int, height: int, margin: float) -> NDArray[np.float64]:
    low, high = points.min(axis=0), points.max(axis=0)
    span = np.maximum(high - low, 1e-9)
    scale = np.array([(width - 2 * margin) / span[0], (height - 2 * margin) / span[1]])
    scale = np.minimum(scale, _STRETCH * scale.min())
    centred = (points - (low + high) / 2) * scale
    result: NDArray[np.float64] = np.stack([width / 2 + centred[:, 0], height / 2 - centred[:, 1]], axis=1)
    return result


def _dot(canvas: NDArray[np.uint8], centre: NDArray[Any], radius: float, color: tuple[int, ...]) -> None:
    unit = 1 << _FIXED
    at = (round(float(centre[0]) * unit), round(float(centre[1]) * unit))
    cv2.circle(canvas, at, round(radius * unit), color, -1, cv2.LINE_AA, _FIXED)
