"""Cells as they would be: outlines over the picture while a threshold is moved, and nothing is decided yet."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from napari.components import ViewerModel
    from napari.layers import Labels

PROPOSAL = "with these thresholds"


class Proposal:
    """One Labels layer that comes and goes; the user's own cells are hidden meanwhile."""

    def __init__(self, viewer: ViewerModel) -> None:
        self._viewer = viewer
        self._layer: Labels | None = None
        self._hidden: Labels | None = None

    def show(self, labels: NDArray[np.int32], affine: NDArray[np.float64], cells: Labels | None) -> None:
        """Show ``(Y, X)`` int32 in place of the layer ``cells``."""
        layer = self._layer
        if layer is not None and layer in self._viewer.layers and layer.data.shape == labels.shape:
            np.copyto(layer.data, labels)
            layer.refresh(extent=False, thumbnail=False, highlight=False)
            return
        from napari.layers import Labels

        self.remove()
        active = self._viewer.layers.selection.active
        self._layer = Labels(labels.copy(), name=PROPOSAL, opacity=0.9, affine=affine)
        self._layer.contour = 2
        self._layer.editable = False
        self._viewer.layers.append(self._layer)
        self._viewer.layers.selection.active = active
        if cells is not None and cells.visible:
            self._hidden, cells.visible = cells, False

    def remove(self) -> None:
        """Show the user's own cells again."""
        layer, self._layer = self._layer, None
        if layer is not None and layer in self._viewer.layers:
            self._viewer.layers.remove(layer)
        hidden, self._hidden = self._hidden, None
        if hidden is not None:
            hidden.visible = True
