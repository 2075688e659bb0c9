"""Handles that lie on the canvas: the swipe between raw and prepared, and the knob that turns the image.

They are small Qt widgets on top of napari's canvas, so that dragging them neither pans nor paints. They
say where they were dragged; what that means is the dock's business.
"""

from __future__ import annotations

import math
from typing import Any

from qtpy.QtCore import QEvent, QObject, QPointF, QRect, QRectF, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPainterPath, QPen, QRegion
from qtpy.QtWidgets import QWidget

from cell_curator.widgets import style

_LINE = 3
_KNOB = 30
_TURN_KNOB = 40
_RADIUS = 0.42  # of the canvas's shorter side: how far the turning knob is from the middle


def canvas_of(viewer: Any) -> QWidget | None:
    """The widget that napari draws on, or None in a viewer without one."""
    window = getattr(getattr(viewer, "window", None), "_qt_viewer", None)
    return getattr(getattr(window, "canvas", None), "native", None)


class _OnCanvas(QWidget):
    """Follows the size of the canvas."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        canvas.installEventFilter(self)
        self.hide()

    def eventFilter(self, watched: QObject, event: QEvent) -> bool:  # noqa: N802
        """Notice that the canvas was resized."""
        if event.type() == QEvent.Type.Resize:
            self.place()
        return False

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Come to the right place before being seen."""
        super().showEvent(event)
        self.place()
        self.raise_()

    def place(self) -> None:
        """Take the place on the canvas."""


class SwipeHandle(_OnCanvas):
    """A line from top to bottom: raw image to the left of it, prepared image to the right."""

    moved = Signal(float)
    """Where the line is now, as a part of the canvas's width."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.at = 0.5
        self.setCursor(Qt.CursorShape.SplitHCursor)
        self.setToolTip("Drag: raw image to the left, prepared image to the right (W)")

    def place(self) -> None:
        """Stand where the line is."""
        canvas = self.parentWidget()
        self.setGeometry(round(self.at * canvas.width()) - _KNOB // 2, 0, _KNOB, canvas.height())
        middle = self._knob()
        line = QRect((_KNOB - _LINE) // 2 - 2, 0, _LINE + 4, canvas.height())
        self.setMask(QRegion(middle, QRegion.RegionType.Ellipse).united(QRegion(line)))

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Follow the mouse."""
        if event.buttons() & Qt.MouseButton.LeftButton:
            canvas = self.parentWidget()
            x = self.mapToParent(event.position().toPoint()).x()
            self.at = min(max(x / max(canvas.width(), 1), 0.0), 1.0)
            self.place()
            self.moved.emit(self.at)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Take hold; without this the canvas would pan."""
        event.accept()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """The line, and a knob with two arrows."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        x = _KNOB / 2
        painter.fillRect(QRectF(x - _LINE / 2 - 1, 0, _LINE + 2, self.height()), QColor(0, 0, 0, 150))
        painter.fillRect(QRectF(x - _LINE / 2 + 0.5, 0, _LINE - 1, self.height()), QColor("white"))
        knob = QRectF(self._knob()).adjusted(1, 1, -1, -1)
        painter.setPen(QPen(QColor("white"), 2))
        painter.setBrush(QColor(style.PRIMARY))
        painter.drawEllipse(knob)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor("white"))
        y = knob.center().y()
        for side in (-1, 1):
            arrow = QPainterPath(QPointF(x + side * 10, y))
            arrow.lineTo(x + side * 4, y - 5)
            arrow.lineTo(x + side * 4, y + 5)
            arrow.closeSubpath()
            painter.drawPath(arrow)

    def _knob(self) -> QRect:
        return QRect(0, self.parentWidget().height() // 2 - _KNOB // 2, _KNOB, _KNOB)


class TurnHandle(_OnCanvas):
    """A knob at the top of the canvas. Dragged, it lays a line through the middle, which is put along a groove."""

    turned = Signal(float)
    """The hand let go: turn by so many degrees, counter-clockwise."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self._guide = _Guide(canvas)
        self._lean = 0.0  # degrees clockwise from upright
        self.setCursor(Qt.CursorShape.OpenHandCursor)
        self.setToolTip(
            "Turn by hand: drag until the line lies along a groove or fibre, and let go; the image turns so that"
            " it stands upright"
        )

    @property
    def guide(self) -> QWidget:
        """The line that is shown while the knob is held."""
        return self._guide

    def place(self) -> None:
        """Stand at the end of the line."""
        canvas = self.parentWidget()
        end = self._end(self._lean)
        self.setGeometry(round(end.x() - _TURN_KNOB / 2), round(end.y() - _TURN_KNOB / 2), _TURN_KNOB, _TURN_KNOB)
        self._guide.setGeometry(0, 0, canvas.width(), canvas.height())

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Show the line."""
        event.accept()
        self.setCursor(Qt.CursorShape.ClosedHandCursor)
        self._guide.lay(self._end(0), 0.0)
        self._guide.show()
        self.raise_()

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Follow the mouse round the middle."""
        if not event.buttons() & Qt.MouseButton.LeftButton:
            return
        canvas = self.parentWidget()
        spot = self.mapToParent(event.position().toPoint())
        x, y = spot.x() - canvas.width() / 2, spot.y() - canvas.height() / 2
        self._lean = math.degrees(math.atan2(x, -y))
        self.place()
        self._guide.lay(self._end(self._lean), self._lean)

    def mouseReleaseEvent(self, _event: Any) -> None:  # noqa: N802
        """Say by how much, and go back to the top."""
        lean, self._lean = self._lean, 0.0
        self._guide.hide()
        self.setCursor(Qt.CursorShape.OpenHandCursor)
        self.place()
        if lean:
            self.turned.emit(lean)

    def hideEvent(self, event: Any) -> None:  # noqa: N802
        """The line goes with the knob."""
        self._guide.hide()
        super().hideEvent(event)

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """A round arrow."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        disk = QRectF(2, 2, _TURN_KNOB - 4, _TURN_KNOB - 4)
        painter.setPen(QPen(QColor("white"), 2))
        painter.setBrush(QColor(style.PRIMARY))
        painter.drawEllipse(disk)
        painter.setBrush(Qt.BrushStyle.NoBrush)
        painter.setPen(QPen(QColor("white"), 2.4))
        arc = disk.adjusted(8, 8, -8, -8)
        painter.drawArc(arc, 40 * 16, 280 * 16)
        tip = QPointF(arc.center().x() + arc.width() / 2 * 0.77, arc.center().y() - arc.height() / 2 * 0.64)
        painter.setBrush(QColor("white"))
        painter.setPen(Qt.PenStyle.NoPen)
        head = QPainterPath(tip + QPointF(4.5, 3.5))
        head.lineTo(tip + QPointF(-4.5, 2.5))
        head.lineTo(tip + QPointF(3.5, -5.5))
        head.closeSubpath()
        painter.drawPath(head)

    def _end(self, lean_deg: float) -> QPointF:
        canvas = self.parentWidget()
        radius = _RADIUS * min(canvas.width(), canvas.height())
        angle = math.radians(lean_deg)
        return QPointF(canvas.width() / 2 + radius * math.sin(angle), canvas.height() / 2 - radius * math.cos(angle))


class _Guide(QWidget):
    """The line through the middle of the canvas, with the angle beside it. The mouse goes through it."""

    def __init__(self, canvas: QWidget) -> None:
        super().__init__(canvas)
        self.setAttribute(Qt.WidgetAttribute.WA_TransparentForMouseEvents)
        self._end, self._lean = QPointF(), 0.0
        self.hide()

    def lay(self, end: QPointF, lean_deg: float) -> None:
        """Lay the line from ``end`` through the middle."""
        self._end, self._lean = end, lean_deg
        self.update()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Line and angle."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        middle = QPointF(self.width() / 2, self.height() / 2)
        reach = (
            2
            * max(self.width(), self.height())
            * (self._end - middle)
            / math.hypot(*((self._end - middle).x() or 1e-6, (self._end - middle).y() or 1e-6))
        )
        for color, width in ((QColor(0, 0, 0, 160), 4), (QColor("#ffd400"), 2)):
            painter.setPen(QPen(color, width))
            painter.drawLine(middle - reach, middle + reach)
        words = QRectF(self._end.x() + 26, self._end.y() - 12, 76, 24)
        painter.setPen(Qt.PenStyle.NoPen)
        painter.setBrush(QColor(0, 0, 0, 190))
        painter.drawRoundedRect(words, 5, 5)
        painter.setPen(QColor("white"))
        painter.drawText(words, Qt.AlignmentFlag.AlignCenter, f"{self._lean:+.1f}°")
