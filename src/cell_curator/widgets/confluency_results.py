"""How far all images are covered: a table, and the cover over time or by condition with the alarm as a line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtCore import Qt, Signal
from qtpy.QtGui import QColor
from qtpy.QtWidgets import QAbstractItemView, QHeaderView, QTableWidget, QTableWidgetItem, QVBoxLayout, QWidget

from cell_curator.core.colors import to_hex, word_color
from cell_curator.widgets import style
from cell_curator.widgets.loss_plot import bare_plot

if TYPE_CHECKING:
    from cell_curator.core.confluency import Confluency, ConfluencyParameters
    from cell_curator.cover_report import CoverReport, CoverRow

_HEIGHT = 170
_ROW, _ROWS_SEEN = 22, 8
_HEADS = ("Image", "Covered", "95 % interval", "Cells")
_JITTER = 0.08
_LEAST_TOP = 10.0  # %, of the axis


class CoverTable(QTableWidget):
    """One row for each image; a click shows the image."""

    picked = Signal(str, object)
    """Name of the image, and the number of its plane or None."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._rows: tuple[CoverRow, ...] = ()
        self.setColumnCount(len(_HEADS))
        self.setHorizontalHeaderLabels(_HEADS)
        self.setEditTriggers(QAbstractItemView.EditTrigger.NoEditTriggers)
        self.setSelectionBehavior(QAbstractItemView.SelectionBehavior.SelectRows)
        self.setSelectionMode(QAbstractItemView.SelectionMode.SingleSelection)
        self.setShowGrid(False)
        self.setTextElideMode(Qt.TextElideMode.ElideMiddle)
        self.verticalHeader().hide()
        self.verticalHeader().setDefaultSectionSize(_ROW)
        header = self.horizontalHeader()
        header.setSectionResizeMode(QHeaderView.ResizeMode.ResizeToContents)
        header.setSectionResizeMode(0, QHeaderView.ResizeMode.Stretch)
        self.setToolTip("Click a row to see the image. ⚠: covered as far as the alarm, or further")
        self.currentCellChanged.connect(self._chosen)

    def show_report(self, report: CoverReport, say: ConfluencyParameters) -> None:
        """Fill in what was found."""
        self.blockSignals(True)
        self._rows = report.rows
        self.setRowCount(len(report.rows))
        warning = QColor(style.colors(str(self._viewer.theme))["error"])
        for number, row in enumerate(report.rows):
            alarming = row.cover.alarming(say)
            name = row.image if row.plane is None else f"{row.image} [{row.plane + 1}]"
            words = (f"⚠ {name}" if alarming else name, f"{row.cover.percent:.1f} %", _ends(row), _count(row))
            for column, text in enumerate(words):
                item = QTableWidgetItem(text)
                side = Qt.AlignmentFlag.AlignRight if column else Qt.AlignmentFlag.AlignLeft
                item.setTextAlignment(int(side | Qt.AlignmentFlag.AlignVCenter))
                item.setToolTip("<br>".join(part for part in (name, row.note, size_in_words(row.cover)) if part))
                if alarming:
                    item.setForeground(warning)
                self.setItem(number, column, item)
        self.setColumnHidden(len(_HEADS) - 1, all(row.cover.count is None for row in report.rows))
        self.setFixedHeight(min(len(report.rows), _ROWS_SEEN) * _ROW + self.horizontalHeader().sizeHint().height() + 6)
        self.setCurrentCell(-1, -1)
        self.blockSignals(False)

    def _chosen(self, row: int, *_: int) -> None:
        if 0 <= row < len(self._rows):
            self.picked.emit(self._rows[row].image, self._rows[row].plane)


class CoverPlot(QWidget):
    """The cover over time, else by condition, else image by image; a dashed line at the alarm."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.plot = bare_plot(_HEIGHT)
        self.plot.setToolTip("Dots are images, lines the mean of those of one condition; the dashed line is the alarm")
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self.plot)

    def show_report(self, report: CoverReport, say: ConfluencyParameters) -> None:
        """Draw what was found."""
        colors = style.colors(str(self._viewer.theme))
        self.plot.clear()
        self.plot.resetCachedContent()  # the ground of another theme
        for side in ("left", "bottom"):
            axis = self.plot.getAxis(side)
            axis.enableAutoSIPrefix(False)
            axis.setPen(colors["line"])
            axis.setTextPen(colors["quiet"])
        self.plot.getAxis("left").setLabel("covered, %", color=colors["quiet"])
        order = sorted({row.condition for row in report.rows}, key=str)
        tints = {name: to_hex(word_color(rank)) for rank, name in enumerate(order)}
        over_time = len({row.time for row in report.rows if row.time is not None}) > 1
        if over_time:
            self._draw_times(report, tints)
        else:
            self._draw_conditions(report.rows, tints)
        named = [f'<span style="color: {tints[name]}">■</span>&nbsp;{name or "all images"}' for name in order]
        shown = over_time and len(order) > 1
        self.plot.setTitle(" &nbsp; ".join(named) if shown else None, color=colors["quiet"], size="9pt")
        pen = pg.mkPen(colors["error"], style=Qt.PenStyle.DashLine)
        self.plot.addItem(
            pg.InfiniteLine(say.alarm, angle=0, pen=pen, label=f"alarm {say.alarm:g} %", labelOpts=_at_left(colors))
        )
        most = max([say.alarm, *(row.cover.percent for row in report.rows)])
        self.plot.setYRange(0, min(100.0, max(_LEAST_TOP, 1.2 * most)), padding=0.03)

    def _draw_times(self, report: CoverReport, tints: dict[str, str]) -> None:
        for name, tint in tints.items():
            rows = [row for row in report.rows if row.condition == name and row.time is not None]
            self._dots([row.time for row in rows], [row.cover.percent for row in rows], tint)
            points = [point for point in report.curve if point.condition == name and point.time is not None]
            self.plot.plot([p.time for p in points], [p.percent for p in points], pen=pg.mkPen(tint, width=2))
        frames = all(row.plane is not None for row in report.rows)
        bottom = self.plot.getAxis("bottom")
        bottom.setTicks(None)
        bottom.setLabel("frame" if frames else "time in the name of the image", color=self._quiet)

    def _draw_conditions(self, rows: Sequence[CoverRow], tints: dict[str, str]) -> None:
        bottom = self.plot.getAxis("bottom")
        if len(tints) == 1:
            self._dots(range(1, len(rows) + 1), [row.cover.percent for row in rows], next(iter(tints.values())))
            bottom.setTicks(None)
            bottom.setLabel("image", color=self._quiet)
            return
        for rank, (name, tint) in enumerate(tints.items()):
            percents = [row.cover.percent for row in rows if row.condition == name]
            away = np.random.default_rng(rank).uniform(-_JITTER, _JITTER, len(percents))
            self._dots(rank + away, percents, tint)
            mean = float(np.mean(percents))
            self.plot.plot([rank - 0.25, rank + 0.25], [mean, mean], pen=pg.mkPen(tint, width=3))
        bottom.setTicks([[(rank, name or "none") for rank, name in enumerate(tints)]])
        bottom.setLabel("", color=self._quiet)
        self.plot.setXRange(-0.5, len(tints) - 0.5)

    def _dots(self, xs: Any, ys: Sequence[float], tint: str) -> None:
        self.plot.plot(list(xs), list(ys), pen=None, symbol="o", symbolSize=6, symbolBrush=tint, symbolPen=None)

    @property
    def _quiet(self) -> str:
        return style.colors(str(self._viewer.theme))["quiet"]


def facts(cover: Confluency, shape: tuple[int, int]) -> list[str]:
    """What is known of one image beside its percentage, line by line."""
    lines = []
    if cover.interval is not None:
        lines.append("95 % interval: {:.1f} to {:.1f} %".format(*cover.interval))
    lines.append(size_in_words(cover, shape))
    if cover.count is not None:
        dense = "" if cover.density is None else f", {cover.density:,.0f} per mm²"
        lines.append(f"{cover.count:,} cells found{dense}")
    if cover.image_um2 is None:
        lines.append("For µm², give the size of a pixel below.")
    return lines


def size_in_words(cover: Confluency, shape: tuple[int, int] | None = None) -> str:
    """The covered area in mm² or µm²; where the size of a pixel is not known, in px² if ``shape`` is."""
    covered, whole = cover.covered_um2, cover.image_um2
    if covered is not None and whole is not None:
        if whole >= 1e5:
            return f"{covered / 1e6:.3g} of {whole / 1e6:.3g} mm²"
        return f"{covered:,.0f} of {whole:,.0f} µm²"
    if shape is None:
        return ""
    pixels = shape[0] * shape[1]
    return f"{pixels * cover.percent / 100:,.0f} of {pixels:,} px²"


def _ends(row: CoverRow) -> str:
    return "" if row.cover.interval is None else "{:.1f} to {:.1f}".format(*row.cover.interval)


def _count(row: CoverRow) -> str:
    return "" if row.cover.count is None else f"{row.cover.count:,}"


def _at_left(colors: dict[str, str]) -> dict[str, Any]:
    return {"position": 0.12, "color": colors["error"], "anchors": [(0.5, 1), (0.5, 1)]}
