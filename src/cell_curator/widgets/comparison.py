"""Raw against prepared on the canvas: the swipe line, the blink, and the knob that turns the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from qtpy.QtCore import QObject, Signal

from cell_curator.link.prepared import PreparedLayer
from cell_curator.widgets.canvas_handles import SwipeHandle, TurnHandle, canvas_of


class Comparison(QObject):
    """Shows the prepared layer whole, right of a line, or not at all.

    Parameters
    ----------
    viewer
        The napari viewer. Where it has no canvas there are no handles, and the rest works.
    prepared
        The prepared layer of what is on the screen now.
    """

    turned = Signal(float)
    """The knob was dragged: degrees counter-clockwise by which to turn further."""

    def __init__(self, viewer: Any, prepared: Callable[[], PreparedLayer | None], parent: QObject) -> None:
        super().__init__(parent)
        self._viewer, self._prepared = viewer, prepared
        canvas = canvas_of(viewer)
        self.swipe = None if canvas is None else SwipeHandle(canvas)
        self.knob = None if canvas is None else TurnHandle(canvas)
        self._shown = self._swiped = self._turnable = self._in_view = False
        self._connected = (viewer.scene.camera.events.center, viewer.scene.camera.events.zoom)
        for event in self._connected:
            event.connect(self._follow_camera)
        if self.swipe is not None and self.knob is not None:
            self.swipe.moved.connect(self.apply)
            self.knob.turned.connect(self.turned)

    def close(self, *_: Any) -> None:
        """Let go of the viewer."""
        for event in self._connected:
            event.disconnect(self._follow_camera)

    def set(
        self,
        *,
        shown: bool | None = None,
        swiped: bool | None = None,
        turnable: bool | None = None,
        in_view: bool | None = None,
    ) -> None:
        """Change what is shown; ``in_view`` says whether the dock is, since the handles go with it."""
        self._shown = self._shown if shown is None else shown
        self._swiped = self._swiped if swiped is None else swiped
        self._turnable = self._turnable if turnable is None else turnable
        self._in_view = self._in_view if in_view is None else in_view
        self.apply()

    def apply(self, *_: Any) -> None:
        """Bring layer and handles into line."""
        prepared = self._prepared()
        layer = None if prepared is None else prepared.layer
        swiping = self._swiped and self._shown and self._in_view and layer is not None
        if self.swipe is not None and self.knob is not None:
            self.swipe.setVisible(swiping)
            self.knob.setVisible(self._turnable and self._in_view and layer is not None)
            self.knob.raise_()  # where the line runs through it, the knob is what is meant
        if prepared is not None and layer is not None:
            if layer.visible != self._shown:
                layer.visible = self._shown
            prepared.swipe = self._line() if swiping else None

    def _follow_camera(self, *_: Any) -> None:
        if self._swiped:
            self.apply()

    def _line(self) -> float:
        """World x of the swipe line, which stands still on the screen."""
        camera = self._viewer.scene.camera
        width = self._viewer.canvas.size[1]
        at = 0.5 if self.swipe is None else self.swipe.at
        return float(np.asarray(camera.center)[-1] + (at - 0.5) * width / camera.zoom)
