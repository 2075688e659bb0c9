"""Which way grooves run, and turning images and masks by that angle.

Angles are counter-clockwise turns in degrees about the image centre, as in
`skimage.transform.rotate`: turning by the estimated angle makes the grooves vertical.
Estimates lie in (-90, 90]. This module measures and turns; whether to is in the recipe.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

_HOUGH_VOTES = (80, 40)  # published thresholds: the second is tried when the first finds no line
_REFINE_DEG = 4.0
_BLUR = 2.0  # px
_BLUR_AREA = 4 * np.pi * _BLUR**2  # px that vary together after the blur


def turn_matrix(shape: tuple[int, ...], angle_deg: float) -> NDArray[np.float64]:
    """The ``(2, 3)`` matrix, in (x, y) order, that turns an image of ``shape`` about its centre."""
    height, width = shape
    matrix: NDArray[np.float64] = cv2.getRotationMatrix2D(((width - 1) / 2, (height - 1) / 2), angle_deg, 1.0)
    return matrix


def turn_image(image: NDArray[np.float32], angle_deg: float, fill: float | None = None) -> NDArray[np.float32]:
    """Turn ``(Y, X)`` float32 by linear interpolation; what lies outside becomes ``fill`` (default: the median)."""
    if angle_deg == 0:
        return image
    value = float(np.median(image)) if fill is None else fill
    turned: NDArray[np.float32] = cv2.warpAffine(
        image,
        turn_matrix(image.shape, angle_deg),
        image.shape[::-1],
        flags=cv2.INTER_LINEAR,
        borderValue=value,
    )
    return turned


def turn_labels(labels: NDArray[np.int32], angle_deg: float) -> NDArray[np.int32]:
    """Turn a ``(Y, X)`` label image (nearest neighbour); turn back with ``-angle_deg``."""
    if angle_deg == 0:
        return labels
    # OpenCV warps no int32; float32 holds labels exactly up to 2**24.
    turned = cv2.warpAffine(
        labels.astype(np.float32),
        turn_matrix(labels.shape, angle_deg),
        labels.shape[::-1],
        flags=cv2.INTER_NEAREST,
    )
    back: NDArray[np.int32] = turned.astype(np.int32)
    return back


def inside_mask(shape: tuple[int, ...], angle_deg: float) -> NDArray[np.bool_]:
    """``(Y, X)`` bool: which pixels of the turned image come from inside the original."""
    turned = turn_image(np.ones(shape, np.float32), angle_deg, fill=0.0)
    return turned > 0.5


def wrap(angle_deg: float) -> float:
    """The same undirected turn within (-90, 90]."""
    wrapped = (angle_deg + 90.0) % 180.0 - 90.0
    return 90.0 if wrapped == -90.0 else wrapped


def estimate_angle(image: NDArray[np.float32], method: str = "tensor") -> float | None:
    """Estimate the turn that makes grooves vertical.

    Parameters
    ----------
    image
        ``(Y, X)`` float32.
    method
        ``"tensor"`` (direction of all gradients, refined on the column profile) or
        ``"hough"`` (Canny edges and the straight line with most votes, as published).

    Returns
    -------
    Angle in degrees, or None where the image shows no direction.
    """
    if min(image.shape) < 8 or float(np.ptp(image)) == 0.0:
        return None
    return _by_hough(image) if method == "hough" else _by_tensor(image)


def _by_tensor(image: NDArray[np.float32]) -> float | None:
    smooth = cv2.GaussianBlur(image, (0, 0), _BLUR)
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0).astype(np.float64)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1).astype(np.float64)
    # The few strongest gradients are cell edges that point anywhere; cap them so that grooves count.
    size = np.hypot(gx, gy)
    cap = np.minimum(1.0, np.percentile(size, 80) / np.maximum(size, 1e-12))
    gx, gy = gx * cap, gy * cap
    xx, yy, xy = float((gx * gx).mean()), float((gy * gy).mean()), float((gx * gy).mean())
    coherence = np.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-12)
    if coherence < 3.0 / np.sqrt(max(image.size / _BLUR_AREA, 1.0)):
        return None  # no more direction than noise shows by chance
    across = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))  # direction of the gradients, y downwards
    return _refine(smooth, wrap(float(across)))


def _refine(image: NDArray[np.float32], angle_deg: float) -> float:
    """Sharpen the estimate: grooves are vertical where the mean of each column varies most."""
    side = min(image.shape)
    scale = min(1.0, 512 / side)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    small = small - cv2.GaussianBlur(small, (0, 0), max(4.0, min(small.shape) / 24))
    deviation = float(small.std())
    small = np.clip(small, -2 * deviation, 2 * deviation)

    def contrast(angle: float) -> float:
        turned = turn_image(small, angle, fill=0.0)
        quarter_y, quarter_x = turned.shape[0] // 6, turned.shape[1] // 6
        middle = turned[quarter_y : -quarter_y or None, quarter_x : -quarter_x or None]
        return float(middle.mean(axis=0).var())

    best = angle_deg
    for span, count in ((_REFINE_DEG, 17), (0.6, 13), (0.12, 7)):
        candidates = best + np.linspace(-span, span, count)
        best = float(candidates[int(np.argmax([contrast(a) for a in candidates]))])
    return wrap(best)


def _by_hough(image: NDArray[np.float32]) -> float | None:
    low, high = np.percentile(image, (1, 99))
    grey = np.clip((image - low) / max(float(high - low), 1e-12) * 255, 0, 255).astype(np.uint8)
    edges = cv2.Canny(grey, int(np.ptp(grey)) / 10, int(grey.max()), apertureSize=3)
    for votes in _HOUGH_VOTES:
        lines = cv2.HoughLinesWithAccumulator(edges, 1, np.pi / 360, votes)
        if lines is not None:
            lines = lines.reshape(-1, 3)
            theta = float(lines[np.argmax(lines[:, 2]), 1])  # the normal's direction, y downwards
            return wrap(float(np.degrees(theta)))
    return None
