"""The histogram with two handles: where black begins and where white begins."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QPointF, QRectF, QSize, Qt, Signal
from qtpy.QtGui import QColor, QFont, QFontMetricsF, QPainter, QPen, QPolygonF
from qtpy.QtWidgets import QSizePolicy, QWidget

from cell_curator.core.look import Histograms
from cell_curator.widgets import style

_HEIGHT = 108
_TOP, _BOTTOM = 16, 20
_SIDE = 8
_REACH = 9  # px beside a handle that still take hold of it
_GRIP = 6
_CLEAR = 8  # px between a handle and the percentage beside it
_RESULT = "#56b4e9"


class ClipHistogram(QWidget):
    """Grey levels before clipping (filled) and of the result (line); drag the handles to clip.

    The scale of the counts is logarithmic, since most pixels of most images are background.
    """

    clipped = Signal(float, float)
    """Percentiles (low, high) that the handles now stand at."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self._colors = style.colors(theme)
        self._data: Histograms | None = None
        self._marks = [0.0, 1.0]
        self._held: int | None = None
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(200)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)
        self.setMouseTracking(True)
        self.setToolTip(
            "Grey levels of the image before clipping (grey) and of the result (blue line), on a logarithmic scale."
            " Drag the two handles: what is left of the first becomes black, what is right of the second white."
        )

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._colors = style.colors(theme)
        self.update()

    def show_histograms(self, data: Histograms | None) -> None:
        """Show other counts; handles that are held stay in the hand."""
        self._data = data
        if data is not None and self._held is None:
            self._marks = [data.low, data.high]
        self.update()

    @property
    def marks(self) -> tuple[float, float]:
        """Levels 0..1 at which the handles stand."""
        return self._marks[0], self._marks[1]

    def handle(self, which: int) -> QPointF:
        """Where a handle can be taken hold of (0: black, 1: white)."""
        return QPointF(self._x(self._marks[which]), self.height() - _BOTTOM)

    def sizeHint(self) -> QSize:  # noqa: N802
        """As wide as the dock."""
        return QSize(300, _HEIGHT)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Take hold of the nearer handle."""
        if self._data is None or event.button() != Qt.MouseButton.LeftButton:
            return
        x = event.position().x()
        far = [abs(x - self._x(mark)) for mark in self._marks]
        if min(far) > _REACH:
            return
        # Where both stand at one place, the side from which they are taken decides.
        nearer = int(x > self._x(self._marks[0])) if abs(far[0] - far[1]) < 1 else int(far[1] < far[0])
        self._held = nearer
        self.update()

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Move the handle that is held."""
        x = event.position().x()
        if self._held is None:
            near = self._data is not None and min(abs(x - self._x(mark)) for mark in self._marks) <= _REACH
            self.setCursor(Qt.CursorShape.SplitHCursor if near else Qt.CursorShape.ArrowCursor)
            return
        level = min(max((x - _SIDE) / max(self.width() - 2 * _SIDE, 1), 0.0), 1.0)
        gap = 1.0 / max(self.width(), 1)
        self._marks[self._held] = (
            min(level, self._marks[1] - gap) if self._held == 0 else max(level, self._marks[0] + gap)
        )
        self.update()
        self._tell()

    def mouseReleaseEvent(self, _event: Any) -> None:  # noqa: N802
        """Let go."""
        self._held = None
        self.update()

    def _tell(self) -> None:
        if self._data is not None:
            low, high = (self._data.percent(mark) for mark in self._marks)
            self.clipped.emit(round(low, 2), round(max(high, low + 0.01), 2))

    def _x(self, level: float) -> float:
        return _SIDE + min(max(level, 0.0), 1.0) * (self.width() - 2 * _SIDE)

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw counts, shaded ends and handles."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        area = QRectF(_SIDE, _TOP, self.width() - 2 * _SIDE, self.height() - _TOP - _BOTTOM)
        painter.fillRect(area, QColor(self._colors["panel"]))
        if self._data is None:
            painter.setPen(QColor(self._colors["quiet"]))
            painter.drawText(area, Qt.AlignmentFlag.AlignCenter, "no image on screen")
            return
        self._draw_counts(painter, area, self._data)
        self._draw_words(painter, area, self._data)
        for which in (0, 1):
            self._draw_handle(painter, area, which)

    def _draw_counts(self, painter: QPainter, area: QRectF, data: Histograms) -> None:
        filled = _outline(data.before, area)
        painter.setPen(Qt.PenStyle.NoPen)
        fill = QColor(self._colors["quiet"])
        fill.setAlpha(140)
        painter.setBrush(fill)
        painter.drawPolygon(QPolygonF([area.bottomLeft(), *filled, area.bottomRight()]))
        shade = QColor(0, 0, 0, 120)
        low, high = (self._x(mark) for mark in self._marks)
        painter.fillRect(QRectF(area.left(), area.top(), low - area.left(), area.height()), shade)
        painter.fillRect(QRectF(high, area.top(), area.right() - high, area.height()), QColor(255, 255, 255, 46))
        painter.setPen(QPen(QColor(_RESULT), 1.3))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolyline(QPolygonF(_outline(data.after, area)))

    def _draw_words(self, painter: QPainter, area: QRectF, data: Histograms) -> None:
        painter.setFont(self._small())
        top = QRectF(area.left(), 0, area.width(), _TOP - 2)
        painter.setPen(QColor(self._colors["quiet"]))
        painter.drawText(top, Qt.AlignmentFlag.AlignLeft | Qt.AlignmentFlag.AlignVCenter, "before clipping")
        painter.setPen(QColor(_RESULT))
        painter.drawText(top, Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter, "result")
        painter.setPen(QColor(self._colors["quiet"]))
        for words, box in zip(self._words(data), self.word_boxes(), strict=True):
            painter.drawText(box, Qt.AlignmentFlag.AlignCenter, words)

    def word_boxes(self) -> tuple[QRectF, QRectF]:
        """Where the percentages stand: between the handles if there is room, else outside, never upon each other."""
        if self._data is None:
            return QRectF(), QRectF()
        metrics = QFontMetricsF(self._small())
        first, second = (metrics.horizontalAdvance(words) + 2 for words in self._words(self._data))
        low, high = (self._x(mark) for mark in self._marks)
        places = (
            (low + _CLEAR, high - _CLEAR - second),
            (low + _CLEAR, high + _CLEAR),
            (low - _CLEAR - first, high - _CLEAR - second),
            (low - _CLEAR - first, high + _CLEAR),
            (high + _CLEAR, high + 2 * _CLEAR + first),
            (low - 2 * _CLEAR - first - second, low - _CLEAR - second),
        )

        def is_free(left: float, right: float) -> bool:
            spans = ((left, left + first), (right, right + second))
            beside = all(end <= x - _CLEAR or start >= x + _CLEAR for start, end in spans for x in (low, high))
            return beside and left >= 0 and left + first + 4 <= right and right + second <= self.width()

        left, right = next((place for place in places if is_free(*place)), places[-1])
        top, height = self.height() - _BOTTOM + 2, _BOTTOM - 2
        return QRectF(left, top, first, height), QRectF(right, top, second, height)

    def _words(self, data: Histograms) -> tuple[str, str]:
        """Percentiles as they were set, or while a handle is held, as it stands."""
        percents = data.percents if self._held is None else [data.percent(mark) for mark in self._marks]
        return f"{percents[0]:.4g} %", f"{percents[1]:.4g} %"

    def _small(self) -> QFont:
        font = QFont(self.font())
        font.setPointSizeF(max(font.pointSizeF() - 1.5, 7.0))
        return font

    def _draw_handle(self, painter: QPainter, area: QRectF, which: int) -> None:
        x = self._x(self._marks[which])
        held = self._held == which
        painter.setPen(QPen(QColor(style.PRIMARY if held else self._colors["quiet"]), 2 if held else 1.4))
        painter.drawLine(QPointF(x, area.top()), QPointF(x, area.bottom()))
        painter.setPen(QPen(QColor("#202020"), 1))
        painter.setBrush(QColor("#111111" if which == 0 else "#ffffff"))
        bottom = area.bottom()
        painter.drawPolygon(
            QPolygonF([QPointF(x, bottom - 4), QPointF(x - _GRIP, bottom + 9), QPointF(x + _GRIP, bottom + 9)])
        )
        painter.setPen(QPen(QColor("#c8c8c8"), 1))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.drawPolygon(
            QPolygonF([QPointF(x, bottom - 4), QPointF(x - _GRIP, bottom + 9), QPointF(x + _GRIP, bottom + 9)])
        )


def _outline(counts: NDArray[np.int64], area: QRectF) -> list[QPointF]:
    heights = np.log1p(counts.astype(np.float64))
    heights /= max(float(heights.max()), 1e-9)
    xs = np.linspace(area.left(), area.right(), len(counts))
    ys = area.bottom() - heights * (area.height() - 2)
    return [QPointF(float(x), float(y)) for x, y in zip(xs, ys, strict=True)]
