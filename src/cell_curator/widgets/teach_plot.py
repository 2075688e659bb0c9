"""Two small plots of the rounds: how well each scored, and how much there was to correct before it."""

from __future__ import annotations

from collections.abc import Sequence

import pyqtgraph as pg
from qtpy.QtWidgets import QHBoxLayout, QWidget

from cell_curator.round_table import RoundRow
from cell_curator.widgets import style

_HEIGHT = 112
_SCORE, _EFFORT = "#56b4e9", "#e69f00"


class RoundsPlot(QWidget):
    """Score and effort over the rounds, side by side; one that has no figures stays empty."""

    def __init__(self, theme: str) -> None:
        super().__init__()
        self.score = _Small("AP 0.5 by round, %", _SCORE, theme)
        self.effort = _Small("corrections per 100", _EFFORT, theme)
        row = QHBoxLayout(self)
        row.setContentsMargins(0, 0, 0, 0)
        row.setSpacing(2)
        row.addWidget(self.score, 1)
        row.addWidget(self.effort, 1)
        self.show_rows(())

    def show_rows(self, rows: Sequence[RoundRow]) -> None:
        """Draw these rounds; hidden while there is nothing to draw."""
        self.score.show_points([(row.round_id, 100 * row.ap50) for row in rows if row.ap50 is not None])
        self.effort.show_points([(row.round_id, row.edits_per_100) for row in rows if row.edits_per_100 is not None])
        self.setVisible(len(self.score.points) > 1)

    def set_theme(self, theme: str) -> None:
        """Follow napari's theme."""
        self.score.set_theme(theme)
        self.effort.set_theme(theme)


class _Small(pg.PlotWidget):
    def __init__(self, title: str, color: str, theme: str) -> None:
        super().__init__(background=None)
        self.points: list[tuple[int, float]] = []
        self._title = title
        self.setFixedHeight(_HEIGHT)
        self.setMinimumWidth(120)
        item = self.getPlotItem()
        item.setMenuEnabled(False)
        item.ctrlMenu.deleteLater()  # it has no parent, and would outlive the window
        item.ctrlMenu = None
        self.setMouseEnabled(False, False)
        self.hideButtons()
        for side in ("left", "bottom"):
            self.getAxis(side).enableAutoSIPrefix(False)
        self._curve = self.plot([], [], pen=pg.mkPen(color, width=2), symbol="o", symbolSize=7, symbolBrush=color)
        self.set_theme(theme)

    def show_points(self, points: list[tuple[int, float]]) -> None:
        """Draw (round, figure) pairs from zero up."""
        self.points = points
        rounds, values = [x for x, _ in points], [y for _, y in points]
        self._curve.setData(rounds, values)
        last = max([1, *rounds])
        self.setXRange(0, last, padding=0.08)
        self.setYRange(0, max([1.0, *values]), padding=0.1)
        step = max(1, -(-last // 6))
        self.getAxis("bottom").setTicks([[(n, str(n)) for n in range(0, last + 1, step)]])

    def set_theme(self, theme: str) -> None:
        """Text and lines in the colours of the theme."""
        colors = style.colors(theme)
        self.setTitle(self._title, color=colors["quiet"], size="8pt")
        for side in ("left", "bottom"):
            axis = self.getAxis(side)
            axis.setPen(colors["line"])
            axis.setTextPen(colors["quiet"])
