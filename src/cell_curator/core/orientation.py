"""Which way grooves run, and turning images and masks by that angle.

Angles are counter-clockwise turns in degrees about the image centre, as in
`skimage.transform.rotate`: turning by the estimated angle makes the grooves vertical.
Estimates lie in (-90, 90]. This module measures and turns; whether to is in the recipe.
"""

from __future__ import annotations

from collections.abc import Iterable

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.grey_levels import extremes, length, percentiles, quantise, stretch

_HOUGH_VOTES = (80, 40)  # published thresholds: the second is tried when the first finds no line
_HOUGH_DEG = 0.5
_HOUGH_SIDE = 640  # px
_EDGES_PERCENT = 90.0  # gradients above are edges; published: the image's maximum, which noise decides
_REFINE_DEG = 4.0
_ALIKE_DEG = 2.0
_SIDE = 640  # px; twice as large images are looked at in half size
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
    """Turn a ``(Y, X)`` label image; what leaves the frame is lost, what lies outside becomes 0.

    Every pixel moves to a place of its own, less than 1.5 px from where it belongs, so that
    `turn_labels_back` finds it again. Areas stay as they are.
    """
    y, x, within = _places(labels.shape, angle_deg)
    turned = np.zeros_like(labels)
    turned[y[within], x[within]] = labels[within]
    return turned


def turn_labels_back(turned: NDArray[np.int32], angle_deg: float) -> NDArray[np.int32]:
    """The ``(Y, X)`` label image that `turn_labels` makes ``turned`` of, pixel by pixel.

    Pixels of the original that `turn_labels` takes out of the frame become 0.
    """
    y, x, within = _places(turned.shape, angle_deg)
    labels = np.zeros_like(turned)
    labels[within] = turned[y[within], x[within]]
    return labels


def _places(shape: tuple[int, ...], angle_deg: float) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.bool_]]:
    """Row and column that each pixel of ``shape`` is turned to, and whether that is within the frame.

    Quarter turns and three shears (Paeth 1986, *Graphics Interface* 77) by whole pixels: each shear moves
    whole rows or columns, so no two pixels meet. Nearest neighbours would: a cell of 200 px
    turned there and back with them overlaps with itself to 96 % only.
    """
    height, width = shape
    centre_y, centre_x = (height - 1) / 2, (width - 1) / 2
    quarters = round(angle_deg / 90)
    rest = np.radians(angle_deg - 90 * quarters)
    v, u = np.ogrid[-centre_y : height - centre_y, -centre_x : width - centre_x]
    for _ in range(quarters % 4):
        v, u = -u, v
    y, x = np.floor(v + centre_y).astype(np.intp), np.floor(u + centre_x).astype(np.intp)
    # A quarter turn of an even by an odd frame ends half a pixel off the grid: the shears take that along.
    off_y, off_x = float(v.flat[0] + centre_y - y.flat[0]), float(u.flat[0] + centre_x - x.flat[0])
    along, down = np.tan(rest / 2), -np.sin(rest)
    x = x + _whole(off_x + along * (y + off_y - centre_y))
    y = y + _whole(off_y + down * (x - centre_x))
    x = x + _whole(along * (y - centre_y))
    return y, x, (y >= 0) & (y < height) & (x >= 0) & (x < width)


def _whole(shift: NDArray[np.float64]) -> NDArray[np.intp]:
    return np.asarray(np.floor(shift + 0.5), np.intp)


def inside_mask(shape: tuple[int, ...], angle_deg: float) -> NDArray[np.bool_]:
    """``(Y, X)`` bool: which pixels of the turned image come from inside the original."""
    turned = turn_image(np.ones(shape, np.float32), angle_deg, fill=0.0)
    return turned > 0.5


def wrap(angle_deg: float) -> float:
    """The same undirected turn within (-90, 90]."""
    wrapped = (angle_deg + 90.0) % 180.0 - 90.0
    return 90.0 if wrapped == -90.0 else wrapped


def common_angle(angles: Iterable[float]) -> float | None:
    """The one undirected turn for several images, or None of none: the median, which single outliers do not move.

    On a circle there is no first and no last: the median is taken about that whole degree
    which is nearest to all angles together.
    """
    given = np.fromiter(angles, np.float64)
    if not given.size:
        return None
    away = [np.abs(_from(given, about)).sum() for about in range(-89, 91)]
    about = int(np.argmin(away)) - 89
    return wrap(about + float(np.median(_from(given, about))))


def _from(angles: NDArray[np.float64], about: float) -> NDArray[np.float64]:
    """How far undirected turns are from another one, within [-90, 90)."""
    return (angles - about + 90.0) % 180.0 - 90.0


def estimate_angle(image: NDArray[np.float32], method: str = "tensor") -> float | None:
    """Estimate the turn that makes grooves vertical.

    Parameters
    ----------
    image
        ``(Y, X)`` float32.
    method
        ``"tensor"`` (direction of all gradients, refined on the column profile) or
        ``"hough"`` (Canny edges and the direction whose straight lines have most votes, after the published way).

    Returns
    -------
    Angle in degrees, or None where the image shows no direction.
    """
    smooth = _without_cells(image)
    if smooth is None:
        return None
    return _by_hough(smooth) if method == "hough" else _by_tensor(smooth, image.size / _BLUR_AREA)


def _without_cells(image: NDArray[np.float32]) -> NDArray[np.float32] | None:
    """The blurred background in 0..1, or None where there is nothing to see."""
    if min(image.shape) < 8:
        return None
    smooth = _reduced(image)
    low, high = extremes(smooth)
    if not 0.0 < high - low < np.inf:
        return None
    # Cells are brighter than what lies between them and point anywhere: cut them down to the background.
    dark, middle = percentiles(smooth, (10, 50))
    smooth = stretch(smooth, low, min(high, middle + 2 * (middle - dark)) if middle > dark else high, smooth)
    return smooth


def _reduced(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """The image blurred by `_BLUR` px, at half size where it is large: four times as fast, the same band."""
    if min(image.shape) < 2 * _SIDE:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), _BLUR), np.float32)
    half = cv2.resize(image, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.GaussianBlur(half, (0, 0), _BLUR / 2), np.float32)


def _by_tensor(smooth: NDArray[np.float32], independent: float) -> float | None:
    """``independent``: how many pixels of noise there are that know nothing of each other."""
    gx = cv2.Sobel(smooth, cv2.CV_32F, 1, 0)
    gy = cv2.Sobel(smooth, cv2.CV_32F, 0, 1)
    # The few strongest gradients are cell edges that point anywhere; cap them so that grooves count.
    size = length(gx, gy)
    cap = max(percentiles(size, (80,))[0], 1e-12)
    cv2.max(size, cap, dst=size)
    gx, gy = cv2.divide(gx, size, scale=cap), cv2.divide(gy, size, scale=cap)
    xx, yy, xy = (float(cv2.mean(cv2.multiply(p, q))[0]) for p, q in ((gx, gx), (gy, gy), (gx, gy)))
    coherence = np.hypot(xx - yy, 2 * xy) / max(xx + yy, 1e-12)
    if coherence < 3.0 / np.sqrt(max(independent, 1.0)):
        return None  # no more direction than noise shows by chance
    across = 0.5 * np.degrees(np.arctan2(2 * xy, xx - yy))  # direction of the gradients, y downwards
    return _refine(smooth, wrap(float(across)))


def _refine(image: NDArray[np.float32], angle_deg: float) -> float:
    """Sharpen the estimate: grooves are vertical where the mean of each column varies most."""
    small = _flattened(image)
    best = angle_deg
    for span, count in ((_REFINE_DEG, 17), (0.6, 13), (0.12, 7)):
        candidates = best + np.linspace(-span, span, count)
        best = float(candidates[int(np.argmax([_stripes(small, a) for a in candidates]))])
    return wrap(best)


def _flattened(image: NDArray[np.float32]) -> NDArray[np.float32]:
    """At most 512 px, without what varies slowly, and without what is much stronger than the rest."""
    side = min(image.shape)
    scale = min(1.0, 512 / side)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA) if scale < 1 else image
    small = small - _slow(small, max(4.0, min(small.shape) / 24))
    deviation = float(small.std())
    return np.asarray(np.clip(small, -2 * deviation, 2 * deviation), np.float32)


def _slow(image: NDArray[np.float32], sigma: float) -> NDArray[np.float32]:
    """What varies slowly: a wide blur, of a small copy, which takes a twentieth of the time."""
    factor = max(1, round(sigma / 4))
    coarse = cv2.resize(image, None, fx=1 / factor, fy=1 / factor, interpolation=cv2.INTER_AREA)
    coarse = cv2.GaussianBlur(coarse, (0, 0), sigma / factor)
    return np.asarray(cv2.resize(coarse, image.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _stripes(small: NDArray[np.float32], angle_deg: float) -> float:
    """How much the columns of the turned image differ."""
    side = 2 * min(small.shape) // 3  # of a square in the middle: none of it comes from outside, however it is turned
    matrix = turn_matrix(small.shape, angle_deg)
    matrix[:, 2] -= (small.shape[1] - side) // 2, (small.shape[0] - side) // 2
    middle = cv2.warpAffine(small, matrix, (side, side), flags=cv2.INTER_LINEAR)
    return float(cv2.reduce(middle, 0, cv2.REDUCE_AVG).var())


def quarters_that_agree(image: NDArray[np.float32], angle_deg: float) -> int:
    """In how many of its four quarters ``(Y, X)`` float32 has, taken alone, the same direction to 2°.

    Grooves run through the whole image, whereas cells that happen to lie along each other do not.
    Measured on scenes and images that did not choose the rule: two or more quarters agree in 41 of 42 scenes
    with white noise of σ 0 to 40 grey levels (their background is 130) whose angle is found at all, in 5 of 21 with
    σ 60 to 80, and in none of 121 real images without grooves (in 2 of 249 others).
    """
    middle_y, middle_x = image.shape[0] // 2, image.shape[1] // 2
    quarters = (image[rows, columns] for rows in _halves(middle_y) for columns in _halves(middle_x))
    alone = (estimate_angle(np.ascontiguousarray(quarter)) for quarter in quarters)
    return sum(angle is not None and abs(wrap(angle - angle_deg)) < _ALIKE_DEG for angle in alone)


def _halves(middle: int) -> tuple[slice, slice]:
    return slice(None, middle), slice(middle, None)


def _by_hough(smooth: NDArray[np.float32]) -> float | None:
    """Canny edges and straight lines, as published; but *all* lines of a direction vote for it together.

    The longest single line is often the rim of a cell. Grooves are many lines of one direction: votes are
    squared, so that long lines count more than many short ones, and summed by direction. Only a disk in the
    middle is looked at: in a square, diagonals are longer and would win among the edges that noise makes.
    """
    side = min(*smooth.shape, _HOUGH_SIDE)
    top, left = ((length - side) // 2 for length in smooth.shape)
    low, high = percentiles(smooth, (1, 99))
    grey = quantise(smooth[top : top + side, left : left + side], low, high, 255)
    rise = length(cv2.Sobel(grey, cv2.CV_32F, 1, 0), cv2.Sobel(grey, cv2.CV_32F, 0, 1))
    strong = percentiles(rise, (_EDGES_PERCENT,))[0]
    edges = cv2.Canny(grey, strong / 2, strong, apertureSize=3, L2gradient=True)
    disk = cv2.circle(np.zeros_like(edges), (side // 2, side // 2), side // 2, 255, cv2.FILLED)
    edges &= disk
    for votes in _HOUGH_VOTES:
        lines = cv2.HoughLinesWithAccumulator(edges, 1, np.radians(_HOUGH_DEG), votes)
        if lines is None:
            continue
        lines = lines.reshape(-1, 3)
        bins = round(180 / _HOUGH_DEG)
        index = np.rint(np.degrees(lines[:, 1]) / _HOUGH_DEG).astype(np.int64) % bins
        tally = np.bincount(index, lines[:, 2].astype(np.float64) ** 2, minlength=bins)
        # Lines of slightly different direction belong together; directions go round.
        near = np.convolve(np.r_[tally[-2:], tally, tally[:2]], (1, 2, 3, 2, 1), mode="valid")
        theta = _HOUGH_DEG * int(np.argmax(near))  # the normal's direction, y downwards
        return _refine(smooth, wrap(theta))
    return None
