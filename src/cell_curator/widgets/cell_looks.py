"""How the cells in the image are drawn: colours, outlines, all or only the chosen one.

Two docks hold one each for the same layer; the layer is the truth, and whichever comes into view follows it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QWidget

from cell_curator.core.colors import VERDICT_COLORS, to_hex
from cell_curator.core.measure import MEASURED
from cell_curator.link.colors import TYPE
from cell_curator.link.labels import EACH
from cell_curator.widgets.controls import Choice
from cell_curator.widgets.workbench import Workbench

if TYPE_CHECKING:
    from napari.layers import Labels

_NOT_COLORS = ("y", "x", "top", "left", "bottom", "right", "touches_border")
MEASUREMENTS = {name.replace("_", " "): name for name in MEASURED if name not in _NOT_COLORS}
"""What the user reads, and the column, of everything that can be a colour scale."""

_COLORINGS = {"each cell its own": EACH, "verdict": "verdict", "cluster": "cluster", "type": TYPE} | MEASUREMENTS


class CellLooks(QWidget):
    """Acts on the Labels layer of the image on screen, whichever image that is."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self.coloring = Choice(list(_COLORINGS))
        self.coloring.setToolTip("What the colour of a cell in the image means")
        self.coloring.changed.connect(self._recolor)
        self.outlines = QCheckBox("Outlines")
        self.outlines.setToolTip("Draw the border of each cell instead of filling it (H)")
        self.outlines.toggled.connect(self.apply)
        self.only = QCheckBox("Only the chosen cell")
        self.only.setToolTip("Hide all cells but the one that is chosen")
        self.only.toggled.connect(self.apply)
        self.legend = QLabel(" &nbsp; ".join(_swatch(*item) for item in VERDICT_COLORS.items()))
        self.legend.setWordWrap(True)
        self.legend.hide()
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(QLabel("Colour by"), 0, 0)
        grid.addWidget(self.coloring, 0, 1, 1, 2)
        grid.addWidget(self.legend, 1, 0, 1, 3)
        grid.addWidget(self.outlines, 2, 0)
        grid.addWidget(self.only, 2, 1)
        grid.setColumnStretch(2, 1)

    def follow(self, *_: Any) -> None:
        """Another image is shown: its layer looks like the one before."""
        if self.isVisible():
            self.apply()

    def showEvent(self, event: Any) -> None:  # noqa: N802
        """Show how the layer is drawn now; the other dock may have changed it."""
        super().showEvent(event)
        self.catch_up()

    def catch_up(self) -> None:
        """Show how the layer is drawn now."""
        link, layer = self._bench.link, self._layer
        if link is None:
            return
        names = {column: name for name, column in _COLORINGS.items()}
        self.coloring.set_value(names.get(link.labels.color_by, self.coloring.value()))
        self.legend.setVisible(link.labels.color_by == "verdict")
        if layer is None:
            return
        for box, on in ((self.outlines, layer.contour > 0), (self.only, layer.show_selected_label)):
            box.blockSignals(True)
            box.setChecked(on)
            box.blockSignals(False)

    @property
    def _layer(self) -> Labels | None:
        return self._bench.link.labels.layer if self._bench.link is not None else None

    def apply(self, *_: Any) -> None:
        """Bring the layer into line."""
        layer = self._layer
        if layer is not None:
            drawn = self.outlines.isChecked()
            layer.contour = 2 if drawn else 0
            layer.opacity = 0.9 if drawn else 0.5
            layer.show_selected_label = self.only.isChecked()

    def _recolor(self, name: str) -> None:
        self.legend.setVisible(_COLORINGS[name] == "verdict")
        if self._bench.link is not None:
            self._bench.link.color_cells(_COLORINGS[name])


def _swatch(verdict: str, color: tuple[float, float, float]) -> str:
    return f'<span style="color: {to_hex(color)}">■</span>&nbsp;{verdict}'
