"""Which images of a project deserve a look: blurred, over-exposed, empty, unevenly lit, another magnification, twice.

Images are compared with the others of the project; with few images only what needs no comparison is said.
"""

from __future__ import annotations

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core.lazy import Lazy
from cell_curator.core.parameters import Parameters, parameter
from cell_curator.core.quality import measure_quality, noise_sigma

FLAGS: dict[str, str] = {
    "focus": "Out of focus",
    "exposure": "Over-exposed",
    "empty": "Empty",
    "light": "Uneven light",
    "magnification": "Another magnification",
    "duplicate": "Duplicate",
}
"""What may be wrong with an image, by key."""

_TILES = 8  # for uneven light
_COARSE = 128  # px of the picture in which uneven light is looked at
_MIDDLE = 2048  # px
_SMALL = 32  # side of the picture by which duplicates are known
_ALIKE = 0.998
_FEWEST = 5  # images to compare with


class ImageFlagParameters(Parameters):
    """How far from the others an image may be."""

    focus_z: float = parameter(
        4.0, "Focus range", "How much blurrier than the median image.", unit="robust σ", ge=1, le=20, step=0.5
    )
    exposure: float = parameter(
        1.0, "Over-exposed", "Share of pixels at the highest grey level.", unit="%", ge=0.01, le=50, step=0.1
    )
    light: float = parameter(
        50.0,
        "Uneven light",
        "How far the background of one part may be from another, in % of the range of the image.",
        unit="%",
        ge=1,
        le=100,
        step=5,
    )
    magnification: float = parameter(
        2.0, "Magnification", "Ratio of the median cell diameter to that of the other images.", ge=1.2, le=10, step=0.1
    )


@dataclass(frozen=True)
class ImageLook:
    """What is measured on one image.

    ``focus``: fine detail over coarse detail; ``saturated``: share of pixels at the top level; ``signal``: range
    over noise; ``unevenness``: spread of the background over tiles, share of the range; ``small``: picture of
    32 × 32, normalised, as bytes of float32; ``digest``: of the pixels themselves.
    """

    focus: float
    saturated: float
    signal: float
    unevenness: float
    small: bytes
    digest: str


@dataclass(frozen=True)
class ImageFlag:
    """One thing that may be wrong with an image: key of `FLAGS`, and a sentence."""

    key: str
    text: str


def look(pixels: NDArray[np.generic] | Lazy) -> ImageLook:
    """Measure one image, ``(C, Y, X)`` or ``(Y, X)``; of several channels the brightest value counts.

    Of a large image the part in its middle stands for all.
    """
    if isinstance(pixels, Lazy):
        height, width = pixels.shape[-2:]
        above, before = max(0, height - _MIDDLE) // 2, max(0, width - _MIDDLE) // 2
        pixels = pixels.window((above, before, min(above + _MIDDLE, height), min(before + _MIDDLE, width)))
    digest = hashlib.sha256(np.ascontiguousarray(pixels).view(np.uint8).data).hexdigest()
    grey = pixels.astype(np.float32)
    if grey.ndim == 3:
        grey = grey.max(axis=0)
    grey = np.nan_to_num(grey)
    low, high = float(np.percentile(grey, 0.1)), float(np.percentile(grey, 99.9))
    top = 255.0 if pixels.dtype == np.uint8 else float(grey.max())
    at_top = float((grey >= top).mean())
    flat = not high > low
    # a plateau at the top is clipping; without one the highest level is a pixel or two
    saturated = 0.0 if flat or at_top * grey.size < 4 else 100 * at_top
    unit = np.zeros_like(grey) if flat else ((grey - low) / (high - low)).clip(0, 1)
    noise = noise_sigma(unit)
    small = cv2.resize(unit, (_SMALL, _SMALL), interpolation=cv2.INTER_AREA)
    small = (small - small.mean()) / max(float(small.std()), 1e-6)
    return ImageLook(
        focus=measure_quality(unit).focus / max(float((unit - _coarse(unit)).var()), 1e-6),
        saturated=saturated,
        signal=0.0 if flat else float(unit.std()) / max(noise, 1e-3),
        unevenness=_unevenness(unit),
        small=small.astype(np.float32).tobytes(),
        digest=digest,
    )


def _coarse(unit: NDArray[np.float32]) -> NDArray[np.float32]:
    """What varies over an eighth of the image and more: uneven light is no detail."""
    height, width = unit.shape
    shrink = max(max(unit.shape) / _COARSE, 1.0)  # a blur this wide takes seconds at full size
    size = max(round(width / shrink), 1), max(round(height / shrink), 1)
    small = cv2.resize(unit, size, interpolation=cv2.INTER_AREA)
    blurred = cv2.GaussianBlur(small, (0, 0), max(min(size) / 8, 1.0))
    grown: NDArray[np.float32] = cv2.resize(blurred, (width, height), interpolation=cv2.INTER_LINEAR)
    return grown


def _unevenness(unit: NDArray[np.float32]) -> float:
    """Range of the background over tiles, of the middle nine tenths of them.

    The background is the darkest fifth of each tile or, where cells are dark, the brightest: whichever is more even.
    """
    rows, columns = (np.array_split(np.arange(size), min(_TILES, size)) for size in unit.shape)
    levels = np.array([np.percentile(unit[np.ix_(r, c)], [20, 80]) for r in rows for c in columns])
    low, high = np.percentile(levels, [5, 95], axis=0)
    return 100 * float((high - low).min())


def flags(
    looks: Mapping[int, ImageLook],
    diameters: Mapping[int, float],
    params: ImageFlagParameters | None = None,
    *,
    names: Mapping[int, str] | None = None,
    files: Mapping[int, Hashable] | None = None,
) -> dict[int, tuple[ImageFlag, ...]]:
    """What may be wrong with each image; images with nothing are left out.

    Parameters
    ----------
    looks
        By image id.
    diameters
        Median diameter (px) of the cells by image id; images without cells are missing.
    names
        What images are called in sentences; by default their ids.
    files
        In which file an image is. Planes of one file look alike; only equal pixels make them duplicates.
    """
    params = params or ImageFlagParameters()
    found: dict[int, list[ImageFlag]] = {image: [] for image in looks}
    sharp = {image: np.log(max(one.focus, 1e-9)) for image, one in looks.items() if one.signal >= 2}
    for image, z in _distances(sharp, 0.2).items():
        if z < -params.focus_z:
            found[image].append(ImageFlag("focus", "blurrier than the other images: perhaps out of focus"))
    usual = float(np.median(list(diameters.values()))) if len(diameters) >= _FEWEST else 0.0
    for image, one in looks.items():
        bright = one.saturated > params.exposure
        if bright:
            text = f"{one.saturated:.2g} % of the pixels are at the highest grey level: over-exposed"
            found[image].append(ImageFlag("exposure", text))
        if one.signal < 2 and not bright and not diameters.get(image):
            found[image].append(ImageFlag("empty", "nothing but background"))
        elif one.unevenness > params.light:
            text = f"the background differs by {one.unevenness:.0f} % of the range from part to part: uneven light"
            found[image].append(ImageFlag("light", text))
        ratio = diameters.get(image, usual) / usual if usual else 1.0
        if not 1 / params.magnification < ratio < params.magnification:
            text = f"its cells are {ratio:.1f}× as wide as in the other images: perhaps another magnification"
            found[image].append(ImageFlag("magnification", text))
    for image, first in _duplicates(looks, files or {}).items():
        found[image].append(ImageFlag("duplicate", f"the same picture as {(names or {}).get(first, first)}"))
    return {image: tuple(those) for image, those in found.items() if those}


def _distances(values: Mapping[int, float], floor: float) -> dict[int, float]:
    """Robust z of each image; none where there are too few to compare."""
    if len(values) < _FEWEST:
        return {}
    numbers = np.array(list(values.values()))
    middle = np.median(numbers)
    sigma = max(1.4826 * float(np.median(np.abs(numbers - middle))), floor)
    return dict(zip(values, ((numbers - middle) / sigma).tolist(), strict=True))


def _duplicates(looks: Mapping[int, ImageLook], files: Mapping[int, Hashable]) -> dict[int, int]:
    """For each image that is there already: the first of its kind. Blank images are all alike and are not named."""
    known = [(image, one) for image, one in looks.items() if one.signal >= 2]
    if len(known) < 2:
        return {}
    pictures = np.stack([np.frombuffer(one.small, np.float32) for _, one in known]) / _SMALL
    found: dict[int, int] = {}
    for index in range(1, len(known)):
        image, one = known[index]
        alike = pictures[:index] @ pictures[index] > _ALIKE
        if image in files:
            alike &= np.array([files.get(other) != files[image] for other, _ in known[:index]])
        same = np.array([other.digest == one.digest for _, other in known[:index]])
        hits = np.flatnonzero(alike | same)
        if len(hits):
            found[image] = known[int(hits[0])][0]
    return found


_SPOILS = {"focus": "out of focus", "exposure": "over-exposed", "light": "unevenly lit"}
"""What spoils an image to learn from or to measure; an empty one may well be meant."""

_NAMED = 5


@dataclass(frozen=True)
class Doubtful:
    """Images that had better be looked at before anything is learned from them or measured.

    ``names`` are those of the images by key of `FLAGS`; ``looked_at`` is how many were looked at.
    """

    names: Mapping[str, tuple[str, ...]]
    looked_at: int

    @property
    def images(self) -> frozenset[str]:
        """Names of all of them."""
        return frozenset(name for those in self.names.values() for name in those)

    def text(self, then: str = "they are used all the same") -> str:
        """One line for the user, which ends with what becomes of them; empty without any."""
        told = []
        for key, those in self.names.items():
            more = f" and {len(those) - _NAMED} more" if len(those) > _NAMED else ""
            look = "looks" if len(those) == 1 else "look"
            told.append(
                f"{len(those)} of {self.looked_at} images {look} {_SPOILS[key]}: {', '.join(those[:_NAMED])}{more}"
            )
        return "; ".join(part for part in (*told, then) if part) if told else ""


def doubtful(found: Mapping[str, Sequence[ImageFlag]], looked_at: int) -> Doubtful:
    """Those of the flagged images, by name, that are spoiled."""
    names = {key: tuple(name for name, those in found.items() if key in {one.key for one in those}) for key in _SPOILS}
    return Doubtful({key: those for key, those in names.items() if those}, looked_at)
