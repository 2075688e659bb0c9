"""The map in a window of its own: a second napari canvas in a dock, which can be dragged off.

An embedded canvas is not closed with its window by itself; `end` does that.
"""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtWidgets import QDockWidget

from cell_curator.widgets.workbench import Workbench

_SIZE = (620, 560)


class MapWindow(QDockWidget):
    """Takes the map of a bench while it is open, and gives it back."""

    closed = Signal()

    def __init__(self, bench: Workbench) -> None:
        from napari.components import ViewerModel
        from napari.qt import QtViewer

        window = bench.viewer.window._qt_window
        super().__init__("Map of cells", window)
        self.setObjectName("cell-curator-map")
        self._bench = bench
        self.model = ViewerModel(title="Map of cells")
        self.model.theme = bench.viewer.theme
        self._canvas: Any = QtViewer(self.model)
        self._canvas.controls.hide()
        self.setWidget(self._canvas)
        window.addDockWidget(Qt.DockWidgetArea.LeftDockWidgetArea, self)
        self.setFloating(True)
        self.resize(*_SIZE)
        corner = window.geometry().topLeft()
        self.move(corner.x() + 60, corner.y() + 120)
        bench.session_changed.connect(self._follow)
        window.destroyed.connect(self.end)
        self._follow()

    def end(self, *_: Any) -> None:
        """Give the map back, and close the canvas."""
        canvas, self._canvas = self._canvas, None
        if canvas is None:
            return
        self._bench.session_changed.disconnect(self._follow, missing_ok=True)
        if self._bench.link is not None:
            self._bench.link.place_map(None)
        canvas.close()

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """Its own button closes it."""
        self.end()
        super().closeEvent(event)
        self.closed.emit()
        self.deleteLater()

    def _follow(self, *_: Any) -> None:
        if self._bench.link is not None:
            self._bench.link.place_map(self.model)
