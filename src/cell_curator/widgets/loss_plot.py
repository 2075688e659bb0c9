"""Small live curves of the losses while a network learns: the map's, or a round's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cell_curator.widgets import style

_HEIGHT = 150
_MOST_NUMBERS = 5
_BEYOND = 3.0  # times the largest loss of what is learned from
_SAME = 0.05  # losses that look alike with one decimal
_BELOW = 6  # px; pyqtgraph leaves too little for letters that go below the line
_LEARNED, _HELD = "#e69f00", "#56b4e9"
_BEFORE, _AFRESH = "#8c8c8c", "#cc79a7"
_LINES = (
    ("training", "total", _LEARNED),
    ("held-back cells", "validation", _HELD),
    ("map before", "before", _BEFORE),
    ("learned afresh", "afresh", _AFRESH),
)


class _Tens(pg.AxisItem):
    """A logarithmic axis with few plain numbers on it: 1, 10, 100, and 2 and 5 between them where there is room."""

    def tickValues(self, low: float, high: float, _size: float) -> list[tuple[float, list[float]]]:  # noqa: N802
        """Places of the numbers, as logarithms."""
        powers = range(math.floor(low), math.ceil(high) + 1)
        fine = [power + math.log10(step) for power in powers for step in (1, 2, 5)]
        there = [place for place in fine if low <= place <= high]
        return [(1.0, there if len(there) <= _MOST_NUMBERS else [place for place in there if place == round(place)])]

    def tickStrings(self, values: Sequence[float], _scale: float, _spacing: float) -> list[str]:  # noqa: N802
        """The numbers."""
        return [f"{10**value:.3g}" for value in values]


def bare_plot(height: int, **more: Any) -> pg.PlotWidget:
    """A plot that only shows: no menu, no buttons, no moving with the mouse."""
    plot = pg.PlotWidget(background=None, **more)
    plot.setFixedHeight(height)
    item = plot.getPlotItem()
    item.setMenuEnabled(False)
    item.ctrlMenu.deleteLater()  # it has no parent, and would outlive the window
    item.ctrlMenu = None
    plot.setMouseEnabled(False, False)
    plot.hideButtons()
    return plot


class CurvesPlot(QWidget):
    """A few named curves over one axis. ``lines``: (what is read, name of the curve, colour)."""

    _rare: tuple[str, ...] = ()  # curves that are named only while they are drawn

    def __init__(
        self, viewer: Any, lines: Sequence[tuple[str, str, str]], left: str, bottom: str, *, logarithmic: bool = False
    ) -> None:
        super().__init__()
        self._plot = bare_plot(_HEIGHT, **({"axisItems": {"left": _Tens("left")}} if logarithmic else {}))
        self._plot.setLogMode(False, logarithmic)
        item = self._plot.getPlotItem()
        for side, text in (("left", left), ("bottom", bottom)):
            self._plot.getAxis(side).enableAutoSIPrefix(False)
            self._plot.getAxis(side).setLabel(text)
        item.layout.setContentsMargins(1, 1, 1, _BELOW)
        self._curves = {field: self._plot.plot(pen=pg.mkPen(c, width=2)) for _, field, c in lines}
        self._lines = {field: f'<span style="color: {c}">■</span>&nbsp;{name}' for name, field, c in lines}
        self._theme = str(viewer.theme)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.addWidget(self._plot)
        self.set_theme(str(viewer.theme))

    def set_theme(self, theme: str) -> None:
        """Text and lines in the colours of napari's theme."""
        self._theme, colors = theme, style.colors(theme)
        for side in ("left", "bottom"):
            axis = self._plot.getAxis(side)
            axis.setPen(colors["line"])
            axis.setTextPen(colors["quiet"])
            axis.setLabel(axis.labelText, color=colors["quiet"])
        self._name_curves()

    def draw(self, name: str, xs: Sequence[float], ys: Sequence[float]) -> None:
        """Draw one of the curves."""
        self._curves[name].setData(xs, ys)
        if name in self._rare:
            self._name_curves()

    def _name_curves(self) -> None:
        """Say which is which, of those that are there; above the curves, where it hides none of them."""
        said = (text for field, text in self._lines.items() if field not in self._rare or self.drawn(field))
        self._plot.setTitle(" &nbsp; ".join(said), color=style.colors(self._theme)["quiet"], size="9pt")

    def drawn(self, name: str) -> int:
        """How many points one of the curves has."""
        return len(self._curves[name].xData) if self._curves[name].xData is not None else 0


class LossPlot(CurvesPlot):
    """Loss per cell against the training step, for the cells learned from and those held back.

    A second training, of which steps are counted anew, is what the first is compared with: a curve of its own.
    """

    _rare = ("before", "afresh")

    def __init__(self, viewer: Any) -> None:
        super().__init__(viewer, _LINES, "loss per cell", "step")
        self._points: dict[str, tuple[list[int], list[float]]] = {}
        self._before: list[tuple[int, float]] = []
        self.clear()

    def clear(self) -> None:
        """Forget the curves."""
        self._points = {field: ([], []) for field in ("total", "validation")}
        self._afresh: tuple[list[int], list[float]] = ([], [])
        self._first = True
        for field in (*self._points, "afresh"):
            self.draw(field, [], [])
        self.show_before([])

    def take(self, payload: Any) -> bool:
        """Add what a training step reported; False if ``payload`` is something else, or of the second training."""
        step = getattr(payload, "step", None)
        if step is None or not hasattr(payload, "total"):
            return False
        seen = self._points["total"][0]
        self._first = self._first and (not seen or step >= seen[-1])
        if not self._first:
            steps, values = self._afresh
            if math.isfinite(payload.validation) and (not steps or step > steps[-1]):
                steps.append(step)
                values.append(payload.validation)
                self.draw("afresh", steps, values)
            return False
        for field, (steps, values) in self._points.items():
            value = getattr(payload, field, math.nan)
            if math.isfinite(value) and (not steps or step > steps[-1]):
                steps.append(step)
                values.append(value)
                self.draw(field, steps, values)
        self._fit()
        return True

    def _fit(self) -> None:
        """Keep the loss of held-back cells out of sight while it is many times the rest, as a first look can be."""
        learned, held = (values for _, values in self._points.values())
        every = [*learned, *held, *(value for _, value in self._before)]
        if len(learned) > 1 and max(held, default=0.0) > _BEYOND * max(learned) > 0:
            self._plot.setYRange(min(every), 1.1 * max(learned))
        else:
            self._plot.enableAutoRange("y")

    def show_before(self, points: Sequence[tuple[int, float]]) -> None:
        """Draw the held-back loss of an earlier training, to compare with."""
        self._before = list(points)
        self.draw("before", [step for step, _ in points], [value for _, value in points])

    def gain(self) -> str:
        """How this training compares with the earlier one, in a sentence; "" without both."""
        steps, values = self._points["validation"]
        if not self._before or not values:
            return ""
        best_before = min(value for _, value in self._before)
        better = best_before - min(values)
        if abs(better) < _SAME:
            return f"held-back loss as that of the map before ({best_before:.1f})"
        if better < 0:
            return f"held-back loss {-better:.1f} worse than the map before ({best_before:.1f})"
        reached = next(step for step, value in zip(steps, values, strict=True) if value <= best_before)
        return (
            f"held-back loss {better:.1f} better than the map before, whose best it reached after {reached} steps, "
            f"not {self._before[-1][0]}"
        )

    @property
    def steps(self) -> int:
        """How many points the training curve has."""
        return len(self._points["total"][0])


class PartsPlot(CurvesPlot):
    """The two parts of the loss: how unlike the pictures are, and how much is told of each cell."""

    def __init__(self, viewer: Any) -> None:
        lines = (("unlike the picture", "reconstruction", _LEARNED), ("told of each cell", "kl", _HELD))
        super().__init__(viewer, lines, "parts of it", "step", logarithmic=True)  # one is ten times the other
        self.clear()

    def clear(self) -> None:
        """Forget the curves."""
        self._points: dict[str, tuple[list[int], list[float]]] = {field: ([], []) for field in ("reconstruction", "kl")}
        for field in self._points:
            self.draw(field, [], [])

    def take(self, payload: Any) -> None:
        """Add what a training step reported."""
        for field, (steps, values) in self._points.items():
            value = getattr(payload, field, math.nan)
            if math.isfinite(value) and value > 0 and (not steps or payload.step > steps[-1]):
                steps.append(payload.step)
                values.append(value)
                self.draw(field, steps, values)


class LessonPlot(CurvesPlot):
    """Error against the pass through the examples, for what is learned and for what is locked away."""

    def __init__(self, viewer: Any) -> None:
        lines = (("reviewed", "loss", _LEARNED), ("locked away", "holdout", _HELD))
        super().__init__(viewer, lines, "error", "pass through the examples")

    def show_curve(self, curve: Sequence[tuple[int, float, float | None]], before: float | None = None) -> None:
        """Draw (epoch, loss, loss on what is locked away or None) points; ``before``: the latter before all."""
        looked = [(0, before), *((epoch, value) for epoch, _, value in curve)]
        held = [(epoch, value) for epoch, value in looked if value is not None and math.isfinite(value)]
        self.draw("loss", [epoch for epoch, _, _ in curve], [loss for _, loss, _ in curve])
        self.draw("holdout", [epoch for epoch, _ in held], [value for _, value in held])
