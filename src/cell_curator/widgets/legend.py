"""What the colours of the map mean, and how the clusters share the conditions."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from qtpy.QtCore import QRectF, QSize, Qt
from qtpy.QtGui import QColor, QLinearGradient, QPainter, QPalette
from qtpy.QtWidgets import QSizePolicy, QWidget

from cell_curator.core.cell_types import CellTypes
from cell_curator.core.colors import NOISE_COLOR, VERDICT_COLORS, condition_colors, word_color
from cell_curator.core.doses import in_order
from cell_curator.link.colors import TYPE, scale_colors, value_limits

if TYPE_CHECKING:
    from cell_curator.core.cells import CellTable
    from cell_curator.core.colors import RGB

_ROW = 18
_SPOT = 10
_MOST = 12


class Legend(QWidget):
    """Spots with words, or a colour scale with its ends; as high as it needs to be."""

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[tuple[str, RGB]] = []
        self.limits: tuple[float, float] | None = None
        self._ends: tuple[str, str] = ("", "")
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def show_words(self, entries: list[tuple[str, RGB]]) -> None:
        """Show spots of these colours."""
        hidden = len(entries) - _MOST
        self.entries = entries if hidden <= 0 else [*entries[:_MOST], (f"and {hidden} more", (0.5, 0.5, 0.5))]
        self.limits = None
        self._fit()

    def show_scale(self, limits: tuple[float, float]) -> None:
        """Show the continuous scale between two values."""
        self.entries, self.limits = [], limits
        self._ends = (f"{limits[0]:.3g}", f"{limits[1]:.3g}")
        self._fit()

    def show_times(self, times: NDArray[np.float64]) -> None:
        """Show the scale between two times, in seconds since 1970, as how long ago they are."""
        if not np.isfinite(times).any():
            self.show_words([("never corrected", NOISE_COLOR)])
            return
        self.entries, self.limits = [], value_limits(times)
        self._ends = (ago(time.time() - self.limits[0]), ago(time.time() - self.limits[1]))
        self._fit()

    def sizeHint(self) -> QSize:  # noqa: N802
        """High enough for all rows at the present width."""
        rows = 1 if self.limits is not None else len(self._rows(max(self.width(), 200)))
        return QSize(200, rows * _ROW + 2 if rows else 0)

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """The rows depend on the width."""
        super().resizeEvent(event)
        self._fit()

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw spots and words, or the scale."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        if self.limits is not None:
            self._paint_scale(painter, text)
            return
        for number, row in enumerate(self._rows(self.width())):
            for left, word, color in row:
                painter.setBrush(QColor.fromRgbF(*color))
                painter.setPen(QColor(128, 128, 128))
                painter.drawEllipse(QRectF(left, number * _ROW + 4, _SPOT, _SPOT))
                painter.setPen(text)
                painter.drawText(QRectF(left + _SPOT + 5, number * _ROW, self.width(), _ROW), _MIDDLE, word)

    def _paint_scale(self, painter: QPainter, text: QColor) -> None:
        low, high = self._ends
        metrics = self.fontMetrics()
        left, right = metrics.horizontalAdvance(low) + 6, self.width() - metrics.horizontalAdvance(high) - 6
        gradient = QLinearGradient(left, 0, right, 0)
        colors = scale_colors(9)
        for place, color in enumerate(colors):
            gradient.setColorAt(place / (len(colors) - 1), QColor(color))
        painter.setPen(text)
        painter.drawText(QRectF(0, 0, left, _ROW), _MIDDLE, low)
        painter.drawText(QRectF(right + 6, 0, self.width(), _ROW), _MIDDLE, high)
        painter.fillRect(QRectF(left, 4, right - left, _ROW - 8), gradient)

    def _rows(self, width: int) -> list[list[tuple[int, str, RGB]]]:
        rows: list[list[tuple[int, str, RGB]]] = []
        left = width
        for word, color in self.entries:
            needed = _SPOT + 5 + self.fontMetrics().horizontalAdvance(word) + 14
            if left + needed > width or not rows:
                rows.append([])
                left = 0
            rows[-1].append((left, word, color))
            left += needed
        return rows

    def _fit(self) -> None:
        height = self.sizeHint().height()
        if height != self.height():
            self.setFixedHeight(height)
        self.update()


def ago(seconds: float) -> str:
    """``"5 min ago"``."""
    if seconds < 60:
        return "just now"
    for limit, unit in ((3600, "min"), (86_400, "h"), (float("inf"), "days")):
        if seconds < limit:
            return f"{round(seconds / {'min': 60, 'h': 3600, 'days': 86_400}[unit])} {unit} ago"
    return ""


_MIDDLE = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)


def words_for(cells: CellTable, by: str, names: dict[int, str], types: CellTypes) -> list[tuple[str, RGB]] | None:
    """Legend entries for a colouring by words; None where it is a continuous scale.

    Parameters
    ----------
    cells
        The table of cells.
    by
        ``cluster``, ``condition``, ``image``, ``verdict``, ``cell_type`` or a measurement.
    names
        Names of image ids, used for ``image``.
    types
        Of the project, used for ``cell_type``.
    """
    if by == "verdict":
        given = set(cells.coded("verdict")[1])
        return [(verdict, color) for verdict, color in VERDICT_COLORS.items() if verdict in given]
    if by == "condition":
        colors = condition_colors(cells.coded("condition")[1])
        return [(name or "no condition", color) for name, color in colors.items()]
    if by == "image":
        given = set(cells.frame[by].unique())
        place = {word: number for number, word in enumerate(in_order(map(str, given)))}
        order = sorted(given, key=lambda value: place[str(value)])
        return [(names.get(value, str(value)), word_color(i)) for i, value in enumerate(order)]
    if by == TYPE:
        given = set(cells.coded("cell_type")[1])
        present = [name for name in types.names if name in given]
        return [*((name, types.color(name)) for name in present), ("no type", types.color(""))]
    if by == "cluster":
        return []
    return None


def scale_for(frame: pd.DataFrame, by: str) -> tuple[float, float]:
    """The ends of the scale for a measurement."""
    return value_limits(frame[by].to_numpy(np.float64))


def cluster_shares(cells: CellTable) -> pd.DataFrame:
    """Cells and share of each condition, for every cluster.

    Returns
    -------
    DataFrame
        Indexed by cluster number (-1 = in none, last), with ``cells`` and one column of percent for
        each condition; a row's percentages add up to 100.
    """
    counted = ~cells.where("verdict", "rejected")
    row = cells.frame["cluster"].to_numpy()[counted] + 1  # -1: in none
    column, names = cells.coded("condition")
    clusters = range(-1, int(row.max(initial=0)))
    # as pandas.crosstab, which takes 0.2 s of 500,000 cells
    numbers = np.bincount(row * len(names) + column[counted], minlength=len(clusters) * len(names))
    table = pd.DataFrame(numbers.reshape(len(clusters), len(names)), pd.Index(clusters, name="cluster"), names)
    table = table.loc[table.any(axis=1), table.any()]
    table = table[in_order(table.columns)]
    total = table.sum(axis=1)
    shares = table.div(total.where(total > 0, 1), axis=0) * 100
    shares.insert(0, "cells", total)
    order = [number for number in shares.index if number >= 0] + [number for number in shares.index if number < 0]
    return shares.loc[order]
