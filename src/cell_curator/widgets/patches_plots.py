"""How large cells are, drawn: histogram and smooth curve, box plots by condition, one dot a cell by image."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyqtgraph as pg
from qtpy.QtWidgets import QVBoxLayout, QWidget

from cell_curator.core.colors import condition_colors, to_hex
from cell_curator.widgets import style
from cell_curator.widgets.loss_plot import bare_plot

if TYPE_CHECKING:
    from cell_curator.core.size_study import SizeStudy

UNITS = {"area": "px²", "height": "px", "width": "px"}

_HISTOGRAM, _BOX, _SCATTER = 124, 15, 104
_MOST_DOTS = 3000
_MOST_BOXES = 8


class SizePlots(QWidget):
    """Three plots on one quantity: its histogram by condition, its box plots, and its spread from image to image."""

    def __init__(self, viewer: Any) -> None:
        super().__init__()
        self._viewer = viewer
        self._study: SizeStudy | None = None
        self.quantity = "area"
        self.histogram, self.boxes, self.images = bare_plot(_HISTOGRAM), bare_plot(_BOX), bare_plot(_SCATTER)
        self.histogram.setToolTip("How many cells have which size, and a smooth curve of the same, for each condition")
        self.boxes.setToolTip("Of each condition: 5 to 95 % of cells (line), 25 to 75 % (bar), the middle cell (dot)")
        self.images.setToolTip(
            "One dot a cell, image by image: an image that differs from all others may be out of focus"
        )
        self.boxes.setXLink(self.histogram)
        layout = QVBoxLayout(self)
        layout.setContentsMargins(0, 0, 0, 0)
        layout.setSpacing(0)
        for plot in (self.histogram, self.boxes):  # `images` is for the dock to place
            layout.addWidget(plot)

    def show_study(self, study: SizeStudy, quantity: str) -> None:
        """Draw one quantity of a study."""
        self._study, self.quantity = study, quantity
        quiet = style.colors(str(self._viewer.theme))["quiet"]
        for plot in (self.histogram, self.boxes, self.images):
            plot.clear()
            for side in ("left", "bottom"):
                plot.getAxis(side).enableAutoSIPrefix(False)
                plot.getAxis(side).setTextPen(quiet)
        found = [one for one in study.histograms if one.quantity == quantity]
        colors = {name: to_hex(color) for name, color in condition_colors(one.condition for one in found).items()}
        said = []
        for one in found:
            color = colors[one.condition]
            share = one.counts / max(one.counts.sum(), 1) / np.diff(one.edges)
            self.histogram.plot(one.edges, share, stepMode="center", fillLevel=0, brush=color + "50", pen=None)
            self.histogram.plot(one.grid, one.density, pen=pg.mkPen(color, width=2))
            said.append(f'<span style="color: {color}">■</span>&nbsp;{one.condition or "all cells"}')
        self.histogram.setTitle(" &nbsp; ".join(said), color=quiet, size="9pt")
        self.histogram.hideAxis("left")
        self.histogram.getAxis("bottom").setLabel(f"{quantity} of a cell, {UNITS[quantity]}", color=quiet)
        self._draw_boxes(found, colors)
        self._draw_images(study, quantity, colors)

    def set_theme(self, _theme: str) -> None:
        """Text in the colours of napari's theme."""
        if self._study is not None:
            self.show_study(self._study, self.quantity)

    def _draw_boxes(self, found: list[Any], colors: dict[str, str]) -> None:
        shown = found[:_MOST_BOXES]
        for place, one in enumerate(shown):
            color, y = colors[one.condition], -place
            low, first, middle, third, high = one.box
            self.boxes.plot([low, high], [y, y], pen=pg.mkPen(color, width=1.5))
            self.boxes.plot([first, third], [y, y], pen=pg.mkPen(color, width=7))
            self.boxes.plot([middle], [y], pen=None, symbol="o", symbolSize=7, symbolBrush="w", symbolPen="k")
        self.boxes.setFixedHeight(_BOX * max(len(shown), 1) + 8)
        self.boxes.setYRange(-len(shown) + 0.4, 0.6, padding=0)
        for side in ("left", "bottom"):
            self.boxes.hideAxis(side)

    def _draw_images(self, study: SizeStudy, quantity: str, colors: dict[str, str]) -> None:
        sizes, rng = study.sizes, np.random.default_rng(0)
        place = {image: n for n, image in enumerate(sizes["image"].unique())}
        if len(sizes) > _MOST_DOTS:
            sizes = sizes.iloc[np.sort(rng.permutation(len(sizes))[:_MOST_DOTS])]
        x = sizes["image"].map(place).to_numpy(float) + rng.uniform(-0.32, 0.32, len(sizes))
        for condition, color in colors.items():
            here = (sizes["condition"].astype(str) == condition).to_numpy()
            dots = {"pen": None, "symbol": "o", "symbolSize": 3, "symbolPen": None, "symbolBrush": color}
            self.images.plot(x[here], sizes[quantity].to_numpy()[here], **dots)
        quiet = style.colors(str(self._viewer.theme))["quiet"]
        self.images.getAxis("bottom").setLabel("image", color=quiet)
        self.images.getAxis("bottom").setTicks([[]])
        self.images.getAxis("left").setWidth(38)
