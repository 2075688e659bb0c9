"""The map in a window of its own: a second napari canvas, for a second screen.

A window and no dock: a canvas that is moved into another window loses what it drew with. It is made once and hidden,
not closed before the main window is. What vispy draws with is deleted in whichever canvas drew last: the one that a
layer is taken from must be the current one, or the other canvas stays black.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from contextlib import suppress
from typing import Any

from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QKeySequence, QShortcut
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cell_curator.widgets.workbench import Workbench

_SIZE = (620, 560)


class MapWindow(QWidget):
    """Takes the map of a bench while it is seen, and gives it back. ``keys``: what works here as in the main window."""

    closed = Signal()

    def __init__(self, bench: Workbench, keys: Iterable[tuple[str, Callable[[], Any]]] = ()) -> None:
        from napari.components import ViewerModel
        from napari.qt import QtViewer

        window = bench.viewer.window._qt_window
        super().__init__(window, Qt.WindowType.Window)
        self.setWindowTitle("Map of cells")
        self._bench = bench
        self.model = ViewerModel(title="Map of cells")
        self.model.theme = bench.viewer.theme
        self.canvas: Any = QtViewer(self.model)
        self.canvas.controls.hide()
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.canvas)
        self.resize(*_SIZE)
        corner = window.geometry().topLeft()
        self.move(corner.x() + 60, corner.y() + 120)
        for key, slot in keys:
            shortcut = QShortcut(QKeySequence(key), self)
            shortcut.activated.connect(slot)
        self.model.layers.events.removing.connect(self._own_is_current)
        bench.viewer.layers.events.removing.connect(self._main_is_current)
        bench.session_changed.connect(self._follow)
        window.destroyed.connect(self.end)

    def take(self) -> None:
        """Show the window, with the map in it."""
        self.show()
        self.raise_()
        self._follow()

    def _own_is_current(self, *_: Any) -> None:
        if self.canvas is not None:
            self.canvas.canvas._scene_canvas.set_current()

    def _main_is_current(self, *_: Any) -> None:
        if self.canvas is not None:
            self._bench.viewer.window._qt_viewer.canvas._scene_canvas.set_current()

    def end(self, *_: Any) -> None:
        """The main window goes."""
        if self.canvas is not None:
            self.model.layers.clear()
        canvas, self.canvas = self.canvas, None
        if canvas is not None:
            self._bench.session_changed.disconnect(self._follow, missing_ok=True)
            with suppress(RuntimeError):  # Qt may have taken it already
                canvas.close()

    def closeEvent(self, event: Any) -> None:  # noqa: N802
        """Hide, and give the map back."""
        super().closeEvent(event)
        if self._bench.link is not None:
            self._bench.link.place_map(None)
        self.closed.emit()

    def _follow(self, *_: Any) -> None:
        if self._bench.link is not None and self.isVisible():
            self._bench.link.place_map(self.model)
