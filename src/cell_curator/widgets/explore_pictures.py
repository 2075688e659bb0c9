"""Rows of small pictures under a line of text each; a click on a cell's picture tells which cell it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from qtpy.QtCore import QEvent, QPoint, QRect, QSize, Qt, Signal
from qtpy.QtGui import QColor, QPainter, QPalette, QPixmap
from qtpy.QtWidgets import QSizePolicy, QToolTip, QWidget

from cell_curator.widgets.gallery_pictures import Look, draw_cells
from cell_curator.widgets.images_model import to_pixmap

if TYPE_CHECKING:
    from cell_curator.core.colors import RGB
    from cell_curator.session import Session

SIDE = 96
"""Edge of pictures as they are made; they are shown smaller."""

_GAP, _LINE, _SPOT = 3, 20, 10
_LARGEST = 76
_LOOK = Look(SIDE, outline=False, surroundings=False, shared_contrast=False)


@dataclass(frozen=True)
class PictureRow:
    """A line of text, with a spot of ``color`` if there is one, and pictures ``(Y, X, 3)`` uint8 below it.

    ``cells``: the cell of each picture, None for one that the network painted. ``marked``: pictures with a frame.
    ``says``: a word on each picture, shown when the mouse rests on it.
    """

    title: str
    pictures: tuple[NDArray[np.uint8], ...]
    cells: tuple[int | None, ...] = ()
    color: RGB | None = None
    marked: frozenset[int] = field(default=frozenset())
    says: tuple[str, ...] = ()


class PictureRows(QWidget):
    """As high as it needs to be; ``columns`` pictures beside each other, those of one row may take several lines."""

    clicked = Signal(int)

    def __init__(self, columns: int = 7) -> None:
        super().__init__()
        self.columns = columns
        self.rows: tuple[PictureRow, ...] = ()
        self._pixmaps: list[list[QPixmap]] = []
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_rows(self, rows: Sequence[PictureRow], columns: int = 7) -> None:
        """Show other rows."""
        self.rows, self.columns = tuple(rows), columns
        self._pixmaps = [[to_pixmap(picture) for picture in row.pictures] for row in rows]
        self._fit()

    @property
    def side(self) -> int:
        """Edge of a picture, px."""
        return max(min((self.width() - _GAP * (self.columns - 1)) // self.columns, _LARGEST), 16)

    def sizeHint(self) -> QSize:  # noqa: N802
        """High enough for all rows at the present width."""
        return QSize(280, sum(self._height(row) for row in self.rows))

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Pictures are as wide as fit."""
        super().resizeEvent(event)
        self._fit()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw text and pictures."""
        painter = QPainter(self)
        painter.setRenderHints(QPainter.RenderHint.Antialiasing | QPainter.RenderHint.SmoothPixmapTransform)
        text, top = self.palette().color(QPalette.ColorRole.WindowText), 0
        for row, pixmaps in zip(self.rows, self._pixmaps, strict=True):
            left = 0
            if row.color is not None:
                painter.setBrush(QColor.fromRgbF(*row.color))
                painter.setPen(QColor(128, 128, 128))
                painter.drawEllipse(0, top + 5, _SPOT, _SPOT)
                left = _SPOT + 5
            painter.setPen(text)
            said = self.fontMetrics().elidedText(row.title, Qt.TextElideMode.ElideRight, self.width() - left)
            painter.drawText(QRect(left, top, self.width() - left, _LINE), _MIDDLE, said)
            for place, pixmap in enumerate(pixmaps):
                area = self._area(place, top)
                painter.drawPixmap(area, pixmap)
                if place in row.marked:
                    painter.setBrush(Qt.BrushStyle.NoBrush)
                    painter.setPen(QColor("white"))
                    painter.drawRect(area.adjusted(0, 0, -1, -1))
            top += self._height(row)

    def mousePressEvent(self, event: Any) -> None:  # noqa: N802
        """Tell which cell was clicked."""
        cell = self.cell_at(event.position().toPoint())
        if cell is not None:
            self.clicked.emit(cell)

    def event(self, event: Any) -> bool:
        """Say which cell is under the mouse."""
        if event.type() == QEvent.Type.ToolTip:
            QToolTip.showText(event.globalPos(), self.word_at(event.pos()), self)
            return True
        return bool(super().event(event))

    def cell_at(self, spot: QPoint) -> int | None:
        """The cell whose picture is there."""
        row, place = self._picture_at(spot)
        return row.cells[place] if row is not None and place < len(row.cells) else None

    def word_at(self, spot: QPoint) -> str:
        """What is said of the picture that is there."""
        row, place = self._picture_at(spot)
        if row is None:
            return ""
        cell, word = self.cell_at(spot), row.says[place] if row.says else ""
        about = "" if cell is None else f"Cell {cell}; click to go to it"
        return "\n".join(part for part in (word, about) if part)

    def _picture_at(self, spot: QPoint) -> tuple[PictureRow | None, int]:
        top = 0
        for row in self.rows:
            for place in range(len(row.pictures)):
                if self._area(place, top).contains(spot):
                    return row, place
            top += self._height(row)
        return None, 0

    def _area(self, place: int, top: int) -> QRect:
        line, column = divmod(place, self.columns)
        pitch = self.side + _GAP
        return QRect(column * pitch, top + _LINE + line * pitch, self.side, self.side)

    def _height(self, row: PictureRow) -> int:
        lines = -(-len(row.pictures) // self.columns)
        return _LINE + lines * (self.side + _GAP) + 4

    def _fit(self) -> None:
        height = self.sizeHint().height()
        if height != self.height():
            self.setFixedHeight(height)
        self.update()


_MIDDLE = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)


def cell_pictures(session: Session, cells: Sequence[int]) -> tuple[NDArray[np.uint8], ...]:
    """Pictures of cells of any images, in the order asked for. May be called from any thread."""
    frame = session.cells.frame
    rows = frame.loc[frame.index.intersection(list(cells))]
    made: dict[int, NDArray[np.uint8]] = {}
    for image_id, part in rows.groupby("image"):
        drawn = draw_cells(session, int(image_id), part.index.tolist(), SIDE, _LOOK)  # type: ignore[call-overload]
        made.update({cell: picture for (cell, _), picture in drawn.items()})
    blank = np.zeros((SIDE, SIDE, 3), np.uint8)
    return tuple(made.get(int(cell), blank) for cell in cells)


def top_of(*pictures: NDArray[np.floating]) -> float:
    """The level that is white where all of these are shown beside each other."""
    values = [float(np.percentile(picture, 99.8)) for picture in pictures if picture.size]
    return max([*values, 1e-3])


def painted(picture: NDArray[np.floating], top: float = 1.0) -> NDArray[np.uint8]:
    """A patch ``(P, P)`` or ``(C, P, P)`` in 0..top as ``(P, P, 3)`` uint8: one channel grey, several in colour."""
    channels = picture[None] if picture.ndim == 2 else picture
    if len(channels) == 1:
        channels = np.repeat(channels, 3, axis=0)
    elif len(channels) == 2:
        channels = np.stack([channels[1], channels[0], channels[1]])  # magenta and green
    return np.round(255 * np.clip(channels[:3] / top, 0, 1)).astype(np.uint8).transpose(1, 2, 0)
