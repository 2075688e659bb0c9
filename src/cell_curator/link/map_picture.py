"""The dots of a large map as one picture, drawn anew for what is in view.

A Points layer of 100,000 dots takes a second a frame where there is no graphics card; one picture takes no
longer than an image. It is drawn at the resolution of the screen: panning costs nothing, and after zooming the
picture is made sharp again. Knows positions, colours and rows; no cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from cell_curator.core.colors import from_hex
from cell_curator.link.colors import SELECTED
from cell_curator.link.geometry import Box
from cell_curator.link.map_dots import MAP, add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Image

    from cell_curator.link.labels import Later

_MOST_PX = 1_500_000  # of a picture; about what a window shows
_AROUND = 0.25  # of what is in view, drawn on each side of it
_SHARP = 1.6  # a picture magnified by more than this is drawn anew at once
_FEWEST_PX = 2.6  # width of a dot on the screen
_FADED = 2  # halvings of the dots that are not chosen, while some are


class Picture:
    """An Image layer of ``positions`` (N, 2), all ``dot`` world pixels wide."""

    def __init__(self, viewer: ViewerModel, positions: NDArray[np.float64], dot: float, later: Later) -> None:
        from napari.layers import Image

        self._viewer = viewer
        self._later = later
        self._colors = np.full((len(positions), 4), 255, np.uint8)
        self._chosen: NDArray[np.intp] = np.empty(0, np.intp)
        self._all: NDArray[np.uint8] | None = None
        self._drawn: tuple[Box, float] = ((0.0, 0.0, 0.0, 0.0), 0.0)
        self.layer: Image = Image(np.zeros((2, 2, 4), np.uint8), rgb=True, name=MAP)
        self._take(positions, dot)
        self.layer.editable = False
        add_quietly(viewer, self.layer)
        viewer.scene.camera.events.zoom.connect(self._moved)
        viewer.scene.camera.events.center.connect(self._moved)

    def move(self, positions: NDArray[np.float64], dot: float) -> None:
        """The same dots, elsewhere; drawn with the next `choose`."""
        if dot != self._dot or not np.array_equal(positions, self._positions):
            self._take(positions, dot)

    def color(self, colors: NDArray[np.float32], _features: Mapping[str, Any]) -> None:
        """One RGBA for each dot; drawn with the next `choose`."""
        new = np.round(255 * colors).astype(np.uint8)
        if not np.array_equal(new, self._colors):
            self._colors, self._all = new, None

    def choose(self, rows: NDArray[np.intp]) -> None:
        """Draw these dots on top of all others, with a ring if they are few, and fade the rest."""
        if self._all is None or not np.array_equal(rows, self._chosen):
            self._chosen = rows
            self.draw()

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        for event in (self._viewer.scene.camera.events.zoom, self._viewer.scene.camera.events.center):
            event.disconnect(self._moved)
        if self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)

    def draw(self) -> None:
        """Make the picture of what is in view and a little around it, as sharp as the screen."""
        (top, left, bottom, right), zoom = place = self._place()
        at = ((self._positions - (top, left)) * zoom).astype(np.float32)
        dot = max(self._dot * zoom, _FEWEST_PX)
        if self._all is None or place != self._drawn:
            shape = max(round((bottom - top) * zoom), 1), max(round((right - left) * zoom), 1)
            self._all = np.zeros((*shape, 4), np.uint8)
            stamp(self._all, at, self._colors, disc(dot))
        picture = self._all
        if len(self._chosen):  # the others stay drawn, else choosing among 100,000 would take 100 ms
            picture = picture.copy()
            picture[..., 3] >>= _FADED
            ring = np.tile(np.round(255 * np.float32([*from_hex(SELECTED), 1.0])), (len(self._chosen), 1))
            stamp(picture, at[self._chosen], ring.astype(np.uint8), disc(1.5 * dot + 2))
            stamp(picture, at[self._chosen], self._colors[self._chosen], disc(1.2 * dot))
        self.layer.data = picture
        if place != self._drawn:  # each of these takes napari 20 ms
            self.layer.scale = (1 / zoom, 1 / zoom)
            self.layer.translate = (top + 0.5 / zoom, left + 0.5 / zoom)
            self._drawn = place

    def _place(self) -> tuple[Box, float]:
        """What is drawn, and screen pixels per world pixel."""
        box, zoom = self._wanted(), float(self._viewer.scene.camera.zoom)
        top, left, bottom, right = box
        return box, min(zoom, float(np.sqrt(_MOST_PX / max((bottom - top) * (right - left), 1e-9))))

    def _take(self, positions: NDArray[np.float64], dot: float) -> None:
        self._positions, self._dot, self._all = positions, dot, None
        low, high = positions.min(axis=0) - 2 * dot, positions.max(axis=0) + 2 * dot
        self._box: Box = (float(low[0]), float(low[1]), float(high[0]), float(high[1]))

    def _in_view(self, around: float) -> Box:
        """The part of the map that is in view, and so much around it; the whole map where nothing is."""
        camera, canvas = self._viewer.scene.camera, np.asarray(self._viewer.canvas.size, float)
        half = canvas / (2 * camera.zoom) * (1 + 2 * around)
        y, x = camera.center[-2:]
        top, left, bottom, right = self._box
        box = (max(top, y - half[0]), max(left, x - half[1]), min(bottom, y + half[0]), min(right, x + half[1]))
        return self._box if box[0] >= box[2] or box[1] >= box[3] else tuple(map(float, box))  # type: ignore[return-value]

    def _wanted(self) -> Box:
        """The whole map, if it fits into a picture."""
        top, left, bottom, right = self._box
        fits = (bottom - top) * (right - left) * self._viewer.scene.camera.zoom**2 <= _MOST_PX
        return self._box if fits else self._in_view(_AROUND)

    def _moved(self, *_: Any) -> None:
        (top, left, bottom, right), zoom = self._drawn
        seen = self._in_view(0.0)
        outside = seen[0] < top or seen[1] < left or seen[2] > bottom or seen[3] > right
        now = self._viewer.scene.camera.zoom
        if outside or now > _SHARP * zoom:
            self.draw()
        elif not np.isclose(now, zoom):
            self._later(self._sharpen)

    def _sharpen(self) -> None:
        if self.layer in self._viewer.layers and not np.isclose(self._viewer.scene.camera.zoom, self._drawn[1]):
            self.draw()


def disc(width: float) -> NDArray[np.float32]:
    """How much of each pixel a disc of ``width`` pixels covers, ``(K, K)`` float32 with K odd."""
    reach = int(np.ceil(width / 2))
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    return np.clip(width / 2 + 0.5 - np.hypot(y, x), 0, 1).astype(np.float32)


@njit(cache=True)  # type: ignore[untyped-decorator]
def stamp(
    picture: NDArray[np.uint8], at: NDArray[np.float32], colors: NDArray[np.uint8], shape: NDArray[np.float32]
) -> None:
    """Put a stamp on ``picture`` ``(H, W, 4)`` at each of ``at`` ``(N, 2)``, the later above the earlier.

    ``colors`` ``(N, 4)``, alpha last; ``shape`` ``(K, K)`` as of `disc`.
    """
    height, width, size = picture.shape[0], picture.shape[1], shape.shape[0]
    for n in range(len(at)):
        y0, x0 = int(np.floor(at[n, 0])) - size // 2, int(np.floor(at[n, 1])) - size // 2
        for i in range(max(0, -y0), min(size, height - y0)):
            for j in range(max(0, -x0), min(size, width - x0)):
                above = shape[i, j] * colors[n, 3]
                if above < 1:
                    continue
                y, x = y0 + i, x0 + j
                below = picture[y, x, 3] * (1 - above / 255)
                for c in range(3):
                    mixed = (colors[n, c] * above + picture[y, x, c] * below) / (above + below)
                    picture[y, x, c] = np.uint8(mixed + 0.5)
                picture[y, x, 3] = np.uint8(above + below + 0.5)
