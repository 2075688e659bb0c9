"""The dots of the map as a napari Points layer: for maps that a computer without a graphics card can draw.

Beyond `MOST` dots it cannot, and `map_picture` takes over. Knows positions, colours and rows; no cells.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.core.colors import from_hex
from cell_curator.link.colors import SELECTED

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Points

MAP = "map"
MOST = 10_000
"""Dots; without a graphics card a frame of 100,000 takes a second, of 10,000 a fifteenth of one."""

_CHOSEN, _CHOSEN_OF_MANY = 2.4, 1.5  # size of a chosen dot, as a multiple of the others'
_FEW = 12


class Dots:
    """A Points layer of ``positions`` (N, 2), all ``dot`` world pixels wide."""

    def __init__(self, viewer: ViewerModel, positions: NDArray[np.float64], dot: float) -> None:
        from napari.layers import Points

        self._viewer = viewer
        self._dot = dot
        self._colors = np.ones((len(positions), 4), np.float32)
        self.layer: Points = Points(positions, name=MAP, size=dot, border_width=0.12, opacity=1.0)
        self.layer.editable = False  # a stray Delete must not take points out of the map
        add_quietly(viewer, self.layer)

    def move(self, positions: NDArray[np.float64], dot: float) -> None:
        """The same dots, elsewhere."""
        self._dot = dot
        if not np.array_equal(self.layer.data, positions):
            self.layer.data = positions

    def color(self, colors: NDArray[np.float32], features: Mapping[str, Any]) -> None:
        """One RGBA for each dot, and what napari shows of it in its status bar."""
        self._colors = colors
        self.layer.features = dict(features)
        self.layer.face_color = colors

    def choose(self, rows: NDArray[np.intp]) -> None:
        """Draw these dots larger and ringed."""
        size = np.full(len(self._colors), self._dot)
        border = self._colors.copy()
        size[rows] = (_CHOSEN if len(rows) <= _FEW else _CHOSEN_OF_MANY) * self._dot
        border[rows, :3] = from_hex(SELECTED)
        border[rows, 3] = 1.0
        self.layer.selected_data = set()  # setting colours while points are selected would overwrite them
        self.layer.size = size
        self.layer.border_color = border
        self.layer.selected_data = set(rows.tolist())

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self.layer in self._viewer.layers:
            self._viewer.layers.remove(self.layer)


def add_quietly(viewer: ViewerModel, layer: Any) -> None:
    """Add a layer on top; a new one becomes the active one, and the user's brush must not be taken away."""
    active = viewer.layers.selection.active
    viewer.layers.append(layer)
    if active is not None:
        viewer.layers.selection.active = active
