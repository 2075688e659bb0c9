"""The preprocessing chain: image in, prepared image out.

`prepare` applies a `Recipe` to one image. Every step is a function of its own so that it can
be called, tested and shown alone. Where the recipe turns the image, the turn is kept apart
as an angle (`Prepared.angle_deg`): cells are found and corrected in the pixels of the
original, and only patches and saved files are turned. This module does not read files and
does not know where the recipe came from.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.jobs import UserError
from cell_curator.core.orientation import estimate_angle, turn_image
from cell_curator.core.recipe import Channel, Clahe, Clip, Recipe, Rotate
from cell_curator.core.total_variation import denoise_tv

_LUMINANCE = np.array([0.2125, 0.7154, 0.0721], np.float32)  # as skimage.color.rgb2gray
_LEVELS = 256


@dataclass(frozen=True)
class Prepared:
    """A prepared image and what was found out on the way.

    ``image`` is ``(Y, X)`` float32 in 0..1, in the frame of the original. ``angle_deg`` is the
    counter-clockwise turn that makes its grooves vertical (0 where the recipe does not rotate).
    ``notes`` are lines for the user.
    """

    image: NDArray[np.float32]
    angle_deg: float
    notes: tuple[str, ...] = ()

    def turned(self) -> NDArray[np.float32]:
        """The image with its grooves vertical, same shape; corners from outside are 0."""
        return turn_image(self.image, self.angle_deg, fill=0.0)


def prepare(image: NDArray[np.generic], recipe: Recipe) -> Prepared:
    """Apply ``recipe`` to one image.

    Parameters
    ----------
    image
        ``(C, Y, X)`` or ``(Y, X)``, any real dtype. Values that are not finite count as the darkest one.
    recipe
        Steps and their values.

    Returns
    -------
    Prepared
        A constant image gives zeros.

    Raises
    ------
    UserError
        If the channel asked for does not exist.
    """
    grey = select_channel(image if image.ndim == 3 else image[None], recipe.channel)
    angle, notes = _angle(grey, recipe.rotate)
    if recipe.clahe.enabled:
        grey = equalise(grey, recipe.clahe)
    if recipe.normalise.enabled or not _within_unit(grey):
        grey = normalise(grey)
    if recipe.clip.enabled:
        grey = clip_extremes(grey, recipe.clip)
    tv = recipe.total_variation
    if tv.enabled:
        grey = np.clip(denoise_tv(grey, tv.weight, tv.tolerance, tv.iterations), 0.0, 1.0)
    return Prepared(np.ascontiguousarray(grey, dtype=np.float32), angle, notes)


def select_channel(image: NDArray[np.generic], channel: Channel) -> NDArray[np.float32]:
    """Make ``(C, Y, X)`` one finite float32 ``(Y, X)`` image, in the grey levels of the file."""
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
        grey = image[index].astype(np.float32)
    elif mode == "luminance" and count == 3:
        grey = np.tensordot(_LUMINANCE, image.astype(np.float32), axes=1)
    else:
        grey = (np.max if mode == "max" else np.mean)(image.astype(np.float32), axis=0)
    return finite(grey)


def finite(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Replace NaN and ±inf by the smallest finite value (0 where there is none)."""
    good = np.isfinite(grey)
    if good.all():
        return grey
    lowest = np.float32(grey[good].min()) if good.any() else np.float32(0)
    return np.where(good, grey, lowest)


def equalise(grey: NDArray[np.float32], clahe: Clahe) -> NDArray[np.float32]:
    """CLAHE by OpenCV on 256 grey levels, as many as the published chain's bins; the result lies in 0..1.

    ``clip_limit`` is the share of a tile's pixels that one level may hold, as in scikit-image. OpenCV
    counts in multiples of a flat histogram. Its 16-bit variant spreads a tile over 65,536 levels,
    where with tiles below 256×256 no clip limit can do anything: hence 8 bits.
    """
    levels = np.rint(normalise(grey) * (_LEVELS - 1)).astype(np.uint8)
    tile = clahe.tile_px or max(1, grey.shape[0] // 10)
    tiles = (max(1, round(grey.shape[1] / tile)), max(1, round(grey.shape[0] / tile)))
    operator = cv2.createCLAHE(clipLimit=max(clahe.clip_limit * _LEVELS, 1.0), tileGridSize=tiles)
    equalised: NDArray[np.uint8] = operator.apply(levels)
    return equalised.astype(np.float32) / np.float32(_LEVELS - 1)


def normalise(grey: NDArray[np.float32]) -> NDArray[np.float32]:
    """Min–max to 0..1; a constant image becomes 0."""
    return _stretch(grey, float(grey.min()), float(grey.max()))


def clip_extremes(grey: NDArray[np.float32], clip: Clip) -> NDArray[np.float32]:
    """Cut at two percentiles and stretch what is between to 0..1.

    With low ≥ high nothing can be between, and the image is returned as it is.
    """
    if clip.low_percent >= clip.high_percent:
        return grey
    low, high = np.percentile(grey, (clip.low_percent, clip.high_percent))
    if high <= low:  # e.g. nearly all pixels black: keep the few that are not
        return grey
    return np.clip(_stretch(grey, float(low), float(high)), 0.0, 1.0)


def _stretch(grey: NDArray[np.float32], low: float, high: float) -> NDArray[np.float32]:
    if not high > low:
        return np.zeros_like(grey)
    # In float64, since the range of float32 images can overflow float32 itself.
    return ((grey.astype(np.float64) - low) / (high - low)).astype(np.float32)


def _within_unit(grey: NDArray[np.float32]) -> bool:
    return bool(grey.min() >= 0.0 and grey.max() <= 1.0)


def _angle(grey: NDArray[np.float32], rotate: Rotate) -> tuple[float, tuple[str, ...]]:
    if not rotate.enabled:
        return 0.0, ()
    if rotate.method == "fixed":
        return rotate.angle_deg, ()
    found = estimate_angle(normalise(grey), rotate.method)
    if found is None:
        return 0.0, ("no grooves or lines were found, so the image is not turned; set a fixed angle if it should be",)
    return found, ()
