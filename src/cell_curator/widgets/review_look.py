"""How the pictures of a gallery are drawn, and the same gallery in large, as a window of its own."""

from __future__ import annotations

from typing import Any

from qtpy.QtCore import QRect, Qt, QTimer, Signal
from qtpy.QtWidgets import QCheckBox, QDockWidget, QGridLayout, QLabel, QSlider, QVBoxLayout, QWidget

from cell_curator.widgets import style
from cell_curator.widgets.controls import ignore_wheel
from cell_curator.widgets.gallery import CellList, Gallery
from cell_curator.widgets.gallery_pictures import Look
from cell_curator.widgets.workbench import Workbench

SIZES = (32, 224)
_STEP = 8
_PAUSE_MS = 60
_LARGE = Look(size=104)
_PART = 0.44  # of the image's height, so that the cell in the middle of it stays in view


class LookBar(QWidget):
    """Size, outline, surroundings and contrast of a gallery's pictures."""

    def __init__(self, gallery: Gallery, columns: int = 2) -> None:
        super().__init__()
        self._gallery = gallery
        look = gallery.look
        self.size = QSlider(Qt.Orientation.Horizontal)
        self.size.setRange(SIZES[0] // _STEP, SIZES[1] // _STEP)
        self.size.setValue(look.size // _STEP)
        self.size.setToolTip("Size of the pictures")
        ignore_wheel(self.size)
        self.outline = _box("Outline", "Draw the border of the cell", look.outline)
        self.surroundings = _box("Surroundings", "Show what is round the cell, or the cell alone", look.surroundings)
        self.contrast = _box(
            "Same contrast",
            "Grey levels mean the same in all pictures, or are stretched for each cell",
            look.shared_contrast,
        )
        self._pause = QTimer(self)
        self._pause.setSingleShot(True)
        self._pause.setInterval(_PAUSE_MS)
        self._pause.timeout.connect(self._apply)
        self.size.valueChanged.connect(lambda _: self._pause.start())
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(QLabel("Size"), 0, 0)
        grid.addWidget(self.size, 0, 1, 1, 2)
        for index, box in enumerate((self.outline, self.surroundings, self.contrast)):
            box.toggled.connect(self._apply)
            row, column = (1, index) if columns == 2 else (0, 3 + index)
            grid.addWidget(box, row, column)
        grid.setColumnStretch(2, 1)

    def _apply(self, *_: Any) -> None:
        self._gallery.set_look(
            Look(
                _STEP * self.size.value(),
                self.outline.isChecked(),
                self.surroundings.isChecked(),
                self.contrast.isChecked(),
            )
        )


class LargeGallery(QDockWidget):
    """The gallery over the lower part of the image, or wherever it is dragged; lists what the dock lists.

    It is a window of its own at first: docked, each frame of it makes Qt compose the whole window with
    napari's canvas, which takes 20 times as long where there is no graphics card.
    """

    clicked = Signal(int)

    def __init__(self, model: CellList, bench: Workbench) -> None:
        window = bench.viewer.window._qt_window
        super().__init__("Cells", window)
        self.setObjectName("cell-curator-gallery")
        self.gallery = Gallery(model, bench.background, _LARGE)
        self.gallery.clicked.connect(self.clicked)
        self.look = LookBar(self.gallery, columns=4)
        content = QWidget()
        layout = QVBoxLayout(content)
        layout.setContentsMargins(6, 4, 6, 4)
        layout.addWidget(self.look)
        layout.addWidget(self.gallery, 1)
        self.setWidget(content)
        for corner, side in (
            (Qt.Corner.BottomRightCorner, Qt.DockWidgetArea.RightDockWidgetArea),
            (Qt.Corner.BottomLeftCorner, Qt.DockWidgetArea.LeftDockWidgetArea),
        ):
            window.setCorner(corner, side)  # the docks at the sides keep their height
        window.addDockWidget(Qt.DockWidgetArea.BottomDockWidgetArea, self)
        self.setFloating(True)
        self.setGeometry(_lower_part(window.centralWidget()))
        self.set_theme(str(bench.viewer.theme))

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """Keys go to the main window again."""
        super().hideEvent(event)
        self.parentWidget().activateWindow()

    def set_theme(self, theme: str) -> None:
        """Look as the docks do."""
        self.setStyleSheet(style.sheet(theme))


def _lower_part(widget: QWidget) -> QRect:
    """The lower part of a widget, in px of the screen."""
    height = round(_PART * widget.height())
    corner = widget.mapToGlobal(widget.rect().topLeft())
    return QRect(corner.x(), corner.y() + widget.height() - height, widget.width(), height)


def _box(title: str, tip: str, on: bool) -> QCheckBox:
    box = QCheckBox(title)
    box.setToolTip(tip)
    box.setChecked(on)
    return box
