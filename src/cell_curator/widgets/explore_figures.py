"""Small figures on clusters: bars of effects, a table of likeness, curves of densities. They know no session."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from numpy.typing import NDArray
from qtpy.QtCore import QRect, QSize, Qt
from qtpy.QtGui import QColor, QPainter, QPalette
from qtpy.QtWidgets import QLabel, QSizePolicy, QVBoxLayout, QWidget

from cell_curator.core.colors import cluster_color, to_hex
from cell_curator.widgets import style
from cell_curator.widgets.loss_plot import bare_plot

if TYPE_CHECKING:
    import pandas as pd

    from cell_curator.core.cluster_reading import Densities
    from cell_curator.core.colors import RGB

_ROW = 34
_MOST = 10
_FEWEST_EFFECT = 0.147  # smaller is negligible (Romano et al. 2006)
_CENTER = int(Qt.AlignmentFlag.AlignCenter)
_LEFT = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignLeft)
_RIGHT = int(Qt.AlignmentFlag.AlignVCenter | Qt.AlignmentFlag.AlignRight)


class _Painted(QWidget):
    def __init__(self) -> None:
        super().__init__()
        self.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)

    def _fit(self) -> None:
        self.setFixedHeight(max(self.sizeHint().height(), 1))
        self.update()


class BarRows(_Painted):
    """Measurements with a bar to the right (larger in the cluster) or left (smaller), and both medians."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[tuple[str, float, float, float]] = []
        self._color: RGB = (0.5, 0.5, 0.5)

    def show_table(self, table: pd.DataFrame, color: RGB) -> None:
        """``table`` as `core.cluster_reading.separating_measurements` gives it."""
        columns = ["measurement", "delta", "inside", "outside"]
        told = table.loc[table["delta"].abs() >= _FEWEST_EFFECT, columns][:_MOST]
        self.rows = [
            (str(name).replace("_", " "), float(delta), float(inside), float(outside))
            for name, delta, inside, outside in told.itertuples(index=False)
        ]
        self._color = color
        self._fit()

    def sizeHint(self) -> QSize:  # noqa: N802
        """A line of text and a bar for each."""
        return QSize(280, max(len(self.rows), 1) * _ROW)

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw."""
        painter = QPainter(self)
        text = self.palette().color(QPalette.ColorRole.WindowText)
        painter.setPen(text)
        if not self.rows:
            painter.drawText(self.rect(), _LEFT, "No measurement sets this cluster apart.")
        middle = self.width() // 2
        for index, (name, delta, inside, outside) in enumerate(self.rows):
            top = index * _ROW
            painter.setPen(text)
            painter.drawText(QRect(0, top, self.width(), 18), _LEFT, f"{'larger' if delta > 0 else 'smaller'} {name}")
            painter.drawText(QRect(0, top, self.width(), 18), _RIGHT, f"{inside:.3g} · others {outside:.3g}")
            painter.fillRect(QRect(0, top + 20, self.width(), 8), QColor(128, 128, 128, 50))
            length = round(abs(delta) * middle)
            left = middle if delta > 0 else middle - length
            painter.fillRect(QRect(left, top + 20, length, 8), QColor.fromRgbF(*self._color))
            painter.fillRect(QRect(middle, top + 18, 1, 12), text)


class LikenessTable(_Painted):
    """A square of numbers from −1 (blue) over 0 to 1 (orange), with the clusters' names."""

    def __init__(self) -> None:
        super().__init__()
        self.numbers: tuple[int, ...] = ()
        self.matrix: NDArray[np.float64] = np.zeros((0, 0))
        self._names: Mapping[int, str] = {}

    def show_matrix(self, numbers: tuple[int, ...], matrix: NDArray[np.float64], names: Mapping[int, str]) -> None:
        """(K, K) from −1 to 1."""
        self.numbers, self.matrix, self._names = numbers, matrix, names
        self._fit()

    @property
    def _edge(self) -> int:
        return max(min((self.width() - 110) // max(len(self.numbers), 1), 44), 14)

    def resizeEvent(self, event: Any) -> None:  # noqa: N802
        """Squares are as large as fit."""
        super().resizeEvent(event)
        self._fit()

    def sizeHint(self) -> QSize:  # noqa: N802
        """A square for each pair, and colour spots above."""
        return QSize(280, (len(self.numbers) + 1) * self._edge)

    def paintEvent(self, _event: Any) -> None:  # noqa: N802
        """Draw."""
        painter = QPainter(self)
        painter.setRenderHint(QPainter.RenderHint.Antialiasing)
        text, edge = self.palette().color(QPalette.ColorRole.WindowText), self._edge
        for index, number in enumerate(self.numbers):
            top, left = (index + 1) * edge, 110 + index * edge
            for x, y in ((4, top + edge // 2 - 5), (left + edge // 2 - 5, edge // 2 - 5)):
                painter.setBrush(QColor.fromRgbF(*cluster_color(number)))
                painter.setPen(QColor(128, 128, 128))
                painter.drawEllipse(x, y, 10, 10)
            painter.setPen(text)
            name = self._names.get(number, f"Cluster {number + 1}")
            name = self.fontMetrics().elidedText(name, Qt.TextElideMode.ElideRight, 86)
            painter.drawText(QRect(20, top, 88, edge), _LEFT, name)
            for other, value in enumerate(self.matrix[index]):
                area = QRect(110 + other * edge, top, edge - 1, edge - 1)
                color = QColor(230, 159, 0) if value > 0 else QColor(86, 180, 233)
                color.setAlphaF(min(abs(float(value)), 1.0) * 0.85)
                painter.fillRect(area, color)
                if edge >= 26:
                    painter.drawText(area, _CENTER, f"{round(float(value), 1) + 0.0:.1f}".replace("-", "−"))


class DensityPlots(QWidget):
    """One small plot for each of the features that differ most between clusters, a curve for each cluster."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self.features: list[int] = []
        self._plots: list[pg.PlotWidget] = []
        self._layout = QVBoxLayout(self)
        self._layout.setContentsMargins(0, 0, 0, 0)
        self._layout.setSpacing(2)
        self.legend = QLabel()
        self.legend.setWordWrap(True)
        self._layout.addWidget(self.legend)

    def show_densities(self, found: Densities, names: Mapping[int, str]) -> None:
        """Draw the six features whose means differ most between clusters, for their spread within."""
        within = np.maximum(found.deviation.mean(axis=1), 1e-9)
        telling = found.mean.std(axis=1) / within if found.mean.size else np.zeros(0)
        self.features = [int(i) for i in np.argsort(-telling)[:6]]
        while len(self._plots) < len(self.features):
            self._plots.append(bare_plot(96))
            self._layout.addWidget(self._plots[-1])
        quiet = style.colors(str(self._viewer.theme))["quiet"]
        self.legend.setText(
            " &nbsp; ".join(
                f'<span style="color: {to_hex(cluster_color(n))}">■</span>&nbsp;'
                + escape(names.get(n, f"Cluster {n + 1}")).replace(" ", "&nbsp;")
                for n in found.clusters
            )
        )
        for place, plot in enumerate(self._plots):
            plot.setVisible(place < len(self.features))
            plot.clear()
            if place >= len(self.features):
                continue
            feature = self.features[place]
            plot.setTitle(f"Feature {feature + 1}", color=quiet, size="9pt")
            for row, number in enumerate(found.clusters):
                pen = pg.mkPen(to_hex(cluster_color(number)), width=2)
                plot.plot(found.grid[feature], found.density[feature, row], pen=pen)
            plot.hideAxis("left")
            plot.getAxis("bottom").setTextPen(quiet)
