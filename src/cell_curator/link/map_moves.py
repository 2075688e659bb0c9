"""Where cells moved on the map: a line from where each was to where it is, until the next step."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.link.colors import SELECTED
from cell_curator.link.map_dots import add_quietly

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Vectors

MOVES = "moved cells"
_LINE_PX = 1.6  # on the screen


class Moves:
    """A layer of lines; made when the first cell moves."""

    def __init__(self) -> None:
        self._viewer: ViewerModel | None = None
        self._layer: Vectors | None = None

    @property
    def layer(self) -> Vectors | None:
        """The lines, or None."""
        return self._layer

    def draw(self, viewer: ViewerModel, before: NDArray[np.float64], after: NDArray[np.float64]) -> None:
        """Draw lines between ``(N, 2)`` world positions."""
        from napari.layers import Vectors

        self.remove()
        if not len(before):
            return
        self._viewer = viewer
        self._layer = Vectors(
            np.stack([before, after - before], axis=1),
            name=MOVES,
            edge_color=SELECTED,
            edge_width=_LINE_PX / viewer.scene.camera.zoom,
            vector_style="line",
            opacity=0.9,
        )
        add_quietly(viewer, self._layer)
        viewer.scene.camera.events.zoom.connect(self._fit)

    def remove(self) -> None:
        """Take the lines away."""
        layer, viewer = self._layer, self._viewer
        self._layer = self._viewer = None
        if viewer is None:
            return
        viewer.scene.camera.events.zoom.disconnect(self._fit)
        if layer is not None and layer in viewer.layers:
            viewer.layers.remove(layer)

    def _fit(self, *_: Any) -> None:
        if self._layer is not None and self._viewer is not None:
            self._layer.edge_width = _LINE_PX / self._viewer.scene.camera.zoom
