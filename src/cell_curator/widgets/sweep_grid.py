"""The tiles of a contact sheet: drawn as they come, always fitting; a click or Enter chooses one.

Two parameters make rows and columns, a third makes sheets of which one is shown. One parameter
alone, and the order by score, make a flow of tiles with their values below. It draws and tells;
what is computed and what a choice means is the window's business.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from qtpy.QtCore import QEvent, QRect, QSize, Qt, QTimer, Signal
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPen, QPixmap
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from cell_curator.core.recipe import Recipe
from cell_curator.core.sweep import Tile, merit, ranked
from cell_curator.widgets import style
from cell_curator.widgets.sweep_layout import GAP, Axis, Index, Layout, fitted, flowing, header_room, in_rows
from cell_curator.widgets.sweep_paint import badge, draw_bold, frame, rendered, to_pixmap

_TEXT = {"light": "#20242b"}
_TEXT_DARK = "#e8eaee"
_REST_MS = 90  # after the window's size changed, until tiles are scaled smoothly
_EMPTY = "Choose one to three parameters above, then press “Make the sheet”.\nEvery tile shows the part in view."


class SheetView(QWidget):
    """Shows the tiles of one sheet."""

    chosen = Signal(object)
    """The `Tile` that was clicked."""
    pointed = Signal(str)
    """All values of the tile under the mouse or the cursor, or ''."""

    def __init__(self) -> None:
        super().__init__()
        self._axes: tuple[Axis, ...] = ()
        self._tiles: dict[Index, Tile] = {}
        self._pictures: dict[Index, QPixmap] = {}
        self._scaled: dict[Index, QPixmap] = {}
        self._layout = Layout()
        self._present: Recipe | None = None
        self._best: tuple[Index, ...] = ()
        self._aspect = 1.0
        self._sheet = 0
        self._by_score, self._outlines = False, True
        self._hover: Index | None = None
        self._cursor: Index | None = None
        self._large = False  # the tile pointed at fills the view
        self._theme = "dark"
        self._rest = QTimer(self)
        self._rest.setSingleShot(True)
        self._rest.setInterval(_REST_MS)
        self._rest.timeout.connect(self._redraw)
        self.setMouseTracking(True)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.setMinimumSize(360, 240)

    # ------------------------------------------------------------------ what the window says

    def begin(self, axes: Sequence[Axis], aspect: float) -> None:
        """An empty sheet; ``axes`` from slow to fast, ``aspect`` is width over height of a tile."""
        self._axes, self._aspect = tuple(axes), aspect
        self._tiles.clear()
        self._pictures.clear()
        self._scaled.clear()
        self._best, self._hover, self._cursor = (), None, None
        self._sheet, self._by_score, self._large = 0, False, False
        self._relay()
        self.pointed.emit("")

    def add(self, tile: Tile) -> None:
        """Show a tile, or the same tile with its score."""
        if tile.index not in self._pictures:
            self._pictures[tile.index] = to_pixmap(tile.image)
        self._tiles[tile.index] = tile
        self._scaled.pop(tile.index, None)
        top = ranked([*self._tiles.values()])[0]
        alike = [other.index for other in self._tiles.values() if merit(other) == merit(top)]
        best = () if math.isnan(top.score) else tuple(alike)
        if self._by_score or best != self._best:
            self._best = best
            self._relay()
        elif tile.index in self._layout.slots:
            self.update(self._layout.slots[tile.index].adjusted(-GAP, -GAP, GAP, GAP))

    def show_present(self, recipe: Recipe | None) -> None:
        """Mark the tile of this recipe."""
        self._present = recipe
        self.update()

    def show_sheet(self, index: int) -> None:
        """Show the tiles of another value of the third parameter."""
        self._sheet = index
        self._relay()

    def order_by_score(self, on: bool) -> None:
        """Best first, or by their values."""
        self._by_score = on
        self._relay()

    def show_outlines(self, on: bool) -> None:
        """Draw round the cells that were found."""
        self._outlines = on
        self._redraw()

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self._theme = theme
        self.update()

    @property
    def tiles(self) -> tuple[Tile, ...]:
        """The tiles so far, in the order shown."""
        return tuple(self._tiles[index] for index in self._layout.order if index in self._tiles)

    @property
    def best(self) -> tuple[Tile, ...]:
        """The tiles that share the highest score; none without scores."""
        return tuple(self._tiles[index] for index in self._best)

    def place_of(self, tile: Tile) -> QRect:
        """Where a tile is drawn; empty while another sheet is shown."""
        return QRect(self._layout.slots.get(tile.index, QRect()))

    def describe(self, index: Index, separator: str = ",  ") -> str:
        """All values of a tile, its score and rank."""
        parts = [f"{axis.parameter.title}: {axis.parameter.say(axis.values[at])}" for axis, at in self._named(index)]
        tile = self._tiles.get(index)
        if tile is not None and not math.isnan(tile.score):
            scored = [other for other in self._tiles.values() if not math.isnan(other.score)]
            rank = 1 + sum(merit(other) > merit(tile) for other in self._tiles.values())
            parts.append(f"AP {tile.score:.2f}, rank {rank} of {len(scored)}")
            if tile.surplus:
                parts.append(f"{tile.surplus} found where no cell is labelled")
        return separator.join(parts)

    # ------------------------------------------------------------------ layout

    def _named(self, index: Index) -> list[tuple[Axis, int]]:
        """Axes with places, in the order of the window: across, down, sheets."""
        return list(zip(self._axes, index, strict=True))[::-1]

    @property
    def _flows(self) -> bool:
        return self._by_score or len(self._axes) == 1

    def _relay(self, *, smooth: bool = True) -> None:
        """Lay out all tiles anew."""
        metrics = QFontMetrics(self.font())
        if not self._axes:
            self._layout = Layout()
        elif self._flows:
            indices = self._ordered()
            widest = max(metrics.horizontalAdvance(self._caption(index)) for index in indices) + 6
            self._layout = flowing(indices, widest, self.size(), self._aspect, metrics)
        else:
            self._layout = in_rows(self._axes, self._sheet, self.size(), self._aspect, metrics)
        if not smooth:
            self._rest.start()
        self.update()

    def _redraw(self) -> None:
        self._scaled.clear()
        self.update()

    def _ordered(self) -> list[Index]:
        """All tiles in the order in which they flow; those to come last."""
        indices = list(np.ndindex(*(len(axis.values) for axis in self._axes)))
        if not self._by_score:
            return indices
        best = [tile.index for tile in ranked([self._tiles[index] for index in indices if index in self._tiles])]
        return best + [index for index in indices if index not in self._tiles]

    def _caption(self, index: Index) -> str:
        return ",  ".join(axis.parameter.say(axis.values[at]) for axis, at in self._named(index))

    # ------------------------------------------------------------------ drawing

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Draw what lies in the part that changed."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = QColor(_TEXT.get(self._theme, _TEXT_DARK))
        painter.setPen(text)
        if not self._axes:
            painter.drawText(self.rect(), int(Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap), _EMPTY)
            return
        if self._large and (index := self._pointed) in self._tiles:
            self._draw_large(painter, index)
            return
        if self._flows:
            names = ",  ".join(axis.parameter.title for axis in reversed(self._axes))
            draw_bold(painter, QRect(0, 0, self.width(), painter.fontMetrics().height() + 2), names)
        else:
            self._draw_headers(painter, text)
        for index, slot in self._layout.slots.items():
            if event.rect().intersects(slot.adjusted(-GAP, -GAP, GAP, 3 * GAP + 12)):
                self._draw_tile(painter, index, slot, text)

    def _draw_tile(self, painter: QPainter, index: Index, slot: QRect, text: QColor) -> None:
        colors = style.colors(self._theme)
        tile = self._tiles.get(index)
        if tile is None:
            painter.setPen(QPen(QColor(colors["line"]), 1))
            painter.setBrush(QColor(colors["panel"]))
            painter.drawRect(slot.adjusted(0, 0, -1, -1))
        else:
            painter.drawPixmap(slot.topLeft(), self._picture(index, slot.size()))
        painter.setBrush(Qt.BrushStyle.NoBrush)
        used, best = tile is not None and tile.recipe == self._present, index in self._best
        if index in (self._hover, self._cursor if self.hasFocus() else None):
            frame(painter, slot, text, 2, outside=4 if used or best else 2)
        if best:
            frame(painter, slot, QColor(colors["good"]), 3, outside=1)
        if used:
            frame(painter, slot, QColor(style.PRIMARY), 3, outside=-2 if best else 1)
            badge(painter, slot, ("in use", "✓"), QColor(style.PRIMARY), QColor("white"), top=True)
        if tile is not None and not math.isnan(tile.score):
            score = f"{tile.score:.2f}"
            if best:
                words = (f"best · AP {score}", f"AP {score}", score)
                badge(painter, slot, words, QColor("#5fd3a9"), QColor("#06281d"))
            else:
                badge(painter, slot, (f"AP {score}", score), QColor(0, 0, 0, 190), QColor("white"))
        if self._flows:
            painter.setPen(text)
            below = QRect(slot.left() - 200, slot.bottom() + 5, slot.width() + 400, painter.fontMetrics().height() + 2)
            painter.drawText(below, int(Qt.AlignmentFlag.AlignHCenter), self._caption(index))

    def _draw_large(self, painter: QPainter, index: Index) -> None:
        slot = fitted(self._aspect, self.size())
        painter.drawPixmap(slot.topLeft(), self._drawn(index, slot.size()))
        badge(painter, slot, (self.describe(index), self._caption(index)), QColor(0, 0, 0, 190), QColor("white"))

    def _draw_headers(self, painter: QPainter, text: QColor) -> None:
        metrics = painter.fontMetrics()
        first, last = self._layout.slots[self._layout.order[0]], self._layout.slots[self._layout.order[-1]]
        across, down = self._axes[-1], self._axes[-2]
        middle = (first.left() + last.right()) // 2
        title = QRect(middle - self.width(), 0, 2 * self.width(), metrics.height() + 2)
        draw_bold(painter, title, f"{across.parameter.title_with_unit}  →")
        painter.save()
        painter.translate(first.left() - header_room(self._axes, metrics)[0], (first.top() + last.bottom()) // 2)
        painter.rotate(-90)
        along = QRect(-self.height(), 0, 2 * self.height(), metrics.height() + 2)
        draw_bold(painter, along, f"←  {down.parameter.title_with_unit}")
        painter.restore()
        painter.setPen(QColor(style.colors(self._theme)["quiet"]))
        names = [across.parameter.say(value, unit=False) for value in across.values]
        every = math.ceil((max(map(metrics.horizontalAdvance, names)) + 4) / (first.width() + GAP))
        for column in range(0, len(names), every):
            slot = self._layout.slots[self._layout.order[column]]
            box = QRect(slot.center().x() - 100, metrics.height() + 6, 200, metrics.height() + 2)
            painter.drawText(box, int(Qt.AlignmentFlag.AlignHCenter), names[column])
        every = math.ceil(metrics.height() / (first.height() + GAP))
        for row in range(0, len(down.values), every):
            slot = self._layout.slots[self._layout.order[row * self._layout.columns]]
            box = QRect(0, slot.center().y() - metrics.height(), slot.left() - 8, 2 * metrics.height())
            flags = Qt.AlignmentFlag.AlignRight | Qt.AlignmentFlag.AlignVCenter
            painter.drawText(box, int(flags), down.parameter.say(down.values[row], unit=False))
        painter.setPen(text)

    def _picture(self, index: Index, size: QSize) -> QPixmap:
        """The tile at this size, kept until it changes: drawing a hundred anew takes 150 ms."""
        if index not in self._scaled or self._scaled[index].size() != size:
            self._scaled[index] = self._drawn(index, size)
        return self._scaled[index]

    def _drawn(self, index: Index, size: QSize) -> QPixmap:
        """The tile with the cells found in it."""
        found = getattr(self._tiles[index], "found", None) if self._outlines else None
        return rendered(self._pictures[index], found, size, smooth=not self._rest.isActive())

    # ------------------------------------------------------------------ mouse and keys

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Tiles always fit."""
        super().resizeEvent(event)
        self._relay(smooth=False)

    def mouseMoveEvent(self, event: Any) -> None:  # noqa: N802
        """Say what lies under the mouse."""
        self._point(self._at(event.position().toPoint()))

    def leaveEvent(self, event: Any) -> None:  # noqa: N802
        """Nothing lies under the mouse."""
        self._point(None)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """The right button shows the tile under it large."""
        self._point(self._at(event.position().toPoint()))  # the mouse may have come here without a move
        self._show_large(event.button() == Qt.MouseButton.RightButton)

    def mouseReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """Choose the tile under the mouse."""
        self._show_large(False)
        index = self._at(event.position().toPoint())
        if event.button() == Qt.MouseButton.LeftButton and index in self._tiles:
            self._cursor = index
            self._choose(index)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Arrows move, Enter chooses."""
        by = {
            Qt.Key.Key_Left: -1,
            Qt.Key.Key_Right: 1,
            Qt.Key.Key_Up: -self._layout.columns,
            Qt.Key.Key_Down: self._layout.columns,
        }.get(event.key())
        if by is not None and self._layout.order:
            self._move(by)
        elif event.key() in (Qt.Key.Key_Return, Qt.Key.Key_Enter) and self._cursor in self._tiles:
            self._choose(self._cursor)
        elif event.key() == Qt.Key.Key_Space:
            self._show_large(True)
        else:
            super().keyPressEvent(event)

    def keyReleaseEvent(self, event: Any) -> None:  # noqa: N802
        """Space was let go."""
        if event.key() == Qt.Key.Key_Space:
            if not event.isAutoRepeat():
                self._show_large(False)
        else:
            super().keyReleaseEvent(event)

    def event(self, event: Any) -> bool:
        """All values of a tile as its tooltip."""
        if event.type() == QEvent.Type.ToolTip:
            index = self._at(event.pos())
            if index is None:
                QToolTip.hideText()
            else:
                QToolTip.showText(event.globalPos(), self.describe(index, "\n"), self, self._layout.slots[index])
            return True
        return bool(super().event(event))

    def focusInEvent(self, event: Any) -> None:  # noqa: N802
        """The cursor is seen."""
        super().focusInEvent(event)
        self.update()

    def focusOutEvent(self, event: Any) -> None:  # noqa: N802
        """The cursor is not seen."""
        super().focusOutEvent(event)
        self._large = False
        self.update()

    def _move(self, by: int) -> None:
        if self._cursor not in self._layout.order:
            used = [tile.index for tile in self.tiles if tile.recipe == self._present]
            self._cursor = used[0] if used else self._layout.order[0]
        else:
            at = self._layout.order.index(self._cursor)
            same_row = at // self._layout.columns == (at + by) // self._layout.columns
            if 0 <= at + by < len(self._layout.order) and (abs(by) != 1 or self._layout.columns == 1 or same_row):
                self._cursor = self._layout.order[at + by]
        self._hover = None
        self.pointed.emit(self.describe(self._cursor))
        self.update()

    @property
    def _pointed(self) -> Index | None:
        """The tile under the mouse, else that under the cursor."""
        return self._cursor if self._hover is None else self._hover

    def _show_large(self, on: bool) -> None:
        if on != self._large:
            self._large = on
            self.update()

    def _choose(self, index: Index) -> None:
        tile = self._tiles[index]
        self.show_present(tile.recipe)
        self.chosen.emit(tile)

    def _at(self, point: Any) -> Index | None:
        return next((index for index, slot in self._layout.slots.items() if slot.contains(point)), None)

    def _point(self, index: Index | None) -> None:
        if index == self._hover:
            return
        for changed in (self._hover, index):
            if changed in self._layout.slots:
                self.update(self._layout.slots[changed].adjusted(-GAP, -GAP, GAP, GAP))
        self._hover = index
        if self._large:
            self.update()
        self.setCursor(Qt.CursorShape.PointingHandCursor if index in self._tiles else Qt.CursorShape.ArrowCursor)
        self.pointed.emit("" if index is None else self.describe(index))
