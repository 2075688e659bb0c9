"""Rings round the selected cells of the image shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cell_curator.link.colors import SELECTED
from cell_curator.link.geometry import to_world

if TYPE_CHECKING:
    import pandas as pd
    from napari.components import ViewerModel
    from napari.layers import Points

RING = "selected"
THICKNESS = 2.0
"""Of a ring on the screen, whatever the zoom, px."""


class Ring:
    """A layer of rings; made when the first cell is selected."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Points | None = None
        self._drawn: tuple[bytes, bytes] | None = None
        viewer.scene.camera.events.zoom.connect(self._fit)

    def draw(self, rows: pd.DataFrame, affine: Any, above: int) -> None:
        """Draw a ring round each of these cells; ``above`` is where the layer goes if it has to be made."""
        if not len(rows):
            self.hide()
            return
        where = to_world(affine, rows[["y", "x"]].to_numpy(float))
        extent = np.maximum(rows["bottom"] - rows["top"], rows["right"] - rows["left"]).to_numpy(float)
        wanted = (where.tobytes(), extent.tobytes())
        if self._layer is None or self._layer not in self._viewer.layers:
            self._layer = self._added(above)
            self._drawn = None
        if not self._layer.visible:  # first: napari does not slice a hidden layer, and would draw rows that are gone
            self._layer.visible = True
        if wanted != self._drawn:  # selection and cells often change together; drawing takes 30 ms
            self._drawn = wanted
            self._layer.data = where
            self._layer.size = 1.5 * extent + 6
            self._fit()

    def hide(self) -> None:
        """No cell is selected here."""
        if self._layer is not None and self._layer.visible:
            self._layer.visible = False

    def remove(self) -> None:
        """Take the layer out of the viewer."""
        if self._layer is not None and self._layer in self._viewer.layers:
            self._viewer.layers.remove(self._layer)
        self._layer = self._drawn = None

    def unbind(self) -> None:
        """Let go of the viewer."""
        self._viewer.scene.camera.events.zoom.disconnect(self._fit)
        self.remove()

    def _fit(self, *_: Any) -> None:
        if self._layer is not None and len(self._layer.data):
            self._layer.border_width = THICKNESS / self._viewer.scene.camera.zoom

    def _added(self, above: int) -> Points:
        from napari.layers import Points

        ring = Points(
            np.empty((0, 2)),
            name=RING,
            face_color="transparent",
            border_color=SELECTED,
            border_width_is_relative=False,
        )
        ring.editable = False
        active = self._viewer.layers.selection.active
        self._viewer.layers.insert(above, ring)
        # A new layer becomes the active one; the user's brush must not be taken away.
        self._viewer.layers.selection.active = active
        return ring
