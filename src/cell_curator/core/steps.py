"""The single steps of preprocessing, each a function of one grey image.

Images are ``(Y, X)`` float32 and finite. Every step takes ``out=``, where the result goes (it may be
the image itself; default: a new array), and those that look at the grey levels of the image
first take ``levels=``, so that a part of an image can be treated as the whole was. The order of
the steps and their switches are in `preprocess`.
"""

from __future__ import annotations

import math
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.grey_levels import bend_by, extremes, percentiles, quantise, stretch, to_grey
from cell_curator.core.jobs import UserError
from cell_curator.core.morphology import dilate
from cell_curator.core.recipe import Background, Channel, Clahe, Clip, Tone, ZeroBelow

Grey = NDArray[np.float32]
Levels = tuple[float, float]

_LUMINANCE = (0.2125, 0.7154, 0.0721)  # as skimage.color.rgb2gray
_LEVELS_16 = 65_536
_BINS = 256  # of the published CLAHE
_FINE_RADIUS = 15  # px by which a disk is round enough for a background seen coarsely
_MOST_TILES = {"8 bit": 256, "16 bit": 32}  # along an axis; OpenCV keeps a table of all levels for each tile


def select_channel(image: NDArray[np.generic], channel: Channel) -> Grey:
    """Make ``(C, Y, X)`` one float32 ``(Y, X)`` image as of `to_grey`, in the grey levels of the file.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    count = image.shape[0]
    mode = channel.mode
    if mode == "auto":
        mode = "luminance" if count == 3 else "index"
    if mode == "index":
        index = channel.index if channel.mode == "index" else 0
        if index >= count:
            raise UserError(
                f"channel {index} was asked for but the image has {count} (0 to {count - 1}); choose one of these"
            )
        return to_grey(image[index])
    if mode == "max":
        grey = to_grey(image[0])
        for other in image[1:]:
            np.maximum(grey, to_grey(other), out=grey)
        return grey
    weights = _LUMINANCE if mode == "luminance" and count == 3 else (1 / count,) * count
    grey = np.zeros(image.shape[1:], np.float32)
    for weight, other in zip(weights, image, strict=True):
        grey += np.float32(weight) * to_grey(other)
    return grey


def coarse_background(grey: Grey, background: Background, *, scale: float, shape: tuple[int, ...]) -> Grey:
    """About what `remove_background` takes for the background, at the resolution ``shape`` (y, x) or a coarser one.

    Noise must not be averaged away before the brightest pixels (white top-hat: the darkest) are looked for:
    each coarse pixel starts from the brightest of those that it stands for, which is a part of
    the first disk. Where the disk is large, the background varies slowly and is found on fewer pixels.

    Parameters
    ----------
    grey
        ``(Y, X)`` float32; every pixel may be the brightest of ``scale`` × ``scale`` of the original already.
    """
    radius = background.radius_px / scale
    coarser = max(math.sqrt(grey.size / math.prod(shape)), radius / _FINE_RADIUS)
    if coarser > 1.0:
        size = tuple(max(1, round(side / coarser)) for side in reversed(grey.shape))
        blocks = cv2.resize(pool(grey, background.sign, coarser), size, interpolation=cv2.INTER_NEAREST)
        grey, radius, scale = np.asarray(blocks, np.float32), radius / coarser, scale * coarser
    first = dilate(grey, max(0.0, radius - (scale - 1) / (2 * scale)), background.sign)
    found = dilate(first, radius, -background.sign)
    return np.asarray(cv2.resize(found, shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def pool(image: NDArray[Any], sign: int, block: float) -> NDArray[Any]:
    """The brightest (with ``sign`` -1: darkest) of the ``block`` × ``block`` pixels down and right of each, (Y, X)."""
    side = max(1, round(block))
    extreme = cv2.dilate if sign > 0 else cv2.erode
    return np.asarray(extreme(image, np.ones((side, side), np.uint8), anchor=(0, 0)))


def remove_background(
    grey: Grey,
    background: Background,
    *,
    scale: float = 1.0,
    darkest: float | None = None,
    estimate: Grey | None = None,
    out: Grey | None = None,
) -> Grey:
    """Subtract a top-hat background estimate (Serra 1982; as `skimage.morphology.black_tophat`).

    Parameters
    ----------
    scale
        Pixels of the original that one pixel of ``grey`` stands for along an axis; the disk shrinks with it.
    darkest
        Gaps do not get darker than this; default: the smallest value of the image.
    estimate
        Of `coarse_background`, where that will do; it is written over.
    """
    if estimate is None:
        radius = max(1, round(background.radius_px / scale))
        estimate = dilate(dilate(grey, radius, background.sign), radius, -background.sign)
    elif background.sign > 0:  # at a coarser resolution it may err to the wrong side of the image
        np.maximum(estimate, grey, out=estimate)
    else:
        np.minimum(estimate, grey, out=estimate)
    if background.sign > 0:  # the gap's depth once more: image − (closing − image)
        floor = np.float32(extremes(grey)[0] if darkest is None else darkest)
        deeper = np.asarray(cv2.addWeighted(grey, 2.0, estimate, -1.0, 0.0, dst=out), np.float32)
        return np.maximum(deeper, floor, out=deeper)
    return np.asarray(cv2.subtract(grey, estimate, dst=out), np.float32)


def clahe_tiles(shape: tuple[int, ...], clahe: Clahe) -> tuple[int, int]:
    """How many tiles an image of ``shape`` (Y, X) gets, (down, across)."""
    tile = clahe.tile_px or max(1, shape[0] // 10)
    most = _MOST_TILES[clahe.depth]
    down, across = (min(most, max(1, round(side / tile))) for side in shape)
    return down, across


def clahe_note(shape: tuple[int, ...], clahe: Clahe) -> str | None:
    """Where the clip limit cannot do what it says with these tiles: a line for the user."""
    down, across = clahe_tiles(shape, clahe)
    area = math.ceil(shape[0] / down) * math.ceil(shape[1] / across)
    smallest = (_LEVELS_16 / _BINS) / area  # one pixel a level, in terms of 256 levels
    if clahe.depth == "8 bit" or clahe.clip_limit >= 4 * smallest:
        return None
    return (
        f"CLAHE with 16 bits and these tiles knows only multiples of {smallest:.3g} as clip limit;"
        " use larger tiles or 8 bits"
    )


def equalise(
    grey: Grey,
    clahe: Clahe,
    *,
    tiles: tuple[int, int] | None = None,
    levels: Levels | None = None,
    out: Grey | None = None,
) -> Grey:
    """CLAHE by OpenCV (Zuiderveld 1994); the result lies in 0..1.

    ``clip_limit`` is the share of a tile's pixels that one of 256 levels may hold, as in scikit-image;
    OpenCV counts in multiples of a flat histogram, which makes it the steepest rise of the curve,
    ``256 × clip_limit``, with 8 and with 16 bits alike. With 16 bits a tile is spread over 65,536
    levels, and a level cannot hold less than one pixel: see `clahe_note`.

    Parameters
    ----------
    tiles
        (down, across); default: as the tile's side says.
    levels
        Grey levels that become black and white before equalising; default: the extremes of the image.
    """
    top = _BINS - 1 if clahe.depth == "8 bit" else _LEVELS_16 - 1
    down, across = tiles or clahe_tiles(grey.shape, clahe)
    operator = cv2.createCLAHE(clipLimit=max(clahe.clip_limit * _BINS, 1.0), tileGridSize=(across, down))
    equalised = operator.apply(quantise(grey, *(levels or extremes(grey)), top))
    return np.asarray(np.multiply(equalised, np.float32(1 / top), out=out, dtype=np.float32))


def normalise(grey: Grey, *, levels: Levels | None = None, out: Grey | None = None) -> Grey:
    """Min–max to 0..1; a constant image becomes 0."""
    return stretch(grey, *(levels or extremes(grey)), out)


def clip_levels(grey: Grey, clip: Clip) -> Levels:
    """The grey levels that become black and white; the extremes where nothing can be cut.

    That is so with low ≥ high, and where both percentiles are the same level, e.g. where nearly
    all pixels are black: the few that are not are kept.
    """
    if clip.low_percent < clip.high_percent:
        low, high = percentiles(grey, (clip.low_percent, clip.high_percent))
        if high > low:
            return low, high
    return extremes(grey)


def clip_extremes(grey: Grey, clip: Clip, *, levels: Levels | None = None, out: Grey | None = None) -> Grey:
    """Cut at two percentiles and stretch what is between to 0..1.

    With low ≥ high nothing can be between, and the image is returned as it is.
    """
    if clip.low_percent >= clip.high_percent:
        return grey
    return stretch(grey, *(levels or clip_levels(grey, clip)), out)


def zero_level(grey: Grey, zero: ZeroBelow) -> float:
    """The percentile below which pixels become 0."""
    return percentiles(grey, (zero.percent,))[0]


def black_below(grey: Grey, zero: ZeroBelow, *, level: float | None = None, out: Grey | None = None) -> Grey:
    """Set what is darker than a percentile to 0; the rest stays as it is."""
    threshold = zero_level(grey, zero) if level is None else level
    # A level is known to one part in 65,535 only; a pixel that lies on it stays.
    floor = max(threshold - 1e-5, 1e-30)
    out = np.empty_like(grey) if out is None else out
    return np.asarray(cv2.threshold(grey, floor, 0.0, cv2.THRESH_TOZERO, dst=out)[1], np.float32)


def bend(grey: Grey, tone: Tone, *, out: Grey | None = None) -> Grey:
    """Gamma or sigmoid curve on an image in 0..1; 0 stays 0 and 1 stays 1."""
    out = np.empty(grey.shape, np.float32) if out is None else out
    if tone.method == "gamma":
        return bend_by(grey, lambda level: level**tone.gamma, out)
    low, high = (1.0 / (1.0 + math.exp(tone.gain * (tone.middle - v))) for v in (0.0, 1.0))

    def sigmoid(level: NDArray[np.float64]) -> NDArray[np.float64]:
        # 0 and 1 are mapped to themselves, unlike skimage.exposure.adjust_sigmoid, which cuts contrast at the ends.
        return np.asarray((1.0 / (1.0 + np.exp(tone.gain * (tone.middle - level))) - low) / (high - low))

    return bend_by(grey, sigmoid, out)
