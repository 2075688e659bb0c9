"""What a round of teaching shows in the image: two models' cells as outlines, and the way to a place.

Only layers and the camera; what is compared and which places are worth a look is decided in `comparing`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cell_curator.link.geometry import to_world

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels, Shapes

    from cell_curator.link.geometry import Box
    from cell_curator.link.viewer_link import ViewerLink

MODEL_COLORS = ("#e69f00", "#56b4e9")
"""Of the first and of the second model, in the image and in the dock."""

PLACE = "look here"
_PLACE_COLOR = "#f0e442"
_FRAME_PX = 2.5  # on the screen
_WIDTHS = (2, 4)  # of an outline on the screen, px: of a model alone, and of the first of two
_OF_CANVAS = 0.75  # part of the canvas that a place fills
_LEAST_PX = 60.0  # a smaller place is shown with what is round it


class ModelOutlines:
    """Cells of two models as outlines, each model in its colour; the user's own cells are hidden meanwhile."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layers: list[Labels] = []
        self._hidden: Labels | None = None

    def show(
        self, masks: tuple[NDArray[np.int32], ...], names: tuple[str, ...], affine: NDArray[np.float64], cells: Any
    ) -> None:
        """Show ``(Y, X)`` int32 of each model above everything else, in place of the layer ``cells`` if given."""
        from napari.layers import Labels
        from napari.utils.colormaps import DirectLabelColormap

        if self._shows(masks, names):
            for layer, labels in zip(self._layers, masks, strict=True):
                layer.data = labels
            return
        self.remove()
        active = self._viewer.layers.selection.active
        thin, thick = (max(least, round(px / self._viewer.scene.camera.zoom)) for least, px in enumerate(_WIDTHS, 1))
        # The second lies in the first, so that both are seen where they agree.
        widths = (thin,) if len(masks) == 1 else (max(thick, thin + 1), thin)
        for labels, name, color, width in zip(masks, names, MODEL_COLORS, widths, strict=False):
            colormap = DirectLabelColormap(color_dict={None: color, 0: "transparent"})
            layer = Labels(labels, name=name, affine=affine, opacity=1.0, colormap=colormap)
            layer.contour = width
            layer.editable = False
            self._viewer.layers.append(layer)
            self._layers.append(layer)
        self._viewer.layers.selection.active = active
        if cells is not None and cells.visible:
            self._hidden, cells.visible = cells, False

    def _shows(self, masks: tuple[NDArray[np.int32], ...], names: tuple[str, ...]) -> bool:
        """Whether the same models are shown on the same image."""
        there = [layer for layer in self._layers if layer in self._viewer.layers]
        return [(layer.name, layer.data.shape) for layer in there] == [
            (name, labels.shape) for name, labels in zip(names, masks, strict=True)
        ]

    def remove(self) -> None:
        """Show the user's own cells again."""
        layers, self._layers = self._layers, []
        for layer in layers:
            if layer in self._viewer.layers:
                self._viewer.layers.remove(layer)
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            hidden.visible = True


class Guide:
    """Takes the user to a place of any image: switches the image if it must, and centres the camera."""

    def __init__(self, link: ViewerLink) -> None:
        self._link = link
        self._goal: tuple[int, Box, bool] | None = None
        self._frame: Shapes | None = None
        link.shown.connect(self._arrive)

    def unbind(self) -> None:
        """Let go of the link and take the frame away."""
        self._link.shown.disconnect(self._arrive, missing_ok=True)
        self.clear()

    def go_to(self, image_id: int, box: Box, *, framed: bool = False) -> None:
        """Show ``(top, left, bottom, right)`` px of an image, with a frame round it if wanted."""
        self.clear()
        self._goal = image_id, box, framed
        if image_id == self._link.labels.image_id:
            self._arrive(image_id)
        else:
            self._link.session.show_image(image_id)

    def clear(self) -> None:
        """Forget where to go, and take the frame away."""
        self._goal = None
        frame, self._frame = self._frame, None
        if frame is not None and frame in self._link.viewer.layers:
            self._link.viewer.layers.remove(frame)

    def _arrive(self, image_id: int) -> None:
        if self._goal is None or self._goal[0] != image_id:
            self.clear()
            return
        _, (top, left, bottom, right), framed = self._goal
        self._goal = None
        viewer, affine = self._link.viewer, self._link.image.affine
        corners = np.array([(top, left), (top, right), (bottom, right), (bottom, left)], float)
        shown = to_world(affine, corners)
        y, x = shown.mean(axis=0)
        viewer.scene.camera.center = (0.0, float(y), float(x))
        extent = np.maximum(np.ptp(shown, axis=0), _LEAST_PX)
        viewer.scene.camera.zoom = float(_OF_CANVAS * (np.asarray(viewer.canvas.size, float) / extent).min())
        if framed:
            self._draw(corners, affine)

    def _draw(self, corners: NDArray[np.float64], affine: NDArray[np.float64]) -> None:
        from napari.layers import Shapes

        active = self._link.viewer.layers.selection.active
        self._frame = Shapes(
            [corners],
            shape_type="polygon",
            name=PLACE,
            affine=affine,
            edge_color=_PLACE_COLOR,
            face_color="transparent",
            edge_width=float(_FRAME_PX / self._link.viewer.scene.camera.zoom),
        )
        self._frame.editable = False
        self._link.viewer.layers.append(self._frame)
        self._link.viewer.layers.selection.active = active
