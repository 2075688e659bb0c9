"""A small live curve of the losses while the map is learned."""

from __future__ import annotations

import math
from typing import Any

import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cell_curator.widgets import style

_HEIGHT = 130
_LINES = (("training", "total", "#e69f00"), ("held-back cells", "validation", "#56b4e9"))


class LossPlot(QWidget):
    """Loss per cell against the training step, for the cells learned from and those held back."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        colors = style.colors(str(viewer.theme))
        self._plot = pg.PlotWidget(background=None)
        self._plot.setFixedHeight(_HEIGHT)
        item = self._plot.getPlotItem()
        item.setMenuEnabled(False)
        item.ctrlMenu.deleteLater()  # it has no parent, and would outlive the window
        item.ctrlMenu = None
        self._plot.setMouseEnabled(False, False)
        self._plot.hideButtons()
        for side, text in (("left", "loss per cell"), ("bottom", "step")):
            axis = self._plot.getAxis(side)
            axis.setPen(colors["line"])
            axis.setTextPen(colors["quiet"])
            axis.setLabel(text, color=colors["quiet"])
            axis.enableAutoSIPrefix(False)
        self._plot.addLegend(offset=(-4, 4), labelTextColor=colors["quiet"])
        self._curves = {field: self._plot.plot(name=name, pen=pg.mkPen(c, width=2)) for name, field, c in _LINES}
        self._points: dict[str, tuple[list[int], list[float]]] = {}
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.clear()

    def clear(self) -> None:
        """Forget the curve."""
        self._points = {field: ([], []) for _, field, _ in _LINES}
        for curve in self._curves.values():
            curve.setData([], [])

    def take(self, payload: Any) -> bool:
        """Add what a training step reported; False if ``payload`` is something else."""
        step = getattr(payload, "step", None)
        if step is None or not hasattr(payload, "total"):
            return False
        for field, (steps, values) in self._points.items():
            value = getattr(payload, field, math.nan)
            if math.isfinite(value) and (not steps or step > steps[-1]):
                steps.append(step)
                values.append(value)
                self._curves[field].setData(steps, values)
        return True

    @property
    def steps(self) -> int:
        """How many points the training curve has."""
        return len(self._points["total"][0])
