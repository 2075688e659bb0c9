"""Preparing an image that is never held as a whole: what must be known of all of it, and any part of it.

`survey` goes over the image part by part, up to three times, and finds what the steps of a `Recipe` need to know
of the whole: extremes and percentiles by histograms (exact for whole numbers), the curves of CLAHE, how many
iterations denoising takes. With that `prepared_part` makes any part as the whole would look
there, to one grey level of 255: steps that look around get as much more of the image as they look
at. Nothing here knows files; the image is a `lazy.Lazy` or an array.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from cell_curator.core import clahe
from cell_curator.core.density import adapt, covered_part
from cell_curator.core.edits import Box, grown
from cell_curator.core.grey_levels import BINS, extremes, histogram
from cell_curator.core.jobs import Job, Progress, drive
from cell_curator.core.lazy import Lazy, tiles
from cell_curator.core.orientation import common_angle, estimate_angle, turn_matrix
from cell_curator.core.preprocess import Prepared, chain
from cell_curator.core.recipe import Background, Channel, Clahe, Recipe, Rotate, TotalVariation
from cell_curator.core.steps import Grey, Levels, clahe_note, remove_background, select_channel
from cell_curator.core.total_variation import denoise_tv, steps_needed

Image = Lazy | NDArray[Any]

BLOCK = 2048
"""Side in px of the parts in which an image is gone over."""

SAMPLE = 1024
"""Side in px of the parts that stand for all where what is sought is the same everywhere."""

SAMPLES = 16

_FAR = 48  # px beyond which denoising does not look, however many its iterations
_BINS = 16 * (BINS - 1) + 1  # finer than those of a picture in 0..1, since clipping stretches the part that is left
_COARSE = 512  # px, longest side of the picture by which the covered fraction is judged


@dataclass(frozen=True)
class Known:
    """What a recipe needs to know of a whole image.

    Parameters
    ----------
    recipe
        With adaptive values set for this image.
    shape
        (Y, X).
    raw
        Smallest and largest value of each channel of the file.
    levels
        Grey levels by step, as `preprocess.chain` takes them.
    curves
        Of CLAHE, if the recipe has it.
    iterations
        Of denoising.
    angle_deg, notes, used
        As in `preprocess.Prepared`.
    """

    recipe: Recipe
    shape: tuple[int, int]
    raw: tuple[Levels, ...]
    levels: dict[str, Levels]
    curves: clahe.Curves | None = None
    iterations: int = 0
    angle_deg: float = 0.0
    notes: tuple[str, ...] = ()
    used: dict[str, float] = field(default_factory=dict)

    @property
    def reach(self) -> int:
        """Pixels beyond a part that its preparation looks at."""
        denoised = min(self.iterations + 1, _FAR) if self.recipe.total_variation.enabled else 0
        return _around(self.recipe.background) + denoised


def survey(image: Image, recipe: Recipe) -> Job[Known]:
    """Find what ``recipe`` needs to know of ``(C, Y, X)``.

    Raises
    ------
    UserError
        If the channel asked for does not exist, or a part cannot be read.
    """
    shape: tuple[int, int] = (image.shape[-2], image.shape[-1])
    known = Known(recipe, shape, (), {})
    known, found, small = yield from _raw_levels(image, known)
    used: dict[str, float] = {}
    if (recipe.clip.enabled and recipe.clip.adaptive) or (recipe.clahe.enabled and recipe.clahe.adaptive):
        recipe, used = adapt(recipe, covered_part(small, found))
    yield Progress(0.25, "direction of the grooves")
    angle, notes = _turn(image, recipe.rotate, recipe.channel)
    if recipe.clahe.enabled and (note := clahe_note(shape, recipe.clahe)):
        notes = (*notes, note)
    known = replace(known, recipe=recipe, levels={"background": found}, angle_deg=angle, notes=notes, used=used)
    if recipe.clahe.enabled:
        known = yield from _clahe_curves(image, known, found)
    known = yield from _percentiles(image, known, found)
    if recipe.total_variation.enabled:
        yield Progress(0.9, "denoising")
        tv, still = recipe.total_variation, replace(known, recipe=_still(recipe))
        samples = [prepared_part(image, still, box) for box in sample(shape)]
        known = replace(known, iterations=steps_needed(samples, tv.weight, tv.tolerance, tv.iterations))
    return known


def prepared_part(image: Image, known: Known, box: Box) -> Grey:
    """The pixels of a box of the prepared image, ``(y, x)`` float32 in 0..1, in the frame of the original."""
    outer = grown(box, known.reach - _around(known.recipe.background), known.shape)
    grey = _finished(_equalised(_levelled(image, known, outer), known, outer), known)
    tv = known.recipe.total_variation
    if tv.enabled and known.iterations:
        grey = denoise_tv(grey, tv.weight, 0.0, known.iterations + 1, in_place=True)
        np.clip(grey, 0.0, 1.0, out=grey)
    return np.ascontiguousarray(_inner(grey, outer, box))


def seen_from_afar(level: Image, known: Known, box: Box) -> Grey:
    """About how the prepared image looks in a box of a coarser ``level`` of the image; noise is averaged there."""
    recipe, scale = known.recipe, known.shape[0] / level.shape[-2]
    grey = select_channel(pixels_of(level, box), recipe.channel)
    if recipe.background.enabled:
        darkest = known.levels["background"][0]
        grey = remove_background(grey, recipe.background, scale=scale, darkest=darkest, out=grey)
    if known.curves is not None:
        grey = clahe.equalise_part(grey, known.curves, box, scale)
    return _finished(grey, known)


def prepared_lazily(image: Lazy, recipe: Recipe, known: Known | None = None) -> Prepared:
    """As `preprocess.prepare`: surveyed now, unless it is known, and prepared part by part as it is sliced."""
    known = known or drive(survey(image, recipe))

    def read(box: Box, step: int) -> NDArray[Any]:
        if step == 1:
            return prepared_part(image, known, box)
        rows = max(1, BLOCK // step) * step
        bands = ((top, box[1], min(top + rows, box[2]), box[3]) for top in range(box[0], box[2], rows))
        return np.concatenate([prepared_part(image, known, band)[::step, ::step] for band in bands])

    def coarser(level: Lazy) -> Lazy:
        return Lazy(
            image.name,
            level.shape[-2:],
            np.float32,
            lambda box, step: seen_from_afar(level, known, box)[::step, ::step],
        )

    made: Any = Lazy(image.name, known.shape, np.float32, read, [coarser(level) for level in image.levels])
    return Prepared(made, known.angle_deg, known.notes, known.used)


def turned_part(read: Callable[[Box], NDArray[np.float32]], shape: tuple[int, int], angle_deg: float, box: Box) -> Grey:
    """A box of an image ``(Y, X)`` turned as by `orientation.turn_image`; what lies outside becomes 0.

    Parameters
    ----------
    read
        Gives any box of the image before it is turned.
    """
    top, left, bottom, right = box
    back = cv2.invertAffineTransform(turn_matrix(shape, angle_deg))
    corners = np.array([(x, y, 1.0) for y in (top, bottom - 1) for x in (left, right - 1)])
    x, y = (corners @ back.T).T
    low, high = np.floor((y.min(), x.min())).astype(int) - 2, np.ceil((y.max(), x.max())).astype(int) + 3
    outer = (
        *(int(np.clip(side, 0, whole)) for side, whole in zip(low, shape, strict=True)),
        *(int(np.clip(side, 0, whole)) for side, whole in zip(high, shape, strict=True)),
    )
    if outer[0] >= outer[2] or outer[1] >= outer[3]:
        return np.zeros((bottom - top, right - left), np.float32)
    # from pixels of the part that is wanted to those of the part that is read
    back[:, 2] += back[:, :2] @ (left, top) - (outer[1], outer[0])
    return np.asarray(
        cv2.warpAffine(
            read((outer[0], outer[1], outer[2], outer[3])),
            back,
            (right - left, bottom - top),
            flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP,
            borderValue=0.0,
        ),
        np.float32,
    )


def pixels_of(image: Image, box: Box) -> NDArray[Any]:
    """The pixels ``(C, y, x)`` of a box."""
    if isinstance(image, Lazy):
        return image.window(box)
    return np.asarray(image[:, box[0] : box[2], box[1] : box[3]])


def sample(shape: tuple[int, int]) -> list[Box]:
    """At most `SAMPLES` boxes of `SAMPLE` px spread over an image of ``(Y, X)``; all of it where that is enough."""
    boxes = list(tiles(shape, SAMPLE))
    if len(boxes) <= SAMPLES:
        return boxes
    across = int(SAMPLES**0.5)
    starts = [np.linspace(0, max(0, side - SAMPLE), across).astype(int).tolist() for side in shape]
    return [(y, x, min(y + SAMPLE, shape[0]), min(x + SAMPLE, shape[1])) for y in starts[0] for x in starts[1]]


def votes(image: Image, rotate: Rotate, channel: Channel) -> list[float]:
    """The turns that parts of the image ask for, see `orientation.estimate_angle`."""
    shape: tuple[int, int] = (image.shape[-2], image.shape[-1])
    greys = (_channel(image, box, channel) for box in sample(shape))
    return [angle for grey in greys if (angle := estimate_angle(grey, rotate.method)) is not None]


# ---------------------------------------------------------------------- the steps, for a part


def _channel(image: Image, box: Box, channel: Channel) -> Grey:
    return select_channel(pixels_of(image, box), channel)


def _around(background: Background) -> int:
    """How far beyond a pixel the background is looked for."""
    return 2 * background.radius_px + 2 if background.enabled else 0


def _levelled(image: Image, known: Known, box: Box) -> Grey:
    """The channel of a box without its background."""
    background = known.recipe.background
    if not background.enabled:
        return _channel(image, box, known.recipe.channel)
    outer = grown(box, _around(background), known.shape)
    grey = _channel(image, outer, known.recipe.channel)
    grey = remove_background(grey, background, darkest=known.levels["background"][0], out=grey)
    return np.ascontiguousarray(_inner(grey, outer, box))


def _equalised(grey: Grey, known: Known, box: Box) -> Grey:
    return grey if known.curves is None else clahe.equalise_part(grey, known.curves, box)


def _finished(grey: Grey, known: Known) -> Grey:
    """The steps that look at one pixel at a time."""
    levels = {name: level for name, level in known.levels.items() if name in ("normalise", "clip", "zero_below")}
    for _, picture in chain(grey, _pointwise(known.recipe), levels):
        grey = picture
    return grey


def _pointwise(recipe: Recipe) -> Recipe:
    off = {"background": recipe.background.model_copy(update={"enabled": False}), "clahe": Clahe(enabled=False)}
    return _still(recipe.model_copy(update=off))


def _still(recipe: Recipe) -> Recipe:
    return recipe.model_copy(update={"total_variation": TotalVariation(enabled=False)})


def _inner(grey: Grey, outer: Box, box: Box) -> Grey:
    return grey[box[0] - outer[0] : box[2] - outer[0], box[1] - outer[1] : box[3] - outer[1]]


# ---------------------------------------------------------------------- what must be known of the whole


def _raw_levels(image: Image, known: Known) -> Job[tuple[Known, Levels, Grey]]:
    """With the extremes of each channel; those of the channel that the recipe looks at; and a small copy of it."""
    shape, channel = known.shape, known.recipe.channel
    factor = max(1, max(shape) // _COARSE)
    small = np.zeros(tuple(-(-side // factor) for side in shape), np.float32)
    raw = np.full((image.shape[0], 2), (np.inf, -np.inf))
    found = (np.inf, -np.inf)
    for box in tiles(shape, max(1, BLOCK // factor) * factor):
        pixels = pixels_of(image, box)
        for index, one in enumerate(pixels):
            raw[index] = min(raw[index, 0], one.min()), max(raw[index, 1], one.max())
        grey = select_channel(pixels, channel)
        low, high = extremes(grey)
        found = min(found[0], low), max(found[1], high)
        top, left, height, width = box[0] // factor, box[1] // factor, *(-(-side // factor) for side in grey.shape)
        small[top : top + height, left : left + width] = cv2.resize(grey, (width, height), interpolation=cv2.INTER_AREA)
        yield Progress(0.25 * _done(box, shape), "grey levels")
    return replace(known, raw=tuple((float(low), float(high)) for low, high in raw)), found, small


def _clahe_curves(image: Image, known: Known, found: Levels) -> Job[Known]:
    levels = found
    if known.recipe.background.enabled:
        levels = yield from _extremes_without_background(image, known)
    counts = clahe.empty(known.shape, known.recipe.clahe, levels)
    for box in tiles(known.shape, BLOCK):
        clahe.count(counts, _levelled(image, known, box), box)
        yield Progress(0.3 + 0.3 * _done(box, known.shape), "local contrast")
    return replace(known, curves=clahe.curves(counts, known.recipe.clahe))


def _extremes_without_background(image: Image, known: Known) -> Job[Levels]:
    levels = (np.inf, -np.inf)
    for box in tiles(known.shape, BLOCK):
        low, high = extremes(_levelled(image, known, box))
        levels = min(levels[0], low), max(levels[1], high)
        yield Progress(0.3, "background")
    return levels


def _percentiles(image: Image, known: Known, found: Levels) -> Job[Known]:
    """The levels of the later steps, from a histogram of the picture before them."""
    recipe = known.recipe
    bounds = (0.0, 1.0) if known.curves is not None else found
    if known.curves is None and recipe.background.enabled:
        bounds = yield from _extremes_without_background(image, known)
    # One bin for each whole number where there are so few: then percentiles are exact.
    whole = known.curves is None and _is_whole(image, recipe.channel)
    bins = int(bounds[1] - bounds[0]) + 1 if whole else _BINS
    counts = np.zeros(bins, np.int64)
    for box in tiles(known.shape, BLOCK):
        grey = _equalised(_levelled(image, known, box), known, box)
        counts += histogram(grey, *bounds, bins)[0]
        yield Progress(0.6 + 0.3 * _done(box, known.shape), "percentiles")
    values = np.linspace(*bounds, bins)
    there = values[counts > 0]
    levels: dict[str, Levels] = {"normalise": (float(there[0]), float(there[-1]))}
    values = _stretched(values, levels["normalise"], recipe.normalise.enabled)
    low, high = recipe.clip.low_percent, recipe.clip.high_percent
    if recipe.clip.enabled:
        cut = _ranked(counts, values, low), _ranked(counts, values, high)
        ends = float(values[counts > 0][0]), float(values[counts > 0][-1])
        levels["clip"] = cut if low < high and cut[1] > cut[0] else ends
        if low < high:
            values = np.clip((values - levels["clip"][0]) / max(np.diff(levels["clip"])[0], 1e-30), 0.0, 1.0)
    if recipe.zero_below.enabled:
        levels["zero_below"] = (_ranked(counts, values, recipe.zero_below.percent), 1.0)
    return replace(known, levels=known.levels | levels)


def _stretched(values: NDArray[np.float64], levels: Levels, wanted: bool) -> NDArray[np.float64]:
    """Grey levels as `preprocess.chain` normalises them: if that is wanted, or they are beyond 0..1."""
    low, high = levels
    if not wanted and low >= 0.0 and high <= 1.0:
        return values
    return np.clip((values - low) / (high - low), 0.0, 1.0) if high > low else np.zeros_like(values)


def _ranked(counts: NDArray[np.int64], values: NDArray[np.float64], percent: float) -> float:
    """A percentile of a histogram, as `grey_levels.percentiles` interpolates it."""
    below, total = np.cumsum(counts), int(counts.sum())
    rank = percent / 100 * (total - 1)
    lower = int(rank)
    at, after = values[np.searchsorted(below, [lower, min(lower + 1, total - 1)], side="right")]
    return float(at + (rank - lower) * (after - at))


def _is_whole(image: Image, channel: Channel) -> bool:
    single = channel.mode in ("index", "max") or (channel.mode == "auto" and image.shape[0] != 3)
    return single and image.dtype.kind in "ui"


def _turn(image: Image, rotate: Rotate, channel: Channel) -> tuple[float, tuple[str, ...]]:
    """The angle that the recipe turns this image by, and notes for the user."""
    if not rotate.enabled:
        return 0.0, ()
    if rotate.method == "fixed":
        return rotate.angle_deg, ()
    found = common_angle(votes(image, rotate, channel))
    if found is None:
        return 0.0, ("no grooves or lines were found, so the image is not turned; set a fixed angle if it should be",)
    return found, ()


def _done(box: Box, shape: Sequence[int]) -> float:
    """Share of the image that has been gone over with this box."""
    return (box[0] + (box[2] - box[0]) * box[3] / shape[1]) / shape[0]
