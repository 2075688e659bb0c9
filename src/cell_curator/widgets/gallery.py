"""Cells as a grid of pictures: only what is in view is computed and drawn.

`CellList` holds cells in an order, `Gallery` shows them; several galleries may show one list. What is in the
list, and what a click means, is the dock's business. Which cells are chosen is the session's `Selection`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QObject, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPen
from qtpy.QtWidgets import QAbstractScrollArea, QSizePolicy, QToolTip

from cell_curator.core.cells import VERDICTS
from cell_curator.core.colors import VERDICT_COLORS
from cell_curator.link.colors import SELECTED
from cell_curator.widgets.gallery_pictures import Look, Pictures
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

_GAP = 3  # px on each side of a picture
_BAR = 4  # px of the bar in the colour of the verdict
_EMPTY, _FAINT = QColor(70, 74, 84), QColor(200, 204, 212)
_NO_IMAGE, _ROOM = "image cannot be read", 48


class CellList(QObject):
    """Cells in a fixed order, one of them the current one; cells that go leave the list."""

    changed = Signal()
    """Other cells, or other values of theirs."""
    moved = Signal()
    """Another current cell."""

    def __init__(self) -> None:
        super().__init__()
        self.session: Session | None = None
        self.ids: NDArray[np.int64] = np.empty(0, np.int64)
        self.current: int | None = None
        self._order: NDArray[np.intp] = np.empty(0, np.intp)
        self._listed: NDArray[np.int64] | None = None
        self._index: pd.Index[int] | None = None
        self._at: NDArray[np.intp] = np.empty(0, np.intp)  # places of the cells in the table of `_index`
        self._take()

    def show_cells(self, session: Session | None, ids: Sequence[int] | NDArray[np.int64]) -> None:
        """List these cells of this session."""
        self.session = session
        self.ids = np.asarray(ids, np.int64)
        self._take()
        if self.current is not None and self.place_of(self.current) is None:
            self.current = None
        self.changed.emit()

    def refresh(self) -> None:
        """Rows of the table of cells changed."""
        if self.session is not None:
            index = self.session.cells.frame.index
            gone = index is not self._index and not (index.get_indexer(self.ids) >= 0).all()
            self.show_cells(self.session, self.ids[np.isin(self.ids, index.to_numpy())] if gone else self.ids)

    @property
    def cell_ids(self) -> list[int]:
        """The cells in the order shown."""
        return [int(cell) for cell in self.ids]

    def __len__(self) -> int:
        return len(self.ids)

    def place_of(self, cell: int) -> int | None:
        """The place of a cell in the list."""
        if not len(self.ids):
            return None
        found = int(np.searchsorted(self.ids, cell, sorter=self._order))
        place = int(self._order[min(found, len(self.ids) - 1)])
        return place if self.ids[place] == cell else None

    def go(self, place: int) -> int | None:
        """Make the cell at a place (the nearest there is) the current one."""
        if not len(self.ids):
            return None
        self.set_current(int(self.ids[min(max(place, 0), len(self.ids) - 1)]))
        return self.current

    def set_current(self, cell: int | None) -> None:
        """Make a cell of the list the current one."""
        if cell != self.current:
            self.current = cell
            self.moved.emit()

    @property
    def place(self) -> int:
        """The place of the current cell; -1 if there is none."""
        at = None if self.current is None else self.place_of(self.current)
        return -1 if at is None else at

    def decided(self) -> NDArray[np.bool_]:
        """Which cells of the list a person has decided on."""
        return self.verdict != VERDICTS.index("proposed")

    def about(self, place: int) -> str:
        """A cell, its verdict and what makes it suspicious, a line each."""
        row = self._row(place)
        score = "" if row["score"] != row["score"] else f", {round(100 * row['score'])} % suspicious"
        reasons = str(row["flags"]).split("; ") if row["flags"] else []
        return "\n".join([f"Cell {self.ids[place]}: {row['verdict']}{score}", *(f"• {why}" for why in reasons)])

    def _row(self, place: int) -> pd.Series[Any]:
        assert self.session is not None
        return self.session.row(int(self.ids[place]))

    def _take(self) -> None:
        """What drawing needs, as arrays: looking up rows one by one takes longer than drawing them."""
        same = self.ids is self._listed
        if not same:
            self._order, self._listed = np.argsort(self.ids, kind="stable"), self.ids
        if self.session is None or not len(self.ids):
            self.verdict = self.image = self.revision = np.empty(0, np.int64)
            return
        frame = self.session.cells.frame
        if not same or frame.index is not self._index:
            self._index, self._at = frame.index, frame.index.get_indexer(self.ids)
        self.image, self.revision = (frame[name].to_numpy()[self._at] for name in ("image", "revision"))
        place, known = pd.factorize(frame["verdict"].to_numpy()[self._at])
        self.verdict = np.array([VERDICTS.index(name) for name in known], np.int64)[place]


class Gallery(QAbstractScrollArea):
    """Pictures of the cells of a list, as many beside each other as fit."""

    clicked = Signal(int)
    """A cell was clicked without Shift and Ctrl."""
    failed = Signal(str)
    """Pictures cannot be made; one line for the user."""

    def __init__(self, model: CellList, background: Background, look: Look | None = None) -> None:
        super().__init__()
        self.model = model
        self.pictures = Pictures(background, look or Look())
        self.pictures.arrived.connect(self.viewport().update)
        self.pictures.failed.connect(self.failed)
        self._anchor = 0
        model.changed.connect(self._relist)
        model.moved.connect(self.show_current)
        self.setFocusPolicy(Qt.FocusPolicy.StrongFocus)
        self.setHorizontalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOff)
        self.setVerticalScrollBarPolicy(Qt.ScrollBarPolicy.ScrollBarAlwaysOn)  # else columns come and go with it
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Expanding)
        self.viewport().setMouseTracking(True)

    @property
    def look(self) -> Look:
        """How pictures are drawn."""
        return self.pictures.look

    def set_look(self, look: Look) -> None:
        """Draw them otherwise; the first cell in view stays in view."""
        first = self._first()
        self.pictures.set_look(look)
        self._fit()
        self.verticalScrollBar().setValue(first // self.columns * self.tile)
        self.viewport().update()

    @property
    def tile(self) -> int:
        """Edge of what a cell takes up, px."""
        return self.look.size + 2 * _GAP

    @property
    def columns(self) -> int:
        """Cells beside each other."""
        return max(1, self.viewport().width() // self.tile)

    @property
    def _pitch(self) -> int:
        """From one picture to the one beside it: they share the width evenly."""
        return max(self.tile, self.viewport().width() // self.columns)

    def cells_in_view(self) -> range:
        """Places of the cells that can be seen, if only in part."""
        top, height = self.verticalScrollBar().value(), self.viewport().height()
        first = top // self.tile * self.columns
        last = ((top + height - 1) // self.tile + 1) * self.columns
        return range(first, max(first, min(last, len(self.model))))

    def rect_of(self, place: int) -> QRect:
        """Where the picture at a place is, in px of the viewport."""
        row, column = divmod(place, self.columns)
        top = row * self.tile - self.verticalScrollBar().value()
        left = column * self._pitch + (self._pitch - self.look.size) // 2
        return QRect(left, top + _GAP, self.look.size, self.look.size)

    def place_at(self, spot: QPoint) -> int | None:
        """The place of the picture under a spot of the viewport."""
        column, row = spot.x() // self._pitch, (spot.y() + self.verticalScrollBar().value()) // self.tile
        place = int(row * self.columns + column)
        return place if column < self.columns and 0 <= place < len(self.model) else None

    def show_current(self) -> None:
        """Scroll as little as brings the current cell into view."""
        place = self.model.place
        if place >= 0:
            top, bar = place // self.columns * self.tile, self.verticalScrollBar()
            bar.setValue(min(max(bar.value(), top + self.tile - self.viewport().height()), top))
        self.viewport().update()

    def about(self, place: int) -> str:
        """What hovering says of the cell at a place."""
        problem = self.pictures.problem(int(self.model.image[place]))
        return "\n".join(filter(None, (self.model.about(place), problem)))

    def forget_pictures(self) -> None:
        """Every picture is made anew."""
        self.pictures.forget()
        self.viewport().update()

    def sizeHint(self) -> QSize:  # noqa: N802
        """Four pictures beside each other, three above each other."""
        return QSize(4 * self.tile + 24, 3 * self.tile)

    def minimumSizeHint(self) -> QSize:  # noqa: N802
        """Something can be seen."""
        return QSize(120, 150)

    def selectAll(self) -> None:  # noqa: N802
        """Choose all cells of the list."""
        self._choose(self.model.cell_ids)

    # ------------------------------------------------------------------ Qt

    def paintEvent(self, event: Any) -> None:  # noqa: N802
        """Draw what is in view, and ask for the pictures that are missing."""
        painter = QPainter(self.viewport())
        painter.setRenderHint(QPainter.RenderHint.SmoothPixmapTransform)
        model, session = self.model, self.model.session
        chosen = session.selection.ids if session is not None else frozenset()
        missing = []
        for place in self.cells_in_view():
            cell, revision = int(model.ids[place]), int(model.revision[place])
            picture = self.pictures.get(cell, revision)
            area = self.rect_of(place)
            if picture is not None:
                painter.drawPixmap(area, picture)
            else:
                painter.fillRect(area, _EMPTY)
                if self.pictures.problem(int(model.image[place])):
                    self._draw_problem(painter, area)
            if not self.pictures.is_new(cell, revision):
                missing.append((int(model.image[place]), cell))
            self._draw_state(painter, area, VERDICTS[int(model.verdict[place])])
            if cell in chosen:
                painter.setPen(QPen(QColor(SELECTED), 3))
                painter.drawRect(area.adjusted(-1, -1, 0, 0))
            if cell == model.current:
                painter.setPen(QPen(QColor("white"), 1))
                painter.drawRect(area.adjusted(1, 1, -2, -2))
        painter.end()
        self.pictures.want(session, missing)

    @staticmethod
    def _draw_problem(painter: QPainter, area: QRect) -> None:
        painter.setPen(_FAINT)
        flags = Qt.AlignmentFlag.AlignCenter | Qt.TextFlag.TextWordWrap
        painter.drawText(area.adjusted(2, 2, -2, -_BAR), int(flags), _NO_IMAGE if area.width() >= _ROOM else "?")

    @staticmethod
    def _draw_state(painter: QPainter, area: QRect, verdict: str) -> None:
        if verdict == "rejected":
            painter.fillRect(area, QColor(0, 0, 0, 130))
        bar = QRect(area.left(), area.bottom() - _BAR + 1, area.width(), _BAR)
        painter.fillRect(bar, QColor.fromRgbF(*VERDICT_COLORS[verdict]))

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Choose a cell; with Shift all up to it, with Ctrl it as well, or not any more."""
        place = self.place_at(event.position().toPoint())
        session = self.model.session
        if place is None or session is None or event.button() != Qt.MouseButton.LeftButton:
            return
        cell = int(self.model.ids[place])
        held = event.modifiers()
        if held & Qt.KeyboardModifier.ShiftModifier:
            low, high = sorted((min(self._anchor, len(self.model) - 1), place))
            self._choose(self.model.ids[low : high + 1].tolist())
            return
        self._anchor = place
        if held & Qt.KeyboardModifier.ControlModifier:
            self._choose(session.selection.ids ^ {cell})
            return
        self.model.set_current(cell)
        self._choose({cell})
        self.clicked.emit(cell)

    def keyPressEvent(self, event: Any) -> None:  # noqa: N802
        """Up and Down go a row on, Home and End to the ends, Ctrl+A chooses all."""
        steps = {Qt.Key.Key_Up: -self.columns, Qt.Key.Key_Down: self.columns}
        if event.key() in steps and len(self.model):
            cell = self.model.go(max(self.model.place, 0) + steps[event.key()])
            if cell is not None:
                self.clicked.emit(cell)
        elif event.key() == Qt.Key.Key_A and event.modifiers() & Qt.KeyboardModifier.ControlModifier:
            self.selectAll()
        else:
            super().keyPressEvent(event)

    def viewportEvent(self, event: Any) -> bool:  # noqa: N802
        """Say why the cell under the mouse is suspicious."""
        if event.type() == QEvent.Type.ToolTip:
            place = self.place_at(event.pos())
            QToolTip.showText(event.globalPos(), "" if place is None else self.about(place), self)
            return True
        return bool(super().viewportEvent(event))

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Other columns."""
        super().resizeEvent(event)
        self._fit()

    def scrollContentsBy(self, dx: int, dy: int) -> None:  # noqa: N802
        """Drawn anew from the pictures at hand, which is as fast as moving them."""
        self.viewport().update()

    # ------------------------------------------------------------------ inside

    def _first(self) -> int:
        return self.verticalScrollBar().value() // self.tile * self.columns

    def _relist(self) -> None:
        self._fit()
        self.viewport().update()

    def _fit(self) -> None:
        rows = -(-len(self.model) // self.columns)
        bar, height = self.verticalScrollBar(), self.viewport().height()
        bar.setRange(0, max(0, rows * self.tile - height))
        bar.setPageStep(height)
        bar.setSingleStep(max(1, self.tile // 2))

    def _choose(self, cells: Any) -> None:
        if self.model.session is not None:
            self.model.session.selection.set(cells)
