"""How the cells in the image are drawn: colours, outlines, all or only the chosen one."""

from __future__ import annotations

from typing import Any

from qtpy.QtWidgets import QCheckBox, QGridLayout, QLabel, QWidget

from cell_curator.core.measure import MEASURED
from cell_curator.link.labels import EACH
from cell_curator.widgets.controls import Choice
from cell_curator.widgets.workbench import Workbench

_NOT_COLORS = ("y", "x", "top", "left", "bottom", "right", "touches_border")
MEASUREMENTS = {name.replace("_", " "): name for name in MEASURED if name not in _NOT_COLORS}
"""What the user reads, and the column, of everything that can be a colour scale."""

_COLORINGS = {"each cell its own": EACH, "verdict": "verdict", "cluster": "cluster"} | MEASUREMENTS


class CellLooks(QWidget):
    """Acts on the Labels layer of the image on screen, whichever image that is."""

    def __init__(self, bench: Workbench) -> None:
        super().__init__()
        self._bench = bench
        self.coloring = Choice(list(_COLORINGS))
        self.coloring.setToolTip("What the colour of a cell in the image means")
        self.coloring.changed.connect(self._recolor)
        self.outlines = QCheckBox("Outlines")
        self.outlines.setToolTip("Draw the border of each cell instead of filling it (O)")
        self.outlines.toggled.connect(self.apply)
        self.only = QCheckBox("Only the chosen cell")
        self.only.setToolTip("Hide all cells but the one that is chosen")
        self.only.toggled.connect(self.apply)
        grid = QGridLayout(self)
        grid.setContentsMargins(0, 0, 0, 0)
        grid.addWidget(QLabel("Colour by"), 0, 0)
        grid.addWidget(self.coloring, 0, 1, 1, 2)
        grid.addWidget(self.outlines, 1, 0)
        grid.addWidget(self.only, 1, 1)
        grid.setColumnStretch(2, 1)

    def apply(self, *_: Any) -> None:
        """Bring the layer into line; call it when another image is shown."""
        layer = self._bench.link.labels.layer if self._bench.link is not None else None
        if layer is not None:
            drawn = self.outlines.isChecked()
            layer.contour = 2 if drawn else 0
            layer.opacity = 0.9 if drawn else 0.5
            layer.show_selected_label = self.only.isChecked()

    def _recolor(self, name: str) -> None:
        if self._bench.link is not None:
            self._bench.link.color_cells(_COLORINGS[name])
