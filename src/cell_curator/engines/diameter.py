"""How large the cells of an image are, and whether they are dark on a bright ground.

No size model is needed: the network itself is asked. It looks at the image shrunk as if cells had
200 px, 128 px and so on down to 9 px. Where the guess is right its cells are most certain (highest
mean cell probability), and their median diameter is then already close to the truth. Whether they
are brighter or darker than the rest tells the polarity. Fine looks are taken at one busy window.

On 52 training images, each of another mosaic, with true median diameters of 8 to 51 px, and the starter
weights: 48 estimates within 20 % of the truth, all within a factor of 1.5; polarity right in all.
Makes no label images for anybody;
see `cellpose_unet` for that.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cell_curator.core.jobs import Job, scaled
from cell_curator.engines.flows import find_cells, flow_errors
from cell_curator.engines.network import resize

LADDER = (200.0, 128.0, 82.0, 53.0, 34.0, 22.0, 14.0, 9.0)
"""Diameters tried, px, coarse to fine."""

COMMON = {200.0: 0.7, 128.0: 0.8, 82.0: 0.9, 9.0: 0.9}
"""How common such sizes are. It decides only where two are almost equally certain: nests of cells in
tissue look like large cells."""

LOOK_PIXELS = 110_000
"""Most pixels that one look shows the network."""

SURE = 1.3
"""How much more certain the less likely polarity must be; the likely one is that in which the cells
found are brighter than the rest."""

CONVINCING = 3.0
"""Certainty from which finer looks may be spared; what heaps and shadows reach stays below."""

GOOD_SHAPE = 0.4
"""Largest flow error of a cell that is measured."""

LARGEST_SHARE = 0.4
"""Part of the view above which one object is the ground or the whole field and no cell."""


class Network(Protocol):
    """What can be asked: `network.Network`, or another that answers flows and cell probability."""

    @property
    def diam_mean(self) -> float:
        """Diameter that it expects cells to have, px."""
        ...

    def predict(self, planes: NDArray[np.float32]) -> Job[tuple[NDArray[np.float16], str]]:
        """Flow and cell probability ``(3, Y, X)`` of a normalised image ``(C, Y, X)``, and a note."""
        ...


@dataclass(frozen=True)
class Guess:
    """Diameter in px (0: nothing looks like a cell at any size) and whether to invert the image."""

    diameter: float
    inverted: bool


@dataclass(frozen=True)
class Look:
    """What the network made of one view.

    Parameters
    ----------
    assumed
        Diameter for which the view was scaled, px.
    measured
        Median diameter of the cells found, px; 0 if there are none.
    certainty
        Mean cell probability (logit) over the pixels of all cells found, times n / (n + 1), so that
        one large blob does not outdo many cells, and times `COMMON`; 0 if there are none.
    contrast
        Mean of the view in the cells minus the mean outside.
    probability
        ``(y, x)`` cell probability of the view.
    place
        The part of the image that was shown.
    """

    assumed: float
    measured: float
    certainty: float
    contrast: float
    probability: NDArray[np.float32]
    place: tuple[slice, slice]


def estimate(network: Network, planes: NDArray[np.float32], diameter: float, polarity: str) -> Job[Guess]:
    """Guess what is not given.

    Parameters
    ----------
    network
        The network that will look for the cells.
    planes
        ``(C, Y, X)``, normalised; the cells are in the first.
    diameter
        px, or 0: to be estimated.
    polarity
        ``"bright"``, ``"dark"`` or ``"auto"``.
    """
    inverted = polarity == "dark"
    if diameter and polarity != "auto":
        return Guess(diameter, inverted)
    dark = np.concatenate([1 - planes[:1], planes[1:]])
    seen = dark if inverted else planes
    ladder = (diameter,) if diameter else LADDER
    best = yield from scaled(_best_look(network, seen, ladder), 0.0, 0.7)
    if polarity == "auto":
        again = _look(network, dark, best.assumed, best.place)
        job = again if best.measured else _best_look(network, dark, ladder)
        other = yield from scaled(job, 0.7, 1.0)
        margin = SURE if best.contrast >= 0 else 1 / SURE
        if other.certainty > margin * best.certainty:
            best, inverted = other, True
    return Guess(diameter or best.measured, inverted)


def _best_look(network: Network, planes: NDArray[np.float32], ladder: tuple[float, ...]) -> Job[Look]:
    """The most certain look, going from coarse to fine until finer only gets worse."""
    best = last = None
    for index, assumed in enumerate(ladder):
        too_large = assumed > 0.7 * max(planes.shape[1:])
        if too_large and assumed != ladder[-1]:
            continue
        look = _look(network, planes, assumed, _place(planes.shape[1:], assumed, network, last))
        last = yield from scaled(look, index / len(ladder), (index + 1) / len(ladder))
        if best is None or (last.measured and last.certainty > best.certainty):
            best = last
        if _finer_is_useless(best, last):
            break
    assert best is not None
    return best


def _finer_is_useless(best: Look, last: Look) -> bool:
    """Whether the cells found are clearly larger than the last guess, so that finer ones lead away."""
    # Coarse looks are cheap, and what they take for one cell may be a heap of them.
    if last.assumed > 34 or best.certainty < CONVINCING:
        return False
    return best.measured > (1.15 if best is last else 1.3) * last.assumed


def _place(shape: tuple[int, ...], assumed: float, network: Network, before: Look | None) -> tuple[slice, slice]:
    """The whole image if small enough at this scale, else the window with most signs of cells ``before``."""
    side = int(np.sqrt(LOOK_PIXELS) * assumed / network.diam_mean)
    if shape[0] * shape[1] <= side**2:
        return slice(0, shape[0]), slice(0, shape[1])
    height, width = min(side, shape[0]), min(side, shape[1])
    y, x = shape[0] / 2, shape[1] / 2
    if before is not None:
        signs = 1 / (1 + np.exp(-np.clip(before.probability, -30, 30)))
        rows, cols = before.place
        zoom_y = signs.shape[0] / (rows.stop - rows.start)
        zoom_x = signs.shape[1] / (cols.stop - cols.start)
        window = (max(1, round(height * zoom_y)), max(1, round(width * zoom_x)))
        density = ndimage.uniform_filter(signs, window, mode="constant")
        at = np.unravel_index(np.argmax(density), density.shape)
        y, x = rows.start + at[0] / zoom_y, cols.start + at[1] / zoom_x
    top = int(np.clip(y - height / 2, 0, shape[0] - height))
    left = int(np.clip(x - width / 2, 0, shape[1] - width))
    return slice(top, top + height), slice(left, left + width)


def _look(network: Network, planes: NDArray[np.float32], assumed: float, place: tuple[slice, slice]) -> Job[Look]:
    """Show the network one view and measure what it finds."""
    scale = network.diam_mean / assumed
    parts = planes[:, *place]
    shape = (max(8, round(parts.shape[1] * scale)), max(8, round(parts.shape[2] * scale)))
    views = np.stack([resize(part, shape) for part in parts])
    answer, _ = yield from network.predict(views)
    flow, probability = answer[:2].astype(np.float32), answer[2].astype(np.float32)
    cells = find_cells(flow, probability > 0)
    sizes = np.bincount(cells.ravel())
    sizes[(sizes > LARGEST_SHARE * cells.size)] = 0
    sizes[0] = 0
    good = np.flatnonzero((flow_errors(cells, flow) < GOOD_SHAPE) & (sizes > 0))
    if not len(good):
        return Look(assumed, 0.0, 0.0, 0.0, probability, place)
    border = np.unique(np.concatenate([cells[0], cells[-1], cells[:, 0], cells[:, -1]]))
    whole = good[~np.isin(good, border)]
    measured = whole if len(whole) >= 3 else good
    diameter = 2 * np.sqrt(np.median(sizes[measured]) / np.pi) / scale
    inside = sizes[cells] > 0
    certainty = probability[inside].mean() * len(good) / (len(good) + 1) * COMMON.get(assumed, 1.0)
    contrast = views[0][inside].mean() - views[0][~inside].mean()
    return Look(assumed, float(diameter), float(certainty), float(contrast), probability, place)
