"""Two more gestures: draw a line across a cell to say how large cells are, and the region to look in.

The region is an ordinary Shapes layer, so napari's own tools change it.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from psygnal import Signal

from cell_curator.link.geometry import to_data
from cell_curator.link.tools import PICK

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Shapes

    from cell_curator.link.tools import ToolBox
    from cell_curator.link.viewer_link import ViewerLink

REGION = "region"
_LINE = "ruler"
_LEAST_PX = 2.0


class Ruler:
    """The next drag over the image measures; then the mouse is as before."""

    measured = Signal(float)
    """Length of the line in px of the image."""

    def __init__(self, viewer: ViewerModel, link: ViewerLink, tools: ToolBox) -> None:
        self._viewer, self._link, self._tools = viewer, link, tools
        self.armed = False

    def arm(self) -> None:
        """Wait for a drag."""
        self._tools.mode = PICK
        let_go(self._viewer)
        if not self.armed:
            self.armed = True
            self._viewer.mouse_drag_callbacks.insert(0, self._on_press)

    def disarm(self) -> None:
        """Wait no more."""
        self.armed = False
        if self._on_press in self._viewer.mouse_drag_callbacks:
            self._viewer.mouse_drag_callbacks.remove(self._on_press)

    def _on_press(self, _viewer: Any, event: Any) -> Generator[None, None, None]:
        from napari.layers import Shapes

        if getattr(event, "button", 1) != 1:
            return
        start = np.asarray(event.position[-2:], float)
        active = self._viewer.layers.selection.active
        line = Shapes(name=_LINE, ndim=2, edge_color="#ffd400", edge_width=2 / self._viewer.scene.camera.zoom)
        self._viewer.layers.append(line)
        self._viewer.layers.selection.active = active
        camera = self._viewer.scene.camera
        pan, camera.mouse_pan = camera.mouse_pan, False
        end = start
        try:
            yield
            while event.type == "mouse_move":
                end = np.asarray(event.position[-2:], float)
                line.data = []
                line.add_lines([np.array([start, end])])
                yield
        finally:
            camera.mouse_pan = pan
            if line in self._viewer.layers:
                self._viewer.layers.remove(line)
        ends = to_data(self._link.image.affine, np.array([start, end]))
        length = float(np.hypot(*(ends[1] - ends[0])))
        if length >= _LEAST_PX and self.armed:  # else a click: the line is still to come
            self.disarm()
            self.measured.emit(length)


def let_go(viewer: ViewerModel) -> None:
    """Put napari's own brush or pen down, so that it does not draw under another gesture."""
    active = viewer.layers.selection.active
    if active is not None and str(active.mode) != "pan_zoom":
        active.mode = "pan_zoom"


def region_layer(viewer: ViewerModel) -> Shapes | None:
    """The layer that the region is drawn in, if there is one."""
    from napari.layers import Shapes

    return next((layer for layer in viewer.layers if layer.name == REGION and isinstance(layer, Shapes)), None)


def draw_region(viewer: ViewerModel) -> Shapes:
    """Make the layer if it must be made, and put a rectangle into the user's hand."""
    from napari.layers import Shapes

    layer = region_layer(viewer)
    if layer is None:
        layer = Shapes(name=REGION, ndim=2, edge_color="#ffd400", face_color="transparent", edge_width=2)
        viewer.layers.append(layer)
    layer.visible = True
    viewer.layers.selection.active = layer
    layer.mode = "add_rectangle"
    return layer


def put_region_down(viewer: ViewerModel, then: Labels | None, *, hide: bool = False) -> None:
    """The mouse draws no more regions; the layer ``then`` is the active one again."""
    layer = region_layer(viewer)
    if layer is None:
        return
    layer.mode = "pan_zoom"
    layer.visible = layer.visible and not hide
    if viewer.layers.selection.active is layer and then is not None and then in viewer.layers:
        viewer.layers.selection.active = then


def region_of(viewer: ViewerModel, link: ViewerLink) -> NDArray[np.float64] | None:
    """Corners (N, 2) in px of the image of the region drawn last, or None."""
    layer = region_layer(viewer)
    if layer is None or not len(layer.data):
        return None
    corners = np.array([layer.data_to_world(point)[-2:] for point in layer.data[-1]])
    return to_data(link.image.affine, corners)
