"""The filmstrip: what each step makes of the image, side by side; a click shows the image up to there."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QImage, QPainter, QPen
from qtpy.QtWidgets import QScrollArea, QWidget

from cell_curator.core.recipe import Recipe
from cell_curator.widgets import style

_LEAST, _MOST = 46, 76  # px, side of a picture: all that fit are shown at once
_GAP = 4
_WORDS = 15
_BAR = 14  # px, of the scroll bar


def title_of(step: str) -> str:
    """What a step of the recipe is called below its picture."""
    if step == "channel":
        return "Channel"
    return str(Recipe.model_fields[step].annotation.model_fields["enabled"].title or step)  # type: ignore[union-attr]


class Filmstrip(QScrollArea):
    """One small picture per step, in the order of the steps."""

    chosen = Signal(str)
    """Title of the step whose picture was clicked; '' for the last or when it is let go again."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._strip = _Strip(theme)
        self._strip.clicked.connect(self._clicked)
        self.setWidget(self._strip)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setToolTip("What each step makes of the image. Click one to see the image up to there; again: all steps.")

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._strip.set_theme(theme)

    @property
    def titles(self) -> list[str]:
        """Titles of the steps shown."""
        return [title for title, _ in self._strip.frames]

    @property
    def step(self) -> str:
        """Title of the step up to which the image is shown; '' for all."""
        return self._strip.chosen

    def show_film(self, film: Sequence[tuple[str, NDArray[np.float32]]]) -> None:
        """Show other pictures, (title, (y, x) float32 in 0..1) each."""
        self._strip.show_frames([(title, _image(picture)) for title, picture in film])
        self._fit()

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Fit the pictures into the width."""
        super().resizeEvent(event)
        self._fit()

    def let_go(self) -> None:
        """Show all steps again; nobody is told."""
        self._strip.chosen = ""
        self._strip.update()

    def frame(self, index: int) -> QRect:
        """Where a picture lies in the strip, for the mouse."""
        return self._strip.place(index)

    @property
    def strip(self) -> QWidget:
        """The widget that is clicked."""
        return self._strip

    def _fit(self) -> None:
        count = max(len(self._strip.frames), 1)
        side = min(max(self.width() // count - _GAP, _LEAST), _MOST)
        self._strip.fit(side)
        self.setFixedHeight(self._strip.height() + (_BAR if self._strip.width() > self.width() else 0))

    def _clicked(self, title: str) -> None:
        last = self.titles[-1] if self.titles else ""
        self._strip.chosen = "" if title in (self._strip.chosen, last) else title
        self._strip.update()
        self.chosen.emit(self._strip.chosen)


class _Strip(QWidget):
    clicked = Signal(str)

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._colors = style.colors(theme)
        self.frames: list[tuple[str, QImage]] = []
        self.chosen = ""
        self._side = _MOST
        self.setCursor(Qt.CursorShape.PointingHandCursor)

    def set_theme(self, theme: str) -> None:
        self._colors = style.colors(theme)
        self.update()

    def show_frames(self, frames: list[tuple[str, QImage]]) -> None:
        self.frames = frames
        if self.chosen not in [title for title, _ in frames]:
            self.chosen = ""
        self.update()

    def fit(self, side: int) -> None:
        self._side = side
        self.setFixedSize(QSize(max(len(self.frames) * (side + _GAP) - _GAP, 10), side + _WORDS + 4))
        self.update()

    def place(self, index: int) -> QRect:
        return QRect(index * (self._side + _GAP), 0, self._side, self._side)

    def event(self, event: Any) -> bool:
        """The full name of the step under the mouse is its tooltip."""
        if event.type() == QEvent.Type.ToolTip:
            index = int(event.pos().x()) // (self._side + _GAP)
            if 0 <= index < len(self.frames):
                self.setToolTip(f"{self.frames[index][0]}: click to see the image up to here; again: all steps")
        return super().event(event)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        index = int(event.position().x()) // (self._side + _GAP)
        if 0 <= index < len(self.frames):
            self.clicked.emit(self.frames[index][0])

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        painter = QPainter(self)
        small = QFont(painter.font())
        small.setPointSizeF(max(small.pointSizeF() - 2, 6.5))
        painter.setFont(small)
        for index, (title, image) in enumerate(self.frames):
            box = self.place(index)
            painter.fillRect(box, QColor("black"))
            fitted = image.size().scaled(box.size(), Qt.AspectRatioMode.KeepAspectRatio)
            inside = QRect(0, 0, fitted.width(), fitted.height())
            inside.moveCenter(box.center())
            painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
            painter.drawImage(inside, image)
            is_shown = title == self.chosen
            painter.setPen(QPen(QColor(style.PRIMARY if is_shown else self._colors["line"]), 3 if is_shown else 1))
            painter.drawRect(box.adjusted(1, 1, -1, -1))
            painter.setPen(QColor(self._colors["quiet"]))
            words = QRect(box.left() - 2, box.bottom() + 2, box.width() + 4, _WORDS)
            painter.drawText(words, Qt.AlignmentFlag.AlignCenter, _short(painter, title, words.width()))


_SHORT = {"Local contrast (CLAHE)": "CLAHE", "Remove background": "Backgr.", "Clip extremes": "Clip",
          "Black below": "Black", "Denoise (TV)": "TV"}  # fmt: skip


def _short(painter: QPainter, title: str, width: int) -> str:
    """The step's name as it fits below its picture."""
    for words in (title, _SHORT.get(title, title)):
        if painter.fontMetrics().horizontalAdvance(words) <= width:
            return words
    return painter.fontMetrics().elidedText(words, Qt.TextElideMode.ElideRight, width)


def _image(picture: NDArray[np.float32]) -> QImage:
    grey = np.ascontiguousarray(np.clip(picture * 255, 0, 255).astype(np.uint8))
    height, width = grey.shape
    return QImage(grey.data, width, height, width, QImage.Format.Format_Grayscale8).copy()
