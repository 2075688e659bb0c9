"""Which pixels of an image are cells, told by k-means from brightness, local variation and gradient.

Cells of a dish differ from the ground by their texture: also where they are as bright as it. Pixels are
described by three numbers, grouped, and the groups numbered from the calmest to the roughest; some of
them are cells. No cell is told from its neighbour, so this gives cover, not counts. Nothing here
was learned from examples: an image without any ground between its cells can only be judged beside others (`fit` of
the samples of several images).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import field_validator

from cell_curator.core.grey_levels import length
from cell_curator.core.jobs import UserError
from cell_curator.core.parameters import Parameters, parameter

Grey = NDArray[np.float32]
F = TypeVar("F", np.float32, np.float64)

SIDE = 1024
"""px, longest side of the picture that `preview` looks at."""

_SAMPLE = 20_000  # pixels that clusters are made from, of each image
_BLOCK = 1 << 20  # pixels that are described at a time
_STARTS = 3
_QUIET = 0.02  # of the typical variation of an image: less is not told from none
_APART = 1.6  # times the variation of the ground that cells have at least; the ups and downs of plain noise reach 1.4


class KmeansParameters(Parameters):
    """Finding the covered area by grouping pixels."""

    k: int = parameter(3, "Groups", "Number of groups of pixels.", ge=2, le=10, step=1)
    cells: str = parameter(
        "auto",
        "Groups that are cells",
        "Numbers such as 2,3, counted from the calmest group, 1, to the roughest; auto: those that are clearly rougher "
        "than the ground.",
    )
    threshold: float = parameter(
        0.5,
        "Threshold",
        "How sure a pixel must be a cell, from 0 to 1; 0.5: it is nearer to a group of cells than to one of the "
        "ground. The one threshold that masks and percentages have.",
        ge=0.01,
        le=0.99,
        step=0.01,
    )
    trim_px: int = parameter(
        7,
        "Trim edges",
        "Take away so much along the edge of what was found: the halo of phase contrast, about 7; 2 without a halo.",
        unit="px",
        ge=0,
        le=50,
        step=1,
    )
    even: bool = parameter(
        True, "Even out brightness", "Take away what varies over longer distances than cells: shade, uneven light."
    )
    even_px: float = parameter(
        40.0, "Evened over", "Brightness is compared with that so far around.", unit="px", ge=5, le=500, more=True
    )
    scale_px: float = parameter(
        2.0, "Grain", "Distance over which variation and gradient are averaged.", unit="px", ge=0.5, le=20, more=True
    )
    smallest_hole: int = parameter(
        500, "Smallest hole", "Smaller gaps inside cells are filled.", unit="px", ge=0, le=1_000_000, more=True
    )
    smallest_island: int = parameter(
        200, "Smallest island", "Smaller spots are left out.", unit="px", ge=0, le=1_000_000, more=True
    )
    seed: int = parameter(0, "Seed", "The same seed gives the same groups.", ge=0, more=True)

    @field_validator("cells")
    @classmethod
    def _plain(cls, value: str) -> str:
        text = ",".join(part.strip() for part in value.split(","))
        if text != "auto" and not all(part.isdecimal() and 1 <= int(part) <= 10 for part in text.split(",")):
            raise ValueError(f"groups must be auto or numbers such as 2,3, not {value!r}")
        return text


@dataclass(frozen=True)
class PixelModel:
    """Groups of pixels, the calmest first; made by `fit`.

    Attributes
    ----------
    level
        Typical variation of the images, in their grey levels.
    mean, spread
        (3,) of the described pixels.
    centres
        (K, 3), in units of ``spread``.
    shares
        (K,) share of the pixels, 0..1.
    texture
        (K,) variation of each group, 1 = that of the images.
    cells
        Numbers of the groups that are cells, counted from 0; none where nothing stands out.
    note
        What the user should know, or "".
    """

    level: float
    mean: NDArray[np.float64]
    spread: NDArray[np.float64]
    centres: NDArray[np.float64]
    shares: NDArray[np.float64]
    texture: NDArray[np.float64]
    cells: tuple[int, ...]
    note: str = ""


@dataclass(frozen=True)
class PixelCover:
    """What k-means makes of one image, all (Y, X).

    ``groups`` is uint8, 0 the calmest; ``score`` float32 says from 0 to 1 how sure a pixel is a cell;
    ``mask`` is what `cleaned` makes of it.
    """

    groups: NDArray[np.uint8]
    score: Grey
    mask: NDArray[np.bool_]
    model: PixelModel


def pixel_features(grey: Grey, params: KmeansParameters | None = None) -> NDArray[np.float32]:
    """Brightness, local standard deviation and gradient of every pixel, ``(Y, X, 3)``, in grey levels of the image.

    Parameters
    ----------
    grey
        ``(Y, X)`` float32, finite.
    """
    params = params or KmeansParameters()
    return _describe(evened(grey, params), params.scale_px)


def evened(grey: Grey, params: KmeansParameters) -> Grey:
    """The image without its background, which is found on a coarse copy; only less its mean if that is not wanted."""
    if not grey.size:
        return grey
    grey = grey - np.float32(grey.mean(dtype=np.float64))
    if not params.even:
        return grey
    coarse = max(1.0, params.even_px / 8)
    size = tuple(max(1, round(side / coarse)) for side in reversed(grey.shape))
    small = cv2.resize(grey, size, interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), params.even_px / coarse, borderType=cv2.BORDER_REFLECT)
    return np.asarray(grey - cv2.resize(small, grey.shape[::-1], interpolation=cv2.INTER_LINEAR), np.float32)


def _describe(grey: Grey, scale: float) -> NDArray[np.float32]:
    def blurred(image: Grey, sigma: float) -> Grey:
        return np.asarray(cv2.GaussianBlur(image, (0, 0), sigma), np.float32)

    mean = blurred(grey, scale)
    variance = blurred(grey * grey, scale) - mean * mean
    smooth = blurred(grey, min(1.0, scale))
    slope = length(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1)) / 32
    return np.stack([mean, np.sqrt(np.maximum(variance, 0.0)), blurred(slope, scale)], axis=-1)


def _bands(grey: Grey, scale: float, block: int) -> Iterator[tuple[slice, NDArray[np.float32]]]:
    """Features of some rows after the other; seen with so much around them that no seam is left."""
    height, width = grey.shape
    rows, margin = max(1, block // max(width, 1)), int(np.ceil(8 * scale)) + 8
    for top in range(0, height, rows):
        first, stop = max(0, top - margin), min(height, top + rows)
        features = _describe(grey[first : min(height, stop + margin)], scale)
        yield slice(top, stop), features[top - first : stop - first]


def sample(grey: Grey, params: KmeansParameters, *, block: int = _BLOCK) -> NDArray[np.float32]:
    """Features of pixels drawn by chance, ``(N, 3)``, for `fit`; all of them where there are few."""
    count = grey.size
    chosen = np.arange(count)
    if count > _SAMPLE:
        chosen = np.sort(np.random.default_rng(params.seed).choice(count, _SAMPLE, replace=False))
    drawn = [np.zeros((0, 3), np.float32)]
    for rows, features in _bands(evened(grey, params), params.scale_px, block):
        start, stop = (side * grey.shape[1] for side in (rows.start, rows.stop))
        drawn.append(features.reshape(-1, 3)[chosen[(chosen >= start) & (chosen < stop)] - start])
    return np.concatenate(drawn)


def fit(samples: Sequence[NDArray[np.float32]], params: KmeansParameters) -> PixelModel:
    """Group the pixels sampled from one image, or from several that are to be judged alike.

    Raises
    ------
    UserError
        ``params.cells`` names a group that there is not.
    """
    wanted = () if params.cells == "auto" else tuple(sorted({int(part) - 1 for part in params.cells.split(",")}))
    if wanted and wanted[-1] >= params.k:
        raise UserError(f"group {wanted[-1] + 1} is to be cells but there are {params.k}; choose from 1 to {params.k}")
    points = np.concatenate([np.zeros((0, 3), np.float32), *samples]).astype(np.float64)
    level = float(np.sqrt((points[:, :2] ** 2).sum(axis=1).mean())) if len(points) else 0.0
    # differences of float32 levels of 65,535 are no variation
    if level <= 1e-6 or not (np.ptp(points, axis=0) > 1e-3 * level).any():
        nothing = np.zeros(3)
        return PixelModel(0.0, nothing, nothing + 1, nothing[None], np.ones(1), np.zeros(1), (), "all pixels are alike")
    scaled = _scaled(points, level)
    mean, spread = scaled.mean(axis=0), scaled.std(axis=0)
    spread = np.where(spread > 1e-6, spread, 1.0)
    centres, shares = _grouped((scaled - mean) / spread, params)
    texture = np.exp((centres[:, 1:] * spread[1:] + mean[1:]).mean(axis=1))
    cells, note = (wanted, "") if wanted else _rougher(texture, shares)
    cells = tuple(number for number in cells if number < len(centres))
    return PixelModel(level, mean, spread, centres, shares, texture, cells, note)


def _scaled(features: NDArray[F], level: float) -> NDArray[F]:
    """Variation and gradient as logarithms: what is twice as rough lies equally far at all levels."""
    scaled: NDArray[F] = features / level
    scaled[..., 1:] = np.log(scaled[..., 1:] + _QUIET)
    return scaled


def _grouped(points: NDArray[np.float64], params: KmeansParameters) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres from the calmest to the roughest, and the share of the pixels each has."""
    from sklearn.cluster import KMeans
    from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

    k = min(params.k, len(np.unique(points, axis=0)))
    with threadpool_limits(1):
        model = KMeans(k, n_init=_STARTS, random_state=params.seed).fit(points)
    order = np.lexsort((model.cluster_centers_[:, 0], model.cluster_centers_[:, 1:].mean(axis=1)))
    return model.cluster_centers_[order], np.bincount(model.labels_, minlength=k)[order] / len(points)


def _rougher(texture: NDArray[np.float64], shares: NDArray[np.float64]) -> tuple[tuple[int, ...], str]:
    """The groups above the cut that parts ground and cells best (Otsu 1979); none unless they are clearly apart."""
    rough = np.log(texture)
    best, start, apart = 0.0, len(rough), 0.0
    for cut in range(1, len(rough)):
        below, above = shares[:cut].sum(), shares[cut:].sum()
        distance = rough[cut:] @ shares[cut:] / above - rough[:cut] @ shares[:cut] / below
        if below * above * distance**2 > best:
            best, start, apart = below * above * distance**2, cut, distance
    if apart < np.log(_APART):
        return (), "nothing stands out from the ground"
    return tuple(range(start, len(rough))), ""


def assign(grey: Grey, model: PixelModel, params: KmeansParameters, *, block: int = _BLOCK) -> PixelCover:
    """Give every pixel its group and score; images of any size are worked through in parts, without seams."""
    groups, score = np.zeros(grey.shape, np.uint8), np.zeros(grey.shape, np.float32)
    if model.level > 0 and grey.size:
        cells = np.isin(np.arange(len(model.centres)), model.cells)
        mean, spread, centres = (part.astype(np.float32) for part in (model.mean, model.spread, model.centres))
        for rows, features in _bands(evened(grey, params), params.scale_px, block):
            planes = np.ascontiguousarray(np.moveaxis((_scaled(features, model.level) - mean) / spread, -1, 0))
            away = np.stack([_distance(planes, centre) for centre in centres])
            groups[rows] = away.argmin(axis=0)
            if cells.all():
                score[rows] = 1.0
            elif cells.any():
                ground, cell = away[~cells].min(axis=0), away[cells].min(axis=0)
                score[rows] = ground / np.maximum(ground + cell, 1e-12)
    return PixelCover(groups, score, cleaned(score, params), model)


def _distance(planes: NDArray[np.float32], centre: NDArray[np.float32]) -> NDArray[np.float32]:
    """Squared distance to a centre; by feature, since a sum over three neighbours in memory takes ten times longer."""
    first, second, third = (plane - value for plane, value in zip(planes, centre, strict=True))
    return np.asarray(first * first + second * second + third * third)


class Cleaning(Protocol):
    """What `cleaned` is to do; see `KmeansParameters`."""

    @property
    def threshold(self) -> float: ...  # noqa: D102
    @property
    def trim_px(self) -> int: ...  # noqa: D102
    @property
    def smallest_hole(self) -> int: ...  # noqa: D102
    @property
    def smallest_island(self) -> int: ...  # noqa: D102


def cleaned(score: Grey, params: Cleaning) -> NDArray[np.bool_]:
    """Where ``score`` reaches the threshold, without small holes, trimmed along the edge, without small islands.

    A hole is closed all round; what reaches the edge of the image is none. Of holes and islands, what touches
    by a corner only is apart.
    """
    mask = score >= np.float32(params.threshold)
    if not mask.size:
        return mask
    mask |= _small(~mask, params.smallest_hole, enclosed=True)
    if params.trim_px:
        around = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (2 * params.trim_px + 1,) * 2)
        mask = cv2.erode(mask.astype(np.uint8), around) > 0
    return np.asarray(mask & ~_small(mask, params.smallest_island))


def _small(mask: NDArray[np.bool_], size: int, *, enclosed: bool = False) -> NDArray[np.bool_]:
    """Pieces of fewer pixels than ``size``; only those that do not reach the edge of the image, if ``enclosed``."""
    _, pieces, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8), connectivity=4)
    small = stats[:, cv2.CC_STAT_AREA] < size
    small[0] = False
    if enclosed:
        for edge in (pieces[:1], pieces[-1:], pieces[:, :1], pieces[:, -1:]):
            small[np.unique(edge)] = False
    return np.asarray(small[pieces])


def cluster_pixels(grey: Grey, params: KmeansParameters | None = None, *, block: int = _BLOCK) -> PixelCover:
    """Group the pixels of one image.

    Parameters
    ----------
    grey
        ``(Y, X)`` float32, finite, as of `steps.select_channel`.
    block
        Pixels that are described at a time; a smaller one needs less memory and gives the same.

    Raises
    ------
    UserError
        As `fit`.
    """
    params = params or KmeansParameters()
    return assign(grey, fit([sample(grey, params, block=block)], params), params, block=block)


def preview(grey: Grey, params: KmeansParameters, side: int = SIDE) -> tuple[PixelCover, float]:
    """As `cluster_pixels`, of a smaller copy where the image is larger than ``side`` px; and pixels per pixel of it.

    It is for choosing parameters: fine grain is averaged away in the copy, so that its cover can differ a little.
    """
    factor = max(1.0, max(grey.shape) / side)
    if factor == 1.0:
        return cluster_pixels(grey, params), 1.0
    size = tuple(max(1, round(length / factor)) for length in reversed(grey.shape))
    small = np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    changed = {
        "trim_px": round(params.trim_px / factor),
        "even_px": max(5.0, params.even_px / factor),
        "scale_px": max(0.5, params.scale_px / factor),
        "smallest_hole": round(params.smallest_hole / factor**2),
        "smallest_island": round(params.smallest_island / factor**2),
    }
    return cluster_pixels(small, params.model_copy(update=changed)), factor
