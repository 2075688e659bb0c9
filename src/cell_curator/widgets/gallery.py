"""Cells as a list of pictures: only what is in view is drawn and computed.

`CellList` holds cell ids in an order; pictures come from a background thread, image by image.
What is in the list, and what a click means, is the dock's business.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QAbstractListModel, QModelIndex, QRect, QSize, Qt, QTimer
from qtpy.QtGui import QColor, QFontMetrics, QPainter, QPalette, QPixmap
from qtpy.QtWidgets import QStyle, QStyledItemDelegate, QStyleOptionViewItem

from cell_curator.core.colors import VERDICT_COLORS
from cell_curator.core.patches import patch_thumbnail
from cell_curator.widgets.images_model import blank, to_pixmap
from cell_curator.widgets.runner import Background

if TYPE_CHECKING:
    from cell_curator.session import Session

PICTURE = 64
_BATCH = 32
_KEPT = 2000

CELL_ROLE = Qt.ItemDataRole.UserRole
ROW_ROLE = Qt.ItemDataRole.UserRole + 1


class CellList(QAbstractListModel):
    """Cells in a fixed order."""

    def __init__(self, background: Background) -> None:
        super().__init__()
        self._background = background
        self._session: Session | None = None
        self._ids: list[int] = []
        self._places: dict[int, int] = {}
        self._pictures: dict[tuple[int, int], QPixmap] = {}
        self._asked: dict[int, int] = {}
        self._blank = blank(PICTURE)
        self._timer = QTimer(self)
        self._timer.setSingleShot(True)
        self._timer.setInterval(15)
        self._timer.timeout.connect(self._ask)

    def show_cells(self, session: Session | None, ids: Sequence[int]) -> None:
        """List these cells of this session."""
        self.beginResetModel()
        if session is not self._session:
            self._pictures.clear()
        self._session = session
        self._asked.clear()
        self._ids = [int(i) for i in ids]
        self._places = {cell: place for place, cell in enumerate(self._ids)}
        self.endResetModel()

    @property
    def cell_ids(self) -> list[int]:
        """The cells in the order shown."""
        return self._ids

    def place_of(self, cell_id: int) -> int | None:
        """The place of a cell in the list."""
        return self._places.get(cell_id)

    def refresh(self) -> None:
        """Rows changed in the table of cells: draw again; cells that are gone leave the list."""
        session = self._session
        if session is None:
            return
        if any(cell not in session.cells for cell in self._ids):
            self.show_cells(session, [cell for cell in self._ids if cell in session.cells])
        elif self._ids:
            self.dataChanged.emit(self.index(0), self.index(len(self._ids) - 1))

    def forget_pictures(self) -> None:
        """The recipe changed: every picture is made anew."""
        self._pictures.clear()
        self.refresh()

    def rowCount(self, parent: QModelIndex | None = None) -> int:  # noqa: N802
        """Number of cells."""
        return 0 if parent is not None and parent.isValid() else len(self._ids)

    def data(self, index: QModelIndex, role: int = Qt.ItemDataRole.DisplayRole) -> Any:
        """Cell id, table row, picture or the reasons in full."""
        session = self._session
        if session is None or not index.isValid():
            return None
        cell = self._ids[index.row()]
        if cell not in session.cells:
            return None
        if role == CELL_ROLE:
            return cell
        if role == ROW_ROLE:
            return session.row(cell)
        if role == Qt.ItemDataRole.DecorationRole:
            return self._picture(cell)
        if role == Qt.ItemDataRole.ToolTipRole:
            row = session.row(cell)
            return "\n".join([f"Cell {cell}, {row['verdict']}", *str(row["flags"]).split("; ")]).strip()
        if role == Qt.ItemDataRole.DisplayRole:
            return f"Cell {cell}"
        return None

    def _picture(self, cell: int) -> QPixmap:
        row = self._session.row(cell)  # type: ignore[union-attr]
        key = (cell, int(row["revision"]))
        if key not in self._pictures:
            self._asked[cell] = int(row["image"])
            self._timer.start()
            return self._blank
        return self._pictures[key]

    def _ask(self) -> None:
        """Have the pictures made that were asked for, those of one image at a time."""
        session = self._session
        if session is None or not self._asked:
            return
        image_id = next(reversed(self._asked.values()))
        cells = [cell for cell, image in self._asked.items() if image == image_id][-_BATCH:]
        for cell in cells:
            del self._asked[cell]
        self._background(lambda: draw_cells(session, image_id, cells), self._made)
        if self._asked:
            self._timer.start()

    def _made(self, pictures: dict[tuple[int, int], NDArray[np.uint8]]) -> None:
        while len(self._pictures) > _KEPT:
            del self._pictures[next(iter(self._pictures))]
        for key, picture in pictures.items():
            self._pictures[key] = to_pixmap(picture)
            place = self._places.get(key[0])
            if place is not None:
                self.dataChanged.emit(self.index(place), self.index(place), [Qt.ItemDataRole.DecorationRole])


def draw_cells(
    session: Session, image_id: int, cells: Sequence[int], size: int = PICTURE
) -> dict[tuple[int, int], NDArray[np.uint8]]:
    """Pictures of cells of one image, by (cell id, revision). May be called from any thread."""
    image, labels, table = session.prepared(image_id), session.labels(image_id), session.cells
    pictures = {}
    for cell in cells:
        if cell not in table:
            continue
        row = table.frame.loc[cell]
        box = (int(row["top"]), int(row["left"]), int(row["bottom"]), int(row["right"]))
        picture = patch_thumbnail(image, labels, box, size, label=int(row["label"]), limits=(0.0, 1.0), margin=6)
        pictures[(cell, int(row["revision"]))] = picture
    return pictures


class CellDelegate(QStyledItemDelegate):
    """Draws a cell: its verdict as a coloured bar, its picture, its number and why it is suspicious."""

    def sizeHint(self, option: QStyleOptionViewItem, index: QModelIndex) -> QSize:  # noqa: N802
        """One row."""
        return QSize(200, PICTURE + 10)

    def paint(self, painter: QPainter, option: QStyleOptionViewItem, index: QModelIndex) -> None:
        """Draw one row."""
        row = index.data(ROW_ROLE)
        if row is None:
            return
        painter.save()
        chosen = bool(option.state & QStyle.StateFlag.State_Selected)
        palette = option.palette
        if chosen:
            painter.fillRect(option.rect, QColor(0, 114, 178))
        text = QColor("white") if chosen else palette.color(QPalette.ColorRole.Text)
        area = option.rect.adjusted(0, 5, -6, -5)
        painter.fillRect(QRect(area.left(), area.top(), 5, PICTURE), QColor.fromRgbF(*VERDICT_COLORS[row["verdict"]]))
        painter.drawPixmap(area.left() + 9, area.top(), index.data(Qt.ItemDataRole.DecorationRole))
        left = area.left() + PICTURE + 18
        width = area.right() - left
        metrics = QFontMetrics(option.font)
        head = f"Cell {index.data(CELL_ROLE)}"
        painter.setPen(text)
        bold = option.font
        bold.setBold(True)
        painter.setFont(bold)
        painter.drawText(left, area.top() + metrics.ascent(), head)
        bold.setBold(False)
        painter.setFont(bold)
        verdict = str(row["verdict"])
        painter.drawText(
            QRect(left, area.top(), width, metrics.height()),
            int(Qt.AlignmentFlag.AlignRight),
            verdict if verdict != "proposed" else _score(row["score"]),
        )
        reasons = str(row["flags"]).replace("; ", "\n") or "nothing suspicious"
        box = QRect(left, area.top() + metrics.height() + 1, width, area.height() - metrics.height() - 1)
        text.setAlpha(215)
        painter.setPen(text)
        painter.drawText(box, 0, _fit(reasons, metrics, width, box.height()))
        painter.restore()


def _score(score: float) -> str:
    return "" if score != score else f"{round(100 * score)} % suspicious"


def _fit(text: str, metrics: QFontMetrics, width: int, height: int) -> str:
    """As many whole lines as there is room for; the last one says that there is more."""
    lines = text.split("\n")
    room = max(1, height // metrics.lineSpacing())
    more = f" +{len(lines) - room} more" if len(lines) > room else ""
    short = [metrics.elidedText(line, Qt.TextElideMode.ElideRight, width) for line in lines[:room]]
    if more:
        left = width - metrics.horizontalAdvance(more)
        short[-1] = metrics.elidedText(lines[room - 1], Qt.TextElideMode.ElideRight, left) + more
    return "\n".join(short)
